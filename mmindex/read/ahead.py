"""Frames of objects that are read in batches before they are decoded, many requests at once.

What is far away costs a frame the time of a request; a batch costs little more. Frames of local
files are read one by one when they are decoded: nothing here is used for them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from mmindex.errors import MMIndexError, naming
from mmindex.frame_table import FrameTable, Layout
from mmindex.model import Status
from mmindex.own_lock import OwnLock
from mmindex.read.place import find_items, find_place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.frame_table import ByteRange
    from mmindex.read.instance import Instance
    from mmindex.sources.base import ByteSource

Key = TypeVar("Key", bound=Hashable)

_MOST_FRAMES = 256  # of a batch
_FIRST = 8  # frames of the first batch of a walk
_MOST_BYTES = 32 << 20  # of a batch, unless one frame alone is longer
_KEPT = 2  # batches, for threads that are not yet done with the one before
_FILES_AT_ONCE = 16


class FramesAhead(Generic[Key]):
    """Frames by position, those of the next positions read with the first that is asked for.

    Many threads may ask, in about the order of the positions. A batch that cannot be read as a
    whole is read frame by frame, so that an error is that of its frame.

    Parameters
    ----------
    wanted : sequence of (key, int)
        What names an instance, and the frame index.
    open_instance : callable
        Returns the instance of a key, open.
    first : int
        Frames of the first batch, where it is not sure that more are asked for; each later batch
        has twice as many.
    """

    def __init__(
        self,
        wanted: Sequence[tuple[Key, int]],
        open_instance: Callable[[Key], Instance],
        first: int = _MOST_FRAMES,
    ) -> None:
        self._most = first
        self._wanted = wanted
        self._open = open_instance
        self._lock = OwnLock()
        self._planned = 0  # positions of which a batch was read
        self._batches: list[tuple[range, dict[Key, tuple[Instance, Instance]]]] = []

    def frame(self, position: int) -> bytes:
        """Return a frame as stored; raises what `Instance.frame` and opening it raise."""
        _, frame_index = self._wanted[position]
        return self.take(position).frame(frame_index)

    def array(
        self,
        position: int,
        *,
        raw: bool,
        rescale: bool = False,
        copy: bool = False,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        """Return the decoded pixels of a frame, in `out` if they fit it; see `Instance.array`."""
        from mmindex.decode.frame import put
        from mmindex.read.pixels import read_array

        _, frame_index = self._wanted[position]
        held, opened = self._take(position)
        if not rescale:
            return read_array(held, frame_index, raw=raw, copy=copy, out=out)
        from mmindex.read.units import rescale_frame

        pixels = read_array(held, frame_index, raw=raw)
        with naming(opened.path):  # whose header is that of the same version of the file
            return put(rescale_frame(opened, pixels, frame_index), out)

    def take(self, position: int) -> Instance:
        """Return an instance that holds a position's frame in memory, if its batch was read."""
        return self._take(position)[0]

    def _take(self, position: int) -> tuple[Instance, Instance]:
        """Return what holds a position's frame in memory, and the instance that it was read of."""
        key, _ = self._wanted[position]
        with self._lock:
            while position >= self._planned:
                self._read_batch()
            for positions, held in self._batches:
                if position in positions and key in held:
                    return held[key]
        instance = self._open(key)
        return instance, instance

    def _read_batch(self) -> None:
        """Read the frames of the next positions, as many as make a batch."""
        start, total = self._planned, 0
        ranges: dict[Key, list[tuple[int, int]]] = {}
        opened: dict[Key, Instance] = {}
        while self._planned < min(len(self._wanted), start + self._most):
            key, frame_index = self._wanted[self._planned]
            try:
                if key not in opened:
                    opened[key] = self._open(key)
                place = _find_range(opened[key], frame_index)
            except MMIndexError:  # raised again when this frame is asked for
                place = None
            if place is not None:
                if total and total + place[1] > _MOST_BYTES:
                    break
                total += place[1]
                ranges.setdefault(key, []).append(place)
            self._planned += 1
        self._most = min(2 * self._most, _MOST_FRAMES)
        held = _hold(ranges, opened)
        self._batches = [*self._batches, (range(start, self._planned), held)][-_KEPT:]


def read_ahead(wanted: Sequence[tuple[Instance, int]]) -> FramesAhead[Instance] | None:
    """Return what reads frames of open instances in batches; None where they are local."""
    if len(wanted) <= 1 or not any(map(_is_far, {instance for instance, _ in wanted})):
        return None
    return FramesAhead(wanted, lambda instance: instance)


def walk_frames(instance: Instance, frame_indices: Sequence[int]) -> Iterator[bytes]:
    """Yield frames as stored, one after the other; raises what `Instance.frame` raises."""
    return (take().frame(index) for index, take in walk_held(instance, frame_indices))


def walk_held(
    instance: Instance, frame_indices: Sequence[int]
) -> Iterator[tuple[int, Callable[[], Instance]]]:
    """Yield each frame index with what returns the instance to read that frame from.

    Of a store, that reads a batch when it is called, and the instance holds the batch in memory;
    batches grow, since the caller may need the first frames alone. Else it is the instance itself.
    """
    if len(frame_indices) <= 1 or not _is_far(instance):
        for index in frame_indices:
            yield index, lambda: instance
        return
    ahead = FramesAhead([(instance, index) for index in frame_indices], lambda key: key, _FIRST)
    for position, index in enumerate(frame_indices):
        yield index, partial(ahead.take, position)


def walk_ranges(
    instance: Instance, frame_indices: Sequence[int]
) -> Iterator[tuple[int, tuple[ByteRange, ...]]]:
    """Yield each frame index with the frame's byte ranges; raises what `byte_ranges` raises.

    Of a trusted table in a store, items are read in batches.
    """
    table = instance.record.frames
    if table is None or table.layout is not Layout.TRUSTED:
        return ((index, instance.byte_ranges(index)) for index in frame_indices)
    held = walk_held(instance, frame_indices)
    return ((index, take().byte_ranges(index)) for index, take in held)


def walk_far_fragments(instance: Instance, table: FrameTable) -> Iterator[memoryview]:
    """Yield the fragments of an instance in a store as `Instance.all_fragments`, in batches."""
    if table.layout is not Layout.TRUSTED:
        pieces = walk_pieces(instance.source, table.all_fragment_ranges())
        yield from (memoryview(data) for data in pieces)
        return
    for index, take in walk_held(instance, range(table.frames_located)):
        source = take().source
        for piece in find_items(instance.record, table, source, index):
            yield source.view(*piece)


def walk_pieces(source: ByteSource, ranges: Iterable[ByteRange]) -> Iterator[bytes]:
    """Yield the bytes of ascending ranges, many requests at once; raises what `read` raises."""
    batch: list[ByteRange] = []
    total = 0
    for piece in ranges:
        if batch and total + piece.length > _MOST_BYTES:
            yield from source.read_many(batch)
            batch, total = [], 0
        batch.append(piece)
        total += piece.length
    yield from source.read_many(batch)


def _is_far(instance: Instance) -> bool:
    return instance.record.status is Status.INDEXED and instance.source.at_once > 1


def _find_range(instance: Instance, frame_index: int) -> tuple[int, int] | None:
    table = instance.record.frames
    if table is None or not 0 <= frame_index < len(instance):
        return None
    place = find_place(instance.record, table, frame_index, in_order=True)
    return place.offset, place.length


def _hold(
    ranges: dict[Key, list[tuple[int, int]]], opened: dict[Key, Instance]
) -> dict[Key, tuple[Instance, Instance]]:
    """Return what holds the ranges of instances in memory, each with the instance itself.

    Instances that cannot be read are left out.
    """
    from mmindex.sources.held import HeldSource

    held: dict[Key, tuple[Instance, Instance]] = {}

    def read(key: Key) -> None:
        instance = opened[key]
        try:
            source = instance.source
            if source.at_once > 1:
                in_memory = type(instance)(instance.record, HeldSource(source, ranges[key]))
                held[key] = in_memory, instance
        except MMIndexError:
            pass  # its frames are read one by one

    if len(ranges) <= 1:
        for key in ranges:
            read(key)
        return held
    from concurrent.futures import ThreadPoolExecutor  # for which local files do not wait

    with ThreadPoolExecutor(min(_FILES_AT_ONCE, len(ranges))) as threads:
        list(threads.map(read, ranges))
    return held
