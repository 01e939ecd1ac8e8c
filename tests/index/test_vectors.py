"""Records as hex with their meaning beside, for readers in other languages: both are held here.

The encoder below knows the table in index/record.py and nothing of the package.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from mmindex.index.record import unpack_record
from mmindex.model import InstanceRecord

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))

STATUSES = [
    *("indexed", "deflated", "stream", "no-pixel-data", "not-dicom", "unreadable", "container"),
]
BOUNDARIES = [
    *("none", "native", "basic-offset-table", "extended-offset-table"),
    *("one-fragment-a-frame", "all-fragments", "start-markers"),
]
LAYOUTS = ["", "native", "fragment-a-frame", "fragments", "trusted"]
PIXEL = [
    *("rows", "columns", "samples_per_pixel", "bits_allocated", "bits_stored", "high_bit"),
    *("pixel_representation", "planar_configuration"),
]
TEXTS = [
    *("path", "transfer_syntax_uid", "sop_class_uid", "sop_instance_uid", "study_instance_uid"),
    *("series_instance_uid", "modality", "photometric_interpretation", "error", "reason"),
]
NUMBERS = {
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
    "dimension_organization_type": "text",
    "concatenation_uid": "text",
}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value.encode())) + value.encode()


def encode(meaning: dict[str, Any]) -> bytes:
    """Return the packed record of what a JSON file says."""
    table, pixel = meaning.get("frame_table", {}), meaning["image_pixel"]
    numbers, member = meaning["image_numbers"], meaning.get("member")
    rest = b"".join(text(meaning.get(name, "")) for name in TEXTS)
    if member:
        sizes = [member[name] for name in ("offset", "length", "compressed_length", "crc")]
        rest += struct.pack("<QQQIB", *sizes, member["method"]) + text(member["name"])
    for name, kind in NUMBERS.items():
        if name in numbers:
            value = numbers[name]
            several = value if isinstance(value, list) else [value]
            rest += text(value) if kind == "text" else struct.pack("<" + kind, *several)
    for anomaly in meaning.get("anomalies", []):
        rest += struct.pack("<QIB", anomaly["offset"], anomaly["count"], len(anomaly["code"]))
        rest += anomaly["code"].encode()
    wide = table.get("entry_size") == 8
    flags = wide | table.get("trimmed", False) << 1 | 4 | bool(member) << 5
    flags |= meaning.get("big_endian", False) << 3
    head = struct.pack("<4B", STATUSES.index(meaning["status"]) + 1,
                       BOUNDARIES.index(meaning["boundaries"]),
                       LAYOUTS.index(table.get("layout", "")), flags)  # fmt: skip
    version = [meaning["version"][name] for name in ("kind", "size", "mtime_ns", "inode")]
    names = ("number_of_frames", "frames_located", "number_of_fragments", "value_offset")
    places = [table.get(name, 0) for name in (*names, "frame_bits", "stride_bits")]
    fixed = struct.pack("<BQqQ7Q", *version, meaning["number_of_frames"], *places)
    fixed += struct.pack("<8H", *(pixel.get(name, 0) for name in PIXEL))
    fixed += struct.pack("<BB2sHIH", sum(1 << at for at, n in enumerate(PIXEL) if n in pixel), 0,
                         pixel["pixel_vr"].encode(), len(meaning.get("anomalies", [])),
                         meaning["scan_microseconds"],
                         sum(1 << at for at, n in enumerate(NUMBERS) if n in numbers))  # fmt: skip
    entries = struct.pack(f"<{len(table.get('entries', []))}{'Q' if wide else 'I'}",
                          *table.get("entries", []))  # fmt: skip
    return head + struct.pack("<I", 117 + len(rest)) + fixed + rest + entries


def describe(record: InstanceRecord) -> dict[str, Any]:
    """Return what the package reads, in the form of the JSON files."""
    found: dict[str, Any] = {
        **{name: getattr(record, name) for name in TEXTS if hasattr(record, name)},
        "path": record.path.decode(),
        "photometric_interpretation": record.image_pixel.photometric_interpretation,
        "status": record.status.value,
        "boundaries": record.boundaries.value,
        "big_endian": record.big_endian,
        "number_of_frames": record.number_of_frames,
        "scan_microseconds": record.scan_microseconds,
        "image_pixel": {"pixel_vr": record.image_pixel.pixel_vr},
        "image_numbers": {},
        "version": record.fingerprint._asdict() if record.fingerprint else None,
        "anomalies": [
            {"code": a.code, "offset": a.offset, "count": a.count} for a in record.anomalies
        ],
    }
    for group, names in (("image_pixel", PIXEL), ("image_numbers", NUMBERS)):
        for name in names:
            value = getattr(getattr(record, group), name)
            if value not in (None, ""):
                found[group][name] = list(value) if isinstance(value, tuple) else value
    if record.member is not None:
        found["member"] = {**record.member._asdict(), "name": record.member.name.decode()}
    frames = record.frames
    if frames is not None:
        names = ["number_of_frames", "frames_located", "number_of_fragments", "value_offset"]
        names += ["frame_bits", "stride_bits", "entry_size", "trimmed"]
        found["frame_table"] = {name: getattr(frames, name) for name in names}
        found["frame_table"]["layout"] = LAYOUTS[frames.layout]
        kind = "Q" if frames.entry_size == 8 else "I"
        entries = frames.entries[:]
        found["frame_table"]["entries"] = list(
            struct.unpack(f"<{len(entries) // frames.entry_size}{kind}", entries)
        )
    absent: tuple[object, ...] = ("", [])
    return {k: value for k, value in found.items() if value is not False and value not in absent}


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_is_what_its_meaning_says(name: str) -> None:
    """The bytes are those that the table of the format gives, and the package reads them."""
    meaning = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    packed = bytes.fromhex((VECTORS / f"{name}.hex").read_text(encoding="ascii"))
    table = meaning.get("frame_table")
    assert packed == encode(meaning)
    if table is not None:
        table.setdefault("trimmed", False)
    found = describe(unpack_record(packed))
    assert found == {key: value for key, value in meaning.items() if key != "about"}


def test_there_are_vectors() -> None:
    """A CT slice, a slide, a deflated member of a zip file, an object of a store, and an error."""
    assert NAMES == ["ct-slice", "remote-fragments", "slide", "unreadable", "zip-member"]
