"""The report of a build or an update, which grows while files are scanned."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from mmindex.index.counters import Counters
from mmindex.model import Status
from mmindex.sources.requests import Request, watching

_PROBLEMS_KEPT = 1000
NAMES_KEPT = 1000


@dataclass(slots=True)
class BuildReport:
    """The report of a build or an update, finished or still running.

    Attributes
    ----------
    root, index : str
        The archive and its index file.
    found : int
        Files found so far.
    listing : bool
        Whether the folders are still being listed, so that `found` grows.
    unchanged, scanned, removed : int
        Files left as they were, scanned because they were new or changed, and dropped from
        the index because they are gone.
    postponed : int
        New and changed files that are younger than `min_age`, left for a later build.
    statuses : dict of str to int
        Files scanned, by status.
    frames : int
        Frames in the files scanned.
    problems : list of (str, str)
        Path and reason of what could not be read, the first thousand.
    problem_count : int
        Number of problems.
    accepted : set of str
        Paths of these problems that the user accepted.
    unreadable : int
        Files of the whole index that could not be read, in this build or an earlier one.
    duplicates : int
        SOP Instance UIDs that several files of the whole index have; 0 after an update.
    seconds : float
        Duration of the run.
    started : float
        Start of the run, in seconds since 1970.
    requests, received : int
        Requests to a store that this process made, and bytes of their answers.
    removed_paths : list of str
        Files that were dropped because they are gone, the first thousand.
    unknown_paths : list of str
        Paths given to an update that are neither in the archive nor in the index, the first
        thousand.
    totals : Counters or None
        What the whole index holds in the end; None before.
    """

    root: str
    index: str
    found: int = 0
    listing: bool = True
    unchanged: int = 0
    scanned: int = 0
    removed: int = 0
    postponed: int = 0
    statuses: dict[str, int] = field(default_factory=Counter)
    frames: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    problem_count: int = 0
    accepted: set[str] = field(default_factory=set)
    unreadable: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    started: float = field(default_factory=time.time)
    requests: int = 0
    received: int = 0
    removed_paths: list[str] = field(default_factory=list)
    unknown_paths: list[str] = field(default_factory=list)
    totals: Counters | None = None

    def add_problem(self, path: bytes, reason: str) -> None:
        """Count a problem, and keep it while there are few."""
        self.problem_count += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append((os.fsdecode(path), reason))

    def add_totals(self, totals: Counters) -> None:
        """Take what the whole index holds."""
        self.totals = totals
        self.unreadable = totals.statuses[Status.UNREADABLE]


@contextmanager
def counting_requests(report: BuildReport) -> Iterator[None]:
    """Count requests to stores and the bytes of their answers in a report."""
    lock = Lock()

    def count(request: Request) -> None:
        with lock:
            report.requests += 1
            report.received += request.length

    with watching(count):
        yield


Progress = Callable[[BuildReport], None]
