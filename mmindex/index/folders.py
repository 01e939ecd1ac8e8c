"""The folders in which an index has, or had, files: what was below a path is asked for by path.

Without them, a folder that is gone or that became a file costs a look at every record. A folder
stays noted when its files are gone: such a one costs a look for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmindex.index.checksum import digest, seal
from mmindex.index.lmdb.transaction import Transaction


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
