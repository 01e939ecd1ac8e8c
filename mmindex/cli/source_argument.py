"""SOURCE on the command line -> an open instance, from an index where there is a fresh one."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

import click

import mmindex
from mmindex.cli.printing import plain, print_message, quote, shown
from mmindex.cli.suggestions import explain_unknown_instance, hint_near_path
from mmindex.cli.untranslated import PATH
from mmindex.errors import (
    InstanceNotFoundError,
    MissingFileError,
    MMIndexError,
    NotDicomError,
    naming,
)
from mmindex.index.names import is_index
from mmindex.model import INDEX_NAME, is_url

if TYPE_CHECKING:
    from mmindex import Archive, Instance

STDIN = "-"
_HEAD = 512  # bytes that show what a file is
_COMPRESSED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_LONGEST_UID = 64  # characters (PS3.5 9.1)


class Opened(NamedTuple):
    """An open instance.

    Attributes
    ----------
    path : str
        The file, as it was asked for; of an archive, its full path.
    index_path : str or None
        The index that it is served from; None where the file was scanned just now.
    index_file : str or None
        The same, or the local copy of one at a URL.
    stale_index : str or None
        An index that knows the file as it was before.
    """

    instance: Instance
    path: str
    index_path: str | None
    index_file: str | None = None
    stale_index: str | None = None


source_argument = click.argument("source", type=PATH)
force_option = click.option(
    "--force", is_flag=True, help="Accept a file without preamble and file meta."
)
instance_option = click.option(
    "--instance",
    "instance_uid",
    metavar="UID",
    help="SOP Instance UID, of an archive or index.",
)


root_option = click.option(
    "--root",
    "archive_root",
    metavar="PATH",
    type=PATH,
    help="Where the archive is now, if it moved.",
)


def open_archive(path: str, archive_root: str | None = None) -> Archive:
    """Open the index of an archive's folder, or an index file; of a bucket that at its URL.

    Parameters
    ----------
    archive_root : str, optional
        Where the archive is, if not where it was indexed.

    Raises
    ------
    click.UsageError
        The path is that of another file; `archive_root` is no URL of a folder.
    MissingFileError, IndexFormatError
        There is no index; it is none, or damaged; `archive_root` is no folder.
    """
    check_root(archive_root)
    if is_url(path):
        from mmindex.cli.progress import showing_requests

        with showing_requests():
            return mmindex.open(path, archive_root=archive_root)
    if not os.path.exists(path):
        index = os.path.basename(path).endswith(INDEX_NAME)
        remedy = (
            f": `mmindex build FOLDER --index {quote(path)}` creates one"
            if index
            else hint_near_path(path)
        )
        raise MissingFileError(f"there is no such folder or index{remedy}", path=path)
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, INDEX_NAME)):
        remedy = f"create one with `mmindex build {quote(path)}`"
        above = _find_index_above(path)
        if above is not None:
            remedy = f"name {quote(above)}, whose index may have its files, or {remedy}"
        raise MissingFileError(f"the folder has no index: {remedy}", path=path)
    if os.path.isfile(path) and not (is_index(path) or path.endswith(INDEX_NAME)):
        raise click.UsageError(
            f"{path} is a file, and no index: give an archive's folder or index file "
            f"(`mmindex info {quote(path)}` describes one DICOM file)"
        )
    return mmindex.open(path, archive_root=archive_root)


def check_root(archive_root: str | None) -> None:
    """Raise an error that names --root unless it is the URL of a folder, or a folder.

    Raises
    ------
    click.UsageError
        It is the URL of something else.
    MissingFileError
        There is no such folder.
    """
    if archive_root is None:
        return
    if is_url(archive_root):
        require_plain(archive_root)
    elif not os.path.isdir(archive_root):
        raise MissingFileError("--root: there is no such folder", path=archive_root)


def _find_index_above(path: str) -> str | None:
    """Return the nearest folder above a folder that has an index."""
    folder = os.path.abspath(path)
    while (above := os.path.dirname(folder)) != folder:
        if os.path.isfile(os.path.join(above, INDEX_NAME)):
            return above
        folder = above
    return None


def require_plain(url: str) -> None:
    """Raise click.UsageError unless a URL can be that of a bucket, or of a folder of one."""
    from mmindex.sources.stores import plain_url

    try:
        plain_url(url)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def is_index_url(source: str) -> bool:
    """Return whether a source is the URL of an index, as its name says."""
    return is_url(source) and shown(source).endswith(INDEX_NAME)


@contextmanager
def open_source(
    source: str,
    instance_uid: str | None,
    archive_root: str | None = None,
    *,
    force: bool = False,
    prove: bool = False,
) -> Iterator[Opened]:
    """Open the instance that SOURCE, --instance and --root name, for a `with` statement.

    A file is served from an index in its folder or one above where that knows the file and the
    file is as it was; else it is scanned, with `force` also one without preamble and File Meta
    Information, with `prove` every entry of its offset table. An index that cannot be used is
    passed over.

    Raises
    ------
    click.UsageError
        --instance is missing, goes with a file, or is too long for a UID; --root goes with a file.
    MMIndexError
        The instance cannot be found, read, or understood.
    """
    with ExitStack() as stack:
        is_missing_archive = instance_uid is not None and not os.path.exists(source)
        is_remote_index = is_index_url(source)
        if os.path.isdir(source) or is_index(source) or is_missing_archive or is_remote_index:
            archive = stack.enter_context(open_archive(source, archive_root))
            if instance_uid is None:
                raise click.UsageError(
                    f"{shown(source)} is an archive: say which instance with --instance UID "
                    f"(`mmindex ls {quote(source)}` lists them)"
                )
            instance = stack.enter_context(_find_instance(archive, instance_uid, source))
            _warn_of_duplicates(archive, instance)
            index = shown(source) if is_url(source) else archive.path
            yield Opened(instance, instance.path or "", index, archive.path)
            return
        if instance_uid is not None:
            raise click.UsageError(
                f"--instance goes with an archive's folder or an index; {shown(source)} is neither"
            )
        if archive_root is not None:
            raise click.UsageError(
                f"--root goes with an archive or an index; {shown(source)} is neither"
            )
        if is_piped(source):
            yield Opened(stack.enter_context(_open_piped(source, force, prove)), source, None)
            return
        if is_url(source):
            from mmindex.cli.progress import showing_requests

            with showing_requests():
                instance = _scan_file(source, force=force, prove=prove)
            yield Opened(stack.enter_context(instance), shown(source), None)
            return
        from mmindex.read.find_index import find_in_indexes

        found = find_in_indexes(source, stack)
        if found.distrusted is not None:
            named = f"{quote(found.distrusted)} --instance UID"
            print_message(
                f"warning: {found.distrusted} is not used: {found.reason}; to use it, give it as "
                f"SOURCE: {named}"
            )
        opened = found.instance
        if opened is None:
            opened = stack.enter_context(_scan_file(source, force=force, prove=prove))
        yield Opened(opened, source, found.index, found.index, found.stale_index)


def _scan_file(source: str, *, force: bool, prove: bool) -> Instance:
    """Open a file without an index; of a container, the error says how its files are named."""
    try:
        return mmindex.open_file(source, force=force, prove=prove)
    except MissingFileError as error:
        if not is_url(source):
            error.message += hint_near_path(source)
        raise
    except NotDicomError as error:
        from mmindex.sources.container import is_container

        with suppress(OSError, MMIndexError):
            head = _read_head(source)
            if is_container(head):
                error.message = (
                    f"a tar or zip container: name a file in it, such as {quote(source + '!/NAME')}"
                )
            elif head.startswith(_COMPRESSED):
                error.message = "a compressed file, as of gzip: decompress it; a tar then stays one"
        raise


def _read_head(source: str) -> bytes:
    """Return the first bytes of a file or object."""
    if not is_url(source):
        with open(source, "rb") as file:
            return file.read(_HEAD)
    from mmindex.sources.object_store import open_url

    found = open_url(source)
    return found.read(0, min(_HEAD, found.size))


def is_piped(source: str) -> bool:
    """Return whether SOURCE is standard input or a pipe, which can be read once."""
    try:
        return source == STDIN or stat.S_ISFIFO(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False


def _open_piped(source: str, force: bool, prove: bool) -> Instance:
    """Open the file that comes through a pipe, all of which is read into memory."""
    if source != STDIN:
        with open(source, "rb") as file:
            data = file.read()
    elif sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError("standard input is no file: use a pipe, or `< FILE`")
    else:
        data = sys.stdin.buffer.read()
    with naming(source):
        return mmindex.open_file(data, force=force, prove=prove)


def _warn_of_duplicates(archive: Archive, instance: Instance) -> None:
    """Print which other files have an instance's UID, if there are any."""
    record = instance.record
    others = [
        plain(os.fsdecode(other.location))
        for other in archive.records_of(record.sop_instance_uid)
        if other.key != record.key
    ]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        print_message(
            f"SOP Instance UID {record.sop_instance_uid} is in {len(others) + 1} files: using "
            f"{plain(os.fsdecode(record.location))}, not {min(others)}{more}"
        )


def _find_instance(archive: Archive, uid: str, source: str) -> Instance:
    try:
        return archive[uid]
    except InstanceNotFoundError as error:
        if len(uid) > 2 * _LONGEST_UID:  # as for a UID with a slip in it, there are none like it
            raise click.BadParameter(
                f"a UID has at most {_LONGEST_UID} characters, found {len(uid)}: "
                f"{uid[:_LONGEST_UID]}...",
                param_hint="--instance",
            ) from None
        error.message += f"; {explain_unknown_instance(archive, uid, source)}"
        raise
    except MissingFileError as error:
        if not os.path.isdir(archive.root):
            error.message += (
                f", and so is the archive's folder {archive.root}: if it moved, say where to with "
                "--root PATH"
            )
        raise
