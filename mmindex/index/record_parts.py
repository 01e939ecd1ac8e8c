"""The parts of a packed record: its fixed header, texts, member, image numbers; see `record.py`."""

import struct
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from mmindex.image_numbers import NO_NUMBERS, ImageNumbers
from mmindex.model import Boundaries, Fingerprint, Member, Status

HEADER = struct.Struct("<4BI BQqQ QQQQQQQ 8H BB2sHIH")
HEAD = struct.Struct("<4BI BQqQ Q")  # what versions and keys need of the header
PLACE = struct.Struct("<4BI BQqQ QQQQQQQ")  # what the place of a frame needs
_VERSION, _VERSION_AT = struct.Struct("<BQqQ"), 8
LENGTH = struct.Struct("<H")
COUNT = struct.Struct("<Q")  # of bytes that stand apart
STATUS_AT, FLAGS_AT, FRAMES_AT = 0, 3, 33  # where these fields of a packed record are
TEXTS_AT = HEADER.size  # the path is the first of the texts
IMAGE_PIXEL = slice(89, 109)  # and those that describe pixels
_NUMBERS_AT, _RESCALE = 115, struct.Struct("<dd")
_MEMBER = struct.Struct("<QQQIB")
WIDE_ENTRIES, TRIMMED, HAS_VERSION, BIG_ENDIAN, APART, IN_CONTAINER = 1, 2, 4, 8, 16, 32
POSITIONS = 64

STATUSES = {
    1: Status.INDEXED,
    2: Status.DEFLATED,
    3: Status.STREAM,
    4: Status.NO_PIXEL_DATA,
    5: Status.NOT_DICOM,
    6: Status.UNREADABLE,
    7: Status.CONTAINER,
}
STATUS_NUMBERS = {status: number for number, status in STATUSES.items()}
BOUNDARIES = tuple(Boundaries)
BOUNDARY_NUMBERS = {boundaries: number for number, boundaries in enumerate(BOUNDARIES)}
PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Image numbers in the order of their bits, each with its type.
_IMAGE_NUMBERS = {
    "instance_number": "q",
    "rescale_slope": "d",
    "rescale_intercept": "d",
    "window_center": "d",
    "window_width": "d",
    "pixel_spacing": "2d",
    "image_position_patient": "3d",
    "image_orientation_patient": "6d",
    "total_pixel_matrix_columns": "q",
    "total_pixel_matrix_rows": "q",
    "concatenation_frame_offset_number": "q",
    "in_concatenation_number": "q",
    "frame_time": "d",
}
_IMAGE_TEXTS = {13: "dimension_organization_type", 14: "concatenation_uid"}  # and their bits
_in_order_of_bits = itemgetter(*map(ImageNumbers._fields.index, _IMAGE_NUMBERS))
_NUMBER_BITS = (1 << len(_IMAGE_NUMBERS)) - 1


class Header(NamedTuple):
    """The fixed part of a record, but for the eight numbers of Image Pixel."""

    status: int
    boundaries: int
    layout: int
    flags: int
    entries_offset: int
    version_kind: int
    file_size: int
    time_ns: int
    inode: int
    number_of_frames: int
    table_frames: int
    frames_located: int
    fragments: int
    value_offset: int
    frame_bits: int
    stride_bits: int
    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    planar_configuration: int
    present: int
    pixel_keyword: int
    pixel_vr: bytes
    anomalies: int
    scan_microseconds: int
    image_numbers: int

    @property
    def version(self) -> Fingerprint:
        """Return the version of the file."""
        return Fingerprint(self.file_size, self.time_ns, self.inode, self.version_kind)


def replace_version(packed: bytes, version: Fingerprint) -> bytes:
    """Return a packed record with another version of its file."""
    size, time_ns, inode, kind = version
    replaced = _VERSION.pack(kind, size, time_ns, inode)
    return packed[:_VERSION_AT] + replaced + packed[_VERSION_AT + _VERSION.size :]


def pack_member(member: Member) -> bytes:
    """Return where a file lies in its container, packed."""
    packed = _MEMBER.pack(
        member.offset, member.length, member.compressed_length, member.crc, member.method
    )
    return packed + LENGTH.pack(len(member.name)) + member.name


def pack_image_numbers(numbers: ImageNumbers) -> tuple[int, bytes]:
    """Return which numbers are present, and these."""
    if numbers is NO_NUMBERS:
        return 0, b""
    mask = 0
    values: list[float] = []
    for bit, value in enumerate(_in_order_of_bits(numbers)):
        if value is None:
            continue
        mask |= 1 << bit
        if isinstance(value, tuple):
            values += value
        else:
            values.append(value)
    packed = _plan_numbers(mask).layout.pack(*values)
    for bit, name in _IMAGE_TEXTS.items():
        text = getattr(numbers, name)
        if text:
            mask |= 1 << bit
            encoded = text.encode("latin-1")
            packed += LENGTH.pack(len(encoded)) + encoded
    return mask, packed


class _NumbersPlan(NamedTuple):
    """The packing of the numbers of a mask, and the field of each value."""

    layout: struct.Struct
    fields: tuple[tuple[int, int, int], ...]  # of ImageNumbers, first value, values (0: no tuple)


@cache
def _plan_numbers(mask: int) -> _NumbersPlan:
    types, fields, at = "<", [], 0
    for bit, (name, kind) in enumerate(_IMAGE_NUMBERS.items()):
        if mask >> bit & 1:
            types += kind
            count = int(kind[:-1] or 0)
            fields.append((ImageNumbers._fields.index(name), at, count))
            at += count or 1
    return _NumbersPlan(struct.Struct(types), tuple(fields))


def unpack_member(packed: bytes | memoryview, position: int) -> tuple[Member, int]:
    """Return a member, and where the next part begins."""
    offset, length, compressed_length, crc, method = _MEMBER.unpack_from(packed, position)
    name, position = unpack_text(packed, position + _MEMBER.size)
    if not name:
        raise ValueError("a member without a name")
    return Member(name, offset, length, compressed_length, method, crc), position


def unpack_image_numbers(
    packed: bytes | memoryview, position: int, mask: int
) -> tuple[ImageNumbers, int]:
    """Return the numbers that are present, and where the next part begins."""
    if mask >> len(_IMAGE_NUMBERS) + len(_IMAGE_TEXTS):
        raise ValueError(f"unknown image numbers 0x{mask:x}")
    layout, fields = _plan_numbers(mask & _NUMBER_BITS)
    values = layout.unpack_from(packed, position)
    position += layout.size
    found: list[object] = list(NO_NUMBERS)
    for field, at, count in fields:
        found[field] = values[at : at + count] if count else values[at]
    for bit, name in _IMAGE_TEXTS.items():
        if mask >> bit & 1:
            text, position = unpack_text(packed, position)
            found[ImageNumbers._fields.index(name)] = text.decode("latin-1")
    return ImageNumbers._make(found), position


def unpack_rescale(packed: bytes, position: int) -> tuple[float, float] | None:
    """Return Rescale Slope and Intercept of a record whose image numbers begin at `position`."""
    mask = packed[_NUMBERS_AT]
    if mask & 6 != 6:
        return None
    slope, intercept = _RESCALE.unpack_from(packed, position + 8 * (mask & 1))
    return slope, intercept


def status_of(number: int) -> Status:
    """Return the status of a number in the format; raise ValueError where none has it."""
    status = STATUSES.get(number)
    if status is None:
        raise ValueError(f"unknown status {number}")
    return status


def unpack_text(packed: bytes | memoryview, position: int) -> tuple[bytes, int]:
    """Return a text, and where the next part begins."""
    (length,) = LENGTH.unpack_from(packed, position)
    position += LENGTH.size + length
    if position > len(packed):
        raise ValueError("a text runs past the end of the record")
    return bytes(packed[position - length : position]), position


class _Lengths(NamedTuple):
    """The lengths of a record's first texts, and where two records had the same, their layout."""

    lengths: tuple[int, ...]
    layout: struct.Struct | None


_last_lengths: dict[int, _Lengths] = {}  # by number of texts; any thread may replace one


def unpack_texts(packed: bytes | memoryview, count: int) -> tuple[list[bytes], int]:
    """Return the first texts, and where the next part begins.

    Most records have texts as long as those of the record before: these are unpacked at once.
    """
    last = _last_lengths.get(count)
    if last is not None and last.layout is not None:
        try:
            found = last.layout.unpack_from(packed, HEADER.size)
        except struct.error:  # the record is shorter
            found = ()
        if found[::2] == last.lengths:
            return list(found[1::2]), HEADER.size + last.layout.size
    texts = []
    position = HEADER.size
    try:
        for _ in range(count):  # not by unpack_text, since a listing does this for every record
            start = position + LENGTH.size
            position = start + (packed[position] | packed[position + 1] << 8)
            texts.append(bytes(packed[start:position]))
    except IndexError:
        position = len(packed) + 1
    if position > len(packed):
        raise ValueError("a text runs past the end of the record")
    lengths = tuple(map(len, texts))
    layout = None
    if last is not None and last.lengths == lengths:
        layout = struct.Struct("<" + "".join(f"H{length}s" for length in lengths))
    _last_lengths[count] = _Lengths(lengths, layout)
    return texts, position


def unpack_path(packed: bytes | memoryview) -> tuple[bytes, bytes]:
    """Return the path and the SOP Instance UID: the first and the fourth text."""
    start = HEADER.size + LENGTH.size
    end = start + LENGTH.unpack_from(packed, HEADER.size)[0]
    position = end
    for _ in range(2):
        position += LENGTH.size + LENGTH.unpack_from(packed, position)[0]
    length = LENGTH.unpack_from(packed, position)[0]
    position += LENGTH.size
    if position + length > len(packed):
        raise ValueError("a text runs past the end of the record")
    return bytes(packed[start:end]), bytes(packed[position : position + length])


def check_path(path: bytes) -> None:
    """Raise ValueError for a path that leads out of the folder that it is relative to."""
    climbs = path.find(b"..") >= 0 and b".." in path.split(b"/")  # `in` takes three times as long
    if climbs or path[:1] == b"/" or 0 in path:
        raise ValueError(f"the path {path!r} leads out of the archive")
