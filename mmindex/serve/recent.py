"""Values that are kept while they are used, up to a number of pieces together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values used last, by a text; threads share it. The last one stays whatever its size.

    Parameters
    ----------
    most : int
        Pieces of all values together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces = 0
        self._values: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Value | None:
        """Return a value; None where it is not kept."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def keep(self, key: str, value: Value, pieces: int) -> None:
        """Keep a value in place of the one there; each counts as a piece at least."""
        pieces = max(1, pieces)
        with self._lock:
            self._pieces += pieces - self._values.pop(key, (None, 0))[1]
            self._values[key] = value, pieces
            while self._pieces > self._most and len(self._values) > 1:
                self._pieces -= self._values.popitem(last=False)[1][1]
