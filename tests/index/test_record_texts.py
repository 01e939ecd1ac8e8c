"""Texts of a record: unpacked at once where they are as long as those of the record before."""

from __future__ import annotations

import random
import struct

import pytest

from mmindex.index.record_parts import HEADER, unpack_texts
from mmindex.model import Status


def pack(texts: list[bytes], rest: bytes = b"") -> bytes:
    packed = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    return bytes(HEADER.size) + packed + rest


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_texts_are_the_same_whatever_was_unpacked_before(kind: type) -> None:
    """Lengths that repeat, that change, that are empty or long, and other numbers of texts."""
    chance = random.Random(4)
    for _ in range(300):
        count = chance.choice([3, 6, 10])
        lengths = [chance.choice([0, 1, 64, 300]) for _ in range(count)]
        for _ in range(chance.randrange(1, 5)):
            texts = [chance.randbytes(length) for length in lengths]
            packed = pack(texts, chance.randbytes(chance.randrange(5)))
            end = HEADER.size + sum(lengths) + 2 * count
            assert unpack_texts(kind(packed), count) == (texts, end)


def test_a_text_past_the_end_is_refused_whatever_was_unpacked_before() -> None:
    """Also where only the last byte is missing, or the lengths lead out of the record."""
    texts = [b"abc", b"", b"de"]
    for _ in range(3):
        unpack_texts(pack(texts), 3)
    for length in range(HEADER.size, len(pack(texts))):
        with pytest.raises(ValueError, match="runs past the end"):
            unpack_texts(pack(texts)[:length], 3)
    longer = bytearray(pack(texts))
    longer[HEADER.size] = 200
    with pytest.raises(ValueError, match="runs past the end"):
        unpack_texts(bytes(longer), 3)


def test_a_status_hashes_as_the_text_that_it_equals() -> None:
    """A dict finds one by the other."""
    assert {status.value: 1 for status in Status}.keys() == set(Status)
