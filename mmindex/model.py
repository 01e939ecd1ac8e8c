"""The values that flow from scan to index to read: frozen, comparable, picklable.

Nothing here reads a file or knows LMDB. Offsets count bytes from the start of the
file (of a deflated data set: from the start of the inflated one); ranges are half-open.
Annotations are evaluated here, since named tuples compile each that is text when they are imported.
"""

import os
from collections.abc import Iterator
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from mmindex.frame_table import Entries, FrameTable
from mmindex.image_numbers import NO_NUMBERS, ImageNumbers

if TYPE_CHECKING:
    import mmap

Buffer: TypeAlias = "bytes | memoryview | mmap.mmap"  # what a scan reads
WORDS = (16, 32)  # bits of the words that hold a sample each, where samples are not packed

WHOLE_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # SOP Class UID
INDEX_NAME = ".mmindex"  # of an archive's index, in its root
LOCK, WRITING = "-lock", "-writing"  # added to an index's name: the files beside it
SEPARATOR = "!/"  # between the path of a container and the name of a file in it
SCHEMES = ("s3", "gs", "az", "http", "https", "memory")  # of URLs that are read


class Status(str, Enum):
    """The status of a file: what mmindex can do for it."""

    INDEXED = "indexed"
    DEFLATED = "deflated"
    STREAM = "stream"
    NO_PIXEL_DATA = "no-pixel-data"
    NOT_DICOM = "not-dicom"
    UNREADABLE = "unreadable"
    CONTAINER = "container"

    __hash__ = str.__hash__  # as of the text that a status equals, and as fast

    @property
    def has_frames(self) -> bool:
        """Whether frames of such a file can be read."""
        return self in _WITH_FRAMES

    @property
    def is_instance(self) -> bool:
        """Whether such a file was scanned as a DICOM file."""
        return self not in _NO_INSTANCES


_WITH_FRAMES = (Status.INDEXED, Status.DEFLATED)
_NO_INSTANCES = (Status.NOT_DICOM, Status.UNREADABLE, Status.CONTAINER)


_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1  # ns that 64 bits hold


class Boundaries(str, Enum):
    """The source of the frame boundaries."""

    NONE = "none"
    NATIVE = "native"
    BASIC_OFFSET_TABLE = "basic-offset-table"
    EXTENDED_OFFSET_TABLE = "extended-offset-table"
    ONE_FRAGMENT_A_FRAME = "one-fragment-a-frame"
    ALL_FRAGMENTS = "all-fragments"
    START_MARKERS = "start-markers"


class VersionKind(IntEnum):
    """The kind of a fingerprint: the parts that it compares."""

    LOCAL = 0  # size, modification time, inode
    LOCAL_WITHOUT_INODE = 1  # of a file system whose inodes change, or an archive that moves
    REMOTE = 2  # size, Last-Modified, digest of the ETag


class Fingerprint(NamedTuple):
    """Version of a file: differs once the file changed.

    Attributes
    ----------
    size : int
        Length, in bytes.
    mtime_ns : int
        Modification time or Last-Modified in ns since 1970, as 64 bits hold it: times before 1677
        and after 2262 come round.
    inode : int
        Inode; of an object in a store, the first 8 bytes of its ETag's digest; 0 where neither is
        looked at.
    kind : int
        A VersionKind.
    """

    size: int
    mtime_ns: int
    inode: int
    kind: int = 0

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the fingerprint of a file whose status this is."""
        time_ns = status.st_mtime_ns
        if not _EARLIEST <= time_ns <= _LATEST:
            time_ns = (time_ns - _EARLIEST) % (1 << 64) + _EARLIEST
        # As `cls(...)` does, in half the time: a walk calls this for every file.
        return tuple.__new__(cls, (status.st_size, time_ns, status.st_ino, 0))

    def is_same(self, other: "Fingerprint") -> bool:
        """Return whether another version of a file is this one; of an object by its ETag alone.

        An object's time counts only where there is no ETag.
        """
        if self.kind != VersionKind.REMOTE or not (self.inode and other.inode):
            return self == other
        return (self.size, self.inode, self.kind) == (other.size, other.inode, other.kind)

    def without_inode(self) -> "Fingerprint":
        """Return the fingerprint of the same file where inodes are not looked at."""
        return Fingerprint(self.size, self.mtime_ns, 0, VersionKind.LOCAL_WITHOUT_INODE)

    def matches(self, found: "Fingerprint") -> bool:
        """Return whether a file of the fingerprint `found` is this version of the file."""
        if self.kind == VersionKind.LOCAL_WITHOUT_INODE:
            return found.without_inode() == self
        return found == self


class Member(NamedTuple):
    """The place of a file in a container, a tar or zip file.

    Attributes
    ----------
    name : bytes
        Its path in the container, without "./" before it.
    offset : int
        Where its data begins in the container, in bytes.
    length : int
        Length of the file, in bytes.
    compressed_length : int
        Bytes of the container that hold the file; `length` of a stored one.
    method : int
        0 stored, 8 deflated, as zip numbers methods (APPNOTE 4.4.5).
    crc : int
        CRC-32 of the file; 0 where the container has none.
    """

    name: bytes
    offset: int
    length: int
    compressed_length: int
    method: int = 0
    crc: int = 0


def locate(path: bytes, member: bytes) -> bytes:
    """Return the path of a file; of a member, its container's path, a zero byte and its name."""
    return path + b"\0" + member if member else path


def split_path(path: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the paths of a container and of a member that a path like `study.zip!/a.dcm` may be."""
    separator = SEPARATOR.encode()
    at = path.find(separator)
    while at >= 0:
        yield path[:at], path[at + len(separator) :]
        at = path.find(separator, at + 1)


def is_url(source: object) -> bool:
    """Return whether a source is the URL of an object, or of a folder of objects."""
    if not isinstance(source, str):
        return False
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


class Anomaly(NamedTuple):
    """A breach of the standard that leaves one reading of the file.

    Attributes
    ----------
    code : str
        Name of the breach; `mmindex.scan.anomalies` explains each.
    offset : int
        Offset of the first occurrence, in bytes.
    count : int
        Number of occurrences.
    """

    code: str
    offset: int
    count: int = 1  # type: ignore[assignment]  # hides the method of tuples


class ImagePixel(NamedTuple):
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

    @property
    def is_packed(self) -> bool:
        """Whether Bits Allocated is no number of whole bytes, nor 1: samples share bytes then."""
        bits = self.bits_allocated or 0
        return self.pixel_keyword == "PixelData" and bits % 8 != 0 and bits != 1

    def stored_bits(self, frame_bits: int) -> int:
        """Return the bits that a sample takes in native frames of `frame_bits`.

        The number is Bits Allocated, unless each packed sample has a word of its own.
        """
        bits = self.bits_allocated or 0
        if self.is_packed:
            count = (self.rows or 0) * (self.columns or 0) * (self.samples_per_pixel or 1)
            return next((word for word in WORDS if count * word == frame_bits > count * bits), bits)
        return bits


class InstanceRecord(NamedTuple):
    """Everything that an index keeps of one file.

    Attributes
    ----------
    status : Status
        What can be done with the file.
    path : bytes
        Path relative to the archive's root; empty where a buffer was scanned. Of a member, the
        path of its container.
    member : Member or None
        Where the file lies in its container, from whose start frame offsets count; None where the
        file is no member.
    fingerprint : Fingerprint or None
        The file as it was scanned; None where a buffer was scanned.
    reason, error : str
        Of an unreadable file or one that is not DICOM: what is wrong, and the name of the
        exception in mmindex.errors; else empty.
    big_endian : bool
        Whether the data set was found to be in Big Endian, whatever its transfer syntax says.
    number_of_frames : int
        (0028,0008), checked against the bytes; 0 where there is no pixel data.
    boundaries : Boundaries
        Where the frame boundaries came from.
    image_pixel : ImagePixel
        What reading and decoding need of the image's attributes.
    image_numbers : ImageNumbers
        What ordering and showing need of them.
    frames : FrameTable or None
        Where the frames lie; None where there is no pixel data.
    anomalies : tuple of Anomaly
        What breaks the standard and leaves one reading, by place.
    scan_microseconds : int
        How long the scan took; 0 where a buffer was scanned.
    positions : Entries or None
        Where the tiles of a whole slide image are, as `TilePositions` reads them. A build and
        `open_slide` find them; None else.
    carried_values : tuple of bytes or None
        Attributes of the study and of the series, packed, on their way from the scan to the index;
        None of a record that comes from an index.
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
    image_numbers: ImageNumbers = NO_NUMBERS
    frames: FrameTable | None = None
    anomalies: tuple[Anomaly, ...] = ()
    scan_microseconds: int = 0
    member: Member | None = None
    positions: Entries | None = None
    carried_values: tuple[bytes, bytes] | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether all fields are equal but how long the scan took and what it carries."""
        return isinstance(other, InstanceRecord) and _compared(self) == _compared(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(_compared(self))

    @property
    def location(self) -> bytes:
        """The path relative to the archive's root; of a member like `study.zip!/a.dcm`."""
        if self.member is None:
            return self.path
        return self.path + SEPARATOR.encode() + self.member.name

    @property
    def newness(self) -> tuple[int, bytes]:
        """Sort key of files with one UID, of which the greatest counts: last change, then key."""
        return 0 if self.fingerprint is None else self.fingerprint.mtime_ns, self.key

    @property
    def key(self) -> bytes:
        """The name of the file in an index: unlike `location`, never that of another file, too."""
        return self.path if self.member is None else locate(self.path, self.member.name)

    @property
    def size(self) -> int:
        """Length of the file, in bytes; of a member that of the file in its container."""
        if self.member is not None:
            return self.member.length
        return 0 if self.fingerprint is None else self.fingerprint.size

    @property
    def swaps_pairs(self) -> bool:
        """Whether native samples are stored swapped in pairs of bytes: OW in Big Endian.

        Samples of up to 8 bits and packed samples are; wider samples are words themselves.
        """
        if self.frames is None or not self.big_endian or self.image_pixel.pixel_vr != "OW":
            return False
        bits = self.image_pixel.stored_bits(self.frames.frame_bits)
        return bits <= 8 or bits % 8 != 0


def _compared(record: InstanceRecord) -> tuple[object, ...]:
    """Return the fields of a record that another record of the same file shares."""
    return tuple(record._replace(scan_microseconds=0, carried_values=None))
