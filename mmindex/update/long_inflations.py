"""One long inflation at a time: a deflated file of two megabytes may take two gigabytes of memory.

Threads of a process wait for each other, and so do the processes of a pool that `share_turn` was
given for. A process that dies with the turn takes its pool along, and the next pool has another.
A thread may take the turn that it has: a deflated file of a container may itself be deflated.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.synchronize import RLock as ProcessLock

_turn: AbstractContextManager[object] = threading.RLock()


def share_turn(turn: ProcessLock | None = None) -> None:
    """Take turns with the processes that have this lock, too; without one, alone."""
    global _turn
    _turn = turn or threading.RLock()


class taking_turns:
    """Give a `with` statement what waits for the turn, which ends with it.

    A class, since every scan of a file begins with one, and few wait.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: list[AbstractContextManager[object]] = []

    def __enter__(self) -> Callable[[], object]:
        return self._wait

    def _wait(self) -> None:
        turn = _turn
        turn.__enter__()
        self._taken.append(turn)

    def __exit__(self, *_: object) -> None:
        for turn in self._taken:
            turn.__exit__(None, None, None)


if hasattr(os, "register_at_fork"):  # another thread of the parent may have the turn
    os.register_at_fork(after_in_child=share_turn)
