"""The build of an archive's index: walk -> plan -> scan -> commit.

The walk streams; what changed goes in chunks to an executor, never more than a few at once;
packed records come back and are committed in batches. Only this process writes LMDB.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from mmindex.errors import IndexWriteError, MissingFileError
from mmindex.index.batch_writer import BatchWriter
from mmindex.index.build_notes import BuildNote, BuildProblem
from mmindex.index.create import create_index, empty_older_index
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.record import pack_record, unpack_count, unpack_record
from mmindex.index.store import Store
from mmindex.model import INDEX_NAME, Fingerprint, InstanceRecord, Status
from mmindex.sources.base import FoundFile, Skipped
from mmindex.sources.folder import walk_archive
from mmindex.update.scan_file import ScanOptions, scan_files

_LOOKED_UP = 512  # files a transaction when the index is asked which are known
_CHUNK_FILES, _CHUNK_BYTES = 256, 1 << 25  # scanned by a worker at once
_COMMIT_FILES, _COMMIT_BYTES, _COMMIT_SECONDS = 4000, 1 << 24, 5.0
_CHUNKS_AHEAD = 4  # submitted a worker before the first is done: a commit must not idle them
_PROBLEMS_KEPT = 1000


@dataclass(slots=True)
class BuildReport:
    """What a build did, or has done so far.

    Attributes
    ----------
    root, index : str
        The archive and its index file.
    found : int
        Files met.
    listing : bool
        Whether the folders are still being listed, so that `found` grows.
    unchanged, scanned, removed : int
        Files left as they were, scanned because they were new or changed, and dropped from
        the index because they are gone.
    statuses : dict of str to int
        Files scanned, by status.
    frames : int
        Frames in the files scanned.
    problems : list of (str, str)
        Path and reason of what could not be read, the first thousand.
    problem_count : int
        How many there were.
    unreadable : int
        Files of the whole index that could not be read, in this build or an earlier one.
    duplicates : int
        SOP Instance UIDs that several files of the whole index have.
    seconds : float
        How long it took.
    """

    root: str
    index: str
    found: int = 0
    listing: bool = True
    unchanged: int = 0
    scanned: int = 0
    removed: int = 0
    statuses: dict[str, int] = field(default_factory=Counter)
    frames: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    problem_count: int = 0
    unreadable: int = 0
    duplicates: int = 0
    seconds: float = 0.0

    def add_problem(self, path: bytes, reason: str) -> None:
        """Count a problem, and keep it while there are few."""
        self.problem_count += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append((os.fsdecode(path), reason))


Progress = Callable[[BuildReport], None]


def build(
    root: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    full: bool = False,
    prove: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> BuildReport:
    """Build or update the index of an archive: scan what is new or changed, drop what is gone.

    Parameters
    ----------
    root : path
        The archive's folder.
    index : path, optional
        The index file; `.mmindex` in `root` unless given.
    workers : int, optional
        Processes that scan, as many as the machine has cores unless given; 1 scans in this one.
    executor : concurrent.futures.Executor, optional
        Scans instead: processes, threads, Dask's `Client.get_executor()`, MPI. Its workers have
        to see the archive under the same path.
    full : bool
        Scan unchanged files, too.
    prove : bool
        Look at every entry of an offset table. False looks at the first, the last and some between:
        a slide then costs a handful of page reads. A frame whose entry is wrong raises FormatError
        when the frame is read.
    force : bool
        Accept files without preamble and File Meta Information (PS3.10 7.1); those that an earlier
        build took for something else are scanned again.
    progress : callable, optional
        Called with the report so far, often.

    Returns
    -------
    BuildReport

    Raises
    ------
    MissingFileError
        There is no such folder.
    IndexFormatError
        The index file is something else, or damaged.
    IndexWriteError
        The index cannot be written, belongs to another archive, or another build is at work.
    """
    started = time.monotonic()
    root_bytes = os.path.join(os.getcwdb(), os.fsencode(root))
    if not os.path.isdir(root_bytes):
        raise MissingFileError("there is no such folder", path=os.fsdecode(root_bytes))
    if index is None:
        index = os.path.join(os.fsdecode(root_bytes), INDEX_NAME)
    index_path = os.path.realpath(index)
    report = BuildReport(os.fsdecode(root_bytes), index_path)
    create_index(index_path, root_bytes)
    with ExitStack() as stack:
        stack.enter_context(only_writer(index_path))
        empty_older_index(index_path)
        store = stack.enter_context(closing(Store(index_path, root=root_bytes)))
        if os.path.realpath(store.root) != os.path.realpath(root_bytes):
            raise IndexWriteError(
                f"the index is that of {os.fsdecode(store.root)}: give another one for "
                f"{report.root}",
                path=index_path,
            )
        options = ScanOptions(force, prove)
        _Build(store, root_bytes, report, full, options, progress).run(workers, executor)
        report.seconds = time.monotonic() - started
        problems = [BuildProblem(os.fsencode(path), reason) for path, reason in report.problems]
        store.write_build(BuildNote(time.time_ns(), int(report.seconds * 1000)), problems)
    return report


class _Build:
    """One run of a build."""

    def __init__(
        self,
        store: Store,
        root: bytes,
        report: BuildReport,
        full: bool,
        options: ScanOptions,
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._root = root
        self._report = report
        # Known files that are scanned again though they did not change.
        self._rescanned: Container[int] = ()
        if full:
            self._rescanned = range(store.next_file_id())
        elif options.force:
            self._rescanned = frozenset(store.find_unscanned(Status.NOT_DICOM))
        self._options = options
        self._progress = progress or (lambda report: None)
        self._seen = bytearray(store.next_file_id())  # one byte a file id
        self._hidden: list[bytes] = []  # where files may be that were not met
        self._writer = BatchWriter(
            store,
            most_files=_COMMIT_FILES,
            most_bytes=_COMMIT_BYTES,
            most_seconds=_COMMIT_SECONDS,
        )

    def run(self, workers: int | None, executor: Executor | None) -> None:
        """Walk, scan, commit, and drop what is gone. Interrupted, it commits what is finished."""
        chunks = self._plan()
        try:
            workers = workers or _count_cores()
            left: Iterator[list[bytes]] | None = chunks
            if executor is not None:
                left = self._scan_in(executor, chunks, _CHUNKS_AHEAD * workers)
            if left is not None:
                self._scan_here_or_in_processes(left, workers)
        finally:
            self._writer.commit()
        self._remove_unseen()
        self._report.unreadable = len(self._store.find_unscanned(Status.UNREADABLE))
        self._report.duplicates = self._store.count_duplicates("instances")
        self._progress(self._report)

    def _plan(self) -> Iterator[list[bytes]]:
        """Yield the paths of new and changed files, in chunks."""
        chunk: list[bytes] = []
        chunk_bytes = 0
        for file in self._walk_changed():
            chunk.append(file.path)
            chunk_bytes += file.fingerprint.size
            if len(chunk) == _CHUNK_FILES or chunk_bytes >= _CHUNK_BYTES:
                yield chunk
                chunk, chunk_bytes = [], 0
        if chunk:
            yield chunk

    def _walk_changed(self) -> Iterator[FoundFile]:
        """Yield new and changed files as the walk meets them; mark the known ones as seen."""
        files: list[FoundFile] = []
        for found in walk_archive(self._root, os.fsencode(self._store.path)):
            if isinstance(found, Skipped):
                self._report.add_problem(found.path, found.reason)
                if found.may_hide:
                    self._hidden.append(found.path)
                continue
            files.append(found)
            if len(files) == _LOOKED_UP:
                yield from self._select_changed(files)
                files = []
        changed = self._select_changed(files)
        self._report.listing = False
        yield from changed

    def _select_changed(self, files: list[FoundFile]) -> list[FoundFile]:
        """Return the files that are to be scanned, counting the others."""
        self._report.found += len(files)
        changed = []
        known_files = self._store.find_paths([file.path for file in files])
        for file, known in zip(files, known_files, strict=True):
            if known is not None:
                file_id, fingerprint = known
                if file_id < len(self._seen):  # as it is in every index that is whole
                    self._seen[file_id] = 1
                if fingerprint == file.fingerprint and file_id not in self._rescanned:
                    continue
            changed.append(file)
        self._report.unchanged += len(files) - len(changed)
        self._progress(self._report)
        return changed

    def _scan_here_or_in_processes(self, chunks: Iterator[list[bytes]], workers: int) -> None:
        """Scan in this process, or in a pool where there is work for one."""
        first = list(itertools.islice(chunks, 1 if workers == 1 else 2))
        chunks = itertools.chain(first, chunks)
        if workers == 1 or len(first) < 2:
            for chunk in chunks:
                self._take(scan_files(self._root, chunk, self._options))
            return
        remaining: Iterator[list[bytes]] | None = chunks
        while remaining is not None:  # a pool whose worker died is of no use any more
            pool = ProcessPoolExecutor(workers, initializer=_begin_worker)
            try:
                remaining = self._scan_in(pool, remaining, _CHUNKS_AHEAD * workers)
            finally:
                pool.shutdown(cancel_futures=True)

    def _scan_in(
        self, executor: Executor, chunks: Iterator[list[bytes]], most_ahead: int
    ) -> Iterator[list[bytes]] | None:
        """Scan chunks in an executor; return what is left of them if it breaks."""
        pending: dict[Future[list[bytes]], list[bytes]] = {}
        failed: list[bytes] = []
        broken = False
        try:
            for chunk in chunks:
                try:
                    pending[executor.submit(scan_files, self._root, chunk, self._options)] = chunk
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

    def _collect(self, pending: dict[Future[list[bytes]], list[bytes]], when: str) -> list[bytes]:
        """Take in the results that are there, and return the paths of chunks that failed."""
        done = wait(pending, return_when=when).done
        return [path for future in done for path in self._take_result(future, pending.pop(future))]

    def _abandon(self, pending: dict[Future[list[bytes]], list[bytes]]) -> list[bytes]:
        """Take in what a broken executor has finished, and return the paths of the other chunks."""
        for future in pending:
            future.cancel()
        return [path for future in pending for path in self._take_result(future, pending[future])]

    def _take_result(self, future: Future[list[bytes]], chunk: list[bytes]) -> list[bytes]:
        """Take in the result of a chunk; return its paths if there is none."""
        if not future.done() or future.cancelled() or future.exception() is not None:
            return chunk
        self._take(future.result())
        return []

    def _scan_one_by_one(self, paths: list[bytes]) -> None:
        """Scan files of chunks whose worker died, so that only the file that killed it is lost."""
        while paths:
            with ProcessPoolExecutor(1, initializer=_begin_worker) as pool:
                while paths:
                    path = paths.pop()
                    try:
                        self._take(
                            pool.submit(scan_files, self._root, [path], self._options).result()
                        )
                    except BrokenExecutor:
                        record = InstanceRecord(
                            Status.UNREADABLE,
                            path=path,
                            fingerprint=Fingerprint(0, 0, 0),
                            error="FormatError",
                            reason="the process that scanned it died: killed, or out of memory",
                        )
                        self._take([pack_record(record)])
                        break

    def _take(self, packed_records: list[bytes]) -> None:
        """Count records, and commit when there are enough of them."""
        report = self._report
        for packed in packed_records:
            status, number_of_frames = unpack_count(packed)
            report.scanned += 1
            report.statuses[status.value] += 1
            report.frames += number_of_frames
            if status is Status.UNREADABLE:
                record = unpack_record(packed)
                report.add_problem(record.path, record.reason)
        self._writer.add(packed_records)
        self._progress(report)

    def _remove_unseen(self) -> None:
        """Drop the files that the walk did not meet, unless it could not look where they are."""
        gone = self._store.find_unseen(self._seen)
        if self._hidden:
            gone = [file_id for file_id in gone if not self._may_be_hidden(file_id)]
        for at in range(0, len(gone), _COMMIT_FILES):
            self._store.replace([], removed=gone[at : at + _COMMIT_FILES])
        self._report.removed += len(gone)

    def _may_be_hidden(self, file_id: int) -> bool:
        record = self._store.read_record(file_id)
        path = b"" if record is None else record.path
        return any(
            hidden in (b"", path) or path.startswith(hidden + b"/") for hidden in self._hidden
        )


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it does."""
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
