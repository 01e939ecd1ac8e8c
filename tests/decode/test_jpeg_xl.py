"""JPEG XL: which colours a decoder returns, by the codestream's headers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from codec_examples import describe_pixels
from pydicom.pixels.processing import convert_color_space
from pydicom_oracle import FOLDER

import mmindex
from mmindex.decode.frame import decode_frame
from mmindex.decode.jpeg_xl import _find_head, _list_boxes
from mmindex.decode.jpeg_xl_header import parse_colours, parse_size
from mmindex.errors import DecodeError

imagecodecs = pytest.importorskip("imagecodecs")
Image = pytest.importorskip("PIL.Image")

XL_JPEG, XL = "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"
RAMP = (np.add(*np.mgrid[:70, :90])).astype("u1")
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], -1)


def unwrap(container: bytes) -> bytes:
    """Return the codestream alone, which restores no JPEG."""
    return b"".join(
        container[start + (4 if kind == b"jxlp" else 0) : end]
        for kind, start, end in _list_boxes(container)
        if kind in (b"jxlc", b"jxlp")
    )


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", **{"quality": 95, **options})
    return written.getvalue()


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}])
def test_a_jpeg_that_cannot_be_restored_is_rgb_once(
    options: dict[str, Any], photometric: str, raw: bool
) -> None:
    """A codestream of YCbCr comes as RGB from libjxl: nothing is left to convert."""
    container = bytes(imagecodecs.jpegxl_encode_jpeg(jpeg(COLOURS, **options)))
    for frame in (unwrap(container), container.replace(b"jbrd", b"free")):
        by_hand = imagecodecs.jpegxl_decode(frame)
        found = decode_frame(frame, describe_pixels(COLOURS, photometric), XL_JPEG, raw=raw)
        assert np.array_equal(found, by_hand)
        assert np.abs(found.astype(int) - COLOURS).mean() < 6


def test_the_colours_of_a_real_jpeg_without_its_box_are_near_those_of_the_jpeg() -> None:
    """libjxl interpolates chroma in another way than JPEG decoders do."""
    with mmindex.open_file(FOLDER / "examples_ybr_color.dcm") as instance:
        frame, image = instance.frame(0), instance.record.image_pixel
        expected = instance.array(0)
    naked = unwrap(bytes(imagecodecs.jpegxl_encode_jpeg(frame.rstrip(b"\0"))))
    found = decode_frame(naked, image, XL_JPEG)
    assert np.abs(found.astype(int) - expected).max() < 16


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("boxes", [False, True])
def test_lossless_ybr_is_converted_unless_raw(dtype: str, boxes: bool) -> None:
    """Its samples are those that the encoder was given, which the data set calls YBR_FULL."""
    pixels = COLOURS.astype(dtype)
    frame = bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=boxes))
    image = describe_pixels(pixels, "YBR_FULL")
    assert np.array_equal(decode_frame(frame, image, XL, raw=True), pixels)
    if dtype == "u1":
        expected = convert_color_space(pixels, "YBR_FULL", "RGB")
        assert np.array_equal(decode_frame(frame, image, XL), expected)
    else:
        with pytest.raises(DecodeError, match="raw=True"):
            decode_frame(frame, image, XL)


@pytest.mark.parametrize("boxes", [False, True])
def test_xyb_is_rgb_whatever_the_data_set_says(boxes: bool) -> None:
    """Lossy streams hold XYB, which libjxl converts."""
    frame = bytes(imagecodecs.jpegxl_encode(COLOURS, level=95, usecontainer=boxes))
    for photometric in ("RGB", "XYB", "YBR_FULL", "YBR_FULL_422"):
        found = decode_frame(frame, describe_pixels(COLOURS, photometric), XL)
        assert np.abs(found.astype(int) - COLOURS).max() < 16


@pytest.mark.parametrize("size", [(1, 1), (8, 256), (70, 90), (513, 300), (1024, 4000)])
def test_headers_of_what_encoders_write_are_read(size: tuple[int, int]) -> None:
    """Size, and whether a decoder returns RGB: of lossless, lossy, gray and restored streams."""
    pixels = np.zeros((*size, 3), "u1")
    streams = [
        (imagecodecs.jpegxl_encode(pixels, lossless=True), False),
        (imagecodecs.jpegxl_encode(pixels[..., 0], lossless=True), False),
        (imagecodecs.jpegxl_encode(pixels.astype("u2"), lossless=True), False),
        (imagecodecs.jpegxl_encode(pixels.astype("f4"), lossless=True), False),
        (imagecodecs.jpegxl_encode(pixels, level=90), True),
        (imagecodecs.jpegxl_encode_jpeg(jpeg(pixels)), True),
    ]
    for stream, become_rgb in streams:
        head = _find_head(bytes(stream))
        assert parse_size(head) == size
        assert parse_colours(head) == (True, become_rgb)


def test_a_colour_profile_hides_what_the_colours_are() -> None:
    """Neither reading is returned as if it were the right one; without YBR there is no question."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    container = bytes(imagecodecs.jpegxl_encode_jpeg(jpeg(COLOURS, icc_profile=profile)))
    naked = unwrap(container)
    if parse_colours(_find_head(naked)).is_known:
        pytest.skip("this libjxl keeps no profile")
    with pytest.raises(DecodeError, match="do not say whether its colours are YBR_FULL"):
        decode_frame(naked, describe_pixels(COLOURS, "YBR_FULL_422"), XL_JPEG)
    assert decode_frame(naked, describe_pixels(COLOURS, "RGB"), XL_JPEG).shape == COLOURS.shape
    restored = decode_frame(container, describe_pixels(COLOURS, "YBR_FULL_422"), XL_JPEG)
    assert restored.shape == COLOURS.shape
