"""Slides of every kind: tiles and regions are those of wsidicom, of OpenSlide, and as written."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from slide_files import SERIES, TILE, cut, draw, write_slide_file

import mmindex

SIZES = [(230, 170), (115, 85), (57, 42)]
PICTURES = [draw(*size, seed=number) for number, size in enumerate(SIZES)]
KINDS = ["full", "sparse", "planes", "paths", "planes-apart", "paths-apart", "sparse-planes"]


def write_levels(folder: Path, *, sparse: bool, left_out: float = 0.0) -> dict[int, set]:
    """Write three levels, a label and an overview; return the tiles that each level lacks."""
    missing: dict[int, set] = {}
    rnd = random.Random(2)
    for number, (size, picture) in enumerate(zip(SIZES, PICTURES, strict=True)):
        tiles = cut(picture)
        missing[number] = set()
        places = None
        if sparse:
            rnd.shuffle(tiles)
            kept = tiles[int(len(tiles) * left_out) :]
            missing[number] = {tile[:2] for tile in tiles} - {tile[:2] for tile in kept}
            tiles = kept
            places = [(column, row, 0.0, "0") for column, row, _ in tiles]
        data = write_slide_file(
            number,
            size,
            [tile for *_, tile in tiles],
            places=places,
            downsample=1 << number,
        )
        (folder / f"level{number}.dcm").write_bytes(data)
    for number, flavor in ((7, "LABEL"), (8, "OVERVIEW")):
        pixels = draw(40, 24, number)
        data = write_slide_file(
            number, (40, 24), [pixels.tobytes()], flavor=flavor, tile=(40, 24), downsample=30
        )
        (folder / f"{flavor.lower()}.dcm").write_bytes(data)
    return missing


@contextmanager
def open_wsidicom(folder: Path) -> Iterator[Any]:
    wsidicom = pytest.importorskip("wsidicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with wsidicom.WsiDicom.open(folder) as peer:
            yield peer


@contextmanager
def open_both(folder: Path) -> Iterator[tuple[mmindex.Slide, mmindex.Slide]]:
    """Open a slide from its files, and from an index."""
    mmindex.build(folder, workers=1)
    with (
        mmindex.open(folder) as archive,
        archive.slide(SERIES) as indexed,
        mmindex.open_slide(folder) as scanned,
    ):
        yield indexed, scanned


@pytest.mark.parametrize("sparse", [False, True])
def test_three_levels_are_those_of_wsidicom(tmp_path, sparse):
    """Every tile, regions within the image, label and overview."""
    write_levels(tmp_path, sparse=sparse)
    with open_both(tmp_path) as slides, open_wsidicom(tmp_path) as peer:
        for slide in slides:
            assert [(level.width, level.height) for level in slide.levels] == SIZES
            assert np.array_equal(slide.label, np.asarray(peer.read_label()))
            assert np.array_equal(slide.macro, np.asarray(peer.read_overview()))
            for number, (level, theirs) in enumerate(zip(slide.levels, peer.levels, strict=True)):
                assert (theirs.size.width, theirs.size.height) == (level.width, level.height)
                for row in range(level.rows):
                    for column in range(level.columns):
                        place = theirs.level, (column, row)
                        pixels = slide.tile_array(number, column, row)
                        tall, wide = pixels.shape[:2]  # at an edge, wsidicom paints over the rest
                        if (tall, wide) == (TILE, TILE):
                            assert slide.tile(number, column, row) == peer.read_encoded_tile(*place)
                        tile = np.asarray(peer.read_tile(*place, as_array=True))
                        assert np.array_equal(pixels, tile[:tall, :wide])
                rnd = random.Random(number)
                for _ in range(10):
                    x, y = rnd.randrange(level.width), rnd.randrange(level.height)
                    width = rnd.randint(1, level.width - x)
                    height = rnd.randint(1, level.height - y)
                    region = peer.read_region((x, y), theirs.level, (width, height))
                    found = slide.read_region(number, x, y, width, height)
                    assert np.array_equal(found, np.asarray(region))


@pytest.mark.parametrize("sparse", [False, True])
def test_three_levels_are_those_of_openslide(tmp_path, sparse):
    """Regions of every level, and the edges of the image."""
    openslide = pytest.importorskip("openslide")
    write_levels(tmp_path, sparse=sparse)
    with open_both(tmp_path) as slides:
        peer = openslide.OpenSlide(tmp_path / "level0.dcm")
        assert peer.level_dimensions == tuple(SIZES)
        for slide in slides:
            rnd = random.Random(5)
            for number in range(3):
                for _ in range(6):
                    # OpenSlide counts a region's place in pixels of the first level, whole tiles
                    # of all levels begin at whole pixels there.
                    x, y = rnd.randrange(SIZES[number][0]), rnd.randrange(SIZES[number][1])
                    if number:
                        x, y = 0, 0
                    width = rnd.randint(1, SIZES[number][0] - x)
                    height = rnd.randint(1, SIZES[number][1] - y)
                    theirs = np.asarray(peer.read_region((x, y), number, (width, height)))
                    assert (theirs[..., 3] == 255).all()
                    found = slide.read_region(number, x, y, width, height)
                    assert np.array_equal(found, theirs[..., :3])
        peer.close()


def test_tiles_that_are_not_stored_are_background(tmp_path):
    """White, and None for `locate`; OpenSlide leaves the same ones transparent."""
    missing = write_levels(tmp_path, sparse=True, left_out=0.3)
    with open_both(tmp_path) as slides:
        for slide in slides:
            for number, lacking in missing.items():
                assert lacking
                level = slide.levels[number]
                for row in range(level.rows):
                    for column in range(level.columns):
                        is_lacking = (column, row) in lacking
                        assert (slide.locate(number, column, row) is None) == is_lacking
                        tile = slide.tile_array(number, column, row)
                        part = PICTURES[number][row * TILE :, column * TILE :][:TILE, :TILE]
                        assert np.array_equal(tile, np.full_like(part, 255) if is_lacking else part)
        openslide = pytest.importorskip("openslide")
        with openslide.OpenSlide(tmp_path / "level0.dcm") as peer:
            theirs = np.asarray(peer.read_region((0, 0), 0, SIZES[0]))
            found = slides[0].read_region(0, 0, 0, *SIZES[0])
            opaque = theirs[..., 3] == 255
            assert np.array_equal(found[opaque], theirs[opaque][:, :3])
            assert (found[~opaque] == 255).all()


def write_planes(folder: Path, kind: str) -> list[tuple[str, int, np.ndarray]]:
    """Write one level of several planes; return optical path, focal plane and picture of each."""
    size = SIZES[1]
    paths = ["0", "fluo"] if "paths" in kind else ["0"]
    planes = 3 if "planes" in kind else 1
    all_planes = [
        (path, plane, draw(*size, seed=at * 5 + plane))
        for at, path in enumerate(paths)
        for plane in range(planes)
    ]
    if kind == "sparse-planes":
        tiles = [
            (column, row, plane * 1.5, path, tile)
            for path, plane, picture in all_planes
            for column, row, tile in cut(picture)
        ]
        random.Random(4).shuffle(tiles)
        data = write_slide_file(
            0, size, [tile for *_, tile in tiles], places=[tile[:4] for tile in tiles], planes=3
        )
        (folder / "a.dcm").write_bytes(data)
    elif kind.endswith("apart"):
        for number, (path, plane, picture) in reversed(list(enumerate(all_planes))):
            data = write_slide_file(
                number, size, [tile for *_, tile in cut(picture)], z=plane * 1.5, paths=[path]
            )
            (folder / f"{9 - number}.dcm").write_bytes(data)
    else:
        tiles_in_order = [tile for *_, picture in all_planes for *_, tile in cut(picture)]
        data = write_slide_file(0, size, tiles_in_order, planes=planes, paths=paths)
        (folder / "a.dcm").write_bytes(data)
    return all_planes


@pytest.mark.parametrize("kind", KINDS[2:])
def test_focal_planes_and_optical_paths_are_those_of_wsidicom(tmp_path, kind):
    """In one instance or in several, full or sparse."""
    expected = write_planes(tmp_path, kind)
    with open_both(tmp_path) as slides, open_wsidicom(tmp_path) as peer:
        for slide in slides:
            (level,) = slide.levels
            assert level.focal_planes == 1 + max(plane for _, plane, _ in expected)
            assert set(level.optical_paths) == {path for path, *_ in expected}
            for path, plane, picture in expected:
                where = {"focal_plane": plane, "optical_path": path}
                for column, row, tile in cut(picture):
                    assert slide.tile(0, column, row, **where) == tile
                size = (level.width, level.height)
                region = slide.read_region(0, 0, 0, *size, **where)
                assert np.array_equal(region, picture)
                theirs = peer.read_region((0, 0), 0, size, z=plane * 1.5, path=path)
                assert np.array_equal(region, np.asarray(theirs))


@pytest.mark.parametrize("kind", ["full", "planes", "paths"])
def test_slides_that_wsidicom_wrote_are_those_that_it_read(tmp_path, kind):
    """Its writer makes other files of a slide; pixels stay."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    if kind == "full":
        write_levels(first, sparse=False)
        planes = [("0", 0, PICTURES[0])]
    else:
        planes = write_planes(first, kind)
    with open_wsidicom(first) as peer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.save(second)
    with mmindex.open_slide(second) as slide:
        for path, plane, picture in planes:
            size = picture.shape[1], picture.shape[0]
            found = slide.read_region(0, 0, 0, *size, focal_plane=plane, optical_path=path)
            assert np.array_equal(found, picture)


@pytest.mark.parametrize("size", [7, 16, 29, 30, 58, 100, 115, 230, 400])
def test_a_thumbnail_has_the_means_of_blocks(tmp_path, size):
    """Of the smallest level that is large enough; at the edges of what there is."""
    write_levels(tmp_path, sparse=False)
    picture = next((each for each in PICTURES[::-1] if max(each.shape) >= size), PICTURES[0])
    step = max(1, -(-max(picture.shape) // size))
    expected = [
        [
            np.floor(picture[y : y + step, x : x + step].mean(axis=(0, 1), dtype=np.float64) + 0.5)
            for x in range(0, picture.shape[1], step)
        ]
        for y in range(0, picture.shape[0], step)
    ]
    with mmindex.open_slide(tmp_path) as slide:
        assert np.array_equal(slide.thumbnail(size), expected)


def test_a_sparse_slide_with_missing_tiles_is_that_of_wsidicom(tmp_path):
    """Tiles that are not stored are white in regions, as there."""
    missing = write_levels(tmp_path, sparse=True, left_out=0.3)
    with open_both(tmp_path) as slides, open_wsidicom(tmp_path) as peer:
        for slide in slides:
            for number, theirs in enumerate(peer.levels):
                assert missing[number]
                region = peer.read_region((0, 0), theirs.level, SIZES[number])
                found = slide.read_region(number, 0, 0, *SIZES[number])
                assert np.array_equal(found, np.asarray(region))


@pytest.mark.parametrize("sparse", [False, True])
def test_whole_levels_are_those_of_openslide(tmp_path, sparse):
    """Every pixel of every level."""
    openslide = pytest.importorskip("openslide")
    write_levels(tmp_path, sparse=sparse)
    with open_both(tmp_path) as slides, openslide.OpenSlide(tmp_path / "level0.dcm") as peer:
        for number, size in enumerate(SIZES):
            theirs = np.asarray(peer.read_region((0, 0), number, size))[..., :3]
            for slide in slides:
                assert np.array_equal(slide.read_region(number, 0, 0, *size), theirs)


@pytest.mark.parametrize("size", [(40, 24), (75, 50), (64, 64), (20, 9)])
def test_labels_in_tiles_are_those_of_wsidicom(tmp_path, size):
    """One tile, several, and one that is larger than the label: put together and cropped."""
    write_levels(tmp_path, sparse=False)
    expected = {}
    for number, flavor in ((7, "LABEL"), (8, "OVERVIEW")):
        expected[flavor] = draw(*size, number)
        tiles = [tile for *_, tile in cut(expected[flavor])]
        data = write_slide_file(number, size, tiles, flavor=flavor, downsample=30)
        (tmp_path / f"{flavor.lower()}.dcm").write_bytes(data)
    with open_both(tmp_path) as slides, open_wsidicom(tmp_path) as peer:
        theirs = np.asarray(peer.read_label()), np.asarray(peer.read_overview())
        for slide in slides:
            assert np.array_equal(slide.label, expected["LABEL"])
            assert np.array_equal(slide.macro, expected["OVERVIEW"])
            assert np.array_equal(slide.label, theirs[0][: size[1], : size[0]])
            assert np.array_equal(slide.macro, theirs[1][: size[1], : size[0]])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("at", [1, 19, 47])
def test_a_concatenation_is_that_of_wsidicom(tmp_path, sparse, at):
    """The frames of one level in two instances (PS3.3 C.7.6.16.2.2.4)."""
    tiles = cut(PICTURES[0])
    whole = tmp_path / "whole"
    parts = tmp_path / "parts"
    for folder, spans in ((whole, [slice(None)]), (parts, [slice(0, at), slice(at, None)])):
        folder.mkdir()
        for number, span in enumerate(spans):
            own = tiles[span]
            places = [(column, row, 0.0, "0") for column, row, _ in own] if sparse else None
            data = write_slide_file(number, SIZES[0], [tile for *_, tile in own], places=places)
            if folder is parts:
                data_set = pydicom.dcmread(io.BytesIO(data))
                data_set.ConcatenationUID = "1.2.3.4.8"
                data_set.SOPInstanceUIDOfConcatenationSource = "1.2.3.4.9"
                data_set.ConcatenationFrameOffsetNumber = number * at
                data_set.InConcatenationNumber = number + 1
                data_set.InConcatenationTotalNumber = 2
                target = io.BytesIO()
                data_set.save_as(target)
                data = target.getvalue()
            (folder / f"{number}.dcm").write_bytes(data)
    with open_both(parts) as slides:
        for slide in slides:
            assert np.array_equal(slide.read_region(0, 0, 0, *SIZES[0]), PICTURES[0])
        with open_wsidicom(whole) as peer, mmindex.open_slide(whole) as one:
            level = one.levels[0]
            for row in range(level.rows):
                for column in range(level.columns):
                    theirs = peer.read_encoded_tile(0, (column, row))
                    for slide in slides:
                        if (row + 1) * TILE <= SIZES[0][1] and (column + 1) * TILE <= SIZES[0][0]:
                            assert slide.tile(0, column, row) == theirs
        with open_wsidicom(parts) as peer:
            region = np.asarray(peer.read_region((0, 0), 0, SIZES[0]))
            assert np.array_equal(slides[0].read_region(0, 0, 0, *SIZES[0]), region)
