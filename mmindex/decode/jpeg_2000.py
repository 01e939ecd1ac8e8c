"""JPEG 2000 and High-Throughput JPEG 2000, by OpenJPEG (ITU-T T.800, T.814).

OpenJPH decodes lossless frames of the latter where that hides no damage: see high_throughput.py.
In lossy ones 255 wraps to 0 (imagecodecs 2026.3.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmindex.decode.high_throughput import decode_by_openjph
from mmindex.decode.stream import ALL_BITS, Stream, offer
from mmindex.errors import DecodeError
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

CODECS = ("JPEG2K",)
_SOC, _BOXES = Codec.JPEG_2000.start_markers
_CODESTREAM = _SOC + b"\xff\x51"
_MOST_BOXES = 1000
_SIZ = 40  # bytes from the codestream's start to Csiz


def parse_stream(frame: bytes | memoryview, image: ImagePixel) -> Stream:
    """Return what the SIZ marker says; the codestream of a JP2 file without its wrapper.

    The wrapper's colour space is left out: the data set's is that of the samples.

    Raises
    ------
    DecodeError
        There is no SIZ marker, or components differ in sign, width or sampling.
    """
    body = find_codestream(frame)
    head = bytes(body[: _SIZ + 2])
    if len(head) < _SIZ + 2 or not head.startswith(_CODESTREAM):
        raise DecodeError("cannot decode the frame: expected a JPEG 2000 SIZ marker, found none")
    right, bottom, left, top = (int.from_bytes(head[at : at + 4], "big") for at in (8, 12, 16, 20))
    samples = int.from_bytes(head[_SIZ : _SIZ + 2], "big")
    components = bytes(body[_SIZ + 2 : _SIZ + 2 + 3 * samples])
    if len(components) < 3 or {components[:3]} != {
        components[at : at + 3] for at in range(0, len(components), 3)
    }:
        raise DecodeError("cannot decode the frame: its components differ in width or sampling")
    size, across, down = components[:3]
    if (across, down) != (1, 1):
        raise DecodeError("cannot decode the frame: its components are subsampled")
    is_signed, precision = bool(size & 0x80), (size & 0x7F) + 1
    is_ybr = image.photometric_interpretation.startswith("YBR_FULL")
    return Stream(
        bottom - top,
        right - left,
        samples,
        precision,
        body,
        is_signed,
        is_ybr,
        low_bits=precision if _has_other_sign(is_signed, image) else ALL_BITS,
    )


def _has_other_sign(is_signed: bool, image: ImagePixel) -> bool:
    """Return whether gray samples are signed where the data set's are not, or the reverse."""
    is_gray = image.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
    return is_gray and is_signed != bool(image.pixel_representation)


def find_codestream(frame: bytes | memoryview) -> bytes | memoryview:
    """Return the codestream in the boxes of a JP2 file; what has no boxes as it is."""
    if bytes(frame[: len(_BOXES)]) != _BOXES:
        return frame
    at = 0
    for _ in range(_MOST_BOXES):
        length, kind = int.from_bytes(frame[at : at + 4], "big"), bytes(frame[at + 4 : at + 8])
        header = 8
        if length == 1:
            length, header = int.from_bytes(frame[at + 8 : at + 16], "big"), 16
        if kind == b"jp2c":
            return memoryview(frame)[at + header : at + length if length else None]
        if length < header:
            break
        at += length
    raise DecodeError("cannot decode the frame: expected a codestream in the JP2 boxes, found none")


def decode_stream(stream: Stream, image: ImagePixel, raw: bool, out: Pixels | None) -> Pixels:
    """Return samples of (rows, columns[, samples]); YBR_ICT and YBR_RCT become RGB."""
    from imagecodecs import jpeg2k_decode

    width = 1 if stream.precision <= 8 else 2 if stream.precision <= 16 else 4
    target = offer(out, f"{'i' if stream.is_signed else 'u'}{width}")
    if (by_openjph := decode_by_openjph(stream, target)) is not None:
        return by_openjph
    found: Pixels = jpeg2k_decode(stream.body, numthreads=1, out=target)
    return found
