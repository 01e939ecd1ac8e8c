"""Counters of an index, which every commit keeps up to date: an archive is counted at once."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from mmindex.index.record import RecordKeys
from mmindex.model import Status

# Files of each status, in the order of the format; instances, frames, bytes of files.
_PACKED = struct.Struct("<7QQQQ")
_STATUSES = tuple(Status)


@dataclass(slots=True)
class Counters:
    """The numbers of files, instances and frames in an index.

    Attributes
    ----------
    statuses : dict of Status to int
        Files by status.
    instances : int
        Different SOP Instance UIDs of files with frames.
    frames : int
        Number of Frames of all files with frames.
    file_bytes : int
        Size of all files, in bytes; members of containers are within the size of these.
    """

    statuses: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(_STATUSES, 0))
    instances: int = 0
    frames: int = 0
    file_bytes: int = 0

    @property
    def files(self) -> int:
        """Files of any status."""
        return sum(self.statuses.values())

    def count(self, keys: RecordKeys, by: int) -> None:
        """Count a file that is put in (1) or dropped (-1), but not its UID."""
        self.statuses[keys.status] += by
        if keys.status.has_frames:
            self.frames += by * keys.number_of_frames
        if not keys.member:
            self.file_bytes += by * keys.fingerprint.size

    def pack(self) -> bytes:
        """Return the counters, each a u8, little-endian, modulo 2**64."""
        counts = (*self.statuses.values(), self.instances, self.frames, self.file_bytes)
        return _PACKED.pack(*(count % (1 << 64) for count in counts))

    @classmethod
    def unpack(cls, packed: bytes) -> Counters:
        """Return the counters that were packed."""
        *statuses, instances, frames, file_bytes = _PACKED.unpack(packed)
        by_status = dict(zip(_STATUSES, statuses, strict=True))
        return cls(by_status, instances, frames, file_bytes)
