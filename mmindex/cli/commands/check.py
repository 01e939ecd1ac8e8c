"""`mmindex check`: every problem of an archive, by file."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from mmindex.cli.endings import may_lose_reader
from mmindex.cli.printing import (
    FAILED,
    cut_middle,
    explain_anomaly,
    plain,
    print_json_lines,
    print_message,
    wrap,
)
from mmindex.cli.progress import showing_files
from mmindex.cli.source_argument import open_archive
from mmindex.cli.terminal import color_option, print_paged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmindex import Problem

_COLUMNS = ("Path", "Kind", "Problem")
_LEAST_PATH = 16
_COLORS = {
    "missing": "red",
    "stale": "red",
    "unreadable": "red",
    "anomaly": "yellow",
    "duplicate": "magenta",
}


@click.command("check", short_help="List what is wrong with the files of an archive.")
@click.argument("root", type=click.Path())
@color_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
def command(root: str, as_json: bool) -> None:
    """List every missing, stale, unreadable, anomalous or duplicate file of an archive.

    ROOT is the archive's folder, or the index file, all of which is read first: a damaged one is
    an error. Each file is looked at, none is opened. On a terminal, problems are sorted by path,
    and what each anomaly means stands below; else they are separated by tabs and in no order.
    Exits with 1 if there is any problem.

    \b
    mmindex check /data/archive
    mmindex check /data/archive --json
    """  # noqa: D301
    found = False

    def walk() -> Iterator[Problem]:
        nonlocal found
        with showing_files() as show:
            for problem in archive.problems(progress=show):
                found = True
                yield problem

    with open_archive(root) as archive, may_lose_reader():
        if as_json:
            print_json_lines(_describe(problem) for problem in walk())
        elif sys.stdout.isatty():
            _print_sorted(walk())
        else:
            for problem in walk():
                click.echo("\t".join(_row(problem)))
    if found:
        click.get_current_context().exit(FAILED)


def _print_sorted(problems: Iterator[Problem]) -> None:
    listed = sorted(problems, key=_row)
    if listed:
        print_paged(_walk_lines(listed))
    else:
        print_message("no problems")


def _walk_lines(problems: list[Problem]) -> Iterator[str]:
    """Yield a table in which long problems go on in the next line, then what anomalies mean."""
    rows = [_row(problem) for problem in problems]
    columns = shutil.get_terminal_size().columns
    path_width = min(max(len(row[0]) for row in rows), max(_LEAST_PATH, columns // 3))
    kind_width = max(len(row[1]) for row in [_COLUMNS, *rows])
    path_width = max(path_width, len(_COLUMNS[0]))
    before = path_width + kind_width + 4
    yield click.style(f"{'Path':{path_width}}  {'Kind':{kind_width}}  Problem", bold=True)
    for path, kind, detail in rows:
        first, *others = wrap(detail, columns - before)
        shown = click.style(f"{kind:{kind_width}}", fg=_COLORS[kind])
        yield f"{cut_middle(path, path_width):{path_width}}  {shown}  {first}"
        yield from (" " * before + line for line in others)
    codes = sorted({problem.anomaly.code for problem in problems if problem.anomaly})
    for code in codes:
        yield ""
        yield click.style(code, fg=_COLORS["anomaly"])
        yield from ("  " + line for line in wrap(explain_anomaly(code), columns - 2))


def _row(problem: Problem) -> tuple[str, str, str]:
    return plain(problem.path), problem.kind, plain(problem.detail)


def _describe(problem: Problem) -> dict[str, object]:
    described: dict[str, object] = {
        "path": problem.path,
        "kind": problem.kind,
        "detail": problem.detail,
    }
    if problem.anomaly is not None:
        described["code"] = problem.anomaly.code
        described["offset"] = problem.anomaly.offset
        described["count"] = problem.anomaly.count
    return described
