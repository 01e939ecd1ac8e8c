"""Files with one witness damaged: each frame that is read is the true one, or an error."""

from __future__ import annotations

import pytest
from frame_model import FEW, MANY, find_wrong_frame, make_case, read_case
from native_model import find_wrong_native_frame, make_native_case

FILES = 2_000


@pytest.mark.parametrize("prove", [True, False], ids=["proved", "not-proved"])
@pytest.mark.parametrize(
    ("counts", "files"), [(FEW, FILES), (MANY, FILES // 4)], ids=["few-frames", "many-frames"]
)
def test_no_frame_of_a_damaged_file_is_wrong(
    counts: tuple[int, ...], files: int, prove: bool
) -> None:
    """Of every codec, layout and table, with and without looking at each entry."""
    wrong = [
        f"seed {seed}: {found}"
        for seed in range(files)
        if (found := find_wrong_frame(make_case(seed, counts), prove=prove))
    ]
    assert wrong == []


def test_what_is_not_damaged_is_served() -> None:
    """A model that served nothing would find nothing wrong."""
    cases = [make_case(seed) for seed in range(FILES)]
    assert {case.damage.split()[0] for case in cases} >= {"nothing", "count", "bot", "eot", "cut"}
    served = [read_case(case) for case in cases if case.damage == "nothing"]
    assert sum(outcome.frames > 0 for outcome in served) > 0.9 * len(served)


def test_no_native_frame_of_a_damaged_file_is_wrong() -> None:
    """Of any bits and samples, with the count, the length, the shape or the end damaged."""
    found = (find_wrong_native_frame(make_native_case(seed)) for seed in range(FILES))
    assert [wrong for wrong in found if wrong] == []
