"""Decode the frames of an archive: which cannot be decoded, and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import MMIndexError
from mmindex.read.ahead import read_ahead
from mmindex.read.pixels import read_array

if TYPE_CHECKING:
    from mmindex.model import InstanceRecord
    from mmindex.read.archive import Archive

_AHEAD = 4  # files that wait for each thread


class Verified(NamedTuple):
    """One file whose frames were decoded.

    Attributes
    ----------
    path : bytes
        Relative to the archive's root.
    frames : int
        How many frames were decoded, or tried.
    failures : tuple of (int, str)
        Frame indices that cannot be decoded, and why; -1 where the file cannot be opened.
    """

    path: bytes
    frames: int
    failures: tuple[tuple[int, str], ...]


def verify_archive(
    archive: Archive,
    records: Iterable[InstanceRecord],
    *,
    sample: int | None = None,
    threads: int | None = None,
) -> Iterator[Verified]:
    """Yield each file once its frames are decoded, in the order in which they are done.

    Parameters
    ----------
    records : iterable of InstanceRecord
        Files with frames.
    sample : int, optional
        How many frames of a file at most, at even steps; all unless given.
    threads : int, optional
        How many decode at the same time; as many as there are cores unless given.
    """
    threads = threads or os.cpu_count() or 1
    waiting = iter(records)
    with ThreadPoolExecutor(threads) as executor:

        def submit(record: InstanceRecord) -> Future[Verified]:
            return executor.submit(verify_file, archive, record, sample)

        pending = set(map(submit, islice(waiting, threads * _AHEAD)))
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                pending |= set(map(submit, islice(waiting, len(done))))
        finally:
            for future in pending:
                future.cancel()


def verify_file(archive: Archive, record: InstanceRecord, sample: int | None) -> Verified:
    """Decode the frames of one file."""
    count = record.number_of_frames
    indices: Iterable[int] = range(count)
    if sample is not None and sample < count:
        indices = sorted({at * (count - 1) // max(1, sample - 1) for at in range(sample)})
    failures: list[tuple[int, str]] = []
    tried, is_remote = 0, archive.is_remote
    try:
        with archive.file(record.key) as instance:
            ahead = read_ahead([(instance, index) for index in indices]) if is_remote else None
            for position, frame_index in enumerate(indices):
                tried += 1
                try:
                    if ahead is not None:
                        ahead.array(position, raw=False, copy=True)
                    else:
                        read_array(instance, frame_index, raw=False, copy=True)
                except MMIndexError as error:
                    failures.append((frame_index, error.message))
    except MMIndexError as error:
        failures.append((-1, error.message))
    except OSError as error:  # of a disk, or a file that may not be read: the others are decoded
        failures.append((-1, error.strerror or str(error)))
    return Verified(record.location, tried, tuple(failures))
