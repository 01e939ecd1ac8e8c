"""SOURCE on the command line -> an open instance, from an index where there is a fresh one."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import mmindex
from mmindex.cli.output import counted
from mmindex.errors import (
    FrameIndexError,
    MissingFileError,
    MMIndexError,
    NotAddressableError,
    TruncatedFrameError,
)
from mmindex.model import INDEX_NAME, Status

if TYPE_CHECKING:
    from mmindex import Archive, Instance

_LMDB_MAGIC = struct.pack("=I", 0xBEEF_C0DE)  # in the first page, after its 32- or 64-bit header


@dataclass(frozen=True, slots=True)
class Opened:
    """An open instance.

    Attributes
    ----------
    path : str
        The file, as it was asked for; of an archive, its full path.
    index : str or None
        The index that it is served from; None where the file was scanned just now.
    """

    instance: Instance
    path: str
    index: str | None


class FrameCommand(click.Command):
    """A command that takes frame numbers: -1 is a wrong one, not an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name.lstrip("-").isdigit():
                message = f"frame numbers start at 1, found {error.option_name}"
                raise click.UsageError(message, ctx) from None
            raise


def _check_starts_at_one(
    ctx: click.Context, param: click.Parameter, numbers: tuple[int, ...]
) -> tuple[int, ...]:
    for number in numbers:
        if number < 1:
            raise click.BadParameter(f"frame numbers start at 1, found {number}", ctx, param)
    return numbers


source_argument = click.argument("source", type=click.Path())
force_option = click.option(
    "--force", is_flag=True, help="Accept a file without preamble and file meta."
)
instance_option = click.option(
    "--instance",
    "instance_uid",
    metavar="UID",
    help="SOP Instance UID, of an archive or index.",
)


def numbers_argument(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator that adds NUMBER..., the frames that are asked for."""
    return click.argument(
        "numbers",
        metavar="NUMBER..." if required else "[NUMBER...]",
        nargs=-1,
        required=required,
        type=int,
        callback=_check_starts_at_one,
    )


def open_archive(path: str) -> Archive:
    """Open the index of an archive's folder, or an index file.

    Raises
    ------
    MissingFileError, IndexFormatError
        There is no index; it is none, or damaged.
    """
    if not os.path.exists(path):
        raise MissingFileError("there is no such folder or index", path=path)
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, INDEX_NAME)):
        raise MissingFileError(
            f"the folder has no index: make one with `mmindex build {path}`", path=path
        )
    return mmindex.open(path)


@contextmanager
def open_source(source: str, instance_uid: str | None, *, force: bool = False) -> Iterator[Opened]:
    """Open the instance that SOURCE and --instance name, for a `with` statement.

    A file is served from an index in its folder or one above where that knows the file and the
    file is as it was; else it is scanned, with `force` also one without preamble and File Meta
    Information. An index that cannot be used is passed over.

    Raises
    ------
    click.UsageError
        --instance is missing, or goes with a file.
    MMIndexError
        The instance cannot be found, read, or understood.
    """
    with ExitStack() as stack:
        if os.path.isdir(source) or _is_index(source):
            archive = stack.enter_context(open_archive(source))
            if instance_uid is None:
                raise click.UsageError(
                    f"{source} is an archive: say which instance with --instance UID "
                    f"(`mmindex ls {source}` lists them)"
                )
            instance = stack.enter_context(archive[instance_uid])
            yield Opened(instance, instance.path or "", archive.path)
            return
        if instance_uid is not None and os.path.exists(source):
            raise click.UsageError(
                f"--instance goes with an archive's folder or an index; {source} is neither"
            )
        yield _find_in_indices(source, stack) or Opened(
            stack.enter_context(mmindex.open_file(source, force=force)), source, None
        )


def check_numbers(opened: Opened, numbers: Sequence[int]) -> None:
    """Raise an error unless the instance has all these frames.

    Raises
    ------
    FrameIndexError, TruncatedFrameError, NotAddressableError
        There is no such frame, the file ends before it, or it is part of a video.
    """
    record = opened.instance.record
    if record.status is Status.STREAM:
        raise NotAddressableError(
            "the frames of a video are one bit stream: use `mmindex frame --stream`, which writes "
            "the whole of it",
            path=opened.path,
        )
    if record.frames is None or not record.status.has_frames:
        return  # reading a frame says why there is none
    for number in numbers:
        if number > record.number_of_frames:
            last = record.number_of_frames
            frames = counted(last, "frame") if last == 1 else f"frames 1 to {last}"
            raise FrameIndexError(
                f"there is no frame {number}: the instance has {frames}", path=opened.path
            )
        if number > record.frames.frames_located:
            raise TruncatedFrameError(
                f"frame {number} is missing: the pixel data ends after "
                f"{record.frames.frames_located} of {record.number_of_frames} frames",
                path=opened.path,
            )


def _is_index(path: str) -> bool:
    """Return whether a file begins as LMDB's do; a DICOM file's preamble could, too."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(132)
    return _LMDB_MAGIC in (head[16:20], head[24:28]) and head[128:] != b"DICM"


def _find_in_indices(source: str, stack: ExitStack) -> Opened | None:
    """Return the instance as an index at or above the file knows it, if one does."""
    has_parent_steps = os.pardir in source.split(os.sep)  # which may lead out of a linked folder
    path = os.path.realpath(source) if has_parent_steps else os.path.abspath(source)
    folder = os.path.dirname(path)
    while True:
        index = os.path.join(folder, INDEX_NAME)
        if os.path.isfile(index):
            opened = _find_in_index(source, path, index, stack)
            if opened is not None:
                return opened
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)


def _find_in_index(source: str, path: str, index: str, stack: ExitStack) -> Opened | None:
    try:
        with ExitStack() as attempt:
            archive = attempt.enter_context(mmindex.open(index))
            root = os.path.join(archive.root, "")
            if not path.startswith(root):
                return None
            instance = attempt.enter_context(archive.file(path[len(root) :]))
            stack.push(attempt.pop_all())
            return Opened(instance, source, archive.path)
    except (MMIndexError, OSError):
        return None
