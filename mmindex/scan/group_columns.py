"""Values that frames have, by name, and how many frames of them become arrays (PS3.5 6.2).

Where the values stand is in functional_groups.py; nothing here walks a data set.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.errors import FormatError
from mmindex.scan.encoding import Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING_NUMBER = -(1 << 31)  # of a whole number that a frame does not have
LONGEST_VALUE = 1024  # bytes
_LONGEST_LIST = 1 << 24  # of decimals, a value a frame
_MOST_CELLS = 1 << 27  # of a column: each row is as wide as the widest
PADDING = b" \0\t\r\n"
BINARY = {
    "double": {8: "d"},
    "signed": {2: "h", 4: "i"},
    "unsigned": {2: "H", 4: "I"},
}
_SIZES = {"FD": 8, "SL": 4, "SS": 2, "UL": 4, "US": 2}  # bytes of a binary number
_BINARY_VRS = {"double": ("FD",), "signed": ("SL", "SS", "UL", "US")}
_BINARY_VRS["unsigned"] = _BINARY_VRS["signed"]
_TEXT_VRS = (
    *("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT"),
    *("PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"),
)


class Column(NamedTuple):
    """A value that frames have: its name, how the value is read, and how many a frame has.

    `kind` is "number" (Decimal String), "double", "signed" or "unsigned" (2 or 4 bytes), or "text";
    `width` is 0 where the number of values differs from file to file.
    """

    name: str
    kind: str
    width: int = 1


def longest_value(column: Column) -> int:
    """Return the length up to which a column's values are read, in bytes."""
    return LONGEST_VALUE if column.width or column.kind != "number" else _LONGEST_LIST


def freeze(values: Sequence[object]) -> NDArray[np.generic]:
    """Return values as a read-only array: float64, int64, or str."""
    array = np.array(values)
    array.flags.writeable = False
    return array


def has_form(column: Column, vr: str, length: int) -> bool:
    """Return whether a value of this representation and length can be one of a column's.

    One of another kind would be read as a number that the file does not have. Bytes whose
    representation is unknown (UN) have the form that the standard gives their tag.
    """
    if vr == "UN" or not length:
        return True
    if column.kind not in BINARY:
        return vr in _TEXT_VRS
    if vr not in _BINARY_VRS[column.kind]:
        return False
    size = _SIZES[vr]
    return length == size if column.width == 1 else size == 4 and length % size == 0


Tree = dict[int, "Tree | Column"]
Values = dict[Column, object]
# Of each column, values and the indices of the frames that have them, in several parts.
Parts = dict[Column, list[tuple["NDArray[np.int64]", "Sequence[object] | NDArray[np.generic]"]]]


def read_value(column: Column, value: bytes, encoding: Encoding) -> object:
    """Return a value as its column has it, None where it is empty or is none of its kind."""
    if column.kind == "text":
        return value.strip(PADDING).decode("latin-1") or None
    numbers: list[float] | list[int]
    if column.kind == "number":
        try:
            numbers = parse_decimals(value.strip(PADDING))
        except ValueError:
            return None
    else:
        letters = BINARY[column.kind]
        size = max(letters) if len(value) % max(letters) == 0 else min(letters)
        count = len(value) // size
        numbers = list(struct.unpack_from(f"{encoding.byte_order}{count}{letters[size]}", value))
    if column.width == 1:
        return numbers[0] if numbers else None
    return tuple(numbers) if len(numbers) == column.width or not column.width else None


def parse_decimals(text: bytes) -> list[float]:
    """Return the numbers of Decimal Strings (PS3.5 6.2).

    Raises
    ------
    ValueError
        One is none, though Python may read it: NaN, infinity, digits with underscores.
    """
    numbers = [float(part) for part in text.split(b"\\")]
    if b"_" in text or not all(map(isfinite, numbers)):
        raise ValueError(f"no decimal numbers: {text[:80]!r}")
    return numbers


def stack_values(
    count: int, parts: Parts, shared: Mapping[Column, object]
) -> dict[str, NDArray[np.generic]]:
    """Return the values of `count` frames, a column an array; `shared` has those of all others."""
    found: dict[str, NDArray[np.generic]] = {}
    for column in sorted({*parts, *shared}):
        if column in parts:
            array = _stack(column, count, parts[column], shared.get(column))
        else:  # in the memory of one frame
            one = _stack(column, 1, (), shared[column])
            array = np.broadcast_to(one, (count, *one.shape[1:]))
        array.flags.writeable = False
        found[column.name] = array
    return found


def _stack(
    column: Column,
    count: int,
    parts: Sequence[tuple[NDArray[np.int64], Sequence[object] | NDArray[np.generic]]],
    default: object,
) -> NDArray[np.generic]:
    if column.kind == "text":
        longest = max(
            [len(str(default or "")), *(len(str(each)) for _, some in parts for each in some)]
        )
        _check_width(column, longest, count, "characters")
        names = ["" if default is None else str(default)] * count
        for indices, values in parts:
            for index, value in zip(indices.tolist(), values, strict=True):
                names[index] = str(value)
        return np.array(names, str)
    dtype = np.float64 if column.kind in ("number", "double") else np.int64
    fill = nan if dtype is np.float64 else MISSING_NUMBER
    if column.width == 1:
        numbers = np.full(count, fill if default is None else default, dtype)
        for indices, values in parts:
            numbers[indices] = np.asarray(values)
        return numbers
    shared = default if isinstance(default, tuple) else ()
    width = max(
        [len(shared) or 1, *(len(row) for _, rows in parts for row in _widest(rows))]  # type: ignore[arg-type]
    )
    _check_width(column, width, count, "numbers")
    table = np.full((count, width), fill, dtype)
    table[:, : len(shared)] = shared
    for indices, rows in parts:
        if isinstance(rows, np.ndarray):
            table[indices, : rows.shape[1]] = rows
            table[indices, rows.shape[1] :] = fill
            continue
        for index, row in zip(indices.tolist(), rows, strict=True):
            assert isinstance(row, tuple)
            table[index] = (*row, *(fill,) * (width - len(row)))
    return table


def _check_width(column: Column, width: int, count: int, unit: str) -> None:
    """Raise FormatError where one long value makes the column of many frames very large."""
    if width * count > _MOST_CELLS:
        raise FormatError(
            f"expected a short {column.name} of {count} frames, found one of {width} {unit}"
        )


def _widest(rows: Sequence[object] | NDArray[np.generic]) -> Sequence[object] | NDArray[np.generic]:
    """Return the rows of which one is the widest: of an array, the first."""
    return rows[:1] if isinstance(rows, np.ndarray) else rows
