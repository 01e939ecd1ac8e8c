"""The values that flow from scan to index to read: frozen, comparable, picklable.

Nothing here reads a file or knows LMDB. Offsets count bytes from the start of the
file (of a deflated data set: from the start of the inflated one); ranges are half-open.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from itertools import pairwise
from operator import index, itemgetter
from typing import NamedTuple, Protocol

from mmindex.errors import (
    FrameIndexError,
    IndexFormatError,
    NotAddressableError,
    TruncatedFrameError,
)

Buffer = bytes | memoryview | mmap.mmap  # what a scan reads

INDEX_NAME = ".mmindex"  # of an archive's index, in its root
LOCK, WRITING = "-lock", "-writing"  # added to an index's name: the files beside it
ITEM_HEADER_LENGTH = 8  # item tag and 4-byte length (PS3.5 7.5)


class Status(str, Enum):
    """What mmindex can do for a file."""

    INDEXED = "indexed"
    DEFLATED = "deflated"
    STREAM = "stream"
    NO_PIXEL_DATA = "no-pixel-data"
    NOT_DICOM = "not-dicom"
    UNREADABLE = "unreadable"

    @property
    def has_frames(self) -> bool:
        """Whether frames of such a file can be read."""
        return self in (Status.INDEXED, Status.DEFLATED)


class Boundaries(str, Enum):
    """Where the frame boundaries came from."""

    NONE = "none"
    NATIVE = "native"
    BASIC_OFFSET_TABLE = "basic-offset-table"
    EXTENDED_OFFSET_TABLE = "extended-offset-table"
    ONE_FRAGMENT_A_FRAME = "one-fragment-a-frame"
    ALL_FRAGMENTS = "all-fragments"
    START_MARKERS = "start-markers"


class Layout(IntEnum):
    """How a FrameTable says where frames lie."""

    NATIVE = 1  # a first offset and a stride
    FRAGMENT_A_FRAME = 2  # one item a frame
    FRAGMENTS = 3  # a run of items a frame
    TRUSTED = 4  # a run of items a frame, which is looked at when the frame is read


class ByteRange(NamedTuple):
    """`length` bytes from `offset` on."""

    offset: int
    length: int


class Fingerprint(NamedTuple):
    """What tells a file from its changed self."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Return the fingerprint of a file whose status this is."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class Entries(Protocol):
    """Packed offsets: `bytes`, or a stretch of an index that is read where it is sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, where: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something in the file that breaks the standard and that mmindex could live with.

    Attributes
    ----------
    code : str
        What it is; the README's table explains each.
    offset : int
        Where it was first seen, in bytes.
    count : int
        How often it was seen.
    """

    code: str
    offset: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class ImagePixel:
    """Attributes of the Image Pixel Module (PS3.3 C.7.6.3) that reading and decoding need.

    An attribute that the file does not have is None; `pixel_keyword` is the keyword of the pixel
    data element, `pixel_vr` its value representation, empty in Implicit VR.
    """

    rows: int | None = None
    columns: int | None = None
    samples_per_pixel: int | None = None
    bits_allocated: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    pixel_representation: int | None = None
    planar_configuration: int | None = None
    photometric_interpretation: str = ""
    pixel_keyword: str = "PixelData"
    pixel_vr: str = ""


_FRAGMENT_A_FRAME = Layout.FRAGMENT_A_FRAME
_PAIRS = {4: struct.Struct("<II"), 8: struct.Struct("<QQ")}


@dataclass(frozen=True, slots=True)
class FrameTable:
    """Where the frames of one instance lie.

    Native frames need no entries: frame i is bits [i * frame_bits, (i + 1) * frame_bits)
    from `value_offset` on. Encapsulated ones have little-endian `entries` of `entry_size`
    bytes each, in this order:

    * of Layout.TRUSTED, for every frame the offset of its first item from `value_offset`, and after
      the last one the offset at which its last item ends; the items are not known, nor counted;
    * of Layout.FRAGMENTS, for every located frame its first fragment's number, and after
      the last one the number of fragments that are claimed by frames;
    * but for Layout.TRUSTED, for every item its offset from `value_offset`, and after the last one
      the offset at which it ends: items follow each other without gaps;
    * where `trimmed`, one bit a located frame (bit i % 8 of byte i // 8): its last byte is the
      padding that the Extended Offset Table Lengths leave out (PS3.3 C.7.6.3.1.8).

    Attributes
    ----------
    layout : Layout
        How it says where frames lie.
    number_of_frames : int
        Frames that the instance has.
    frames_located : int
        Frames whose place is known. The others were lost with the end of the file.
    number_of_fragments : int
        Items after the Basic Offset Table; 0 in native pixel data and where they are not known.
    value_offset : int
        Offset of the first byte that frames or items are counted from, in bytes.
    frame_bits : int
        Length of a native frame, in bits; 0 for encapsulated pixel data.
    """

    layout: Layout
    number_of_frames: int
    frames_located: int
    number_of_fragments: int
    value_offset: int
    frame_bits: int = 0
    entry_size: int = 4
    trimmed: bool = False
    entries: Entries = b""

    def __post_init__(self) -> None:
        if self.entry_size not in _PAIRS:
            raise ValueError(f"entry_size is 4 or 8, not {self.entry_size}")
        if (self.layout is Layout.NATIVE) != (self.frame_bits > 0):
            raise ValueError(f"{self.frame_bits} bits a frame in layout {self.layout.name}")
        if not 0 <= self.frames_located <= self.number_of_frames:
            raise ValueError(f"{self.frames_located} of {self.number_of_frames} frames located")
        if self.value_offset + self.frames_located * self.frame_bits // 8 >= 1 << 62:
            raise ValueError(f"frames beyond 0x{self.value_offset:x}")
        expected = self.expected_entries_length()
        if len(self.entries) != expected:
            raise ValueError(f"expected {expected} bytes of entries, found {len(self.entries)}")

    def expected_entries_length(self) -> int:
        """Return the length that `entries` must have, in bytes."""
        if self.layout is Layout.NATIVE:
            return 0
        count = self.number_of_fragments + 1
        if self.layout is Layout.TRUSTED:
            count = self.frames_located + 1
        elif self.layout is Layout.FRAGMENTS:
            count += self.frames_located + 1
        elif self.frames_located > self.number_of_fragments:
            raise ValueError("more frames than fragments")
        return count * self.entry_size + (self.frames_located + 7) // 8 * self.trimmed

    def check_index(self, frame_index: int) -> None:
        """Raise FrameIndexError or TruncatedFrameError where there is no such frame."""
        if not 0 <= frame_index < self.number_of_frames:
            raise FrameIndexError(
                f"frame index {frame_index} is out of range: the instance has "
                f"{self.number_of_frames} frames, 0 to {self.number_of_frames - 1}"
            )
        if frame_index >= self.frames_located:
            raise TruncatedFrameError(
                f"frame index {frame_index} is missing: the pixel data ends after "
                f"{self.frames_located} of {self.number_of_frames} frames"
            )

    def contiguous_range(self, frame_index: int) -> tuple[int, int] | None:
        """Return (offset, length) of a frame that is known to be one run of whole bytes, else None.

        Raises
        ------
        FrameIndexError, TruncatedFrameError, IndexFormatError
            There is no such frame, or the file ends before it; the entries are damaged.
        """
        frame_index = index(frame_index)  # a numpy integer could overflow
        if not 0 <= frame_index < self.frames_located:
            self.check_index(frame_index)
        if self.layout is _FRAGMENT_A_FRAME:
            size = self.entry_size
            at = frame_index * size
            start, end = _PAIRS[size].unpack(self.entries[at : at + size + size])
            length = end - start - 8  # ITEM_HEADER_LENGTH
            if self.trimmed:
                length -= self._is_trimmed(frame_index)
            if length < 0:
                raise _damaged(frame_index)
            return self.value_offset + start + 8, length
        if self.layout is Layout.NATIVE:
            start, length = frame_index * self.frame_bits, self.frame_bits
            if (start | length) & 7:
                return None
            return self.value_offset + (start >> 3), length >> 3
        if self.layout is Layout.TRUSTED:
            return None
        ranges = self.fragment_ranges(frame_index)
        return ranges[0] if len(ranges) == 1 else None

    def fragment_ranges(self, frame_index: int) -> tuple[ByteRange, ...]:
        """Return the byte ranges of a frame: one a fragment, one of a native frame.

        The range of a native frame that is not on byte boundaries covers its bits:
        bytes [i * bits // 8, ceil((i + 1) * bits / 8)) (PS3.5 8.2).

        Raises
        ------
        FrameIndexError, TruncatedFrameError, IndexFormatError
            There is no such frame, or the file ends before it; the entries are damaged.
        """
        frame_index = index(frame_index)
        self.check_index(frame_index)
        if self.layout is Layout.TRUSTED:
            raise NotAddressableError("the fragments of the frame are known once it is read")
        if self.layout is Layout.NATIVE:
            first_bit = frame_index * self.frame_bits
            start, end = first_bit // 8, (first_bit + self.frame_bits + 7) // 8
            return (ByteRange(self.value_offset + start, end - start),)
        size = self.entry_size
        first, last = frame_index, frame_index + 1
        items_at = 0
        if self.layout is Layout.FRAGMENTS:
            at = frame_index * size
            first, last = _PAIRS[size].unpack(self.entries[at : at + 2 * size])
            items_at = (self.frames_located + 1) * size
        packed = self.entries[items_at + first * size : items_at + (last + 1) * size]
        if not first < last or len(packed) != (last - first + 1) * size:
            raise _damaged(frame_index)
        starts = struct.unpack(f"<{last - first + 1}{'I' if size == 4 else 'Q'}", packed)
        header = ITEM_HEADER_LENGTH
        ranges = [
            ByteRange(self.value_offset + start + header, end - start - header)
            for start, end in pairwise(starts)
        ]
        if min(ranges, key=itemgetter(1)).length < 0:
            raise _damaged(frame_index)
        return self.without_padding(frame_index, ranges)

    def without_padding(self, frame_index: int, ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
        """Return a frame's fragments without the padding byte that its table leaves out."""
        if self.trimmed and self._is_trimmed(frame_index):
            owner = max((at for at, piece in enumerate(ranges) if piece.length), default=None)
            if owner is None:
                raise _damaged(frame_index)
            ranges[owner] = ByteRange(ranges[owner].offset, ranges[owner].length - 1)
        return tuple(ranges)

    def span(self, frame_index: int) -> ByteRange:
        """Return where the items of a frame of Layout.TRUSTED are, headers included.

        Raises
        ------
        FrameIndexError, TruncatedFrameError, IndexFormatError
            As `fragment_ranges`.
        """
        frame_index = index(frame_index)
        self.check_index(frame_index)
        at = frame_index * self.entry_size
        start, end = _PAIRS[self.entry_size].unpack(self.entries[at : at + 2 * self.entry_size])
        if end < start:
            raise _damaged(frame_index)
        return ByteRange(self.value_offset + start, end - start)

    def all_fragment_ranges(self) -> Iterator[ByteRange]:
        """Yield the byte range of every fragment, whatever frame it belongs to."""
        size, header = self.entry_size, ITEM_HEADER_LENGTH
        items_at = (self.frames_located + 1) * size if self.layout is Layout.FRAGMENTS else 0
        for fragment in range(self.number_of_fragments):
            at = items_at + fragment * size
            start, end = _PAIRS[size].unpack(self.entries[at : at + 2 * size])
            if end - start < header:
                raise IndexFormatError("damaged record: fragments overlap; build the index anew")
            yield ByteRange(self.value_offset + start + header, end - start - header)

    def _is_trimmed(self, frame_index: int) -> int:
        frame_index = index(frame_index)  # numpy 1 makes a float of uint64 and int
        at = len(self.entries) - (self.frames_located + 7) // 8 + frame_index // 8
        return self.entries[at : at + 1][0] >> (frame_index % 8) & 1


def _damaged(frame_index: int) -> IndexFormatError:
    return IndexFormatError(
        f"damaged record: the entries of frame index {frame_index} are no ranges; "
        "build the index anew"
    )


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """All that is kept of one file.

    Attributes
    ----------
    status : Status
        What can be done with the file.
    path : bytes
        Path relative to the archive's root; empty where a buffer was scanned.
    fingerprint : Fingerprint or None
        The file as it was scanned; None where a buffer was scanned.
    reason, error : str
        Of an unreadable file or one that is not DICOM: what is wrong, and the name of the
        exception in mmindex.errors.
    big_endian : bool
        Whether the data set was found to be in Big Endian, whatever its transfer syntax says.
    number_of_frames : int
        (0028,0008), checked against the bytes; 0 where there is no pixel data.
    boundaries : Boundaries
        Where the frame boundaries came from.
    image_pixel : ImagePixel
        What reading and decoding need of the image's attributes.
    frames : FrameTable or None
        Where the frames lie; None where there is no pixel data.
    anomalies : tuple of Anomaly
        What was wrong and could be lived with, by place.
    scan_microseconds : int
        How long the scan took; 0 where a buffer was scanned.
    """

    status: Status
    path: bytes = b""
    fingerprint: Fingerprint | None = None
    reason: str = ""
    error: str = ""
    transfer_syntax_uid: str = ""
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    modality: str = ""
    big_endian: bool = False
    number_of_frames: int = 0
    boundaries: Boundaries = Boundaries.NONE
    image_pixel: ImagePixel = ImagePixel()
    frames: FrameTable | None = None
    anomalies: tuple[Anomaly, ...] = ()
    scan_microseconds: int = field(default=0, compare=False)
