"""The folder or bucket of an archive's files: the index's own, or another one."""

from __future__ import annotations

import os
import posixpath
import re
from typing import NamedTuple

from mmindex.errors import FormatError, IndexFormatError, MMIndexError, StaleIndexError
from mmindex.index.reader import Reader
from mmindex.model import INDEX_NAME, InstanceRecord, Status, is_url
from mmindex.sources.base import ByteSource

_HEAD = 8192  # bytes in which a SOP Instance UID is found
_MOST_HEADER = 1 << 20
# Tag, VR and length, which is longer in Implicit VR; the last is Big Endian.
_UID = rb"\x08\0\x18\0UI([\0-@]\0)|\x08\0\x18\0([\0-@]\0)\0\0|\0\x08\0\x18UI(\0[\0-@])"


class FilesRoot(NamedTuple):
    """The folder or bucket of an archive's files.

    Attributes
    ----------
    name : str
        The folder, or the URL of a bucket.
    is_mirror : bool
        Whether these are copies whose times and ETags are not those that were indexed: a bucket's
        files in a folder, a folder's in a bucket, or those of another bucket. Then a file is taken
        for the indexed one if it has the same size and SOP Instance UID.
    url : str
        Of a bucket, its URL with the user's name and password if it has these; `name` has not.
    """

    name: str
    is_mirror: bool = False
    url: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether the files are objects of a store."""
        return is_url(self.name)


def find_index_url(source: object) -> str | None:
    """Return the URL of the index that a URL stands for; None of a path.

    A root stands for the index below it. A query, such as a signature, stays at the end.
    """
    if not isinstance(source, str) or not is_url(source):
        return None
    from mmindex.sources.stores import has_query

    place, mark, query = source.partition("?") if has_query(source) else (source, "", "")
    if not place.endswith(INDEX_NAME):
        place = f"{place.rstrip('/')}/{INDEX_NAME}"
    return place + mark + query


def find_files_root(
    index: Reader, given: str | os.PathLike[str] | None, index_url: str | None
) -> FilesRoot:
    """Return where an index's files are.

    Parameters
    ----------
    given : path or URL, optional
        Where the caller says that they are.
    index_url : str, optional
        Where the index came from.

    Raises
    ------
    IndexFormatError
        An index at a URL says that its files are in a local folder or on another host, and the
        caller does not: whoever wrote the index would choose what is read.
    """
    stored_root = index.stored_root
    if index_url is None and given is None:
        return FilesRoot(os.fsdecode(index.resolve_root(stored_root)))
    from mmindex.sources.stores import add_user, name_url, plain_url  # most archives are local

    stored = os.fsdecode(stored_root)
    own = stored if is_url(stored) else None
    if index_url is not None and own is None and not os.path.isabs(stored):
        own = _join_url(name_url(index_url), stored)
    if given is not None:
        if not is_url(given):
            return FilesRoot(os.path.realpath(given), own is not None)
        name = plain_url(os.fspath(given))
        is_same = is_url(stored) and name == stored.rstrip("/")
        return FilesRoot(name, not is_same, os.fspath(given))
    assert index_url is not None
    shown = name_url(stored) if is_url(stored) else stored
    if own is None or _host_of(own) != _host_of(index_url):
        raise IndexFormatError(
            f"the index is of an archive elsewhere, {shown!r}: to read that, give it as "
            "archive_root",
            path=name_url(index_url),
        )
    return FilesRoot(name_url(own).rstrip("/"), own != stored, add_user(own, index_url))


def _join_url(index_url: str, relative: str) -> str | None:
    """Return the URL of a root relative to an index; None where it leads above the host."""
    scheme, _, path = index_url.partition("://")
    host, _, key = path.partition("/")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(key), relative))
    if joined == ".." or joined.startswith(("../", "/")):
        return None
    return f"{scheme}://{host}" if joined == "." else f"{scheme}://{host}/{joined}"


def _host_of(url: str) -> tuple[str, str]:
    from urllib.parse import urlsplit  # takes as long to load as a hundred frames to read

    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower().rpartition("@")[2]


def check_mirrored_size(record: InstanceRecord, file: ByteSource) -> None:
    """Raise StaleIndexError unless a mirror's file has the size of a record's.

    Parameters
    ----------
    file : ByteSource
        The file; of a member of a container, the container.
    """
    assert record.fingerprint is not None
    expected = record.fingerprint.size
    if file.size != expected:
        raise StaleIndexError(
            "the file is not the one that was indexed: "
            f"expected {expected} bytes, found {file.size}",
            path=file.name,
        )


def check_own_uid(record: InstanceRecord, source: ByteSource) -> None:
    """Raise StaleIndexError unless a file has the SOP Instance UID of a record.

    Parameters
    ----------
    source : ByteSource
        The file; of a member of a container, the member.
    """
    uid = record.sop_instance_uid
    header = source.read(source.first, min(_HEAD, source.size))
    found = find_uid(header)
    if found != uid:  # the header may be longer, of another form, or deflated
        header = _read_header(record, source)
        found = find_uid(header)
    if found != uid:
        found = _scan_uid(header)
    if found != uid:
        raise StaleIndexError(
            "the file is not the one that was indexed: expected SOP Instance UID "
            f"{uid or '(none)'}, found {found or '(none)'}",
            path=source.name,
        )


def _read_header(record: InstanceRecord, source: ByteSource) -> bytes:
    """Return the bytes before the pixel data, of a deflated data set inflated ones."""
    if record.status is Status.DEFLATED and (inflated := _inflate_header(source)):
        return inflated  # else only its container has deflated it
    length = source.size
    if record.frames is not None and record.frames.value_offset > source.first:
        length = record.frames.value_offset - source.first
    return source.read(source.first, min(length, source.size, _MOST_HEADER))


def _inflate_header(source: ByteSource) -> bytes:
    """Return the beginning of a deflated data set; nothing where the file has none."""
    from mmindex.sources.inflated import inflate_source  # few files are deflated

    try:
        inflated = inflate_source(source)
    except FormatError:
        return b""
    return inflated.read(0, min(inflated.size, _MOST_HEADER))


def find_uid(header: bytes) -> str | None:
    """Return the SOP Instance UID in the first bytes of a file, in its usual form; None without.

    No sequence that has one comes before (0008,0018) in a data set (PS3.6): the first is the own.
    """
    found = re.search(_UID, header)
    if found is None:
        return None
    length = sum(found[found.lastindex or 0])  # of at most 64 bytes, in one of two
    value = header[found.end() : found.end() + length]
    return value.strip(b"\0 ").decode("latin-1") if len(value) == length else None


def _scan_uid(header: bytes) -> str:
    """Return the SOP Instance UID of a header, whatever its form; empty where it has none."""
    from mmindex.scan import tags  # an archive that has not moved needs no scan
    from mmindex.scan.header import scan_header

    try:
        return scan_header(header, force=True).text(tags.SOP_INSTANCE_UID)
    except MMIndexError:
        return ""
