"""What the files of the benchmark share, over the writer of DICOM bytes that the tests have."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from dicom_bytes import EXPLICIT_VR_LITTLE_ENDIAN, element, file_meta, item, sequence

from scripts.benchmark.model import Image

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE_STORAGE = "1.2.840.10008.5.1.4.1.1.7.2"


def pack_file_meta(transfer_syntax_uid: str, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Return preamble, prefix and File Meta Information (PS3.10 7.1)."""
    meta = file_meta(transfer_syntax_uid, sop=(sop_class_uid, sop_instance_uid))
    return bytes(128) + b"DICM" + meta


def pack_header(
    image: Image, sop_class_uid: str, transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN
) -> bytes:
    """Return a file up to its Image Pixel Module."""
    meta = pack_file_meta(transfer_syntax_uid, sop_class_uid, image.sop_instance_uid)
    return meta + b"".join(pack_attributes(image, sop_class_uid))


def name_uid(*numbers: int) -> str:
    """Return a UID of one length for numbers of up to nine digits each."""
    return ".".join(["2.25", *(f"1{number:09d}" for number in numbers)])


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
        yield element(tag, vr, value)


def pack_functional_groups(number_of_frames: int, *, undefined: bool = True) -> bytes:
    """Return Per-frame Functional Groups (PS3.3 C.7.6.16), with an index and a place a frame.

    All but the outermost sequence have defined lengths, or all are `undefined`.
    """

    def nest(tag: int, content: bytes) -> bytes:
        return sequence(tag, [item(content, undefined=undefined)], undefined=undefined)

    groups = (
        nest(0x00209111, element(0x00209157, "UL", struct.pack("<2I", 1, frame_index + 1)))
        + nest(0x00209113, element(0x00200032, "DS", rf"0\0\{frame_index}.5"))
        for frame_index in range(number_of_frames)
    )
    items = [item(each, undefined=undefined) for each in groups]
    return sequence(0x52009230, items, undefined=True)
