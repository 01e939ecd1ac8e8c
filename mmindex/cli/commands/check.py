"""`mmindex check`: every problem of an archive, by file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from mmindex.cli.alerts import fail_on_option
from mmindex.cli.build_options import left_out_options, min_age_option
from mmindex.cli.endings import may_lose_reader
from mmindex.cli.printing import FAILED, counted, print_json_lines, print_lines, print_message
from mmindex.cli.problem_table import problem_row, walk_table
from mmindex.cli.progress import showing_files
from mmindex.cli.requests_shown import print_requests
from mmindex.cli.source_argument import open_archive, root_option
from mmindex.cli.terminal import color_option, note_no_color, print_paged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmindex import Problem


@click.command("check", short_help="List what is wrong with the files of an archive.")
@click.argument("root", type=click.Path())
@root_option
@fail_on_option
@click.option("--accept", is_flag=True, help="Accept today's problems: they fail no more.")
@left_out_options
@min_age_option
@color_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Print only problems that fail.")
@click.option(
    *("-v", "--verbose"),
    is_flag=True,
    callback=print_requests,
    help="Print long problems whole on a terminal, and what is read of URLs.",
)
def command(
    root: str,
    archive_root: str | None,
    fail_on: frozenset[str],
    accept: bool,
    exclude: tuple[str, ...],
    follow_links: bool,
    one_file_system: bool,
    min_age: float,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """List every missing, stale, unreadable, anomalous, duplicate or new file of an archive.

    ROOT is the archive's folder, or the index file, all of which is read first: a damaged one is
    an error. No other file is opened. On a terminal, problems are sorted by path,
    and what each anomaly means stands below; else they are separated by tabs and in no order.
    Exits with 1 if a problem of the kinds in --fail-on was not accepted.

    \b
    mmindex check /data/archive
    mmindex check /data/archive --fail-on missing,new --quiet
    mmindex check /data/archive --accept
    """  # noqa: D301
    failing = count = 0
    seen: list[Problem] = []

    def walk() -> Iterator[Problem]:
        nonlocal failing, count
        with showing_files(quiet=quiet) as show:
            for problem in archive.problems(
                exclude=exclude,
                follow_links=follow_links,
                one_file_system=one_file_system,
                min_age=min_age,
                progress=show,
            ):
                count += 1
                if accept:
                    seen.append(problem)
                fails = problem.kind in fail_on and not problem.accepted
                failing += fails
                if fails or not quiet:
                    yield problem

    with open_archive(root, archive_root) as archive:
        found = walk()
        with may_lose_reader():
            if as_json:
                print_json_lines(_describe(problem, fail_on) for problem in found)
            elif sys.stdout.isatty():
                _print_table(found, quiet=quiet, verbose=verbose)
            else:
                note_no_color()
                print_lines(map(_line, found))
        if not count and not archive.count().files:
            print_message(f"{archive.root}: the index has no file: is the archive mounted?")
        if accept:
            for _ in found:  # what was not printed, since whoever read had seen enough
                pass
            archive.accept(seen)
            if not quiet:
                print_message(f"{counted(len(seen), 'problem', grouped=True)} accepted")
            return
    if failing:
        click.get_current_context().exit(FAILED)


def _print_table(problems: Iterator[Problem], *, quiet: bool, verbose: bool) -> None:
    listed = list(problems)
    if listed:
        print_paged(walk_table(listed, whole=verbose))
    elif not quiet:
        print_message("no problems")


def _line(problem: Problem) -> str:
    return "\t".join((*problem_row(problem), *(("accepted",) if problem.accepted else ())))


def _describe(problem: Problem, fail_on: frozenset[str]) -> dict[str, object]:
    described: dict[str, object] = {
        "path": problem.path,
        "kind": problem.kind,
        "detail": problem.detail,
        "accepted": problem.accepted,
        "fails": problem.kind in fail_on and not problem.accepted,
    }
    if problem.sop_instance_uid:
        described["sop_instance_uid"] = problem.sop_instance_uid
    if problem.anomaly is not None:
        described["code"] = problem.anomaly.code
        described["offset"] = problem.anomaly.offset
        described["count"] = problem.anomaly.count
    return described
