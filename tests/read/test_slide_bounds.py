"""Slides, frame tables and arrays of numbers that no file has cost little memory and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from child_process import little_memory
from dicom_bytes import dicom_file, element, image_attributes, item, sequence, written
from small_slides import make_position, make_slide, make_tile

import mmindex
from mmindex.errors import FormatError

HUGE = 900_000_000_000  # frames
LARGEST = (1 << 32) - 1  # columns or rows of a whole slide image
POSITION = element(0x00200032, "DS", r"1\2\3")
ORIENTATION = element(0x00200037, "DS", r"1\0\0\0\1\0")


def write(folder: Path, *slides: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(slides):
        (folder / f"{number}.dcm").write_bytes(data)
    return folder


def declare(count: int, *elements: bytes, organization: str = "") -> bytes:
    """Return a file of one pixel that declares so many frames."""
    data_set = element(0x00080018, "UI", "1.2.9") + element(0x0020000E, "UI", "1.2.8")
    data_set += POSITION + ORIENTATION + element(0x00209311, "CS", organization)
    data_set += image_attributes(rows=1, columns=1, number_of_frames=count) + b"".join(elements)
    return dicom_file(data_set + element(0x7FE00010, "OB", b"\1\0"))


@pytest.mark.parametrize("count", [1 << 25, HUGE])
@pytest.mark.parametrize("organization", ["TILED_SPARSE", "3D"])
def test_frames_without_positions_cost_no_memory(tmp_path, count, organization):
    """A slide that is not full and has no group a frame raises, whatever it declares."""
    slide = make_slide("1.2.5", [make_tile(0)], organization=organization, number_of_frames=count)
    write(tmp_path, slide)
    with little_memory(), pytest.raises(FormatError, match="no positions"):
        mmindex.open_slide(tmp_path)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.2.5", 0) == make_tile(0)


def test_a_shared_position_is_no_position_of_several_frames(tmp_path):
    """All frames would be one tile."""
    shared = make_slide(
        "1.2.5",
        [make_tile(0)] * 2,
        positions=[make_position(1, 1, 0, "1")],
        number_of_frames=1 << 30,
    ).replace(b"\x00\x52\x30\x92SQ", b"\x00\x52\x29\x92SQ")
    write(tmp_path, shared)
    with little_memory(), pytest.raises(FormatError, match="one tile"):
        mmindex.open_slide(tmp_path)


@pytest.mark.parametrize("count", [1 << 21, 1 << 30, HUGE])
@pytest.mark.parametrize("organization", ["", "TILED_FULL"])
def test_a_frame_table_of_frames_that_are_not_there_raises(tmp_path, count, organization):
    """As a Dask array and the attributes of a Zarr store do."""
    size = b"\0\0\1\0"
    path = written(
        tmp_path,
        declare(
            count,
            element(0x00480006, "UL", size),
            element(0x00480007, "UL", size),
            organization=organization,
        ),
    )
    with mmindex.open_file(path) as instance, little_memory():
        with pytest.raises(FormatError, match="number is wrong"):
            instance.frame_table()
        with pytest.raises(FormatError, match="number is wrong"):
            instance.find(position=3)


@pytest.mark.parametrize("count", [1 << 21, HUGE])
def test_arrays_of_frames_that_are_not_there_raise(tmp_path, count):
    """Dask has a chunk a frame, and so a number a frame."""
    pytest.importorskip("dask")
    zarr = pytest.importorskip("mmindex.export.zarr")
    path = written(tmp_path, declare(count))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open_file(path) as instance, mmindex.open(tmp_path) as archive, little_memory():
        for call in (
            instance.to_dask,
            lambda: archive.to_dask("1.2.8"),
            lambda: zarr.open(archive, sop_instance_uid="1.2.9"),
            lambda: zarr.open(archive, series_uid="1.2.8"),
        ):
            with pytest.raises(FormatError, match="number is wrong") as caught:
                call()
            assert caught.value.path == str(path)


def test_what_all_frames_share_costs_the_memory_of_one(tmp_path):
    """Of a million declared frames, the position is one number, seen a million times."""
    path = written(tmp_path, declare(1 << 20))
    with mmindex.open_file(path) as instance, little_memory():
        position = instance.frame_table()["position"]
        assert (len(position), position[0], position[-1]) == (1 << 20, 3.0, 3.0)
        assert not position.flags.writeable


@pytest.mark.parametrize(
    ("group", "wide"),
    [
        (0x00480207, element(0x00480106, "SH", "x" * 1024)),
        (0x00209111, element(0x00209157, "UL", bytes(1024))),
    ],
)
def test_one_wide_value_among_many_frames_raises(group, wide):
    """A column is as wide as its widest value: 8 bytes a frame would become thousands."""
    count = 600_000
    groups = [item(sequence(group, [item(wide)])), *[item()] * (count - 1)]
    data = declare(count, sequence(0x52009230, groups))
    with (
        mmindex.open_file(data) as instance,
        pytest.raises(FormatError, match=f"of {count} frames, found one of"),
    ):
        instance.frame_table()


@pytest.mark.parametrize("side", [100_000, LARGEST])
@pytest.mark.parametrize("samples", [1, 3])
def test_a_thumbnail_costs_the_memory_of_its_own_pixels(tmp_path, side, samples):
    """Whatever the size of the level: tiles that are not stored are not visited."""
    tile = 256, 256
    positions = [make_position(1, 1, 0, "1"), make_position(256 * 7 + 1, 257, 0, "1")]
    tiles = [bytes([number] * (256 * 256 * samples)) for number in (10, 20)]
    slide = make_slide(
        "1.2.5", tiles, positions=positions, size=(side, side // 2), tile=tile, samples=samples
    )
    write(tmp_path, slide)
    with mmindex.open_slide(tmp_path) as opened, little_memory():
        picture = opened.thumbnail(100)
    step = -(-side // 100)
    white = 255 if samples == 3 else 0
    area = 256 * 256
    if side == 100_000:  # the first tile is in block 0; the other in blocks 1 (and 2)
        expected = (10 * area + white * (step * step - area)) / step**2
        assert picture.reshape(50, 100, -1)[0, 0, 0] == int(expected + 0.5)
    assert picture.shape[:2] == (-(-(side // 2) // step), -(-side // step))
    assert (picture[10:] == white).all()


def test_a_thumbnail_of_single_pixels_takes_the_time_of_those_that_are_stored(tmp_path):
    """Of 10 billion places, two are visited."""
    positions = [make_position(1, 1, 0, "1"), make_position(100_000, 100_000, 0, "1")]
    write(
        tmp_path,
        make_slide(
            "1.2.5", [b"\xff", b"\xfe"], positions=positions, size=(100_000, 100_000), tile=(1, 1)
        ),
    )
    with mmindex.open_slide(tmp_path) as slide:
        assert (slide.thumbnail(100) == 0).all()
        assert slide.tile_array(0, 99_999, 99_999) == 0xFE


def test_a_tile_that_is_not_stored_costs_no_memory(tmp_path):
    """A tile of 65,535 x 65,535 pixels: one pixel, seen as often."""
    positions = [make_position(1, 1, 0, "1")]
    size = 2 * 65535, 65535
    write(
        tmp_path,
        make_slide(
            "1.2.5", [b"\1\2"], positions=positions, size=size, tile=(65535, 65535), samples=3
        ),
    )
    with mmindex.open_slide(tmp_path) as slide, little_memory():
        tile = slide.tile_array(0, 1, 0)
        assert tile.shape == (65535, 65535, 3)
        assert tile[7, 7].tolist() == [255] * 3
        assert not tile.flags.writeable
        assert slide.read_region(0, 65535, 0, 5, 5).shape == (5, 5, 3)
        with pytest.raises(mmindex.MMIndexError):
            slide.read_region(0, 0, 0, 5, 5)


def test_pictures_of_signed_colors_have_the_largest_value_as_background(tmp_path):
    """White of 8 bits with a sign is 127."""
    tiles = [bytes([number] * 24) for number in range(9)]
    write(tmp_path, make_slide("1.2.5", tiles, samples=3, signed=True))
    with mmindex.open_slide(tmp_path) as slide:
        region = slide.read_region(0, -1, 0, 3, 3)
        assert region.dtype == np.int8
        assert region[0, :, 0].tolist() == [127, 0, 0]
        assert slide.thumbnail(5).shape == (3, 5, 3)


def test_a_label_of_several_tiles_is_put_together(tmp_path):
    """And cropped as a level is; of a concatenation, too."""
    tiles = [make_tile(number) for number in range(9)]
    write(
        tmp_path,
        make_slide("1.2.5.1", tiles),
        make_slide("1.2.5.2", tiles, flavor="LABEL"),
        make_slide("1.2.5.3", tiles[:4], flavor="OVERVIEW", part=("1.2.7", 0)),
        make_slide("1.2.5.4", tiles[4:], flavor="OVERVIEW", part=("1.2.7", 4)),
    )
    expected = np.arange(9).reshape(3, 3).repeat(2, 0).repeat(4, 1)[:5, :10]
    with mmindex.open_slide(tmp_path) as slide:
        assert np.array_equal(slide.label, expected)
        assert np.array_equal(slide.macro, expected)


def test_a_label_that_fills_part_of_its_tile_is_cropped(tmp_path):
    """3 x 1 pixels in a tile of 4 x 2; without a size, it is the frame."""
    tile = bytes(range(8))
    level = make_slide("1.2.5.1", [make_tile(number) for number in range(9)])
    write(
        tmp_path,
        level,
        make_slide("1.2.5.2", [tile], flavor="LABEL", size=(3, 1)),
        make_slide("1.2.5.3", [tile], flavor="OVERVIEW", size=(0, 0)),
    )
    with mmindex.open_slide(tmp_path) as slide:
        assert slide.label.tolist() == [[0, 1, 2]]
        assert slide.macro.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_a_label_whose_frames_have_no_places_raises(tmp_path):
    """Neither in order, nor by position, nor one; or hardly any of a very large picture."""
    level = make_slide("1.2.5.1", [make_tile(number) for number in range(9)])
    tiles = [make_tile(0)] * 2
    for label, why in (
        (make_slide("1.2.5.2", tiles, flavor="LABEL", size=(8, 2), organization="3D"), "no places"),
        (make_slide("1.2.5.2", tiles, flavor="LABEL", size=(0, 0)), "no places"),
        (
            make_slide(
                "1.2.5.2",
                tiles[:1],
                flavor="LABEL",
                size=(LARGEST, LARGEST),
                positions=[make_position(1, 1, 0, "1")],
            ),
            "at most 67108864 pixels",
        ),
    ):
        write(tmp_path, level, label)
        with mmindex.open_slide(tmp_path) as slide, little_memory():
            assert slide.tile(0, 1, 0) == make_tile(1)
            with pytest.raises(FormatError, match=why):
                _ = slide.label


def test_parts_of_a_full_concatenation_are_of_the_same_planes(tmp_path):
    """The order of frames is one: heights are those of the first part; other paths raise."""
    tiles = [make_tile(number) for number in range(18)]
    heights = [[make_position(1, 1, z, "1")] * 9 for z in (0.0, 1.0)]
    common = {"planes": 2, "spacing": 0.001, "organization": "TILED_FULL"}
    write(
        tmp_path,
        make_slide("1.1", tiles[:9], positions=heights[0], part=("1.9", 0), **common),
        make_slide("1.2", tiles[9:], positions=heights[1], part=("1.9", 9), **common),
    )
    with mmindex.open_slide(tmp_path) as slide:
        assert slide.levels[0].focal_planes == 2
        for number, tile in enumerate(tiles):
            plane, place = divmod(number, 9)
            assert slide.tile(0, place % 3, place // 3, focal_plane=plane) == tile
    for second in (("a", "c"), ("b", "a"), ("a",)):
        write(
            tmp_path,
            make_slide("1.1", tiles[:9], paths=("a", "b"), part=("1.9", 0)),
            make_slide("1.2", tiles[9:], paths=second, part=("1.9", 9)),
        )
        with pytest.raises(FormatError, match="other optical paths"):
            mmindex.open_slide(tmp_path)


@pytest.mark.parametrize(("spacing", "origin"), [(1e-11, 0.0), (0.001, 1e17)])
def test_planes_closer_than_heights_are_told_apart_are_all_there(tmp_path, spacing, origin):
    """In the order of frames; none hides another one."""
    tiles = [make_tile(number) for number in range(18)]
    write(tmp_path, make_slide("1.1", tiles, planes=2, spacing=spacing, origin=origin))
    with mmindex.open_slide(tmp_path) as slide:
        assert slide.levels[0].focal_planes == 2
        assert [slide.tile(0, 0, 0, focal_plane=plane) for plane in (0, 1)] == [tiles[0], tiles[9]]


def test_frames_that_many_files_declare_are_bounded_together(tmp_path):
    """A million absent frames a file would be a billion of a series."""
    pytest.importorskip("dask")
    for number in range(3):
        data = declare(600_000).replace(b"1.2.9\0", b"1.2.%d\0" % number)
        (tmp_path / f"{number}.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, little_memory():
        assert archive.record("1.2.2").number_of_frames == 600_000
        with pytest.raises(FormatError, match="Frames 1800000 and"):
            archive.to_dask("1.2.8")


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i4", "u8"])
@pytest.mark.parametrize("sparse", [False, True])
def test_numbers_of_numpy_lead_to_the_same_tiles(tmp_path, kind, sparse):
    """Whatever their width: 600 tiles are more than a byte counts."""
    columns, rows = 20, 30
    tiles = [number.to_bytes(8, "little") for number in range(columns * rows)]
    places = [(1 + 4 * (at % columns), 1 + 2 * (at // columns)) for at in range(len(tiles))]
    positions = [make_position(*place, 0, "1") for place in places] if sparse else None
    size = 4 * columns, 2 * rows
    number = np.dtype(kind).type
    path = write(tmp_path, make_slide("1.2.9", tiles, size=size, positions=positions))
    with mmindex.open_slide(path) as slide:
        for at, tile in enumerate(tiles):
            row, column = divmod(at, columns)
            assert slide.tile(number(0), number(column), number(row)) == tile
        whole = slide.read_region(0, 0, 0, *size)
        area = [number(each) for each in (0, 40, 30, 100, 20)]
        assert np.array_equal(slide.read_region(*area)[:, :40], whole[30:50, 40:])
        assert np.array_equal(slide.tile_array(number(0), number(19), number(29)), whole[58:, 76:])
        assert slide.thumbnail(number(20)).shape == slide.thumbnail(20).shape


@pytest.mark.parametrize("flavor", ["VOLUME", "LABEL", "OVERVIEW", "THUMBNAIL"])
@pytest.mark.parametrize("tag", [b"1.2.3\0", b"1.2.4\0"])
def test_images_of_two_series_are_no_slide(tmp_path, flavor, tag):
    """Two slides in one folder, or a label of another one: a level of one, a picture of the other.

    The files of one are a slide.
    """
    ours = make_slide("1.7.1", [make_tile(at) for at in range(9)])
    other = make_slide("1.7.2", [make_tile(9)], size=(4, 2), flavor=flavor)
    with mmindex.open_slide(write(tmp_path / "both", ours, other)) as slide:
        assert slide.levels[0].width == 10
    folder = write(tmp_path / "mixed", ours, other.replace(tag, b"1.2.7\0"))
    with pytest.raises(
        FormatError, match=r"one (study|series), found (studies|series) 1\.2\.[34], 1\.2\.7:"
    ):
        mmindex.open_slide(folder)
