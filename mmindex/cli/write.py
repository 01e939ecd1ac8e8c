"""Where binary output goes: a file, a file a frame by a template, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

STDOUT = "-"
TEMPLATE = "{number:06d}.{ext}"  # as it is suggested


def check_output(output: str | None) -> None:
    """Raise UsageError where binary data would go to a terminal unasked, or a folder is given."""
    if output is None and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(
            "the output is binary: give -o PATH, or -o - for the terminal all the same"
        )
    if output is not None and os.path.isdir(output):
        example = os.path.join(output, TEMPLATE)
        raise click.UsageError(f"{output} is a folder: give a file in it, such as -o '{example}'")


def has_number(output: str) -> bool:
    """Return whether a template makes a file a frame."""
    return "{number" in output


def fill_in(output: str, **fields: object) -> str:
    """Return the output's path; one without fields is taken as it is, braces and all.

    Raises
    ------
    click.UsageError
        There is another field in it, or a format that the field cannot have.
    """
    if not has_number(output) and "{ext}" not in output:
        return output
    try:
        return output.format(**fields)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        known = " and ".join(f"{{{name}}}" for name in fields)
        hint = ", with a format such as {number:06d}" if "number" in fields else ""
        raise click.UsageError(
            f"cannot fill in {output!r}: {error}; only {known} can stand in it" + hint
        ) from None


def write_output(pieces: Iterable[bytes], path: str, source: str | None) -> None:
    """Write pieces one after the other, making the folders that the path needs.

    Parameters
    ----------
    source : str or None
        The file that the pieces come from, which is not written over.
    """
    if path == STDOUT:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and source and os.path.samefile(path, source):
        raise click.UsageError(f"{path} is the file that the frames come from")
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    with open(path, "wb") as file:
        file.writelines(pieces)
