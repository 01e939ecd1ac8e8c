"""A header as DICOM JSON (PS3.18 annex F).

Values are converted from their bytes one by one: a value that breaks the standard is left out, and
the others are sent.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag

Element = dict[str, Any]
Json = dict[str, Element]

LONGEST_INLINE = 1024  # bytes of a binary value; longer ones are sent by /bulkdata
_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, 0x3D, 0x5C, 0x5E}  # character sets begin anew after them
_DEEPEST = 32  # sequences in sequences

_NUMBERS = {
    "FL": "f",
    "FD": "d",
    "SL": "i",
    "SS": "h",
    "UL": "I",
    "US": "H",
    "SV": "q",
    "UV": "Q",
}
_BINARY = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
_ONE_VALUE = ("LT", "ST", "UR", "UT")
_DEFAULT_CHARACTERS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR")
_WORDS = {  # bytes that Big Endian has in the other order (PS3.5 7.3)
    **dict.fromkeys(("AT", "OW", "SS", "US"), 2),
    **dict.fromkeys(("FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}

BulkUri = Callable[[str], str]  # path of an element -> its URI


def dataset_json(dataset: Dataset, bulk_uri: BulkUri) -> Json:
    """Return a data set in the DICOM JSON model.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Without pixel data.
    bulk_uri : callable
        Returns the URI of the binary value at a path such as `00420011`, or
        `00081115/1/00081199`: tags and item numbers from 1 on.
    """
    return dict(_walk(dataset, bulk_uri, "", (), 0))


def _walk(
    dataset: Dataset, bulk_uri: BulkUri, path: str, outer: tuple[str, ...], depth: int
) -> Iterator[tuple[str, Element]]:
    encodings = _find_encodings(dataset) or outer or (default_encoding,)
    signed = _is_signed(dataset)
    for tag in sorted(dataset.keys()):
        if tag.group == 2 or tag.element == 0 or tag.group == 0xFFFE:
            continue
        name = f"{tag:08X}"
        try:
            element = _convert(dataset, tag, path + name, bulk_uri, encodings, signed, depth)
        except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError) as error:
            if isinstance(error, RecursionError):
                raise
            continue
        if element is not None:
            yield name, element


def _convert(
    dataset: Dataset,
    tag: BaseTag,
    path: str,
    bulk_uri: BulkUri,
    encodings: tuple[str, ...],
    signed: bool,
    depth: int,
) -> Element | None:
    raw = dataset.get_item(tag)
    vr = find_vr(tag, raw.VR, signed=signed)
    if vr == "SQ":
        value = dataset[tag].value  # pydicom parses the items
        if not isinstance(value, DicomSequence) or depth >= _DEEPEST:
            return None
        items = [
            dict(_walk(item, bulk_uri, f"{path}/{number}/", encodings, depth + 1))
            for number, item in enumerate(value, 1)
        ]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if not isinstance(raw, RawDataElement):  # what pydicom itself needs: character sets, signs
        values = raw.value if isinstance(raw.value, MultiValue) else [raw.value]
        kept = [value if isinstance(value, int) else str(value or "") for value in values]
        return {"vr": vr, "Value": kept} if kept != [""] else {"vr": vr}
    order = "<" if raw.is_little_endian else ">"
    return _convert_bytes(vr, raw.value or b"", order, path, bulk_uri, encodings)


def _convert_bytes(
    vr: str, value: bytes, order: str, path: str, bulk_uri: BulkUri, encodings: tuple[str, ...]
) -> Element | None:
    if not value:
        return {"vr": vr}
    if vr in _BINARY:
        if len(value) > LONGEST_INLINE:
            return {"vr": vr, "BulkDataURI": bulk_uri(path)}
        inline = base64.b64encode(little_endian(value, vr, order)).decode()
        return {"vr": vr, "InlineBinary": inline}
    values = _parse_values(vr, value, order, encodings)
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def little_endian(value: bytes, vr: str, order: str) -> bytes:
    """Return a value in little endian, as DICOM JSON and bulk data have it."""
    size = word_size(vr)
    if order == "<" or len(value) % size:
        return value
    return swap_words(value, size)


def word_size(vr: str) -> int:
    """Return how many bytes Big Endian has in the other order; 1 of text and of single bytes."""
    return _WORDS.get(vr, 1)


def swap_words(value: bytes, size: int) -> bytes:
    """Return words of `size` bytes with their bytes in the other order."""
    if size == 1:
        return value
    swapped = bytearray(len(value))
    for at in range(size):
        swapped[at::size] = value[size - 1 - at :: size]
    return bytes(swapped)


def find_vr(tag: BaseTag, vr: str | None, *, signed: bool = False) -> str:
    """Return an element's value representation, of Implicit VR that of the dictionary."""
    if vr in (None, "UN", ""):
        try:
            known = dictionary_VR(tag)
        except KeyError:
            return "UN"
        if vr is not None and known == "SQ":  # UN of a known sequence is left as it is
            return "UN"
        vr = known
    if " or " in vr:  # PS3.6 leaves it to the pixel representation, or to the length
        if "OW" in vr:
            return "OW"
        return "SS" if signed else "US"
    return vr


def _parse_values(vr: str, value: bytes, order: str, encodings: tuple[str, ...]) -> list[Any]:
    if vr in _NUMBERS:
        size = struct.calcsize(_NUMBERS[vr])
        count = len(value) // size
        numbers = struct.unpack(f"{order}{count}{_NUMBERS[vr]}", value[: count * size])
        return [_finite(number) for number in numbers]
    if vr == "AT":
        words = struct.unpack(f"{order}{len(value) // 2}H", value[: len(value) // 2 * 2])
        pairs = zip(words[::2], words[1::2], strict=False)
        return [f"{group:04X}{element:04X}" for group, element in pairs]
    text = _decode(vr, value, encodings)
    if vr in _ONE_VALUE:
        text = text.rstrip(" \0")
        return [text] if text else []
    pieces = [piece.strip(" \0") for piece in text.split("\\")]
    if not any(pieces):
        return []
    if vr == "PN":
        return [_person_name(piece) for piece in pieces]
    if vr == "IS":
        return [int(piece) if piece else None for piece in pieces]
    if vr == "DS":
        return [_decimal(piece) for piece in pieces]
    return [piece or None for piece in pieces]


def _decode(vr: str, value: bytes, encodings: tuple[str, ...]) -> str:
    if vr in _DEFAULT_CHARACTERS:
        return value.decode("latin-1")
    try:
        return decode_bytes(value, list(encodings), _DELIMITERS)
    except (UnicodeError, LookupError, Warning):
        return value.decode("latin-1")


def _person_name(text: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {name: group.strip() for name, group in groups if group.strip()} or None


def _decimal(text: str) -> float | int | None:
    if not text:
        return None
    number = float(text)
    if math.isfinite(number) and number == int(number) and "." not in text and "e" not in text:
        return int(number)
    return number if math.isfinite(number) else None


def _finite(number: float) -> float | str:
    """Return a number, as a string where JSON has none for it (PS3.18 F.2.3.1)."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else ("inf" if number > 0 else "-inf")


def _find_encodings(dataset: Dataset) -> tuple[str, ...]:
    """Return Python's names of a data set's character sets; none where it names none."""
    raw = dataset.get_item(0x00080005) if 0x00080005 in dataset else None
    value = getattr(raw, "value", None)
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip(" \0").split("\\")
    if not value:
        return ()
    names = [value] if isinstance(value, str) else [str(name).strip() for name in value]
    try:
        return tuple(convert_encodings(names))
    except (LookupError, ValueError, Warning):
        return ()


def _is_signed(dataset: Dataset) -> bool:
    raw = dataset.get_item(0x00280103) if 0x00280103 in dataset else None
    value = getattr(raw, "value", None)
    return value in (1, b"\1\0", b"\0\1")
