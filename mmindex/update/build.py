"""The build of an archive's index: walk -> plan -> scan -> commit.

The walk streams; what changed goes in chunks to an executor, never more than a few at once;
packed records come back and are committed in batches. Only this process writes LMDB.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, closing

from mmindex.index.build_notes import BuildNote
from mmindex.index.create import create_index, older_emptied
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.problem_notes import EVERYWHERE
from mmindex.sources.base import WalkRules
from mmindex.update.archive_root import find_archive
from mmindex.update.attribute_values import check_attributes
from mmindex.update.attributes import fill_attributes, find_attributes
from mmindex.update.commits import Commits
from mmindex.update.containers import Containers
from mmindex.update.guards import (
    find_index,
    find_refusal,
    open_to_build,
    parse_limit,
)
from mmindex.update.moves import is_copy, refuse_move_of_url, require_index
from mmindex.update.plan import Plan
from mmindex.update.problems import forget_settled, mark_accepted
from mmindex.update.report import BuildReport, Progress, counting_requests
from mmindex.update.scan_buffer import ScanOptions, decide_prove
from mmindex.update.workers import Workers


def build(
    root: str | os.PathLike[str],
    index: str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    full: bool = False,
    prove: bool | None = None,
    force: bool = False,
    exclude: Sequence[str] = (),
    follow_links: bool = True,
    one_file_system: bool = False,
    containers: bool = True,
    attributes: str | Sequence[str] = (),
    ignore_inode: bool | None = None,
    moved_from: str | os.PathLike[str] | None = None,
    min_age: float = 0.0,
    max_removed: int | str | None = None,
    wait: float = 10.0,
    store: object = None,
    concurrency: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Build or update the index of an archive: scan what is new or changed, drop what is gone.

    Parameters
    ----------
    root : path or URL
        The archive's folder; or a bucket, or what lies below a prefix of one: s3, gs, az. The
        index keeps the URL without a user's name and password.
    index : path, optional
        The index file; `.mmindex` in `root` unless given, which it has to be for a URL.
    workers : int, optional
        Processes that scan, as many as the machine has cores unless given; 1 scans in this one,
        which a file that is cut during its scan may end.
        Of a URL see `concurrency`.
    executor : concurrent.futures.Executor, optional
        Scans instead: processes, threads, Dask's `Client.get_executor()`, MPI. Its workers have
        to see the archive under the same path or URL; processes that are forked cannot use obstore.
    full : bool
        Scan unchanged files, too.
    prove : bool, optional
        Check every entry of an offset table. False checks the first, the last and some between:
        a slide then costs a handful of page reads, or some requests. The index keeps which tables
        were not proved: each read of a frame checks the entry, and raises FormatError where the
        entry is wrong. True unless given, but False for a URL, where proving a table means to read
        all of the object.
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
    attributes : str or sequence of str
        What the index keeps of each study and series, which identifies people: "qido", the
        attributes that queries return (PS3.18 10.6.3), keywords or tags. The index notes which,
        and later builds and updates follow; another set is read from one header a study and a
        series. "none" drops what is kept. Unless given, as the index has it, and none in a new one.
    ignore_inode : bool, optional
        Compare size and modification time, not inodes, where these do not last: on CIFS, exFAT and
        sshfs, and in an archive that rsync or `cp -a` rewrites. A file whose content is replaced
        by as many bytes under the same time is then not scanned again. The index keeps it for later
        builds, updates and readers; unless given, as the index has it, and False in a new one.
    moved_from : path, optional
        The archive's folder before it was moved or copied to `root`: takes over its index, which
        was moved, too, or is `index`. Files of the sizes and times that they had are not scanned.
        A copy that brought its index is recognised without this, before any update of it. A file
        that changed after the copy, under the size and time that it had, is not noticed.
    min_age : float
        Seconds since its last change after which a new or changed file is scanned. Younger ones
        are left for a later build.
    max_removed : int or str, optional
        How many files may be dropped because they are gone, or which percentage ("20%"). Unless
        given, none where the root is empty; else any number up to 100, and more up to half of all
        files.
    wait : float
        Seconds to wait while another build or update writes the index.
    store : obstore store, optional
        Where the objects of a URL are; made of the URL and the environment unless given.
    concurrency : int, optional
        Objects of a URL that are scanned at once, by threads of this process, or of each worker of
        `executor`; 64 unless given.
    progress : callable, optional
        Called with the report so far, often.

    Returns
    -------
    BuildReport

    Raises
    ------
    MissingFileError
        There is no such folder, or `root` is an empty text; the URL is that of an object; no index
        of the archive that was moved.
    IndexFormatError
        The index file is something else, or damaged.
    IndexWriteError
        The index cannot be written, belongs to another archive, or another build was at work all
        the time; more files are gone than `max_removed` allows; /proc lies below the root; over
        half of the files of an archive that was moved are not in `root`.
    RemoteReadError
        The store gives no listing, as no web server does. An object that cannot be read is a
        problem of the index; the next build looks at it again.
    MissingDependencyError
        The root is a URL, and obstore is not installed.
    ValueError
        `max_removed` is neither a number nor a percentage; an attribute is unknown, or cannot be
        kept; an argument has no meaning for the root; the root is a URL with a query, or comes
        without an index.
    """
    started = time.monotonic()
    parse_limit(max_removed)
    check_attributes(attributes)
    rules = WalkRules(tuple(exclude), follow_links, one_file_system)
    archive = find_archive(root, rules, store, concurrency)
    refuse_move_of_url(archive.path, ignore_inode=ignore_inode, moved_from=moved_from)
    index_path = find_index(archive.path, index)
    report = BuildReport(archive.name, index_path)
    show = progress or (lambda report: None)
    require_index(index_path, moved_from)
    create_index(index_path, archive.path)
    with ExitStack() as stack:
        stack.enter_context(counting_requests(report))
        stack.enter_context(only_writer(index_path, wait))
        stack.enter_context(older_emptied(index_path))
        index_store = stack.enter_context(open_to_build(index_path, archive.path, moved_from))
        known = index_store.count_files()
        kept, wanted = find_attributes(index_store, attributes)
        if ignore_inode is None:
            ignore_inode = index_store.ignores_inode()
        proves = decide_prove(prove, root)
        options = ScanOptions(force, proves, containers, ignore_inode, kept)
        moved_root = None if moved_from is None else archive.path
        index_store.begin_build(ignore_inode=ignore_inode, root=moved_root)
        is_moved = moved_from is not None or (
            not (full or ignore_inode) and is_copy(index_store, archive, options)
        )
        commits = Commits(index_store, report, show)
        plan = Plan(
            index_store,
            archive,
            report,
            commits,
            full=full,
            options=options,
            min_age=min_age,
            is_moved=is_moved,
            progress=show,
        )
        opened = Containers(index_store, archive, report, commits, options, plan.renewal)
        try:
            chunks = plan.walk_chunks()
            scans = stack.enter_context(closing(Workers(archive, options, opened.take)))
            while not opened.is_done:
                scans.scan(opened.walk_round(chunks), workers, executor)
                opened.finish()
        finally:  # interrupted, it commits what is finished
            commits.commit()
        commits.remove(plan.find_shut())
        gone = sorted({*plan.find_gone(), *opened.find_vanished()})
        refusal = find_refusal(archive.files, index_path, len(gone), known, max_removed)
        if refusal is None:
            commits.remove(gone)
        filling = options._replace(attributes=wanted if refusal is None else kept)
        fill_attributes(index_store, archive, filling, show=lambda: show(report))
        if refusal is not None:
            raise refusal
        report.add_totals(index_store.read_counters())
        report.duplicates = index_store.count_duplicates("instances")
        show(report)
        report.seconds = time.monotonic() - started
        note = BuildNote(time.time_ns(), int(report.seconds * 1000), ignore_inode)
        plan.skips.write(index_store, note, EVERYWHERE)
        forget_settled(index_store, archive)
        mark_accepted(index_store, report)
    return report
