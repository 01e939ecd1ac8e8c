"""Many ranges at once: read in the order of the source, neighbours together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from mmindex.errors import TruncatedFrameError


class Piece(NamedTuple):
    """Bytes that lie together, and their number in the batch."""

    offset: int
    length: int
    wanted: int


class Reader(Protocol):
    """The part of a ByteSource that batches need."""

    @property
    def gap(self) -> int:
        """Bytes between two pieces that cost less to read over than a second read does."""

    @property
    def together(self) -> int:
        """Bytes that are read at once, unless one piece alone is longer."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes."""


def read_pieces(source: Reader, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, bytes]]:
    """Yield pieces of one source with their bytes, in ascending order of offset.

    Raises
    ------
    TruncatedFrameError, StaleIndexError, MissingFileError
        As `ByteSource.read`, for the first piece that fails.
    """
    for group in group_pieces(sorted(pieces), source.gap, source.together):
        if len(group) == 1:
            piece = group[0]
            yield piece, source.read(piece.offset, piece.length)
            continue
        start, length = span(group)
        try:
            data = source.read(start, length)
        except TruncatedFrameError:  # which of them it is
            yield from ((piece, source.read(piece.offset, piece.length)) for piece in group)
            continue
        for piece in group:
            at = piece.offset - start
            yield piece, data[at : at + piece.length]


def span(group: Sequence[Piece]) -> tuple[int, int]:
    """Return (offset, length) of the bytes from a group's first piece to the end of all."""
    start = group[0].offset
    return start, max(piece.offset + piece.length for piece in group) - start


def group_pieces(pieces: Sequence[Piece], gap: int, together: int) -> Iterator[list[Piece]]:
    """Yield runs of ascending pieces that are near enough to be read at once."""
    group: list[Piece] = []
    start = end = 0
    for piece in pieces:
        piece_end = piece.offset + piece.length
        is_near = piece.offset - end <= gap and piece_end - start <= together
        if group and (is_near or piece_end <= end):
            group.append(piece)
            end = max(end, piece_end)
            continue
        if group:
            yield group
        group, start, end = [piece], piece.offset, piece_end
    if group:
        yield group
