"""What build, update and watch share: the options of a walk, and how a report is printed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mmindex.cli.printing import counted, plain, print_json, print_message

if TYPE_CHECKING:
    from mmindex import BuildReport

Command = TypeVar("Command", bound=Callable[..., Any])

_PROBLEMS_PRINTED = 20


def _check_limit(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from mmindex.update.guards import parse_limit

    try:
        parse_limit(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


_WALK_OPTIONS = (
    click.option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        help="Leave out this name, or with a slash this path in ROOT.",
    ),
    click.option(
        "--no-follow-links",
        "follow_links",
        is_flag=True,
        default=True,
        flag_value=False,
        help="Leave out symbolic links.",
    ),
    click.option(
        "--no-containers",
        "containers",
        is_flag=True,
        default=True,
        flag_value=False,
        help="Open no tar and zip files.",
    ),
    click.option(
        "--one-file-system", is_flag=True, help="Leave out folders of other file systems."
    ),
    click.option(
        "--max-removed",
        metavar="N|N%",
        callback=_check_limit,
        help="How many files may be gone; unless given, half.",
    ),
)
_MIN_AGE = click.option(
    "--min-age",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Leave files that changed less long ago.",
)


index_option = click.option(
    "--index",
    metavar="PATH",
    type=click.Path(),
    help="The index file; .mmindex in ROOT unless given.",
)


def walk_options(command: Command) -> Command:
    """Add the options of a walk, which have the names of the library's arguments."""
    for option in reversed((*_WALK_OPTIONS, _MIN_AGE)):
        command = option(command)
    return command


def watch_options(command: Command) -> Command:
    """Add the options of a walk but `--min-age`, which has another default there."""
    for option in reversed(_WALK_OPTIONS):
        command = option(command)
    return command


def refuse_no_folder(root: str) -> None:
    """Raise UsageError for the empty text, which a script gives whose variable is not set."""
    if not root:
        raise click.UsageError("ROOT is empty: name the archive's folder")


def print_report(
    report: BuildReport, *, as_json: bool, quiet: bool = False, verbose: bool = False
) -> None:
    """Print problems on standard error, and the report on standard output unless `quiet`."""
    printed = report.problems if verbose else report.problems[:_PROBLEMS_PRINTED]
    for path, reason in printed:
        print_message(f"{path}: {reason}")
    if report.problem_count > len(printed):
        print_message(f"and {counted(report.problem_count - len(printed), 'more problem')}")
    if as_json:
        print_json(describe_report(report))
    elif not quiet:
        _print_summary(report)


def _print_summary(report: BuildReport) -> None:
    statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(report.statuses.items()))
    click.echo(f"Index: {plain(report.index)}")
    click.echo(
        f"{counted(report.found, 'file', grouped=True)} in {report.seconds:.1f} s: "
        f"{report.scanned:,} scanned, {report.unchanged:,} unchanged, {report.removed:,} removed"
    )
    if report.scanned:
        click.echo(f"Scanned: {statuses}; {counted(report.frames, 'frame', grouped=True)}")
    if report.postponed:
        click.echo(f"{counted(report.postponed, 'file', grouped=True)} too young: left for later")
    if report.problem_count:
        click.echo(counted(report.problem_count, "problem"))
    if report.unreadable:
        files = counted(report.unreadable, "file")
        click.echo(f"{files} of the index cannot be read: `mmindex check` says why")
    if report.duplicates:
        uids = counted(report.duplicates, "SOP Instance UID", grouped=True)
        verb = "is" if report.duplicates == 1 else "are"
        click.echo(f"{uids} {verb} in several files: `mmindex check` lists them")


def describe_report(report: BuildReport) -> dict[str, object]:
    """Return a report as JSON has it."""
    return {
        "root": report.root,
        "index": report.index,
        "found": report.found,
        "unchanged": report.unchanged,
        "scanned": report.scanned,
        "removed": report.removed,
        "postponed": report.postponed,
        "statuses": dict(report.statuses),
        "frames": report.frames,
        "problems": [{"path": path, "reason": reason} for path, reason in report.problems],
        "problem_count": report.problem_count,
        "unreadable": report.unreadable,
        "duplicates": report.duplicates,
        "seconds": round(report.seconds, 3),
    }
