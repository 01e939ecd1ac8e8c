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
_ALL_COEFFICIENTS = (1 << 64) - 1
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
    least_length : int
        The fewest bytes that a stream of so many samples may have.
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
    least_length: int
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


_LAST: list[tuple[bytes, JpegHeader]] = []  # the header that was parsed last, and its bytes


def parse_jpeg_header(frame: bytes | memoryview) -> JpegHeader:
    """Return the header of a stream that begins with SOI.

    Frames of an instance begin alike: one that begins with the bytes of the header before has it.

    Raises
    ------
    DecodeError
        There is no frame header before the first scan.
    """
    for head, header in _LAST:
        if frame[: header.end] == head:
            return header
    header = _parse_header(frame)
    _LAST[:] = [(bytes(frame[: header.end]), header)]
    return header


def _parse_header(frame: bytes | memoryview) -> JpegHeader:
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
    least = _count_least(code, rows, columns, sampling)
    return JpegHeader(code, body[0], rows, columns, ids, sampling, least, end, has_jfif, adobe)


def _count_least(process: int, rows: int, columns: int, sampling: bytes) -> int:
    """Return the fewest bytes of a Huffman-coded stream of so many samples.

    No code is shorter than a bit. A lossless sample has one; a block of 8 x 8 has one of its first
    coefficient, and in a sequential stream another that ends the block (T.81 F.1.2, G.1.2, H.1.2).
    """
    if process not in _HUFFMAN:
        return 0
    side = 1 if process == SOF_LOSSLESS else 8
    most_across = max([1, *[each >> 4 for each in sampling]]) * side
    most_down = max([1, *[each & 15 for each in sampling]]) * side
    bits = 0
    for each in sampling:
        blocks = -(-rows * (each & 15) // most_down)
        bits += blocks * -(-columns * (each >> 4) // most_across)
    if process not in (SOF_LOSSLESS, SOF_PROGRESSIVE):
        bits *= 2
    return (bits + 7) // 8


def check_length(header: JpegHeader, length: int) -> None:
    """Raise DecodeError where a stream of so many bytes is too short for its samples."""
    if length < header.least_length:
        raise DecodeError(
            f"cannot decode the frame: expected at least {header.least_length} bytes for "
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
    is_progressive = header.process == SOF_PROGRESSIVE
    if not is_progressive and isinstance(frame, bytes):  # most have one scan of all components
        start = frame.find(_SOS_MARKER, header.end)
        if 0 < start < len(frame) - 5 and frame[start + 4] == len(header.ids) <= _MOST_IN_SCAN:
            return
    missing = dict.fromkeys(header.ids, _ALL_COEFFICIENTS)  # a bit each
    for scan in walk_scans(frame, header.end):
        band = _ALL_COEFFICIENTS
        if is_progressive:
            is_whole = scan.first <= scan.last and not scan.low_bit
            band = (2 << min(scan.last, 63)) - (1 << min(scan.first, 63)) if is_whole else 0
        for each in scan.ids:
            missing[each] = missing.get(each, 0) & ~band
        if not any(missing.values()):
            return
    raise DecodeError("cannot decode the frame: its JPEG stream ends early, before its last scan")


def ends_whole(frame: bytes | memoryview) -> bool:
    """Return whether a stream has its end marker; zeros of padding may follow."""
    return bytes(frame[-64:]).rstrip(b"\0").endswith(EOI)
