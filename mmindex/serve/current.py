"""CurrentArchive: an archive that is opened again when another index file is at its path.

A build commits to the index file, which an open archive follows by itself. A build after the index
was deleted, and an index that is moved there, are a new file: the open archive keeps reading the
old one. LMDB opens one file a path and process, so that the old one is closed first, whoever reads
it: what is read from an archive that is closed meanwhile is read once more. An index at a URL is
asked for now and then; what it was before stays in use while the server does not answer.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from mmindex import Archive
from mmindex.errors import MMIndexError, StaleIndexError
from mmindex.read.fetched_index import fetch_index

_FETCH_AFTER = 30.0  # seconds after which the index at a URL is asked for again

_CLOSED = "the index is closed"  # says the index of an archive that was closed

_Identity = tuple[int, int]
Asked = ParamSpec("Asked")
Taken = TypeVar("Taken")


def was_replaced(error: Exception) -> bool:
    """Return whether an error says that an archive was closed while it was read."""
    return isinstance(error, ValueError) and str(error) == _CLOSED


def reading_again(read: Callable[Asked, Taken]) -> Callable[Asked, Taken]:
    """Have a function read once more where the archive that it reads is closed meanwhile."""

    @wraps(read)
    def read_again(*args: Asked.args, **kwargs: Asked.kwargs) -> Taken:
        try:
            return read(*args, **kwargs)
        except ValueError as error:
            if not was_replaced(error):
                raise
            return read(*args, **kwargs)

    return read_again


def answering_again(
    answer: Callable[Asked, Awaitable[Taken]],
) -> Callable[Asked, Coroutine[Any, Any, Taken]]:
    """Have a request answered from its beginning where the archive is closed before it is sent."""

    @wraps(answer)
    async def answer_again(*args: Asked.args, **kwargs: Asked.kwargs) -> Taken:
        try:
            return await answer(*args, **kwargs)
        except ValueError as error:
            if not was_replaced(error):
                raise
            return await answer(*args, **kwargs)

    return answer_again


class CurrentArchive:
    """Returns the archive of the index file that is at a path now.

    Parameters
    ----------
    archive : Archive
        The archive, open; nobody else uses it.
    index_url : str, optional
        Where its index came from.

    Attributes
    ----------
    number : int
        How many indexes were opened after the first one.
    """

    def __init__(self, archive: Archive, index_url: str | None = None) -> None:
        self.number = 0
        self._archive = archive
        self._index_url = index_url
        self._identity = _identify(archive.path)
        self._due = monotonic() + _FETCH_AFTER
        self._lock = threading.Lock()

    @property
    def latest(self) -> Archive:
        """The archive that the last look at the path found."""
        return self._archive

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
                self.number += 1
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
