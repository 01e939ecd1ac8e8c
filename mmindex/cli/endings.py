"""Ends every command: one line on standard error that says what was wrong, and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from click.exceptions import Exit

from mmindex.cli.printing import FAILED, join_lines, plain, print_message
from mmindex.errors import MMIndexError

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@contextmanager
def ends_quietly() -> Iterator[None]:
    """End a command that fails with one line on standard error, and the exit code for it."""
    _stand_in_for_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the terminal's encoding may be ASCII
    try:
        yield
        sys.stdout.flush()
    except click.UsageError as error:
        if type(error).show is not click.UsageError.show:  # the help, where no command is given
            raise
        raise click.UsageError(plain(error.format_message()), error.ctx) from None
    except MMIndexError as error:
        error.message = join_lines(error.message)
        print_message(str(error))
        raise Exit(FAILED) from None
    except BrokenPipeError:  # whoever read our output has seen enough
        drop_unwritten_output()
        raise Exit(0) from None
    except OSError as error:
        what = error.strerror or str(error)
        if error.errno == errno.EBADF and sys.__stdout__ is None:
            what = "standard output is closed"
        print_message(f"{os.fsdecode(error.filename)}: {what}" if error.filename else what)
        drop_unwritten_output()
        raise Exit(FAILED) from None
    except KeyboardInterrupt as error:
        print_message(str(error) or "interrupted")
        raise Exit(_INTERRUPTED) from None


@contextmanager
def may_lose_reader() -> Iterator[None]:
    """Leave the block when nobody reads standard output any more, as of `| head`.

    What was found until then still decides the exit code.
    """
    try:
        yield
    except BrokenPipeError:
        drop_unwritten_output()


@contextmanager
def needs_reader() -> Iterator[None]:
    """Fail when nobody reads standard output any more: half a frame is none, unlike half a list."""
    try:
        yield
    except BrokenPipeError:
        drop_unwritten_output()
        raise Exit(FAILED) from None


def _stand_in_for_closed_streams() -> None:
    """Take the places of streams that are closed, so that no index is opened in one of them.

    Writing to standard output fails; what goes to standard error is lost.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def drop_unwritten_output() -> None:
    """Send what standard output refuses to nowhere: the interpreter would try it once more."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
