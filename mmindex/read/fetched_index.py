"""An index at a URL: fetched once to a folder of the user's own, again when the object changed.

Trusted is whoever may write the object at the URL that the user named, as the owner of a local
index is. So such an index reads objects of its own host, and other places only where the user
names them, see `mmindex.read.files_root`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress

from mmindex.errors import IndexFormatError, IndexWriteError, MMIndexError, StaleIndexError
from mmindex.index.names import begins_like_lmdb
from mmindex.index.trust import is_own, others_may_write
from mmindex.model import INDEX_NAME, LOCK, Fingerprint
from mmindex.own_lock import OwnLock
from mmindex.sources.base import ByteSource
from mmindex.sources.file import write_at
from mmindex.sources.requests import run_at_once

_PART = 4 << 20  # bytes a request
_TIMES = 3  # attempts, where the index is replaced while it is fetched
_HEAD = 32  # bytes that show an LMDB file
_UNUSED = 7 * 24 * 3600  # seconds after which an older version of an index is dropped
_FORGOTTEN = 90 * 24 * 3600  # seconds after which the copy of another URL's index is dropped
_NEW = ".new-"  # in the names of files that are being written
_VERSION = struct.Struct("<QqQ")
_LOCK = OwnLock()  # a copy that is open in this process is not replaced


def fetch_index(url: str, store: object = None) -> str:
    """Return the path of a local copy of the index at a URL, as the index is now.

    One request tells whether the object is the one that was fetched before. The name of a copy says
    of which URL and version it is, so that copies in use stay as they are; those of older versions
    are removed a week after their last use, and those of other URLs after 90 days.

    Parameters
    ----------
    store : obstore store, optional
        As for `open_file`.

    Raises
    ------
    MissingFileError, RemoteReadError, StaleIndexError
        There is no such object; a server does not give its bytes; it changed each time meanwhile.
    IndexFormatError
        It is no index.
    IndexWriteError
        The cache folder is not the user's own, has no room, or cannot be written.
    """
    for _ in range(_TIMES - 1):
        with suppress(StaleIndexError):  # it was replaced meanwhile
            return _fetch_now(url, store)
    return _fetch_now(url, store)


def _fetch_now(url: str, store: object) -> str:
    from mmindex.sources.object_store import open_url

    source = open_url(url, store=store)
    version, name = source.version, source.name or url
    try:
        folder = _make_cache_folder()
        ours = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        path = os.path.join(folder, f"{ours}-{_digest(version)}{INDEX_NAME}")
        with _LOCK:
            if not _is_whole(path, source.size):
                _fetch(source, path)
                _remove_unused(folder, ours, path)
        os.utime(path)
    except MMIndexError:
        raise
    except OSError as error:
        raise IndexWriteError(
            f"cannot keep the index: {error.strerror}; set XDG_CACHE_HOME to another folder",
            path=error.filename or name,
        ) from error
    finally:
        source.close()
    return path


def _digest(version: Fingerprint) -> str:
    packed = _VERSION.pack(version.size, version.mtime_ns, version.inode)
    return hashlib.blake2b(packed, digest_size=12).hexdigest()


def _make_cache_folder() -> str:
    """Return the folder of copies, which belongs to the user alone."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(base, "mmindex")
    os.makedirs(base, mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status, above = os.lstat(folder), os.stat(base)
    why = None
    if not stat.S_ISDIR(status.st_mode):
        why = "it is no folder"
    elif not is_own(status) or others_may_write(status):
        why = "other users may write it"
    elif not is_own(above) or (not above.st_mode & stat.S_ISVTX and others_may_write(above)):
        why = f"other users may rename it in {base}"
    if why is not None:
        raise IndexWriteError(
            f"copies of indexes are not kept here: {why}; set XDG_CACHE_HOME to another folder",
            path=folder,
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(folder, 0o700)
    return folder


def _is_whole(path: str, size: int) -> bool:
    """Return whether a file is a copy that was finished."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and is_own(status) and status.st_size == size


def _fetch(source: ByteSource, path: str) -> None:
    """Write a copy under another name, and rename it: whoever does the same meanwhile, too."""
    if not begins_like_lmdb(source.read(0, min(_HEAD, source.size))):
        raise IndexFormatError("not an mmindex index", path=source.name)
    folder, name = os.path.split(path)
    free = shutil.disk_usage(folder).free
    if source.size > free:
        raise IndexWriteError(
            f"no room for a copy of the index {source.name}: expected {source.size} bytes, found "
            f"{free}; set XDG_CACHE_HOME to another folder",
            path=folder,
        )
    number, unfinished = tempfile.mkstemp(prefix=name + _NEW, dir=folder)
    try:
        try:
            run_at_once(_copier(source, number), range(0, source.size, _PART))
            os.fsync(number)
        finally:
            os.close(number)
        try:
            os.link(unfinished, path)  # one that another process has finished stays
        except OSError:
            if not _is_whole(path, source.size):
                os.replace(unfinished, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)


def _copier(source: ByteSource, number: int) -> Callable[[int], None]:
    def copy(start: int) -> None:
        write_at(number, source.read(start, min(_PART, source.size - start)), start)

    return copy


def _remove_unused(folder: str, ours: str, current: str) -> None:
    """Remove copies that nobody opened for long, and unfinished ones."""
    now = time.time()
    with os.scandir(folder) as entries:
        for entry in entries:
            is_copy, is_new = entry.name.endswith(INDEX_NAME), _NEW in entry.name
            if entry.path == current or not (is_copy or is_new):
                continue
            is_older = is_new or entry.name.startswith(ours + "-")
            with suppress(OSError):
                if entry.stat().st_mtime < now - (_UNUSED if is_older else _FORGOTTEN):
                    os.unlink(entry.path)
                    os.unlink(entry.path + LOCK)
