"""Notices that the system may have dropped reports of changes: a watch then looks at all files.

Linux keeps a bounded queue of reports (inotify(7), fs.inotify.max_queued_events) and drops what
comes while the queue is full. The system reports that, and watchfiles passes it over. So the length
of the queue is looked at many times a second; and where this process stood still, as a machine
without time for it or a stopped process does, reports that follow may be those that were kept.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
import threading
import time
from contextlib import suppress

from mmindex.closing import Closing

_STEP = 0.05  # seconds between two looks
_STALL = 0.5  # seconds between two looks after which the process stood still
_DESCRIPTORS = "/proc/self/fd"
_MOST_QUEUED = "/proc/sys/fs/inotify/max_queued_events"
_EVENT = 16  # bytes of a report, at least


class LostReports(Closing):
    """Looks at the queues of the watches that this process begins from now on."""

    def __init__(self) -> None:
        self._others = _find_queues()
        self._numbers: frozenset[int] = frozenset()
        self._longest = _most_queued() * _EVENT // 2
        self._is_full = False
        self._stalled_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="mmindex-queues")
        self._thread.start()

    def close(self) -> None:
        """End the looks."""
        self._ended.set()
        self._thread.join()

    def take(self, since: float, *, is_quiet: bool) -> bool:
        """Return whether reports may have been lost since the last call.

        Parameters
        ----------
        since : float
            When the wait for reports began, by the monotonic clock.
        is_quiet : bool
            Whether that wait brought none.
        """
        if not self._numbers:
            self._numbers = _find_queues() - self._others
        lost, self._is_full = self._is_full, False
        if is_quiet:
            if self._stalled_at < since:
                self._stalled_at = 0.0
        elif self._stalled_at:
            lost, self._stalled_at = True, 0.0
        return lost

    def _look(self) -> None:
        last = time.monotonic()
        while not self._ended.wait(_STEP):
            if any(_length(number) > self._longest for number in self._numbers):
                self._is_full = True
            now = time.monotonic()
            if now - last > _STALL:
                self._stalled_at = now
            last = now


def _find_queues() -> frozenset[int]:
    """Return the file descriptors of this process that are queues of reports."""
    found = []
    with suppress(OSError):  # where there is no /proc: no Linux
        for name in os.listdir(_DESCRIPTORS):
            with suppress(OSError):  # that of the listing
                if os.readlink(os.path.join(_DESCRIPTORS, name)) == "anon_inode:inotify":
                    found.append(int(name))
    return frozenset(found)


def _most_queued() -> int:
    try:
        with open(_MOST_QUEUED, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1 << 14


def _length(number: int) -> int:
    """Return how many bytes of reports wait in a queue."""
    length = array.array("i", [0])
    with suppress(OSError):  # closed meanwhile
        fcntl.ioctl(number, termios.FIONREAD, length)
    return length[0]
