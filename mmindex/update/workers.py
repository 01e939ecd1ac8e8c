"""The processes that scan files: a pool of this module's, or an executor that was given.

A worker that dies costs the file that killed it, and no other: the files of its chunk are scanned
one by one.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from functools import partial
from typing import TYPE_CHECKING

from mmindex.index.record import pack_record
from mmindex.update.archive_root import ArchiveRoot
from mmindex.update.long_inflations import share_turn
from mmindex.update.scan_buffer import ScanOptions, unreadable
from mmindex.update.scan_file import SCANNED_TOGETHER, UNKNOWN, Target, path_of
from mmindex.update.scan_members import MemberTarget, pack_refused

if TYPE_CHECKING:
    from multiprocessing.synchronize import RLock as ProcessLock

_CHUNKS_AHEAD = 4  # submitted a worker before the first is done: a commit must not idle them


class Workers:
    """Scans chunks of files, and hands on their packed records.

    Parameters
    ----------
    root : ArchiveRoot
        The archive.
    options : ScanOptions
        What every scan is asked.
    take : callable
        Called in this process with the packed records of some files, often.
    """

    def __init__(
        self, root: ArchiveRoot, options: ScanOptions, take: Callable[[list[bytes]], None]
    ) -> None:
        self._root = root
        self._options = options
        self._mapping = options._replace(may_map=True)  # of workers, and where the caller says so
        self._take = take
        self._ending: threading.Thread | None = None

    def close(self) -> None:
        """Wait until the processes have ended: a build commits records meanwhile."""
        if self._ending is not None:
            self._ending.join()

    def scan(
        self, chunks: Iterator[list[Target]], workers: int | None, executor: Executor | None
    ) -> None:
        """Scan all chunks of files, in the executor as long as there is one that works."""
        is_asked = workers == 1
        workers = workers or _count_cores()
        left: Iterator[list[Target]] | None = chunks
        if executor is not None:
            left = self._scan_in(executor, chunks, _CHUNKS_AHEAD * workers)
        if left is None:
            return
        if self._root.threads:
            self._scan_in_threads(left, self._root.threads)
        else:
            self._scan_here_or_in_processes(left, workers, may_map=is_asked)

    def _scan_in_threads(self, chunks: Iterator[list[Target]], threads: int) -> None:
        """Scan objects in threads, a few in each."""
        few = (
            chunk[at : at + SCANNED_TOGETHER]
            for chunk in chunks
            for at in range(0, len(chunk), SCANNED_TOGETHER)
        )
        pool = ThreadPoolExecutor(threads, thread_name_prefix="mmindex-scan")
        try:
            self._scan_in(pool, few, _CHUNKS_AHEAD * threads)
        finally:
            pool.shutdown(cancel_futures=True)

    def _scan_here_or_in_processes(
        self, chunks: Iterator[list[Target]], workers: int, *, may_map: bool
    ) -> None:
        """Scan in this process, or in a pool where there is work for one."""
        first = list(itertools.islice(chunks, 1 if workers == 1 else 2))
        chunks = itertools.chain(first, chunks)
        if workers == 1 or len(first) < 2:
            options = self._options._replace(may_map=may_map)
            for chunk in chunks:
                self._take(self._root.scan(chunk, options))
            return
        remaining: Iterator[list[Target]] | None = chunks
        while remaining is not None:  # a pool whose worker died is of no use any more
            self.close()
            turn = multiprocessing.RLock()
            pool = ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(turn,))
            end = partial(pool.shutdown, cancel_futures=True)
            try:
                remaining = self._scan_in(pool, remaining, _CHUNKS_AHEAD * workers)
            finally:
                self._ending = threading.Thread(target=end, name="mmindex-end-of-pool")
                self._ending.start()

    def _scan_in(
        self, executor: Executor, chunks: Iterator[list[Target]], most_ahead: int
    ) -> Iterator[list[Target]] | None:
        """Scan chunks in an executor; return what is left of them if it breaks."""
        pending: dict[Future[list[bytes]], list[Target]] = {}
        failed: list[Target] = []
        broken = False
        try:
            for chunk in chunks:
                try:
                    pending[executor.submit(self._root.scan, chunk, self._mapping)] = chunk
                except Exception:  # whatever an executor raises that can do no more
                    failed += chunk
                    broken = True
                    break
                if len(pending) >= most_ahead:
                    failed += self._collect(pending, FIRST_COMPLETED)
            failed += self._abandon(pending) if broken else self._collect(pending, ALL_COMPLETED)
        except BaseException:
            for future in pending:
                future.cancel()
            raise
        self._scan_one_by_one(failed)
        return chunks if broken else None

    def _collect(self, pending: dict[Future[list[bytes]], list[Target]], when: str) -> list[Target]:
        """Take in the results that are there, and return the files of chunks that failed."""
        done = wait(pending, return_when=when).done
        return [file for future in done for file in self._take_result(future, pending.pop(future))]

    def _abandon(self, pending: dict[Future[list[bytes]], list[Target]]) -> list[Target]:
        """Take in what a broken executor has finished, and return the files of the other chunks."""
        for future in pending:
            future.cancel()
        return [file for future in pending for file in self._take_result(future, pending[future])]

    def _take_result(self, future: Future[list[bytes]], chunk: list[Target]) -> list[Target]:
        """Take in the result of a chunk; return its files if there is none."""
        if not future.done() or future.cancelled() or future.exception() is not None:
            return chunk
        self._take(future.result())
        return []

    def _scan_one_by_one(self, files: list[Target]) -> None:
        """Scan files of chunks whose worker died, so that only the file that killed it is lost."""
        if self._root.threads:  # no process dies of an object
            self._take(self._root.scan(files, self._options))
            return
        while files:
            with ProcessPoolExecutor(1, initializer=_begin_worker) as pool:
                while files:
                    file = files.pop()
                    try:
                        self._take(pool.submit(self._root.scan, [file], self._mapping).result())
                    except BrokenExecutor:
                        self._take([_pack_deadly(file)])
                        break


def _pack_deadly(file: Target) -> bytes:
    """Return the packed record of a file whose scan killed the process."""
    reason = "the process that scanned it died: killed, or out of memory"
    if isinstance(file, MemberTarget):
        return pack_refused(file, reason)
    return pack_record(unreadable("FormatError", reason), path_of(file), UNKNOWN)


def _begin_worker(turn: ProcessLock | None = None) -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
    share_turn(turn)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
