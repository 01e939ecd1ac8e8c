"""FrameRows: every fragment of the frames of one or many frame tables, as columns.

What `FrameTable.fragment_ranges` returns of one frame, of all frames at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmindex.errors import IndexFormatError
from mmindex.frame_table import ITEM_HEADER_LENGTH, ByteRange, FrameTable, Layout

Numbers = NDArray[np.int64]

_MOST_FRAMES = 1 << 16  # of one table in one piece; a multiple of 8
_END = 1 << 62  # beyond which no file reaches


class FrameRows(NamedTuple):
    """A row a fragment, in the order of tables and frames; a column each, int64.

    Attributes
    ----------
    table : ndarray
        The number of the table among those given.
    frame, fragment : ndarray
        Frame index; number of the fragment in its frame.
    offset, length : ndarray
        The bytes in the file.
    first_bit : ndarray
        First bit of the frame in its first byte.
    """

    table: Numbers
    frame: Numbers
    fragment: Numbers
    offset: Numbers
    length: Numbers
    first_bit: Numbers


class TableColumns(NamedTuple):
    """Frame tables whose entries lie in one buffer: a value a table in each column.

    Attributes
    ----------
    layout, frames_located, number_of_fragments, value_offset, frame_bits, stride_bits : ndarray
        As in `FrameTable`.
    entry_size : ndarray
        4 or 8.
    entries_at : ndarray
        Where the entries begin in the buffer. They are all there.
    trimmed : ndarray of bool
    """

    layout: Numbers
    frames_located: Numbers
    number_of_fragments: Numbers
    value_offset: Numbers
    frame_bits: Numbers
    stride_bits: Numbers
    entry_size: Numbers
    entries_at: Numbers
    trimmed: NDArray[np.bool_]


class Words:
    """Little-endian integers at any place of a buffer, `data`: pieces, joined and padded."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.data = b"".join((*pieces, bytes(8)))

    def take(self, at: Numbers, size: Numbers | int) -> Numbers:
        """Return the integers of `size` bytes (1, 2, 4 or 8) at these places."""
        if isinstance(size, int):
            return self._view(size)[at].astype(np.int64)
        taken = self._view(4)[at].astype(np.int64)
        wide = np.flatnonzero(size == 8)
        if len(wide):
            taken[wide] = self._view(8)[at[wide]].astype(np.int64)
        return taken

    def _view(self, size: int) -> NDArray[np.unsignedinteger]:
        return np.ndarray((len(self.data) - size + 1,), f"<u{size}", self.data, 0, (1,))


def list_rows(tables: TableColumns, words: Words) -> FrameRows | None:
    """Return the rows of tables of any layout but trusted.

    Trimmed tables have one fragment a frame. None where the entries of a table are damaged.
    """
    of_frame = _number(tables.frames_located)
    table, frame = of_frame
    layout = tables.layout[table]
    first, counts = frame, np.ones(len(frame), np.int64)
    several = np.flatnonzero(layout == Layout.FRAGMENTS)
    if len(several):
        owner = table[several]
        size = tables.entry_size[owner]
        at = tables.entries_at[owner] + frame[several] * size
        begin, end = words.take(at, size), words.take(at + size, size)
        if (begin < 0).any() or (begin >= end).any():
            return None
        if (end > tables.number_of_fragments[owner]).any():
            return None
        first = frame.copy()
        first[several], counts[several] = begin, end - begin
    if len(several):
        of_row, fragment = _number(counts)
        table, frame, layout = table[of_row], frame[of_row], layout[of_row]
        item = first[of_row] + fragment
    else:
        fragment, item = np.zeros(len(frame), np.int64), frame
    begin = frame * tables.stride_bits[table]
    bits = tables.frame_bits[table]
    offset = begin >> 3
    length = (begin + bits + 7 >> 3) - offset
    first_bit = begin & 7
    items = np.flatnonzero(layout != Layout.NATIVE)
    if len(items):
        offset[items], length[items] = _find_items(
            tables, words, table[items], frame[items], item[items]
        )
        first_bit[items] = 0
        if (length < 0).any() or (offset < 0).any() or (offset >= _END).any():
            return None
    return FrameRows(table, frame, fragment, offset + tables.value_offset[table], length, first_bit)


def _number(counts: Numbers) -> tuple[Numbers, Numbers]:
    """Return for each of `counts` things their owner's number, and their own from 0 on."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]


def _find_items(
    tables: TableColumns, words: Words, table: Numbers, frame: Numbers, item: Numbers
) -> tuple[Numbers, Numbers]:
    """Return offset (from the value offset) and length of the values of items."""
    size = tables.entry_size[table]
    several = tables.layout[table] == Layout.FRAGMENTS
    at = tables.entries_at[table] + (item + several * (tables.frames_located[table] + 1)) * size
    begin, end = words.take(at, size), words.take(at + size, size)
    length = end - begin - ITEM_HEADER_LENGTH
    trimmed = np.flatnonzero(tables.trimmed[table])
    if len(trimmed):
        owner, frame = table[trimmed], frame[trimmed]
        bits_at = tables.entries_at[owner] + (tables.number_of_fragments[owner] + 1) * size[trimmed]
        bits = words.take(bits_at + (frame >> 3), 1)
        length[trimmed] -= bits >> (frame & 7) & 1
    return begin + ITEM_HEADER_LENGTH, length


def walk_rows(table: FrameTable) -> Iterator[FrameRows]:
    """Yield the rows of one table of any layout but trusted, in pieces of some frames.

    Raises
    ------
    IndexFormatError
        The entries are damaged.
    """
    for start in range(0, table.frames_located, _MOST_FRAMES):
        stop = min(start + _MOST_FRAMES, table.frames_located)
        rows = None
        if not table.trimmed or table.layout is not Layout.FRAGMENTS:
            rows = _list_piece(table, start, stop)
        if rows is None:
            rows = rows_of([(frame, table.fragment_ranges(frame)) for frame in range(start, stop)])
            first_bits = [frame * table.stride_bits & 7 for frame in rows.frame.tolist()]
            rows = rows._replace(first_bit=np.array(first_bits, np.int64))
        yield rows


def rows_of(frames: list[tuple[int, tuple[ByteRange, ...]]]) -> FrameRows:
    """Return the rows of one table's frames, each in whole bytes, by their ranges.

    Raises
    ------
    IndexFormatError
        A range lies where no file reaches.
    """
    numbers = [
        (0, frame, fragment, offset, length, 0)
        for frame, ranges in frames
        for fragment, (offset, length) in enumerate(ranges)
    ]
    if any(offset >= _END or length >= _END for *_, offset, length, _ in numbers):
        raise IndexFormatError(
            "damaged record: a frame lies beyond the end of any file; rebuild the index"
        )
    columns = np.array(numbers, np.int64).reshape(-1, len(FrameRows._fields)).T
    return FrameRows(*columns)


def _list_piece(table: FrameTable, start: int, stop: int) -> FrameRows | None:
    """Return the rows of frames [start, stop) of a table; `start` is a multiple of 8."""
    size, count = table.entry_size, stop - start
    fragments, data = count, b""
    if table.layout is Layout.FRAGMENT_A_FRAME:
        data = table.entries[start * size : (stop + 1) * size]
        if table.trimmed:
            bits_at = (table.number_of_fragments + 1) * size
            data += table.entries[bits_at + start // 8 : bits_at + (stop + 7) // 8]
    elif table.layout is Layout.FRAGMENTS:
        firsts = np.frombuffer(table.entries[start * size : (stop + 1) * size], f"<u{size}")
        first, last = int(firsts[0]), int(firsts[-1])
        if not first < last <= table.number_of_fragments or (firsts < first).any():
            return None
        items_at = (table.frames_located + 1) * size
        fragments = last - first
        data = (firsts - firsts[0]).tobytes()
        data += table.entries[items_at + first * size : items_at + (last + 1) * size]
    if count * table.stride_bits >= _END:
        return None
    tables = TableColumns(
        layout=np.array([table.layout]),
        frames_located=np.array([count]),
        number_of_fragments=np.array([fragments]),
        value_offset=np.array([table.value_offset + (start * table.stride_bits >> 3)]),
        frame_bits=np.array([table.frame_bits]),
        stride_bits=np.array([table.stride_bits]),
        entry_size=np.array([size]),
        entries_at=np.array([0]),
        trimmed=np.array([table.trimmed]),
    )
    rows = list_rows(tables, Words((data,)))
    return None if rows is None else rows._replace(frame=rows.frame + start)
