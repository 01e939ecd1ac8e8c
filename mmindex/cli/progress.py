"""One line on a terminal that says how far a build is. The total grows while the walk goes on."""

from __future__ import annotations

import shutil
import sys
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmindex import BuildReport

_EVERY = 0.1  # seconds between two looks of the line
_BAR_WIDTH = 24


class ProgressLine:
    """A line that is written over, and wiped when the `with` statement ends."""

    def __init__(self) -> None:
        self._started = monotonic()
        self._due = self._started
        self._shown = 0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._write("")
            sys.stderr.write("\r")
            sys.stderr.flush()

    def show(self, report: BuildReport) -> None:
        """Show a report, unless one was shown a moment ago."""
        now = monotonic()
        if now < self._due:
            return
        self._due = now + _EVERY
        columns = shutil.get_terminal_size().columns
        self._write(describe_progress(report, now - self._started)[: columns - 1])

    def _write(self, line: str) -> None:
        sys.stderr.write("\r" + line.ljust(self._shown))
        sys.stderr.flush()
        self._shown = len(line)


def describe_progress(report: BuildReport, seconds: float) -> str:
    """Return a bar, files done of those found so far, files a second, and the time left."""
    done = report.scanned + report.unchanged
    part = min(1.0, done / report.found) if report.found else 0.0
    bar = ("#" * int(part * _BAR_WIDTH)).ljust(_BAR_WIDTH, "-")
    line = f"[{bar}] {done} of {report.found} files"
    if not done or seconds <= 0:
        return line
    left = round(max(0, report.found - done) * seconds / done)
    minutes, left_seconds = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{line}, {done / seconds:.0f} files/s, {hours}:{minutes:02}:{left_seconds:02} left"
