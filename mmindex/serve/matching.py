"""Attribute matching of queries (PS3.4 C.2.2.2, PS3.18 8.3.4): wild cards, ranges, lists."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from mmindex.dicom_json import Element, Json
from mmindex.serve.errors import RequestError

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_RANGED = ("DA", "TM", "DT")
_NUMERIC = ("IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD")
_LONGEST_VALUE = 4096  # characters; a list of UIDs may be long

Path = tuple[str, ...]  # tags from a sequence down to an attribute


def find_path(name: str) -> Path | None:
    """Return the tags of an attribute named by keyword or tag, with dots below sequences.

    None is returned for what names no attribute.
    """
    path = tuple(_find_tag(piece) or "" for piece in name.split(".", 8))
    return path if all(path) else None


def _find_tag(name: str) -> str | None:
    if _TAG.fullmatch(name):
        return name.upper()
    tag = tag_for_keyword(name)
    return None if tag is None else f"{tag:08X}"


def keyword(tag: str) -> str:
    """Return the keyword of a tag, empty where the dictionary has none."""
    return keyword_for_tag(int(tag, 16))


def vr_of(tag: str) -> str:
    """Return the value representation that the dictionary has for a tag, else UN."""
    try:
        return dictionary_VR(int(tag, 16)).partition(" ")[0]
    except KeyError:
        return "UN"


def matches(found: Json, path: Path, wanted: str) -> bool:
    """Return whether a data set has the value that a query wants.

    An empty value and `*` match everything (universal matching).
    """
    if wanted in ("", "*"):
        return True
    return any(_matches_element(element, wanted) for element in _walk_elements(found, path))


def _walk_elements(found: Json, path: Path) -> Iterator[Element]:
    element = found.get(path[0])
    if element is None:
        return
    if len(path) == 1:
        yield element
        return
    for item in element.get("Value", ()):
        if isinstance(item, dict):
            yield from _walk_elements(item, path[1:])


def _matches_element(element: Element, wanted: str) -> bool:
    vr = element["vr"]
    for value in element.get("Value", ()):
        texts = value.values() if vr == "PN" and isinstance(value, dict) else [_text(value)]
        if any(match_value(vr, str(text), wanted) for text in texts):
            return True
    return False


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def match_value(vr: str, value: str, wanted: str) -> bool:
    """Return whether one value is what a query wants.

    Parameters
    ----------
    vr : str
        Its value representation: dates and times match ranges, UIDs lists, names without regard
        to case and accents, other text by `*` and `?`.
    value, wanted : str
        The value, and the query's.
    """
    if vr in _RANGED and "-" in wanted:
        return _in_range(value, wanted)
    if vr in _RANGED:
        return value == wanted or (vr == "TM" and _same_time(value, wanted))
    if vr in _NUMERIC:
        return any(_same_number(value, one) for one in split_list(wanted))
    if vr in ("UI", "AT"):
        return value in split_list(wanted)
    if vr == "PN":
        value, wanted = _fold(value), _fold(wanted)
    return any(_compile(pattern).fullmatch(value) is not None for pattern in wanted.split("\\"))


def split_list(wanted: str) -> Sequence[str]:
    """Return the values of a list, with commas or backslashes between."""
    return [one.strip() for one in re.split(r"[,\\]", wanted)]


def _same_number(value: str, wanted: str) -> bool:
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False


def _same_time(value: str, wanted: str) -> bool:
    return value.split(".")[0].ljust(6, "0") == wanted.split(".")[0].ljust(6, "0")


def _in_range(value: str, wanted: str) -> bool:
    """Return whether a date or time is in `a-b`, `a-` or `-b`, both ends included."""
    first, _, last = wanted.partition("-")
    first, last = first.strip(), last.strip()
    if not value:
        return False
    if first and value < first:
        return False
    return not last or value[: len(last)] <= last


def _fold(text: str) -> str:
    """Return a name for comparison: without case, accents and empty components."""
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in decomposed if not unicodedata.combining(char))
    return bare.casefold().rstrip("^ ")


@lru_cache(maxsize=256)
def _compile(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern with `*` and `?`; it never backtracks far.

    Each `*` takes as little as it can and is final (an atomic group), so that a pattern of many
    stars costs the length of the value a star.
    """
    if len(pattern) > _LONGEST_VALUE:
        raise RequestError(400, "a value to be matched is too long")
    pieces = re.sub(r"\*+", "*", pattern).split("*")
    quoted = ["".join("." if char == "?" else re.escape(char) for char in one) for one in pieces]
    if len(quoted) == 1:
        return re.compile(quoted[0], re.DOTALL)
    middle = "".join(f"(?>.*?{one})" for one in quoted[1:-1])
    return re.compile(f"{quoted[0]}{middle}.*{quoted[-1]}", re.DOTALL)
