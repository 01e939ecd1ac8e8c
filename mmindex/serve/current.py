"""CurrentArchive: an archive that is opened again when another index file is at its path.

A build commits to the index file, which an open archive follows by itself. A build after the index
was deleted, and an index that is moved there, are a new file: the open archive keeps reading the
old one. LMDB opens one file a path and process, so that the old one is closed first.
"""

from __future__ import annotations

import copy
import os
import threading

from mmindex import Archive
from mmindex.errors import StaleIndexError

_Identity = tuple[int, int]


class CurrentArchive:
    """Returns the archive of the index file that is at a path now.

    Parameters
    ----------
    archive : Archive
        The archive, open; nobody else uses it.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._identity = _identify(archive.path)
        self._lock = threading.Lock()

    def get(self) -> Archive:
        """Return the archive, after a look at the path; a thread calls this.

        Raises
        ------
        StaleIndexError
            The index is gone.
        IndexFormatError
            The index that took its place cannot be read.
        """
        with self._lock:
            identity = _identify(self._archive.path)
            if identity != self._identity:
                self._archive.close()
                self._archive = copy.copy(self._archive)  # by its paths, as a pickle
                self._identity = identity
            return self._archive


def _identify(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise StaleIndexError("the index is gone; rebuild the archive") from None
    return status.st_dev, status.st_ino
