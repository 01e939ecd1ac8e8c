"""Cases: opening one large instance, and its random frames, against the number of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from scripts.benchmark import limits
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import (
    Bench,
    Contender,
    attempt,
    tell,
)
from scripts.benchmark.model import MMINDEX, OPEN, PREAD, WALK, Measurement, Result
from scripts.benchmark.openers import (
    INDEXED,
    OPENERS,
    TRUSTING,
    Opener,
    read_once,
    try_to_build,
)

RANDOM_FRAMES = 500
MOST_FRAMES_IN_MEMORY = 100_000
PER_FRAME_ITEMS = 50_000


@dataclass(slots=True)
class _Patience:
    """What a call of each contender took at the last size, to leave out what would take minutes."""

    most: float
    last: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)

    def note(self, layout: str, contender: str, number_of_frames: int) -> str:
        """Return "" if a contender may go on at this size, else why not."""
        if contender == "pydicom dcmread" and number_of_frames > MOST_FRAMES_IN_MEMORY:
            return f"not measured above {MOST_FRAMES_IN_MEMORY:,} frames"
        frames, seconds = self.last.get((layout, contender), (1, 0.0))
        if seconds / frames * number_of_frames > self.most:
            return f"not measured above {frames:,} frames"
        return ""

    def learn(self, layout: str, number_of_frames: int, measured: tuple[Measurement, ...]) -> None:
        """Note what opening took."""
        for each in measured:
            if each.samples:
                self.last[layout, each.contender] = number_of_frames, each.median


def run_frames(bench: Bench) -> Iterator[Result]:
    """Open each layout at each size, and read frames at random."""
    sizes = (100, 1000, 10_000) if bench.quick else (100, 1000, 10_000, 100_000, 1_000_000)
    patience = _Patience(bench.effort.patience)
    for layout in LAYOUTS:
        for number_of_frames in sizes:
            tell(f"frames: {layout}, {number_of_frames:,} frames")
            with bench.make_folder("frames") as folder:
                written = write_image(folder / "files", number_of_frames, layout)
                title = f"{layout}, {number_of_frames:,} frames"
                largest = number_of_frames == sizes[-1]
                shown = number_of_frames == 100_000 or (
                    largest and (bench.quick or layout == LAYOUTS[0])
                )
                yield from _run_image(bench, written, layout, title, shown, patience)


def run_headers(bench: Bench) -> Iterator[Result]:
    """Open a file whose header has 50,000 items of undefined length."""
    number_of_frames = 5000 if bench.quick else PER_FRAME_ITEMS
    tell(f"header: {number_of_frames:,} per-frame items")
    patience = _Patience(60.0)
    with bench.make_folder("header") as folder:
        written = write_image(folder / "files", number_of_frames, sizes=(100, 200), items=True)
        title = f"header of {number_of_frames:,} endless items"
        yield from _run_image(bench, written, "", title, True, patience)


def _run_image(
    bench: Bench,
    written: Written,
    layout: str,
    title: str,
    shown: bool,
    patience: _Patience,
) -> Iterator[Result]:
    """Measure a first frame without and with an index, and further ones."""
    count = written.image.number_of_frames
    frame_index = written.pick(1, seed=2)[0]
    walks = layout in (LAYOUTS[0], LAYOUTS[3])

    notes = {name: patience.note(layout, name, count) for name in OPENERS}
    contenders = [
        _first(written, name, OPENERS[name], frame_index, notes[name]) for name in OPENERS
    ]
    contenders.append(Contender(WALK, partial(_walk_and_read, written, frame_index)))
    measured = bench.measure(contenders)
    patience.learn(layout, count, measured)
    yield Result(
        "frames" if layout else "header",
        f"{title}: open, first frame",
        "s",
        measured,
        WALK,
        2.0 if walks or not layout else None,
        shown,
        f"first frame, {layout}" if layout else "",
        count,
    )

    if layout in LAYOUTS[1:3]:
        contenders = [
            _first(written, name, TRUSTING[name], frame_index, notes[name]) for name in TRUSTING
        ]
        yield Result(
            "frames",
            f"{title}: open, first frame, trusting the table",
            "s",
            bench.measure(contenders),
            shown=shown,
        )

    contenders = []
    for name, opener in INDEXED.items():
        note = try_to_build(name, written.image.root)
        contenders.append(_first(written, name, opener, frame_index, note))
    contenders.append(Contender(OPEN, partial(_open_and_read, written, frame_index)))
    yield Result(
        "frames" if layout else "header",
        f"{title}: first frame from an index",
        "s",
        bench.measure(contenders),
        OPEN,
        None,
        shown,
        f"first frame from an index, {layout}" if layout else "",
        count,
    )

    with ExitStack() as stack:
        openers = {**OPENERS, **INDEXED, MMINDEX: INDEXED[MMINDEX]}
        del openers["pydicom dcmread"]
        contenders = [
            attempt(name, partial(_further, stack, written, name, opener, notes.get(name, "")))
            for name, opener in openers.items()
        ]
        descriptor = os.open(written.image.path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        contenders.append(_known_ranges(written, descriptor, layout == LAYOUTS[3]))
        yield Result(
            "frames" if layout else "header",
            f"{title}: a random frame",
            "s",
            bench.measure(contenders),
            PREAD,
            2.0,
            shown,
            f"random frame, {layout}" if layout else "",
            count,
        )


def _first(written: Written, name: str, opener: Opener, frame_index: int, note: str) -> Contender:
    call = None if note else partial(read_once, opener, written.image)
    return Contender(name, call, [(frame_index,)], written.frames.__getitem__, note=note)


def _further(stack: ExitStack, written: Written, name: str, opener: Opener, note: str) -> Contender:
    """Open once, read many."""
    if note:
        return Contender(name, None, note=note)
    read = stack.enter_context(opener(written.image))
    indices = [(index,) for index in written.pick(RANDOM_FRAMES)]
    read(written.pick(1, seed=2)[0])  # some open when they are first asked
    return Contender(name, read, indices, written.frames.__getitem__)


def _known_ranges(written: Written, descriptor: int, joined: bool) -> Contender:
    """Return the limit of a random frame: a bare pread; of two pieces, joined.

    One pread of both, with the header between them, takes less than a pread of each.
    """
    indices = written.pick(RANDOM_FRAMES)
    ranges = [written.ranges[index] for index in indices]
    if not joined:
        return Contender(PREAD, os.pread, [(descriptor, length, at) for at, length in ranges])
    pread = os.pread

    def read_both(start: int, length: int, first: int) -> bytes:
        both = pread(descriptor, length, start)
        return both[:first] + both[first + 8 :]

    arguments = []
    frames: dict[int, bytes] = {}
    for index, (start, length) in zip(indices, ranges, strict=True):
        arguments.append((start, length, (length - 8) // 4 * 2))
        frames[start] = written.frames[index]
    return Contender(PREAD, read_both, arguments, lambda start, *_: frames[start])


def _open_and_read(written: Written, frame_index: int) -> bytes:
    descriptor = os.open(written.image.path, os.O_RDONLY)
    try:
        return written.read(frame_index, descriptor)
    finally:
        os.close(descriptor)


def _walk_and_read(written: Written, frame_index: int) -> bytes:
    limits.walk_items(written.image.path, limits.skip_header(written.image.path))
    return _open_and_read(written, frame_index)
