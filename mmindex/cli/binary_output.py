"""Binary output: to a file, to a file a frame by a template, or to standard output.

A template is a path with `{number}` or `{ext}` in it, and in it `{{` and `}}` are a brace each. A
path without either is none: all of its braces are part of the file's name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import click

from mmindex.cli.endings import needs_reader
from mmindex.index.names import is_of_index
from mmindex.model import SEPARATOR

STDOUT = "-"
TEMPLATE = "{number:06d}.{ext}"  # as it is suggested

_FIELD = r"\{(number|ext\b)"  # whatever else may be wrong with it
_FORMATS = {"number": r"0?([1-9][0-9]?)?d?", "ext": ""}


def check_terminal(output: str | None) -> str:
    """Return where to; raise UsageError where binary data would go to a terminal unasked."""
    if output is None and sys.stdout.isatty():
        raise click.UsageError(
            "the output is binary: give -o PATH, or -o - for the terminal all the same"
        )
    return STDOUT if output is None else output


def check_output(output: str | None) -> None:
    """Raise UsageError where a path can be no file's."""
    if output == "":
        raise click.UsageError("-o has an empty path: give a file, or -o - for standard output")
    if output is not None and os.path.isdir(output):
        example = os.path.join(output, TEMPLATE)
        raise click.UsageError(f"{output} is a folder: give a file in it, such as -o '{example}'")


def has_number(output: str) -> bool:
    """Return whether a template makes a file a frame.

    Raises
    ------
    click.UsageError
        The template cannot be filled in.
    """
    return any(name == "number" for _, name, _ in _parse_template(output, tuple(_FORMATS)))


def fill_in(output: str, **fields: object) -> str:
    """Return the output's path, with `number`, `ext` or both.

    Raises
    ------
    click.UsageError
        There is another field in it, or a format other than a number's width.
    """
    return "".join(
        literal + (format(fields[name], width) if name else "")
        for literal, name, width in _parse_template(output, tuple(fields))
    )


def _parse_template(output: str, known: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return text with the name and format of the field that follows it, if one does."""
    if "{" not in output or not re.search(_FIELD, output.replace("{{", "")):
        return [(output, "", "")]
    from string import Formatter

    pieces = []
    try:
        for literal, name, width, conversion in Formatter().parse(output):
            if name is not None:
                if name not in known:
                    raise ValueError(f"there is no {{{name}}}")
                if conversion or not re.fullmatch(_FORMATS[name], width or ""):
                    raise ValueError(f"{{{name}}} cannot be written so")
            pieces.append((literal, name or "", width or ""))
    except ValueError as error:
        fields = " and ".join(f"{{{name}}}" for name in known)
        hint = ", with a format such as {number:06d}" if "number" in known else ""
        raise click.UsageError(
            f"cannot fill in {output!r}: {error}; only {fields} can stand in it" + hint
        ) from None
    return pieces


def write_output(
    pieces: Iterable[bytes], path: str, source: str | None, *, listing: bool = False
) -> None:
    """Write pieces one after the other, making the folders that the path needs.

    Parameters
    ----------
    source : str or None
        The file that the pieces come from, which is not written over.
    listing : bool
        The output is a list: a reader that closes the pipe after some lines has all it wants. Half
        a frame, else, is none, and the command fails.

    Raises
    ------
    click.UsageError
        The path is that of the source, of an index, or of a file beside an index.
    OSError
        The path cannot be written or the source read, the one of which it names.
    """
    if path == STDOUT:
        with nullcontext() if listing else needs_reader():
            sys.stdout.buffer.writelines(pieces)
            sys.stdout.buffer.flush()
        return
    if _is_source(path, source):
        raise click.UsageError(f"{path} is the file that the frames come from")
    if is_of_index(path):
        raise click.UsageError(f"{path} is an index, or a file of one: give another path")
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    with _naming(path), open(path, "wb") as file:
        file.writelines(_walk_named(pieces, source))


def _is_source(path: str, source: str | None) -> bool:
    """Return whether a path is that of the file that is read: of a container's member, of both."""
    if not os.path.exists(path):
        return False
    if source is None:  # it may be standard input
        with suppress(OSError):
            return os.path.samestat(os.stat(path), os.fstat(0))
        return False
    sources = (source, source.partition(SEPARATOR)[0])
    return any(os.path.exists(each) and os.path.samefile(path, each) for each in sources)


def _walk_named(pieces: Iterable[bytes], source: str | None) -> Iterator[bytes]:
    with _naming(source):
        yield from pieces


@contextmanager
def _naming(path: str | None) -> Iterator[None]:
    """Give an error of the system its path: those of an open file have none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise
