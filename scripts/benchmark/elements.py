"""Data elements in Explicit VR Little Endian, packed by hand (PS3.5 7, A.4; PS3.10 7)."""

from __future__ import annotations

import itertools
import struct
from array import array
from collections.abc import Iterator, Sequence

from scripts.benchmark.model import Image

EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE_STORAGE = "1.2.840.10008.5.1.4.1.1.7.2"

UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM = b"\xfe\xff\0\xe0"
END_OF_SEQUENCE = b"\xfe\xff\xdd\xe0\0\0\0\0"

_LONG_VRS = ("OB", "OW", "OV", "SQ")
_ENDLESS_ITEM = ITEM + b"\xff\xff\xff\xff"
_END_OF_ITEM = b"\xfe\xff\x0d\xe0\0\0\0\0"


def pack_element(tag: int, vr: str, value: bytes | str | int, length: int | None = None) -> bytes:
    """Return a data element in Explicit VR Little Endian; an int is an unsigned short."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif isinstance(value, str):
        value = value.encode("ascii")
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    length = len(value) if length is None else length
    form = "<HH2sxxI" if vr in _LONG_VRS else "<HH2sH"
    return struct.pack(form, tag >> 16, tag & 0xFFFF, vr.encode(), length) + value


def pack_file_meta(transfer_syntax_uid: str, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return preamble, prefix and File Meta Information (PS3.10 7.1)."""
    elements = pack_element(0x00020001, "OB", b"\0\1")
    elements += pack_element(0x00020002, "UI", sop_class_uid)
    elements += pack_element(0x00020003, "UI", sop_instance_uid)
    elements += pack_element(0x00020010, "UI", transfer_syntax_uid)
    length = pack_element(0x00020000, "UL", struct.pack("<I", len(elements)))
    return bytes(128) + b"DICM" + length + elements


def name_uid(*numbers: int) -> str:
    """Return a UID of one length for numbers of up to nine digits each."""
    return ".".join(["2.25", *(f"1{number:09d}" for number in numbers)])


def pack_encapsulated(fragments: Sequence[bytes]) -> bytes:
    """Return Pixel Data of one fragment a frame with its Basic Offset Table (PS3.5 A.4)."""
    starts = itertools.accumulate((len(each) + 8 for each in fragments[:-1]), initial=0)
    table = array("I", starts).tobytes()
    items = [ITEM + struct.pack("<I", len(each)) + each for each in (table, *fragments)]
    header = pack_element(0x7FE00010, "OB", b"", UNDEFINED_LENGTH)
    return b"".join((header, *items, END_OF_SEQUENCE))


def pack_sequence(tag: int, *items: bytes) -> bytes:
    """Return a sequence of defined lengths."""
    packed = (ITEM + struct.pack("<I", len(item)) + item for item in items)
    return pack_element(tag, "SQ", b"".join(packed))


def pack_attributes(image: Image, sop_class_uid: str) -> Iterator[bytes]:
    """Yield what says whose image it is, in the order of the tags."""
    for tag, vr, value in (
        (0x00080008, "CS", r"ORIGINAL\PRIMARY\AXIAL"),
        (0x00080016, "UI", sop_class_uid),
        (0x00080018, "UI", image.sop_instance_uid),
        (0x00080020, "DA", "20260102"),
        (0x00080030, "TM", "101112"),
        (0x00080050, "SH", "A1"),
        (0x00080060, "CS", "OT" if sop_class_uid == SECONDARY_CAPTURE_STORAGE else "CT"),
        (0x00080070, "LO", "mmindex"),
        (0x00080090, "PN", "Referring^Physician"),
        (0x00100010, "PN", "Bench^Mark"),
        (0x00100020, "LO", "1"),
        (0x00100030, "DA", "19700101"),
        (0x00100040, "CS", "O"),
        (0x00180050, "DS", "1.25"),
        (0x00180060, "DS", "120"),
        (0x0020000D, "UI", image.study_instance_uid),
        (0x0020000E, "UI", image.series_instance_uid),
        (0x00200010, "SH", "1"),
        (0x00200011, "IS", "1"),
        (0x00200013, "IS", "1"),
    ):
        yield pack_element(tag, vr, value)


def pack_image_pixel(
    rows: int, columns: int, bits: int, number_of_frames: int | None
) -> Iterator[bytes]:
    """Yield the Image Pixel Module (PS3.3 C.7.6.3)."""
    yield pack_element(0x00280002, "US", 1)
    yield pack_element(0x00280004, "CS", "MONOCHROME2")
    if number_of_frames is not None:
        yield pack_element(0x00280008, "IS", str(number_of_frames))
    for tag, value in (
        (0x00280010, rows),
        (0x00280011, columns),
        (0x00280100, bits),
        (0x00280101, bits),
        (0x00280102, bits - 1),
        (0x00280103, 0),
    ):
        yield pack_element(tag, "US", value)


def pack_functional_groups(number_of_frames: int) -> bytes:
    """Return Per-frame Functional Groups of undefined lengths (PS3.3 C.7.6.16)."""
    pieces = [pack_element(0x52009230, "SQ", b"", UNDEFINED_LENGTH)]
    content = pack_element(0x00209111, "SQ", b"", UNDEFINED_LENGTH) + _ENDLESS_ITEM
    position = pack_element(0x00209113, "SQ", b"", UNDEFINED_LENGTH) + _ENDLESS_ITEM
    end = _END_OF_ITEM + END_OF_SEQUENCE
    for frame_index in range(number_of_frames):
        index = pack_element(0x00209157, "UL", struct.pack("<2I", 1, frame_index + 1))
        place = pack_element(0x00200032, "DS", f"0\\0\\{frame_index}.5")
        pieces.append(
            b"".join((_ENDLESS_ITEM, content, index, end, position, place, end, _END_OF_ITEM))
        )
    pieces.append(END_OF_SEQUENCE)
    return b"".join(pieces)
