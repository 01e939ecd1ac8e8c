"""Cases: opening one large instance, and its random frames, against the number of frames.

The cold ones open files out of the page cache: before every call their pages are dropped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Bench, Call, Contender, contend_pread, opened
from scripts.benchmark.model import MMINDEX, OPEN, PREAD, WALK, Measurement
from scripts.benchmark.openers import INDEXED, OPENERS, PROVING, Opener, read_once, try_to_build
from scripts.benchmark.page_cache import drop_pages

RANDOM_FRAMES = 500
MOST_FRAMES_IN_MEMORY = 100_000
PER_FRAME_ITEMS = 50_000
IN_MEMORY = "pydicom dcmread"  # reads whole files: left out where these are large, or cold
_JOINED = LAYOUTS[3]


@dataclass(slots=True)
class _Patience:
    """What a call of each contender took at the last size, to leave out what would take minutes."""

    most: float
    last: dict[str, tuple[int, float]] = field(default_factory=dict)

    def note(self, contender: str, number_of_frames: int) -> str:
        """Return "" if a contender may go on at this size, else why not."""
        if contender == IN_MEMORY and number_of_frames > MOST_FRAMES_IN_MEMORY:
            return f"not measured above {MOST_FRAMES_IN_MEMORY:,} frames"
        frames, seconds = self.last.get(contender, (1, 0.0))
        if seconds / frames * number_of_frames > self.most:
            return f"not measured above {frames:,} frames"
        return ""

    def learn(self, number_of_frames: int, measured: tuple[Measurement, ...]) -> None:
        """Note what opening took."""
        for each in measured:
            if each.samples:
                self.last[each.contender] = number_of_frames, each.median


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
        sizes = (100, 200) if self.header_items else None
        folder, count = site.folder / "files", self.number_of_frames
        return write_image(folder, count, self.layout, sizes=sizes, items=self.header_items)

    def case(
        self,
        what: str,
        contenders: list[Contender],
        limit: str = "",
        bound: float | None = None,
        *,
        panel: str = "",
        learn: Callable[[tuple[Measurement, ...]], None] | None = None,
    ) -> Case:
        """Return a case of the image; with a `panel`, it is a point of the plot."""
        return Case(
            f"{self.title}: {what}",
            contenders,
            limit=limit,
            bound=bound,
            shown=self.shown,
            curve=f"{panel}, {self.layout}" if panel and not self.header_items else "",
            number_of_frames=self.number_of_frames,
            learn=learn,
        )


def list_frames(bench: Bench) -> Iterator[Setup]:
    """Open each layout at each size, and read frames at random."""
    sizes = (100, 1000, 10_000) if bench.quick else (100, 1000, 10_000, 100_000, 1_000_000)
    for layout in LAYOUTS:
        patience = _Patience(bench.effort.patience)
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


def list_cold(bench: Bench) -> Iterator[Setup]:
    """Open an instance and read one frame, its file and its index read from the disk."""
    count = 5000 if bench.quick else 50_000
    for layout in LAYOUTS[:3]:
        title = f"{layout}, {count:,} frames"
        kind = _Kind(f"cold page cache, {title}", count, layout, _Patience(60.0))
        yield title, partial(_list_cold_cases, kind)


def _list_cases(kind: _Kind, site: Site) -> Iterator[Case]:
    """Yield a first frame without and with an index, and further ones."""
    written, layout, count = kind.write(site), kind.layout, kind.number_of_frames
    notes = {name: kind.patience.note(name, count) for name in OPENERS}
    yield kind.case(
        "open, first frame",
        _list_first(written, OPENERS, notes, WALK),
        WALK,
        2.0 if layout in (LAYOUTS[0], _JOINED) else None,  # a table is read without a walk
        panel="first frame",
        learn=partial(kind.patience.learn, count),
    )
    if layout in LAYOUTS[1:3]:
        proving = _list_first(written, PROVING, notes)
        yield kind.case("open, first frame, every entry proved", proving)
    built = {name: try_to_build(name, written.image.root) for name in INDEXED}
    yield kind.case(
        "first frame from an index",
        _list_first(written, INDEXED, built, OPEN),
        OPEN,
        panel="first frame from an index",
    )
    openers = {**OPENERS, **INDEXED, MMINDEX: INDEXED[MMINDEX]}
    del openers[IN_MEMORY]
    how = {
        "arguments": [(index,) for index in written.pick(RANDOM_FRAMES)],
        "expected": written.frames.__getitem__,
    }
    further = [
        opened(name, partial(_open, site.stack, written, opener), notes.get(name, ""), **how)
        for name, opener in openers.items()
    ]
    limit = _known_ranges(written, site.stack, joined=layout == _JOINED)
    yield kind.case("a random frame", [*further, limit], PREAD, 2.0, panel="random frame")


def _list_cold_cases(kind: _Kind, site: Site) -> Iterator[Case]:
    """Yield a first frame without and with an index, of files that no page cache holds."""
    written = kind.write(site)
    drop = partial(drop_pages, Path(written.image.root))
    openers = {name: opener for name, opener in OPENERS.items() if name != IN_MEMORY}
    cold = _list_first(written, openers, {}, WALK, drop)
    yield kind.case("open, first frame", cold, WALK)
    built = {name: try_to_build(name, written.image.root) for name in INDEXED}
    cold = _list_first(written, INDEXED, built, OPEN, drop)
    yield kind.case("first frame from an index", cold, OPEN)


def _list_first(
    written: Written,
    openers: dict[str, Opener],
    notes: dict[str, str],
    limit: str = "",
    prepare: Callable[[], object] | None = None,
) -> list[Contender]:
    """Return who opens, reads one frame and closes: each opener, and the limit if it is named."""
    expected = written.frames.__getitem__
    which = [(index,) for index in written.pick(1, seed=2)]
    contenders = [
        Contender(
            name,
            partial(read_once, opener, written.image),
            which,
            expected,
            prepare,
            notes.get(name, ""),
        )
        for name, opener in openers.items()
    ]
    if limit:
        read = written.walk_and_read if limit == WALK else written.open_and_read
        contenders.append(Contender(limit, read, which, prepare=prepare))
    return contenders


def _open(stack: ExitStack, written: Written, opener: Opener) -> Call:
    """Open once, to read many."""
    read = stack.enter_context(opener(written.image))
    read(written.pick(1, seed=2)[0])  # some open when they are first asked
    return read


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
