r"""One packed record: this docstring is the format, version 4.

All integers are little-endian, at any alignment. A record is read whole but for long entries,
which are kept apart and sliced where they are: frame N of any instance costs a read of fixed size.

    offset  size  type   field
    0       1     u1     status: 1 indexed, 2 deflated, 3 stream, 4 no-pixel-data,
                         5 not-dicom, 6 unreadable, 7 container
    1       1     u1     boundaries: 0 none, 1 native, 2 basic-offset-table,
                         3 extended-offset-table, 4 one-fragment-a-frame, 5 all-fragments,
                         6 start-markers
    2       1     u1     layout: 0 no frame table, 1 native, 2 fragment a frame, 3 fragments,
                         4 trusted
    3       1     u1     flags: bit 0 entries of 8 bytes (else 4), bit 1 trimmed,
                         bit 2 version present, bit 3 data set in Big Endian,
                         bit 4 entries kept apart, bit 5 member of a container,
                         bit 6 positions of tiles
    4       4     u4     offset of the entries from the start of the record
    8       1     u1     kind: 0 local, 1 local without inode, 2 remote  \
    9       8     u8     file size in bytes                               \  version,
    17      8     i8     modification time or Last-Modified in ns         /  25 bytes
    25      8     u8     inode; of a remote file, digest of its ETag     /
    33      8     u8     Number of Frames, at most 2**48
    41      8     u8     frames in the frame table (1 for a stream), at most 2**48
    49      8     u8     frames located
    57      8     u8     fragments
    65      8     u8     value offset: of a stored member, counted in its container
    73      8     u8     bits a native frame
    81      8     u8     bits from the start of a native frame to the next one
    89      16    u2[8]  Rows, Columns, Samples per Pixel, Bits Allocated, Bits Stored,
                         High Bit, Pixel Representation, Planar Configuration
    105     1     u1     which of these eight are present, bit 0 is Rows
    106     1     u1     pixel data element: 0 Pixel Data, 1 Float, 2 Double Float
    107     2     s2     value representation of that element, zeros in Implicit VR
    109     2     u2     number of anomalies
    111     4     u4     microseconds that the scan took
    115     2     u2     which image numbers are present, see below
    117           text   ten texts, each a u2 length and that many bytes: path (as the file
                         system has it), Transfer Syntax UID, SOP Class UID, SOP Instance UID,
                         Study Instance UID, Series Instance UID, Modality,
                         Photometric Interpretation (latin-1), name of the error, reason (utf-8)
                  part   member, where flagged: u8 offset, u8 length, u8 compressed length, u4 CRC,
                         u1 method (0 stored, 8 deflated), text name; the path is the container's
                  part   image numbers that are present, by the bits of their mask: 0 Instance
                         Number (i8), 1 Rescale Slope, 2 Rescale Intercept, 3 Window Center,
                         4 Window Width (f8 each), 5 Pixel Spacing (f8[2]), 6 Image Position
                         (Patient) (f8[3]), 7 Image Orientation (Patient) (f8[6]), 8 Total Pixel
                         Matrix Columns, 9 Rows, 10 Concatenation Frame Offset Number, 11
                         In-concatenation Number (i8 each), 12 Frame Time (f8), then texts: 13
                         Dimension Organization Type, 14 Concatenation UID (latin-1)
                  part   anomalies, each: u8 offset, u4 count, u1 length and code (latin-1)
                  part   length of the positions of tiles, where flagged, a u8; they follow the
                         entries (see `mmindex.tile_positions`) and are kept apart (see store.py)
                         entries, to the end of the record: see `mmindex.frame_table.FrameTable`;
                         of long ones, kept apart (see store.py), only their length, a u8
"""

import struct
from functools import lru_cache
from typing import NamedTuple

from mmindex.errors import IndexFormatError
from mmindex.frame_table import Entries, FrameTable, Layout
from mmindex.image_numbers import NO_NUMBERS
from mmindex.index.carried_values import carry_values
from mmindex.index.record_parts import (
    BIG_ENDIAN,
    BOUNDARIES,
    BOUNDARY_NUMBERS,
    COUNT,
    FRAMES_AT,
    HAS_VERSION,
    HEAD,
    HEADER,
    IMAGE_PIXEL,
    IN_CONTAINER,
    LENGTH,
    PIXEL_KEYWORDS,
    POSITIONS,
    STATUS_AT,
    STATUS_NUMBERS,
    STATUSES,
    TRIMMED,
    WIDE_ENTRIES,
    Header,
    check_path,
    pack_image_numbers,
    pack_member,
    status_of,
    unpack_image_numbers,
    unpack_member,
    unpack_texts,
)
from mmindex.model import Anomaly, Fingerprint, ImagePixel, InstanceRecord, Status, locate

FORMAT_VERSION = 4

_IMAGE_PIXEL = struct.Struct("<8H BB2s")
_HEADER = struct.Struct(f"<4BI BQqQ QQQQQQQ {_IMAGE_PIXEL.size}s HIH")  # HEADER in larger parts
_ANOMALY = struct.Struct("<QIB")
_LONGEST_TEXT = 0xFFFF
_MAX_U4 = 0xFFFF_FFFF
MOST_FRAMES = 1 << 48  # which counts of several instances together stay far below 64 bits


class RecordKeys(NamedTuple):
    """The keys of a record, and the values that the counters of an index count."""

    path: bytes
    member: bytes
    fingerprint: Fingerprint
    status: Status
    sop_instance_uid: bytes
    study_instance_uid: bytes
    series_instance_uid: bytes
    number_of_frames: int

    @property
    def location(self) -> bytes:
        """The name of the file in the index: see `locate`."""
        return locate(self.path, self.member)


def pack_record(
    record: InstanceRecord,
    path: bytes | None = None,
    fingerprint: Fingerprint | None = None,
    scan_microseconds: int | None = None,
) -> bytes:
    """Return the record in the format above, with path, fingerprint and time where given."""
    image, frames = record.image_pixel, record.frames
    version = fingerprint or record.fingerprint
    path = record.path if path is None else path
    texts = _pack_texts(record, path)
    if record.member is not None:
        texts += pack_member(record.member)
    mask, numbers = pack_image_numbers(record.image_numbers)
    anomalies = b""
    for anomaly in record.anomalies:
        code = anomaly.code.encode("latin-1")
        anomalies += _ANOMALY.pack(anomaly.offset, anomaly.count, len(code)) + code
    flags = HAS_VERSION * (version is not None) | BIG_ENDIAN * record.big_endian
    flags |= IN_CONTAINER * (record.member is not None)
    positions = b"" if record.positions is None else bytes(record.positions[:])
    if positions:
        flags |= POSITIONS
        anomalies += COUNT.pack(len(positions))
    if frames is not None:
        flags |= WIDE_ENTRIES * (frames.entry_size == 8) | TRIMMED * frames.trimmed
    size, time_ns, inode, kind = version or (0, 0, 0, 0)
    microseconds = record.scan_microseconds if scan_microseconds is None else scan_microseconds
    header = _HEADER.pack(
        STATUS_NUMBERS[record.status],
        BOUNDARY_NUMBERS[record.boundaries],
        frames.layout if frames is not None else 0,
        flags,
        HEADER.size + len(texts) + len(numbers) + len(anomalies),
        *(kind, size, time_ns, inode),
        record.number_of_frames,
        frames.number_of_frames if frames is not None else 0,
        frames.frames_located if frames is not None else 0,
        frames.number_of_fragments if frames is not None else 0,
        frames.value_offset if frames is not None else 0,
        frames.frame_bits if frames is not None else 0,
        frames.stride_bits if frames is not None else 0,
        _pack_image_pixel(image),
        len(record.anomalies),
        min(microseconds, _MAX_U4),
        mask,
    )
    entries = bytes(frames.entries[:]) if frames is not None else b""
    packed = b"".join((header, texts, numbers, anomalies, entries, positions))
    return packed if record.carried_values is None else carry_values(packed, record.carried_values)


@lru_cache(64)  # which the images of a series share
def _pack_image_pixel(image: ImagePixel) -> bytes:
    """Return what `make_image_pixel` takes."""
    *numbers, _, keyword, vr = image
    present = sum((number is not None) << bit for bit, number in enumerate(numbers))
    known = (number or 0 for number in numbers)
    return _IMAGE_PIXEL.pack(*known, present, PIXEL_KEYWORDS.index(keyword), vr.encode("latin-1"))


def _pack_texts(record: InstanceRecord, path: bytes) -> bytes:
    uid = record.sop_instance_uid.encode("latin-1")
    return b"".join(
        (
            LENGTH.pack(len(path)),
            path,
            _pack_shared(record.transfer_syntax_uid, record.sop_class_uid),
            LENGTH.pack(len(uid)),
            uid,
            _pack_shared(
                record.study_instance_uid,
                record.series_instance_uid,
                record.modality,
                record.image_pixel.photometric_interpretation,
                record.error,
            ),
            _pack_reason(record.reason),
        )
    )


@lru_cache(64)  # which the images of a series share
def _pack_shared(*texts: str) -> bytes:
    encoded = [text.encode("latin-1") for text in texts]
    return b"".join([LENGTH.pack(len(text)) + text for text in encoded])


def _pack_reason(reason: str) -> bytes:
    encoded = reason.encode("utf-8", "replace")[:_LONGEST_TEXT]
    return LENGTH.pack(len(encoded)) + encoded


def unpack_record(
    packed: bytes | memoryview, entries: Entries | None = None, positions: Entries | None = None
) -> InstanceRecord:
    """Return the record that was packed.

    Parameters
    ----------
    packed : bytes or memoryview
        The record.
    entries, positions : Entries, optional
        Those that are kept apart, to be read when they are sliced.

    Raises
    ------
    IndexFormatError
        The bytes are no such record, or its path leads out of the archive.
    """
    try:
        return _unpack(packed, entries, positions)
    except (struct.error, ValueError, IndexError) as error:
        raise IndexFormatError(f"damaged record: {error}; rebuild the index") from error


def _unpack(
    packed: bytes | memoryview, entries: Entries | None, positions: Entries | None
) -> InstanceRecord:
    header = Header._make(HEADER.unpack_from(packed))
    texts, position = unpack_texts(packed, 10)
    path, *named, reason = texts
    syntax, sop_class, sop, study, series, modality, photometric, error = (
        text.decode("latin-1") for text in named
    )
    check_path(path)
    member = None
    if header.flags & IN_CONTAINER:
        member, position = unpack_member(packed, position)
    numbers = NO_NUMBERS
    if header.image_numbers:
        numbers, position = unpack_image_numbers(packed, position, header.image_numbers)
    anomalies = []
    for _ in range(header.anomalies):
        offset, count, length = _ANOMALY.unpack_from(packed, position)
        position += _ANOMALY.size + length
        code = bytes(packed[position - length : position]).decode("latin-1")
        anomalies.append(Anomaly(code, offset, count))
    if header.flags & POSITIONS:
        (length,) = COUNT.unpack_from(packed, position)
        position += COUNT.size
        if positions is None:
            if length > len(packed) - position:
                raise ValueError(f"{length} bytes of positions in {len(packed)}")
            positions = bytes(packed[len(packed) - length :])
            packed = packed[: len(packed) - length]
    if position != header.entries_offset or position > len(packed):
        raise ValueError(f"entries at {header.entries_offset}, found them at {position}")
    if max(header.number_of_frames, header.table_frames) > MOST_FRAMES:
        raise ValueError(f"{max(header.number_of_frames, header.table_frames)} frames")
    return InstanceRecord(
        status=status_of(header.status),
        path=path,
        fingerprint=header.version if header.flags & HAS_VERSION else None,
        reason=reason.decode("utf-8", "replace"),
        error=error,
        transfer_syntax_uid=syntax,
        sop_class_uid=sop_class,
        sop_instance_uid=sop,
        study_instance_uid=study,
        series_instance_uid=series,
        modality=modality,
        big_endian=bool(header.flags & BIG_ENDIAN),
        number_of_frames=header.number_of_frames,
        boundaries=BOUNDARIES[header.boundaries],
        image_pixel=make_image_pixel(bytes(packed[IMAGE_PIXEL]), photometric),
        image_numbers=numbers,
        frames=_make_frame_table(header, packed, entries) if header.layout else None,
        anomalies=tuple(anomalies),
        scan_microseconds=header.scan_microseconds,
        member=member,
        positions=positions,
    )


def _make_frame_table(
    header: Header, packed: bytes | memoryview, entries: Entries | None
) -> FrameTable:
    return FrameTable(
        layout=Layout(header.layout),
        number_of_frames=header.table_frames,
        frames_located=header.frames_located,
        number_of_fragments=header.fragments,
        value_offset=header.value_offset,
        frame_bits=header.frame_bits,
        stride_bits=header.stride_bits,
        entry_size=8 if header.flags & WIDE_ENTRIES else 4,
        trimmed=bool(header.flags & TRIMMED),
        entries=bytes(packed[header.entries_offset :]) if entries is None else entries,
    )


@lru_cache(1000)  # which the images of a series share
def make_image_pixel(packed: bytes, photometric: str) -> ImagePixel:
    """Return what the part IMAGE_PIXEL of a record and one of its texts say of the pixels."""
    *numbers, present, keyword, vr = _IMAGE_PIXEL.unpack(packed)
    known = (number if present >> bit & 1 else None for bit, number in enumerate(numbers))
    name = PIXEL_KEYWORDS[keyword]
    return ImagePixel._make((*known, photometric, name, vr.strip(b"\0").decode("latin-1")))


def unpack_count(packed: bytes) -> tuple[Status, int]:
    """Return status and Number of Frames of a record that this process trusts."""
    number_of_frames: int = COUNT.unpack_from(packed, FRAMES_AT)[0]
    return status_of_packed(packed), number_of_frames


def status_of_packed(packed: bytes) -> Status:
    """Return the status of a record that this process trusts."""
    return STATUSES[packed[STATUS_AT]]


def unpack_version(packed: bytes | memoryview) -> Fingerprint:
    """Return the version of the file of a record that this process trusts."""
    _, _, _, _, _, kind, size, time_ns, inode, _ = HEAD.unpack_from(packed)
    return Fingerprint(size, time_ns, inode, kind)


def unpack_keys(packed: bytes) -> RecordKeys:
    """Return what a record that this process trusts is looked up by."""
    status, _, _, flags, _, kind, size, time_ns, inode, frames = HEAD.unpack_from(packed)
    is_member = flags & IN_CONTAINER
    texts, position = unpack_texts(packed, 10 if is_member else 6)
    path, _, _, sop, study, series, *_ = texts
    member = unpack_member(packed, position)[0].name if is_member else b""
    version = tuple.__new__(Fingerprint, (size, time_ns, inode, kind))
    keys = path, member, version, status_of(status), sop, study, series, frames
    return tuple.__new__(RecordKeys, keys)
