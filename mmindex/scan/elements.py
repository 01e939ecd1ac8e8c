"""Data elements: headers, lengths, nesting (PS3.5 section 7).

Walks the top level of a data set up to its pixel data and notes where the wanted values lie.
Everything else is skipped by structure: a defined length in one step, an undefined one with an
explicit stack. Values are not interpreted here, and what follows the pixel data is not looked at.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import FormatError
from mmindex.model import Buffer
from mmindex.scan import tags

if TYPE_CHECKING:
    from mmindex.scan.runs import KnownRuns

UNDEFINED_LENGTH = 0xFFFF_FFFF
MAX_NESTING = 64

_LONG_VRS = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_SHORT_VRS = (
    *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO"),
    *("LT", "PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
)


class Element(NamedTuple):
    """One data element: where its header and its value are.

    `vr` is empty in Implicit VR; `length` may be UNDEFINED_LENGTH.
    """

    tag: int
    vr: str
    element_offset: int
    value_offset: int
    length: int


class Encoding:
    """How element headers are laid out in one byte order and VR form (PS3.5 7.1.2, 7.1.3).

    Tags are compared as they come out of `header`, without swapping the two halves of each:
    `wanted` maps such raw tags to tags.
    """

    def __init__(self, *, implicit: bool, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self.implicit = implicit
        self.big_endian = big_endian
        self.byte_order = order
        self.header = struct.Struct(order + "IHH")  # tag, VR, 2-byte length
        self.length = struct.Struct(order + "I")
        self.number = struct.Struct(order + "H")
        self.wanted = {self._raw_tag(tag): tag for tag in tags.WANTED}
        self.item = self._raw_tag(tags.ITEM)
        self.item_end = self._raw_tag(tags.ITEM_DELIMITATION)
        self.sequence_end = self._raw_tag(tags.SEQUENCE_DELIMITATION)
        self.vr_names = {self._raw_vr(vr): vr for vr in (*_SHORT_VRS, *_LONG_VRS)}
        self.short_vrs = frozenset(() if implicit else map(self._raw_vr, _SHORT_VRS))
        self._un = self._raw_vr("UN")
        # A 4-byte length, put together from the two halves that `header` takes apart.
        self.vr_shift, self.length_shift = (16, 0) if big_endian else (0, 16)

    def _raw_tag(self, tag: int) -> int:
        return tag if self.big_endian else (tag & 0xFFFF) << 16 | tag >> 16

    def _raw_vr(self, vr: str) -> int:
        return int.from_bytes(vr.encode(), "big" if self.big_endian else "little")

    def tag_of(self, raw_tag: int) -> int:
        """Return the tag that `header` read as `raw_tag`."""
        return self._raw_tag(raw_tag)

    def inside(self, raw_vr: int) -> Encoding:
        """Return the encoding within a value of undefined length (PS3.5 6.2.2)."""
        return IMPLICIT_LITTLE if raw_vr == self._un and not self.implicit else self

    def vr_of(self, raw_vr: int) -> str:
        """Return the two characters of a value representation that `header` read."""
        return self.vr_names.get(raw_vr) or raw_vr.to_bytes(
            2, "big" if self.big_endian else "little"
        ).decode("latin-1")


IMPLICIT_LITTLE = Encoding(implicit=True, big_endian=False)
EXPLICIT_LITTLE = Encoding(implicit=False, big_endian=False)
EXPLICIT_BIG = Encoding(implicit=False, big_endian=True)


@dataclass(frozen=True, slots=True)
class DataSet:
    """The wanted elements of a data set by tag, and its pixel data element, where it has one."""

    elements: dict[int, Element]
    pixel_data: Element | None = None


def scan_elements(
    buffer: Buffer,
    element_offset: int,
    end: int,
    encoding: Encoding,
    known_runs: KnownRuns | None = None,
) -> DataSet:
    """Walk the top-level elements in [element_offset, end), up to the pixel data.

    Parameters
    ----------
    known_runs : KnownRuns, optional
        Those of another data set, to skip by.

    Raises
    ------
    FormatError
        An element runs past the end, has no value representation, or nests too deeply.
    """
    unpack, unpack_length = encoding.header.unpack_from, encoding.length.unpack_from
    wanted, short_vrs, vr_names = encoding.wanted, encoding.short_vrs, encoding.vr_names
    implicit, vr_shift, length_shift = encoding.implicit, encoding.vr_shift, encoding.length_shift
    if known_runs is not None and known_runs.encoding is not encoding:
        known_runs = None
    stops = wanted if known_runs is None else known_runs.stops
    new, pixel_keywords = tuple.__new__, tags.PIXEL_KEYWORDS
    found: dict[int, Element] = {}
    position = element_offset
    last_header = end - 8
    while position <= last_header:
        tag, vr, length = unpack(buffer, position)
        if tag in stops:
            if known_runs is not None and tag not in wanted:
                skipped = known_runs.skip(buffer, tag, position, end)
                if skipped > position:
                    position = skipped
                    continue
        elif vr in short_vrs:  # most elements end here
            element_offset = position
            position += 8 + length
            continue
        if vr in short_vrs:
            value_offset = position + 8
        elif implicit:
            value_offset = position + 8
            length = vr << vr_shift | length << length_shift
            if not tag and not length:
                break  # zeros after the last element
        else:
            if vr not in vr_names:
                if not tag and not vr:
                    break  # zeros after the last element
                check_vr(encoding, tag, vr, position)
            value_offset = position + 12
            if value_offset > end:
                break
            (length,) = unpack_length(buffer, position + 8)
        element_offset = position
        if tag in wanted:
            known_tag = wanted[tag]
            name = "" if implicit else vr_names.get(vr) or encoding.vr_of(vr)
            element = new(Element, (known_tag, name, position, value_offset, length))
            if known_tag in pixel_keywords:
                return DataSet(found, element)
            found[known_tag] = element
        if length == UNDEFINED_LENGTH:
            position = skip_undefined_length(buffer, value_offset, end, encoding.inside(vr))
        else:
            position = value_offset + length
    if position > end:
        raise FormatError(
            f"element {tags.format_tag(encoding.tag_of(tag))} runs past the end: "
            f"expected {position - element_offset} bytes, found {end - element_offset}",
            offset=element_offset,
        )
    if not _is_zero(buffer, position, end):
        raise FormatError(
            f"expected an element or the end, found {end - position} bytes of something else",
            offset=position,
        )
    return DataSet(found)


def read_value(buffer: Buffer, data_set: DataSet, tag: int) -> bytes:
    """Return the value of an element that was found, empty where it is absent."""
    element = data_set.elements.get(tag)
    if element is None or element.length == UNDEFINED_LENGTH:
        return b""
    return bytes(buffer[element.value_offset : element.value_offset + element.length])


def skip_undefined_length(buffer: Buffer, value_offset: int, end: int, encoding: Encoding) -> int:
    """Return the offset after the delimiter that ends a value of undefined length.

    The value is a sequence of items (or the fragments of nested pixel data, which look the same).
    Items and sequences of defined length are skipped in one step, so that nothing inside them can
    lead out of them (PS3.5 7.5).

    Raises
    ------
    FormatError
        Something else than the structure that the standard asks for, the end of the data,
        or more than MAX_NESTING levels.
    """
    position = value_offset
    last_header = end - 8
    enclosing: list[Encoding] = []  # the items of undefined length around the current sequence
    in_item = False
    while True:
        unpack, unpack_length = encoding.header.unpack_from, encoding.length.unpack_from
        item, item_end, sequence_end = encoding.item, encoding.item_end, encoding.sequence_end
        short_vrs, vr_names, implicit = encoding.short_vrs, encoding.vr_names, encoding.implicit
        vr_shift, length_shift = encoding.vr_shift, encoding.length_shift
        while position <= last_header:
            tag, vr, length = unpack(buffer, position)
            if in_item and tag != item_end:
                if tag == item or tag == sequence_end:
                    raise _unexpected(encoding, tag, position, "an element or the item's end")
                if implicit:
                    length = vr << vr_shift | length << length_shift
                    position += 8
                elif vr in short_vrs:
                    position += 8 + length
                    continue
                else:
                    if vr not in vr_names:
                        check_vr(encoding, tag, vr, position)
                    if position + 12 > end:
                        position = end
                        break
                    (length,) = unpack_length(buffer, position + 8)
                    position += 12
                if length != UNDEFINED_LENGTH:
                    position += length
                    continue
                enclosing.append(encoding)
                if len(enclosing) >= MAX_NESTING:
                    raise FormatError(
                        f"sequences nest over {MAX_NESTING} levels deep", offset=position
                    )
                in_item = False
                inside = encoding.inside(vr)
                if inside is not encoding:
                    encoding = inside
                    break
            elif in_item:
                in_item = False
                position += 8
            elif tag == item:
                length = vr << vr_shift | length << length_shift
                position += 8
                if length == UNDEFINED_LENGTH:
                    in_item = True
                else:
                    position += length
            elif tag == sequence_end:
                position += 8
                if not enclosing:
                    return position
                in_item = True
                outer = enclosing.pop()
                if outer is not encoding:
                    encoding = outer
                    break
            else:
                raise _unexpected(encoding, tag, position, "an item or the sequence's end")
        if position > last_header:
            raise FormatError(
                "expected the delimiter of a sequence of undefined length, found the end",
                offset=min(position, end),
            )


def _is_zero(buffer: Buffer, start: int, end: int) -> bool:
    """Return whether there is nothing but zeros in [start, end)."""
    step = 1 << 20
    for at in range(start, end, step):
        piece = bytes(buffer[at : min(at + step, end)])
        if piece.count(0) != len(piece):
            return False
    return True


def check_vr(encoding: Encoding, raw_tag: int, raw_vr: int, element_offset: int) -> None:
    """Raise FormatError unless the value representation is two capital letters.

    One that is not known, but could be, has a 4-byte length like those added last (PS3.5 7.1.2).
    """
    if raw_vr in encoding.vr_names:
        return
    vr = encoding.vr_of(raw_vr)
    if not (vr.isascii() and vr.isalpha() and vr.isupper()):
        raise FormatError(
            f"expected a value representation in {tags.format_tag(encoding.tag_of(raw_tag))}, "
            f"found {vr!r}",
            offset=element_offset,
        )


def _unexpected(encoding: Encoding, raw_tag: int, offset: int, expected: str) -> FormatError:
    found = tags.format_tag(encoding.tag_of(raw_tag))
    return FormatError(f"expected {expected}, found {found}", offset=offset)
