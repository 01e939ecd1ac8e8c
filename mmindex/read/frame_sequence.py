"""A sequence of frames as stored: what an Instance and a Concatenation have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

from mmindex.closing import Closing


class FrameSequence(Closing, Sequence[bytes]):
    """Frames by index and slice; a negative or too large index raises, as `frame` does."""

    __slots__ = ()

    @abstractmethod
    def frame(self, frame_index: int) -> bytes:
        """Return a frame as stored."""

    @overload
    def __getitem__(self, frame_index: int) -> bytes: ...

    @overload
    def __getitem__(self, frame_index: slice) -> list[bytes]: ...

    def __getitem__(self, frame_index: int | slice) -> bytes | list[bytes]:
        if isinstance(frame_index, slice):
            return list(self._walk(range(*frame_index.indices(len(self)))))
        return self.frame(frame_index)

    def __iter__(self) -> Iterator[bytes]:
        return self._walk(range(len(self)))

    def _walk(self, frame_indices: range) -> Iterator[bytes]:
        """Yield frames as stored, one after the other."""
        return (self.frame(index) for index in frame_indices)
