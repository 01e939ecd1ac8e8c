"""Requests to stores: how many run at once, which process may send them, who watches them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mmindex.errors import RemoteReadError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Item = TypeVar("Item")

AT_ONCE = 16  # requests


class Request(NamedTuple):
    """A request that a store answered.

    Attributes
    ----------
    name : str
        URL of the object, or of what was listed.
    offset, length : int
        The bytes that came; both are 0 where only the object's version, or a listing, was asked
        for.
    """

    name: str
    offset: int = 0
    length: int = 0


Watch = Callable[[Request], None]

watchers: list[Watch] = []  # called by the threads that read
_used_by: int | None = None  # the process whose threads serve obstore
_threads: ThreadPoolExecutor | None = None


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Call `watch` after each request of this process, for a `with` statement.

    Many threads may call it at the same time. What a store retries is one request.
    """
    watchers.append(watch)
    try:
        yield
    finally:
        watchers.remove(watch)


def report_request(name: str | None, offset: int = 0, length: int = 0) -> None:
    """Tell those who watch of a request."""
    for watch in tuple(watchers):
        watch(Request(name or "", offset, length))


def claim_process() -> None:
    """Mark this process as the one that sends requests.

    Raises
    ------
    RemoteReadError
        The process was forked from one that has sent requests: obstore's threads do not outlive a
        fork, and a request would wait for ever.
    """
    global _used_by
    process = os.getpid()
    if _used_by == process:
        return
    if _used_by is not None:
        raise RemoteReadError(
            "object stores cannot be read in a forked process after its parent read from one: "
            "start processes by spawn or forkserver, such as DataLoader(..., "
            'multiprocessing_context="spawn")'
        )
    _used_by = process


def run_at_once(call: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Call a function for each item in threads that all sources share; it calls none of them.

    A thread takes one item after the other: to hand over each by itself would cost about as much as
    its request.

    Raises
    ------
    MMIndexError
        As the call, for one of the items that fail; items that wait then are left out, and calls
        that run have ended.
    """
    if len(items) <= 1:
        for item in items:
            call(item)
        return
    from concurrent.futures import wait

    waiting = deque(items)

    def work() -> None:
        while waiting:
            try:
                item = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                call(item)
            except BaseException:
                waiting.clear()
                raise

    threads = _share_threads()
    futures = [threads.submit(work) for _ in range(min(AT_ONCE, len(items)))]
    try:
        wait(futures)
    except BaseException:  # an interrupt of this thread
        waiting.clear()
        wait(futures)  # what the call writes to may be gone when this function has ended
        raise
    for future in futures:
        future.result()


def _share_threads() -> ThreadPoolExecutor:
    global _threads
    if _threads is None:
        from concurrent.futures import ThreadPoolExecutor  # for which local files do not wait

        _threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="mmindex-requests")
    return _threads


def _forget_threads() -> None:
    """Leave the threads to the parent, in a process that was forked."""
    global _threads
    _threads = None


os.register_at_fork(after_in_child=_forget_threads)
