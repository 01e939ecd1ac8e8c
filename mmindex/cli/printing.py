"""Printing that all commands share: lines, tables, JSON, messages.

Paths and values of files are printed so that none of them can break a line or steer a terminal.
Modules of the standard library that few commands need are imported where they are used: `frame`
starts in less time than they take.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from time import monotonic

import click

FAILED = 1
_TOGETHER = 0.1  # seconds
_EMOJI_STYLE = "\ufe0f"  # makes the narrow symbol before it a wide picture


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


def size_for_reader(length: int) -> str:
    """Return a length rounded on a terminal, else in bytes."""
    return rounded_size(length) if sys.stdout.isatty() else counted(length, "byte")


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
    widths = [max(map(count_columns, column)) for column in zip(heading, *rows, strict=True)]
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
        cell.rjust(width) if name in to_the_right else pad(cut_end(cell, width), width)
        for name, cell, width in zip(heading, row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def count_columns(text: str) -> int:
    """Return the columns of a terminal that a text takes: wide characters two, marks none."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def pad(text: str, width: int) -> str:
    """Return a text with spaces up to so many columns."""
    return text + " " * (width - count_columns(text))


def cut_middle(text: str, width: int) -> str:
    """Return a text of so many columns at most: a path keeps its first folder and its name."""
    if count_columns(text) <= width:
        return text
    room = max(0, width - 3)
    head = take_columns(text, room // 3)
    return f"{head}...{_take_last_columns(text, room - count_columns(head))}"


def cut_end(text: str, width: int) -> str:
    """Return a text of so many columns at most: dots stand for its end."""
    if count_columns(text) <= width:
        return text
    return take_columns(text, max(0, width - 3)) + "..."


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of a text, each of so many columns at most, and of 20 at least."""
    width = max(width, 20)
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if count_columns(longer) <= width:
            line = longer
            continue
        lines += [line] if line else []
        while count_columns(word) > width:
            lines.append(take_columns(word, width))
            word = word[len(lines[-1]) :]
        line = word
    return [*lines, line]


def take_columns(text: str, width: int) -> str:
    """Return the beginning of a text that so many columns hold."""
    return text[: width if text.isascii() else _count_chars(text, width)]


def _take_last_columns(text: str, width: int) -> str:
    """Return the end of a text that so many columns hold; a mark without its letter is left out."""
    if text.isascii():
        return text[len(text) - width :]
    last = text[len(text) - _count_chars(reversed(text), width) :]
    while last and _is_mark(last[0]):
        last = last[1:]
    return last


def _count_chars(chars: Iterable[str], width: int) -> int:
    """Return how many of these characters so many columns hold."""
    count = taken = 0
    for char in chars:
        taken += _columns(char)
        if taken > width:
            break
        count += 1
    return count


@lru_cache(4096)  # an archive may have millions of characters, of which few differ
def _columns(char: str) -> int:
    import unicodedata

    if char == _EMOJI_STYLE:
        return 1
    if _is_mark(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_mark(char: str) -> bool:
    """Return whether a character joins the one before it, as an accent or a vowel of Hangul."""
    import unicodedata

    return unicodedata.category(char) in ("Mn", "Me") or "\u1160" <= char <= "\u11ff"


def quote(text: str) -> str:
    """Return a text as a shell takes it, a URL without credentials."""
    import shlex

    return shlex.quote(shown(text))


def shown(source: str) -> str:
    """Return a path, or a URL without credentials, for messages and output."""
    from mmindex.model import is_url  # not at start: --version needs no model

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
