"""Options of a walk and the printed report, shared by build, update and watch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mmindex.cli.amounts import Count, Time
from mmindex.cli.log import Log, describe_time
from mmindex.cli.printing import counted, plain, print_json, print_message
from mmindex.cli.progress import describe_requests
from mmindex.cli.source_argument import require_plain
from mmindex.cli.suggestions import NearChoice
from mmindex.errors import IndexWriteError
from mmindex.model import INDEX_NAME, is_url

if TYPE_CHECKING:
    from mmindex import BuildReport
    from mmindex.index.counters import Counters

Command = TypeVar("Command", bound=Callable[..., Any])

_PROBLEMS_PRINTED = 20


def _check_limit(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from mmindex.update.guards import parse_limit

    try:
        parse_limit(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _check_attributes(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if value is None:
        return ""
    from mmindex.update.attribute_values import parse_attributes

    try:
        parse_attributes(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


_LEFT_OUT = (
    click.option(
        "--exclude",
        metavar="GLOB",
        multiple=True,
        help="Skip this name or, with a slash, this path.",
    ),
    click.option(
        "--no-follow-links",
        "follow_links",
        is_flag=True,
        default=True,
        flag_value=False,
        help="Skip symbolic links.",
    ),
    click.option("--one-file-system", is_flag=True, help="Skip folders of other file systems."),
)
_WALK_OPTIONS = (
    *_LEFT_OUT,
    click.option(
        "--no-containers",
        "containers",
        is_flag=True,
        default=True,
        flag_value=False,
        help="Open no tar and zip files.",
    ),
    click.option(
        "--max-removed",
        metavar="N|N%",
        callback=_check_limit,
        help="Stop if more files are gone; default: half.",
    ),
    click.option(
        "--attributes",
        metavar="NAMES",
        callback=_check_attributes,
        help="Keep these attributes: qido, keywords or none.",
    ),
)
min_age_option = click.option(
    "--min-age",
    metavar="SECONDS",
    type=Time(),
    default=0.0,
    help="Skip files changed less than this ago.",
)


wait_option = click.option(
    "--wait",
    metavar="SECONDS",
    type=Time(),
    default=10.0,
    help="Wait for another build; 10 unless given.",
)

index_option = click.option(
    "--index",
    metavar="PATH",
    type=click.Path(),
    help="Index file; default: .mmindex in ROOT.",
)


concurrency_option = click.option(
    "--concurrency",
    metavar="N",
    type=Count(),
    help="Objects of a URL at once; 64 unless given.",
)

prove_option = click.option(
    "--prove/--no-prove",
    default=None,
    help="Check whole offset tables; of URLs, some entries.",
)


def refuse_for_url(root: str, index: str | None, **options: object) -> bool:
    """Return whether ROOT is a URL.

    Raises
    ------
    click.UsageError
        An option has no meaning for ROOT, or a URL comes without an index.
    """
    if not is_url(root):
        if options.get("concurrency") is not None:
            raise click.UsageError("--concurrency is for a URL; ROOT is a folder")
        return False
    require_plain(root)
    if index is None:
        raise click.UsageError(f"ROOT is a URL: say where the index goes, as --index {INDEX_NAME}")
    if not options.get("follow_links", True) or options.get("one_file_system"):
        raise click.UsageError(
            "--no-follow-links and --one-file-system are for a folder; ROOT is a URL"
        )
    if options.get("ignore_inode") or options.get("moved_from") is not None:
        raise click.UsageError("--ignore-inode and --moved-from are for a folder; ROOT is a URL")
    return True


def walk_options(command: Command) -> Command:
    """Add the options of a walk, which have the names of the library's arguments."""
    for option in reversed((*_WALK_OPTIONS, min_age_option)):
        command = option(command)
    return command


def left_out_options(command: Command) -> Command:
    """Add the options of what a walk leaves out."""
    for option in reversed(_LEFT_OUT):
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


def refuse_empty_root(root: str, index: str | None, max_removed: str | None) -> None:
    """Raise IndexWriteError where an empty folder, as of a lost mount, would get its first index.

    A program that calls the library means it, as `--max-removed 100%` does; a nightly command may
    not.
    """
    from mmindex.sources.folder import Folder
    from mmindex.update.guards import find_index, parse_limit

    limit = parse_limit(max_removed)
    if (isinstance(limit, float) and limit >= 1) or not os.path.isdir(root):
        return
    path = find_index(os.fsencode(root), index)
    if not os.path.exists(path) and Folder(os.fsencode(root)).is_empty(path):
        raise IndexWriteError(
            "the folder is empty and has no index: none was created. Is the archive mounted? To "
            "create one all the same: --max-removed 100%",
            path=root,
        )


def log_option(command: Command) -> Command:
    """Add `--log-format`: lines for people, or JSON objects with a time."""
    return click.option(
        "--log-format",
        metavar="text|json",
        type=NearChoice(["text", "json"]),
        default="text",
        help="Format of the log.",
    )(command)


def print_report(
    report: BuildReport,
    *,
    as_json: bool,
    quiet: bool = False,
    verbose: bool = False,
    log: Log | None = None,
    failing: dict[str, object] | None = None,
) -> None:
    """Print problems on standard error, and the report on standard output unless `quiet`.

    Parameters
    ----------
    log : Log, optional
        Takes problems and report as JSON instead, a line each.
    failing : dict, optional
        What is added to the report as JSON.
    """
    problems = report.problems
    if quiet:
        problems = [problem for problem in problems if problem[0] not in report.accepted]
    printed = problems if verbose else problems[:_PROBLEMS_PRINTED]
    left = report.problem_count - len(printed) - (len(report.problems) - len(problems))
    described = describe_report(report) | (failing or {})
    if log is not None:
        for path, reason in printed:
            log.write("problem", path=path, reason=reason)
        log.write("report", **described)
    else:
        for path, reason in printed:
            accepted = " (accepted)" if path in report.accepted else ""
            print_message(f"{path}: {reason}{accepted}")
        if left:
            print_message(f"and {counted(left, 'more problem')}")
        for path in report.unknown_paths[: None if verbose else _PROBLEMS_PRINTED]:
            print_message(f"{path}: neither in the archive nor in its index")
    if as_json:
        print_json(described)
    elif log is None and not quiet:
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
    if report.requests:
        click.echo(describe_requests(report))
    if report.postponed:
        click.echo(
            f"{counted(report.postponed, 'file', grouped=True)} changed too recently: postponed"
        )
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
        "problems": [
            {"path": path, "reason": reason, "accepted": path in report.accepted}
            for path, reason in report.problems
        ],
        "problem_count": report.problem_count,
        "unreadable": report.unreadable,
        "duplicates": report.duplicates,
        "requests": report.requests,
        "received": report.received,
        "removed_paths": report.removed_paths,
        "unknown_paths": report.unknown_paths,
        "totals": report.totals and describe_totals(report.totals),
        "started": describe_time(report.started),
        "ended": describe_time(report.started + report.seconds),
        "seconds": round(report.seconds, 3),
    }


def describe_totals(totals: Counters) -> dict[str, object]:
    """Return what a whole index holds, as JSON has it."""
    return {
        "files": totals.files,
        "statuses": {status.value: count for status, count in totals.statuses.items() if count},
        "instances": totals.instances,
        "frames": totals.frames,
        "bytes": totals.file_bytes,
    }
