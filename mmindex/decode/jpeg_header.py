"""The header of a JPEG or JPEG-LS stream: frame header and application markers (ITU-T T.81 B.2)."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from mmindex.errors import DecodeError

SOI = b"\xff\xd8"
EOI = b"\xff\xd9"
_APP0, _APP14, _SOS = 0xE0, 0xEE, 0xDA
SOF_LOSSLESS, SOF_JPEG_LS = 0xC3, 0xF7
SOF_PROGRESSIVE = 0xC2
_SOF = {*range(0xC0, 0xD0), SOF_JPEG_LS} - {0xC4, 0xC8, 0xCC}  # start of frame; those are tables
_MARKER = Struct(">BBH")  # FF, its code, length of what follows
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_MOST_MARKERS = 1000
_MOST_IN_SCAN = 4  # components
_HUFFMAN = {0xC0, 0xC1, SOF_PROGRESSIVE, SOF_LOSSLESS}
_RGB = (b"RGB", b"rgb")
_SOS_MARKER = bytes((0xFF, _SOS))


class JpegHeader(NamedTuple):
    """The frame header, and what the markers before it say of colours.

    Attributes
    ----------
    process : int
        Code of the start of frame marker, 0xC0 to 0xCF or 0xF7.
    ids : bytes
        Identifiers of the components.
    sampling : bytes
        Sampling factors of each: across in the upper four bits, down in the lower ones.
    end : int
        Where the frame header ends.
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
    sampling: bytes
    end: int
    has_jfif: bool
    adobe_transform: int | None

    def is_ybr(self, photometric_interpretation: str) -> bool:
        """Return whether three components are luminance and colour differences.

        Identifiers that spell RGB say no, an Adobe marker with transform 1 or a JFIF marker yes,
        whatever the data set says. Transform 0 says only that the encoder transformed nothing: what
        it was given is the Photometric Interpretation (PS3.5 8.2.1), as in pydicom.
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
            return _parse_frame_header(code, body, at + 2 + length, has_jfif, adobe)
        if code == _APP0 or code == _APP14:
            body = bytes(frame[at + 4 : at + 2 + length])
            if code == _APP0 and body.startswith(b"JFIF"):
                has_jfif = True
            elif code == _APP14 and body.startswith(b"Adobe") and len(body) >= 12:
                adobe = body[11]
        at += 2 + length
    raise DecodeError("cannot decode the frame: expected a JPEG frame header, found none")


def _parse_frame_header(
    code: int, body: bytes, end: int, has_jfif: bool, adobe: int | None
) -> JpegHeader:
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        raise DecodeError("cannot decode the frame: its JPEG frame header is cut")
    rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    ids, sampling = body[6 : 6 + 3 * body[5] : 3], body[7 : 6 + 3 * body[5] : 3]
    return JpegHeader(code, body[0], rows, columns, ids, sampling, end, has_jfif, adobe)


def check_length(header: JpegHeader, length: int) -> None:
    """Raise DecodeError where a Huffman-coded stream is too short for its samples.

    No code is shorter than a bit. A lossless sample has one; a block of 8 x 8 has one of its first
    coefficient, and in a sequential stream another that ends the block (T.81 F.1.2, G.1.2, H.1.2).

    Parameters
    ----------
    length : int
        Bytes of the stream.
    """
    across = [max(1, each >> 4) for each in header.sampling]
    down = [max(1, each & 15) for each in header.sampling]
    if not across or header.process not in _HUFFMAN:
        return
    side = 1 if header.process == SOF_LOSSLESS else 8
    units = 0
    for horizontal, vertical in zip(across, down, strict=True):
        rows = -(-header.rows * vertical // (max(down) * side))
        units += rows * -(-header.columns * horizontal // (max(across) * side))
    bits = units if header.process in (SOF_LOSSLESS, SOF_PROGRESSIVE) else 2 * units
    if bits > 8 * length:
        raise DecodeError(
            f"cannot decode the frame: expected at least {(bits + 7) // 8} bytes for "
            f"{header.rows} x {header.columns} pixels, found {length}"
        )


class Scan(NamedTuple):
    """The header of a scan: components, band of coefficients, and the lowest bit it has of them."""

    ids: bytes
    first: int
    last: int
    low_bit: int


def walk_scans(frame: bytes | memoryview, start: int) -> Iterator[Scan]:
    """Yield the headers of the scans from `start` on, at most as many as a stream may have.

    In entropy-coded data no SOS follows an FF, so that the marker alone finds them (T.81 B.1.1.5).
    """
    data = bytes(frame)
    for _ in range(_MOST_MARKERS):
        start = data.find(_SOS_MARKER, start)
        if start < 0 or start + 5 > len(data):
            return
        count = data[start + 4]
        rest = data[start + 5 + 2 * count : start + 8 + 2 * count]
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        if len(rest) == 3 and length == 6 + 2 * count and 0 < count <= _MOST_IN_SCAN:
            ids = data[start + 5 : start + 5 + 2 * count : 2]
            yield Scan(ids, rest[0], rest[1], rest[2] & 15)
        start += 2


def check_scans(header: JpegHeader, frame: bytes | memoryview) -> None:
    """Raise DecodeError where a stream lacks scans: decoders make up what these would hold.

    Of each component, a progressive stream has every coefficient down to its lowest bit, others
    have one scan.
    """
    missing = {(each, at) for each in header.ids for at in range(64)}
    if header.process != SOF_PROGRESSIVE:
        missing = {(each, 0) for each in header.ids}
    for scan in walk_scans(frame, header.end):
        if header.process != SOF_PROGRESSIVE:
            missing -= {(each, 0) for each in scan.ids}
        elif not scan.low_bit:
            missing -= {(each, at) for each in scan.ids for at in range(scan.first, scan.last + 1)}
        if not missing:
            return
    raise DecodeError("cannot decode the frame: its JPEG stream ends early, before its last scan")


def ends_whole(frame: bytes | memoryview) -> bool:
    """Return whether a stream has its end marker; zeros of padding may follow."""
    return bytes(frame[-64:]).rstrip(b"\0").endswith(EOI)
