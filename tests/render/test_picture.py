"""Windows and pictures, held against values computed by hand and against Pillow reading the PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from dicom_bytes import native_file

import mmindex
from mmindex.decode.window import Window, choose_window
from mmindex.errors import DecodeError
from mmindex.read.pictures import read_picture, read_values, stretch
from mmindex.render.png import encode_png
from mmindex.render.shared_window import find_shared_window, find_window


def body(least: int, greatest: int, count: int = 10_000) -> np.ndarray:
    """Return that many values at even steps."""
    return np.linspace(least, greatest, count).astype("<i2")


def test_a_few_hot_pixels_do_not_darken_an_mr():
    """Half a percent of the samples at the upper end is cut off."""
    samples = np.concatenate([body(0, 400), np.full(20, 32_000, "<i2")])
    least, greatest = choose_window(samples)
    assert 0 <= least <= 4
    assert 390 <= greatest <= 400


def test_padding_far_below_a_ct_is_left_out_of_the_window():
    """A third of the samples is -2000, air begins at -1000."""
    samples = np.concatenate([np.full(5000, -2000, "<i2"), body(-1000, 1000)])
    least, greatest = choose_window(samples)
    assert -1000 <= least <= -980
    assert 980 <= greatest <= 1000


def test_background_near_the_other_values_stays_in_the_window():
    """Zero outside the body is black, though it is the value of most samples."""
    samples = np.concatenate([np.zeros(500_000, "<i2"), body(1, 1000)])
    least, greatest = choose_window(samples)
    assert least == 0
    assert 990 <= greatest <= 1000


def test_a_dose_in_few_pixels_is_not_cut_off_with_the_hot_ones():
    """What is cut off is half a percent of the samples above the background, not of all."""
    dose = np.concatenate([np.zeros(100_000), np.linspace(0.5, 60, 300)]).astype("<f4")
    assert choose_window(dose).greatest > 59


def test_every_label_of_a_map_is_seen():
    """With few values there is nothing to be cut off, nor padding: the rarest label counts."""
    labels = np.zeros(100_000, "<u2")
    labels[:3], labels[3:6] = 5, 7
    assert choose_window(labels) == Window(0.0, 7.0)


def test_a_mask_of_16_bits_is_from_black_to_white():
    """Two values are the two ends."""
    mask = np.zeros((100, 100), "<u2")
    mask[3, 4] = 1
    assert choose_window(mask) == Window(0.0, 1.0)


@pytest.mark.parametrize("dtype", ["<u2", "<i2", "<i4", "<f4", "<f8"])
def test_a_constant_image_is_black(dtype):
    """No contrast is no division by zero."""
    array = np.full((3, 3), 77, dtype)
    window = choose_window(array)
    assert window == Window(77.0, 77.0)
    assert stretch(array, window).tolist() == [[0] * 3] * 3


def test_one_value_and_noise_at_both_ends_has_a_window():
    """Where nearly all samples are one value, it is from the least to the greatest."""
    samples = np.concatenate([np.full(100_000, 500), np.arange(20), 1000 + np.arange(20)])
    assert choose_window(samples) == Window(0.0, 1019.0)


def test_what_is_not_finite_has_no_part_in_the_window():
    """NaN is black, infinity white, minus infinity black."""
    array = np.array([[np.nan, 1.0, 2.0], [np.inf, -np.inf, 3.0]], "<f4")
    window = choose_window(array)
    assert window == Window(1.0, 3.0)
    assert stretch(array, window).tolist() == [[0, 0, 128], [255, 0, 255]]


def test_nothing_but_nan_is_black():
    """There is no value to be windowed."""
    array = np.full((2, 2), np.nan, "<f8")
    assert stretch(array, choose_window(array)).tolist() == [[0, 0], [0, 0]]


def test_values_too_far_apart_for_their_difference_are_windowed():
    """The whole span of doubles overflows."""
    array = np.array([[-1.7e308, 1.7e308], [0.0, 1.7e308]])
    assert stretch(array, choose_window(array)).tolist() == [[0, 255], [128, 255]]


def test_values_beyond_the_window_are_black_and_white():
    """They do not wrap round."""
    array = np.array([[-32768, 99, 100], [150, 200, 32767]], "<i2")
    expected = [[0, 0, 0], [128, 255, 255]]
    assert stretch(array, Window(100.0, 200.0)).tolist() == expected


def test_monochrome1_is_inverted_after_its_window(tmp_path):
    """Its least value is white (PS3.3 C.7.6.3.1.2)."""
    path = tmp_path / "a.dcm"
    value = np.array([0, 100, 300, 200], "<u2").tobytes()
    path.write_bytes(native_file(value, bits=16, photometric="MONOCHROME1"))
    with mmindex.open_file(path) as instance:
        found = read_picture(instance, 0, "file", by_values=Window(0.0, 200.0))
    assert found.tolist() == [[255, 127], [0, 0]]


def test_a_window_is_for_deep_samples_only(tmp_path, monkeypatch):
    """8-bit frames are shown as they are, and no frame after the first is decoded for a window."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(bytes([3, 200, 9, 9] * 3), vr="OB", number_of_frames=3))
    asked = []

    def note(instance, frame_index, window, take):
        asked.append(frame_index)
        return read_values(instance, frame_index, window, take)

    monkeypatch.setattr("mmindex.read.pictures.read_values", note)
    with mmindex.open_file(path) as instance:
        assert find_shared_window(instance, [range(3)], "file") is None
        assert asked == [0]
        assert read_picture(instance, 0, "file").tolist() == [[3, 200], [9, 9]]


def test_frames_share_one_window():
    """It is that of the values of all."""
    frames = [np.array([[0, 10]], "<u2"), np.array([[20, 40]], "<u2")]
    window = find_window(iter(frames), 2)
    assert window == Window(0.0, 40.0)
    assert [stretch(frame, window).tolist() for frame in frames] == [
        [[0, 64]],
        [[128, 255]],
    ]


def test_large_frames_are_sampled_in_every_column(monkeypatch):
    """The step is odd: one of 4 would look at a quarter of the columns only."""
    monkeypatch.setattr("mmindex.render.shared_window._MOST_SAMPLES", 1024)
    frame = np.zeros((64, 64), "<u2") + np.arange(64, dtype="<u2")
    assert find_window([frame], 1) == Window(0.0, 63.0)


def test_samples_for_which_there_is_no_picture_are_refused(tmp_path, monkeypatch):
    """Four samples a pixel are neither gray nor RGB."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(bytes(4), vr="OB"))
    four = np.zeros((2, 2, 4), "u1")
    monkeypatch.setattr("mmindex.read.pictures.read_array", lambda *_, raw: four)
    why = pytest.raises(DecodeError, match="expected 1 or 3 samples a pixel")
    with mmindex.open_file(path) as instance, why:
        read_picture(instance, 0, "file")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3)])
def test_png_keeps_every_pixel(shape):
    """Pillow reads what was encoded."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(np.prod(shape), dtype="u1").reshape(shape)
    with image.open(io.BytesIO(encode_png(image.fromarray(pixels)))) as read:
        assert read.format == "PNG"
        np.testing.assert_array_equal(np.asarray(read), pixels)
