"""The watch of an archive: a build, then an update for each burst of changes, until it is stopped.

The system reports changed paths (inotify, FSEvents); these are looked at as `update` does. A build
follows now and then, after reports that may have been lost, and after the root was
away. A file that is being written is left until its last change is `min_age` seconds ago; one that
was renamed into place is looked at at once.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import MissingDependencyError, MMIndexError
from mmindex.sources.base import WalkRules
from mmindex.sources.folder import identify_folder, match_index_files
from mmindex.update.attribute_values import check_attributes
from mmindex.update.build import build
from mmindex.update.guards import RemovalRefusedError, find_index, find_root, parse_limit
from mmindex.update.lost_reports import LostReports
from mmindex.update.report import BuildReport
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.single_files import UpdateOptions, update_files

if TYPE_CHECKING:
    from watchfiles import Change

_LONGEST_BURST, _STEP, _TICK = 200, 20, 200  # milliseconds
_MANY = 4096  # changes in a burst after which reports may have been lost
_SETTLES = 0.2  # seconds in which a new file shows whether it is being written
_LOOK_AGAIN = 0.5  # seconds until a new folder is looked at again: files may precede its watch
_RETRY, _LONGEST_RETRY = 1.0, 60.0  # seconds after a failure, doubled each time
_PART_BUILDING = 10  # times the length of a build until the next one, at least
_WAIT = 5.0  # seconds for another build or update
_MODIFIED = 2  # the value of watchfiles.Change; added is less, deleted is more
_UNDECODED = "\ufffd"  # in place of bytes of a name that are no text


class WatchEvent(NamedTuple):
    """Something that a watch did or met.

    Attributes
    ----------
    kind : str
        "build", "update", "failed" (will be tried again), "away" (the root), "stopped".
    report : BuildReport or None
        Of a build or an update.
    reason : str
        What failed or is away.
    """

    kind: str
    report: BuildReport | None = None
    reason: str = ""


class _StoppedError(Exception):
    """The watch was stopped during a build, which commits what is finished."""


class Watch:
    """A watch of an archive.

    Parameters
    ----------
    root, index : path
        As for `build`.
    log : callable
        Called with each WatchEvent.
    stop : threading.Event
        Set, it ends the watch.
    rules : WalkRules
        What is left out.
    containers, attributes
        As for `build`.
    min_age : float
        Seconds since its last change after which a file that is being written is looked at.
    rescan : float
        Seconds between builds.
    max_removed : int or str, optional
        As for `build`.

    Raises
    ------
    MissingDependencyError
        watchfiles is not installed.
    MissingFileError, IndexWriteError
        As for `build`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        index: str | os.PathLike[str] | None,
        log: Callable[[WatchEvent], None],
        stop: threading.Event,
        *,
        rules: WalkRules,
        containers: bool = True,
        attributes: str | Sequence[str] = (),
        min_age: float = 2.0,
        rescan: float = 3600.0,
        max_removed: int | str | None = None,
    ) -> None:
        try:
            import watchfiles
        except ImportError:
            raise MissingDependencyError(
                "watch needs watchfiles: pip install 'mmindex[watch]'"
            ) from None
        parse_limit(max_removed)
        check_attributes(attributes)
        self._watch_changes: Callable[..., Iterator[set[tuple[Change, str]]]] = watchfiles.watch
        self._root = find_root(root, one_file_system=rules.one_file_system)
        self._index = find_index(self._root, index)
        self._log = log
        self._stop = stop
        self._rules = rules
        self._containers = containers
        self._attributes = attributes
        self._min_age = min_age
        self._rescan = rescan
        self._max_removed = max_removed
        self._is_index_in = match_index_files(os.fsencode(self._index))
        self._due: dict[bytes, float] = {}  # when to look at a path, by the monotonic clock
        self._build_due = 0.0
        self._earliest_build = 0.0  # of those that lost reports make due
        self._not_before = 0.0
        self._retry = self._build_retry = _RETRY
        self._has_built = False
        self._build_seconds = 0.0  # of the last build
        self._has_begun = False  # whether the system has reported since the watch began

    def run(self) -> None:
        """Watch until `stop` is set."""
        while not self._stop.is_set():
            self._build_due = 0.0
            self._has_begun = False
            identity = identify_folder(self._root)
            try:
                if identity is not None:
                    self._watch(identity)
            except (OSError, RuntimeError) as error:  # of watchfiles
                self._log(WatchEvent("failed", reason=f"cannot watch the archive: {error}"))
                if self._has_begun:  # a name that is no text: the next watch begins with a build
                    self._stop.wait(min(max(self._build_seconds, _RETRY), _LONGEST_RETRY))
                    continue
                if identity == identify_folder(self._root):  # too many folders, say
                    self._build_unwatched()
                self._stop.wait(min(self._rescan, _LONGEST_RETRY))
            if not self._stop.is_set() and not self._is_back():
                self._log(WatchEvent("away", reason="the root is away; waiting for it"))
                while not self._stop.wait(_RETRY) and not self._is_back():
                    pass
        self._log(WatchEvent("stopped"))

    def _build_unwatched(self) -> None:
        """Build where the system reports no changes."""
        try:
            self._build()
        except _StoppedError:
            return
        except (MMIndexError, OSError) as error:
            self._log(WatchEvent("failed", reason=str(error)))

    def _is_back(self) -> bool:
        """Return whether the root is there, with its index if that was there."""
        return os.path.isdir(self._root) and (not self._has_built or os.path.exists(self._index))

    def _watch(self, identity: tuple[int, int]) -> None:
        """Take in changes until the root is another folder, or the watch is stopped."""
        with LostReports() as lost:
            for since, burst in _walk_bursts(self._begin()):  # the first one begins the watch
                if self._stop.is_set() or identify_folder(self._root) != identity:
                    return
                self._has_begun = True
                may_miss = lost.take(since, is_quiet=not burst)
                if not self._take(burst, may_miss=may_miss):
                    return

    def _begin(self) -> Iterator[set[tuple[Change, str]]]:
        """Return the bursts of changes that the system reports, now and then an empty one."""
        return self._watch_changes(
            os.fsdecode(self._root),
            watch_filter=self._is_wanted,
            debounce=_LONGEST_BURST,
            step=_STEP,
            rust_timeout=_TICK,
            stop_event=self._stop,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )

    def _take(self, burst: set[tuple[Change, str]], *, may_miss: bool) -> bool:
        """Take in a burst of changes; return whether to go on.

        Parameters
        ----------
        may_miss : bool
            Whether the system may have dropped reports.
        """
        for change, path in sorted(burst):
            self._note(int(change), path)
        if may_miss or len(burst) >= _MANY:
            self._build_due = min(self._build_due, self._earliest_build)
        now = time.monotonic()
        if now < self._not_before:
            return True
        try:
            self._catch_up(now)
            self._retry = _RETRY
        except _StoppedError:
            return False
        except (MMIndexError, OSError) as error:
            self._not_before = time.monotonic() + self._retry
            self._log(WatchEvent("failed", reason=str(error)))
            self._retry = min(2 * self._retry, _LONGEST_RETRY)
        return True

    def _is_wanted(self, change: object, path: str) -> bool:
        folder, name = os.path.split(os.fsencode(path))
        return not self._is_index_in(folder)(name) and not self._is_index_in(
            os.path.realpath(folder)
        )(name)

    def _note(self, change: int, path: str) -> None:
        """Note when to look at a path that changed."""
        while _UNDECODED in path:
            path = os.path.dirname(path)
        full_path = os.fsencode(path)
        now = time.monotonic()
        try:
            status = os.stat(full_path)
        except OSError:
            self._due[full_path] = now
            return
        if stat.S_ISDIR(status.st_mode):
            if change != _MODIFIED:
                self._due[full_path] = now
                self._due[os.path.join(full_path, b"")] = now + _LOOK_AGAIN
        elif change == _MODIFIED:
            self._due[full_path] = now + max(0.0, self._min_age - _age(status))
        elif status.st_ctime_ns > status.st_mtime_ns or _age(status) >= self._min_age:
            self._due[full_path] = now  # renamed into place, after its last write
        else:
            self._due[full_path] = now + min(_SETTLES, self._min_age)

    def _catch_up(self, now: float) -> None:
        """Build or update, if it is due."""
        if now >= self._build_due:
            try:
                self._build()
            except RemovalRefusedError as error:  # what is there was scanned
                self._log(WatchEvent("failed", reason=str(error)))
                ended = time.monotonic()
                wait = max(self._build_retry, _PART_BUILDING * (ended - now))
                self._build_due = ended + min(wait, self._rescan)
                self._build_retry = min(2 * self._build_retry, _LONGEST_RETRY)
            return
        due = [path for path, when in self._due.items() if when <= now]
        if not due:
            return
        known = set(due)
        scan = ScanOptions(containers=self._containers)
        options = UpdateOptions(
            _WAIT,
            scan,
            self._rules,
            0.0,
            self._max_removed,
            check_pages=False,
            arrived=[path for path in due if path[-1:] == b"/" and path[:-1] not in known],
        )
        try:
            report = update_files(os.fsdecode(self._root), due, self._index, options)
        except RemovalRefusedError as error:  # what is there was scanned
            self._put_off(due)
            self._log(WatchEvent("failed", reason=str(error)))
            return
        for path in due:
            del self._due[path]
        if report.scanned or report.removed or report.problem_count:
            self._log(WatchEvent("update", report))

    def _put_off(self, paths: list[bytes]) -> None:
        """Retry later what may be gone, and hold up nothing else."""
        later = time.monotonic() + _LONGEST_RETRY
        for path in paths:
            if os.path.isdir(path) or not os.path.lexists(path):
                self._due[path] = later
            else:
                del self._due[path]

    def _build(self) -> None:
        """Look at the whole archive."""
        started = time.monotonic()
        noted = set(self._due)
        report = build(
            os.fsdecode(self._root),
            self._index,
            exclude=self._rules.exclude,
            follow_links=self._rules.follow_links,
            one_file_system=self._rules.one_file_system,
            containers=self._containers,
            attributes=self._attributes,
            min_age=self._min_age,
            max_removed=self._max_removed,
            wait=_WAIT,
            progress=self._end_if_stopped,
        )
        for path in noted:
            if self._due[path] <= started:  # later ones may have changed after the build's look
                del self._due[path]
        self._has_built = True
        self._build_retry = _RETRY
        ended = time.monotonic()
        self._build_seconds = ended - started
        wait = self._rescan
        if report.postponed:  # no change may report these files any more
            wait = min(wait, max(self._min_age, _PART_BUILDING * report.seconds))
        self._build_due = ended + wait
        self._earliest_build = ended + _PART_BUILDING * (ended - started)
        self._log(WatchEvent("build", report))

    def _end_if_stopped(self, report: BuildReport) -> None:
        if self._stop.is_set():
            raise _StoppedError


def _walk_bursts(
    bursts: Iterator[set[tuple[Change, str]]],
) -> Iterator[tuple[float, set[tuple[Change, str]]]]:
    """Yield bursts of changes, each with the time when the wait for it began."""
    since = time.monotonic()
    for burst in bursts:
        yield since, burst
        since = time.monotonic()


def _age(status: os.stat_result) -> float:
    """Return how many seconds ago a file was last written to; 0 where that is in the future."""
    return max(0.0, time.time() - status.st_mtime)
