"""The header of a JPEG or JPEG-LS stream: frame header and application markers (ITU-T T.81 B.2)."""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from mmindex.errors import DecodeError

SOI = b"\xff\xd8"
EOI = b"\xff\xd9"
_APP0, _APP14, _SOS = 0xE0, 0xEE, 0xDA
SOF_LOSSLESS, SOF_JPEG_LS = 0xC3, 0xF7
_SOF = {*range(0xC0, 0xD0), SOF_JPEG_LS} - {0xC4, 0xC8, 0xCC}  # start of frame; those are tables
_MARKER = Struct(">BBH")  # FF, its code, length of what follows
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_MOST_MARKERS = 1000
_RGB = (b"RGB", b"rgb")


class JpegHeader(NamedTuple):
    """The frame header, and what the markers before it say of colours.

    Attributes
    ----------
    process : int
        Code of the start of frame marker, 0xC0 to 0xCF or 0xF7.
    ids : bytes
        Identifiers of the components.
    has_jfif : bool
        Whether a JFIF marker says that three components are YCbCr.
    adobe_transform : int or None
        What the Adobe marker says: 0 none, 1 YCbCr; None where there is no such marker.
    """

    process: int
    precision: int
    rows: int
    columns: int
    ids: bytes
    has_jfif: bool
    adobe_transform: int | None

    def is_ybr(self, photometric_interpretation: str) -> bool:
        """Return whether three components are luminance and colour differences.

        What the stream says goes before the data set, as in every JPEG decoder.
        """
        if len(self.ids) != 3 or self.ids in _RGB:
            return False
        if self.adobe_transform == 1 or (self.has_jfif and self.adobe_transform is None):
            return True
        return "YBR" in photometric_interpretation


def parse_jpeg_header(frame: bytes | memoryview) -> JpegHeader:
    """Return the header of a stream that begins with SOI.

    Raises
    ------
    DecodeError
        There is no frame header before the first scan.
    """
    at, has_jfif, adobe = 2, False, None
    size, unpack = len(frame), _MARKER.unpack_from
    for _ in range(_MOST_MARKERS):
        if at + 4 > size:
            break
        mark, code, length = unpack(frame, at)
        if mark != 0xFF:
            break
        if code == 0xFF or code in _ALONE:  # fill bytes may stand before a marker
            at += 1 if code == 0xFF else 2
            continue
        if length < 2 or at + 2 + length > size or code == _SOS:
            break
        if code in _SOF:
            body = bytes(frame[at + 4 : at + 2 + length])
            return _parse_frame_header(code, body, has_jfif, adobe)
        if code == _APP0 or code == _APP14:
            body = bytes(frame[at + 4 : at + 2 + length])
            if code == _APP0 and body.startswith(b"JFIF"):
                has_jfif = True
            elif code == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
                adobe = body[11]
        at += 2 + length
    raise DecodeError("cannot decode the frame: expected a JPEG frame header, found none")


def _parse_frame_header(code: int, body: bytes, has_jfif: bool, adobe: int | None) -> JpegHeader:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise DecodeError("cannot decode the frame: its JPEG frame header is cut")
    rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    ids = body[6 : 6 + 3 * body[5] : 3]
    return JpegHeader(code, body[0], rows, columns, ids, has_jfif, adobe)


def ends_whole(frame: bytes | memoryview) -> bool:
    """Return whether a stream has its end marker; zeros of padding may follow."""
    return bytes(frame[-64:]).rstrip(b"\0").endswith(EOI)
