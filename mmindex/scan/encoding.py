"""The layout of element headers: byte order and VR form (PS3.5 7.1.2, 7.1.3).

Nothing here walks a data set; elements.py, nesting.py and irregular.py do.
"""

from __future__ import annotations

import struct

from mmindex.scan import tags

UNDEFINED_LENGTH = 0xFFFF_FFFF
LOWEST_VR_AS_LENGTH = 0x4141  # "AA": a 4-byte length below cannot be two letters of a VR

_LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_SHORT_VRS = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
)
KNOWN_VRS = frozenset((*_LONG_VRS, *_SHORT_VRS))


class Encoding:
    """The layout of element headers in one byte order and VR form (PS3.5 7.1.2, 7.1.3).

    Tags are compared as they come out of `header`, without swapping the two halves of each:
    `wanted` maps such raw tags to tags, `delimiters` those of items and delimiters, the damaged
    ones too. `stops` has both.

    Parameters
    ----------
    also : set of int
        Tags that are wanted besides those of `tags.WANTED`.
    """

    def __init__(
        self, *, implicit: bool, big_endian: bool, also: frozenset[int] = frozenset()
    ) -> None:
        order = ">" if big_endian else "<"
        self.implicit = implicit
        self.big_endian = big_endian
        self.byte_order = order
        self.header = struct.Struct(order + "IHH")  # tag, VR, 2-byte length
        self.length = struct.Struct(order + "I")
        self.number = struct.Struct(order + "H")
        self.wanted = {self.tag_of(tag): tag for tag in tags.WANTED | also}
        self.delimiters = {self.tag_of(tag): kind for tag, kind in tags.DELIMITERS.items()}
        self.stops = {*self.wanted, *self.delimiters}
        self.item = self.tag_of(tags.ITEM)
        self.item_end = self.tag_of(tags.ITEM_DELIMITATION)
        self.sequence_end = self.tag_of(tags.SEQUENCE_DELIMITATION)
        self.vr_names = {self._raw_vr(vr): vr for vr in KNOWN_VRS}
        self.short_vrs = frozenset(() if implicit else map(self._raw_vr, _SHORT_VRS))
        self._wanting: dict[frozenset[int], Encoding] = {}
        self._un = self._raw_vr("UN")
        # A 4-byte length, put together from the two halves that `header` takes apart.
        self.vr_shift, self.length_shift = (16, 0) if big_endian else (0, 16)

    def _raw_vr(self, vr: str) -> int:
        return int.from_bytes(vr.encode(), "big" if self.big_endian else "little")

    def tag_of(self, raw_tag: int) -> int:
        """Return the tag that `header` read as `raw_tag`; of a tag, what `header` reads."""
        return raw_tag if self.big_endian else (raw_tag & 0xFFFF) << 16 | raw_tag >> 16

    def wanting(self, also: frozenset[int]) -> Encoding:
        """Return this encoding where other elements are wanted, too; the same one each time."""
        if not also:
            return self
        if also not in self._wanting:
            self._wanting = {
                also: Encoding(implicit=self.implicit, big_endian=self.big_endian, also=also)
            }
        return self._wanting[also]

    def inside(self, raw_vr: int) -> Encoding:
        """Return the encoding within a value of undefined length (PS3.5 6.2.2)."""
        return IMPLICIT_LITTLE if raw_vr == self._un and not self.implicit else self

    def vr_of(self, raw_vr: int) -> str:
        """Return the two characters of a value representation that `header` read."""
        return self.vr_names.get(raw_vr) or raw_vr.to_bytes(
            2, "big" if self.big_endian else "little"
        ).decode("latin-1")

    def is_vr(self, raw_vr: int) -> bool:
        """Return whether these two bytes are a value representation: two capital letters.

        An unknown one has a 4-byte length like those that were added last (PS3.5 7.1.2).
        """
        if raw_vr in self.vr_names:
            return True
        vr = self.vr_of(raw_vr)
        return vr.isascii() and vr.isalpha() and vr.isupper()


IMPLICIT_LITTLE = Encoding(implicit=True, big_endian=False)
EXPLICIT_LITTLE = Encoding(implicit=False, big_endian=False)
EXPLICIT_BIG = Encoding(implicit=False, big_endian=True)
IMPLICIT_BIG = Encoding(implicit=True, big_endian=True)  # only of elements that lack their VR


def encoding_of(*, implicit: bool, big_endian: bool) -> Encoding:
    """Return the encoding of a data set as its transfer syntax declares it."""
    if implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_BIG if big_endian else EXPLICIT_LITTLE


def forms_of(encoding: Encoding) -> tuple[Encoding, Encoding]:
    """Return the explicit and the implicit form of an encoding's byte order."""
    if encoding.big_endian:
        return EXPLICIT_BIG, IMPLICIT_BIG
    return EXPLICIT_LITTLE, IMPLICIT_LITTLE
