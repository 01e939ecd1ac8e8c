"""What `mmindex export` writes: every fragment's bytes are those of the frame."""

from __future__ import annotations

import json
import os
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    deflate,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)
from new_store import create_store

import mmindex
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.record import pack_record
from mmindex.model import Fingerprint, InstanceRecord, Status, VersionKind

FRAMES = [b"\xff\xd8" + bytes([i]) * 8 + b"\xff\xd9" for i in range(3)]
PIXELS = np.arange(18, dtype="<u2").reshape(3, 2, 3)


def make_file(uid: str, pixel_data: bytes, syntax: str, **attributes: object) -> bytes:
    order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    data_set = element(0x00080018, "UI", uid, order=order)
    data_set += element(0x0020000E, "UI", "1.9", order=order)
    return dicom_file(data_set + image_attributes(order=order, **attributes) + pixel_data, syntax)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of native, packed, big-endian, compressed and deflated instances, indexed."""

    root = tmp_path / "archive"
    (root / "a folder").mkdir(parents=True)
    little, jpeg = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
    shape = {"rows": 2, "columns": 3, "number_of_frames": 3}
    native = element(0x7FE00010, "OW", PIXELS.tobytes())
    big = element(0x7FE00010, "OW", PIXELS.astype(">u2").tobytes(), order=">")
    pieces = [piece for frame in FRAMES for piece in (frame[:6], frame[6:])]
    table = [0, 28, 56]
    assert struct.calcsize("<II") * 2 + len(FRAMES[0]) == 28
    (root / "a folder" / "native.dcm").write_bytes(
        make_file("1.1", native, little, bits=16, **shape)
    )
    (root / "big.dcm").write_bytes(make_file("1.2", big, EXPLICIT_VR_BIG_ENDIAN, bits=16, **shape))
    (root / "jpeg.dcm").write_bytes(
        make_file("1.3", encapsulate(pieces, bot=table), jpeg, number_of_frames=3)
    )
    bits = element(0x7FE00010, "OB", bytes(4))
    (root / "bits.dcm").write_bytes(make_file("1.4", bits, little, bits=1, **shape))
    deflated = make_file("1.5", native, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, bits=16, **shape)
    at = deflated.index(struct.pack("<HH", 8, 0x18))
    (root / "deflated.dcm").write_bytes(deflated[:at] + deflate(deflated[at:]))
    (root / "notes.txt").write_text("none")
    mmindex.build(root, workers=1)
    return root


def check_rows(root: Path, rows: list[dict[str, object]]) -> None:
    """Check that the rows' bytes, joined, are the frames that the archive has."""
    found: dict[tuple[str, int], bytes] = {}
    for row in rows:
        data = (root / str(row["path"])).read_bytes()
        start = int(str(row["offset"]))
        piece = data[start : start + int(str(row["length"]))]
        key = str(row["sop_instance_uid"]), int(str(row["frame"]))
        found[key] = found.get(key, b"") + piece
        assert row["size"] == len(data)
        assert row["series_instance_uid"] == "1.9"
    assert sorted(found) == [(f"1.{n}", frame) for n in (1, 2, 3, 4) for frame in range(3)]
    with mmindex.open(root) as archive:
        for (uid, frame), data in found.items():
            if uid != "1.4":
                assert archive.frame(uid, frame) == data
    first_bits = [row["first_bit"] for row in rows if row["sop_instance_uid"] == "1.4"]
    assert first_bits == [0, 6, 4]


def test_json_lines_have_a_row_a_fragment(archive):
    """Offsets, lengths, shapes and types; deflated frames have no bytes of their own."""
    result = run("export", str(archive))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    check_rows(archive, rows)
    kinds = {row["sop_instance_uid"]: (row["shape"], row["dtype"]) for row in rows}
    assert kinds["1.1"] == ([2, 3], "<u2")
    assert kinds["1.2"] == ([2, 3], ">u2")
    assert kinds["1.3"] == ([2, 2], "|u1")
    assert kinds["1.4"] == ([2, 3], "")
    fragments = [row["fragment"] for row in rows if row["sop_instance_uid"] == "1.3"]
    assert fragments == [0, 1, 0, 1, 0, 1]


def test_many_frames_of_one_fragment_are_listed_as_they_lie(tmp_path):
    """Offsets and lengths of a table of 40 frames of different lengths."""
    frames = [b"\xff\xd8" + bytes(2 * number) + b"\xff\xd9" for number in range(40)]
    data = make_file("1.1", encapsulate(frames), "1.2.840.10008.1.2.4.50", number_of_frames=40)
    (tmp_path / "a.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    rows = [json.loads(line) for line in run("export", str(tmp_path)).stdout.splitlines()]
    found = [data[row["offset"] : row["offset"] + row["length"]] for row in rows]
    assert found == frames
    assert [row["frame"] for row in rows] == list(range(40))


def test_many_frames_of_several_fragments_are_listed_as_they_lie(tmp_path):
    """30 frames of one to three fragments, by the Basic Offset Table; the last fragments, too."""
    frames, table, at = [], [], 0
    for number in range(30):
        frame = [b"\xff\xd8" + bytes([number] * 6), bytes([number]) * 4, b"ab\xff\xd9"]
        frames.append(frame[2 - number % 3 :])
        table.append(at)
        at += sum(8 + len(piece) for piece in frames[-1])
    pieces = [piece for frame in frames for piece in frame]
    data = make_file(
        "1.1", encapsulate(pieces, bot=table), "1.2.840.10008.1.2.4.50", number_of_frames=30
    )
    (tmp_path / "a.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    rows = [json.loads(line) for line in run("export", str(tmp_path)).stdout.splitlines()]
    found = [data[row["offset"] : row["offset"] + row["length"]] for row in rows]
    assert found == pieces
    assert [(row["frame"], row["fragment"]) for row in rows] == [
        (number, at) for number, frame in enumerate(frames) for at in range(len(frame))
    ]


def test_a_url_prefix_makes_urls(archive):
    """The path is quoted as a URL asks for."""
    result = run("export", str(archive), "--url-prefix", "s3://bucket/x/")
    urls = {json.loads(line)["url"] for line in result.stdout.splitlines()}
    assert "s3://bucket/x/a folder/native.dcm" in urls
    assert len(urls) == 4


def test_parquet_has_the_rows_of_json_lines(archive, tmp_path):
    """Read by pyarrow."""
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "frames.parquet"
    result = run("export", str(archive), "--format", "parquet", "-o", str(target))
    assert "15 rows" in result.stderr
    rows = parquet.read_table(target).to_pylist()
    check_rows(archive, rows)
    lines = run("export", str(archive)).stdout.splitlines()
    assert rows == [json.loads(line) for line in lines]


def test_duckdb_reads_the_parquet_file(archive, tmp_path):
    """A query finds the bytes of a frame without mmindex."""
    duckdb = pytest.importorskip("duckdb", reason="no duckdb")
    target = tmp_path / "frames.parquet"
    run("export", str(archive), "--format", "parquet", "-o", str(target))
    with duckdb.connect() as connection:
        path, offset, length = connection.execute(
            'SELECT path, "offset", length FROM read_parquet(?) '
            "WHERE sop_instance_uid = '1.1' AND frame = 2",
            [str(target)],
        ).fetchone()
        data = (archive / path).read_bytes()[offset : offset + length]
        assert np.array_equal(np.frombuffer(data, "<u2").reshape(2, 3), PIXELS[2])
        counts = connection.execute(
            "SELECT sop_instance_uid, count(*) FROM read_parquet(?) GROUP BY 1 ORDER BY 1",
            [str(target)],
        ).fetchall()
        assert counts == [("1.1", 3), ("1.2", 3), ("1.3", 6), ("1.4", 3)]


def test_a_remote_file_has_the_digest_of_its_etag(tmp_path):
    """In hexadecimal, in JSON lines and Parquet; a local file and an object without have none."""
    parquet = pytest.importorskip("pyarrow.parquet")
    native = FrameTable(Layout.NATIVE, 1, 1, 0, 1000, frame_bits=800)
    versions = (
        Fingerprint(5000, 7, 0xABC, VersionKind.REMOTE),
        Fingerprint(5000, 7, 0xABC),
        Fingerprint(5000, 7, 0, VersionKind.REMOTE),
    )
    records = [
        InstanceRecord(
            Status.INDEXED, path=b"%d" % at, fingerprint=version, number_of_frames=1, frames=native
        )
        for at, version in enumerate(versions)
    ]
    with closing(create_store(str(tmp_path / ".mmindex"), os.fsencode(tmp_path))) as store:
        store.replace(map(pack_record, records))
    rows = [json.loads(line) for line in run("export", str(tmp_path)).stdout.splitlines()]
    found = {row["path"]: (row["mtime_ns"], row["etag_digest"]) for row in rows}
    assert found == {"0": (7, "0000000000000abc"), "1": (7, None), "2": (7, None)}
    target = tmp_path / "frames.parquet"
    run("export", str(tmp_path), "--format", "parquet", "-o", str(target))
    assert parquet.read_table(target).to_pylist() == rows


def test_kerchunk_refers_to_native_frames_and_says_what_is_left_out(archive, tmp_path):
    """Each reference's bytes are a frame; compressed, packed and deflated frames are left out."""
    target = tmp_path / "frames.json"
    result = run("export", str(archive), "--format", "kerchunk", "-o", str(target))
    assert result.exit_code == 0
    for name, why in (("jpeg", "compressed"), ("bits", "packed"), ("deflated", "deflated")):
        assert f"{name}.dcm: {why}: " in result.stderr
    assert "3 files left out: 1 " in result.stderr
    refs = json.loads(target.read_text())["refs"]
    assert {key.partition("/")[0] for key in refs} == {".zgroup", "1.1", "1.2"}
    for uid, dtype in (("1.1", "<u2"), ("1.2", ">u2")):
        array = json.loads(refs[f"{uid}/.zarray"])
        assert (array["shape"], array["chunks"], array["dtype"]) == ([3, 2, 3], [1, 2, 3], dtype)
        for frame in range(3):
            path, offset, length = refs[f"{uid}/{frame}.0.0"]
            data = Path(path).read_bytes()[offset : offset + length]
            assert np.array_equal(np.frombuffer(data, dtype).reshape(2, 3), PIXELS[frame])


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_kerchunk_refers_to_the_file_that_is_served(tmp_path, newest):
    """Of three files with one UID the one that was changed last, wherever the walk meets it."""
    shape = {"rows": 2, "columns": 3, "number_of_frames": 3, "bits": 16}
    for number in range(3):
        pixels = element(0x7FE00010, "OW", (PIXELS + number).tobytes())
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(make_file("1.1", pixels, "1.2.840.10008.1.2.1", **shape))
        seconds = 1_000_000 + (number == newest)
        os.utime(path, (seconds, seconds))
    mmindex.build(tmp_path, workers=1)
    target = tmp_path / "frames.json"
    result = run("export", str(tmp_path), "--format", "kerchunk", "-o", str(target))
    assert result.stderr.count("another file has its SOP Instance UID") == 2
    path, offset, length = json.loads(target.read_text())["refs"]["1.1/1.0.0"]
    with mmindex.open(tmp_path) as archive:
        data = Path(path).read_bytes()[offset : offset + length]
        assert data == archive.frame("1.1", 1) == (PIXELS + newest)[1].tobytes()


def test_text_of_a_file_is_quoted_in_json(tmp_path):
    """A UID and a path with quotes, backslashes and line ends stay one string."""
    shape = {"rows": 2, "columns": 3, "number_of_frames": 3, "bits": 16}
    name, uid = 'a"b\\\n\u00e9.dcm', '1.2"\\'
    pixels = element(0x7FE00010, "OW", PIXELS.tobytes())
    (tmp_path / name).write_bytes(make_file(uid, pixels, "1.2.840.10008.1.2.1", **shape))
    os.makedirs(os.fsencode(tmp_path) + b"/\xff")
    with open(os.fsencode(tmp_path) + b"/\xff/b\nc.dcm", "wb") as file:
        file.write(make_file("1." * 31 + "12", pixels, "1.2.840.10008.1.2.1", **shape))
    mmindex.build(tmp_path, workers=1)
    rows = [json.loads(line) for line in run("export", str(tmp_path)).stdout.splitlines()]
    assert {(row["path"], row["sop_instance_uid"]) for row in rows} == {
        (name, uid),
        ("\udcff/b\nc.dcm", "1." * 31 + "12"),
    }
    target = tmp_path / "frames.json"
    run("export", str(tmp_path), "--format", "kerchunk", "-o", str(target))
    refs = json.loads(target.read_text())["refs"]
    assert refs[f"{uid}/2.0.0"][0] == str(tmp_path / name)
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "frames.parquet"
    run("export", str(tmp_path), "--format", "parquet", "-o", str(target))
    found = {row["path"] for row in parquet.read_table(target).to_pylist()}
    assert found == {name, "\\udcff/b\nc.dcm"}


@pytest.mark.filterwarnings("ignore")
def test_zarr_opens_the_references(archive, tmp_path):
    """Through fsspec's reference file system, where both are installed."""
    zarr = pytest.importorskip("zarr")
    fsspec = pytest.importorskip("fsspec")
    target = tmp_path / "frames.json"
    run("export", str(archive), "--format", "kerchunk", "-o", str(target))
    files = fsspec.filesystem("reference", fo=str(target), asynchronous=True)
    store = zarr.storage.FsspecStore(files, read_only=True, path="")
    group = zarr.open_group(store, mode="r", zarr_format=2)
    for uid in ("1.1", "1.2"):
        assert np.array_equal(group[uid][:], PIXELS)


def test_no_file_of_the_archive_or_index_is_written_over(archive):
    """Nor does Parquet go to standard output."""
    for name in ("big.dcm", ".mmindex", "a folder/native.dcm"):
        before = (archive / name).read_bytes()
        for form in ("jsonl", "parquet"):
            target = str(archive / name)
            result = run("export", str(archive), "--format", form, "-o", target, code=2)
            assert "give another path" in result.stderr
        assert (archive / name).read_bytes() == before
    run("export", str(archive), "--format", "parquet", code=2)
