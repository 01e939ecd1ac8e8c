"""Records and values as hex with their meaning beside, for readers in other languages.

Both are held here. The encoders below know the tables in index/README.md and the docstrings that
it names, and nothing of the package.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest
from new_store import create_store

from mmindex.index.build_notes import BuildNote
from mmindex.index.problem_notes import AcceptedProblem, Looked, ProblemNote, SkippedPath
from mmindex.index.record import pack_record, unpack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status
from mmindex.tile_positions import SlideImage, TilePositions

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
NAMES = sorted(path.stem for path in VECTORS.glob("*.hex"))
VALUES = json.loads((VECTORS / "values.json").read_text(encoding="utf-8"))

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
TILE_TEXTS = ["dimension_organization_type", "concatenation_uid"]
TILE_SIZES = [
    *("total_pixel_matrix_columns", "total_pixel_matrix_rows", "columns", "rows"),
    "concatenation_frame_offset_number",
]


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
    positions = encode_positions(meaning["positions"]) if "positions" in meaning else b""
    if positions:
        rest += struct.pack("<Q", len(positions))
    wide = table.get("entry_size") == 8
    flags = wide | table.get("trimmed", False) << 1 | 4 | bool(member) << 5
    flags |= meaning.get("big_endian", False) << 3 | bool(positions) << 6
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
    return head + struct.pack("<I", 117 + len(rest)) + fixed + rest + entries + positions


def encode_positions(meaning: dict[str, Any]) -> bytes:
    """Return the packed positions of fewer than 256 tiles."""
    heights, tiles = meaning["focal_planes"], meaning["tiles"]
    texts = [meaning[name] for name in ("image_type", *TILE_TEXTS)]
    texts += meaning["optical_path_identifiers"]
    rest = struct.pack(f"<{len(heights)}d", *heights)
    rest += struct.pack("<H", len(texts)) + b"".join(map(text, texts))
    sizes = [meaning[name] for name in TILE_SIZES]
    head = struct.pack("<IQ4IQI", 40 + len(rest), len(tiles), *sizes, len(heights))
    return head + rest + struct.pack("<Q", tiles[0][0]) + b"".join(
        struct.pack("<QI", *tile) for tile in tiles
    )  # fmt: skip


def describe_positions(record: InstanceRecord, tiles: list[list[int]]) -> dict[str, Any]:
    """Return what the package reads, of the tiles whose keys these have, and of no other key."""
    assert record.positions is not None
    positions = TilePositions(record.positions)
    image: SlideImage = positions.image
    found = [[key, find_tile(positions, key)] for key, _ in tiles]
    others = set(range(24)) - {key for key, _ in tiles}
    assert [key for key in others if find_tile(positions, key) is not None] == []
    assert positions.number_of_tiles == len(tiles)
    sizes = (image.width, image.height, image.tile_width, image.tile_height, image.first_frame)
    return {
        **dict(zip(TILE_SIZES, sizes, strict=True)),
        "focal_planes": list(image.heights),
        "image_type": "\\".join(image.image_type),
        "dimension_organization_type": image.organization,
        "concatenation_uid": image.concatenation_uid,
        "optical_path_identifiers": list(image.optical_paths),
        "tiles": found,
    }


def find_tile(positions: TilePositions, key: int) -> int | None:
    """Return the frame of a key that counts 3 columns, 2 rows, 2 focal planes."""
    return positions.find(key % 3, key // 3 % 2, key // 6 % 2, key // 12)


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
    record = unpack_record(packed)
    found = describe(record)
    if "positions" in meaning:
        found["positions"] = describe_positions(record, meaning["positions"]["tiles"])
    assert found == {key: value for key, value in meaning.items() if key != "about"}
    assert pack_record(record) == packed


def test_there_are_vectors() -> None:
    """Of slices, slides full and sparse, members, an object of a store, and an error.

    Versions are of every kind, and there is a value for each database that has its own form.
    """
    assert [
        *("ct-slice", "remote-fragments", "slide", "sparse-slide", "tar-member"),
        *("unreadable", "zip-member"),
    ] == NAMES
    meanings = [json.loads((VECTORS / f"{name}.json").read_text("utf-8")) for name in NAMES]
    assert {meaning["version"]["kind"] for meaning in meanings} == {0, 1, 2}
    assert {value["database"] for value in VALUES} == {
        *("meta", "paths", "folders", "unscanned", "instances", "members", "problems", "entries"),
    }


def digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode(), digest_size=16).digest()


def encode_pair(database: str, name: str, meaning: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return key and value of a pair of the index, the value without a checksum."""
    file_id = struct.pack(">Q", meaning.get("file_id", 0))
    if database == "meta":
        forms = {
            "format": lambda: b"mmindex" + struct.pack("<I", meaning["format"]),
            "root": lambda: meaning["root"].encode(),
            "next": lambda: struct.pack(">Q", meaning["next"]),
            "counters": lambda: struct.pack(
                "<7Q3Q", *meaning["statuses"], *list(meaning.values())[1:]
            ),
            "built": lambda: struct.pack("<qQI", *meaning.values()),
        }
        return name.encode(), forms[name]()
    if database == "paths":
        version = struct.pack("<QqQB", *meaning["version"].values())
        return digest(meaning["path"]), file_id[::-1] + version
    if database == "folders":
        return digest(meaning["folder"] + "/"), b""
    if database == "problems":
        path = meaning["path"].encode()
        accepted = "kind" in meaning
        says = f"{meaning['kind']}\0{meaning['detail']}" if accepted else meaning["reason"]
        key = digest(meaning["path"]) + (digest(says) if accepted else b"")
        return key, struct.pack("<BI", accepted, len(path)) + path + says.encode()
    if database == "entries":
        chunk = struct.pack(">I", meaning["chunk"])
        return file_id + chunk, bytes.fromhex(meaning["bytes"])
    pairs = {
        "unscanned": lambda: (file_id, meaning["status"].encode()),
        "instances": lambda: (meaning["uid"].encode(), file_id),
        "members": lambda: (digest(meaning["container"]), file_id),
    }
    return pairs[database]()


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value["about"])
def test_a_value_is_what_its_meaning_says(value: dict[str, Any]) -> None:
    """The bytes are those of the tables, with the CRC-32 of key and value where there is one."""
    key, plain = bytes.fromhex(value["key"]), bytes.fromhex(value["value"])
    expected_key, expected = encode_pair(value["database"], key.decode("latin-1"), value["meaning"])
    if "no checksum" not in value["about"] and "without a checksum" not in value["about"]:
        expected += struct.pack("<I", zlib.crc32(expected_key + expected))
    assert (key, plain) == (expected_key, expected)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Store]:
    """An index in a folder of the archive, into which LMDB alone has put the values."""
    folder = tmp_path / "kept"
    folder.mkdir()
    path = str(folder / "index")
    create_store(path, bytes(tmp_path)).close()
    with lmdb.open(path, subdir=False, max_dbs=16) as env, env.begin(write=True) as txn:
        for value in VALUES:
            database = env.open_db(value["database"].encode(), txn=txn, create=False)
            txn.put(bytes.fromhex(value["key"]), bytes.fromhex(value["value"]), db=database)
        sealed = struct.pack(">Q", 7), b""  # entries are served where their record is there
        files = env.open_db(b"files", txn=txn, create=False)
        txn.put(sealed[0], struct.pack("<I", zlib.crc32(sealed[0])), db=files)
    with closing(Store(path)) as store:
        yield store


def find_meanings(database: str, *names: str) -> list[dict[str, Any]]:
    return [
        value["meaning"]
        for value in VALUES
        if value["database"] == database and set(names) <= value["meaning"].keys()
    ]


def make_notes() -> list[ProblemNote]:
    notes: list[ProblemNote] = []
    for meaning in find_meanings("problems"):
        kind = AcceptedProblem if "kind" in meaning else SkippedPath
        notes.append(kind(**{**meaning, "path": meaning["path"].encode()}))
    return notes


def test_the_package_reads_the_values(filled: Store, tmp_path: Path) -> None:
    """Each by the way that the package itself has to it."""
    assert filled.root == bytes(tmp_path)
    assert filled.next_file_id() == 9
    (built,) = find_meanings("meta", "ended_ns")
    assert filled.read_build() == BuildNote(**built)
    (counters,) = find_meanings("meta", "statuses")
    found = filled.read_counters()
    assert list(found.statuses.values()) == counters["statuses"]
    assert (found.instances, found.frames) == (counters["instances"], counters["frames"])
    assert found.file_bytes == counters["file_bytes"]
    for meaning in find_meanings("paths"):
        expected = meaning["file_id"], Fingerprint(**meaning["version"])
        assert filled.find_paths([meaning["path"].encode()]) == [expected]
    assert filled.has_folder(b"p1/s1")
    assert filled.find_unscanned(Status.UNREADABLE) == [6]
    assert filled.find_uid("instances", "1.2.3.4.1") == [3]
    assert filled.has_members(b"study.zip")
    assert sorted(filled.iterate_problem_notes()) == sorted(make_notes())
    assert filled.read_entries(7, 0, 12).hex() == find_meanings("entries")[0]["bytes"]


def test_the_package_writes_the_values(tmp_path: Path) -> None:
    """Notes of a build and of problems are written as the vectors have them."""
    path = str(tmp_path / "index")
    (built,) = find_meanings("meta", "ended_ns")
    with closing(create_store(path, bytes(tmp_path))) as store:
        store.write_build(BuildNote(**built), Looked(set(), (b"",)), [])
        store.add_problem_notes(make_notes())
    with lmdb.open(path, subdir=False, max_dbs=16) as env, env.begin() as txn:
        for value in VALUES:
            if value["database"] == "problems" or "ended_ns" in value["meaning"]:
                database = env.open_db(value["database"].encode(), txn=txn, create=False)
                written = txn.get(bytes.fromhex(value["key"]), db=database)
                assert written.hex() == value["value"]
