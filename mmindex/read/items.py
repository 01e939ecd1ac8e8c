"""The frames of selected instances by one running number."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from operator import index as as_int

from mmindex.errors import FrameIndexError
from mmindex.model import InstanceRecord


class Items:
    """Which frame of which instance an item is.

    Attributes
    ----------
    uids : list of str
        SOP Instance UID of each instance.
    ends : array of int
        Running number after each instance's last frame.
    located : array of int
        How many frames each instance has; Number of Frames may declare more.
    paths : list of bytes
        Where each file is, if files are read by their paths; else empty.
    """

    __slots__ = ("ends", "located", "paths", "uids")

    def __init__(self, records: Iterable[InstanceRecord], *, by_path: bool) -> None:
        self.uids: list[str] = []
        self.paths: list[bytes] = []
        self.ends, self.located = array("q"), array("q")
        end = 0
        for record in records:
            end += record.number_of_frames
            self.uids.append(record.sop_instance_uid)
            self.ends.append(end)
            self.located.append(0 if record.frames is None else record.frames.frames_located)
            if by_path:
                self.paths.append(record.key)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def find(self, index: int) -> tuple[int, int]:
        """Return the number of the instance that has an item, and the frame index there.

        Raises
        ------
        FrameIndexError
            There is no such item; a negative index does not count from the end.
        """
        index = as_int(index)  # numpy 1 makes a float of uint64 and int
        at = bisect_right(self.ends, index)
        if index < 0 or at == len(self.ends):
            raise FrameIndexError(f"item {index} is out of range: there are {len(self)} frames")
        return at, index - (self.ends[at - 1] if at else 0)

    def next_after(self, index: int) -> int:
        """Return the item to try where one fails: the next, or the first of the next instance.

        An instance's frames that no file has come after those that it has: none of them is tried,
        since a file of a few bytes can declare any number.
        """
        at, frame_index = self.find(index)
        following = index + 1 if frame_index + 1 < self.located[at] else self.ends[at]
        return following if following < len(self) else 0

    def digest(self) -> bytes:
        """Return what other instances, or other numbers of frames, do not have."""
        digest = hashlib.sha256(self.ends.tobytes())
        digest.update("\0".join(self.uids).encode())
        return digest.digest()
