"""Content negotiation: Accept headers (RFC 9110 12.5.1, PS3.18 8.7) and byte ranges (RFC 9110 14).

What real clients send is accepted, too: `type=` without quotes around a media type, `accept=` in
the query, several headers, lists in any order. A piece that cannot be parsed is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mmindex.scan.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

OCTET_STREAM = "application/octet-stream"
ANYTHING = "*/*"
_IN_ANY_SYNTAX = f'multipart/related; type="{OCTET_STREAM}"; transfer-syntax=*'

_MOST_CHARACTERS = 8192  # of all Accept headers of a request
_LONGEST_KEPT = 512  # characters of a header of which the meaning is kept
# A string without its end takes the rest: else each quote in the rest would be tried again.
_SPLIT = re.compile(r'("(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[^,";]+|[,;"])', re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]*")
_UID = re.compile(r"[0-9.]{1,64}")
_RANGE = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*")


def _suffixed(suffixes: Iterable[str], media_type: str) -> dict[str, str]:
    return {f"1.2.840.10008.1.2.{suffix}": media_type for suffix in suffixes}


FRAME_MEDIA_TYPES = {  # PS3.18 table 8.7.3-5: of compressed frames, by transfer syntax
    **_suffixed(("4.50", "4.51", "4.57", "4.70"), "image/jpeg"),
    **_suffixed((f"4.{process}" for process in (*range(52, 57), *range(58, 67))), "image/jpeg"),
    **_suffixed(("4.80", "4.81"), "image/jls"),
    **_suffixed(("4.90", "4.91"), "image/jp2"),
    **_suffixed(("4.92", "4.93"), "image/jpx"),
    **_suffixed(("4.201", "4.202", "4.203"), "image/jphc"),
    **_suffixed(("4.110", "4.111", "4.112"), "image/jxl"),
    **_suffixed(("5",), "image/dicom-rle"),
}
_NATIVE_SYNTAXES = {
    *(IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN),
    "1.2.840.10008.1.2.1.99",  # deflated
}
_SYNONYMS = {  # what earlier editions of the standard and clients call them
    "image/x-jls": "image/jls",
    "image/x-dicom-rle": "image/dicom-rle",
    "image/dicom+rle": "image/dicom-rle",
    "image/dicom+jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/dicom+jp2": "image/jp2",
    "image/j2k": "image/jp2",
    "image/dicom+jpx": "image/jpx",
    "image/jph": "image/jphc",
}


@dataclass(frozen=True, slots=True)
class Acceptable:
    """One media type that a client takes.

    Attributes
    ----------
    media_type : str
        In lower case; of a multipart message, that of its parts. `*/*` and `image/*` are wild.
    multipart : bool or None
        Whether in `multipart/related`; None where both will do (`*/*`).
    transfer_syntax : str or None
        The UID asked for, `*` for any, None where the client says nothing.
    quality : float
        What the client likes better has more, 0 to 1.
    """

    media_type: str
    multipart: bool | None = False
    transfer_syntax: str | None = None
    quality: float = 1.0

    def matches(self, media_type: str) -> bool:
        """Return whether a media type is one of those meant, wild cards and synonyms included."""
        if self.media_type in (ANYTHING, media_type):
            return True
        kind, _, subtype = self.media_type.partition("/")
        if subtype in ("*", ""):
            return media_type.startswith(kind + "/")
        return _SYNONYMS.get(self.media_type) == media_type


@dataclass(frozen=True, slots=True)
class Choice:
    """The form in which a frame or a file is sent."""

    media_type: str
    multipart: bool
    content_type: bytes  # of the frame, be it a part or the whole body


class NotAcceptableError(Exception):
    """Nothing that the client takes can be sent: status 406."""


def parse_accept(header: str) -> tuple[Acceptable, ...]:
    """Return what a client takes, best first; what cannot be parsed is left out.

    Parameters
    ----------
    header : str
        The Accept headers of a request, joined by commas. Without any, everything is taken.
    """
    return _parse(header) if len(header) <= _LONGEST_KEPT else _parse.__wrapped__(header)


@lru_cache(maxsize=1024)
def _parse(header: str) -> tuple[Acceptable, ...]:
    if not header.strip():
        return (Acceptable(ANYTHING, None),)
    found = []
    for pieces in _split(header[:_MOST_CHARACTERS]):
        acceptable = _parse_acceptable(pieces)
        if acceptable is not None and acceptable.quality > 0:
            found.append(acceptable)
    return tuple(sorted(found, key=lambda one: -one.quality))


def _split(header: str) -> list[list[str]]:
    """Return the media ranges of a header as lists of what semicolons divide."""
    ranges = [[""]]
    for match in _SPLIT.finditer(header):
        piece = match[0]
        if piece == ",":
            ranges.append([""])
        elif piece == ";":
            ranges[-1].append("")
        else:
            ranges[-1][-1] += piece
    return ranges


def _parse_acceptable(pieces: Sequence[str]) -> Acceptable | None:
    media_type = pieces[0].strip().lower()
    if not _MEDIA_TYPE.fullmatch(media_type):
        return None
    parameters = dict(_walk_parameters(pieces[1:]))
    quality = _parse_quality(parameters.get("q", "1"))
    if quality is None:
        return None
    syntax = parameters.get("transfer-syntax")
    if media_type in ("multipart/related", "multipart/*"):
        kind = parameters.get("type", ANYTHING).lower() or ANYTHING
        if not _MEDIA_TYPE.fullmatch(kind):
            return None
        return Acceptable(kind, True, syntax, quality)
    multipart = None if media_type == ANYTHING else False
    return Acceptable(media_type, multipart, syntax, quality)


def _walk_parameters(pieces: Sequence[str]) -> Iterable[tuple[str, str]]:
    for piece in pieces:
        name, _, value = piece.partition("=")
        value = value.strip()
        if value[:1] == '"' and value[-1:] == '"' and len(value) > 1:
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if _TOKEN.fullmatch(name.strip()):
            yield name.strip().lower(), value.strip()


def _parse_quality(text: str) -> float | None:
    if not re.fullmatch(r"[01](\.[0-9]{0,3})?", text):
        return None
    return min(1.0, float(text))


def in_transfer_syntax(media_type: str, transfer_syntax_uid: str) -> bytes:
    """Return a Content-Type that names a transfer syntax; what is no UID stays out of headers."""
    if not _UID.fullmatch(transfer_syntax_uid):
        return media_type.encode()
    return f"{media_type}; transfer-syntax={transfer_syntax_uid}".encode()


def frame_media_type(transfer_syntax_uid: str, *, encapsulated: bool) -> str:
    """Return the media type of frames as stored (PS3.18 table 8.7.3-5)."""
    if not encapsulated:
        return OCTET_STREAM
    return FRAME_MEDIA_TYPES.get(transfer_syntax_uid, OCTET_STREAM)


def choose_frame(header: str, transfer_syntax_uid: str, *, encapsulated: bool) -> Choice:
    """Return how a stored frame is sent to a client that takes `header`.

    A compressed frame goes as its own image type, or as application/octet-stream to a client that
    asks for `transfer-syntax=*` or for the very one: without it, that type means Explicit VR Little
    Endian (PS3.18 8.7.3). Native frames are that, whatever their file's data set is encoded in;
    those of Big Endian are sent only under their own name. Compressed frames in a file that says
    that they are native go to who asks for `transfer-syntax=*`.

    Raises
    ------
    NotAcceptableError
        The client takes no stored form of the frame.
    """
    choose_kept = _choose_frame if len(header) <= _LONGEST_KEPT else _choose_frame.__wrapped__
    return choose_kept(header, transfer_syntax_uid, encapsulated)


@lru_cache(maxsize=4096)
def _choose_frame(header: str, transfer_syntax_uid: str, encapsulated: bool) -> Choice:
    stored = frame_media_type(transfer_syntax_uid, encapsulated=encapsulated)
    sent_as = transfer_syntax_uid
    if not encapsulated and transfer_syntax_uid != EXPLICIT_VR_BIG_ENDIAN:
        sent_as = EXPLICIT_VR_LITTLE_ENDIAN
    known: tuple[str | None, ...] = (None, "*", sent_as, transfer_syntax_uid)
    if encapsulated and transfer_syntax_uid in _NATIVE_SYNTAXES:
        sent_as, known = "", ("*",)  # what the file says of its frames is wrong
    choice = _find_choice(header, stored, sent_as, known)
    if choice is None:
        multipart = f'multipart/related; type="{stored}"', _IN_ANY_SYNTAX
        remedies = [one for one in multipart if _find_choice(one, stored, sent_as, known)]
        raise NotAcceptableError(
            f"the frames are sent as {in_transfer_syntax(stored, sent_as).decode()}: accept "
            + " or ".join(remedies)
        )
    return choice


def _find_choice(
    header: str, stored: str, sent_as: str, known: tuple[str | None, ...]
) -> Choice | None:
    """Return how frames in transfer syntax `sent_as` go to a client, which may ask for `known`."""
    for one in parse_accept(header):
        if one.transfer_syntax not in known:
            continue
        means_little_endian = one.media_type == OCTET_STREAM and one.transfer_syntax is None
        if means_little_endian and sent_as != EXPLICIT_VR_LITTLE_ENDIAN:
            continue
        for media_type in (stored, OCTET_STREAM):
            if one.matches(media_type):
                content_type = in_transfer_syntax(media_type, sent_as)
                return Choice(media_type, one.multipart is not False, content_type)
    return None


def choose(header: str, offered: Sequence[str], what: str) -> str:
    """Return which of the media types offered the client likes best.

    Raises
    ------
    NotAcceptableError
        The client takes none of them.
    """
    for one in parse_accept(header):
        for media_type in offered:
            if one.matches(media_type):
                return media_type
    raise NotAcceptableError(f"{what} is sent as {' or '.join(offered)}")


class UnsatisfiableRangeError(Exception):
    """The range begins after the end: status 416."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range begins after the last of {size} bytes")
        self.size = size


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of a single byte range, half-open; None where all is to be sent.

    Several ranges at once, other units and what cannot be parsed are ignored, as RFC 9110 14.2
    allows.

    Raises
    ------
    UnsatisfiableRangeError
        The range is empty, or begins after the end.
    """
    match = _RANGE.fullmatch(header)
    if match is None or match[0] in ("bytes=-",) or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = int(match[2])
        if not length or not size:
            raise UnsatisfiableRangeError(size)
        return max(0, size - length), size
    start = int(match[1])
    end = int(match[2]) + 1 if match[2] else size
    if match[2] and end <= start:
        return None
    if start >= size:
        raise UnsatisfiableRangeError(size)
    return start, min(end, size)
