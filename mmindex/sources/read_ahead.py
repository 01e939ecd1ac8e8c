"""Short reads in ascending order, as a walk of a container's headers does them, by few requests.

Where headers lie near each other, as those of small members do, long stretches are read at once;
where they are far apart, a little behind each.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmindex.errors import TruncatedFrameError
from mmindex.sources.base import ByteSource
from mmindex.sources.coalesce import group_pieces

_SHORTEST, _LONGEST = 1 << 14, 1 << 18  # bytes that are read at once
_GAP = 1 << 14  # bytes between two of many ranges that are read over
_STEPS = 4  # as long as the last step between reads, that are read ahead


class ReadAhead(ByteSource):
    """A source of whose bytes some more are read than are asked for."""

    __slots__ = ("_held", "_last", "_source", "first", "name", "size", "version")

    def __init__(self, source: ByteSource) -> None:
        self.name = source.name
        self.first = source.first
        self.size = source.size
        self.version = source.version
        self._source = source
        self._held = 0, b""  # where they begin, and the bytes; replaced at once, for threads
        self._last = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        start, data = self._held
        at = offset - start
        step, self._last = offset - self._last, offset
        if not 0 <= at <= at + length <= len(data):
            is_near = length >= 0 and 0 <= step * _STEPS <= _LONGEST
            ahead = min(max(_SHORTEST, step * _STEPS), _LONGEST) if is_near else length
            wanted = max(length, min(ahead, self.first + self.size - offset))
            data, at = self._source.read(offset, wanted), 0
            self._held = offset, data
        else:
            self._source.check_if_due()
        return data[at : at + length]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range, near ones at once; see `ByteSource.read_many`."""
        found = [b""] * len(ranges)
        pieces = sorted((*piece, at) for at, piece in enumerate(ranges))
        groups = list(group_pieces(pieces, _GAP, _LONGEST))
        try:
            joined = self._source.read_many([(start, end - start) for start, end, _ in groups])
        except TruncatedFrameError:
            return self._source.read_many(ranges)  # raises for the range that is not there
        for (start, _, members), data in zip(groups, joined, strict=True):
            for offset, length, wanted in members:
                found[wanted] = data[offset - start : offset - start + length]
        return found

    def check(self) -> None:
        """Look at the source; see `ByteSource.check`."""
        self._source.check()

    def check_if_due(self) -> None:
        """Look at the source if that is due; see `ByteSource.check_if_due`."""
        self._source.check_if_due()

    def close(self) -> None:
        """Close the source; see `ByteSource.close`."""
        self._held = 0, b""
        self._source.close()
