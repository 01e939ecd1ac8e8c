"""The parameters in a compressed frame, and the way from its samples to those of the image.

A codec's module has two functions: `parse_stream`, which reads the header of a frame, and
`decode_stream`, which returns its samples. What lies between codec and pixels is here: shapes are
compared before anything is decoded, then width, sign and unused bits are made those that the
image's attributes say (PS3.5 8.1.1, 8.2).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.model import ImagePixel

    Pixels = NDArray[np.generic]

ALL_BITS = 64
MOST_UNPROVED = 256 << 20  # bytes of a decoded frame, whatever the length of its stream
_MOST_EXPANSION = 4096  # decoded bytes a stored byte, of longer frames
_WORDS = (1, 8, 16, 32, 64)  # Bits Allocated of samples that a codec returns
_DTYPES = {
    (sign, bits): np.dtype(f"{'ui'[sign]}{bits // 8}") for sign in (0, 1) for bits in _WORDS[1:]
}


class Stream(NamedTuple):
    """The header of a compressed frame.

    Attributes
    ----------
    rows, columns, samples : int
        Shape; 0 where the header has none.
    precision : int
        Bits of a sample; 0 where the header has none.
    is_signed : bool or None
        Whether samples have a sign; None where a codec has no signs.
    body : bytes-like
        What is handed to the decoder: the frame, or the codestream in its wrapper.
    is_ybr : bool
        Whether the samples are luminance and colour differences.
    converts : bool
        Whether the decoder returns such samples as RGB.
    low_bits : int or None
        How many low bits of a decoded sample count: the rest is not the pixel's, or its sign. None
        where the codec leaves that to Bits Stored, `ALL_BITS` where every bit counts.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    body: bytes | memoryview
    is_signed: bool | None = None
    is_ybr: bool = False
    converts: bool = False
    low_bits: int | None = None


class Form(NamedTuple):
    """The shape and the dtype of decoded frames, in native byte order."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@lru_cache(1000)  # which the frames of an instance share
def find_form(image: ImagePixel) -> Form:
    """Return the form of an image's decoded frames.

    Raises
    ------
    DecodeError
        An attribute that decoding needs is absent or has no meaning.
    """
    for name in ("rows", "columns", "samples_per_pixel", "bits_allocated", "bits_stored"):
        if not getattr(image, name):
            raise DecodeError(f"cannot decode the frame: the data set has no {name}")
    if image.pixel_representation not in (0, 1):
        raise DecodeError(
            "cannot decode the frame: expected a pixel_representation of 0 or 1, found "
            f"{image.pixel_representation}"
        )
    assert image.bits_allocated is not None
    assert image.bits_stored is not None
    if image.bits_allocated not in _WORDS or image.bits_stored > image.bits_allocated:
        raise DecodeError(
            "cannot decode the frame: expected Bits Allocated of 1, 8, 16, 32 or 64 and not more "
            f"Bits Stored, found {image.bits_allocated} and {image.bits_stored}"
        )
    return Form(array_shape(image), find_dtype(image))


def find_dtype(image: ImagePixel) -> np.dtype[np.generic]:
    """Return the dtype of decoded samples: as wide as Bits Allocated, in native byte order."""
    if image.bits_allocated == 1:
        return np.dtype("u1")
    return _DTYPES[image.pixel_representation or 0, image.bits_allocated or 0]


def array_shape(image: ImagePixel) -> tuple[int, ...]:
    """Return the shape of a decoded frame, whatever its codec."""
    shape = (image.rows or 0, image.columns or 0)
    samples = image.samples_per_pixel or 1
    return shape if samples == 1 else (*shape, samples)


def array_dtype(image: ImagePixel, *, big_endian: bool = False) -> np.dtype[np.generic]:
    """Return the dtype of a decoded frame, whatever its codec.

    Raises
    ------
    DecodeError
        The attributes have no such dtype.
    """
    order = ">" if big_endian else "<"
    bits = image.bits_allocated or 0
    if image.pixel_keyword != "PixelData":
        return np.dtype(f"{order}f{4 if image.pixel_keyword == 'FloatPixelData' else 8}")
    word = next((each for each in (8, 16, 32, 64) if each >= bits), 0)
    if not bits or not word or image.pixel_representation not in (0, 1):
        raise DecodeError(
            f"no array has Bits Allocated {image.bits_allocated} and Pixel Representation "
            f"{image.pixel_representation}"
        )
    return np.dtype(f"{order}{'u' if bits == 1 else 'ui'[image.pixel_representation]}{word // 8}")


def check_stream(stream: Stream, image: ImagePixel) -> None:
    """Raise DecodeError where a frame's own header contradicts the data set.

    A stream of JPEG-LS, JPEG 2000 or JPEG XL may stand for any number of equal pixels: a frame that
    takes over 256 MiB when decoded is refused where its stream is 4096 times shorter.
    """
    expected = image.rows, image.columns, image.samples_per_pixel
    found = stream.rows, stream.columns, stream.samples
    if found != expected:
        raise DecodeError(
            "cannot decode the frame: expected (rows, columns, samples) of "
            f"{expected}, found {found} in its header"
        )
    size = stream.rows * stream.columns * stream.samples * max(8, image.bits_allocated or 0) // 8
    if size > max(MOST_UNPROVED, _MOST_EXPANSION * len(stream.body)):
        raise DecodeError(
            f"cannot decode the frame: expected more than {len(stream.body)} bytes for "
            f"{stream.rows} x {stream.columns} pixels, which take {size} bytes"
        )
    most = max(8, image.bits_allocated or 0)
    if stream.precision > most:
        raise DecodeError(
            f"cannot decode the frame: expected up to {most} bits a sample, found "
            f"{stream.precision} in its header"
        )


def offer(out: Pixels | None, dtype: str) -> Pixels | None:
    """Return `out` as a decoder may fill it with samples of `dtype`; None where it cannot."""
    if out is None or not out.flags.c_contiguous:
        return None
    wanted = np.dtype(dtype)
    if out.dtype == wanted:  # most end here
        return out
    if not out.dtype.isnative or out.dtype.itemsize != wanted.itemsize:
        return None
    return out.view(wanted) if out.dtype.kind in "iu" else None


def fit_samples(samples: Pixels, form: Form, out: Pixels | None) -> Pixels:
    """Return decoded samples as wide as Bits Allocated, with the sign of Pixel Representation.

    Samples that are narrower than Bits Allocated are extended by that sign.

    Raises
    ------
    DecodeError
        They are of another shape, or wider than Bits Allocated.
    """
    shape, dtype = form
    if samples is out or (out is None and samples.dtype == dtype and samples.shape == shape):
        return samples  # most end here
    if samples.shape != shape:
        raise DecodeError(
            f"cannot decode the frame: expected an array of {shape}, found {samples.shape}"
        )
    if samples.dtype.kind not in "iu" or samples.dtype.itemsize > dtype.itemsize:
        raise DecodeError(
            f"cannot decode the frame: expected samples of {dtype}, found {samples.dtype}"
        )
    samples = samples.view(f"{dtype.kind}{samples.dtype.itemsize}")
    if out is not None and np.shares_memory(samples, out):
        return out
    if out is not None:
        np.copyto(out, samples)
        return out
    return samples if samples.dtype == dtype else samples.astype(dtype)


def count_bits(stream: Stream, image: ImagePixel) -> int:
    """Return how many low bits of a decoded sample count: the codec's answer, else Bits Stored."""
    if image.bits_allocated == 1:
        return ALL_BITS
    if stream.low_bits is not None:
        return stream.low_bits
    stored = image.bits_stored or ALL_BITS
    if 0 < stream.precision <= stored and not image.pixel_representation:
        return ALL_BITS  # the stream has no bits above them
    return stored


def keep_low_bits(samples: Pixels, bits: int) -> Pixels:
    """Return samples of which the low `bits` count; the rest becomes zero or the sign."""
    unused = samples.dtype.itemsize * 8 - bits
    if unused <= 0:
        return samples
    if not samples.flags.writeable:
        samples = samples.copy()
    np.left_shift(samples, unused, out=samples)
    np.right_shift(samples, unused, out=samples)
    return samples
