"""Numbers that ordering and showing need, read from a header (PS3.3 C.7.6, PS3.5 6.2).

Nothing here raises: a value that is too long, or no number, is as good as none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from math import isfinite
from typing import TYPE_CHECKING

from mmindex.image_numbers import NO_NUMBERS, ImageNumbers
from mmindex.scan import tags

if TYPE_CHECKING:
    from mmindex.scan.header import Header

_LONGEST = 256  # bytes of a value; a Decimal String has 16 (PS3.5 6.2)
_KEPT = 512  # values that are kept as numbers, since most are the same through a series
_PADDING = b" \0\t\r\n"
_LARGEST = 1 << 63


def read_image_numbers(header: Header) -> ImageNumbers:
    """Return the numbers that a header has at its top level."""
    buffer, elements = header.buffer, header.data_set.elements
    found = elements.keys() & _PARSERS.keys()
    if not found:
        return NO_NUMBERS
    numbers: list[object] = list(NO_NUMBERS)
    for tag in found:
        field, parse = _PARSERS[tag]
        _, _, _, start, length = elements[tag]
        if length <= _LONGEST:
            value = bytes(buffer[start : start + length])
            if parse is _parse_binary and header.encoding.big_endian:
                value = value[::-1]
            numbers[field] = parse(value)
    if not elements.keys().isdisjoint(_GO_BEFORE_RESCALE):
        numbers[_SLOPE] = numbers[_INTERCEPT] = None
    return _new(ImageNumbers, numbers)


@lru_cache(_KEPT)
def _parse_one(value: bytes) -> float | None:
    """Return the first number of a Decimal String, None where it is none."""
    try:
        number = float(value)  # most values are one number, padded with a blank
    except ValueError:
        try:
            number = float(value.partition(b"\\")[0].strip(_PADDING))
        except ValueError:
            return None
    return number if isfinite(number) else None


@lru_cache(_KEPT)
def _parse(count: int, value: bytes) -> tuple[float, ...] | None:
    """Return the numbers of a Decimal String, None where they are not `count` or one is none."""
    try:
        floats = tuple(map(float, value.strip(_PADDING).split(b"\\")))
    except ValueError:
        return None
    return floats if len(floats) == count and all(map(isfinite, floats)) else None


@lru_cache(_KEPT)
def _parse_whole(value: bytes) -> int | None:
    """Return the first number of an Integer String, also where it is a decimal one."""
    number = _parse_one(value)
    if number is None or number % 1 or not -_LARGEST <= number < _LARGEST:
        return None
    return int(number)


def _parse_binary(value: bytes) -> int | None:
    """Return the number of a US or UL element in Little Endian."""
    return int.from_bytes(value, "little") if len(value) in (2, 4) else None


def _parse_text(value: bytes) -> str:
    return value.strip(_PADDING).decode("latin-1")


_new = tuple.__new__
_SLOPE = ImageNumbers._fields.index("rescale_slope")
_INTERCEPT = ImageNumbers._fields.index("rescale_intercept")
# Each may say another rescale, of some frames or of all (PS3.3 C.11.1).
_GO_BEFORE_RESCALE = frozenset(
    {
        tags.MODALITY_LUT_SEQUENCE,
        tags.SHARED_FUNCTIONAL_GROUPS,
        tags.PER_FRAME_FUNCTIONAL_GROUPS,
    }
)
_FIELDS: dict[str, tuple[int, Callable[[bytes], object]]] = {  # with the element of each
    "instance_number": (tags.INSTANCE_NUMBER, _parse_whole),
    "rescale_slope": (tags.RESCALE_SLOPE, _parse_one),
    "rescale_intercept": (tags.RESCALE_INTERCEPT, _parse_one),
    "window_center": (tags.WINDOW_CENTER, _parse_one),
    "window_width": (tags.WINDOW_WIDTH, _parse_one),
    "pixel_spacing": (tags.PIXEL_SPACING, partial(_parse, 2)),
    "image_position_patient": (tags.IMAGE_POSITION_PATIENT, partial(_parse, 3)),
    "image_orientation_patient": (tags.IMAGE_ORIENTATION_PATIENT, partial(_parse, 6)),
    "total_pixel_matrix_columns": (tags.TOTAL_PIXEL_MATRIX_COLUMNS, _parse_binary),
    "total_pixel_matrix_rows": (tags.TOTAL_PIXEL_MATRIX_ROWS, _parse_binary),
    "dimension_organization_type": (tags.DIMENSION_ORGANIZATION_TYPE, _parse_text),
    "concatenation_uid": (tags.CONCATENATION_UID, _parse_text),
    "concatenation_frame_offset_number": (
        tags.CONCATENATION_FRAME_OFFSET_NUMBER,
        _parse_binary,
    ),
    "in_concatenation_number": (tags.IN_CONCATENATION_NUMBER, _parse_binary),
    "frame_time": (tags.FRAME_TIME, _parse_one),
}
_PARSERS = {
    tag: (ImageNumbers._fields.index(name), parse) for name, (tag, parse) in _FIELDS.items()
}
