"""A clock that a test sets."""

from __future__ import annotations


class Clock:
    """Stands in for time.monotonic where files and index are looked at again."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
