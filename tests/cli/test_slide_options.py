"""`mmindex frame --tile` and `mmindex sheet` of a slide: what the library returns."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from cli_runner import run
from slide_files import cut, draw, write_slide_file

import mmindex

PICTURE = draw(100, 70)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A slide of two levels in a folder; the second is sparse and lacks its last tile."""
    folder = tmp_path / "slide"
    folder.mkdir()
    tiles = [tile for *_, tile in cut(PICTURE)]
    (folder / "a.dcm").write_bytes(write_slide_file(1, (100, 70), tiles))
    small = cut(draw(50, 35))[:-1]
    places = [(column, row, 0.0, "0") for column, row, _ in small]
    data = write_slide_file(2, (50, 35), [tile for *_, tile in small], places=places, downsample=2)
    (folder / "b.dcm").write_bytes(data)
    return folder


def test_a_tile_is_that_of_its_level_column_and_row(slide, tmp_path):
    """From a folder, a file and an archive; as stored, as an array, as a picture."""
    with mmindex.open_slide(slide) as opened:
        tile = opened.tile(0, 2, 1)
        small = opened.tile(1, 0, 1)
    assert run("frame", slide, "--tile", "0,2,1").stdout_bytes == tile
    assert run("frame", slide, "--tile", "1,0,1").stdout_bytes == small
    assert run("frame", slide / "b.dcm", "--tile", "0,0,1").stdout_bytes == small
    mmindex.build(slide, workers=1)
    uid = ("--instance", "1.2.3.4.3.2")
    assert run("frame", slide, "--tile", "0,2,1", *uid).stdout_bytes == tile
    assert run("frame", slide / ".mmindex", "--tile", "0,2,1", *uid).stdout_bytes == tile
    pixels = np.load(
        io.BytesIO(run("frame", slide, "--tile", "0,2,1", "--format", "npy").stdout_bytes)
    )
    assert np.array_equal(pixels, PICTURE[32:64, 64:96])
    output = tmp_path / "tile.png"
    run("frame", slide, "--tile", "0,2,1", "-o", output)
    assert output.read_bytes()[:4] == b"\x89PNG"


def test_what_is_no_tile_is_refused(slide, cine):
    """Outside the level, not stored, no three numbers, beside a number, of an index or no slide."""
    for code, why, *arguments in (
        (1, "level 0 has 4 x 3 tiles", slide, "--tile", "0,4,0"),
        (1, "not stored", slide, "--tile", "1,1,1"),
        (2, "expected LEVEL,COLUMN,ROW", slide, "--tile", "1,1"),
        (2, "leave out NUMBER", slide, "1", "--tile", "0,0,0"),
        (1, "no whole slide image", cine, "--tile", "0,0,0"),
    ):
        assert why in run("frame", *arguments, code=code).stderr
    mmindex.build(slide, workers=1)
    assert "--instance" in run("frame", slide / ".mmindex", "--tile", "0,0,0", code=2).stderr


def test_the_sheet_of_a_slide_is_its_thumbnail(slide, tmp_path):
    """Of a file its own level, of an archive the slide's; frames where they are asked for."""
    image = pytest.importorskip("PIL.Image")
    output = tmp_path / "sheet.png"
    mmindex.build(slide, workers=1)

    def draw_sheet(*arguments: object) -> np.ndarray:
        run("sheet", *arguments, "-o", output)
        return np.asarray(image.open(output))

    with mmindex.open_slide(slide) as opened:
        assert np.array_equal(draw_sheet(slide / "a.dcm"), PICTURE)
        both = draw_sheet(slide, "--instance", "1.2.3.4.3.2")
        assert np.array_equal(both, opened.thumbnail(1024))
        assert np.array_equal(draw_sheet(slide / "a.dcm", "--size", 16), opened.thumbnail(128))
    assert draw_sheet(slide / "a.dcm", "1-4").shape != PICTURE.shape
    assert draw_sheet(slide / "a.dcm", "--columns", 3).shape != PICTURE.shape
