"""`mmindex check`: every problem of an archive, by file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mmindex.cli.printing import FAILED, plain, print_array, print_message, print_table
from mmindex.cli.source_argument import open_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmindex.read.problems import Problem


@click.command("check", short_help="List what is wrong with the files of an archive.")
@click.argument("root", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def command(root: str, as_json: bool) -> None:
    """List every missing, stale, unreadable, anomalous or duplicate file of an archive.

    ROOT is the archive's folder, or the index file, all of which is read first: a damaged one is
    an error. Each file is looked at, none is opened; the README says what each anomaly means.
    Problems are aligned and sorted by path on a terminal, else separated by tabs and in no order.
    Exits with 1 if there is any problem.

    \b
    mmindex check /data/archive
    mmindex check /data/archive --json
    """  # noqa: D301
    from mmindex.read.problems import walk_problems  # loads the index

    found = False

    def walk() -> Iterator[Problem]:
        nonlocal found
        for problem in walk_problems(archive):
            found = True
            yield problem

    with open_archive(root) as archive:
        if as_json:
            print_array(_describe(problem) for problem in walk())
        elif sys.stdout.isatty():
            _print_sorted(walk())
        else:
            for problem in walk():
                click.echo("\t".join(_row(problem)))
    if found:
        click.get_current_context().exit(FAILED)


def _print_sorted(problems: Iterator[Problem]) -> None:
    rows = sorted(map(_row, problems))
    if rows:
        print_table(("Path", "Kind", "Problem"), rows)
    else:
        print_message("no problems")


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
