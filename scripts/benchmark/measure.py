"""Contenders measured in turn: warm-up, then rounds, each contender once a round.

A batch is as many calls as last a while, so that a clock's grain and a loop's cost vanish. A
contender's calls end with its budget: a slow one has fewer samples, down to its warm-up alone.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice, starmap
from pathlib import Path
from time import perf_counter
from typing import Any

from scripts.benchmark.model import MMINDEX, PREAD, REMARKS, WRONG, Measurement, excuse

Call = Callable[..., Any]

_LONGEST_REPEATED = 10.0  # seconds; a first call that took less is not measured: it may import
_CHECKED = 20  # answers of a contender that are compared


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured; times are in seconds."""

    rounds: int  # samples of each contender, if its budget lasts
    budget: float  # that a contender may spend in one case; its warm-up may take longer
    batch: float  # that a sample of short calls lasts
    patience: float  # of one call, beyond which larger sizes are left out


QUICK = Effort(rounds=5, budget=0.6, batch=0.005, patience=1.0)
FULL = Effort(rounds=9, budget=5.0, batch=0.03, patience=15.0)


def compare_exactly(answer: object, expected: object) -> str:
    """Return "" if an answer is what it has to be, else what is wrong with it."""
    return "" if answer == expected else WRONG


@dataclass(frozen=True, slots=True)
class Contender:
    """Who is measured: its `call` is timed, unless `note` says why not.

    `compare` takes an answer and what is `expected`, and returns "" or one of REMARKS.
    """

    name: str
    call: Call | None
    arguments: Sequence[tuple[object, ...]] = ((),)  # of the calls, one after the other and around
    expected: Callable[..., object] | None = None  # from arguments, what the call has to return
    prepare: Callable[[], object] | None = None  # done before every call, outside the timing
    note: str = ""
    compare: Callable[[object, object], str] = compare_exactly


class WrongFrameError(Exception):
    """mmindex returned something else than it has to."""


@dataclass(slots=True)
class _Race:
    """One contender on its way through the rounds."""

    contender: Contender
    samples: list[float] = field(default_factory=list)
    note: str = ""
    spent: float = 0.0
    batch: int = 1

    def go(self, step: Callable[[], None]) -> None:
        """Take a step, unless nothing can be measured; a peer that fails is out."""
        if self.contender.call is None or (self.note and self.note not in REMARKS):
            return
        _, failure = excuse(self.contender.name, step)
        if failure:
            self.samples.clear()
            self.note = failure

    def warm_up(self, effort: Effort) -> None:
        """Check answers, find how many calls make a batch; keep the sample of a slow one.

        The first call may import and fill caches, so it is a sample only where it is that long
        that these are a small part of it, and a second one would try this run's patience.
        """
        contender = self.contender
        took = self.check(contender.arguments[0])
        if took < max(_LONGEST_REPEATED, effort.patience):
            took = self.check(contender.arguments[0])
        if took < effort.batch and contender.prepare is None:
            for arguments in contender.arguments[1:_CHECKED]:
                self.check(arguments)
        if took > effort.budget / 2:
            self.samples.append(took)
            self.spent = effort.budget
        elif contender.prepare is None:
            for _ in range(2):
                self.batch = max(1, min(100_000, int(effort.batch / max(took, 1e-9))))
                took = self.sample()
            self.spent = 0.0

    def check(self, arguments: tuple[object, ...]) -> float:
        """Call once, compare the answer with what it has to be; return the seconds it took."""
        contender = self.contender
        if contender.prepare is not None:
            contender.prepare()
        start = perf_counter()
        answer = contender.call(*arguments)
        took = perf_counter() - start
        if contender.expected is not None:
            remark = contender.compare(answer, contender.expected(*arguments))
            if remark and contender.name == MMINDEX:
                raise WrongFrameError(f"{contender.name}: {remark}")
            self.note = self.note or remark
        return took

    def take_sample(self, effort: Effort) -> None:
        """Keep a sample, if the budget lasts."""
        if self.spent < effort.budget:
            self.samples.append(self.sample())

    def sample(self) -> float:
        """Return the seconds a call takes, over a batch."""
        contender = self.contender
        calls = list(islice(cycle(contender.arguments), self.batch))
        if contender.prepare is not None:
            contender.prepare()
        elif self.batch > 1:  # so that who ran before does not matter
            deque(starmap(contender.call, calls), maxlen=0)
        gc.collect()
        start = perf_counter()
        deque(starmap(contender.call, calls), maxlen=0)
        took = perf_counter() - start
        self.spent += took
        return took / self.batch


def measure(contenders: Sequence[Contender], effort: Effort) -> tuple[Measurement, ...]:
    """Return a measurement of each contender; they take turns, in a seeded order.

    Raises
    ------
    WrongFrameError
        mmindex's answer is not what it has to be.
    """
    races = [_Race(contender, note=contender.note) for contender in contenders]
    for race in races:
        race.go(partial(race.warm_up, effort))
    gc.collect()
    gc.freeze()  # what was imported and opened: no contender pays for another's objects
    turns = list(races)
    generator = random.Random(0)
    for _ in range(effort.rounds):
        generator.shuffle(turns)
        for race in turns:
            race.go(partial(race.take_sample, effort))
    gc.unfreeze()
    return tuple(Measurement(race.contender.name, tuple(race.samples), race.note) for race in races)


def weigh(contenders: Sequence[Contender]) -> tuple[Measurement, ...]:
    """Return a measurement of each contender: what its call returns, once for each `arguments`."""
    return tuple(map(_weigh, contenders))


def _weigh(contender: Contender) -> Measurement:
    name, call = contender.name, contender.call
    if call is None or contender.note:
        return Measurement(name, note=contender.note)
    figures, note = excuse(name, lambda: tuple(map(float, starmap(call, contender.arguments))))
    return Measurement(name, figures or (), note)


def attempt(name: str, make: Callable[[], Contender]) -> Contender:
    """Return the contender that `make` makes, or one with a note of why there is none."""
    made, note = excuse(name, make)
    return made or Contender(name, None, note=note)


def opened(name: str, open_it: Callable[[], Call], note: str = "", **how: Any) -> Contender:
    """Return a contender of the call that `open_it` returns; with a `note`, nothing is opened.

    `how` are further attributes of the contender.
    """
    if note:
        return Contender(name, None, note=note)
    return attempt(name, lambda: Contender(name, open_it(), **how))


def contend_pread(stack: ExitStack, places: Sequence[tuple[str, int, int]]) -> Contender:
    """Return the limit of reads from files that are open: path, offset and length of each."""
    descriptors: dict[str, int] = {}
    for path in {path for path, _, _ in places}:
        descriptors[path] = os.open(path, os.O_RDONLY)
        stack.callback(os.close, descriptors[path])
    known = [(descriptors[path], length, offset) for path, offset, length in places]
    return Contender(PREAD, os.pread, known)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a family of cases is told: where to write, how much to measure."""

    folder: Path
    effort: Effort
    quick: bool


def tell(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)
