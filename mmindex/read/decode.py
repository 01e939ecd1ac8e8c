"""Pixels: one frame's bytes -> numpy array. The only importer of pydicom's decoders.

Native frames that need no conversion are viewed as they lie; everything else is pydicom's,
which is handed one frame as a small value of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmindex.errors import DecodeError, MissingDependencyError
from mmindex.model import ImagePixel
from mmindex.read.place import find_place
from mmindex.scan.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    Codec,
    find_transfer_syntax,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance

_EMPTY_OFFSET_TABLE = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
_OPTIONS = (
    "rows",
    "columns",
    "samples_per_pixel",
    "bits_allocated",
    "bits_stored",
    "pixel_representation",
    "planar_configuration",
)


def decode_frame(
    instance: Instance, frame_index: int, *, raw: bool, copy: bool
) -> NDArray[np.generic]:
    """Return a frame's pixels; see `Instance.array`.

    Raises
    ------
    DecodeError, MissingDependencyError
    """
    image, frames = instance.record.image_pixel, instance.record.frames
    if frames is None or not frames.frame_bits:
        return _decode(instance.frame(frame_index), instance.record.transfer_syntax_uid, image, raw)
    if "422" in image.photometric_interpretation and frames.frame_bits == _full_frame_bits(image):
        image = replace(image, photometric_interpretation="YBR_FULL")  # R32: not subsampled
    uid = instance.record.transfer_syntax_uid
    if uid and find_transfer_syntax(uid).codec is Codec.UNKNOWN:
        raise DecodeError(f"the samples of a private transfer syntax are not known ({uid})")
    big_endian = instance.record.big_endian
    syntax_uid = EXPLICIT_VR_BIG_ENDIAN if big_endian else EXPLICIT_VR_LITTLE_ENDIAN
    image = _as_stored(image, frames.frame_bits)
    if instance.record.swaps_pairs or image.is_packed:
        place = find_place(instance.record, frames, frame_index, in_order=True)
        frame = place.read(instance.source)
        if image.is_packed:
            return _decode_packed(frame, image, raw)
        return _decode(frame, syntax_uid, image, raw)
    dtype = _plain_dtype(image, big_endian, raw)
    if dtype is None:
        return _decode(instance.frame(frame_index), syntax_uid, image, raw)
    if not copy and not _count_unused_bits(dtype, image):
        return _reshape(np.frombuffer(instance.view(frame_index), dtype), image)
    return _take_samples(instance.frame(frame_index), dtype, image)


def _as_stored(image: ImagePixel, frame_bits: int) -> ImagePixel:
    """Return the attributes as the bytes have them: one sample where none says, bits of words."""
    if image.samples_per_pixel is None:
        image = replace(image, samples_per_pixel=1)
    bits = image.stored_bits(frame_bits)
    if bits == image.bits_allocated:
        return image
    bits_stored = image.bits_stored or image.bits_allocated
    return replace(image, bits_allocated=bits, bits_stored=bits_stored)


def _decode_packed(frame: bytes, image: ImagePixel, raw: bool) -> NDArray[np.generic]:
    """Return the pixels of samples that share bytes, the lowest bits of each first.

    Each sample is given the next larger word, in which it is decoded like any other.
    """
    bits = image.bits_allocated or 0
    word = next((word for word in (8, 16, 32, 64) if word > bits), None)
    count = (image.rows or 0) * (image.columns or 0) * (image.samples_per_pixel or 1)
    if word is None or len(frame) != (count * bits + 7) // 8:
        raise DecodeError(f"samples of {bits} bits in {len(frame)} bytes cannot be decoded")
    samples = np.zeros((count, word), np.uint8)
    stored = np.unpackbits(np.frombuffer(frame, np.uint8), count=count * bits, bitorder="little")
    samples[:, :bits] = stored.reshape(count, bits)
    words = np.packbits(samples, bitorder="little").tobytes()
    image = replace(image, bits_allocated=word, bits_stored=image.bits_stored or bits)
    dtype = _plain_dtype(image, False, raw)
    if dtype is None:
        return _decode(words, EXPLICIT_VR_LITTLE_ENDIAN, image, raw)
    return _take_samples(words, dtype, image)


def _count_unused_bits(dtype: np.dtype[Any], image: ImagePixel) -> int:
    """Return how many bits lie above Bits Stored, which are not the pixel's (PS3.5 8.1.1)."""
    return (image.bits_allocated or 0) - (image.bits_stored or 0) if dtype.kind in "iu" else 0


def _take_samples(frame: bytes, dtype: np.dtype[Any], image: ImagePixel) -> NDArray[np.generic]:
    """Return the samples of a frame as an array of its own, without the bits that are unused."""
    array = np.frombuffer(bytearray(frame), dtype)
    unused_bits = _count_unused_bits(dtype, image)
    if unused_bits:
        np.left_shift(array, unused_bits, out=array)
        np.right_shift(array, unused_bits, out=array)
    return _reshape(array, image)


def stack_frames(frames: Iterable[NDArray[np.generic]], count: int) -> NDArray[np.generic]:
    """Return `count` frames of one shape and dtype as one array, each copied once.

    Raises
    ------
    DecodeError
        There are none, or they differ in shape.
    """
    stacked: NDArray[np.generic] | None = None
    for at, frame in enumerate(frames):
        if stacked is None:
            stacked = np.empty((count, *frame.shape), frame.dtype)
        if frame.shape != stacked.shape[1:] or frame.dtype != stacked.dtype:
            raise DecodeError(
                f"frames that are stacked have one shape and dtype: expected {stacked.shape[1:]} "
                f"of {stacked.dtype}, found {frame.shape} of {frame.dtype}"
            )
        stacked[at] = frame
    if stacked is None:
        raise DecodeError("there are no frames to stack")
    return stacked


def _plain_dtype(image: ImagePixel, big_endian: bool, raw: bool) -> np.dtype[Any] | None:
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
        return np.dtype(f"{order}f{4 if image.pixel_keyword == 'FloatPixelData' else 8}")
    if image.bits_allocated not in (8, 16, 32, 64) or image.pixel_representation not in (0, 1):
        return None
    if not image.bits_stored or image.bits_stored > image.bits_allocated:
        return None
    return np.dtype(f"{order}{'ui'[image.pixel_representation]}{image.bits_allocated // 8}")


def _full_frame_bits(image: ImagePixel) -> int:
    """Return the length of a frame that has all three samples of every pixel, in bits."""
    return (image.rows or 0) * (image.columns or 0) * 3 * (image.bits_allocated or 0)


def _reshape(array: NDArray[np.generic], image: ImagePixel) -> NDArray[np.generic]:
    """Return samples as (rows, columns[, samples]), whatever the planar configuration."""
    rows, columns, samples = image.rows or 0, image.columns or 0, image.samples_per_pixel or 1
    if samples == 1:
        return array.reshape(rows, columns)
    if image.planar_configuration == 0:
        return array.reshape(rows, columns, samples)
    return array.reshape(samples, rows, columns).transpose(1, 2, 0)


def _decode(frame: bytes, syntax_uid: str, image: ImagePixel, raw: bool) -> NDArray[np.generic]:
    """Return the pixels of one frame as pydicom decodes them."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = find_transfer_syntax(syntax_uid)
    try:
        decoder = get_decoder(syntax_uid)
    except NotImplementedError:
        raise DecodeError(f"pydicom decodes no frames of {syntax.name} ({syntax_uid})") from None
    if not decoder.is_available:
        raise MissingDependencyError(
            f"no decoder for {syntax.name} is installed: pip install 'mmindex[codecs]'"
        )
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "photometric_interpretation": image.photometric_interpretation,
        "pixel_keyword": image.pixel_keyword,
        "pixel_vr": "OB",
    }
    for name in _OPTIONS:
        if getattr(image, name) is not None:
            options[name] = getattr(image, name)
    value = frame
    if UID(syntax_uid).is_encapsulated:
        value = _EMPTY_OFFSET_TABLE + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    try:
        array, _ = decoder.as_array(value, index=0, raw=raw, **options)
    except (AttributeError, MemoryError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DecodeError(f"cannot decode the frame: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of codecs written in Rust
            raise
        raise DecodeError(f"cannot decode the frame: {error}") from error
    return array
