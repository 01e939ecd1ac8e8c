"""Advice on a mapped file: what is asked for before it is looked at, and how the map is left."""

from __future__ import annotations

import mmap
import random
from itertools import accumulate

import pytest
from dicom_bytes import encapsulated_file, written

from mmindex.scan.instance import scan
from mmindex.scan.read_ahead import looked_at_here_and_there, will_need

PAGE = mmap.PAGESIZE


class Advised(mmap.mmap):
    """A map that notes the advice that it is given."""

    refuses = False

    def __init__(self, *_: object, **__: object) -> None:
        self.advice: list[tuple[int, int, int]] = []

    def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
        """Note the advice, and take it."""
        if self.refuses:
            raise OSError("no advice is taken here")
        self.advice.append((option, start, length))
        super().madvise(option, start, length)


@pytest.fixture
def slide(tmp_path):
    """A file of 400 frames of some 12 kB with a Basic Offset Table."""
    generator = random.Random(1)
    frames = [
        b"\xff\xd8\xff\xe0" + generator.randbytes(12_000).replace(b"\xff", b"\0") + b"\xff\xd9"
        for _ in range(400)
    ]
    starts = list(accumulate((8 + len(frame) for frame in frames[:-1]), initial=0))
    return written(tmp_path, encapsulated_file(frames, len(frames), bot=starts))


def map_file(path) -> Advised:
    with open(path, "rb") as file:
        return Advised(file.fileno(), 0, access=mmap.ACCESS_READ)


def test_ranges_are_asked_for_in_whole_pages_of_the_file(slide):
    """madvise takes a start on a page alone; what is outside of the file is left out."""
    with map_file(slide) as mapped:
        size = len(mapped)
        will_need(mapped, [(5, 9), (PAGE + 7, PAGE + 8), (-3, 2), (size - 1, size + 99)])
        will_need(mapped, [(size + PAGE, size + 2 * PAGE), (PAGE, PAGE), (9 * PAGE, 5)])
        last = (size - 1) // PAGE * PAGE
        assert mapped.advice == [
            (mmap.MADV_WILLNEED, 0, 9),
            (mmap.MADV_WILLNEED, PAGE, 8),
            (mmap.MADV_WILLNEED, 0, 2),
            (mmap.MADV_WILLNEED, last, size - last),
        ]


def test_a_map_is_left_as_it_was(slide):
    """A walk of all items after the look at some reads ahead again, also after an error."""
    with map_file(slide) as mapped:
        with pytest.raises(ZeroDivisionError), looked_at_here_and_there(mapped):
            raise ZeroDivisionError
        assert [option for option, _, _ in mapped.advice] == [mmap.MADV_RANDOM, mmap.MADV_NORMAL]


def test_memory_takes_no_advice():
    """Bytes and views of them are scanned as they are."""
    for buffer in (b"", b"some", memoryview(b"bytes")):
        will_need(buffer, [(0, 4)])
        with looked_at_here_and_there(buffer):
            pass


def test_a_short_file_takes_no_advice(tmp_path):
    """A few looks read all of a file of up to 4 MiB: advice would cost more than it saves."""
    path = written(tmp_path, encapsulated_file([b"\xff\xd8" + bytes(98)] * 40, 40))
    with map_file(path) as mapped:
        will_need(mapped, [(0, 4)])
        with looked_at_here_and_there(mapped):
            pass
        assert mapped.advice == []


def test_a_scan_asks_for_sampled_entries_before_it_looks(slide):
    """All samples are asked for at once, without reading around them; one proves all others."""
    data = slide.read_bytes()
    with map_file(slide) as mapped:
        record = scan(mapped, prove=False)
        options = [option for option, _, _ in mapped.advice]
        between = options[options.index(mmap.MADV_RANDOM) : options.index(mmap.MADV_NORMAL)]
        assert between.count(mmap.MADV_WILLNEED) >= 4  # first, last, some between, and the end
        assert options[-1] == mmap.MADV_NORMAL
    assert record == scan(data, prove=False)


def test_a_scan_that_proves_gives_no_advice_of_samples(slide):
    """The whole file is walked in order: the system reads ahead by itself."""
    with map_file(slide) as mapped:
        scan(mapped)
        assert mmap.MADV_RANDOM not in [option for option, _, _ in mapped.advice]


def test_advice_may_be_refused(slide):
    """A file system that takes no advice is read all the same."""
    with map_file(slide) as mapped:
        mapped.refuses = True
        assert scan(mapped, prove=False).number_of_frames == 400
