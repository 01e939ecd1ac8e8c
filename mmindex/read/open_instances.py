"""The instances that an archive keeps open, and which of them to close for others."""

from __future__ import annotations

import resource
from typing import NamedTuple

from mmindex.index.instance_names import InstanceName
from mmindex.read.instance import Instance


class Opened(NamedTuple):
    """An instance that is kept open, and when its place in the index was last looked up."""

    instance: Instance
    file_id: int
    due: float


class OpenInstances:
    """Open instances by SOP Instance UID, at most so many; the least used ones are closed.

    Two dicts take turns: when the recent one is full, it becomes the older one, whose instances
    return when they are used, or are dropped at the next turn. Nothing is locked: a step on a dict
    is atomic, and a dropped file stays open for the threads that still read it.

    Parameters
    ----------
    most : int or None
        How many; a quarter of the files that this process may open where None is given.
    """

    __slots__ = ("_most", "_older", "_read", "recent")

    def __init__(self, most: int | None) -> None:
        self._most = most or _default_most()
        self.clear()

    def clear(self) -> None:
        """Drop all."""
        self.recent: dict[InstanceName, Opened] = {}
        self._older: dict[InstanceName, Opened] = {}
        self._read: set[InstanceName] = set()  # of files that were read, and not kept open

    def find(self, name: InstanceName) -> Opened | None:
        """Return the instance if it is open."""
        opened = self.recent.get(name)
        if opened is None:
            opened = self._older.get(name)
            if opened is not None:
                self.keep(name, opened)
        return opened

    def keep(self, name: InstanceName, opened: Opened) -> None:
        """Keep an instance open."""
        if len(self.recent) >= max(1, self._most // 2) and name not in self.recent:
            self._older = self.recent if self._most > 1 else {}
            self.recent = {}
        self.recent[name] = opened

    def is_first_read(self, name: InstanceName) -> bool:
        """Return whether an instance is neither open nor was read lately; it was from now on."""
        if name in self.recent or name in self._older or name in self._read:
            return False
        if len(self._read) >= self._most:
            self._read = set()
        self._read.add(name)
        return True


def _default_most() -> int:
    """Return a quarter of the files that this process may open: a mapped one counts twice."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(1, min(4096, soft // 4))
