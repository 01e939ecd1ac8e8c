"""Counters of an index, which every commit keeps up to date: an archive is counted at once.

The value of "counters" in the database "meta", before its checksum; each modulo 2**64:

    offset  size  type   field
    0       56    u8[7]  files by status: indexed, deflated, stream, no-pixel-data, not-dicom,
                         unreadable, container
    56      8     u8     instances: different SOP Instance UIDs of files with frames
    64      8     u8     frames: Number of Frames of all files with frames
    72      8     u8     size of all files in bytes; members are within that of their container

All integers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from mmindex.index.record import RecordKeys
from mmindex.model import Status

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
