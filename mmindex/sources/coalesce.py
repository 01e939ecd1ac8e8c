"""Many frames at once: read in the order of the file, neighbours together, returned as asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mmindex.errors import TruncatedFrameError
from mmindex.sources.file import Source

_GAP = 4096  # bytes between two pieces that are read over rather than skipped
_TOGETHER = 1 << 20  # bytes that are read at once, unless one piece is longer


class Piece(NamedTuple):
    """Bytes of one frame that lie together, and the number of the frame in the batch."""

    offset: int
    length: int
    wanted: int


def read_pieces(source: Source, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, bytes]]:
    """Yield pieces of one file with their bytes, in ascending order of offset.

    Raises
    ------
    TruncatedFrameError, StaleIndexError, MissingFileError
        As `Source.read`.
    """
    for group in _group(sorted(pieces)):
        start = group[0].offset
        end = max(piece.offset + piece.length for piece in group)
        try:
            data = source.read(start, end - start)
        except TruncatedFrameError:
            if len(group) > 1:  # which of them it is
                yield from ((piece, source.read(piece.offset, piece.length)) for piece in group)
                continue
            raise
        if len(group) == 1:
            yield group[0], data
            continue
        for piece in group:
            at = piece.offset - start
            yield piece, data[at : at + piece.length]


def _group(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield runs of pieces that are near enough to be read at once."""
    group: list[Piece] = []
    start = end = 0
    for piece in pieces:
        piece_end = piece.offset + piece.length
        is_near = piece.offset - end <= _GAP and piece_end - start <= _TOGETHER
        if group and (is_near or piece_end <= end):
            group.append(piece)
            end = max(end, piece_end)
            continue
        if group:
            yield group
        group, start, end = [piece], piece.offset, piece_end
    if group:
        yield group
