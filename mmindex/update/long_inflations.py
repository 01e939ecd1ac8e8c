"""One long inflation at a time: a deflated file of two megabytes may take two gigabytes of memory.

Threads of a process wait for each other, and so do the processes of a pool that `share_turn` was
given for. A process that dies with the turn takes its pool along, and the next pool has another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.synchronize import Lock as ProcessLock

_turn: threading.Lock | ProcessLock = threading.Lock()


def share_turn(turn: ProcessLock | None = None) -> None:
    """Take turns with the processes that have this lock, too; without one, alone."""
    global _turn
    _turn = turn or threading.Lock()


class taking_turns:
    """Give a `with` statement what waits for the turn, which ends with it.

    A class, since every scan of a file begins with one, and few wait.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: threading.Lock | ProcessLock | None = None

    def __enter__(self) -> Callable[[], object]:
        return self._wait

    def _wait(self) -> None:
        turn = _turn
        turn.acquire()
        self._held = turn

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._held.release()


if hasattr(os, "register_at_fork"):  # another thread of the parent may have the turn
    os.register_at_fork(after_in_child=share_turn)
