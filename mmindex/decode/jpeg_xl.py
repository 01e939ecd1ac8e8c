"""JPEG XL, by libjxl (ISO/IEC 18181); a JPEG in it is restored and decoded as the JPEG it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmindex.decode import jpeg
from mmindex.decode.jpeg_xl_header import HEAD, parse_colours, parse_size
from mmindex.decode.stream import Stream, check_stream, offer
from mmindex.errors import DecodeError
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

CODECS = ("JPEGXL", "JPEG8")
_CODESTREAM, _BOXES = Codec.JPEG_XL.start_markers
_MOST_BOXES = 1000


def parse_stream(frame: bytes | memoryview, image: ImagePixel) -> Stream:
    """Return the size that the codestream's header says; samples and precision are not looked at.

    Colours are those of the data set, unless the codestream says that a decoder returns RGB: of
    XYB, and of the YCbCr of a JPEG that cannot be restored.

    Raises
    ------
    DecodeError
        There is no codestream, or it does not say which colours a decoder returns.
    """
    head = _find_head(frame)
    if not head.startswith(_CODESTREAM) or len(head) < 12:
        raise DecodeError("cannot decode the frame: expected a JPEG XL codestream, found none")
    rows, columns = parse_size(head)
    samples = image.samples_per_pixel or 0
    is_ybr = image.photometric_interpretation.startswith("YBR_FULL")
    converts = is_ybr and has_jpeg(frame)
    if is_ybr and samples == 3 and not converts:
        is_known, converts = parse_colours(head)
        if not is_known:
            raise DecodeError(
                "cannot decode the frame: its JPEG XL headers do not say whether its colours are "
                "YBR_FULL, as the data set says"
            )
    return Stream(rows, columns, samples, 0, frame, is_ybr=is_ybr, converts=converts)


def decode_stream(stream: Stream, image: ImagePixel, raw: bool, out: Pixels | None) -> Pixels:
    """Return samples of (rows, columns[, samples]); XYB becomes RGB by itself."""
    from imagecodecs import jpegxl_decode, jpegxl_decode_jpeg

    if has_jpeg(stream.body):
        restored = jpeg.parse_stream(jpegxl_decode_jpeg(stream.body, numthreads=1), image)
        check_stream(restored, image)
        return jpeg.decode_stream(restored, image, raw, out)
    target = offer(out, f"u{max(8, image.bits_allocated or 0) // 8}")
    if (image.bits_allocated or 0) > (image.bits_stored or 0):
        target = None  # the stream may be as narrow as Bits Stored
    found: Pixels = jpegxl_decode(stream.body, numthreads=1, out=target)
    return found


def has_jpeg(frame: bytes | memoryview) -> bool:
    """Return whether a container has what restores the JPEG that was recompressed."""
    return any(kind == b"jbrd" for kind, _, _ in _list_boxes(frame))


def _find_head(frame: bytes | memoryview) -> bytes:
    """Return the first bytes of the codestream."""
    if bytes(frame[:2]) == _CODESTREAM:
        return bytes(frame[:HEAD])
    head = b""
    for kind, start, end in _list_boxes(frame):
        if kind in (b"jxlc", b"jxlp") and len(head) < HEAD:
            start += 4 if kind == b"jxlp" else 0  # a number of the part
            head += bytes(frame[start : min(end, start + HEAD)])
    return head


def _list_boxes(frame: bytes | memoryview) -> list[tuple[bytes, int, int]]:
    """Return kind, start and end of what is in the boxes of a container."""
    boxes: list[tuple[bytes, int, int]] = []
    at = 0
    if bytes(frame[:12]) != _BOXES:
        return boxes
    while at + 8 <= len(frame) and len(boxes) < _MOST_BOXES:
        length, kind = int.from_bytes(frame[at : at + 4], "big"), bytes(frame[at + 4 : at + 8])
        header = 8
        if length == 1:
            length, header = int.from_bytes(frame[at + 8 : at + 16], "big"), 16
        if length == 0:
            length = len(frame) - at
        if length < header:
            break
        boxes.append((kind, at + header, at + length))
        at += length
    return boxes
