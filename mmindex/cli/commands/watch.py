"""`mmindex watch`: keep the index of an archive up to date while files come and go."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from mmindex.cli.amounts import Time
from mmindex.cli.build_options import (
    describe_report,
    index_option,
    log_option,
    refuse_no_folder,
    watch_options,
)
from mmindex.cli.endings import drop_unwritten_output
from mmindex.cli.log import now
from mmindex.cli.printing import counted, plain
from mmindex.model import is_url

if TYPE_CHECKING:
    from mmindex.update.watch import WatchEvent


@click.command("watch", short_help="Keep an index up to date while files come and go.")
@click.argument("root", type=click.Path())
@index_option
@click.option(
    "--rescan",
    metavar="MINUTES",
    type=Time(min_open=True),
    default=60.0,
    show_default=True,
    help="Minutes between full builds.",
)
@watch_options
@click.option(
    "--min-age",
    metavar="SECONDS",
    type=Time(),
    default=2.0,
    show_default=True,
    help="Skip files changed less than this ago.",
)
@log_option
@click.option("-q", "--quiet", is_flag=True, help="Log failures only.")
@click.option("-v", "--verbose", is_flag=True, help="Log the problems of each burst by name.")
def command(
    root: str,
    index: str | None,
    rescan: float,
    min_age: float,
    exclude: tuple[str, ...],
    follow_links: bool,
    containers: bool,
    one_file_system: bool,
    max_removed: str | None,
    attributes: str,
    log_format: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Build the index, then follow each change within a second, until SIGTERM.

    Files that are renamed into ROOT are served at once; those that are written in place when they
    are --min-age seconds old.

    \b
    mmindex watch /data/archive
    """  # noqa: D301
    from mmindex.sources.base import WalkRules
    from mmindex.update.watch import Watch

    refuse_no_folder(root)
    if is_url(root):
        raise click.UsageError(
            "a bucket reports no changes: run `mmindex build URL --index PATH` now and then, which "
            "costs the listing where nothing changed"
        )
    stop = threading.Event()
    write = _log_json if log_format == "json" else partial(_log_text, verbose=verbose)

    def log(event: WatchEvent) -> None:
        report = event.report
        went_wrong = report is None or report.problem_count > len(report.accepted)
        if not quiet or (went_wrong and event.kind != "stopped"):
            with _may_fail():
                write(event)

    watch = Watch(
        root,
        index,
        log,
        stop,
        rules=WalkRules(exclude, follow_links, one_file_system),
        containers=containers,
        attributes=attributes,
        min_age=min_age,
        rescan=60 * rescan,
        max_removed=max_removed,
    )
    before = {number: signal.signal(number, _setter(stop)) for number in _ENDINGS}
    try:
        watch.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        drop_unwritten_output()


@contextmanager
def _may_fail() -> Iterator[None]:
    """Go on where the log cannot be written, as on a full disk; not without a reader of a pipe."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass


_ENDINGS = signal.SIGTERM, signal.SIGINT


def _setter(stop: threading.Event) -> Callable[[int, object], None]:
    return lambda number, frame: stop.set()


def _log_text(event: WatchEvent, *, verbose: bool) -> None:
    report = event.report
    text = event.reason
    if report is not None:
        text = (
            f"{counted(report.scanned, 'file', grouped=True)} scanned, {report.removed:,} removed, "
            f"{counted(report.problem_count, 'problem', grouped=True)} in {report.seconds:.2f} s"
        )
    click.echo(plain(f"{now()} {event.kind}{': ' if text else ''}{text}"))
    if report is not None and verbose:
        for path, reason in report.problems:
            click.echo(plain(f"{now()} problem: {path}: {reason}"))


def _log_json(event: WatchEvent) -> None:
    line: dict[str, object] = {"time": now(), "event": event.kind}
    if event.reason:
        line["reason"] = event.reason
    if event.report is not None:
        line |= describe_report(event.report)
    click.echo(json.dumps(line))
