"""The check of a whole index in a process of its own, while this one looks at the files.

A check takes as long as a look at all files. A large index is checked beside that where this
process may start another one: it runs no other thread, and has a second core.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import closing, suppress
from multiprocessing.connection import Connection

from mmindex.errors import IndexFormatError, MMIndexError
from mmindex.index.index_file import CheckedPages
from mmindex.index.reader import Reader

_LEAST_FILES = 20_000  # in an index that is checked beside: a process takes some 10 ms to start
_TO_END = 5.0  # seconds that a process has to end by itself


class IndexCheck:
    """A check of the index that a store has open, under way in another process.

    Parameters
    ----------
    store : Reader
        The index.
    """

    def __init__(self, store: Reader) -> None:
        self._store = store
        context = multiprocessing.get_context("fork")  # another would run the main module again
        self._verdict, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_check, args=(store.path, sender), name="mmindex-check", daemon=True
        )
        with sender:
            self._process.start()

    def is_done(self) -> bool:
        """Return whether the check has ended."""
        return self._verdict.poll()

    def end(self) -> None:
        """Wait for the end of the check. Pages that it found sound are not checked again.

        Raises
        ------
        IndexFormatError
            The index is damaged, or not whole.
        """
        found: CheckedPages | MMIndexError | None = None
        with suppress(EOFError, OSError):  # the process was killed, or had no memory
            found = self._verdict.recv()
            self._process.join(_TO_END)
        if isinstance(found, IndexFormatError):
            raise found
        # The other process opens the index by its path, where a build may have put another one.
        if not (isinstance(found, CheckedPages) and self._store.note_checked(found)):
            self._store.check()

    def close(self) -> None:
        """End the process."""
        self._process.kill()  # a fork has the program's handlers of other signals
        self._process.join()
        self._verdict.close()


def begin_check(store: Reader) -> IndexCheck | None:
    """Begin a check of an index, or return None where it is to be checked in this process."""
    if store.count_files() < _LEAST_FILES or not _may_start_process():
        return None
    try:
        return IndexCheck(store)
    except OSError:  # no process, memory or descriptor is left
        return None


def _may_start_process() -> bool:
    return (
        hasattr(os, "sched_getaffinity")
        and len(os.sched_getaffinity(0)) > 1
        and threading.active_count() == 1
        and not multiprocessing.current_process().daemon  # which may have no children
    )


def _check(path: str, sender: Connection) -> None:
    """Check an index, and send which pages are sound, or what is wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    with suppress(RuntimeError):  # no thread is left
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with closing(Reader(path)) as store:
            sender.send(store.check())
    except MMIndexError as error:
        sender.send(error)


def _end_with_parent() -> None:
    """End this process when its parent was killed, since nobody waits for the verdict then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
