"""The folder or bucket of an archive's files: the index's own, or another one."""

from __future__ import annotations

import os
import posixpath
from typing import Literal, NamedTuple

from mmindex.errors import IndexFormatError, StaleIndexError
from mmindex.index.reader import Reader
from mmindex.model import INDEX_NAME, InstanceRecord, is_url
from mmindex.sources.base import ByteSource

_HEAD = 8192  # bytes in which a SOP Instance UID is found
_MOST_HEADER = 1 << 20


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
    from urllib.parse import urlsplit

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


def check_mirrored_uid(record: InstanceRecord, source: ByteSource) -> None:
    """Raise StaleIndexError unless a mirror's file has the SOP Instance UID of a record.

    Parameters
    ----------
    source : ByteSource
        The file; of a member of a container, the member.
    """
    uid = record.sop_instance_uid
    if not uid or has_uid(source.read(source.first, min(_HEAD, source.size)), uid):
        return
    header = source.size
    if record.frames is not None and record.frames.value_offset > source.first:
        header = record.frames.value_offset - source.first
    if not has_uid(source.read(source.first, min(header, source.size, _MOST_HEADER)), uid):
        raise StaleIndexError(
            f"the file is not the one that was indexed: it has no SOP Instance UID {uid}",
            path=source.name,
        )


def has_uid(header: bytes, uid: str) -> bool:
    """Return whether a header has an element whose value is a UID, padded to an even length."""
    value = uid.encode() + b"\0" * (len(uid) % 2)
    lengths = {len(value).to_bytes(count, order) for count in (2, 4) for order in _ORDERS}
    at = header.find(value)
    while at >= 0:
        if header[max(0, at - 2) : at] in lengths or header[max(0, at - 4) : at] in lengths:
            return True
        at = header.find(value, at + 1)
    return False


_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
