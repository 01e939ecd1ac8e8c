"""The attributes of studies and series that a build keeps, and their values from a header.

pydicom, which decodes text, is imported only where attributes are kept.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable
from functools import lru_cache

from mmindex.attributes import (
    QIDO_SERIES_ATTRIBUTES,
    QIDO_STUDY_ATTRIBUTES,
    AttributeSet,
    Element,
    pack_values,
)
from mmindex.scan.header import Header
from mmindex.scan.values import StoredValue, read_values

QIDO, NONE = "qido", "none"
_MOST_NAMED = 100
_LONGEST_VALUE = 4096  # bytes of an element
_MOST_PACKED = 1 << 15  # bytes of a study's or series' values
_CHARACTER_SET = 0x0008_0005
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_STUDY_GROUP = 0x0010  # of patients
_OF_STUDIES = frozenset(  # besides: PS3.3 C.7.2, PS3.4 C.6.2.1
    {
        *QIDO_STUDY_ATTRIBUTES.values(),
        *(0x0008_0051, 0x0008_0080, 0x0008_0081, 0x0008_009C, 0x0008_1010, 0x0008_1032),
        *(0x0008_1048, 0x0008_1049, 0x0008_1060, 0x0008_1080, 0x0008_1110),
        *(0x0032_1032, 0x0032_1033, 0x0032_1060, 0x0032_4000),
    }
)
_OF_HOSTILE_VALUES = (  # what pydicom raises of them
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError),
    *(NotImplementedError, RecursionError, TypeError, ValueError, struct.error),
)
_IN_EVERY_RECORD = frozenset({0x0008_0018, 0x0020_000D, 0x0020_000E})


def check_attributes(names: str | Iterable[str]) -> None:
    """Raise ValueError where a name is none of an attribute that can be kept."""
    if names:
        parse_attributes(names)


def parse_attributes(names: str | Iterable[str]) -> AttributeSet | None:
    """Return the attributes that names stand for; None for "none".

    Parameters
    ----------
    names : str or iterable of str
        "qido": the attributes that queries return (PS3.18 10.6.3); "none"; keywords or tags of 8
        hex digits; in a str with commas between.

    Raises
    ------
    ValueError
        A name is no attribute, or one that cannot be kept: private, binary, of the file's meta
        information, or a UID that every record has.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted]
    if wanted == [NONE]:
        return None
    studies, series = {}, {}
    for name in wanted:
        if name == QIDO:
            studies.update(QIDO_STUDY_ATTRIBUTES)
            series.update(QIDO_SERIES_ATTRIBUTES)
            continue
        word, tag = _find_attribute(name)
        is_of_study = tag >> 16 == _STUDY_GROUP or tag in _OF_STUDIES
        (studies if is_of_study else series)[word] = tag
    if len(studies) + len(series) > _MOST_NAMED:
        raise ValueError(f"expected at most {_MOST_NAMED} attributes")
    return AttributeSet(dict(sorted(studies.items())), dict(sorted(series.items())))


def _find_attribute(name: str) -> tuple[str, int]:
    """Return keyword and tag of an attribute that can be kept."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

    tag = tag_for_keyword(name)
    if tag is None and len(name) == 8:
        try:
            tag = int(name, 16)
        except ValueError:
            tag = None
    word = keyword_for_tag(tag) if tag is not None else ""
    if tag is not None and tag >> 16 & 1:
        raise ValueError(f"{name!r} is private: what it means differs from file to file")
    if tag is None or not word:
        raise ValueError(f"expected a keyword or tag of an attribute, found {name!r}{_hint(name)}")
    vrs = dictionary_VR(tag).split(" or ")
    if tag >> 16 in (0x0000, 0x0002, 0xFFFE) or not _BINARY.isdisjoint(vrs) or tag & 0xFFFF == 0:
        raise ValueError(f"{name!r} is binary or no attribute of the data set: it cannot be kept")
    if tag in _IN_EVERY_RECORD:
        raise ValueError(f"{name!r} is in every index: leave it out")
    return word, tag


def _hint(name: str) -> str:
    from difflib import get_close_matches

    from pydicom.datadict import keyword_dict

    by_lower = {word.lower(): word for word in (*keyword_dict, QIDO, NONE) if word}
    near = [by_lower[found] for found in get_close_matches(name.lower(), by_lower, 2, 0.7)]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def import_decoder() -> None:
    """Import what decodes values, so that no file's scan takes the time."""
    import mmindex.dicom_json  # noqa: F401


def wanted_tags(kept: AttributeSet | None) -> frozenset[int]:
    """Return the tags of the elements that a scan needs for these attributes."""
    return frozenset() if kept is None else kept.tags


def decode_attributes(header: Header, kept: AttributeSet) -> tuple[bytes, bytes]:
    """Return the values that a header has of the attributes of its study and of its series, packed.

    Values that break the standard or are longer than 4,096 bytes are left out, and the last ones
    of over 32 KiB together. Texts are decoded by the header's Specific Character Set.
    """
    stored = read_values(header, kept.tags, _LONGEST_VALUE)
    return _decode(stored, header.encoding.big_endian, kept.levels)


@lru_cache(64)  # the files of a series have the same values
def _decode(
    stored: tuple[StoredValue, ...], big_endian: bool, levels: tuple[frozenset[int], frozenset[int]]
) -> tuple[bytes, bytes]:
    character_set = next((value for value in stored if value[0] == _CHARACTER_SET), None)
    decoded = {}
    for value in sorted(stored):
        element = _decode_one(value, character_set, big_endian)
        if element is not None:
            decoded[value[0]] = element
    of_study, of_series = (
        _pack({tag: element for tag, element in decoded.items() if tag in level})
        for level in levels
    )
    return of_study, of_series


def _decode_one(
    value: StoredValue, character_set: StoredValue | None, big_endian: bool
) -> Element | None:
    """Return an element in the DICOM JSON model; None where its value breaks the standard."""
    from pydicom import Dataset
    from pydicom.dataelem import DataElement, RawDataElement
    from pydicom.tag import BaseTag

    from mmindex.dicom_json import dataset_json

    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag, vr, content in (value, character_set or value):
        raw = RawDataElement(
            BaseTag(tag), vr or None, len(content), content, 0, not vr, not big_endian
        )
        elements[BaseTag(tag)] = raw
    with warnings.catch_warnings():  # which would print values
        warnings.simplefilter("ignore")
        try:
            return dataset_json(Dataset(elements), _refuse).get(f"{value[0]:08X}")
        except _OF_HOSTILE_VALUES:
            return None


def _pack(decoded: dict[int, Element]) -> bytes:
    """Return elements as an index has them, without the last ones where they are too long."""
    packed = pack_values({f"{tag:08X}": element for tag, element in decoded.items()})
    while len(packed) > _MOST_PACKED:
        decoded.popitem()
        packed = pack_values({f"{tag:08X}": element for tag, element in decoded.items()})
    return packed


def _refuse(path: str) -> str:
    raise ValueError("a binary value is not kept")
