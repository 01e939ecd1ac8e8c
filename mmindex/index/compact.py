"""An index rewritten without the pages that changes left unused."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress

from mmindex.errors import IndexWriteError
from mmindex.index.lmdb import environment
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.names import find_index_file
from mmindex.index.store import Store


def compact_index(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> tuple[int, int]:
    """Rewrite an index that nobody has open, and put the new file in the old one's place.

    Parameters
    ----------
    path : path
        The index file, or the folder that has it.
    progress : callable, optional
        Called now and then with the number of values of the index copied, and of all.

    Returns
    -------
    tuple of int
        Size of the index before and after, in bytes. An index that would be no smaller stays as it
        is.

    Raises
    ------
    MissingFileError, IndexFormatError
        There is no such index, or the file is no index.
    IndexWriteError
        A program has it open, a build is at work, or the new file cannot be written.
    """
    path = os.path.realpath(find_index_file(path))
    unfinished = f"{path}.new-0"  # no process has this number: that of a killed one is replaced
    Store(path).close()  # it is an index
    with only_writer(path):
        before = os.path.getsize(path)
        try:
            with suppress(FileNotFoundError):
                os.remove(unfinished)
            with closing(Store(path)) as store:
                store.copy_to(unfinished, progress)
            after = os.path.getsize(unfinished)
            if after >= before:
                return before, before
            with environment.exclusively(path), only_writer(unfinished):
                os.replace(unfinished, path)
                # LMDB's lock file has the old file's transactions. The first process that opens it
                # resets it, and while this process holds it no other can.
                Store(path).close()
        except OSError as error:
            raise IndexWriteError(f"cannot write the index: {error}", path=path) from error
        finally:
            with suppress(FileNotFoundError):
                os.remove(unfinished)
    return before, after
