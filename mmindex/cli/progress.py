"""Progress of a command: a line on a terminal that is written over, else a plain line now and then.

There is no total, and so no bar and no time left, while the folders are still being listed.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from mmindex.cli.printing import counted, print_message, rounded_size
from mmindex.cli.requests_shown import RequestCounter
from mmindex.sources.requests import Request, watching

if TYPE_CHECKING:
    from mmindex import BuildReport
    from mmindex.cli.log import Log

_LINE_EVERY, _LOG_EVERY = 0.1, 10.0  # seconds
_BAR_WIDTH = 24


@contextmanager
def showing_progress(
    *, quiet: bool = False, log: Log | None = None
) -> Iterator[Callable[[BuildReport], None]]:
    """Yield what shows a report on standard error, for a `with` statement."""
    if log is not None and not quiet:
        yield log.show
        return
    if quiet:
        yield lambda report: None
        return
    if not sys.stderr.isatty():
        yield ProgressLog().show
        return
    line = ProgressLine()
    try:
        yield line.show
    finally:
        line.wipe()


@contextmanager
def showing_files(
    *, quiet: bool = False, noun: str = "file"
) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what shows how many files are done of all; None where no terminal shows it.

    Where results go through a pipe, whatever reads them may write to the same terminal.
    """
    if quiet or not sys.stderr.isatty() or stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        yield None
        return
    counter = RequestCounter()
    line = ProgressLine(noun=noun, counter=counter)
    try:
        with watching(counter.take):
            yield line.show_files
    finally:
        line.wipe()


@contextmanager
def showing_requests() -> Iterator[None]:
    """Show on a terminal how much was requested while something is opened."""
    if not sys.stderr.isatty():
        yield
        return
    counter, line = RequestCounter(), ProgressLine()

    def show(request: Request) -> None:
        counter.take(request)
        line.show_text(str(counter))

    with watching(show):
        try:
            yield
        finally:
            line.wipe()


class ProgressLog:
    """Plain lines, some seconds apart: for a file, a mail, the journal of a service."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._due = self._started + _LOG_EVERY

    def show(self, report: BuildReport) -> None:
        """Show a report, unless one was shown a while ago."""
        now = self._clock()
        if now >= self._due:
            self._due = now + _LOG_EVERY
            print_message(describe_progress(report, now - self._started))


class ProgressLine:
    """A line that is written over, and wiped in the end."""

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        noun: str = "file",
        counter: RequestCounter | None = None,
    ) -> None:
        self._clock = clock
        self._noun = noun
        self._counter = counter
        self._started = clock()
        self._due = self._started
        self._shown = 0

    def show(self, report: BuildReport) -> None:
        """Show a report, unless one was shown a moment ago."""
        now = self._clock()
        if self._is_due(now):
            line = describe_progress(report, now - self._started)
            if not report.listing:
                line = f"[{_draw_bar(_done(report), report.found)}] {line}"
            self._write(line[: shutil.get_terminal_size().columns - 1])

    def show_files(self, done: int, total: int) -> None:
        """Show how many files are done, unless that was shown a moment ago."""
        now = self._clock()
        if self._is_due(now):
            line = describe_files(done, total, now - self._started, self._noun)
            line = f"[{_draw_bar(done, total)}] {line}"
            if self._counter is not None and self._counter.requests:
                line += f", {self._counter}"
            self._write(line[: shutil.get_terminal_size().columns - 1])

    def show_text(self, text: str) -> None:
        """Show a text, unless one was shown a moment ago."""
        if self._is_due(self._clock()):
            self._write(text[: shutil.get_terminal_size().columns - 1])

    def _is_due(self, now: float) -> bool:
        if now < self._due:
            return False
        self._due = now + _LINE_EVERY
        return True

    def wipe(self) -> None:
        """Leave an empty line, and the cursor at its start."""
        if self._shown:
            width = shutil.get_terminal_size().columns - 1
            self._shown = min(self._shown + len("^C"), width)  # a terminal shows it behind the line
            self._write("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def _write(self, line: str) -> None:
        sys.stderr.write("\r" + line.ljust(self._shown))
        sys.stderr.flush()
        self._shown = len(line)


def _draw_bar(done: int, total: int) -> str:
    part = min(1.0, done / total) if total else 0.0
    return ("#" * int(part * _BAR_WIDTH)).ljust(_BAR_WIDTH, "-")


def describe_files(done: int, total: int, seconds: float, noun: str = "file") -> str:
    """Return files, or what else is counted, done of all, a second, and the time left."""
    parts = [f"{done:,} of {counted(total, noun, grouped=True)}"]
    if done and seconds > 0:
        parts.append(f"{done / seconds:,.0f} {noun}s/s")
        parts.append(f"{_clock_time(max(0, total - done) * seconds / done)} left")
    return ", ".join(parts)


def describe_progress(report: BuildReport, seconds: float) -> str:
    """Return files done of those found, files a second, the time left, frames and problems."""
    done = _done(report)
    found = (
        f"{report.found:,}+ files"
        if report.listing
        else counted(report.found, "file", grouped=True)
    )
    parts = [f"{done:,} of {found}"]
    if done and seconds > 0:
        parts.append(f"{done / seconds:,.0f} files/s")
        if not report.listing:
            parts.append(f"{_clock_time(max(0, report.found - done) * seconds / done)} left")
    if report.frames:
        parts.append(counted(report.frames, "frame", grouped=True))
    if report.requests:
        parts.append(describe_requests(report))
    if report.problem_count:
        parts.append(counted(report.problem_count, "problem", grouped=True))
    return ", ".join(parts)


def describe_requests(report: BuildReport) -> str:
    """Return how many requests a report counts, and the bytes of their answers."""
    requests = counted(report.requests, "request", grouped=True)
    return f"{requests}, {rounded_size(report.received)}"


def _done(report: BuildReport) -> int:
    return report.scanned + report.unchanged


def _clock_time(seconds: float) -> str:
    minutes, left_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left_seconds:02}"
