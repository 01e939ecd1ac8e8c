"""Slides: tiles by level, column and row are those of wsidicom, and those that were written."""

from __future__ import annotations

import os
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import item
from small_slides import make_position, make_slide, make_tile

import mmindex
from mmindex.errors import (
    DecodeError,
    FormatError,
    FrameIndexError,
    IndexFormatError,
    MissingFileError,
    NotDicomError,
)
from mmindex.read import tiles as tiles_module
from mmindex.tile_positions import SlideImage, TilePositions, pack_positions

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CORPUS = Path(os.environ.get("MMINDEX_CORPUS", _BESIDE))
SLIDES = sorted(CORPUS.rglob("sm_image*.dcm"))


def write(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        (folder / f"{name}.dcm").write_bytes(data)
    return folder


@pytest.mark.skipif(not SLIDES, reason="no corpus: set MMINDEX_CORPUS")
@pytest.mark.parametrize("path", SLIDES, ids=[path.stem for path in SLIDES])
def test_tiles_and_regions_are_those_of_wsidicom(path):
    """Every tile as stored, every tile's pixels, and regions on and off the tiles' borders."""
    wsidicom = pytest.importorskip("wsidicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = wsidicom.WsiDicom.open(path)
    with peer, mmindex.open_slide(path) as slide, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (level,) = slide.levels
        assert (level.width, level.height) == (peer.size.width, peer.size.height)
        for row in range(level.rows):
            for column in range(level.columns):
                pixels = np.asarray(peer.read_tile(0, (column, row), as_array=True))
                assert np.array_equal(slide.tile_array(0, column, row), np.squeeze(pixels))
        for x, y, width, height in ((0, 0, 50, 50), (3, 7, 20, 30), (10, 10, 10, 10)):
            pixels = np.asarray(peer.read_region((x, y), 0, (width, height), as_array=True))
            assert np.array_equal(slide.read_region(0, x, y, width, height), np.squeeze(pixels))


@pytest.mark.skipif(not SLIDES, reason="no corpus: set MMINDEX_CORPUS")
def test_regions_are_those_of_openslide():
    """Of the slides that OpenSlide opens: others have 16 bits, or codecs that it lacks."""
    openslide = pytest.importorskip("openslide")
    opened = 0
    for path in SLIDES:
        try:
            peer = openslide.OpenSlide(path)
        except openslide.OpenSlideError:
            continue
        with peer, mmindex.open_slide(path) as slide:
            opened += 1
            for x, y, width, height in ((0, 0, 50, 50), (3, 7, 20, 30), (10, 10, 10, 10)):
                pixels = np.asarray(peer.read_region((x, y), 0, (width, height)))[..., :3]
                assert np.array_equal(slide.read_region(0, x, y, width, height), pixels)
    assert opened >= 4


@pytest.mark.parametrize("beside", [False, True])
def test_a_full_slide_counts_columns_rows_planes_and_paths(tmp_path, beside):
    """The order of TILED_FULL (PS3.3 C.7.6.17.3): columns, rows, focal planes, optical paths."""
    tiles = [make_tile(number) for number in range(36)]
    write(tmp_path, a=make_slide("1.2.5", tiles, paths=("red", "blue"), planes=2))
    if beside:
        (tmp_path / "notes.txt").write_text("not DICOM")
    with mmindex.open_slide(tmp_path) as slide:
        (level,) = slide.levels
        assert (level.columns, level.rows, level.focal_planes) == (3, 3, 2)
        assert level.optical_paths == ("red", "blue")
        for number, tile in enumerate(tiles):
            rest, column = divmod(number, 3)
            rest, row = divmod(rest, 3)
            path, plane = divmod(rest, 2)
            where = {"focal_plane": plane, "optical_path": level.optical_paths[path]}
            assert slide.tile(0, column, row, **where) == tile
            pixels = slide.tile_array(0, column, row, **where)
            assert pixels.shape == (1 if row == 2 else 2, 2 if column == 2 else 4)
            assert (pixels == number).all()


def test_a_sparse_slide_finds_tiles_by_position(tmp_path):
    """In any order, over paths and planes; a tile that is not stored is background, and said."""
    places = [(9, 5, 0.0, "a"), (1, 1, 0.0, "a"), (5, 3, 0.5, "a"), (5, 3, 0.0, "b")]
    positions = [make_position(*place) for place in places]
    tiles = [make_tile(number + 1, 3) for number in range(4)]
    slide_file = make_slide("1.2.5", tiles, positions=positions, paths=("b", "a"), samples=3)
    write(tmp_path, a=slide_file)
    with mmindex.open_slide(tmp_path / "a.dcm") as slide:
        assert slide.levels[0].optical_paths == ("b", "a")
        assert slide.tile(0, 2, 2, optical_path="a") == tiles[0]
        assert slide.tile(0, 0, 0, optical_path="a") == tiles[1]
        assert slide.tile(0, 1, 1, optical_path="a", focal_plane=1) == tiles[2]
        assert slide.tile(0, 1, 1) == tiles[3]
        assert slide.locate(0, 0, 0) is None
        with pytest.raises(FrameIndexError, match="not stored"):
            slide.tile(0, 0, 0)
        background = slide.tile_array(0, 2, 2)
        assert background.shape == (1, 2, 3)
        assert (background == 255).all()
        region = slide.read_region(0, -1, -1, 12, 7, optical_path="a")
        assert (region[1:3, 1:5] == 2).all()
        assert (region[5, 9:11] == 1).all()
        assert (region[0] == 255).all()
        assert (region[:, 11] == 255).all()


def test_levels_label_and_macro_are_told_apart(tmp_path):
    """By Image Type and size; the archive's slide is the folder's."""
    write(
        tmp_path,
        a=make_slide("1.2.5.1", [make_tile(7)], size=(4, 2)),
        b=make_slide("1.2.5.2", [make_tile(number) for number in range(9)]),
        c=make_slide("1.2.5.3", [make_tile(3)], size=(4, 2), flavor="LABEL"),
        d=make_slide("1.2.5.4", [make_tile(4)], size=(4, 2), flavor="OVERVIEW"),
    )
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, archive.slide("1.2.4") as slide:
        assert [(level.width, level.downsample) for level in slide.levels] == [(10, 1), (4, 2.5)]
        assert slide.tile(1, 0, 0) == make_tile(7)
        assert (slide.label == 3).all()
        assert (slide.macro == 4).all()
        assert slide.thumbnail(4).tolist() == [[7] * 4] * 2
        assert slide.thumbnail(5).tolist() == [[0, 0, 1, 1, 2], [3, 3, 4, 4, 5], [6, 6, 7, 7, 8]]
    with mmindex.open_slide(sorted(tmp_path.glob("[ab].dcm"))) as slide:
        assert slide.label is None
        assert slide.macro is None


def test_a_concatenation_is_one_image(tmp_path):
    """Parts in any order of names; a part that is missing raises (PS3.3 C.7.6.16.2.2.4)."""
    tiles = [make_tile(number) for number in range(9)]
    write(
        tmp_path,
        a=make_slide("1.2.5.1", tiles[4:], part=("1.2.6", 4)),
        b=make_slide("1.2.5.2", tiles[:4], part=("1.2.6", 0)),
    )
    with mmindex.open_slide(tmp_path) as slide:
        assert [slide.tile(0, n % 3, n // 3) for n in range(9)] == tiles
    with pytest.raises(FormatError, match="begins with frame 4"):
        mmindex.open_slide(tmp_path / "a.dcm")
    with pytest.raises(FormatError, match="expected 9 tiles"):
        mmindex.open_slide(tmp_path / "b.dcm")


def test_tiles_that_are_not_sure_raise(tmp_path):
    """Two frames at one place, a tile off the grid or the image, no positions, two same levels."""
    tiles = [make_tile(0), make_tile(1)]
    first = make_position(1, 1, 0, "1")
    for positions, why in (
        ([first, first], "one tile"),
        ([first, make_position(2, 1, 0, "1")], "off the grid"),
        ([first, make_position(13, 1, 0, "1")], "off the grid"),
        ([first, make_position(-3, 1, 0, "1")], "off the grid"),
        ([item(), item()], "no positions"),
    ):
        write(tmp_path, a=make_slide("1.2.5", tiles, positions=positions))
        with pytest.raises(FormatError, match=why):
            mmindex.open_slide(tmp_path)
    full = [make_tile(number) for number in range(9)]
    write(tmp_path, a=make_slide("1.2.5", full), b=make_slide("1.2.6", full))
    with pytest.raises(FormatError, match="two images"):
        mmindex.open_slide(tmp_path)


def test_what_a_slide_does_not_have_raises(tmp_path):
    """Levels, columns, rows, planes and paths; files that are none; empty regions."""
    write(tmp_path, a=make_slide("1.2.5", [make_tile(number) for number in range(9)]))
    with mmindex.open_slide(tmp_path) as slide:
        for where in ((1, 0, 0), (-1, 0, 0), (0, 3, 0), (0, 0, 3), (0, -1, 0)):
            with pytest.raises(FrameIndexError):
                slide.tile(*where)
        with pytest.raises(FrameIndexError):
            slide.tile(0, 0, 0, focal_plane=1)
        with pytest.raises(FrameIndexError, match="no optical path"):
            slide.tile(0, 0, 0, optical_path="x")
        with pytest.raises(ValueError, match="at least 1 x 1"):
            slide.read_region(0, 0, 0, 0, 5)
        with pytest.raises(ValueError, match="at least 1 pixel"):
            slide.thumbnail(0)
    (tmp_path / "notes.txt").write_text("not DICOM" * 100)
    with pytest.raises(NotDicomError):
        mmindex.open_slide([tmp_path / "notes.txt"])
    with pytest.raises(MissingFileError):
        mmindex.open_slide(tmp_path / "none.dcm")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FormatError, match="no whole slide image"):
        mmindex.open_slide(empty)


def test_focal_planes_may_be_in_separate_instances(tmp_path):
    """In the order of their heights, one or several an instance; two at one height raise."""
    tiles = [make_tile(number) for number in range(36)]
    write(
        tmp_path,
        a=make_slide("1.2.5.1", tiles[27:], origin=3.5),
        b=make_slide("1.2.5.2", tiles[:9], origin=0),
        c=make_slide("1.2.5.3", tiles[9:27], planes=2, origin=1.5, spacing=0.0005),
    )
    mmindex.build(tmp_path, workers=1)
    with (
        mmindex.open(tmp_path) as archive,
        archive.slide("1.2.4") as indexed,
        mmindex.open_slide(tmp_path) as scanned,
    ):
        for slide in (indexed, scanned):
            (level,) = slide.levels
            assert (level.focal_planes, len(level.instances)) == (4, 3)
            size = f"{level.width} x {level.height}"
            assert repr(slide) == f"<Slide of 3 files, levels of {size} pixels>"
            for number, tile in enumerate(tiles):
                plane, place = divmod(number, 9)
                assert slide.tile(0, place % 3, place // 3, focal_plane=plane) == tile
            with pytest.raises(FrameIndexError, match="focal planes 0 to 3"):
                slide.tile(0, 0, 0, focal_plane=4)
    write(tmp_path, d=make_slide("1.2.5.4", tiles[:9], origin=2.0))
    with pytest.raises(FormatError, match="optical path '1' at the height 2") as caught:
        mmindex.open_slide(tmp_path)
    assert "'1' at the height 2, the other in" in str(caught.value)
    assert "name the files of one slide" in str(caught.value)
    assert all(str(tmp_path / name) in str(caught.value) for name in ("d", "c")), caught.value


def test_optical_paths_may_be_in_separate_instances(tmp_path):
    """Each with its own focal planes, full beside sparse."""
    tiles = [make_tile(number) for number in range(18)]
    sparse = [make_position(9, 5, z, "blue") for z in (0.0, 1.0, 2.0)]
    write(
        tmp_path,
        a=make_slide("1.2.5.1", tiles, planes=2, paths=("red",), spacing=0.001),
        b=make_slide("1.2.5.2", tiles[:3], paths=("blue",), positions=sparse),
    )
    with mmindex.open_slide(tmp_path) as slide:
        (level,) = slide.levels
        assert (level.optical_paths, level.focal_planes) == (("blue", "red"), 3)
        assert slide.tile(0, 2, 2, focal_plane=2, optical_path="blue") == tiles[2]
        assert slide.tile(0, 2, 2, focal_plane=1, optical_path="red") == tiles[17]
        assert slide.locate(0, 1, 1, optical_path="blue") is None
        with pytest.raises(FrameIndexError, match="focal planes 0 to 1"):
            slide.tile(0, 0, 0, focal_plane=2, optical_path="red")


def test_a_concatenation_of_sparse_parts_is_one_image(tmp_path):
    """Each part has the positions of its own frames; a tile that two parts have raises."""
    places = [(number % 3 * 4 + 1, number // 3 * 2 + 1, 0.0, "1") for number in range(9)]
    positions = [make_position(*place) for place in places]
    tiles = [make_tile(number) for number in range(9)]

    def part(uid: str, first: int, last: int, repeated: int | None = None) -> bytes:
        own = positions[first:last]
        if repeated is not None:
            own = [positions[repeated], *own[1:]]
        return make_slide(uid, tiles[first:last], positions=own, part=("1.2.6", first))

    write(tmp_path, a=part("1.2.5.2", 4, 9), b=part("1.2.5.1", 0, 4))
    mmindex.build(tmp_path, workers=1)
    with (
        mmindex.open(tmp_path) as archive,
        archive.slide("1.2.4") as indexed,
        mmindex.open_slide(tmp_path) as scanned,
    ):
        for slide in (indexed, scanned):
            assert [slide.tile(0, n % 3, n // 3) for n in range(9)] == tiles
    write(tmp_path, a=part("1.2.5.2", 4, 9, repeated=1))
    with mmindex.open_slide(tmp_path) as slide:
        assert slide.tile(0, 0, 0) == tiles[0]
        with pytest.raises(FormatError, match="in 2 instances"):
            slide.tile(0, 1, 0)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_sparse_concatenation_without_its_last_part_raises(tmp_path, parts):
    """Its tiles are no background: the parts that are there say how many there are."""
    places = [(number % 3 * 4 + 1, number // 3 * 2 + 1, 0.0, "1") for number in range(6)]
    for at, uid in enumerate(("1.2.5.1", "1.2.5.2")):
        own = slice(3 * at, 3 * at + 3)
        data = make_slide(
            uid,
            [make_tile(number) for number in range(6)][own],
            positions=[make_position(*place) for place in places[own]],
            part=("1.2.6", 3 * at),
            parts=parts,
        )
        (tmp_path / f"{at}.dcm").write_bytes(data)
    if parts == 2:
        with mmindex.open_slide(tmp_path) as slide:
            assert slide.locate(0, 0, 2) is None
        return
    with pytest.raises(FormatError, match=f"concatenation of {parts} instances, found 2"):
        mmindex.open_slide(tmp_path)


def test_a_thumbnail_is_no_level_beside_others(tmp_path):
    """Its size may be a level's; alone it is shown."""
    thumbnail = make_slide("1.2.5.2", [make_tile(3)], size=(4, 2), flavor="THUMBNAIL")
    write(tmp_path, a=make_slide("1.2.5.1", [make_tile(7)], size=(4, 2)), b=thumbnail)
    with mmindex.open_slide(tmp_path) as slide:
        assert len(slide.levels) == 1
        assert slide.tile(0, 0, 0) == make_tile(7)
    with mmindex.open_slide(tmp_path / "b.dcm") as slide:
        assert slide.tile(0, 0, 0) == make_tile(3)


def test_a_sparse_slide_of_an_archive_is_opened_from_the_index(tmp_path, monkeypatch):
    """No header is read, from 3,000 tiles on through a merge; all tiles are those of the file."""
    side = 60
    cells = random.Random(1).sample(range(side * side), 3000)
    positions = [make_position(c % side * 4 + 1, c // side * 2 + 1, 0, "1") for c in cells]
    tiles = [struct.pack("<Q", number) for number in range(len(cells))]
    size = (side * 4, side * 2)
    write(tmp_path, a=make_slide("1.2.5", tiles, size=size, positions=positions))
    mmindex.build(tmp_path, workers=1)
    merged = tmp_path / "merged.mmindex"
    mmindex.merge(merged, [tmp_path])

    def fail(instance: object) -> None:
        raise AssertionError("a header was read")

    monkeypatch.setattr(tiles_module, "read_scanned_header", fail)
    for index in (tmp_path, merged):
        with mmindex.open(index) as archive, archive.slide("1.2.4") as slide:
            found = {cell: number for number, cell in enumerate(cells)}
            for cell in range(side * side):
                place = slide.locate(0, cell % side, cell // side)
                assert (None if place is None else place[1]) == found.get(cell)
            assert slide.tile(0, cells[7] % side, cells[7] // side) == tiles[7]
            archive.check_index()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_slide_of_files_is_opened_with_one_look_at_each_header(tmp_path, monkeypatch, sparse):
    """The scan of a file finds the places of its tiles, too; no header is read a second time."""
    places = [(column * 4 + 1, row * 2 + 1) for row in range(3) for column in range(3)]
    positions = [make_position(*place, 0, "1") for place in places] if sparse else None
    tiles = [make_tile(number) for number in range(9)]
    write(tmp_path, a=make_slide("1.2.5", tiles, positions=positions))

    def fail(instance: object) -> None:
        raise AssertionError("a header was read")

    monkeypatch.setattr(tiles_module, "read_scanned_header", fail)
    for source in (tmp_path / "a.dcm", tmp_path, [tmp_path / "a.dcm"]):
        with mmindex.open_slide(source) as slide:
            assert [slide.tile(0, at % 3, at // 3) for at in range(9)] == tiles


def test_pixels_that_contradict_each_other_leave_tiles_as_stored(tmp_path):
    """No array has Pixel Representation 2: tiles are read, and pixels raise when asked for."""
    tiles = [make_tile(number) for number in range(9)]
    write(tmp_path, a=make_slide("1.2.5", tiles, signed=2))
    with mmindex.open_slide(tmp_path / "a.dcm") as slide:
        assert [slide.tile(0, at % 3, at // 3) for at in range(9)] == tiles
        with pytest.raises(DecodeError, match="Pixel Representation"):
            slide.tile_array(0, 0, 0)
        with pytest.raises(DecodeError, match="Pixel Representation"):
            slide.read_region(0, 0, 0, 4, 2)
        with pytest.raises(DecodeError, match="Pixel Representation"):
            slide.thumbnail(2)


def test_an_optical_path_that_is_named_twice_is_the_first(tmp_path):
    """Frames of the second one have no name of their own; a sparse slide has them once."""
    tiles = [make_tile(number) for number in range(18)]
    write(tmp_path, a=make_slide("1.2.5", tiles, paths=("1", "1")))
    with mmindex.open_slide(tmp_path / "a.dcm") as slide:
        assert slide.levels[0].optical_paths == ("1",)
        assert [slide.tile(0, at % 3, at // 3) for at in range(9)] == tiles[:9]
    places = [(column * 4 + 1, row * 2 + 1) for row in range(3) for column in range(3)]
    positions = [make_position(*place, 0, "1") for place in places]
    write(tmp_path, b=make_slide("1.2.6", tiles[9:], positions=positions, paths=("1", "1")))
    with mmindex.open_slide(tmp_path / "b.dcm") as slide:
        assert slide.levels[0].optical_paths == ("1",)
        assert [slide.tile(0, at % 3, at // 3) for at in range(9)] == tiles[9:]


def test_a_broken_slide_is_indexed_and_says_so_when_it_is_opened(tmp_path):
    """Frames are served by number; positions that are no grid raise where the slide is opened."""
    first = make_position(1, 1, 0, "1")
    tiles = [make_tile(0), make_tile(1)]
    write(tmp_path, a=make_slide("1.2.5", tiles, positions=[first, first]))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.2.5", 1) == tiles[1]
        assert archive.record("1.2.5").positions is None
        with pytest.raises(FormatError, match="one tile"):
            archive.slide("1.2.4")


def test_planes_that_no_slide_has_are_refused_in_little_time(tmp_path):
    """As many optical paths and heights as tiles: indexed, an error where the slide is opened."""
    count = 1000
    positions = [make_position(1, 1, number, f"{number}") for number in range(count)]
    tiles = [make_tile(0)] * count
    write(tmp_path, a=make_slide("1.2.5", tiles, positions=positions))
    write(tmp_path, b=make_slide("1.2.6", [make_tile(0)], planes=(1 << 32) - 1))
    report = mmindex.build(tmp_path, workers=1)
    assert report.statuses["indexed"] == 2
    for name in ("a", "b"):
        with pytest.raises(FormatError, match="slide has at most"):
            mmindex.open_slide(tmp_path / f"{name}.dcm")


def test_damaged_positions_raise():
    """What is shorter, longer, or no positions at all is no slide."""
    image = SlideImage(10, 5, 4, 2, ("A",), "TILED_SPARSE", "", 0, (0.0,), ("1",))
    packed = pack_positions(image, np.array([4, 0, 7]))
    tiles = TilePositions(packed)
    assert tiles.image == image
    assert [tiles.find(column, row, 0, 0) for row in range(3) for column in range(3)] == [
        *(1, None, None, None, 0, None, None, 2, None),
    ]
    for damaged in (b"", packed[:-1], packed + b"0", bytes(len(packed)), packed[:30]):
        with pytest.raises(IndexFormatError):
            TilePositions(damaged)
