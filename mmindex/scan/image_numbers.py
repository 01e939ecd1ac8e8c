"""Numbers that ordering and showing need, read from a header (PS3.3 C.7.6, PS3.5 6.2).

Nothing here raises: a value that is too long, or no number, is as good as none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING

from mmindex.image_numbers import NO_NUMBERS, ImageNumbers
from mmindex.scan import tags

if TYPE_CHECKING:
    from mmindex.scan.element import Element
    from mmindex.scan.header import Header

_LONGEST = 256  # bytes of a value; a Decimal String has 16 (PS3.5 6.2)
_KEPT = 512  # values that are kept as numbers, since most are the same through a series
_PADDING = b" \0\t\r\n"
_LARGEST = 1 << 63


def read_image_numbers(header: Header) -> ImageNumbers:
    """Return the numbers that a header has at its top level."""
    buffer, elements = header.buffer, header.data_set.elements
    found = elements.keys() & _PLACES.keys()
    if not found:
        return NO_NUMBERS
    numbers: list[object] = list(NO_NUMBERS)
    for tag in found:
        field, count, read = _PLACES[tag]
        element = elements[tag]
        _, _, _, value_offset, length = element
        if read is not None:
            numbers[field] = read(header, element)
        elif length <= _LONGEST:
            value = bytes(buffer[value_offset : value_offset + length])
            numbers[field] = _parse_one(value) if count == 1 else _parse(value, count)
    if not _GO_BEFORE_RESCALE.isdisjoint(elements):
        numbers[_SLOPE] = numbers[_INTERCEPT] = None
    return ImageNumbers._make(numbers)


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
def _parse(value: bytes, count: int) -> tuple[float, ...] | None:
    """Return the numbers of a Decimal String, None where they are not `count` or one is none."""
    try:
        floats = tuple(map(float, value.strip(_PADDING).split(b"\\")))
    except ValueError:
        return None
    return floats if len(floats) == count and all(map(isfinite, floats)) else None


def _read_whole(header: Header, element: Element) -> int | None:
    """Return the first number of an Integer String, also where it is a decimal one."""
    if element.length > _LONGEST:
        return None
    start = element.value_offset
    number = _parse_one(bytes(header.buffer[start : start + element.length]))
    if number is None or number % 1 or not -_LARGEST <= number < _LARGEST:
        return None
    return int(number)


def _read_binary(header: Header, element: Element) -> int | None:
    """Return the number of a US or UL element."""
    _, _, _, value_offset, length = element
    value = bytes(header.buffer[value_offset : value_offset + min(length, 4)])
    if length not in (2, 4) or len(value) != length:
        return None
    return int.from_bytes(value, "big" if header.encoding.big_endian else "little")


def _read_text(header: Header, element: Element) -> str:
    return header.text(element.tag)


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
_Reader = Callable[["Header", "Element"], object]
# The elements, each with the field that it is in, how many decimals it has, or what reads it.
_READERS: dict[int, tuple[str, int, _Reader | None]] = {
    tags.INSTANCE_NUMBER: ("instance_number", 1, _read_whole),
    tags.RESCALE_SLOPE: ("rescale_slope", 1, None),
    tags.RESCALE_INTERCEPT: ("rescale_intercept", 1, None),
    tags.WINDOW_CENTER: ("window_center", 1, None),
    tags.WINDOW_WIDTH: ("window_width", 1, None),
    tags.PIXEL_SPACING: ("pixel_spacing", 2, None),
    tags.IMAGE_POSITION_PATIENT: ("image_position_patient", 3, None),
    tags.IMAGE_ORIENTATION_PATIENT: ("image_orientation_patient", 6, None),
    tags.TOTAL_PIXEL_MATRIX_COLUMNS: ("total_pixel_matrix_columns", 1, _read_binary),
    tags.TOTAL_PIXEL_MATRIX_ROWS: ("total_pixel_matrix_rows", 1, _read_binary),
    tags.DIMENSION_ORGANIZATION_TYPE: ("dimension_organization_type", 1, _read_text),
    tags.CONCATENATION_UID: ("concatenation_uid", 1, _read_text),
    tags.CONCATENATION_FRAME_OFFSET_NUMBER: (
        "concatenation_frame_offset_number",
        1,
        _read_binary,
    ),
    tags.IN_CONCATENATION_NUMBER: ("in_concatenation_number", 1, _read_binary),
    tags.FRAME_TIME: ("frame_time", 1, None),
}
_PLACES = {
    tag: (ImageNumbers._fields.index(name), count, read)
    for tag, (name, count, read) in _READERS.items()
}
