"""Native samples -> array: as they lie, out of single bits, or out of packed bits (PS3.5 8.1, 8.2).

Samples that need no conversion are viewed where they lie. Colours that are subsampled or no RGB
are pydicom's to convert.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmindex.decode.by_pydicom import decode_by_pydicom
from mmindex.decode.stream import array_shape
from mmindex.errors import DecodeError
from mmindex.scan.transfer_syntax import EXPLICIT_VR_BIG_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

_WORDS = (8, 16, 32, 64)


def native_frame_bits(image: ImagePixel) -> int:
    """Return the bits of a native frame by its attributes alone (PS3.3 C.7.6.3.1.2)."""
    samples = image.samples_per_pixel or 0
    if samples == 3 and image.photometric_interpretation in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        samples = 2
    return (image.rows or 0) * (image.columns or 0) * samples * (image.bits_allocated or 0)


def decode_native(
    frame: bytes | bytearray | memoryview,
    image: ImagePixel,
    *,
    frame_bits: int,
    big_endian: bool = False,
    raw: bool = False,
) -> Pixels:
    """Return the pixels of a native frame.

    Parameters
    ----------
    frame : bytes-like
        The frame, which begins on a byte; samples below 16 bits in the right order.
    image : ImagePixel
        Its attributes.
    frame_bits : int
        Its length in bits. Samples that are not packed though Bits Allocated is no multiple of 8
        lie in words of their own; 4:2:2 frames with three samples a pixel are not subsampled.
    big_endian : bool
        Whether words are in Big Endian.
    raw : bool
        Leave YBR as it is.

    Returns
    -------
    ndarray
        Shape (rows, columns[, samples]), in the byte order of the frame. A view of it where no
        bit has to move, and then as writable as `frame` is.

    Raises
    ------
    DecodeError
        The attributes contradict each other or the frame.
    """
    image, dtype, count, width, unused, _ = plan_native(image, frame_bits, big_endian, raw)
    if dtype is None:
        uid = EXPLICIT_VR_BIG_ENDIAN if big_endian else EXPLICIT_VR_LITTLE_ENDIAN
        return decode_by_pydicom(bytes(frame), uid, image, raw=raw)
    if len(frame) * 8 < frame_bits:
        raise DecodeError(
            f"cannot decode the frame: expected {frame_bits} bits, found {len(frame)} bytes"
        )
    if width == 1:
        return _reshape(unpack_single_bits(np.frombuffer(frame, "u1"), count), image)
    if width != dtype.itemsize * 8:
        array = unpack_bits(np.frombuffer(frame, "u1"), width, count).view(dtype)
    else:
        array = np.frombuffer(frame, dtype, count)
    if unused:
        array = _drop_unused(array, image, unused, np.empty_like(array))
    return _reshape(array, image)


def make_room(plan: Plan, out: Pixels | None) -> Pixels | None:
    """Return an array whose memory can take a native frame's bytes as they lie in the file.

    Parameters
    ----------
    out : ndarray or None
        Where the pixels go; None makes an array.

    Returns
    -------
    ndarray or None
        `out`, or a new array; `finish_room` turns the bytes that were read into it into pixels.
        None where bytes have to move, or `out` has another shape or dtype or is not contiguous.
    """
    if plan.shape is None:
        return None
    if out is None:
        return np.empty(plan.shape, plan.dtype)
    fits = out.shape == plan.shape and out.dtype == plan.dtype and out.flags.c_contiguous
    return out if fits else None


def finish_room(plan: Plan, room: Pixels) -> Pixels:
    """Return the pixels of a frame whose bytes are in `room`; they replace these.

    Raises
    ------
    DecodeError
        As `decode_native`.
    """
    return _drop_unused(room, plan.image, plan.unused, room) if plan.unused else room


def _drop_unused(array: Pixels, image: ImagePixel, unused: int, out: Pixels) -> Pixels:
    """Return samples in `out`: what lies above Bits Stored is not the pixel's (PS3.5 8.1.1)."""
    below = _count_bits_below(array, image, unused)
    np.left_shift(array, unused - below, out=out)
    return np.right_shift(out, unused, out=out)


def _count_bits_below(array: Pixels, image: ImagePixel, unused: int) -> int:
    """Return how many bits lie below those of a sample, by High Bit and the samples together.

    Most files with another High Bit than Bits Stored - 1 have their samples in the lowest bits
    nevertheless: pydicom never looks at it.

    Raises
    ------
    DecodeError
        High Bit says that samples lie higher, and the samples fit both readings, or none.
    """
    stored = image.bits_stored or 0
    below = stored - 1 if image.high_bit is None else image.high_bit
    below -= stored - 1
    if not 0 < below <= unused or not array.any():
        return 0
    fits_high = not np.bitwise_and(array, (1 << below) - 1).any()
    lowest = np.right_shift(np.left_shift(array, unused), unused)
    words = array.view(f"{array.dtype.byteorder}u{array.dtype.itemsize}")
    fits_low = np.array_equal(lowest, array) or not (words >> np.uint8(stored)).any()
    if fits_high == fits_low:
        how = "both with and without these" if fits_high else "neither with nor without these"
        raise DecodeError(
            f"cannot decode the frame: High Bit {image.high_bit} says that {below} bits lie below "
            f"samples of {stored} bits, and they fit {how}"
        )
    return below if fits_high else 0


class Plan(NamedTuple):
    """The way from the bytes of an image's native frames to pixels.

    Attributes
    ----------
    image : ImagePixel
        The attributes, as far as they are absent or contradict the length of a frame with what that
        shows.
    dtype : dtype or None
        That of the pixels; None where pydicom decodes them.
    samples, width : int
        Samples of a frame, and the bits that each takes.
    unused : int
        Bits of the dtype above Bits Stored.
    shape : tuple of int or None
        That of an array with the bytes of a frame as they lie; None where bytes have to move.
    """

    image: ImagePixel
    dtype: np.dtype[Any] | None
    samples: int
    width: int
    unused: int
    shape: tuple[int, ...] | None

    @property
    def is_view(self) -> bool:
        """Whether `decode_native` returns a view of a frame's bytes."""
        is_whole = self.dtype is not None and self.width == self.dtype.itemsize * 8
        return is_whole and not self.unused


@lru_cache(1000)  # frames of a series share it
def plan_native(image: ImagePixel, frame_bits: int, big_endian: bool, raw: bool) -> Plan:
    """Return the way from the bytes of native frames to pixels; see `decode_native`."""
    if image.samples_per_pixel is None:
        image = image._replace(samples_per_pixel=1)  # R46: the scan has found one long enough
    if image.is_packed and not image.bits_stored:
        image = image._replace(bits_stored=image.bits_allocated)
    full = (image.rows or 0) * (image.columns or 0) * 3 * (image.bits_allocated or 0)
    if "422" in image.photometric_interpretation and frame_bits == full:
        image = image._replace(photometric_interpretation="YBR_FULL")  # R32: not subsampled
    count = (image.rows or 0) * (image.columns or 0) * (image.samples_per_pixel or 1)
    width = frame_bits // count if count and frame_bits % count == 0 else 0
    dtype = _find_dtype(image, width, big_endian, raw)
    unused = 0
    if dtype is not None and dtype.kind in "iu":
        unused = dtype.itemsize * 8 - (image.bits_stored or 0)
    shape = None
    if dtype is not None and width == dtype.itemsize * 8:
        is_planar = (image.samples_per_pixel or 1) > 1 and image.planar_configuration != 0
        shape = None if is_planar else array_shape(image)
    return Plan(image, dtype, count, width, unused, shape)


def unpack_single_bits(data: Pixels, count: int) -> Pixels:
    """Return `count` bits, each as a uint8, the first from the lowest bit (PS3.5 8.1.1)."""
    return np.unpackbits(data.view("u1"), count=count, bitorder="little")


def unpack_bits(data: Pixels, width: int, count: int) -> Pixels:
    """Return `count` unsigned samples of `width` bits each that share bytes, lowest bits first.

    They come as wide as the next word, in native byte order.
    """
    word = next(each for each in _WORDS if each >= width)
    if width == 12 and count % 2 == 0:
        triples = data[: count // 2 * 3].reshape(-1, 3).astype("u2")
        samples = np.empty((count // 2, 2), "u2")
        samples[:, 0] = triples[:, 0] | (triples[:, 1] & 0xF) << 8
        samples[:, 1] = triples[:, 1] >> 4 | triples[:, 2] << 4
        return samples.reshape(-1)
    bits = unpack_single_bits(data, count * width).reshape(count, width)
    unpacked = np.zeros(count, f"u{word // 8}")
    for bit in range(width):
        unpacked |= bits[:, bit].astype(unpacked.dtype) << np.array(bit, unpacked.dtype)
    return unpacked


def _find_dtype(image: ImagePixel, width: int, big_endian: bool, raw: bool) -> np.dtype[Any] | None:
    """Return the dtype of samples that are pixels as they lie, None where they need pydicom."""
    order = ">" if big_endian else "<"
    if not raw and image.photometric_interpretation == "YBR_FULL":
        return None
    if image.photometric_interpretation in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        return None
    if image.samples_per_pixel not in (1, 3):
        return None
    if image.samples_per_pixel == 3 and image.planar_configuration not in (0, 1):
        return None
    if image.pixel_keyword != "PixelData":
        bits = 32 if image.pixel_keyword == "FloatPixelData" else 64
        return np.dtype(f"{order}f{bits // 8}") if width == bits else None
    if width == 1:
        return np.dtype("u1")
    stored, allocated = image.bits_stored or 0, image.bits_allocated or 0
    if image.pixel_representation not in (0, 1) or not 0 < stored <= allocated <= width:
        return None
    kind = "ui"[image.pixel_representation]
    if width in _WORDS:
        return np.dtype(f"{order}{kind}{width // 8}")
    if width == allocated and width % 8:
        word = next((each for each in _WORDS if each >= width), 0)
        return np.dtype(f"{kind}{word // 8}") if word else None
    return None


def _reshape(array: Pixels, image: ImagePixel) -> Pixels:
    """Return samples as (rows, columns[, samples]), whatever the planar configuration."""
    rows, columns, samples = image.rows or 0, image.columns or 0, image.samples_per_pixel or 1
    if samples == 1:
        return array.reshape(rows, columns)
    if image.planar_configuration == 0:
        return array.reshape(rows, columns, samples)
    return array.reshape(samples, rows, columns).transpose(1, 2, 0)
