"""Concatenation: one sequence of frames over several instances (PS3.3 C.7.6.16.2.2.4)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack
from operator import index
from typing import TYPE_CHECKING

from mmindex.errors import FrameIndexError, InstanceNotFoundError
from mmindex.index.instance_names import name_of
from mmindex.read.frame_sequence import FrameSequence
from mmindex.read.instance import Instance
from mmindex.read.order import check_one_series, select_newest
from mmindex.read.tiles import check_number_of_parts, check_sequence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.model import InstanceRecord
    from mmindex.read.archive import Archive


class Concatenation(FrameSequence):
    """The frames of all instances of a concatenation, in order; see `Archive.concatenation`.

    `concatenation[i]` is the frame as stored; frame indices are 0-based over all instances.

    Attributes
    ----------
    instances : tuple of Instance
        The instances, in order.
    """

    def __init__(self, parts: Sequence[tuple[int, Instance]]) -> None:
        ordered = sorted(parts, key=lambda part: part[0])
        check_sequence(ordered)
        self.instances = tuple(instance for _, instance in ordered)
        check_number_of_parts(self.instances)
        self._first_frames = [first_frame for first_frame, _ in ordered]
        self._count = sum(instance.number_of_frames for instance in self.instances)

    def close(self) -> None:
        """Close the files of the instances."""
        for instance in self.instances:
            instance.close()

    def __len__(self) -> int:
        return self._count

    def locate(self, frame_index: int) -> tuple[Instance, int]:
        """Return the instance that has a frame, and the frame's index there.

        Raises
        ------
        FrameIndexError
            There is no such frame.
        """
        frame_index = index(frame_index)
        if not 0 <= frame_index < self._count:
            raise FrameIndexError(
                f"frame index {frame_index} is out of range: the concatenation has "
                f"{self._count} frames"
            )
        at = bisect_right(self._first_frames, frame_index) - 1
        return self.instances[at], frame_index - self._first_frames[at]

    def frame(self, frame_index: int) -> bytes:
        """Return a frame as stored; raises what `locate` and `Instance.frame` raise."""
        instance, own_index = self.locate(frame_index)
        return instance.frame(own_index)

    def array(self, frame_index: int) -> NDArray[np.generic]:
        """Return the pixels of a frame; raises what `locate` and `Instance.array` raise."""
        instance, own_index = self.locate(frame_index)
        return instance.array(own_index)


def open_concatenation(
    archive: Archive, concatenation_uid: str, series_instance_uid: str | None
) -> Concatenation:
    """Return the concatenation of this UID; see `Archive.concatenation`."""
    records = archive.instances(series_instance_uid=series_instance_uid)
    found = [each for each in records if _is_part(each, concatenation_uid)]
    if not found:
        raise InstanceNotFoundError(
            f"the archive has no Concatenation UID {concatenation_uid!r}", path=archive.path
        )
    what = f"concatenation {concatenation_uid}"
    check_one_series(found, what, "give series_instance_uid, too", archive.path)
    # Of several files with one UID, the newest of the series says what the instance is part of.
    of_series = archive.instances(series_instance_uid=found[0].series_instance_uid)
    newest = select_newest(of_series, "newest", archive.path)
    parts = [each for each in newest if _is_part(each, concatenation_uid)]
    with ExitStack() as stack:
        opened = []
        for record in parts:
            first_frame = record.image_numbers.concatenation_frame_offset_number or 0
            opened.append((first_frame, stack.enter_context(archive[name_of(record)])))
        concatenation = Concatenation(opened)
        stack.pop_all()
    return concatenation


def _is_part(record: InstanceRecord, concatenation_uid: str) -> bool:
    return record.image_numbers.concatenation_uid == concatenation_uid
