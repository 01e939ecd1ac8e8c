"""The log of build, update and watch as JSON: an object a line, each with its time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

import click
from click.exceptions import Exit

from mmindex.cli.printing import FAILED
from mmindex.errors import MMIndexError

if TYPE_CHECKING:
    from mmindex import BuildReport

_EVERY = 10.0  # seconds between two lines of progress


def describe_time(seconds: float) -> str:
    """Return a time, in seconds since 1970, as ISO 8601 has it, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def show_time(seconds: float) -> str:
    """Return a time for people at a terminal: to the second, UTC. Programs get ISO 8601."""
    if not sys.stdout.isatty():
        return describe_time(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def now() -> str:
    """Return the time as `describe_time` does."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Log:
    """Writes JSON objects to standard error, one a line."""

    def __init__(self) -> None:
        self._due = monotonic() + _EVERY

    def write(self, event: str, **values: object) -> None:
        """Write what happened, with the time."""
        click.echo(json.dumps({"time": now(), "event": event, **values}), err=True)

    def show(self, report: BuildReport) -> None:
        """Write how far a build is, unless that was written a while ago."""
        if monotonic() < self._due:
            return
        self._due = monotonic() + _EVERY
        self.write(
            "progress",
            found=report.found,
            listing=report.listing,
            scanned=report.scanned,
            unchanged=report.unchanged,
            frames=report.frames,
            problem_count=report.problem_count,
            requests=report.requests,
            received=report.received,
        )


@contextmanager
def logging_errors(log: Log | None) -> Iterator[None]:
    """Write an error to the log, where there is one, and exit with 1."""
    try:
        yield
    except MMIndexError as error:
        if log is None:
            raise
        log.write("failed", reason=str(error))
        raise Exit(FAILED) from None
