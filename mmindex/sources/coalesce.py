"""Many ranges at once: read in the order of the source, neighbours together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

from mmindex.errors import TruncatedFrameError

Piece = tuple[int, int, int]  # offset and length of bytes, and their number in the batch


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


def read_pieces(source: Reader, pieces: Iterable[Piece]) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers of pieces of one source with their bytes, in ascending order of offset.

    Raises
    ------
    TruncatedFrameError, StaleIndexError, MissingFileError
        As `ByteSource.read`, for the first piece that fails.
    """
    for start, end, group in group_pieces(sorted(pieces), source.gap, source.together):
        try:
            data = source.read(start, end - start)
        except TruncatedFrameError:
            if len(group) > 1:  # which of them it is
                for offset, length, wanted in group:
                    yield wanted, source.read(offset, length)
                continue
            raise
        if len(group) == 1:
            yield group[0][2], data
            continue
        for offset, length, wanted in group:
            at = offset - start
            yield wanted, data[at : at + length]


def group_pieces(
    pieces: Sequence[Piece], gap: int, together: int
) -> Iterator[tuple[int, int, list[Piece]]]:
    """Yield runs of ascending pieces that are near enough to be read at once: start, end, pieces.

    A run is at most `together` bytes long unless one piece alone is longer.
    """
    group: list[Piece] = []
    start = end = 0
    for piece in pieces:
        offset, length, _ = piece
        piece_end = offset + length
        if length < 0:  # read alone, which raises
            yield offset, piece_end, [piece]
            continue
        if group and (piece_end <= end or (offset - end <= gap and piece_end - start <= together)):
            group.append(piece)
            if piece_end > end:
                end = piece_end
            continue
        if group:
            yield start, end, group
        group, start, end = [piece], offset, piece_end
    if group:
        yield start, end, group


def choose_gap(pieces: Sequence[Piece], most: int, share: float) -> int:
    """Return the longest gap to read over so that gaps add at most `share` to the bytes wanted.

    Parameters
    ----------
    pieces : sequence
        In ascending order.
    most : int
        Bytes beyond which a gap is never read over.
    """
    gaps, end, wanted = [], 0, 0
    for offset, length, _ in pieces:
        if end and 0 < offset - end <= most:
            gaps.append(offset - end)
        end = max(end, offset + length)
        wanted += length
    left, longest = int(wanted * share), 0
    for gap, same in groupby(sorted(gaps)):
        left -= gap * sum(1 for _ in same)
        if left < 0:
            break
        longest = gap
    return longest
