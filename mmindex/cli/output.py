"""What the commands share in printing, and how every one of them ends.

Paths and values of files are printed so that none of them can break a line or steer a terminal.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import click

from mmindex.errors import MMIndexError

FAILED = 1
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def plain(text: str) -> str:
    """Return text with control characters and undecodable bytes as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def print_json(value: object) -> None:
    """Print a value as JSON; an undecodable byte of a path becomes a lone surrogate."""
    click.echo(json.dumps(value, indent=2))


def print_array(values: Iterable[object]) -> None:
    """Print a JSON array one value a line, as they come: an archive may have millions."""
    before = "[\n"
    for value in values:
        click.echo(before + json.dumps(value), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_table(
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    to_the_right: Collection[str] = (),
    shortened: str | None = None,
) -> None:
    """Print aligned columns under a heading.

    Parameters
    ----------
    to_the_right : collection of str
        Columns whose cells end where the column does: numbers.
    shortened : str, optional
        The column that gives way where the terminal is too narrow, down to its name's width.
    """
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    if shortened is not None:
        at = heading.index(shortened)
        excess = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
        widths[at] -= min(max(0, excess), widths[at] - len(shortened))
    for row in [heading, *rows]:
        cells = [
            cell.rjust(width) if name in to_the_right else _shorten(cell, width).ljust(width)
            for name, cell, width in zip(heading, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def _shorten(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 3] + "..."


def print_message(message: str) -> None:
    """Print one line on standard error."""
    click.echo(f"mmindex: {plain(message)}", err=True)


@contextmanager
def ends_quietly(ctx: click.Context) -> Iterator[None]:
    """End a command that fails with one line on standard error, and the exit code for it."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal's encoding may be ASCII
    try:
        yield
        _flush()
    except MMIndexError as error:
        error.message = _join_lines(error.message)
        print_message(str(error))
        ctx.exit(FAILED)
    except BrokenPipeError:  # whoever read our output has seen enough
        _drop_unwritten_output()
        ctx.exit(FAILED)
    except OSError as error:
        what = error.strerror or str(error)
        print_message(f"{os.fsdecode(error.filename)}: {what}" if error.filename else what)
        _drop_unwritten_output()
        ctx.exit(FAILED)
    except KeyboardInterrupt:
        print_message("interrupted")
        ctx.exit(_INTERRUPTED)


def _join_lines(message: str) -> str:
    """Return a message on one line; those of decoders have several."""
    return re.sub(r"\s*\n\s*", "; ", message.strip()).replace(":; ", ": ")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_unwritten_output() -> None:
    """Send what standard output refuses to nowhere: the interpreter would try it once more."""
    try:
        _flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
