"""Lossless HTJ2K: which decoder is asked, and that no frame which OpenJPEG refuses has pixels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmindex.decode.frame import decode_frame
from mmindex.errors import DecodeError
from mmindex.model import ImagePixel

imagecodecs = pytest.importorskip("imagecodecs")
pytest.importorskip("imagecodecs._htj2k")

HTJ2K = "1.2.840.10008.1.2.4.201"
EOC = b"\xff\xd9"


def make_pixels(dtype: str, *shape: int, bits: int = 0) -> np.ndarray:
    """Return a smooth ramp with noise over all values of so many bits."""
    type_ = np.dtype(dtype)
    bits = bits or 8 * type_.itemsize
    generator = np.random.default_rng(1)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ramp = (rows + columns) / (shape[0] + shape[1]) * (1 << bits)
    samples = np.repeat(ramp[..., None], 3, 2) if len(shape) == 3 else ramp
    samples = samples + generator.normal(0, 1 << max(0, bits - 7), shape)
    lowest = (1 << bits - 1) if type_.kind == "i" else 0
    return (samples.clip(0, (1 << bits) - 1) - lowest).astype(type_)


def describe(pixels: np.ndarray, **attributes: Any) -> ImagePixel:
    """Return the attributes of an array."""
    bits = 8 * pixels.itemsize
    given = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples_per_pixel": 3 if pixels.ndim == 3 else 1,
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": int(pixels.dtype.kind == "i"),
        "planar_configuration": 0 if pixels.ndim == 3 else None,
        "photometric_interpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
    }
    return ImagePixel(**{**given, **attributes})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note which decoder of imagecodecs is called."""
    names: list[str] = []

    def note(name: str) -> None:
        decode = getattr(imagecodecs, name)

        def call(*arguments: Any, **options: Any) -> Any:
            names.append(name)
            return decode(*arguments, **options)

        monkeypatch.setattr(imagecodecs, name, call)

    note("htj2k_decode")
    note("jpeg2k_decode")
    return names


@pytest.mark.parametrize("shape", [(64, 128), (192, 256), (128, 128, 3)])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("pad", [b"", b"\0"])
def test_a_whole_lossless_frame_is_decoded_by_openjph_alone(
    dtype: str, shape: tuple[int, ...], given: bool, pad: bytes, asked: list[str]
) -> None:
    """Bit by bit, in the caller's array too, with and without the padding byte."""
    pixels = make_pixels(dtype, *shape)
    out = np.ones_like(pixels) if given else None
    frame = bytes(imagecodecs.htj2k_encode(pixels)) + pad
    found = decode_frame(frame, describe(pixels), HTJ2K, out=out)
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, pixels)
    assert not given or found is out
    assert asked == ["htj2k_decode"]


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("tlm", [False, True])
@pytest.mark.parametrize("columns", [2, 4, 6, 10])
def test_numbers_of_levels_and_tile_part_lengths_need_no_other_decoder(
    levels: int, tlm: bool, columns: int, asked: list[str]
) -> None:
    """The sides of code-blocks are even: those of the image are multiples of 2 << levels."""
    pixels = make_pixels("u2", 2 << levels, columns << levels)
    frame = bytes(imagecodecs.htj2k_encode(pixels, resolutions=levels, tlm=tlm))
    assert np.array_equal(decode_frame(frame, describe(pixels), HTJ2K), pixels)
    assert asked == ["htj2k_decode"]


def test_twelve_bits_of_sixteen_are_as_openjpeg_has_them(asked: list[str]) -> None:
    """The stream says 16; values above Bits Stored are treated as those of any other codec."""
    pixels = make_pixels("u2", 64, 128, bits=12)
    frame = bytes(imagecodecs.htj2k_encode(pixels))
    assert np.array_equal(decode_frame(frame, describe(pixels, bits_stored=12), HTJ2K), pixels)
    assert asked == ["htj2k_decode"]


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_black_last_row_is_not_taken_for_a_missing_one(dtype: str, asked: list[str]) -> None:
    """Rows that a decoder did not reach are zero, too."""
    pixels = make_pixels(dtype, 64, 128)
    pixels[32:] = 0
    frame = bytes(imagecodecs.htj2k_encode(pixels))
    assert np.array_equal(decode_frame(frame, describe(pixels), HTJ2K), pixels)
    assert asked == ["htj2k_decode"]


@pytest.mark.parametrize(("dtype", "value"), [("u1", 128), ("u2", 1 << 15), ("i2", 0)])
def test_a_last_row_like_a_missing_one_is_decoded_by_openjpeg(
    dtype: str, value: int, asked: list[str]
) -> None:
    """Middle gray, or zero with a sign: the pixels are right nevertheless."""
    pixels = make_pixels(dtype, 64, 128)
    pixels[-1] = value
    frame = bytes(imagecodecs.htj2k_encode(pixels))
    assert np.array_equal(decode_frame(frame, describe(pixels), HTJ2K), pixels)
    assert asked == ["htj2k_decode", "jpeg2k_decode"]


def encode_otherwise() -> Iterator[tuple[str, np.ndarray, bytes]]:
    """Yield frames that OpenJPH would decode with less care than OpenJPEG, or otherwise."""
    even, odd = make_pixels("u2", 64, 128), make_pixels("u2", 63, 130)
    encode = imagecodecs.htj2k_encode
    yield "odd sizes", odd, bytes(encode(odd))
    yield "tiles", even, bytes(encode(even, tile=(64, 64)))
    yield "tile-parts", even, bytes(encode(even, tilepart=1))
    whole = bytes(encode(even))
    start = whole.index(b"\xff\x90\x00\x0a")
    yield "no length", even, whole[: start + 6] + bytes(4) + whole[start + 10 :]
    yield "bytes behind", even, whole + b"\0\0"
    comment = b"\xff\x58\x00\x03\x00"  # PLT: packet lengths
    length = (int.from_bytes(whole[start + 6 : start + 10], "big") + len(comment)).to_bytes(4)
    tile = whole[: start + 6] + length + whole[start + 10 : start + 12] + comment
    yield "packet lengths", even, tile + whole[start + 12 :]


@pytest.mark.parametrize("case", list(encode_otherwise()), ids=lambda case: case[0])
def test_another_frame_is_decoded_by_openjpeg_alone(
    case: tuple[str, np.ndarray, bytes], asked: list[str]
) -> None:
    """Where OpenJPH would hide damage that OpenJPEG shows."""
    _, pixels, frame = case
    assert np.array_equal(decode_frame(frame, describe(pixels), HTJ2K), pixels)
    assert asked == ["jpeg2k_decode"]


def test_without_openjph_openjpeg_decodes(
    monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    """Some builds of imagecodecs have none."""
    monkeypatch.setattr(imagecodecs, "HTJ2K", SimpleNamespace(available=False))
    pixels = make_pixels("u2", 64, 128)
    frame = bytes(imagecodecs.htj2k_encode(pixels))
    assert np.array_equal(decode_frame(frame, describe(pixels), HTJ2K), pixels)
    assert asked == ["jpeg2k_decode"]


def damage(frame: bytes, generator: random.Random) -> bytes:
    """Return a frame with damage of some kind; half of the kinds keep all lengths right."""
    start, data = frame.index(b"\xff\x90"), frame.index(b"\xff\x93") + 2
    at = generator.randrange(data, len(frame) - 2)
    size = generator.choice((1, 2, 16, 200))
    end = min(at + size, len(frame) - 2)
    changed = bytearray(frame)
    match generator.choice(("flip", "near", "header", "zeros", "ones", "noise", "cut", "lost")):
        case "flip":
            changed[at] ^= 1 << generator.randrange(8)
        case "near":  # the first packets
            changed[min(data + generator.randrange(24), at)] ^= 1 << generator.randrange(8)
        case "header":
            changed[generator.randrange(4, data)] ^= 1 << generator.randrange(8)
        case "zeros":
            changed[at:end] = bytes(end - at)
        case "ones":
            changed[at:end] = b"\xff" * (end - at)
        case "noise":
            changed[at:end] = generator.randbytes(end - at)
        case "cut":
            changed = changed[:at] + EOC
        case "lost":
            del changed[at:end]
    if generator.random() < 0.5:  # a tile-part whose length was made to fit
        changed[start + 6 : start + 10] = (len(changed) - 2 - start).to_bytes(4, "big")
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("dtype", ["u1", "i2"])
@pytest.mark.parametrize("shape", [(64, 128), (64, 192), (63, 130), (64, 128, 3), (64, 64, 3)])
def test_what_openjpeg_refuses_has_no_pixels(dtype: str, shape: tuple[int, ...]) -> None:
    """However it is damaged; OpenJPH alone returns other pixels for most of these frames."""
    pixels = make_pixels(dtype, *shape)
    whole = bytes(imagecodecs.htj2k_encode(pixels))
    generator = random.Random(1)
    refused = 0
    for _ in range(400):
        frame = damage(whole, generator)
        try:
            imagecodecs.jpeg2k_decode(frame, numthreads=1)
        except RuntimeError:
            refused += 1
            with pytest.raises(DecodeError):
                decode_frame(frame, describe(pixels), HTJ2K)
    assert refused > 100
