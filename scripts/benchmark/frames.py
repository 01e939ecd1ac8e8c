"""Cases: opening one large instance, and its random frames, against the number of frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Bench, Contender, attempt, contend_pread
from scripts.benchmark.model import MMINDEX, OPEN, PREAD, WALK, Measurement
from scripts.benchmark.openers import (
    INDEXED,
    OPENERS,
    PROVING,
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


class _Kind(NamedTuple):
    """What image the cases are of, and what their rows say."""

    title: str
    number_of_frames: int
    layout: str
    patience: _Patience
    shown: bool = True
    header_items: bool = False

    def write(self, site: Site) -> Written:
        """Write the image."""
        folder, sizes = site.folder / "files", (100, 200) if self.header_items else None
        return write_image(
            folder, self.number_of_frames, self.layout, sizes=sizes, items=self.header_items
        )

    def curve(self, panel: str) -> str:
        """Return the curve of the plot that a case is a point of."""
        return "" if self.header_items else f"{panel}, {self.layout}"

    @property
    def walk_bound(self) -> float | None:
        """How many times a walk opening may take; an offset table is read without one."""
        return 2.0 if self.layout in (LAYOUTS[0], LAYOUTS[3]) else None


def list_frames(bench: Bench) -> Iterator[Setup]:
    """Open each layout at each size, and read frames at random."""
    sizes = (100, 1000, 10_000) if bench.quick else (100, 1000, 10_000, 100_000, 1_000_000)
    patience = _Patience(bench.effort.patience)
    for layout in LAYOUTS:
        for count in sizes:
            largest = count == sizes[-1] and (bench.quick or layout == LAYOUTS[0])
            title = f"{layout}, {count:,} frames"
            kind = _Kind(title, count, layout, patience, shown=count == 100_000 or largest)
            yield title, partial(_list_cases, kind)


def list_headers(bench: Bench) -> Iterator[Setup]:
    """Open a file whose header has 50,000 items of undefined length."""
    count = 5000 if bench.quick else PER_FRAME_ITEMS
    title = f"header of {count:,} endless items"
    kind = _Kind(title, count, LAYOUTS[0], _Patience(60.0), header_items=True)
    yield f"{count:,} per-frame items", partial(_list_cases, kind)


def _list_cases(kind: _Kind, site: Site) -> Iterator[Case]:
    """Yield a first frame without and with an index, and further ones."""
    written, layout, count = kind.write(site), kind.layout, kind.number_of_frames
    (frame_index,) = written.pick(1, seed=2)
    notes = {name: kind.patience.note(layout, name, count) for name in OPENERS}

    def list_first(openers: dict[str, Opener], notes: dict[str, str]) -> list[Contender]:
        return [first(written, name, openers[name], frame_index, notes[name]) for name in openers]

    yield Case(
        f"{kind.title}: open, first frame",
        [*list_first(OPENERS, notes), Contender(WALK, partial(written.walk_and_read, frame_index))],
        limit=WALK,
        bound=kind.walk_bound,
        shown=kind.shown,
        curve=kind.curve("first frame"),
        number_of_frames=count,
        learn=partial(kind.patience.learn, layout, count),
    )
    if layout in LAYOUTS[1:3]:
        yield Case(
            f"{kind.title}: open, first frame, every entry proved",
            list_first(PROVING, notes),
            shown=kind.shown,
        )
    built = {name: try_to_build(name, written.image.root) for name in INDEXED}
    yield Case(
        f"{kind.title}: first frame from an index",
        [*list_first(INDEXED, built), Contender(OPEN, partial(written.open_and_read, frame_index))],
        limit=OPEN,
        shown=kind.shown,
        curve=kind.curve("first frame from an index"),
        number_of_frames=count,
    )
    openers = {**OPENERS, **INDEXED, MMINDEX: INDEXED[MMINDEX]}
    del openers["pydicom dcmread"]
    yield Case(
        f"{kind.title}: a random frame",
        [
            *(
                attempt(name, partial(_further, site.stack, written, name, opener, notes.get(name)))
                for name, opener in openers.items()
            ),
            _known_ranges(written, site.stack, layout == LAYOUTS[3]),
        ],
        limit=PREAD,
        bound=2.0,
        shown=kind.shown,
        curve=kind.curve("random frame"),
        number_of_frames=count,
    )


def first(
    written: Written,
    name: str,
    opener: Opener,
    frame_index: int,
    note: str = "",
    prepare: Callable[[], object] | None = None,
) -> Contender:
    """Open, read one frame, close."""
    call = None if note else partial(read_once, opener, written.image)
    return Contender(name, call, [(frame_index,)], written.frames.__getitem__, prepare, note)


def _further(
    stack: ExitStack, written: Written, name: str, opener: Opener, note: str | None
) -> Contender:
    """Open once, read many."""
    if note:
        return Contender(name, None, note=note)
    read = stack.enter_context(opener(written.image))
    indices = [(index,) for index in written.pick(RANDOM_FRAMES)]
    read(written.pick(1, seed=2)[0])  # some open when they are first asked
    return Contender(name, read, indices, written.frames.__getitem__)


def _known_ranges(written: Written, stack: ExitStack, joined: bool) -> Contender:
    """Return the limit of a random frame: a bare pread; of two pieces, joined.

    One pread of both, with the header between them, takes less than a pread of each.
    """
    indices = written.pick(RANDOM_FRAMES)
    ranges = [written.ranges[index] for index in indices]
    if not joined:
        return contend_pread(stack, [(written.image.path, *each) for each in ranges])
    descriptor = os.open(written.image.path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
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
