"""Parts of a source that were read before, in memory: what is asked for is served from them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mmindex.model import Fingerprint
from mmindex.sources.base import ByteSource


class HeldSource(ByteSource):
    """Ranges of a source, read at once when this is made; other bytes are read from the source.

    Closing it closes the source. Held bytes are those of the source's version: they are not
    compared with it again.

    Raises
    ------
    TruncatedFrameError, StaleIndexError, MissingFileError, RemoteReadError
        As `ByteSource.read_many`.
    """

    __slots__ = ("_pieces", "_source", "_starts", "first", "name", "size", "version")

    def __init__(self, source: ByteSource, ranges: Sequence[tuple[int, int]]) -> None:
        self.name = source.name
        self.first = source.first
        self.size = source.size
        self.version: Fingerprint | None = source.version
        self._source = source
        wanted = sorted(set(ranges))
        self._starts = [offset for offset, _ in wanted]
        self._pieces = source.read_many(wanted)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        at = bisect_right(self._starts, offset) - 1
        if at >= 0 and length >= 0:
            piece, begin = self._pieces[at], offset - self._starts[at]
            if begin + length <= len(piece):
                return piece[begin : begin + length]
        return self._source.read(offset, length)

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range; see `ByteSource.read_many`."""
        return [self.read(*piece) for piece in ranges]

    def check(self) -> None:
        """Look at the source; see `ByteSource.check`."""
        self._source.check()

    def check_if_due(self) -> None:
        """Look at the source if that is due; see `ByteSource.check_if_due`."""
        self._source.check_if_due()

    def close(self) -> None:
        """Forget what is held, and close the source; see `ByteSource.close`."""
        self._starts = []
        self._source.close()
