"""JPEG-LS, by CharLS (ITU-T T.87). Samples have no sign: Pixel Representation gives one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmindex.decode.jpeg_header import EOI, ends_whole, parse_jpeg_header
from mmindex.decode.stream import ALL_BITS, Stream, offer

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

CODECS = ("JPEGLS",)


def parse_stream(frame: bytes | memoryview, image: ImagePixel) -> Stream:
    """Return what the frame header says; raises DecodeError where there is none."""
    header = parse_jpeg_header(frame)
    return Stream(
        header.rows,
        header.columns,
        len(header.ids),
        header.precision,
        frame,
        is_ybr=image.photometric_interpretation.startswith("YBR_FULL"),
        low_bits=header.precision if image.pixel_representation else ALL_BITS,
    )


def decode_stream(stream: Stream, image: ImagePixel, raw: bool, out: Pixels | None) -> Pixels:
    """Return samples of (rows, columns[, samples]), whatever their order in the stream."""
    from imagecodecs import jpegls_decode

    body = stream.body if ends_whole(stream.body) else bytes(stream.body) + EOI
    target = None
    if stream.samples == 1:  # what is not interleaved takes an array of another shape
        target = offer(out, "u1" if stream.precision <= 8 else "u2")
    found: Pixels = jpegls_decode(body, out=target)
    return found
