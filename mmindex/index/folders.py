"""The folders in which an index has, or had, files: what was below a path is asked for by path.

Without them, a folder that is gone or that became a file costs a look at every record. A folder
stays noted when its files are gone: such a one costs a look for nothing. Keys are digests, which
have no order: which files are below a folder shows a look at the path of every record.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmindex.index.checksum import digest, seal, unseal
from mmindex.index.databases import FILE_ID
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.record_parts import LENGTH, TEXTS_AT, unpack_path


def folder_key(folder: bytes) -> bytes:
    """Return the key of a folder, by its path in the archive."""
    return digest(folder + b"/")


def parent_of(path: bytes) -> bytes:
    """Return the folder that a path is in, empty for the root."""
    return path.rpartition(b"/")[0]


def has_folder(txn: Transaction, folder: bytes) -> bool:
    """Return whether files of the index are, or were, below a folder."""
    return not folder or txn.get("folders", folder_key(folder)) is not None


def note_folders(txn: Transaction, paths: Iterable[bytes]) -> None:
    """Note the folders that files are in, and the folders above."""
    for folder in {parent_of(path) for path in paths}:
        while not has_folder(txn, folder):
            key = folder_key(folder)
            txn.put("folders", key, seal(key, b""))
            folder = parent_of(folder)


def find_below(txn: Transaction, folders: Iterable[bytes], ids: range) -> list[tuple[int, bytes]]:
    """Return ids and paths of the files below folders, of those with these ids.

    The path of a member is that of its container. Of other records only the path is read.
    """
    prefixes = tuple(folder + b"/" if folder else b"" for folder in folders)
    longest = max(map(len, prefixes), default=0)
    found = []
    for key, sealed in txn.walk("files", FILE_ID.pack(ids.start)):
        (file_id,) = FILE_ID.unpack(key)
        if file_id >= ids.stop:
            break
        (length,) = LENGTH.unpack_from(sealed, TEXTS_AT)
        start = TEXTS_AT + LENGTH.size
        if bytes(sealed[start : start + min(length, longest)]).startswith(prefixes):
            found.append((file_id, unpack_path(unseal(key, sealed))[0]))
    return found
