"""The names of an index's files: its own, those beside it, and the beginning of LMDB's files."""

from __future__ import annotations

import os
import re
import struct

from mmindex.model import INDEX_NAME, LOCK, WRITING

LMDB_MAGIC = struct.pack("=I", 0xBEEF_C0DE)  # in the first page, after its 32- or 64-bit header
_HEAD = 132  # bytes, up to the magic of a DICOM file


def is_url_root(root: bytes) -> bool:
    """Return whether an archive's root is the URL of a bucket, and no folder.

    A folder's root begins with a slash or, relative to the index, with a dot.
    """
    if root.startswith((b"/", b".")):
        return False
    return re.match(rb"[A-Za-z][A-Za-z0-9+.-]*://", root) is not None


def find_index_file(path: str | os.PathLike[str]) -> str:
    """Return the index file that a path stands for: a folder stands for the one in it."""
    return os.path.join(path, INDEX_NAME) if os.path.isdir(path) else os.fspath(path)


def begins_like_lmdb(head: bytes) -> bool:
    """Return whether the first 28 bytes of a file are those of an LMDB file."""
    return LMDB_MAGIC in (head[16:20], head[24:28])


def is_index(path: str) -> bool:
    """Return whether a file begins as LMDB's do; a DICOM file's preamble could, too."""
    head = _read_head(path)
    return begins_like_lmdb(head) and head[128:] != b"DICM"


def is_of_index(path: str) -> bool:
    """Return whether a path is that of an index or of a file beside one, be it there or not.

    A hard link to a lock file is found by its first bytes, which are LMDB's.
    """
    if is_index(path) or _read_head(path).startswith(LMDB_MAGIC):
        return True
    target = os.path.realpath(path)
    return any(
        target.endswith(suffix) and is_index(target.removesuffix(suffix))
        for suffix in (LOCK, WRITING)
    )


def _read_head(path: str) -> bytes:
    """Return the first bytes of a regular file; none of others."""
    if not os.path.isfile(path):
        return b""
    with open(path, "rb") as file:
        return file.read(_HEAD)
