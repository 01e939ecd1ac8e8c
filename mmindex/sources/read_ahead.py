"""Short reads in ascending order, as a walk of a container's headers does them, by few requests.

Where headers lie near each other, as those of small members do, long stretches are read at once;
where they are far apart, a little behind each.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmindex.sources.base import ByteSource
from mmindex.sources.coalesce import group_pieces

_SHORTEST, _LONGEST = 1 << 14, 1 << 18  # bytes that are read at once
_GAP = 1 << 14  # bytes between two of many ranges that are read over
_STEPS = 4  # as long as the last step between reads, that are read ahead


class ReadAhead(ByteSource):
    """A source of whose bytes some more are read than are asked for. One thread reads it."""

    __slots__ = ("_data", "_last", "_source", "_start", "name", "size", "version")

    def __init__(self, source: ByteSource) -> None:
        self.name = source.name
        self.size = source.size
        self.version = source.version
        self._source = source
        self._start = 0
        self._data = b""
        self._last = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        at = offset - self._start
        step, self._last = offset - self._last, offset
        if at < 0 or at + length > len(self._data):
            is_near = 0 <= step * _STEPS <= _LONGEST
            ahead = min(max(_SHORTEST, step * _STEPS), _LONGEST) if is_near else length
            wanted = max(length, ahead)
            if offset + wanted > self.size:
                wanted = max(length, self.size - offset)
            self._start, self._data, at = offset, self._source.read(offset, wanted), 0
        return self._data[at : at + length]

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range, near ones at once; see `ByteSource.read_many`."""
        found = [b""] * len(ranges)
        pieces = sorted((*piece, at) for at, piece in enumerate(ranges))
        groups = list(group_pieces(pieces, _GAP, _LONGEST))
        joined = self._source.read_many([(start, end - start) for start, end, _ in groups])
        for (start, _, members), data in zip(groups, joined, strict=True):
            for offset, length, wanted in members:
                found[wanted] = data[offset - start : offset - start + length]
        return found

    def check(self) -> None:
        """Look at the source; see `ByteSource.check`."""
        self._source.check()
