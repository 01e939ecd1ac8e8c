"""Checks of many leaves of a tree at once, as arrays; see `page_check.py`.

The leaves that pass are surely sound. Of the others nothing is said: they are checked one by one,
which also says what is wrong.
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEAD, _NODE_HEAD = 16, 8  # bytes of the header of a page, and of a node
_NUMBER = 8  # bytes of the number of a page
_OVERFLOW = np.dtype([("number", "<u8"), ("unused", "<u2"), ("flags", "<u2"), ("pages", "<u4")])
_LEAF, _OVERFLOWING, _KINDS = 2, 4, 0x2F
_LONGEST_KEY = 511  # bytes
_MOST_WORDS = 1 << 20  # of keys together; more of them are in overlapping nodes, which are damage
_WORD = 8  # bytes of a key that are compared at once
# By how many bytes of a word belong to a key: the bits of these, in big-endian order.
_MASKS = np.array([(1 << 64) - (1 << 64 - 8 * count) for count in range(_WORD + 1)], np.uint64)

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class SoundLeaf(NamedTuple):
    """A leaf whose nodes are sound: how many there are, the first key and the last one."""

    entries: int
    first: bytes
    last: bytes


def find_sound_leaves(data: mmap.mmap, size: int, numbers: list[int]) -> list[SoundLeaf | None]:
    """Return what the leaves with these page numbers hold, None for those that need a closer look.

    Parameters
    ----------
    data : mmap
        The file.
    size : int
        Bytes of a page.
    numbers : list of int
        The pages.
    """
    unknown: list[SoundLeaf | None] = [None] * len(numbers)
    if not all(2 <= number < len(data) // size for number in numbers):
        return unknown
    leaves = _Leaves(data, size, np.array(numbers, np.int64))
    if leaves.count_words() > _MOST_WORDS:
        return unknown
    leaves.check_order()
    leaves.check_long_values()
    return leaves.describe()


class _Leaves:
    """Pages of a file, and their nodes as columns, a value a node.

    A page that is not as it has to be has no nodes here. A node that is not makes its page unknown;
    its values are of no use then, but lead nowhere outside of the file.
    """

    def __init__(self, data: mmap.mmap, size: int, numbers: Numbers) -> None:
        self._data, self._size = data, size
        self._count = len(data) // size
        self._pages = np.frombuffer(data, "<u2", self._count * size // 2).reshape(-1, size // 2)
        heads = self._pages[numbers, : _HEAD // 2].copy()
        lower, upper = heads[:, 6].astype(np.int64), heads[:, 7]
        self._sound = heads.view("<u8")[:, 0] == numbers.astype(np.uint64)
        self._sound &= heads[:, 5] & _KINDS == _LEAF
        self._sound &= (lower >= _HEAD + 2) & (lower <= upper) & (upper <= size)
        self._counts = np.where(self._sound, (lower - _HEAD) // 2, 0)
        self._ends = self._counts.cumsum()
        self._rows = np.repeat(np.arange(len(numbers)), self._counts)
        self._numbers = numbers[self._rows]
        place = np.arange(len(self._rows)) - (self._ends - self._counts)[self._rows]
        offsets = self._pages[self._numbers, _HEAD // 2 + place].astype(np.int64)
        is_wrong = (offsets < _HEAD) | (offsets > size - _NODE_HEAD) | (offsets % 2 > 0)
        offsets = np.where(is_wrong, _HEAD, offsets)
        at = offsets // 2
        low, high, self._flags, self._key_lengths = (
            self._pages[self._numbers, at + field].astype(np.int64) for field in range(4)
        )
        self._lengths = low | high << 16
        self._key_at = offsets + _NODE_HEAD  # in the page
        self._value_at = self._key_at + self._key_lengths
        is_long = self._flags == 1
        ends = self._value_at + np.where(is_long, _NUMBER, self._lengths)
        is_wrong |= (self._flags > 1) | (self._key_lengths > _LONGEST_KEY) | (ends > size)
        self._drop(is_wrong | is_long & (self._value_at % 2 > 0))

    def _drop(self, wrong: Flags | Numbers) -> None:
        """Let the pages of these nodes, by flags or numbers, be unknown."""
        self._sound[self._rows[wrong]] = False

    def _longest_key(self) -> int:
        """Return the length of the longest key of the pages that are still sound, in bytes."""
        return int(self._key_lengths[self._sound[self._rows]].max(initial=0))

    def count_words(self) -> int:
        """Return how many words are compared at most."""
        return len(self._rows) * (self._longest_key() // _WORD + 1)

    def check_order(self) -> None:
        """Drop pages whose keys do not ascend.

        Keys are compared in words with zeros after their ends, and of equal ones by their lengths:
        that is the order of their bytes.
        """
        length = len(self._data) - _WORD + 1
        words = np.ndarray(length, ">u8", self._data, strides=(1,))  # a word from every byte on
        start = self._numbers * self._size + self._key_at
        ascends = np.zeros(max(len(start) - 1, 0), np.bool_)
        is_equal = ~ascends
        for at in range(0, self._longest_key(), _WORD):
            left = np.clip(self._key_lengths - at, 0, _WORD)
            word = words[np.clip(start + at, 0, length - 1)].astype(np.uint64)
            # The last bytes of the file have no whole word: a key there ends in zeros.
            word = word << _shift_past(start + at, length) & _MASKS[left]
            ascends |= is_equal & (word[:-1] < word[1:])
            is_equal &= word[:-1] == word[1:]
        ascends |= is_equal & (self._key_lengths[:-1] < self._key_lengths[1:])
        disordered = ~ascends & (self._rows[:-1] == self._rows[1:])
        self._drop(np.flatnonzero(disordered))

    def check_long_values(self) -> None:
        """Drop pages with a long value whose own pages are not as they have to be."""
        long = np.flatnonzero((self._flags == 1) & self._sound[self._rows])
        if not len(long):
            return
        at, numbers = self._value_at[long] // 2, self._numbers[long]
        first = np.zeros(len(long), np.uint64)
        for part in range(4):
            piece = self._pages[numbers, at + part].astype(np.uint64)
            first |= piece << np.uint64(16 * part)
        is_wrong = (first < 2) | (first >= self._count)
        found = np.where(is_wrong, 2, first).astype(np.int64)
        heads = self._pages[found, : _HEAD // 2].copy().view(_OVERFLOW)[:, 0]
        length = heads["pages"].astype(np.int64) * self._size
        is_wrong |= (heads["number"] != first) | (heads["flags"] & _KINDS != _OVERFLOWING)
        is_wrong |= self._lengths[long] + _HEAD > length
        is_wrong |= length > (self._count - found) * self._size
        self._drop(long[is_wrong])

    def describe(self) -> list[SoundLeaf | None]:
        """Return what the pages hold, None for those that are unknown."""
        start = self._numbers * self._size + self._key_at
        end = start + self._key_lengths
        rows = np.flatnonzero(self._sound)
        first, last = self._ends[rows] - self._counts[rows], self._ends[rows] - 1
        columns = rows, self._counts[rows], start[first], end[first], start[last], end[last]
        leaves: list[SoundLeaf | None] = [None] * len(self._sound)
        for row, count, *ends in zip(*(column.tolist() for column in columns), strict=True):
            first_key, last_key = self._data[ends[0] : ends[1]], self._data[ends[2] : ends[3]]
            leaves[row] = SoundLeaf(count, first_key, last_key)
        return leaves


def _shift_past(start: Numbers, length: int) -> NDArray[np.uint64]:
    """Return the bits of a word that was read too early since the last whole one was passed."""
    return (np.clip(start - (length - 1), 0, _WORD - 1) * 8).astype(np.uint64)
