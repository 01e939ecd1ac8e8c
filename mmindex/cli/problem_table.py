"""The problems of an archive as a table on a terminal: one line a file, duplicates by UID."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from mmindex.cli.printing import (
    count_columns,
    counted,
    cut_end,
    cut_middle,
    explain_anomaly,
    pad,
    plain,
    wrap,
)

if TYPE_CHECKING:
    from mmindex import Problem

_COLUMNS = ("Path", "Kind", "Problem")
_LEAST_PATH = 16
_COLORS = {
    "missing": "red",
    "stale": "red",
    "unreadable": "red",
    "anomaly": "yellow",
    "duplicate": "magenta",
    "new": "cyan",
}
_ACCEPTED = "accepted: "


def problem_row(problem: Problem) -> tuple[str, str, str]:
    """Return path, kind and detail of a problem, safe to print."""
    return plain(problem.path), problem.kind, plain(problem.detail)


def walk_table(problems: Iterable[Problem], *, whole: bool) -> Iterator[str]:
    """Yield the lines of a table of problems by path, then duplicates, then what anomalies mean.

    Parameters
    ----------
    problems : iterable of Problem
        In any order.
    whole : bool
        Continue long problems in the next line; else their end is cut off.
    """
    listed = sorted(problems, key=problem_row)
    others = [problem for problem in listed if problem.kind != "duplicate"]
    columns = shutil.get_terminal_size().columns
    if others:
        yield from _walk_rows(others, columns, whole=whole)
    yield from _walk_duplicates(
        [problem for problem in listed if problem.kind == "duplicate"], columns
    )
    for code in sorted({problem.anomaly.code for problem in listed if problem.anomaly}):
        yield ""
        yield click.style(code, fg=_COLORS["anomaly"])
        yield from ("  " + line for line in wrap(explain_anomaly(code), columns - 2))


def _walk_rows(problems: list[Problem], columns: int, *, whole: bool) -> Iterator[str]:
    rows = [
        (path, kind, _ACCEPTED * problem.accepted + detail)
        for problem, (path, kind, detail) in zip(problems, map(problem_row, problems), strict=True)
    ]
    colors = [None if problem.accepted else _COLORS[problem.kind] for problem in problems]
    return _walk_cells(_COLUMNS, rows, colors, columns, whole=whole)


def walk_failures(failures: Iterable[tuple[str, str, str]], *, whole: bool) -> Iterator[str]:
    """Yield the lines of a table of frames that cannot be decoded: path, number and why."""
    rows = sorted(failures, key=lambda row: (row[0], len(row[1]), row[1]))
    colors = [_COLORS["unreadable"]] * len(rows)
    columns = shutil.get_terminal_size().columns
    return _walk_cells(("Path", "Frame", "Problem"), rows, colors, columns, whole=whole)


def _walk_cells(
    heading: tuple[str, str, str],
    rows: list[tuple[str, str, str]],
    colors: Sequence[str | None],
    columns: int,
    *,
    whole: bool,
) -> Iterator[str]:
    """Yield a heading and a line a row: path, what stands in colour, and a text of any length."""
    path_width = min(max(count_columns(row[0]) for row in rows), max(_LEAST_PATH, columns // 3))
    path_width = max(path_width, len(heading[0]))
    middle_width = max(len(row[1]) for row in [heading, *rows])
    before = path_width + middle_width + 4
    yield click.style(
        f"{heading[0]:{path_width}}  {heading[1]:{middle_width}}  {heading[2]}", bold=True
    )
    for (path, middle, text), color in zip(rows, colors, strict=True):
        lines = wrap(text, columns - before)
        first = lines[0] if whole else cut_end(text, columns - before)
        shown = click.style(f"{middle:{middle_width}}", fg=color)
        yield f"{pad(cut_middle(path, path_width), path_width)}  {shown}  {first}"
        if whole:
            yield from (" " * before + line for line in lines[1:])


def _walk_duplicates(problems: list[Problem], columns: int) -> Iterator[str]:
    by_uid = sorted(problems, key=lambda problem: (problem.sop_instance_uid, problem.path))
    for uid, files in groupby(by_uid, key=lambda problem: problem.sop_instance_uid):
        found = list(files)
        yield ""
        heading = f"SOP Instance UID {plain(uid)}"
        if len(heading) > columns - 20:
            heading = f"UID {plain(uid)}"
        tail = f" in {counted(len(found), 'file')}"
        heading = cut_end(heading, columns - len(tail))
        yield click.style(heading + tail, fg=_COLORS["duplicate"])
        for problem in found:
            text = _ACCEPTED * problem.accepted + plain(problem.path)
            yield "  " + cut_middle(text, columns - 2)
