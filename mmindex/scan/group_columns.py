"""Values that frames have, by name, and how many frames of them become arrays (PS3.5 6.2).

Where the values stand is in functional_groups.py; nothing here walks a data set.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.scan.encoding import Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING_NUMBER = -(1 << 31)  # of a whole number that a frame does not have
LONGEST_VALUE = 1024  # bytes
PADDING = b" \0\t\r\n"
BINARY = {
    "double": {8: "d"},
    "signed": {2: "h", 4: "i"},
    "unsigned": {2: "H", 4: "I"},
}


class Column(NamedTuple):
    """A value that frames have: its name, how the value is read, and how many a frame has.

    `kind` is "number" (Decimal String), "double", "signed" or "unsigned" (2 or 4 bytes), or "text";
    `width` is 0 where the number of values differs from file to file.
    """

    name: str
    kind: str
    width: int = 1


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
            numbers = [float(part) for part in value.strip(PADDING).split(b"\\")]
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


def stack_values(
    count: int, parts: Parts, shared: Mapping[Column, object]
) -> dict[str, NDArray[np.generic]]:
    """Return the values of `count` frames, a column an array; `shared` has those of all others."""
    found: dict[str, NDArray[np.generic]] = {}
    for column in sorted({*parts, *shared}):
        array = _stack(column, count, parts.get(column, []), shared.get(column))
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


def _widest(rows: Sequence[object] | NDArray[np.generic]) -> Sequence[object] | NDArray[np.generic]:
    """Return the rows of which one is the widest: of an array, the first."""
    return rows[:1] if isinstance(rows, np.ndarray) else rows
