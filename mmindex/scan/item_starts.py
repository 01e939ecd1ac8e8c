"""The beginnings of the items of a sequence, found before any of them is read (PS3.5 7.5)."""

from __future__ import annotations

import re
import struct
from array import array
from typing import TYPE_CHECKING

import numpy as np

from mmindex.model import Buffer
from mmindex.scan.encoding import UNDEFINED_LENGTH, Encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]

FEWEST = 16  # items from which numpy is faster
_RUN_TRIES = 8  # short runs of items of one length after which no more are looked for
_BOUNDARY = re.compile(rb"(?=\xfe\xff\x0d\xe0\0{4}\xfe\xff\x00\xe0\xff{4})")


class OddError(Exception):
    """Items that are not alike, or not as the standard asks for."""


def find_items(
    buffer: Buffer, start: int, end: int, encoding: Encoding, most: int
) -> tuple[Positions, int | None]:
    """Return where each item begins, and where the items end: None where only a walk shows it.

    Beginnings of items of undefined length are guesses: each item has to end at the next one.
    """
    unpack, position, found = struct.Struct("<II").unpack_from, start, array("q")
    tries = _RUN_TRIES
    while position + 8 <= end and len(found) <= most:
        raw_tag, length = unpack(buffer, position)
        if tries and raw_tag == encoding.item and length != UNDEFINED_LENGTH:
            run = _count_alike(buffer, position, min(end, position + (8 + length) * most))
            tries = _RUN_TRIES if run >= FEWEST else tries - 1
            if run > 1:
                stride = 8 + length
                found.frombytes(np.arange(position, position + stride * run, stride).tobytes())
                position += stride * run
                continue
        if raw_tag == encoding.sequence_end:
            break
        if raw_tag != encoding.item:
            raise OddError
        if length == UNDEFINED_LENGTH:
            if found:
                raise OddError
            return _find_undefined(buffer, position, end, most), None
        found.append(position)
        position += 8 + length
        if position > end:
            raise OddError
    return np.array(found, np.int64), position


def _count_alike(buffer: Buffer, position: int, end: int) -> int:
    """Return how many items of one length follow each other from a position on."""
    (head,) = struct.unpack_from("<Q", buffer, position)
    stride = 8 + (head >> 32)
    count, most = 0, (end - position) // stride
    while count < most:
        some = min(most - count, max(FEWEST, count))
        heads = np.ndarray((some,), "<u8", buffer, position + stride * count, (stride,))
        odd = np.flatnonzero(heads != head)
        if len(odd):
            return count + int(odd[0])
        count += some
    return count


def _find_undefined(buffer: Buffer, start: int, end: int, most: int) -> Positions:
    """Return where items seem to begin: after an item's end, with the tag of the first item."""
    first, found = bytes(buffer[start + 8 : start + 12]), array("q", [start])
    for match in _BOUNDARY.finditer(buffer, start, end):
        position = match.start() + 8
        if buffer[position + 8 : position + 12] == first:
            found.append(position)
            if len(found) > most:
                raise OddError
    return np.array(found, np.int64)
