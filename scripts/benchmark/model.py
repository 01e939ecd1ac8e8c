"""What is measured, as plain values: an image, the samples of a contender, a case's result."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple, TypeVar

Made = TypeVar("Made")

MMINDEX = "mmindex"
WALK = "walk of the map"
SKIP = "skip of the header"
PREAD = "os.pread"
OPEN = "os.open and os.pread"
FOLDER_WALK = "os.scandir and stat"
BARE = "bare python, os.pread"
NOT_THERE = "not there"
WRONG = "wrong frame"
OTHER_PIXELS = "other pixels"
REMARKS = (WRONG, OTHER_PIXELS)  # what is wrong with answers that are measured all the same


class Image(NamedTuple):
    """A DICOM file with frames, as a contender is told of it."""

    root: str
    name: str
    number_of_frames: int
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str

    @property
    def path(self) -> str:
        """The file."""
        return f"{self.root}/{self.name}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """Samples of one contender in one case: seconds or bytes an operation, one a round.

    `note` says why there are none, or what is wrong with what it returned.
    """

    contender: str
    samples: tuple[float, ...] = ()
    note: str = ""

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile; of one sample, that sample."""
        if len(self.samples) < 2:
            return self.samples[0], self.samples[0]
        lower, _, upper = statistics.quantiles(self.samples, n=4, method="inclusive")
        return lower, upper

    @property
    def spread(self) -> float:
        """Half of what lies between the quartiles."""
        lower, upper = self.quartiles
        return (upper - lower) / 2

    @property
    def counts(self) -> bool:
        """Whether it was measured, and returned what is right."""
        return bool(self.samples) and self.note != WRONG


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: what it says beside the figures."""

    title: str
    _: KW_ONLY
    unit: str = "s"  # of wall time; "CPU" of processor time, "B" of bytes, "1" of a part
    limit: str = ""  # the contender that is the limit
    bound: float | None = None  # how many times the limit mmindex may take
    aim: float | None = None  # seconds (or bytes) that mmindex may take on any machine
    shown: bool = True  # in a row of its own in the table
    curve: str = ""  # the plot's panel that the case is a point of
    number_of_frames: int = 0  # its place on that plot


@dataclass(frozen=True, slots=True)
class Result(Row):
    """A case that was measured: mmindex, its peers and the limit in turn."""

    measurements: tuple[Measurement, ...]
    family: str

    def find(self, contender: str) -> Measurement | None:
        """Return the measurement of a contender, if it has samples."""
        for measurement in self.measurements:
            if measurement.contender == contender and measurement.samples:
                return measurement
        return None

    @property
    def peers(self) -> list[Measurement]:
        """All but mmindex and the limit."""
        ours = (MMINDEX, self.limit)
        return [each for each in self.measurements if each.contender not in ours]

    @property
    def faster_peers(self) -> list[Measurement]:
        """Peers whose right answer took less than mmindex's."""
        mmindex = self.find(MMINDEX)
        if mmindex is None:
            return []
        return [each for each in self.peers if each.counts and each.median < mmindex.median]

    @property
    def times_of_limit(self) -> float | None:
        """How many times the limit mmindex takes."""
        mmindex, limit = self.find(MMINDEX), self.find(self.limit)
        if mmindex is None or limit is None or not limit.median:
            return None
        return mmindex.median / limit.median


class CannotReadError(Exception):
    """A contender has no way to do what a case asks; the text says what it lacks."""


def excuse(name: str, call: Callable[[], Made]) -> tuple[Made | None, str]:
    """Return what a contender's call returns, or None and why there is nothing, on one line."""
    try:
        return call(), ""
    except Exception as error:  # whatever a peer raises is its result
        if name == MMINDEX:
            raise
        if isinstance(error, ImportError):
            return None, NOT_THERE
        return None, str(error) if isinstance(
            error, CannotReadError
        ) else f"fails: {type(error).__name__}"
