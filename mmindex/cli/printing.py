"""Printing that all commands share: lines, tables, JSON, messages.

Paths and values of files are printed so that none of them can break a line or steer a terminal.
Modules of the standard library that few commands need are imported where they are used: `frame`
starts in less time than they take.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from time import monotonic

import click

from mmindex.model import is_url

FAILED = 1
_TOGETHER = 0.1  # seconds


def plain(text: str) -> str:
    """Return text with control characters and undecodable bytes as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def print_json(value: object) -> None:
    """Print a value as JSON; an undecodable byte of a path becomes a lone surrogate."""
    import json

    click.echo(json.dumps(value, indent=2))


def print_json_lines(values: Iterable[object]) -> None:
    """Print each value as JSON on a line of its own, as they come."""
    import json

    print_lines(map(json.dumps, values))


def print_lines(lines: Iterable[str]) -> None:
    """Print lines as they come, those of a moment together: `click.echo` writes each by itself.

    None may hold what steers a terminal.
    """
    due = 0.0
    for line in lines:
        sys.stdout.write(line + "\n")
        if monotonic() >= due:
            sys.stdout.flush()
            due = monotonic() + _TOGETHER
    sys.stdout.flush()


def print_array(values: Iterable[object], *, opening: str = "[", closing: str = "]") -> None:
    """Print a JSON array one value a line, as they come: an archive may have millions."""
    import json

    before = opening + "\n"
    for value in values:
        click.echo(before + json.dumps(value), nl=False)
        before = ",\n"
    click.echo(opening + closing if before == opening + "\n" else "\n" + closing)


def counted(number: int, noun: str, *, grouped: bool = False) -> str:
    """Return a number, its digits in groups for people only, with its noun as one or many."""
    digits = f"{number:,}" if grouped else str(number)
    return f"{digits} {noun}" if number == 1 else f"{digits} {noun}s"


def rounded_size(length: int) -> str:
    """Return a length in bytes for people: 12.3 MB, in powers of 1000."""
    size, units = float(length), ["kB", "MB", "GB", "TB", "PB"]
    if length < 1000:
        return f"{length} B"
    while (size := size / 1000) >= 999.95 and len(units) > 1:
        units.pop(0)
    return f"{size:.1f} {units[0]}"


def measure_columns(
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    shortened: str | None = None,
    *,
    margin: int = 0,
) -> list[int]:
    """Return the widths of columns: as wide as their cells, as far as the terminal has room.

    Parameters
    ----------
    shortened : str, optional
        The column that gives way where the terminal is too narrow, down to its name's width.
    margin : int
        Columns of the terminal that are taken.
    """
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    if shortened is not None:
        import shutil

        at = heading.index(shortened)
        taken = margin + sum(widths) + 2 * (len(widths) - 1)
        excess = max(0, taken - shutil.get_terminal_size().columns)
        widths[at] -= min(excess, widths[at] - len(shortened))
    return widths


def align(
    row: Sequence[str],
    heading: Sequence[str],
    widths: Sequence[int],
    to_the_right: Collection[str] = (),
) -> str:
    """Return a line of a table; `to_the_right` are the columns that numbers end with."""
    cells = [
        cell.rjust(width) if name in to_the_right else cut_end(cell, width).ljust(width)
        for name, cell, width in zip(heading, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def cut_middle(text: str, width: int) -> str:
    """Return a text as wide as this at most: of a path, folder and file name show at its ends."""
    if len(text) <= width:
        return text
    head = (width - 3) // 3
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of a text, each as wide as this at most."""
    import textwrap

    return textwrap.wrap(text, max(width, 20), break_on_hyphens=False) or [""]


def cut_end(text: str, width: int) -> str:
    """Return a text as wide as this at most: dots stand for its end."""
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def quote(text: str) -> str:
    """Return a text as a shell takes it, a URL without credentials."""
    import shlex

    return shlex.quote(shown(text))


def shown(source: str) -> str:
    """Return a path, or a URL without credentials, for messages and output."""
    if not is_url(source):
        return source
    from mmindex.sources.stores import name_url

    return name_url(source)


def explain_anomaly(code: str) -> str:
    """Return what an anomaly means and what the scan did; of one that is not known, that."""
    from mmindex.scan.anomalies import ANOMALIES

    known = ANOMALIES.get(code)
    return f"{known.meaning} {known.done}" if known else "Not known to this version of mmindex."


def print_message(message: str) -> None:
    """Print one line on standard error."""
    click.echo(f"mmindex: {plain(message)}", err=True)


def join_lines(message: str) -> str:
    """Return a message on one line; those of decoders have several."""
    import re

    return re.sub(r"\s*\n\s*", "; ", message.strip()).replace(":; ", ": ")


def print_index(path: str) -> None:
    """Print on standard error what an index is of, and how many files it knows."""
    import mmindex  # which other commands import when they need it

    with mmindex.open(path) as archive:
        files = counted(archive.count().files, "file", grouped=True)
        print_message(f"{archive.path}: {files} of {archive.root}")
