"""What Zarr, xarray and Dask read of an archive are the pixels that the archive decodes."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import dicom_file, element, encapsulate, image_attributes, item, sequence

import mmindex
from mmindex.errors import (
    DecodeError,
    FormatError,
    InstanceNotFoundError,
    TruncatedFrameError,
)

zarr = pytest.importorskip("zarr")

RLE = "1.2.840.10008.1.2.5"
BIG = "1.2.840.10008.1.2.2"


def make_slice(number: int, z: float, *, order: str = "<", columns: int = 4) -> bytes:
    """Return a slice of int16 whose pixels say its number, with place, spacing and rescale."""
    form = {"order": order}
    data = element(0x00080018, "UI", f"1.2.3.{number}", **form)
    data += element(0x00080060, "CS", "CT", **form)
    data += element(0x0020000E, "UI", "1.2.9", **form)
    data += element(0x00200013, "IS", str(100 - number), **form)
    data += element(0x00200032, "DS", f"0\\0\\{z}", **form)
    data += element(0x00200037, "DS", "1\\0\\0\\0\\1\\0", **form)
    data += image_attributes(rows=3, columns=columns, bits=16, **form)
    data += element(0x00280030, "DS", "0.5\\0.75", **form)
    data += element(0x00281052, "DS", "-1024", **form) + element(0x00281053, "DS", "2", **form)
    pixels = (np.arange(3 * columns) + number * 1000).astype(f"{order}u2")
    data += element(0x7FE00010, "OW", pixels.tobytes(), **form)
    return dicom_file(data, BIG if order == ">" else "1.2.840.10008.1.2.1")


def make_rle(count: int) -> bytes:
    """Return an RLE instance of three samples, frames of one value each, with frame positions."""
    frames = []
    for number in range(count):
        plane = bytes([0xF9, number])  # 8 times this value (PS3.5 Annex G)
        header = struct.pack("<16I", 3, 64, 66, 68, *[0] * 12)
        frames.append(header + plane * 3)
    groups = []
    for number in range(count):
        position = item(element(0x00200032, "DS", f"0\\0\\{number * 2.5}"))
        groups.append(item(sequence(0x00209113, [position])))
    cosines = item(element(0x00200037, "DS", "1\\0\\0\\0\\1\\0"))
    measures = item(element(0x00280030, "DS", "0.25\\0.25"))
    shared = sequence(0x00209116, [cosines]) + sequence(0x00289110, [measures])
    data = element(0x00080018, "UI", "1.2.4") + element(0x0020000E, "UI", "1.2.8")
    data += image_attributes(
        rows=2, columns=4, samples=3, photometric="RGB", number_of_frames=count
    )
    data += sequence(0x52009229, [item(shared)]) + sequence(0x52009230, groups)
    return dicom_file(data + encapsulate(frames), RLE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, z in enumerate((5.0, -2.5, 2.5, 0.0)):
        order = ">" if number == 2 else "<"
        (tmp_path / f"{number}.dcm").write_bytes(make_slice(number, z, order=order))
    (tmp_path / "rle.dcm").write_bytes(make_rle(5))
    mmindex.build(tmp_path, workers=1)
    return tmp_path


def test_a_series_is_an_array_in_the_order_of_its_slices(root):
    """Native byte order, dimension names, spacing and rescale; parts, too."""
    import mmindex.export.zarr as export

    with mmindex.open(root) as archive:
        store = export.open(archive, series_uid="1.2.9")
        array = zarr.open_group(store, mode="r")["frames"]
        dataset = mmindex.FrameDataset(archive, series_instance_uid="1.2.9")
        expected = np.stack(list(dataset))
        assert (array.shape, array.dtype, array.chunks) == ((4, 3, 4), np.uint16, (1, 3, 4))
        assert array.metadata.dimension_names == ("frame", "row", "column")
        assert np.array_equal(array[:], expected)
        assert [plane[0, 0] // 1000 for plane in array] == [1, 3, 2, 0]
        assert np.array_equal(array[1:4:2, 2, 1:], expected[1:4:2, 2, 1:])
        assert dict(array.attrs) == {
            "series_instance_uid": "1.2.9",
            "modality": "CT",
            "photometric_interpretation": "MONOCHROME2",
            "pixel_spacing": [0.5, 0.75],
            "spacing": [2.5, 0.5, 0.75],
            "slice_positions": [-2.5, 0, 2.5, 5],
            "rescale_slope": 2,
            "rescale_intercept": -1024,
            "scale_factor": 2,
            "add_offset": -1024,
        }


def test_an_instance_is_an_array_whatever_its_codec(root):
    """RLE in three samples; the spacing of its functional groups."""
    import mmindex.export.zarr as export

    with mmindex.open(root) as archive:
        array = zarr.open_group(export.open(archive, sop_instance_uid="1.2.4"), mode="r")["frames"]
        assert array.shape == (5, 2, 4, 3)
        assert array.metadata.dimension_names == ("frame", "row", "column", "sample")
        assert np.array_equal(array[:], np.stack([archive.array("1.2.4", i) for i in range(5)]))
        assert (array[3] == 3).all()
        assert array.attrs["spacing"] == [2.5, 0.25, 0.25]
        assert array.attrs["sop_instance_uid"] == "1.2.4"


def test_the_store_lists_keys_and_takes_none(root):
    """Listing, ranges of bytes, keys that are none; writing raises; two stores differ."""
    import asyncio

    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
    from zarr.core.buffer import default_buffer_prototype

    import mmindex.export.zarr as export

    with mmindex.open(root) as archive:
        store = export.open(archive, sop_instance_uid="1.2.4")
        prototype = default_buffer_prototype()

        async def look() -> None:
            keys = [key async for key in store.list()]
            assert keys[:2] == ["zarr.json", "frames/zarr.json"]
            assert keys[2:] == [f"frames/c/{i}/0/0/0" for i in range(5)]
            assert [name async for name in store.list_dir("")] == ["zarr.json", "frames"]
            assert [name async for name in store.list_dir("frames/")] == ["zarr.json", "c"]
            assert all([await store.exists(key) for key in keys])
            whole = await store.get(keys[3], prototype)
            assert whole.to_bytes() == bytes([1] * 24)
            for request, count in (
                (RangeByteRequest(3, 8), 5),
                (OffsetByteRequest(20), 4),
                (SuffixByteRequest(7), 7),
            ):
                (part,) = await store.get_partial_values(prototype, [(keys[3], request)])
                assert part.to_bytes() == bytes([1] * count)
            for key in (
                "frames/c/5/0/0/0",
                "frames/c/01/0/0/0",
                "frames/c/0/0/0",
                "x",
                "frames/c/-1/0/0/0",
            ):
                assert await store.get(key, prototype) is None
                assert not await store.exists(key)
            with pytest.raises(ValueError, match="read-only"):
                await store.set("x", whole)
            with pytest.raises(ValueError, match="read-only"):
                await store.set_partial_values([("x", 0, b"")])
            with pytest.raises(ValueError, match="read-only"):
                await store.delete("x")

        asyncio.run(look())
        other = export.open(archive, sop_instance_uid="1.2.4")
        assert store != other
        assert len({store, other}) == 2


def test_what_is_no_array_raises(root):
    """Both, neither, unknown UIDs, frames of two shapes, and a frame that is cut."""
    import mmindex.export.zarr as export

    (root / "wide.dcm").write_bytes(make_slice(9, 7.5, columns=5))
    cut = bytearray(make_rle(5))
    (root / "rle.dcm").write_bytes(cut[:-40])
    mmindex.build(root, workers=1)
    with mmindex.open(root) as archive:
        with pytest.raises(ValueError, match="either"):
            export.open(archive)
        with pytest.raises(ValueError, match="either"):
            export.open(archive, series_uid="1.2.9", sop_instance_uid="1.2.4")
        for uids in ({"series_uid": "9"}, {"sop_instance_uid": "9"}):
            with pytest.raises(InstanceNotFoundError):
                export.open(archive, **uids)
        with pytest.raises(FormatError, match="frames of one kind"):
            export.open(archive, series_uid="1.2.9")
        array = zarr.open_group(export.open(archive, sop_instance_uid="1.2.4"), mode="r")["frames"]
        assert (array[0] == 0).all()
        with pytest.raises((TruncatedFrameError, DecodeError)):
            array[4]


def test_xarray_opens_a_series_in_hounsfield_units(root):
    """scale_factor and add_offset are what xarray applies."""
    xarray = pytest.importorskip("xarray", reason="no xarray")
    import mmindex.export.zarr as export

    with mmindex.open(root) as archive:
        store = export.open(archive, series_uid="1.2.9")
        frames = xarray.open_zarr(store, consolidated=False)["frames"]
        assert frames.dims == ("frame", "row", "column")
        stored = zarr.open_group(store, mode="r")["frames"][:]
        assert np.array_equal(frames.to_numpy(), stored * 2.0 - 1024)


@pytest.mark.filterwarnings("ignore")  # of napari's own
def test_napari_shows_the_zarr_store_and_the_dask_array(root):
    """Layers of a viewer without a window take both as they are, and slice them lazily."""
    components = pytest.importorskip("napari.components", reason="no napari")
    zarr = pytest.importorskip("zarr")
    import mmindex.export.zarr as export

    with mmindex.open(root) as archive:
        frames = zarr.open_group(export.open(archive, series_uid="1.2.9"), mode="r")["frames"]
        viewer = components.ViewerModel()
        for data in (frames, archive.to_dask("1.2.9")):
            layer = viewer.add_image(data, contrast_limits=(0, 100))
            assert layer.data.shape == (4, 3, 4)
            viewer.dims.set_point(0, 2)
            shown = np.asarray(layer.data[2])
            assert np.array_equal(shown, frames[2])


def test_a_series_is_a_dask_array(root):
    """In the order of FrameDataset; in slices; through pickle, as another process gets it."""
    pytest.importorskip("dask.array")
    with mmindex.open(root) as archive:
        array = archive.to_dask("1.2.9")
        expected = np.stack(list(mmindex.FrameDataset(archive, series_instance_uid="1.2.9")))
        assert array.chunks == ((1,) * 4, (3,), (4,))
        assert np.array_equal(array.compute(scheduler="threads"), expected)
        part = array[[3, 1], 1, ::2].compute(scheduler="synchronous")
        assert np.array_equal(part, expected[[3, 1], 1, ::2])
        assert array[2:2].compute(scheduler="synchronous").shape == (0, 3, 4)
        again = pickle.loads(pickle.dumps(array))
        assert np.array_equal(again.max(axis=0).compute(scheduler="synchronous"), expected.max(0))
        with pytest.raises(InstanceNotFoundError):
            archive.to_dask("9")
    (root / "wide.dcm").write_bytes(make_slice(9, 7.5, columns=5))
    mmindex.build(root, workers=1)
    with mmindex.open(root) as archive, pytest.raises(FormatError, match="frames of one kind"):
        archive.to_dask("1.2.9")


def test_kerchunk_references_are_opened_by_zarr_through_fsspec(root, tmp_path_factory):
    """Each native little-endian instance, as the archive decodes it; others are left out."""
    pytest.importorskip("fsspec")
    from zarr.storage import FsspecStore

    from mmindex.export.kerchunk import walk_references

    path = tmp_path_factory.mktemp("out") / "references.json"
    left_out: list[str] = []
    with mmindex.open(root) as archive:
        pieces = walk_references(archive, left_out=lambda file, why: left_out.append(why))
        path.write_bytes(b"".join(pieces))
        assert len(left_out) == 1
        store = FsspecStore.from_url(
            "reference://",
            storage_options={
                "fo": os.fspath(path),
                "remote_protocol": "file",
                "asynchronous": True,
            },
            read_only=True,
        )
        group = zarr.open_group(store, mode="r", zarr_format=2)
        for number in range(4):
            uid = f"1.2.3.{number}"
            assert np.array_equal(group[uid][0], archive.array(uid, 0))
