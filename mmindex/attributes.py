"""The attributes of studies and series that an index keeps, and the packing of their values.

Values are those of the DICOM JSON model (PS3.18 annex F). Knows neither files nor LMDB, and imports
no pydicom, so that listings are fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Element = dict[str, Any]
Json = dict[str, Element]

# PS3.18 table 10.6.3-3 (without what an index counts), what study lists show besides, and what
# tells patients apart.
QIDO_STUDY_ATTRIBUTES = {
    "SpecificCharacterSet": 0x0008_0005,
    "StudyDate": 0x0008_0020,
    "StudyTime": 0x0008_0030,
    "AccessionNumber": 0x0008_0050,
    "ReferringPhysicianName": 0x0008_0090,
    "TimezoneOffsetFromUTC": 0x0008_0201,
    "StudyDescription": 0x0008_1030,
    "PatientName": 0x0010_0010,
    "PatientID": 0x0010_0020,
    "IssuerOfPatientID": 0x0010_0021,
    "PatientBirthDate": 0x0010_0030,
    "PatientSex": 0x0010_0040,
    "StudyID": 0x0020_0010,
}
QIDO_SERIES_ATTRIBUTES = {  # PS3.18 table 10.6.3-4, and when the series was made
    "SeriesDate": 0x0008_0021,
    "SeriesTime": 0x0008_0031,
    "SeriesDescription": 0x0008_103E,
    "SeriesNumber": 0x0020_0011,
    "PerformedProcedureStepStartDate": 0x0040_0244,
    "PerformedProcedureStepStartTime": 0x0040_0245,
    "RequestAttributesSequence": 0x0040_0275,
}
_CHARACTER_SET = 0x0008_0005


@dataclass(frozen=True, slots=True)
class AttributeSet:
    """The attributes that an index keeps, a tag by its keyword.

    Attributes
    ----------
    studies, series : Mapping of str to int
        Those kept of each study, and of each series.
    levels : tuple of frozenset of int
        The tags of both.
    tags : frozenset of int
        All of them, and of (0008,0005) Specific Character Set, which texts are decoded by.
    """

    studies: Mapping[str, int]
    series: Mapping[str, int]
    levels: tuple[frozenset[int], frozenset[int]] = field(init=False, compare=False)
    tags: frozenset[int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        levels = frozenset(self.studies.values()), frozenset(self.series.values())
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "tags", frozenset({_CHARACTER_SET}).union(*levels))

    @property
    def names(self) -> tuple[str, ...]:
        """The keywords of all of them, those of studies first."""
        return (*self.studies, *self.series)

    def pack(self) -> bytes:
        """Return the set as an index has it: JSON with a tag of 8 hex digits by keyword."""
        import json  # most indexes keep no attributes

        levels = {"studies": self.studies, "series": self.series}
        return json.dumps(
            {
                name: {word: f"{tag:08X}" for word, tag in one.items()}
                for name, one in levels.items()
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> AttributeSet:
        """Return the set that was packed.

        Raises
        ------
        ValueError
            The bytes are no such set.
        """
        import json

        try:
            levels = json.loads(packed)
            studies, series = (
                {word: int(tag, 16) for word, tag in levels[name].items()} for name in _LEVELS
            )
            return cls(studies, series)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no set of attributes: {error}") from error


_LEVELS = ("studies", "series")


def pack_values(values: Json) -> bytes:
    """Return values as an index has them: DICOM JSON in UTF-8."""
    import json

    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def unpack_values(packed: bytes) -> Json:
    """Return the values that were packed.

    Raises
    ------
    ValueError
        The bytes are no JSON object.
    """
    import json

    try:
        found = json.loads(packed.decode("utf-8", "surrogatepass"))
    except RecursionError as error:
        raise ValueError("values nest too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("expected a JSON object")
    return found


def name_values(values: Json, names: Mapping[str, int]) -> dict[str, Any]:
    """Return values by keyword, in the order of the tags: those that are there and not empty.

    A text is a str, a number an int or a float; a name is as in the file, its groups with "="
    between; several values are a tuple. The items of a sequence stay in the DICOM JSON model.
    """
    named = {}
    for word, tag in sorted(names.items(), key=lambda pair: pair[1]):
        element = values.get(f"{tag:08X}", {})
        if found := element.get("Value"):
            plain = tuple(map(_join_groups if element["vr"] == "PN" else _fill, found))
            named[word] = plain[0] if len(plain) == 1 else plain
    return named


_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def _join_groups(name: dict[str, str] | None) -> str:
    return "=".join((name or {}).get(group, "") for group in _GROUPS).rstrip("=")


def _fill(value: Any) -> Any:
    return "" if value is None else value
