"""The length of an index file: as long as its meta page claims, and zeros after the last page.

LMDB leaves pages at the end unwritten that were freed in the transaction that took them. A page
beyond the end of a file is SIGBUS, so the file is extended after every commit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmindex.index.lmdb.beside import begin_writing, end_writing

# Zeros after the last page, which take no space on the disk: as far as the two numbers of 16 bits
# lead that LMDB follows in a page before it looks.
ROOM = 1 << 17


def used_length(env: Any) -> int:
    """Return the length of all pages of an environment, in bytes."""
    length: int = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    return length


def extend(env: Any, path: str) -> None:
    """Extend the file to its pages and the room after them."""
    needed = used_length(env) + ROOM
    if os.path.getsize(path) < needed:
        os.truncate(path, needed)


@contextmanager
def extending(env: Any, path: str) -> Iterator[None]:
    """Commit inside, then extend the file to the length that its meta page claims, and flush both.

    A note beside the index has its length before meanwhile. Hold the environment's lock.
    """
    begin_writing(path, os.path.getsize(path))
    try:
        yield
        extend(env, path)
        env.sync(True)
    finally:
        end_writing(path)
