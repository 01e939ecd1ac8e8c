"""Frames of every codec, by encoders that are not ours: each row of the table needs one here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmindex.model import ImagePixel

Pixels = NDArray[np.generic]


def describe_pixels(pixels: Pixels, colours: str = "RGB", **attributes: Any) -> ImagePixel:
    """Return the attributes of an array of unsigned samples, with those that are given.

    `colours` is the Photometric Interpretation of three samples.
    """
    bits, is_coloured = 8 * pixels.itemsize, pixels.ndim == 3
    described = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples_per_pixel": 3 if is_coloured else 1,
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": 0,
        "planar_configuration": 0 if is_coloured else None,
        "photometric_interpretation": colours if is_coloured else "MONOCHROME2",
    }
    return ImagePixel(**{**described, **attributes})


class Example(NamedTuple):
    """How frames of a codec are made.

    `kinds` are those of samples that it encodes without loss: numpy's "u1", "u2", "u4", or "rgb".
    """

    transfer_syntax_uid: str
    encode: Callable[[Pixels], bytes]
    kinds: Sequence[str]


def by_imagecodecs(function: str, **options: Any) -> Callable[[Pixels], bytes]:
    """Return an encoder of imagecodecs, which is imported when a frame is made."""

    def encode(pixels: Pixels) -> bytes:
        return bytes(getattr(import_module("imagecodecs"), function)(pixels, **options))

    return encode


def pack_rle(segments: Sequence[bytes]) -> bytes:
    """Return an RLE frame whose segments are literal runs (PS3.5 Annex G)."""
    packed = []
    for segment in segments:
        runs = [segment[at : at + 128] for at in range(0, len(segment), 128)]
        data = b"".join(bytes([len(run) - 1]) + run for run in runs)
        packed.append(data + bytes(len(data) % 2))
    offsets = [64 + sum(map(len, packed[:at])) for at in range(len(packed))]
    header = struct.pack("<16I", len(packed), *offsets, *[0] * (15 - len(packed)))
    return header + b"".join(packed)


def encode_rle(pixels: Pixels) -> bytes:
    """Return an RLE frame: colour by colour, byte by byte from the most significant."""
    planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[np.newaxis]
    width = pixels.itemsize
    big = [plane.astype(f">u{width}").tobytes() for plane in planes]
    return pack_rle([plane[at::width] for plane in big for at in range(width)])


_JPEG_2000 = {"reversible": True, "level": 0}
_JPEG_XL = {"lossless": True}

EXAMPLES = {  # by the name of the row
    "JPEG-LS": [
        Example("1.2.840.10008.1.2.4.80", by_imagecodecs("jpegls_encode"), ("u1", "u2", "rgb"))
    ],
    "JPEG": [
        Example(
            "1.2.840.10008.1.2.4.70", by_imagecodecs("jpeg8_encode", lossless=True), ("u1", "u2")
        )
    ],
    "JPEG 2000": [
        Example(
            "1.2.840.10008.1.2.4.90",
            by_imagecodecs("jpeg2k_encode", codecformat=form, **_JPEG_2000),
            ("u1", "u2", "rgb"),
        )
        for form in ("j2k", "jp2")
    ],
    "JPEG XL": [
        Example(
            "1.2.840.10008.1.2.4.110",
            by_imagecodecs("jpegxl_encode", usecontainer=boxes, **_JPEG_XL),
            ("u1", "u2", "rgb"),
        )
        for boxes in (False, True)
    ],
    "RLE": [Example("1.2.840.10008.1.2.5", encode_rle, ("u1", "u2", "u4", "rgb"))],
}
