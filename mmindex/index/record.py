r"""One packed record: this docstring is the format, version 4.

All integers are little-endian, at any alignment. A record is read whole but for long entries,
which are kept apart and sliced where they are: frame N of any instance costs a read of fixed size.

    offset  size  type   field
    0       1     u1     status: 1 indexed, 2 deflated, 3 stream, 4 no-pixel-data,
                         5 not-dicom, 6 unreadable
    1       1     u1     boundaries: 0 none, 1 native, 2 basic-offset-table,
                         3 extended-offset-table, 4 one-fragment-a-frame, 5 all-fragments,
                         6 start-markers
    2       1     u1     layout: 0 no frame table, 1 native, 2 fragment a frame, 3 fragments,
                         4 trusted
    3       1     u1     flags: bit 0 entries of 8 bytes (else 4), bit 1 trimmed,
                         bit 2 fingerprint present, bit 3 data set in Big Endian,
                         bit 4 entries kept apart
    4       4     u4     offset of the entries from the start of the record
    8       8     u8     file size in bytes             \
    16      8     i8     modification time in ns         > fingerprint
    24      8     u8     inode                          /
    32      8     u8     Number of Frames, at most 2**48
    40      8     u8     frames in the frame table (1 for a stream), at most 2**48
    48      8     u8     frames located
    56      8     u8     fragments
    64      8     u8     value offset
    72      8     u8     bits a native frame
    80      8     u8     bits from the start of a native frame to the next one
    88      16    u2[8]  Rows, Columns, Samples per Pixel, Bits Allocated, Bits Stored,
                         High Bit, Pixel Representation, Planar Configuration
    104     1     u1     which of these eight are present, bit 0 is Rows
    105     1     u1     pixel data element: 0 Pixel Data, 1 Float, 2 Double Float
    106     2     s2     value representation of that element, zeros in Implicit VR
    108     2     u2     number of anomalies
    110     4     u4     microseconds that the scan took
    114           text   ten texts, each a u2 length and that many bytes: path (as the file
                         system has it), Transfer Syntax UID, SOP Class UID, SOP Instance UID,
                         Study Instance UID, Series Instance UID, Modality,
                         Photometric Interpretation (latin-1), name of the error, reason (utf-8)
                         anomalies, each: u8 offset, u4 count, u1 length and code (latin-1)
                         entries, to the end of the record: see `mmindex.frame_table.FrameTable`;
                         of long ones, kept apart (see store.py), only their length, a u8
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mmindex.errors import IndexFormatError
from mmindex.frame_table import Entries, FrameTable, Layout
from mmindex.model import Anomaly, Boundaries, Fingerprint, ImagePixel, InstanceRecord, Status

FORMAT_VERSION = 4

_HEADER = struct.Struct("<4BI QqQ QQQQQQQ 8H BB2sHI")
_ENTRIES_OFFSET = struct.Struct("<I")
_COUNT = struct.Struct("<Q")
_LENGTH = struct.Struct("<H")
_ANOMALY = struct.Struct("<QIB")
_LONGEST_TEXT = 0xFFFF
_MAX_U4 = 0xFFFF_FFFF
_MOST_FRAMES = 1 << 48  # which counts of several instances together stay far below 64 bits
_WIDE_ENTRIES, _TRIMMED, _HAS_FINGERPRINT, _BIG_ENDIAN, _APART = 1, 2, 4, 8, 16

_STATUSES = (
    Status.INDEXED,
    Status.DEFLATED,
    Status.STREAM,
    Status.NO_PIXEL_DATA,
    Status.NOT_DICOM,
    Status.UNREADABLE,
)
_BOUNDARIES = tuple(Boundaries)
_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NUMBERS = (
    "rows",
    "columns",
    "samples_per_pixel",
    "bits_allocated",
    "bits_stored",
    "high_bit",
    "pixel_representation",
    "planar_configuration",
)


class RecordKeys(NamedTuple):
    """What a record is looked up by."""

    path: bytes
    fingerprint: Fingerprint
    status: Status
    sop_instance_uid: bytes
    study_instance_uid: bytes
    series_instance_uid: bytes


def pack_record(
    record: InstanceRecord,
    path: bytes | None = None,
    fingerprint: Fingerprint | None = None,
    scan_microseconds: int | None = None,
) -> bytes:
    """Return the record in the format above, with path, fingerprint and time where given."""
    frames, image = record.frames, record.image_pixel
    path = record.path if path is None else path
    fingerprint = fingerprint or record.fingerprint
    numbers = [getattr(image, name) for name in _NUMBERS]
    texts = b"".join(
        _LENGTH.pack(len(text)) + text
        for text in (
            path,
            record.transfer_syntax_uid.encode("latin-1"),
            record.sop_class_uid.encode("latin-1"),
            record.sop_instance_uid.encode("latin-1"),
            record.study_instance_uid.encode("latin-1"),
            record.series_instance_uid.encode("latin-1"),
            record.modality.encode("latin-1"),
            image.photometric_interpretation.encode("latin-1"),
            record.error.encode("latin-1"),
            record.reason.encode("utf-8", "replace")[:_LONGEST_TEXT],
        )
    )
    anomalies = b"".join(
        _ANOMALY.pack(anomaly.offset, anomaly.count, len(anomaly.code))
        + anomaly.code.encode("latin-1")
        for anomaly in record.anomalies
    )
    flags = 0
    if frames is not None:
        flags = _WIDE_ENTRIES * (frames.entry_size == 8) | _TRIMMED * frames.trimmed
    if fingerprint is not None:
        flags |= _HAS_FINGERPRINT
    if record.big_endian:
        flags |= _BIG_ENDIAN
    header = _HEADER.pack(
        _STATUSES.index(record.status) + 1,
        _BOUNDARIES.index(record.boundaries),
        frames.layout if frames is not None else 0,
        flags,
        _HEADER.size + len(texts) + len(anomalies),
        *(fingerprint or (0, 0, 0)),
        record.number_of_frames,
        frames.number_of_frames if frames is not None else 0,
        frames.frames_located if frames is not None else 0,
        frames.number_of_fragments if frames is not None else 0,
        frames.value_offset if frames is not None else 0,
        frames.frame_bits if frames is not None else 0,
        frames.stride_bits if frames is not None else 0,
        *(number or 0 for number in numbers),
        sum(1 << at for at, number in enumerate(numbers) if number is not None),
        _PIXEL_KEYWORDS.index(image.pixel_keyword),
        image.pixel_vr.encode("latin-1"),
        len(record.anomalies),
        min(record.scan_microseconds if scan_microseconds is None else scan_microseconds, _MAX_U4),
    )
    entries = bytes(frames.entries[:]) if frames is not None else b""
    return header + texts + anomalies + entries


def unpack_record(packed: bytes | memoryview, entries: Entries | None = None) -> InstanceRecord:
    """Return the record that was packed.

    Parameters
    ----------
    packed : bytes or memoryview
        The record.
    entries : Entries, optional
        Those that are kept apart, to be read when they are sliced.

    Raises
    ------
    IndexFormatError
        The bytes are no such record, or its path leads out of the archive.
    """
    try:
        return _unpack(packed, entries)
    except (struct.error, ValueError, IndexError) as error:
        raise IndexFormatError(f"damaged record: {error}; build the index anew") from error


def entries_offset(packed: bytes | memoryview) -> int:
    """Return where the entries begin in a packed record, in bytes."""
    if len(packed) < _HEADER.size:
        raise IndexFormatError(f"damaged record: {len(packed)} bytes; build the index anew")
    offset: int = _ENTRIES_OFFSET.unpack_from(packed, 4)[0]
    return offset


def split_record(packed: bytes) -> tuple[bytes, bytes]:
    """Return a packed record whose entries are kept apart, and these."""
    at = entries_offset(packed)
    flags = packed[3] | _APART
    head = packed[:3] + bytes([flags]) + packed[4:at] + _COUNT.pack(len(packed) - at)
    return head, packed[at:]


def join_record(head: bytes, entries: bytes) -> bytes:
    """Return the packed record that was split."""
    return head[:3] + bytes([head[3] & ~_APART]) + head[4 : entries_offset(head)] + entries


def length_apart(packed: bytes | memoryview) -> int | None:
    """Return the length of the entries of a record that are kept apart; None where they are not.

    Raises
    ------
    IndexFormatError
        The record is damaged.
    """
    at = entries_offset(packed)
    if not packed[3] & _APART:
        return None
    if len(packed) != at + _COUNT.size:
        raise IndexFormatError("damaged record: no length of its entries; build the index anew")
    length: int = _COUNT.unpack_from(packed, at)[0]
    return length


def unpack_count(packed: bytes) -> tuple[Status, int]:
    """Return status and Number of Frames of a record that this process trusts."""
    return _status_of(packed[0]), _COUNT.unpack_from(packed, 32)[0]


def unpack_keys(packed: bytes) -> RecordKeys:
    """Return what a record that this process trusts is looked up by."""
    fields = _HEADER.unpack_from(packed)
    texts, _ = _unpack_texts(packed, 6)
    path, _, _, sop, study, series = texts
    return RecordKeys(path, Fingerprint(*fields[5:8]), _status_of(fields[0]), sop, study, series)


def _unpack(packed: bytes | memoryview, entries: Entries | None) -> InstanceRecord:
    fields = _HEADER.unpack_from(packed)
    status, boundaries, layout, flags, entries_at = fields[:5]
    table_frames, located, fragments, value_offset, frame_bits, stride_bits = fields[9:15]
    texts, position = _unpack_texts(packed, 10)
    path, *named, reason = texts
    names = [text.decode("latin-1") for text in named]
    check_path(path)
    anomalies = []
    for _ in range(fields[26]):
        offset, count, length = _ANOMALY.unpack_from(packed, position)
        position += _ANOMALY.size + length
        code = bytes(packed[position - length : position]).decode("latin-1")
        anomalies.append(Anomaly(code, offset, count))
    if position != entries_at or position > len(packed):
        raise ValueError(f"entries at {entries_at}, found them at {position}")
    if max(fields[8], table_frames) > _MOST_FRAMES:
        raise ValueError(f"{max(fields[8], table_frames)} frames")
    frames = None
    if layout:
        frames = FrameTable(
            layout=Layout(layout),
            number_of_frames=table_frames,
            frames_located=located,
            number_of_fragments=fragments,
            value_offset=value_offset,
            frame_bits=frame_bits,
            stride_bits=stride_bits,
            entry_size=8 if flags & _WIDE_ENTRIES else 4,
            trimmed=bool(flags & _TRIMMED),
            entries=bytes(packed[entries_at:]) if entries is None else entries,
        )
    present = fields[23]
    numbers = [number if present >> at & 1 else None for at, number in enumerate(fields[15:23])]
    return InstanceRecord(
        status=_status_of(status),
        path=path,
        fingerprint=Fingerprint(*fields[5:8]) if flags & _HAS_FINGERPRINT else None,
        reason=reason.decode("utf-8", "replace"),
        error=names[7],
        transfer_syntax_uid=names[0],
        sop_class_uid=names[1],
        sop_instance_uid=names[2],
        study_instance_uid=names[3],
        series_instance_uid=names[4],
        modality=names[5],
        big_endian=bool(flags & _BIG_ENDIAN),
        number_of_frames=fields[8],
        boundaries=_BOUNDARIES[boundaries],
        image_pixel=ImagePixel(
            **dict(zip(_NUMBERS, numbers, strict=True)),
            photometric_interpretation=names[6],
            pixel_keyword=_PIXEL_KEYWORDS[fields[24]],
            pixel_vr=fields[25].strip(b"\0").decode("latin-1"),
        ),
        frames=frames,
        anomalies=tuple(anomalies),
        scan_microseconds=fields[27],
    )


def _status_of(number: int) -> Status:
    if not 1 <= number <= len(_STATUSES):
        raise ValueError(f"unknown status {number}")
    return _STATUSES[number - 1]


def _unpack_texts(packed: bytes | memoryview, count: int) -> tuple[list[bytes], int]:
    """Return the first texts, and where the next one begins."""
    texts = []
    position = _HEADER.size
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(packed, position)
        position += 2 + length
        if position > len(packed):
            raise ValueError("a text runs past the end of the record")
        texts.append(bytes(packed[position - length : position]))
    return texts, position


def check_path(path: bytes) -> None:
    """Raise ValueError for a path that leads out of the folder that it is relative to."""
    if path.startswith(b"/") or b"\0" in path or b".." in path.split(b"/"):
        raise ValueError(f"the path {path!r} leads out of the archive")
