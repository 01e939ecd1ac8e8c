"""Statistics of an archive, counted from its index alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from mmindex.frame_table import FrameTable, Layout

if TYPE_CHECKING:
    from mmindex.index.listing import Measures
    from mmindex.index.reader import Reader
    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress

_LARGEST = 5
_MOST_FRAMES_MEASURED = 100_000
_frames, _microseconds = itemgetter(1), itemgetter(2)  # of Measures


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


def count_archive(store: Reader, progress: Progress | None = None) -> Statistics:
    """Count what an index holds; see `Archive.statistics`."""
    counters = store.read_counters()
    done = 0
    largest: list[Measures] = []  # of equal ones, those that were indexed first
    slowest: list[Measures] = []
    for stretch in store.iterate_measures():
        largest = nlargest(_LARGEST, chain(largest, stretch), key=_frames)
        slowest = nlargest(_LARGEST, chain(slowest, stretch), key=_microseconds)
        done += len(stretch)
        if progress is not None:
            progress(done, counters.files)
    by_frames = [(file_id, frames) for file_id, frames, _ in largest if frames]
    by_time = [(file_id, microseconds) for file_id, _, microseconds in slowest]
    return Statistics(
        statuses={status.value: count for status, count in counters.statuses.items() if count},
        files=counters.files,
        instances=counters.instances,
        frames=counters.frames,
        file_bytes=counters.file_bytes,
        index_bytes=store.used_bytes(),
        largest=list(_find_paths(store, by_frames)),
        slowest=[(path, microseconds / 1e6) for path, microseconds in _find_paths(store, by_time)],
    )


def _find_paths(store: Reader, ranked: list[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Yield path and number of each file, but for those that a build has replaced meanwhile."""
    for file_id, number in ranked:
        record = store.read_record(file_id)
        if record is not None:
            yield os.fsdecode(record.location), number


def count_problems(archive: Archive) -> dict[tuple[str, bool], int]:
    """Return how many problems the index alone knows, by kind and whether they were accepted."""
    kinds = "unreadable", "duplicate"
    counts = {(kind, is_accepted): 0 for kind in kinds for is_accepted in (False, True)}
    for problem in archive.problems(kinds=kinds):
        counts[problem.kind, problem.accepted] += 1
    return counts


class FrameLengths(NamedTuple):
    """Least, median and greatest length of an instance's frames, in bytes."""

    min: int
    median: int
    max: int


def measure_frames(frames: FrameTable) -> FrameLengths | None:
    """Return the lengths of frames; None where there are too many, or each has to be read."""
    if frames.frame_bits:
        return FrameLengths(*[(frames.frame_bits + 7) // 8] * 3)
    if not 0 < frames.frames_located <= _MOST_FRAMES_MEASURED or frames.layout is Layout.TRUSTED:
        return None
    lengths = sorted(
        sum(piece.length for piece in frames.fragment_ranges(index))
        for index in range(frames.frames_located)
    )
    return FrameLengths(lengths[0], lengths[(len(lengths) - 1) // 2], lengths[-1])
