"""JPEG of every sequential, progressive and lossless process, by libjpeg-turbo (ITU-T T.81)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmindex.decode.jpeg_header import (
    EOI,
    SOF_LOSSLESS,
    check_length,
    check_scans,
    ends_whole,
    parse_jpeg_header,
)
from mmindex.decode.stream import Stream, offer
from mmindex.errors import DecodeError

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

CODECS = ("JPEG8",)
_TAILS = (bytes(64) + EOI, b"\x55" * 64 + EOI)  # entropy-coded data that no stream ends with twice


def parse_stream(frame: bytes | memoryview, image: ImagePixel) -> Stream:
    """Return what the frame header says.

    Raises
    ------
    DecodeError
        There is no frame header; or the stream lacks scans, or is too short for its samples.
    """
    header = parse_jpeg_header(frame)
    check_length(header, len(frame))
    check_scans(header, frame)
    return Stream(
        header.rows,
        header.columns,
        len(header.ids),
        header.precision,
        frame,
        is_ybr=header.is_ybr(image.photometric_interpretation),
        converts=header.process != SOF_LOSSLESS,
    )


def decode_stream(stream: Stream, image: ImagePixel, raw: bool, out: Pixels | None) -> Pixels:
    """Return samples of (rows, columns[, 3]); three of YCbCr become RGB unless `raw`.

    libjpeg-turbo fills what a cut stream lacks in silence. One without an end marker is therefore
    decoded twice, with different bytes after it: only where all samples were there, both agree.

    Raises
    ------
    DecodeError
        The stream ends early.
    """
    colours = None
    if stream.samples == 3:
        source = "YCBCR" if stream.is_ybr else "RGB"
        colours = source, source if raw or not stream.converts else "RGB"
    target = offer(out, "u1" if stream.precision <= 8 else "u2")
    if ends_whole(stream.body):
        return _decode(stream.body, colours, target)
    found = _decode(bytes(stream.body) + _TAILS[0], colours, target)
    if not np.array_equal(found, _decode(bytes(stream.body) + _TAILS[1], colours, None)):
        raise DecodeError("cannot decode the frame: its JPEG stream ends early")
    return found


def _decode(
    body: bytes | memoryview, colours: tuple[str, str] | None, out: Pixels | None
) -> Pixels:
    import imagecodecs

    source, wanted = colours or (None, None)
    decode = imagecodecs.jpeg8_decode
    found: Pixels = decode(body, colorspace=source, outcolorspace=wanted, out=out)
    return found
