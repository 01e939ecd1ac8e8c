"""Checks of the pages of a database, which LMDB itself does not check when it follows them.

A page that a key leads to is checked by LMDB; one that follows in order is not, and a page of zeros
or of something else ends the process (an assertion), or leads out of the map (SIGBUS). The pages of
a tree are therefore checked before all of it is read, which costs little beside that. The layout is
that of LMDB 0.9, which has data format 1, on a 64-bit little-endian machine; pages of another
layout are not checked.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice, pairwise
from operator import lt
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from mmindex.index.names import LMDB_MAGIC

if TYPE_CHECKING:
    from mmindex.index.lmdb.leaf_check import SoundLeaf

_META = struct.Struct("<16x4sI16x")  # page header; magic, data version; address, map length
# Page size in the first tree of a meta page, else length of keys; flags, depth, entries, root.
_TREE = struct.Struct("<IHH24xQQ")
_LAST_PAGE_AND_ID = struct.Struct("<QQ")  # of the transaction that wrote a meta page
_PAGE = struct.Struct("<QHHHH")  # number, length of keys, flags; where free space begins and ends
_OVERFLOW = struct.Struct("<Q2xHI")  # number, flags, number of pages
_NODE = struct.Struct("<HHHH")  # data length or page number, low and high; flags; length of the key
_NUMBER = struct.Struct("<Q")

_DATA_VERSION = 1
_BRANCH, _LEAF, _OVERFLOWING, _KEYS_ONLY = 1, 2, 4, 0x20
_KINDS = 0x2F  # of the flags of a page, those that say what it is
_PAGE_SIZES = [1 << power for power in range(9, 17)]  # bytes
_NO_PAGE = (1 << 64) - 1
_DATA_ELSEWHERE, _SUBTREE, _DUPLICATES = 1, 2, 4  # flags of a node
_TREE_OF_KEYS = 0x10  # flags of a tree whose leaves hold keys of one length and nothing else
_DEEPEST = 32
_MOST_ONE_BY_ONE = 400_000  # nodes, which take longer than the import of numpy
_BYTES_TOGETHER, _FEWEST_TOGETHER = 1 << 19, 8  # leaves that are checked as arrays
_PAST_ALL_KEYS = b"\xff" * 512  # which are of 511 bytes at most


class _Tree(NamedTuple):
    key_length: int
    flags: int
    depth: int
    entries: int
    root: int


def check_pages(path: str, transaction_id: int, *databases: str) -> bool:
    """Check the pages of databases as a transaction sees them.

    Returns
    -------
    bool
        False where they could not be found: the format is another, or two later transactions were
        committed meanwhile.

    Raises
    ------
    ValueError
        Saying what is wrong where.
    """
    if sys.byteorder != "little" or struct.calcsize("P") != 8:
        return False
    with open(path, "rb") as file, _mapping(file) as data:
        main = _find_main(data, transaction_id)
        if main is None:
            return False
        page_size, trees = main
        pages = _Pages(data, page_size)
        names = {database.encode() for database in databases}
        checked = [_parse_tree(value) for key, value, _ in pages.walk_nodes(trees) if key in names]
        pages.use_arrays = sum(tree.entries for tree in checked) > _MOST_ONE_BY_ONE
        for tree in checked:
            pages.check(tree)
        return True


@contextmanager
def _mapping(file: BinaryIO) -> Iterator[mmap.mmap]:
    """Map a file for a `with` statement."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        yield data
    finally:
        with suppress(BufferError):  # an error holds arrays of the map: it is closed with these
            data.close()


def _find_main(data: mmap.mmap, transaction_id: int) -> tuple[int, _Tree] | None:
    """Return page size and tree of databases by the meta page of a transaction."""
    page_size = 0
    for _ in range(2):  # the two meta pages take turns
        if len(data) < page_size + 4096:
            return None
        magic, version = _META.unpack_from(data, page_size)
        at = page_size + _META.size
        if (magic, version) != (LMDB_MAGIC, _DATA_VERSION):
            return None
        size, *_ = _TREE.unpack_from(data, at)
        if size not in _PAGE_SIZES:
            raise ValueError(f"pages of {size} bytes")
        main = _parse_tree(data[at + _TREE.size : at + 2 * _TREE.size])
        _, written_by = _LAST_PAGE_AND_ID.unpack_from(data, at + 2 * _TREE.size)
        if written_by == transaction_id:
            return size, main
        page_size = size
    return None


def _parse_tree(value: bytes) -> _Tree:
    if len(value) != _TREE.size:
        raise ValueError(f"expected {_TREE.size} bytes of a database, found {len(value)}")
    tree = _Tree(*_TREE.unpack(value))
    if tree.depth > _DEEPEST or (tree.root == _NO_PAGE) != (tree.depth == 0):
        raise ValueError(f"a tree of depth {tree.depth} from page {tree.root}")
    return tree


class _Pages:
    """The pages of a file, each looked at within its bounds."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data = data
        self._size = size
        self._count = len(data) // size
        self.use_arrays = False

    def check(self, tree: _Tree) -> None:
        """Raise ValueError where a page or node of a tree is not as it has to be."""
        entries = 0
        leaves = self._walk_leaves(tree)
        while batch := list(islice(leaves, max(1, _BYTES_TOGETHER // self._size))):
            for (number, low, high), sound in zip(
                batch, self._find_sound(batch, tree), strict=True
            ):
                if sound is None:
                    entries += self._check_leaf(number, tree, low, high)
                else:
                    self._check_bounds(number, sound.first, sound.last, low, high)
                    entries += sound.entries
        if entries != tree.entries:
            raise ValueError(f"expected {tree.entries} values, found {entries}")

    def _find_sound(
        self, batch: list[tuple[int, bytes, bytes]], tree: _Tree
    ) -> list[SoundLeaf | None]:
        """Return which of many leaves are surely sound, as far as that can be seen at once."""
        if not self.use_arrays or len(batch) < _FEWEST_TOGETHER or tree.flags == _TREE_OF_KEYS:
            return [None] * len(batch)
        from mmindex.index.lmdb.leaf_check import find_sound_leaves  # takes numpy

        return find_sound_leaves(self._data, self._size, [number for number, _, _ in batch])

    def _check_leaf(self, number: int, tree: _Tree, low: bytes, high: bytes) -> int:
        """Check a leaf node by node; return how many values it has."""
        keys, entries = [], 0
        for key, _, values in self._walk_leaf(number, tree):
            keys.append(key)
            entries += values
        self._check_order(number, keys, low, high)
        return entries

    def walk_nodes(self, tree: _Tree) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key and value (or where that is) of every node in order, and how many it has."""
        for number, low, high in self._walk_leaves(tree):
            nodes = list(self._walk_leaf(number, tree))
            self._check_order(number, [key for key, _, _ in nodes], low, high)
            yield from nodes

    def _walk_leaves(self, tree: _Tree) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield the leaves in order, each with the bounds [low, high) of its keys."""
        if tree.depth:
            yield from self._walk_below(tree.root, tree.depth, b"", _PAST_ALL_KEYS)

    def _walk_below(
        self, number: int, depth: int, low: bytes, high: bytes
    ) -> Iterator[tuple[int, bytes, bytes]]:
        if depth == 1:
            yield number, low, high
            return
        keys, children = self._read_branch(number)
        if any(first >= second for first, second in pairwise([low, *keys, high])):
            raise ValueError(f"keys in no order in page {number}")
        for child, first, end in zip(children, [low, *keys], [*keys, high], strict=True):
            yield from self._walk_below(child, depth - 1, first, end)

    def _check_order(self, number: int, keys: list[bytes], low: bytes, high: bytes) -> None:
        """Raise ValueError unless the keys of a page ascend within [low, high)."""
        self._check_bounds(number, keys[0], keys[-1], low, high)
        if not all(map(lt, keys, keys[1:])):
            raise ValueError(f"keys in no order in page {number}")

    def _check_bounds(
        self, number: int, first: bytes, last: bytes, low: bytes, high: bytes
    ) -> None:
        for key in (first, last):
            if not low <= key < high:
                raise ValueError(f"the key {key!r} in page {number}")

    def _header(self, number: int, kind: int) -> tuple[int, int, int]:
        """Return offset, number of nodes and length of keys of a page of this kind."""
        if not 2 <= number < self._count:
            raise ValueError(f"page {number} of {self._count}")
        at = number * self._size
        found, key_length, flags, lower, upper = _PAGE.unpack_from(self._data, at)
        if found != number or flags & _KINDS != kind:
            raise ValueError(f"page {number} is another (number {found}, flags 0x{flags:x})")
        if not _PAGE.size <= lower <= upper <= self._size:
            raise ValueError(f"page {number} has its free space at {lower} to {upper}")
        return at, (lower - _PAGE.size) // 2, key_length

    def _find_nodes(self, at: int, count: int) -> list[int]:
        """Return where the nodes of a page are."""
        offsets = struct.unpack_from(f"<{count}H", self._data, at + _PAGE.size)
        for offset in (min(offsets), max(offsets)):
            if not _PAGE.size <= offset <= self._size - _NODE.size:
                raise ValueError(f"a node at {offset} of page {at // self._size}")
        return [at + offset for offset in offsets]

    def _read_branch(self, number: int) -> tuple[list[bytes], list[int]]:
        """Return the pages that a branch leads to, and the first keys of all but the first."""
        at, count, _ = self._header(number, _BRANCH)
        if count < 2:
            raise ValueError(f"page {number} leads to {count} others")
        keys, children = [], []
        for node in self._find_nodes(at, count):
            low, high, flags, key_length = _NODE.unpack_from(self._data, node)
            end = node + _NODE.size + key_length
            self._check_end(end, at)
            keys.append(self._data[node + _NODE.size : end])
            children.append(low | high << 16 | flags << 32)
        return keys[1:], children

    def _walk_leaf(self, number: int, tree: _Tree) -> Iterator[tuple[bytes, bytes, int]]:
        keys_only = tree.flags == _TREE_OF_KEYS
        at, count, key_length = self._header(number, _LEAF | _KEYS_ONLY if keys_only else _LEAF)
        if not count:
            raise ValueError(f"page {number} holds nothing")
        if keys_only:
            if key_length != tree.key_length:
                raise ValueError(f"keys of {key_length} bytes in a tree of {tree.key_length}")
            end = at + _PAGE.size + count * key_length
            self._check_end(end, at)
            for start in range(at + _PAGE.size, end, key_length):
                yield self._data[start : start + key_length], b"", 1
            return
        data, limit = self._data, at + self._size
        for node in self._find_nodes(at, count):
            low, high, flags, key_length = _NODE.unpack_from(data, node)
            value_at, length = node + _NODE.size + key_length, low | high << 16
            end = value_at + (_NUMBER.size if flags & _DATA_ELSEWHERE else length)
            if end > limit:
                self._check_end(end, at)
            value, values = data[value_at:end], 1
            if flags & _DATA_ELSEWHERE:
                (first,) = _NUMBER.unpack(value)
                self._check_overflow(first, length)
            elif flags & _DUPLICATES:
                values = self._check_duplicates(value, flags)
            yield data[node + _NODE.size : value_at], value, values

    def _check_duplicates(self, value: bytes, flags: int) -> int:
        """Check the sorted values of a key, a page within the node or a tree; return how many."""
        if flags & _SUBTREE:
            tree = _parse_tree(value)
            if tree.flags != _TREE_OF_KEYS:
                raise ValueError(f"the values of a key in a tree of flags 0x{tree.flags:x}")
            self.check(tree)
            return tree.entries
        if len(value) < _PAGE.size:
            raise ValueError(f"a page of {len(value)} bytes")
        _, length, kind, lower, _ = _PAGE.unpack_from(value)
        count: int = (lower - _PAGE.size) // 2
        end = _PAGE.size + count * length
        if kind & _KINDS != _LEAF | _KEYS_ONLY or not _PAGE.size < end <= len(value):
            raise ValueError(f"{count} values in a page of {len(value)} bytes, flags 0x{kind:x}")
        values = [value[at : at + length] for at in range(_PAGE.size, end, length)]
        if any(first >= second for first, second in pairwise(values)):
            raise ValueError(f"{count} values in no order")
        return count

    def _check_overflow(self, number: int, length: int) -> None:
        """Check the pages that a long value has to itself."""
        if not 2 <= number < self._count:
            raise ValueError(f"page {number} of {self._count}")
        found, flags, count = _OVERFLOW.unpack_from(self._data, number * self._size)
        if found != number or flags & _KINDS != _OVERFLOWING:
            raise ValueError(f"page {number} is another (number {found}, flags 0x{flags:x})")
        if not length + _PAGE.size <= count * self._size <= (self._count - number) * self._size:
            raise ValueError(f"{length} bytes in {count} pages from {number} on")

    def _check_end(self, end: int, at: int) -> None:
        if end > at + self._size:
            raise ValueError(f"page {at // self._size} runs past its end")
