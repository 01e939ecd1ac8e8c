"""`mmindex sheet` of a slide: its thumbnail, or its frames with a message that says why."""

from __future__ import annotations

import io
import struct
from functools import partial

import numpy as np
import pytest
from cli_runner import run as run_command
from dicom_bytes import UNDEFINED, dicom_file, element, image_attributes, item
from small_slides import WHOLE_SLIDE, make_slide, make_tile

import mmindex

image = pytest.importorskip("PIL.Image")
run = partial(run_command, "sheet")
TILES = [make_tile(20 * number) for number in range(9)]
WHOLE = np.arange(0, 180, 20).reshape(3, 3).repeat(2, 0).repeat(4, 1)[:5, :10]


def read_png(result) -> np.ndarray:
    with image.open(io.BytesIO(result.stdout_bytes)) as picture:
        return np.asarray(picture)


def make_level(
    pixels: bytes, *, bits: int = 16, photometric: str = "MONOCHROME2", signed: int = 0, **more: str
) -> bytes:
    """Return a slide of 2 tiles of 2 x 2 gray pixels beside each other."""
    data_set = element(0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE")
    data_set += element(0x00080016, "UI", WHOLE_SLIDE) + element(0x00080018, "UI", "1.2.5")
    data_set += element(0x0020000E, "UI", "1.2.4") + element(0x00209311, "CS", "TILED_FULL")
    pixel = image_attributes(
        rows=2, columns=2, number_of_frames=2, bits=bits, photometric=photometric
    )
    pixel = pixel.replace(
        element(0x00280103, "US", b"\0\0"), element(0x00280103, "US", struct.pack("<H", signed))
    )
    data_set += pixel
    for keyword, tag in (("center", 0x00281050), ("width", 0x00281051)):
        if keyword in more:
            data_set += element(tag, "DS", more[keyword])
    data_set += element(0x00480006, "UL", struct.pack("<I", 4))
    data_set += element(0x00480007, "UL", struct.pack("<I", 2))
    return dicom_file(data_set + element(0x7FE00010, "OW", pixels))


def test_a_slide_is_its_thumbnail(tmp_path):
    """From a file, a folder, standard input, and an archive."""
    (tmp_path / "a.dcm").write_bytes(make_slide("1.2.5", TILES))
    assert np.array_equal(read_png(run(tmp_path / "a.dcm")), WHOLE)
    assert np.array_equal(read_png(run(tmp_path)), WHOLE)
    assert np.array_equal(read_png(run("-", input=(tmp_path / "a.dcm").read_bytes())), WHOLE)
    mmindex.build(tmp_path, workers=1)
    assert np.array_equal(read_png(run(tmp_path, "--instance", "1.2.5")), WHOLE)
    assert np.array_equal(read_png(run(tmp_path / "a.dcm")), WHOLE)


def test_a_slide_without_preamble_is_drawn_with_force(tmp_path):
    """As its tiles are written."""
    bare = make_slide("1.2.5", TILES)
    meta = 128 + 4 + 12 + struct.unpack_from("<I", bare, 140)[0]
    path = tmp_path / "bare.dcm"
    path.write_bytes(bare[meta:])
    assert np.array_equal(read_png(run(path, "--force")), WHOLE)
    tile = run_command("frame", path, "--tile", "0,1,2", "--force").stdout_bytes
    assert tile == TILES[7]
    assert run_command("frame", "-", "--tile", "0,1,2", "--force", input=bare).stdout_bytes == tile


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_deep_slides_are_drawn_in_a_window(tmp_path, signed, photometric):
    """That of the file, that which is asked for, and that of the thumbnail's values."""
    path = tmp_path / "a.dcm"
    values = np.array([0, 100, 200, 300, 400, 500, 600, 700], "<i2").reshape(2, 2, 2)
    window = {"center": "200.5", "width": "401"}
    path.write_bytes(make_level(values.tobytes(), photometric=photometric, signed=signed, **window))
    joined = np.concatenate(values, axis=1)
    for name, most in {"file": 400, "100.5,201": 200, "auto": 700}.items():
        expected = np.clip(np.round(joined / most * 255), 0, 255)
        if photometric == "MONOCHROME1":
            expected = 255 - expected
        found = read_png(run(path, "--window", name)).astype(int)
        assert np.abs(found - expected).max() <= 1, name


def test_a_slide_that_has_no_thumbnail_says_why(tmp_path):
    """A part of a concatenation, a palette, and a level of very many tiles are drawn by frame."""
    part = make_slide("1.2.5", TILES[:4], part=("1.2.7", 0))
    tiles = [bytes([1])] * 4200
    many = make_slide("1.2.5", tiles, size=(70, 60), tile=(1, 1))
    palette = b"".join(
        element(tag, "US", struct.pack("<3H", 256, 0, 8)) for tag in (0x281101, 0x281102, 0x281103)
    )
    palette += b"".join(
        element(tag, "OW", bytes(range(256))) for tag in (0x281201, 0x281202, 0x281203)
    )
    colors = make_level(bytes(8), bits=8, photometric="PALETTE COLOR")
    at = colors.index(element(0x00480006, "UL", struct.pack("<I", 4)))
    colors = colors[:at] + palette + colors[at:]
    for data, why in ((part, "expected 9 tiles"), (many, "4096 tiles"), (colors, "palette")):
        path = tmp_path / "a.dcm"
        path.write_bytes(data)
        done = run(path)
        assert "no thumbnail, frames are drawn instead" in done.stderr
        assert why in done.stderr
        assert read_png(done).ndim == 3


def test_a_missing_level_ends_no_sheet(tmp_path):
    """Frames of the instance that is there are drawn."""
    (tmp_path / "a.dcm").write_bytes(make_slide("1.2.5", TILES))
    (tmp_path / "b.dcm").write_bytes(make_slide("1.2.6", TILES[:1], size=(4, 2)))
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "b.dcm").unlink()
    done = run(tmp_path, "--instance", "1.2.5")
    assert "b.dcm" in done.stderr
    assert "frames are drawn instead" in done.stderr
    assert read_png(done).ndim == 3


def test_a_tile_that_cannot_be_decoded_is_crossed_out(tmp_path):
    """The frames are drawn, and the command fails."""
    data = make_slide("1.2.5", TILES[:2], size=(8, 2))
    at = data.index(element(0x7FE00010, "OB", b"".join(TILES[:2])))
    rle = struct.pack("<16I", 1, 64, *[0] * 14) + b"\xf9\7"  # 8 times 7
    value = item() + item(rle) + item(struct.pack("<16I", 1, 64, *[0] * 14))
    data = data[:at].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    path = tmp_path / "a.dcm"
    path.write_bytes(data + element(0x7FE00010, "OB", value, length=UNDEFINED))
    done = run(path, code=1)
    assert "frames are drawn instead" in done.stderr
    assert "frame 2" in done.stderr
    assert read_png(done).ndim == 3


def test_a_folder_without_slide_says_so(tmp_path):
    """And names the folder."""
    (tmp_path / "a.dcm").write_bytes(make_level(bytes(16)).replace(b"77.1.6", b"77.1.2"))
    done = run(tmp_path, code=1)
    assert "no whole slide image" in done.stderr
    assert str(tmp_path) in done.stderr
