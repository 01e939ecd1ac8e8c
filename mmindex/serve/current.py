"""CurrentArchive: an archive that is opened again when another index file is at its path.

A build commits to the index file, which an open archive follows by itself. A build after the index
was deleted, and an index that is moved there, are a new file: the open archive keeps reading the
old one. LMDB opens one file a path and process, so that the old one is closed first. An index at a
URL is asked for now and then; what it was before stays in use while the server does not answer.
"""

from __future__ import annotations

import copy
import os
import threading
from time import monotonic

from mmindex import Archive
from mmindex.errors import MMIndexError, StaleIndexError
from mmindex.read.fetched_index import fetch_index

_FETCH_AFTER = 30.0  # seconds after which the index at a URL is asked for again

_Identity = tuple[int, int]


class CurrentArchive:
    """Returns the archive of the index file that is at a path now.

    Parameters
    ----------
    archive : Archive
        The archive, open; nobody else uses it.
    index_url : str, optional
        Where its index came from.
    """

    def __init__(self, archive: Archive, index_url: str | None = None) -> None:
        self._archive = archive
        self._index_url = index_url
        self._identity = _identify(archive.path)
        self._due = monotonic() + _FETCH_AFTER
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
            identity = _identify(self._find_path())
            if identity != self._identity:
                self._archive.close()
                self._archive = copy.copy(self._archive)  # by its paths, as a pickle
                self._identity = identity
            return self._archive

    def _find_path(self) -> str:
        """Return the path of the index; one at a URL is fetched if it is another one now."""
        if self._index_url is None or monotonic() < self._due:
            return self._archive.path
        self._due = monotonic() + _FETCH_AFTER
        try:
            return fetch_index(self._index_url)
        except MMIndexError:  # the server does not answer just now
            return self._archive.path


def _identify(path: str) -> _Identity:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise StaleIndexError("the index is gone; rebuild the archive") from None
    return status.st_dev, status.st_ino
