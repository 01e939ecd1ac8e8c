"""Items of one sequence, read side by side: one step of numpy takes the same step in each of them.

Per-frame Functional Groups (PS3.3 C.7.6.16) have an item a frame, and most items differ in values
alone. All items whose elements are those of the first one are read together; the others take the
next round. Every tag, length and end is compared, so nothing is assumed of an item: what is not
alike in all steps is left to the walk of one item at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.model import Buffer
from mmindex.scan.decimal_columns import parse_columns
from mmindex.scan.encoding import LOWEST_VR_AS_LENGTH, UNDEFINED_LENGTH, Encoding
from mmindex.scan.group_columns import (
    BINARY,
    LONGEST_VALUE,
    PADDING,
    Column,
    Parts,
    Tree,
    Values,
    has_form,
    parse_decimals,
    read_value,
)
from mmindex.scan.item_starts import FEWEST, OddError, find_items

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]

_BLOCK = 1 << 15  # items read together
_ROUNDS = 8  # kinds of items in a block
_DEEPEST = 8  # sequences within each other
_LONGEST_TEXT = 128  # bytes of a text or Decimal String that is read side by side
_GROUP = 0xFFFE  # of items and delimiters

WalkItem = Callable[[int, Values], int]  # start of an item, what the item has -> its end


class TakenItems(NamedTuple):
    """The values of the items of a sequence, their number, and the end of the sequence."""

    parts: Parts
    number: int
    end: int


def read_together(
    buffer: Buffer,
    start: int,
    end: int,
    encoding: Encoding,
    tree: Tree,
    most: int,
    walk_item: WalkItem,
) -> TakenItems | None:
    """Return the wanted values of the items from `start` on; None where they have to be walked.

    Parameters
    ----------
    start, end : int
        The first item, and what no item may pass.
    most : int
        Items that there may be.
    walk_item : callable
        Reads one item whose elements are not those of others, from its tag on.
    """
    if encoding.big_endian:
        return None
    try:
        starts, sequence_end = find_items(buffer, start, end, encoding, most)
        count = len(starts)
        if count < FEWEST or count > most:
            return None
        bounds = np.append(starts[1:], end if sequence_end is None else sequence_end)
        walk = _Walk(buffer, encoding, tree)
        for first in range(0, count, _BLOCK):
            lanes = np.arange(first, min(count, first + _BLOCK))
            walk.read_block(lanes, starts, bounds, walk_item)
        if sequence_end is None:
            sequence_end = walk.last_end
        if sequence_end + 8 <= end:
            if struct.unpack_from("<I", buffer, sequence_end)[0] != encoding.sequence_end:
                return None
            sequence_end += 8
    except OddError:
        return None
    return TakenItems(walk.parts, count, sequence_end)


class _Walk:
    """Reads blocks of items; `last_end` is where the last item ended."""

    def __init__(self, buffer: Buffer, encoding: Encoding, tree: Tree) -> None:
        size = len(buffer)
        self._buffer = buffer
        self._encoding = encoding
        self._tree = tree
        # The number in the 8 (4) bytes from each byte of the buffer on.
        self._heads = np.ndarray((size - 7,), "<u8", buffer, 0, (1,))
        self._lengths = np.ndarray((size - 3,), "<u4", buffer, 0, (1,))
        self._bytes = np.frombuffer(buffer, np.uint8)
        self.parts: Parts = {}
        self.last_end = 0
        self._alike: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._found: dict[Column, tuple[Positions, Positions]] = {}

    def read_block(
        self, lanes: Positions, starts: Positions, bounds: Positions, walk_item: WalkItem
    ) -> None:
        """Read the items of these indices."""
        rounds = 0
        while len(lanes) >= FEWEST and rounds < _ROUNDS:
            rounds += 1
            self._alike = np.ones(len(lanes), np.bool_)
            self._found = {}
            try:
                ends = self._read_item(starts[lanes], bounds[lanes], self._tree, 0)
            except OddError:
                break
            is_last = lanes == len(starts) - 1  # whose end is not known before
            self._alike &= (ends == bounds[lanes]) | is_last
            if is_last[-1] and self._alike[-1]:
                self.last_end = int(ends[-1])
            self._take(lanes)
            lanes = lanes[~self._alike]
        for index in lanes.tolist():
            values: Values = {}
            end = walk_item(int(starts[index]), values)
            if index == len(starts) - 1:
                self.last_end = end
            elif end != bounds[index]:
                raise OddError
            for column, value in values.items():
                self.parts.setdefault(column, []).append((np.array([index]), [value]))

    def _agree(self, same: NDArray[np.bool_], position: Positions) -> Positions:
        """Leave out the items that are not like the first one, which they follow from here on."""
        if same.all():
            return position
        self._alike &= same
        if np.count_nonzero(self._alike) < FEWEST:
            raise OddError
        return np.where(same, position, position[0])

    def _read_item(
        self, position: Positions, bound: Positions, tree: Tree, depth: int
    ) -> Positions:
        """Read an item; return where it ends."""
        head = self._read_heads(position, bound)
        leader = int(head[0])
        if leader & 0xFFFF_FFFF != self._encoding.item:
            raise OddError
        position = self._agree((head ^ leader) & 0xFFFF_FFFF == 0, position)
        length = (self._heads[position] >> 32).astype(np.int64)
        if leader >> 32 == UNDEFINED_LENGTH:
            position = self._agree(length == UNDEFINED_LENGTH, position)
            return self._read_elements(position + 8, bound, tree, depth, is_defined=False)
        end = position + 8 + length
        position, end = self._agree_both(end <= bound, position, end)
        if tree:
            self._read_elements(position + 8, end, tree, depth, is_defined=True)
        return end

    def _agree_both(
        self, same: NDArray[np.bool_], first: Positions, second: Positions
    ) -> tuple[Positions, Positions]:
        if not same[0]:
            raise OddError
        return self._agree(same, first), self._agree(same, second)

    def _read_heads(self, position: Positions, bound: Positions) -> NDArray[np.uint64]:
        """Return the 8 bytes at each position, which lie before the bound."""
        if int((bound - position).min()) < 8:
            same = bound - position >= 8
            if not same[0]:
                raise OddError
            position = self._agree(same, position)
        return self._heads[position]

    def _read_sequence(
        self, position: Positions, end: Positions, tree: Tree, depth: int, *, is_defined: bool
    ) -> Positions:
        """Read the items of a sequence; return where they end."""
        if depth > _DEEPEST:
            raise OddError
        while True:
            if is_defined:
                is_over = position >= end
                position = self._agree(is_over == is_over[0], position)
                if is_over[0]:
                    return end
            else:
                head = self._read_heads(position, end)
                leader = int(head[0])
                if leader & 0xFFFF_FFFF == self._encoding.sequence_end:
                    return self._agree((head ^ leader) & 0xFFFF_FFFF == 0, position) + 8
            position = self._read_item(position, end, tree, depth)

    def _read_elements(
        self, position: Positions, end: Positions, tree: Tree, depth: int, *, is_defined: bool
    ) -> Positions:
        """Read the elements of an item; return where they end."""
        encoding = self._encoding
        while True:
            if is_defined:
                is_over = position >= end
                position = self._agree(is_over == is_over[0], position)
                if is_over[0]:
                    return end
            head = self._read_heads(position, end)
            leader = int(head[0])
            raw_tag = leader & 0xFFFF_FFFF
            if raw_tag == encoding.item_end and not is_defined:
                return self._agree((head ^ leader) & 0xFFFF_FFFF == 0, position) + 8
            if raw_tag & 0xFFFF == _GROUP or not raw_tag:
                raise OddError
            value_offset, length = self._read_length(position, head, leader, end)
            wanted = tree.get(encoding.tag_of(raw_tag))
            inner = wanted if isinstance(wanted, dict) else {}
            if length[0] == UNDEFINED_LENGTH:
                value_offset = self._agree(length == UNDEFINED_LENGTH, value_offset)
                position = self._read_sequence(
                    value_offset, end, inner, depth + 1, is_defined=False
                )
                continue
            next_offset = value_offset + length
            value_offset, next_offset = self._agree_both(
                next_offset <= end, value_offset, next_offset
            )
            if isinstance(wanted, dict):
                self._read_sequence(value_offset, next_offset, wanted, depth + 1, is_defined=True)
            elif wanted is not None:
                self._check_form(wanted, leader, length)
                self._found.setdefault(wanted, (value_offset, next_offset - value_offset))
            position = next_offset

    def _check_form(self, column: Column, leader: int, lengths: Positions) -> None:
        """Raise where values that were found are not of a column's form: a walk names them."""
        if self._encoding.implicit:
            return
        vr = self._encoding.vr_of(leader >> 32 & 0xFFFF)
        found = np.unique(lengths).tolist() if column.kind in BINARY else [1]
        if not all(has_form(column, vr, length) for length in found):
            raise OddError

    def _read_length(
        self, position: Positions, head: NDArray[np.uint64], leader: int, end: Positions
    ) -> tuple[Positions, Positions]:
        """Return value offset and length of elements that have the tag and VR of the first."""
        encoding = self._encoding
        if encoding.implicit:
            position = self._agree((head ^ leader) & 0xFFFF_FFFF == 0, position)
            if leader >> 32 != UNDEFINED_LENGTH and leader >> 32 >= LOWEST_VR_AS_LENGTH:
                raise OddError
            return position + 8, (self._heads[position] >> 32).astype(np.int64)
        position = self._agree((head ^ leader) & 0xFFFF_FFFF_FFFF == 0, position)
        vr = leader >> 32 & 0xFFFF
        if vr in encoding.short_vrs:
            return position + 8, (self._heads[position] >> 48).astype(np.int64)
        if not encoding.is_vr(vr) or encoding.inside(vr) is not encoding:
            raise OddError
        position = self._agree(position + 12 <= end, position)
        if position[0] + 12 > end[0]:
            raise OddError
        return position + 12, self._lengths[position + 8].astype(np.int64)

    def _take(self, lanes: Positions) -> None:
        """Keep the values of the items that were read."""
        for column, (offsets, lengths) in self._found.items():
            offsets, lengths, indices = (each[self._alike] for each in (offsets, lengths, lanes))
            if int(lengths.max()) > LONGEST_VALUE:
                fits = lengths <= LONGEST_VALUE
                offsets, lengths, indices = offsets[fits], lengths[fits], indices[fits]
            if not len(indices):
                continue
            parts = self.parts.setdefault(column, [])
            read = self._read_text if column.kind in ("number", "text") else self._read_binary
            values = read(column, offsets, lengths)
            if values is not None:
                parts.append((indices, values))
                continue
            singles = [
                read_value(column, bytes(self._buffer[offset : offset + length]), self._encoding)
                for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True)
            ]
            kept = [at for at, value in enumerate(singles) if value is not None]
            parts.append((indices[kept], [singles[at] for at in kept]))

    def _read_binary(
        self, column: Column, offsets: Positions, lengths: Positions
    ) -> NDArray[np.generic] | None:
        """Return numbers of one length, None of others."""
        letters, length = BINARY[column.kind], int(lengths[0])
        size = max(letters) if length % max(letters) == 0 else min(letters)
        if not length or length % size or (lengths != length).any():
            return None
        kind = np.dtype("<" + letters[size])
        numbers = np.ndarray((len(self._bytes) - size + 1,), kind, self._buffer, 0, (1,))
        if column.width == 1:
            return numbers[offsets]
        steps = np.arange(0, length, size)
        if column.width not in (0, len(steps)):
            return None
        return np.asarray(numbers[offsets[:, None] + steps])

    def _read_text(
        self, column: Column, offsets: Positions, lengths: Positions
    ) -> NDArray[np.generic] | list[object] | None:
        """Return texts or decimal numbers, None where some are long, empty or no numbers."""
        longest = int(lengths.max())
        if not int(lengths.min()) or longest > _LONGEST_TEXT:
            return None
        if column.kind == "number":
            numbers = parse_columns(self._bytes, offsets, lengths, column.width)
            if numbers is not None:
                return numbers[:, 0] if column.width == 1 else numbers
        steps = np.arange(longest)
        places = np.minimum(offsets[:, None] + steps, len(self._bytes) - 1)
        texts = self._bytes[places]
        texts[steps >= lengths[:, None]] = 0x20
        if column.kind == "text":
            if (texts == texts[0]).all():
                texts = texts[:1]
            names = [row.strip(PADDING).decode("latin-1") for row in _split_rows(texts)]
            if not all(names):
                return None
            return [*names, *names[:1] * (len(offsets) - len(names))]
        texts[texts == 0] = 0x20
        if ((texts == 0x5C).sum(axis=1) != column.width - 1).any():
            return None
        ends = np.full((len(texts), 1), 0x5C, np.uint8)
        joined = np.concatenate([texts, ends], axis=1).tobytes()
        try:
            numbers = np.array(parse_decimals(joined[:-1]))
        except ValueError:
            return None
        return numbers if column.width == 1 else numbers.reshape(-1, column.width)


def _split_rows(texts: NDArray[np.uint8]) -> list[bytes]:
    width, data = texts.shape[1], texts.tobytes()
    return [data[at : at + width] for at in range(0, len(data), width)]
