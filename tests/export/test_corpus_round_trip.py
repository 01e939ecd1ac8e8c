"""What is exported of real files is what the archive returns: every frame of each readable file."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom.data
import pytest

import mmindex
from mmindex.errors import MMIndexError
from mmindex.export.jsonl import walk_lines
from mmindex.export.kerchunk import walk_references

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CORPUS = Path(os.environ.get("MMINDEX_CORPUS", _BESIDE))
_PYDICOM = Path(pydicom.data.__file__).parent / "test_files"
MOST_FRAMES = [40, pytest.param(1 << 62, marks=pytest.mark.long)]  # of one file that are decoded
_Read = dict[tuple[str, int], tuple[bytes, int]]

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir() and not _PYDICOM.is_dir(), reason="no corpus: set MMINDEX_CORPUS"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mmindex.Archive]:
    """Real files, indexed apart from them."""
    folder = tmp_path_factory.mktemp("corpus")
    root = CORPUS
    if not CORPUS.is_dir():
        root = folder / "files"
        shutil.copytree(_PYDICOM, root)
    index = folder / "corpus.mmindex"
    mmindex.build(root, index, workers=1)
    with mmindex.open(index) as opened:
        yield opened


def walk_frames(archive: mmindex.Archive) -> Iterator[tuple[mmindex.InstanceRecord, int]]:
    """Yield each frame that has bytes of its own."""
    for record in archive.records():
        if record.status is mmindex.Status.INDEXED and record.frames is not None:
            for frame_index in range(record.frames.frames_located):
                yield record, frame_index


def read_rows(archive: mmindex.Archive, rows: list[dict]) -> _Read:
    """Return the bytes that rows lead to with the first bit, by path and frame."""
    found: _Read = {}
    for row in rows:
        with open(Path(archive.root, os.fsencode(row["path"]).decode()), "rb") as file:
            file.seek(row["offset"])
            key = row["path"], row["frame"]
            before, _ = found.get(key, (b"", 0))
            found[key] = before + file.read(row["length"]), row["first_bit"]
    return found


def check_bytes(archive: mmindex.Archive, found: _Read) -> None:
    expected = bits = 0
    for record, frame_index in walk_frames(archive):
        expected += 1
        assert record.frames is not None
        path = os.fsdecode(record.path)
        data, first_bit = found[path, frame_index]
        length, size = record.frames.frame_bits, record.image_pixel.bits_allocated
        with archive.file(record.path) as instance:
            if length and size == 1:  # single bits, which begin within a byte
                pixels = instance.array(frame_index)
                values = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")[first_bit:]
                assert np.array_equal(values[:length], pixels.reshape(-1)), (path, frame_index)
                bits += 1
            elif not length or length % 8 == record.frames.stride_bits % 8 == first_bit == 0:
                assert data == instance.frame(frame_index), (path, frame_index)
    assert len(found) == expected > 100
    assert bits > (10 if CORPUS.is_dir() else 1)


def test_json_lines_lead_to_the_bytes_of_every_frame(archive):
    """Fragments joined."""
    check_bytes(archive, read_rows(archive, [json.loads(line) for line in walk_lines(archive)]))


def test_parquet_leads_to_the_bytes_of_every_frame(archive, tmp_path):
    """Fragments joined."""
    parquet = pytest.importorskip("pyarrow.parquet")
    from mmindex.export.parquet import write_parquet

    target = tmp_path / "frames.parquet"
    count = write_parquet(archive, target)
    rows = parquet.read_table(target).to_pylist()
    assert count == len(rows)
    check_bytes(archive, read_rows(archive, rows))


@pytest.mark.parametrize("most", MOST_FRAMES)
def test_kerchunk_references_are_the_pixels_of_the_archive(archive, tmp_path, most):
    """Of each instance that is referred to, opened by zarr through fsspec, but for unused bits.

    A frame that the archive cannot decode is an error, or whatever the codec makes of it.
    """
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("fsspec")
    pytest.importorskip("imagecodecs.numcodecs").register_codecs()
    target = tmp_path / "references.json"
    target.write_bytes(b"".join(walk_references(archive)))
    uids = {key.partition("/")[0] for key in json.loads(target.read_bytes())["refs"]} - {".zgroup"}
    store = zarr.storage.FsspecStore.from_url(
        "reference://",
        storage_options={"fo": str(target), "remote_protocol": "file", "asynchronous": True},
        read_only=True,
    )
    group = zarr.open_group(store, mode="r", zarr_format=2)
    served = compressed = 0
    for uid in sorted(uids):
        array = group[uid]
        decoded = 0
        for frame_index in range(min(array.shape[0], most)):
            try:
                expected = archive.array(uid, frame_index, raw=True)
            except MMIndexError:
                continue
            found = array[frame_index]
            if found.dtype.kind == "u":
                found = found & (1 << array.attrs["bits_stored"]) - 1
            assert np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f"), uid
            decoded += 1
        served += decoded > 0
        compressed += decoded > 0 and array.compressors != ()
    assert served > 10
    assert compressed > (3 if CORPUS.is_dir() else 2)


@pytest.mark.parametrize("most", MOST_FRAMES)
def test_zarr_has_the_pixels_of_every_instance_that_can_be_decoded(archive, most):
    """Of every codec; an instance that cannot be decoded raises the archive's error."""
    zarr = pytest.importorskip("zarr")
    import mmindex.export.zarr as export

    served = refused = 0
    for uid in archive:
        record = archive.record(uid)
        try:
            expected = archive.array(uid, 0)
        except MMIndexError as error:
            with pytest.raises(type(error)):
                export.open(archive, sop_instance_uid=uid)
            refused += 1
            continue
        store = export.open(archive, sop_instance_uid=uid)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = zarr.open_group(store, mode="r")["frames"]
        assert array.shape == (record.number_of_frames, *expected.shape)
        for frame_index in range(min(record.number_of_frames, most)):
            try:
                expected = archive.array(uid, frame_index)
            except MMIndexError as error:
                with pytest.raises(type(error)):
                    array[frame_index]
                continue
            found = array[frame_index]
            assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), record.path
        served += 1
    assert served > 50, refused


def test_zarr_has_the_frames_of_every_series_of_one_kind(archive):
    """In the order of a FrameDataset; a series of frames of several kinds raises."""
    zarr = pytest.importorskip("zarr")
    import mmindex.export.zarr as export

    served = refused = 0
    for series in sorted({record.series_instance_uid for record in archive.instances()} - {""}):
        try:
            store = export.open(archive, series_uid=series)
        except MMIndexError:
            refused += 1
            continue
        dataset = mmindex.FrameDataset(archive, series_instance_uid=series, order="position")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = zarr.open_group(store, mode="r")["frames"]
        assert array.shape[0] == len(dataset)
        for at in sorted({0, len(dataset) // 2, len(dataset) - 1}):
            try:
                expected = dataset[at]
            except MMIndexError as error:
                with pytest.raises(type(error)):
                    array[at]
                continue
            found = array[at]
            assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), series
        served += 1
    assert served > 20, refused
