"""kerchunk references, opened by zarr and xarray through fsspec, give what the archive gives."""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from codec_examples import EXAMPLES
from dicom_bytes import dicom_file, element, encapsulate, image_attributes

import mmindex
from mmindex.export.jsonl import walk_lines
from mmindex.export.kerchunk import walk_references

zarr = pytest.importorskip("zarr")
pytest.importorskip("fsspec")
LITTLE = "1.2.840.10008.1.2.1"


def make_file(
    uid: str,
    pixel_data: bytes,
    *,
    syntax: str = LITTLE,
    stored: int | None = None,
    signed: bool = False,
    **attributes: Any,
) -> bytes:
    data_set = element(0x00080018, "UI", uid) + element(0x0020000E, "UI", "1.9")
    pixel = image_attributes(**attributes)
    bits = attributes.get("bits", 8)
    for tag, old, new in (
        (0x00280101, bits, stored or bits),
        (0x00280102, bits - 1, (stored or bits) - 1),
        (0x00280103, 0, int(signed)),
    ):
        before = element(tag, "US", struct.pack("<H", old))
        assert before in pixel
        pixel = pixel.replace(before, element(tag, "US", struct.pack("<H", new)))
    return dicom_file(data_set + pixel + pixel_data, syntax)


def export(
    root: Path, out: Path, url_prefix: str = ""
) -> tuple[dict[str, Any], dict[str, str], Path]:
    """Return the references, the reasons of files that are left out, and the reference file."""
    left_out: dict[str, str] = {}
    with mmindex.open(root) as archive:
        pieces = walk_references(
            archive, url_prefix, lambda path, why: left_out.__setitem__(os.path.basename(path), why)
        )
        out.write_bytes(b"".join(pieces))
    return json.loads(out.read_bytes())["refs"], left_out, out


def open_group(path: Path, protocol: str = "file") -> Any:
    options = {"fo": str(path), "remote_protocol": protocol, "asynchronous": True}
    store = zarr.storage.FsspecStore.from_url(
        "reference://", storage_options=options, read_only=True
    )
    return zarr.open_group(store, mode="r", zarr_format=2)


def test_bits_above_bits_stored_are_named_and_signs_within_words_are_left_out(tmp_path):
    """An overlay in bits 12 to 15 stays in a chunk; -1 in 12 bits of 16 would be 4,095."""
    root = tmp_path / "archive"
    root.mkdir()
    words = np.array([[[0x8123, 0x0FFF], [1, 0xF000]]], "<u2")
    value = element(0x7FE00010, "OW", words.tobytes())
    common = {"bits": 16, "number_of_frames": 1}
    (root / "overlay.dcm").write_bytes(make_file("1.1", value, stored=12, **common))
    (root / "signed.dcm").write_bytes(make_file("1.2", value, stored=12, signed=True, **common))
    (root / "whole.dcm").write_bytes(make_file("1.3", value, signed=True, **common))
    mmindex.build(root, workers=1)
    refs, left_out, path = export(root, tmp_path / "r.json")
    assert left_out == {"signed.dcm": "signed: its samples have a sign within their words"}
    attributes = json.loads(refs["1.1/.zattrs"])
    bits = {"bits_stored": 12, "high_bit": 11, "pixel_representation": 0}
    assert {name: attributes[name] for name in bits} == bits
    group = open_group(path)
    chunk = group["1.1"][0]
    with mmindex.open(root) as archive:
        assert np.array_equal(chunk, words[0])
        assert np.array_equal(
            chunk & (1 << group["1.1"].attrs["bits_stored"]) - 1, archive.array("1.1", 0)
        )
        assert np.array_equal(group["1.3"][0], archive.array("1.3", 0))
    assert group["1.3"].attrs["pixel_representation"] == 1


DECODED = {"JPEG", "JPEG-LS", "JPEG 2000", "RLE"}  # by codecs that zarr finds in imagecodecs


@pytest.mark.parametrize("name", EXAMPLES)
def test_gray_compressed_frames_are_decoded_by_codecs_of_imagecodecs(tmp_path, name):
    """As the archive decodes them; RGB, several fragments and other codecs are left out."""
    codecs = pytest.importorskip("imagecodecs.numcodecs")
    codecs.register_codecs()
    root = tmp_path / "archive"
    root.mkdir()
    random = np.random.default_rng(1)
    kept = {}
    for number, example in enumerate(EXAMPLES[name]):
        for kind, dtype, stored in (("u1", "<u1", 8), ("u2", "<u2", 16), ("u2", "<u2", 12)):
            uid = f"1.{number}.{stored}"
            if kind not in example.kinds:
                continue
            frames = random.integers(0, 1 << stored, (3, 6, 8)).astype(dtype)
            value = encapsulate([example.encode(frame) for frame in frames])
            common = {"rows": 6, "columns": 8, "number_of_frames": 3, "bits": 8 * int(kind[1])}
            data = make_file(
                uid, value, syntax=example.transfer_syntax_uid, stored=stored, **common
            )
            (root / f"{uid}.dcm").write_bytes(data)
            if name in DECODED and (stored != 12 or name != "JPEG 2000"):
                kept[uid] = frames
    mmindex.build(root, workers=1)
    refs, left_out, path = export(root, tmp_path / "r.json")
    assert {key.partition("/")[0] for key in refs} - {".zgroup"} == set(kept)
    assert all(why.startswith("compressed: ") for why in left_out.values())
    assert len(kept) + len(left_out) == len(list(root.glob("*.dcm")))
    assert bool(kept) == (name in DECODED)
    group = open_group(path)
    with mmindex.open(root) as archive:
        for uid, frames in kept.items():
            assert np.array_equal(group[uid][:], frames)
            assert all(np.array_equal(archive.array(uid, at), frames[at]) for at in range(3))


def test_compressed_frames_that_a_codec_would_return_otherwise_are_left_out(tmp_path):
    """Colors, signs, few bits in wide words, and frames of several fragments."""
    root = tmp_path / "archive"
    root.mkdir()
    (example, *_) = EXAMPLES["JPEG-LS"]
    syntax = example.transfer_syntax_uid
    frame = example.encode(np.arange(48, dtype="u1").reshape(6, 8))
    value, common = encapsulate([frame]), {"rows": 6, "columns": 8}
    (root / "rgb.dcm").write_bytes(
        make_file("1.1", value, syntax=syntax, samples=3, photometric="RGB", **common)
    )
    (root / "signed.dcm").write_bytes(make_file("1.2", value, syntax=syntax, signed=True, **common))
    (root / "wide.dcm").write_bytes(
        make_file("1.3", value, syntax=syntax, bits=16, stored=8, **common)
    )
    (root / "pieces.dcm").write_bytes(
        make_file("1.4", encapsulate([frame[:20], frame[20:]]), syntax=syntax, **common)
    )
    (root / "palette.dcm").write_bytes(
        make_file("1.5", value, syntax=syntax, photometric="PALETTE COLOR", **common)
    )
    mmindex.build(root, workers=1)
    refs, left_out, _ = export(root, tmp_path / "r.json")
    assert set(refs) == {".zgroup"}
    assert set(left_out) == {
        f"{name}.dcm" for name in (["rgb", "signed", "wide", "pieces", "palette"])
    }
    assert all(why.startswith("compressed: ") for why in left_out.values())


@pytest.fixture
def spaced(tmp_path: Path) -> Path:
    """An archive of a native file whose folder and name need quotes in a URL."""
    root = tmp_path / "archive"
    (root / "a folder").mkdir(parents=True)
    value = element(0x7FE00010, "OB", bytes(range(8)))
    data = make_file("1.1", value, number_of_frames=2)
    (root / "a folder" / "50% #1?.dcm").write_bytes(data)
    mmindex.build(root, workers=1)
    return root


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """Serve a folder over HTTP; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_archive_without_frames_has_no_references(tmp_path):
    """Files that are no DICOM files, and none at all."""
    root = tmp_path / "archive"
    root.mkdir()
    for name in ("", "notes.txt"):
        if name:
            (root / name).write_bytes(b"no DICOM file")
        mmindex.build(root, workers=1)
        refs, left_out, _ = export(root, tmp_path / "refs.json")
        assert (refs, left_out) == ({".zgroup": '{"zarr_format": 2}'}, {})


@pytest.mark.parametrize("prefix", ["", "file://{root}/"])
def test_local_paths_are_not_quoted(spaced, tmp_path, prefix):
    """fsspec takes the path of a file: URL as it is."""
    refs, _, path = export(spaced, tmp_path / "r.json", prefix.format(root=spaced))
    assert refs["1.1/0.0.0"][0].endswith("/a folder/50% #1?.dcm")
    assert open_group(path)["1.1"][1].tolist() == [[4, 5], [6, 7]]


def test_keys_of_an_object_store_are_not_quoted(spaced, tmp_path):
    """In none of the formats: s3fs, gcsfs and adlfs take keys as they are."""
    refs, _, _ = export(spaced, tmp_path / "r.json", "s3://bucket/x/")
    assert refs["1.1/0.0.0"][0] == "s3://bucket/x/a folder/50% #1?.dcm"
    with mmindex.open(spaced) as archive:
        (line, _) = walk_lines(archive, "s3://bucket/x/")
    assert json.loads(line)["url"] == "s3://bucket/x/a folder/50% #1?.dcm"


def test_paths_of_a_web_server_are_quoted(spaced, tmp_path):
    """A server answers with the file's bytes."""
    with serving(spaced) as url:
        refs, _, _ = export(spaced, tmp_path / "r.json", url)
        found, offset, length = refs["1.1/1.0.0"]
        assert found == f"{url}a%20folder/50%25%20%231%3F.dcm"
        with urlopen(found, timeout=10) as answer:
            assert answer.read()[offset : offset + length] == bytes(range(4, 8))


@pytest.mark.filterwarnings("ignore")
def test_xarray_opens_all_arrays_together(tmp_path):
    """Frames, rows and columns of other sizes have other names."""
    xarray = pytest.importorskip("xarray")
    root = tmp_path / "archive"
    root.mkdir()
    for number, (frames, rows) in enumerate(((2, 2), (5, 2), (2, 7))):
        value = element(0x7FE00010, "OB", bytes(range(frames * rows * 2)))
        data = make_file(f"1.{number}", value, number_of_frames=frames, rows=rows)
        (root / f"{number}.dcm").write_bytes(data)
    mmindex.build(root, workers=1)
    _, _, path = export(root, tmp_path / "r.json")
    with (
        xarray.open_dataset(
            "reference://",
            engine="zarr",
            backend_kwargs={
                "consolidated": False,
                "storage_options": {"fo": str(path), "remote_protocol": "file"},
            },
        ) as found,
        mmindex.open(root) as archive,
    ):
        assert set(found.data_vars) == {"1.0", "1.1", "1.2"}
        assert found["1.2"].dims == ("frame_2", "row_7", "column_2")
        for uid in found.data_vars:
            assert np.array_equal(found[uid][1], archive.array(uid, 1))
