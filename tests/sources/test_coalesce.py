"""Which ranges are read at once."""

from __future__ import annotations

import random

import pytest

from mmindex.sources.coalesce import choose_gap, group_pieces


def numbered(*ranges: tuple[int, int]) -> list[tuple[int, int, int]]:
    return [(offset, length, at) for at, (offset, length) in enumerate(ranges)]


@pytest.mark.parametrize(
    ("ranges", "gap", "together", "expected"),
    [
        ([], 10, 100, []),
        ([(0, 10), (20, 10), (41, 10)], 10, 100, [(0, 30), (41, 51)]),
        ([(0, 10), (10, 10), (20, 10)], 0, 20, [(0, 20), (20, 30)]),
        ([(0, 500), (5, 5), (499, 1)], 0, 20, [(0, 500)]),
        ([(0, 10), (5, 10)], 0, 100, [(0, 15)]),
    ],
)
def test_groups_are_near_and_not_too_long(
    ranges: list[tuple[int, int]],
    gap: int,
    together: int,
    expected: list[tuple[int, int]],
) -> None:
    """A piece within the group before it costs nothing, however long the group is."""
    groups = list(group_pieces(numbered(*ranges), gap, together))
    assert [(start, end) for start, end, _ in groups] == expected
    assert sum(len(group) for _, _, group in groups) == len(ranges)


def test_gaps_add_little() -> None:
    """The gap that is chosen keeps what is read over below the share, wherever ranges lie."""
    source = random.Random(4)
    for _ in range(200):
        at, pieces = 0, []
        for number in range(source.randrange(1, 60)):
            at += source.choice((0, 8, 8, 100, 5000, 1 << 21))
            length = source.randrange(1, 3000)
            pieces.append((at, length, number))
            at += length
        gap = choose_gap(pieces, 1 << 20, 0.04)
        groups = list(group_pieces(pieces, gap, 1 << 40))
        read = sum(end - start for start, end, _ in groups)
        assert gap <= 1 << 20
        assert read <= 1.04 * sum(length for _, length, _ in pieces)


def test_item_headers_between_all_frames_are_read_over() -> None:
    """Neighbours of a slide make a few requests, not thousands."""
    pieces = [(at * 10_008, 10_000, at) for at in range(1000)]
    assert choose_gap(pieces, 1 << 20, 0.04) == 8
