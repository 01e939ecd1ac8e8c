"""RLE Lossless: PackBits segments, one for each byte of a sample (PS3.5 Annex G).

A segment of another length than the frame has pixels raises; pad bytes after the last run do not.
Segments of single bits hold them as native frames do, the first pixel in the lowest bit.
"""

from __future__ import annotations

import struct
from operator import lt
from typing import TYPE_CHECKING

import numpy as np

from mmindex.decode.native import unpack_single_bits
from mmindex.decode.stream import Stream, offer
from mmindex.errors import DecodeError

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

CODECS = ("PACKBITS",)
_HEADER = struct.Struct("<16I")
_MOST_SEGMENTS = 15


def is_rle(frame: bytes | memoryview) -> bool:
    """Return whether a frame begins with an RLE header: 1 to 15 segments, the first at byte 64."""
    if len(frame) < _HEADER.size:
        return False
    count, first = struct.unpack_from("<2I", frame)
    return bool(1 <= count <= _MOST_SEGMENTS and first == _HEADER.size)


def parse_stream(frame: bytes | memoryview, image: ImagePixel) -> Stream:
    """Return a stream of the image's shape: an RLE header has none.

    Raises
    ------
    DecodeError
        There is no header, or its segments are not those of the image.
    """
    if not is_rle(frame):
        raise DecodeError("cannot decode the frame: expected an RLE header, found none")
    count, *offsets = _HEADER.unpack_from(frame)
    samples = image.samples_per_pixel or 0
    expected = samples * max(1, (image.bits_allocated or 0) // 8)
    if count != expected:
        raise DecodeError(
            f"cannot decode the frame: expected {expected} RLE segments, found {count}"
        )
    ends = [*offsets[1:count], len(frame)]
    if not all(map(lt, offsets, ends)):
        raise DecodeError("cannot decode the frame: its RLE segments overlap")
    is_ybr = image.photometric_interpretation.startswith("YBR_FULL")
    return Stream(image.rows or 0, image.columns or 0, samples, 0, frame, is_ybr=is_ybr)


def decode_stream(stream: Stream, image: ImagePixel, raw: bool, out: Pixels | None) -> Pixels:
    """Return samples of (rows, columns[, samples]), joined from the bytes of their segments."""
    count, *offsets = _HEADER.unpack_from(stream.body)
    ends = [*offsets[1:count], len(stream.body)]
    pixels = stream.rows * stream.columns
    length = (pixels + 7) // 8 if image.bits_allocated == 1 else pixels
    width = count // stream.samples
    shape = stream.rows, stream.columns
    target = offer(out, f"u{width}") if stream.samples == 1 else None
    room = None  # one segment of whole bytes holds the pixels as they are
    if count == 1 and target is not None and image.bits_allocated == 8:
        room = target.reshape(-1)
    with memoryview(stream.body) as view:
        segments = [
            _decode_segment(view[start:end], np.empty(length, "u1") if room is None else room)
            for start, end in zip(offsets, ends, strict=False)
        ]
    if stream.samples == 1:
        return _join_bytes(segments, target, image, pixels).reshape(shape)
    planes = [
        _join_bytes(segments[at * width : (at + 1) * width], None, image, pixels)
        for at in range(stream.samples)
    ]
    target = out
    if target is None or target.dtype.itemsize != width:
        target = np.empty((*shape, stream.samples), f"u{width}")
    for at, plane in enumerate(planes):
        target[..., at] = plane.reshape(shape)
    return target


def _decode_segment(segment: memoryview, room: Pixels) -> Pixels:
    """Return the bytes of a segment (Annex G.3.2), as many as `room` has: there, or elsewhere."""
    import imagecodecs

    length = len(room)
    if len(segment) * 128 < length:  # no run is longer
        raise DecodeError("cannot decode the frame: an RLE segment ends early")
    try:
        found: Pixels = imagecodecs.packbits_decode(segment, out=room)
    except RuntimeError:  # damaged, or too long: by a byte of padding, or by more
        found = imagecodecs.packbits_decode(segment, out=np.empty(length + 1, "u1"))
    if len(found) == length:
        return found
    if len(found) < length or found[length]:
        raise DecodeError(
            f"cannot decode the frame: expected an RLE segment of {length} bytes, "
            f"found {len(found)}"
        )
    return found[:length]


def _join_bytes(
    segments: list[Pixels], out: Pixels | None, image: ImagePixel, pixels: int
) -> Pixels:
    """Return samples of one plane, whose bytes are these, the most significant first."""
    if image.bits_allocated == 1:
        return unpack_single_bits(segments[0], pixels)
    if len(segments) == 1:
        return segments[0]
    dtype = np.dtype(f"u{len(segments)}")
    joined = np.empty(pixels, dtype) if out is None else out.reshape(-1)
    np.multiply(segments[0], dtype.type(256), out=joined, dtype=dtype, casting="unsafe")
    for segment in segments[1:-1]:
        np.bitwise_or(joined, segment, out=joined)
        np.multiply(joined, dtype.type(256), out=joined)
    return np.bitwise_or(joined, segments[-1], out=joined)
