"""Lookup tables of a header: Modality LUT, VOI LUT, palettes (PS3.3 C.11.1, C.11.2, C.7.6.3.1.5).

pydicom's functions return the same values, but count in the type of the pixels or of the entries:
where a value above the table has no room there, they wrap, or raise. Segmented palettes are left
to them.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.dataelem import DataElement

    from mmindex.decode.stream import Pixels

_DEPTHS = range(8, 17)  # bits of an entry
_MOST = 1 << 16  # entries


class LookupTable(NamedTuple):
    """A table; values below the first and above the last one that it maps become its ends.

    Attributes
    ----------
    first : int
        The value that becomes the first entry.
    depth : int
        Bits of an entry, 8 to 16: as the descriptor says, or 8 where each has a byte.
    entries : ndarray of uint16
    """

    first: int
    depth: int
    entries: NDArray[np.uint16]

    def look_up(self, values: Pixels) -> NDArray[np.uint16]:
        """Return the entry of each value, which is a whole number."""
        return self.entries.take(values.astype(np.int64) - self.first, mode="clip")

    def to_bytes(self) -> LookupTable:
        """Return the table with entries of 8 bits: the upper ones of each."""
        is_wide = self.depth == 8 and self.entries.max() > 0xFF
        shift = np.uint16(8 if is_wide else self.depth - 8)
        return self._replace(depth=8, entries=self.entries >> shift)


def read_table(item: Dataset) -> LookupTable:
    """Return the table of an item of Modality or VOI LUT Sequence.

    Raises
    ------
    ValueError, KeyError, TypeError
        The descriptor or the data are damaged.
    """
    return _make_table(item["LUTDescriptor"].value, item["LUTData"], item)


def read_palette(header: Dataset, colour: str) -> LookupTable:
    """Return the table of a colour: Red, Green or Blue; all have the descriptor of Red's.

    Raises
    ------
    ValueError, KeyError, TypeError
        The descriptor or the data are damaged.
    """
    descriptor = header["RedPaletteColorLookupTableDescriptor"].value
    return _make_table(descriptor, header[f"{colour}PaletteColorLookupTableData"], header)


def _make_table(descriptor: MutableSequence[int], data: DataElement, item: Dataset) -> LookupTable:
    length, first, depth = map(int, descriptor)
    length = length % _MOST or _MOST  # 0 stands for 65,536, which as a signed number is less than 0
    if depth not in _DEPTHS:
        raise ValueError(f"expected a table of 8 to 16 bits an entry, found {depth}")
    is_big_endian = item.original_encoding[1] is False
    if isinstance(data.value, bytes):
        words = np.frombuffer(data.value[: len(data.value) // 2 * 2], "<>"[is_big_endian] + "u2")
    else:
        numbers = data.value if isinstance(data.value, MutableSequence) else [data.value]
        words = np.array([int(number) & 0xFFFF for number in numbers], np.uint16)
    entries = words.astype("<u2")
    if len(entries) < length <= 2 * len(entries):  # two a word
        depth, entries = 8, np.frombuffer(entries.tobytes(), np.uint8).astype("<u2")
    if len(entries) < length:
        raise ValueError(f"expected {length} entries of a table, found {len(entries)}")
    return LookupTable(first, depth, entries[:length])
