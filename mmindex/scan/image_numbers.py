"""Numbers that ordering and showing need, read from a header (PS3.3 C.7.6, PS3.5 6.2).

Nothing here raises: a value that is too long, or no number, is as good as none.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING

from mmindex.image_numbers import NO_NUMBERS, ImageNumbers
from mmindex.scan import tags

if TYPE_CHECKING:
    from mmindex.scan.elements import Element
    from mmindex.scan.header import Header

_LONGEST = 256  # bytes of a value; a Decimal String has 16 (PS3.5 6.2)
_PADDING = b" \0\t\r\n"
_LARGEST = 1 << 63


def read_image_numbers(header: Header) -> ImageNumbers:
    """Return the numbers that a header has at its top level."""
    elements = header.data_set.elements
    numbers = {}
    for tag, element in elements.items():
        if tag in _READERS:
            keyword, read = _READERS[tag]
            numbers[keyword] = read(header, element)
    return ImageNumbers(**numbers) if numbers else NO_NUMBERS  # type: ignore[arg-type]


def _read_floats(header: Header, element: Element) -> list[float] | None:
    """Return the numbers of a Decimal String, None where one of them is none."""
    _, _, _, value_offset, length = element
    if length > _LONGEST:
        return None
    value = bytes(header.buffer[value_offset : value_offset + length]).strip(_PADDING)
    try:
        floats = [float(part) for part in value.split(b"\\")]
    except ValueError:
        return None
    return floats if all(map(isfinite, floats)) else None


def _read_float(header: Header, element: Element) -> float | None:
    """Return the first number of a Decimal String."""
    _, _, _, value_offset, length = element
    if length > _LONGEST:
        return None
    value = bytes(header.buffer[value_offset : value_offset + length])
    try:
        number = float(value.partition(b"\\")[0].strip(_PADDING))
    except ValueError:
        return None
    return number if isfinite(number) else None


def _read_whole(header: Header, element: Element) -> int | None:
    """Return the first number of an Integer String, also where it is a decimal one."""
    number = _read_float(header, element)
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


def _read_exactly(count: int) -> Callable[[Header, Element], tuple[float, ...] | None]:
    def read(header: Header, element: Element) -> tuple[float, ...] | None:
        floats = _read_floats(header, element)
        return tuple(floats) if floats is not None and len(floats) == count else None

    return read


_READERS: dict[int, tuple[str, Callable[[Header, Element], object]]] = {
    tags.INSTANCE_NUMBER: ("instance_number", _read_whole),
    tags.RESCALE_SLOPE: ("rescale_slope", _read_float),
    tags.RESCALE_INTERCEPT: ("rescale_intercept", _read_float),
    tags.WINDOW_CENTER: ("window_center", _read_float),
    tags.WINDOW_WIDTH: ("window_width", _read_float),
    tags.PIXEL_SPACING: ("pixel_spacing", _read_exactly(2)),
    tags.IMAGE_POSITION_PATIENT: ("image_position_patient", _read_exactly(3)),
    tags.IMAGE_ORIENTATION_PATIENT: ("image_orientation_patient", _read_exactly(6)),
    tags.TOTAL_PIXEL_MATRIX_COLUMNS: ("total_pixel_matrix_columns", _read_binary),
    tags.TOTAL_PIXEL_MATRIX_ROWS: ("total_pixel_matrix_rows", _read_binary),
    tags.DIMENSION_ORGANIZATION_TYPE: ("dimension_organization_type", _read_text),
    tags.CONCATENATION_UID: ("concatenation_uid", _read_text),
    tags.CONCATENATION_FRAME_OFFSET_NUMBER: (
        "concatenation_frame_offset_number",
        _read_binary,
    ),
    tags.IN_CONCATENATION_NUMBER: ("in_concatenation_number", _read_binary),
    tags.FRAME_TIME: ("frame_time", _read_float),
}
