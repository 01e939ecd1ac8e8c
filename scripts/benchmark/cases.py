"""A family of cases: setups that write files, the cases measured on each, one runner for all.

    FAMILIES["toy"] = family("toy", list_setups)

    def list_setups(bench: Bench) -> Iterator[Setup]:
        yield "8 frames", partial(_list_cases, 8)

    def _list_cases(number_of_frames: int, site: Site) -> Iterator[Case]:
        written = write_image(site.folder / "files", number_of_frames)
        yield Case("toy: open", [Contender(MMINDEX, ours), opened("a peer", open_theirs)])

A family that only has a size has no setups of its own: `sized(8, 64, "{:,} frames", _list_cases)`.

The runner says what it does, gives a setup its folder, measures each case before the setup writes
what the next one needs, closes what was opened and removes the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.benchmark.measure import Bench, Contender, measure, tell, weigh
from scripts.benchmark.model import CannotReadError, Measurement, Result, Row


@dataclass(frozen=True, slots=True)
class Case(Row):
    """A row of the table, and who is measured for it: mmindex, its peers and the limit.

    Of another `unit` than "s", what a call returns is the figure.
    """

    contenders: Sequence[Contender]
    _: KW_ONLY
    least_budget: float = 0.0  # seconds that a contender may spend in any case
    learn: Callable[[tuple[Measurement, ...]], None] | None = None  # is called with the figures

    def run(self, family: str, bench: Bench) -> Result:
        """Measure the contenders."""
        if self.unit == "s":
            budget = max(bench.effort.budget, self.least_budget)
            measured = measure(self.contenders, replace(bench.effort, budget=budget))
        else:
            measured = weigh(self.contenders)
        if self.learn is not None:
            self.learn(measured)
        row = {field.name: getattr(self, field.name) for field in fields(Row)}
        return Result(**row, measurements=measured, family=family)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a setup writes its files, and who closes what its contenders open."""

    bench: Bench
    folder: Path
    stack: ExitStack


Setup = tuple[str, Callable[[Site], Iterable[Case]]]


def sized(
    quick: int, full: int, says: str, list_cases: Callable[[int, Site], Iterable[Case]]
) -> Callable[[Bench], Iterator[Setup]]:
    """Return the one setup of a family that only has a size: in a quick run, in a full one.

    `says` is what progress names, with the size in it.
    """

    def list_setups(bench: Bench) -> Iterator[Setup]:
        size = quick if bench.quick else full
        yield says.format(size), partial(list_cases, size)

    return list_setups


def family(
    name: str, list_setups: Callable[[Bench], Iterable[Setup]]
) -> Callable[[Bench], Iterator[Result]]:
    """Return the runner of a family: what FAMILIES has for each name."""

    def run(bench: Bench) -> Iterator[Result]:
        for says, list_cases in list_setups(bench):
            tell(f"{name}: {says}")
            with TemporaryDirectory(dir=bench.folder) as folder, ExitStack() as stack:
                try:
                    for case in list_cases(Site(bench, Path(folder), stack)):
                        yield case.run(name, bench)
                except CannotReadError as error:
                    tell(f"{name}: {error}; not measured")
                    return

    return run
