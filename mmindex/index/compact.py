"""An index rewritten without the pages that changes left unused."""

from __future__ import annotations

import os
from contextlib import closing, suppress

from mmindex.errors import IndexWriteError
from mmindex.index.store import Store
from mmindex.index.write_lock import only_writer


def compact_index(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Rewrite an index, and put the new file in the old one's place.

    Programs that have it open go on with the old file until they look at it again.

    Returns
    -------
    tuple of int
        Its size before and after, in bytes.

    Raises
    ------
    MissingFileError, IndexFormatError
        There is no such index, or it is none.
    IndexWriteError
        A build is at work, or the new file cannot be written.
    """
    path = os.path.abspath(os.fspath(path))
    unfinished = f"{path}.new-{os.getpid()}"
    Store(path).close()  # it is an index
    with only_writer(path), closing(Store(path)) as store:
        before = os.path.getsize(path)
        try:
            store.copy_compact(unfinished)
            with only_writer(unfinished):
                after = os.path.getsize(unfinished)
                os.replace(unfinished, path)
                # LMDB's lock file counts transactions of the old file: the new one needs its own.
                with suppress(FileNotFoundError):
                    os.remove(f"{path}-lock")
        except OSError as error:
            raise IndexWriteError(f"cannot write the index: {error}", path=path) from error
        finally:
            with suppress(FileNotFoundError):
                os.remove(unfinished)
    return before, after
