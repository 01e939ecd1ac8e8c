"""Statistics of an archive, counted from its index alone."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from heapq import nlargest
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmindex.read.listings import Listings, Progress

_LARGEST = 5


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts of an archive.

    Attributes
    ----------
    statuses : dict of str to int
        Files by status.
    files, instances, frames : int
        Files in all; different SOP Instance UIDs with frames; frames.
    file_bytes, index_bytes : int
        Size of all files, and of the pages of the index, in bytes; members of containers are within
        the size of these.
    largest : list of (str, int)
        The files with the most frames, and how many.
    slowest : list of (str, float)
        The files that took longest to scan, and how many seconds.
    """

    statuses: dict[str, int]
    files: int
    instances: int
    frames: int
    file_bytes: int
    index_bytes: int
    largest: list[tuple[str, int]] = field(default_factory=list)
    slowest: list[tuple[str, float]] = field(default_factory=list)

    @property
    def index_bytes_a_frame(self) -> float:
        """Bytes of the index for each frame; 0 where there are none."""
        return self.index_bytes / self.frames if self.frames else 0.0


def count_archive(archive: Listings, progress: Progress | None = None) -> Statistics:
    """Count the records of an archive's index; see `Archive.statistics`."""
    statuses: Counter[str] = Counter()
    frames = file_bytes = 0
    largest: list[tuple[str, int]] = []
    slowest: list[tuple[str, float]] = []
    for record in archive.records(progress=progress):
        path = os.fsdecode(record.location)
        statuses[record.status.value] += 1
        file_bytes += 0 if record.member else record.size
        if record.status.has_frames:
            frames += record.number_of_frames
            largest = nlargest(
                _LARGEST, [*largest, (path, record.number_of_frames)], key=itemgetter(1)
            )
        slowest = nlargest(
            _LARGEST, [*slowest, (path, record.scan_microseconds / 1e6)], key=itemgetter(1)
        )
    return Statistics(
        statuses=dict(statuses),
        files=statuses.total(),
        instances=len(archive),
        frames=frames,
        file_bytes=file_bytes,
        index_bytes=archive.used_bytes(),
        largest=largest,
        slowest=slowest,
    )
