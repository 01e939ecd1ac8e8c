"""The build of an archive's index: walk -> plan -> scan -> commit.

The walk streams; what changed goes in chunks to an executor, never more than a few at once;
packed records come back and are committed in batches. Only this process writes LMDB.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack

from mmindex.index.build_notes import BuildNote
from mmindex.index.create import create_index, empty_older_index
from mmindex.index.lmdb.locks import only_writer
from mmindex.sources.folder import WalkRules
from mmindex.update.commits import Commits
from mmindex.update.containers import Containers
from mmindex.update.guards import check_removal, find_index, find_root, open_to_build, parse_limit
from mmindex.update.moves import require_index
from mmindex.update.plan import Plan
from mmindex.update.problems import forget_settled, mark_accepted
from mmindex.update.report import BuildReport, Progress
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.workers import Workers


def build(
    root: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    full: bool = False,
    prove: bool = True,
    force: bool = False,
    exclude: Sequence[str] = (),
    follow_links: bool = True,
    one_file_system: bool = False,
    containers: bool = True,
    ignore_inode: bool | None = None,
    moved_from: str | os.PathLike[str] | None = None,
    min_age: float = 0.0,
    max_removed: int | str | None = None,
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
    exclude : sequence of str
        Globs of files and folders that are left out: one with a slash is compared with the path in
        the archive, one without with the name. What an index knows of them is dropped.
    follow_links : bool
        Follow symbolic links.
    one_file_system : bool
        Leave out folders of other file systems than the root's.
    containers : bool
        Open tar and zip files: each file in them becomes a file of the archive, with a path like
        `study.zip!/a.dcm`. False drops what an index knows of them.
    ignore_inode : bool, optional
        Know files by size and modification time alone, where inodes do not last: on CIFS, exFAT and
        sshfs, and in an archive that rsync or `cp -a` writes anew. A file whose content is replaced
        by as many bytes under the same time is then not scanned again. The index keeps it for later
        builds, updates and readers; unless given, as the index has it, and False in a new one.
    moved_from : path, optional
        The archive's folder before it was moved or copied to `root`: takes over its index, which
        was moved, too, or is `index`. Files of the sizes and times that they had are not scanned.
    min_age : float
        Seconds since its last change after which a new or changed file is scanned. Younger ones
        are left for a later build.
    max_removed : int or str, optional
        How many files may be dropped because they are gone, or which percentage ("20%"). Unless
        given, none where the root is empty, and not over half of the files where these are over
        100.
    progress : callable, optional
        Called with the report so far, often.

    Returns
    -------
    BuildReport

    Raises
    ------
    MissingFileError
        There is no such folder, or `root` is an empty text; no index of the archive that was moved.
    IndexFormatError
        The index file is something else, or damaged.
    IndexWriteError
        The index cannot be written, belongs to another archive, or another build is at work; more
        files are gone than `max_removed` allows; /proc lies below the root; over half of the files
        of an archive that was moved are not in `root`.
    ValueError
        `max_removed` is neither a number nor a percentage.
    """
    started = time.monotonic()
    parse_limit(max_removed)
    root_bytes = find_root(root, one_file_system=one_file_system)
    index_path = find_index(root_bytes, index)
    report = BuildReport(os.fsdecode(root_bytes), index_path)
    show = progress or (lambda report: None)
    rules = WalkRules(tuple(exclude), follow_links, one_file_system)
    require_index(index_path, moved_from)
    create_index(index_path, root_bytes)
    with ExitStack() as stack:
        stack.enter_context(only_writer(index_path))
        empty_older_index(index_path)
        store = stack.enter_context(open_to_build(index_path, root_bytes, moved_from))
        known = store.count_files()
        if ignore_inode is None:
            ignore_inode = store.ignores_inode()
        options = ScanOptions(force, prove, containers, ignore_inode)
        moved_root = None if moved_from is None else root_bytes
        store.begin_build(ignore_inode=ignore_inode, root=moved_root)
        commits = Commits(store, report, show)
        plan = Plan(
            store,
            root_bytes,
            report,
            commits,
            full=full,
            options=options,
            rules=rules,
            min_age=min_age,
            renews=ignore_inode or moved_from is not None,
            progress=show,
        )
        opened = Containers(store, root_bytes, report, commits, options, plan.renewal)
        try:
            chunks = plan.walk_chunks()
            scans = Workers(root_bytes, options, opened.take)
            while not opened.is_done:
                scans.scan(opened.walk_round(chunks), workers, executor)
                opened.finish()
        finally:  # interrupted, it commits what is finished
            commits.commit()
        commits.remove(plan.find_shut())
        gone = plan.find_gone()
        check_removal(root_bytes, index_path, len(gone), known, max_removed)
        commits.remove(gone)
        report.add_totals(store.read_counters())
        report.duplicates = store.count_duplicates("instances")
        show(report)
        report.seconds = time.monotonic() - started
        note = BuildNote(time.time_ns(), int(report.seconds * 1000), ignore_inode)
        plan.skips.write(store, note, set(), [b""])
        forget_settled(store, root_bytes)
        mark_accepted(store, report)
    return report
