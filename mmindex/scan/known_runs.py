"""Runs of elements that an earlier data set had, to skip the same ones of the next in one step.

Files of a series have the same elements, and most values have the same lengths. A run is a chain of
elements, known by their headers. Where a data set has these headers, each just where the one before
leads to, which one call into C can tell, the wanted ones among them are where the run has them, and
the walk goes on after the last. At the first difference the run is cut, and the walk goes on from
there element by element: to know other files makes a scan faster, never different.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mmindex.model import Buffer
from mmindex.scan.element import Element
from mmindex.scan.encoding import LOWEST_VR_AS_LENGTH, UNDEFINED_LENGTH, Encoding
from mmindex.scan.nesting import skip_undefined_length

_FEWEST = 3  # elements in a run; fewer are skipped one by one as fast
_MOST = 1000  # elements that are learnt of a data set, which may have millions


class _Known(NamedTuple):
    """An element: its header, the length of its value, and what it is where it is wanted."""

    raw_tag: int
    header: bytes
    length: int
    tag: int | None
    vr: str


class _Run:
    """Elements, each where the one before leads to.

    Attributes
    ----------
    agreed : bool
        Whether a data set had them all since this run was made.
    unpack_from : callable or None
        What returns the headers of the elements in one call; None before `pack`.
    headers : tuple of bytes
        What that has to return.
    length : int
        Bytes from the first header to the end of the last value.
    wanted : list of (int, str, int, int, int)
        The wanted ones, as `Element` has them, with offsets from the start of the run.
    """

    def __init__(self, elements: list[_Known]) -> None:
        self.elements = elements
        self.agreed = False
        self.unpack_from: Callable[[Buffer, int], tuple[bytes, ...]] | None = None
        self.headers: tuple[bytes, ...] = ()
        self.length = 0
        self.wanted: list[tuple[int, str, int, int, int]] = []

    def pack(self) -> None:
        """Prepare to be compared in one call, which takes as long as to compare a few times."""
        self.headers = tuple(element.header for element in self.elements)
        layout = "".join(f"{len(element.header)}s{element.length}x" for element in self.elements)
        unpacker = struct.Struct("<" + layout)
        self.unpack_from, self.length = unpacker.unpack_from, unpacker.size
        self.wanted = _list_wanted(self.elements)

    def walk(
        self, buffer: Buffer, position: int, end: int, found: dict[int, Element]
    ) -> tuple[int, int]:
        """Return how many of the elements are there, and where the last of them ends.

        Takes the wanted ones as `KnownRuns.skip` does.
        """
        new = tuple.__new__
        for count, (_, header, length, tag, vr) in enumerate(self.elements):
            value_offset = position + len(header)
            if buffer[position:value_offset] != header or value_offset + length > end:
                return count, position
            if tag is not None and tag not in found:
                found[tag] = new(Element, (tag, vr, position, value_offset, length))
            position = value_offset + length
        return len(self.elements), position


class KnownRuns:
    """The runs of one data set, for those that are scanned after it.

    Attributes
    ----------
    encoding : Encoding or None
        That of the data set; None before one was learnt.
    stops : set of int
        Raw tags at which a walk stops to look: those that are wanted, and those that begin a run.
    runs : dict of int to run
        The runs, by the raw tag of the first element.
    """

    def __init__(self) -> None:
        self.encoding: Encoding | None = None
        self.stops: set[int] = set()
        self._kept: set[int] = set()  # stops of the encoding, whatever the runs
        self.runs: dict[int, _Run] = {}

    def learn(self, buffer: Buffer, start: int, end: int, encoding: Encoding) -> None:
        """Learn the runs in [start, end) of a data set, which the plain walk read."""
        self.encoding = encoding
        self.stops.update(encoding.stops)
        self._kept = encoding.stops
        for elements in _walk_runs(buffer, start, end, encoding):
            self._add(elements)

    def skip(
        self, buffer: Buffer, raw_tag: int, position: int, end: int, found: dict[int, Element]
    ) -> int:
        """Return where those elements end that are as expected, `position` where none is.

        Parameters
        ----------
        raw_tag : int
            That of the element at `position`, which begins a run.
        found : dict of int to Element
            Takes the wanted ones among them, but for those whose tag was found before.
        """
        run = self.runs[raw_tag]
        if run.agreed and run.unpack_from is None:
            run.pack()
        unpack, after = run.unpack_from, position + run.length
        if unpack is not None and after <= end and unpack(buffer, position) == run.headers:
            new = tuple.__new__
            for tag, vr, at, value_at, length in run.wanted:
                if tag not in found:
                    place = (tag, vr, position + at, position + value_at, length)
                    found[tag] = new(Element, place)
            return after
        same, position = run.walk(buffer, position, end, found)
        run.agreed = True
        if same < len(run.elements):
            self._cut(raw_tag, run, same)
        return position

    def _cut(self, raw_tag: int, run: _Run, same: int) -> None:
        """Make two runs of one, without the element after `same` of them."""
        del self.runs[raw_tag]
        if raw_tag not in self._kept:
            self.stops.discard(raw_tag)
        self._add(run.elements[:same])
        self._add(run.elements[same + 1 :])

    def _add(self, elements: list[_Known]) -> None:
        if len(elements) >= _FEWEST:
            self.runs[elements[0].raw_tag] = _Run(elements)
            self.stops.add(elements[0].raw_tag)


def _list_wanted(elements: list[_Known]) -> list[tuple[int, str, int, int, int]]:
    wanted = []
    position = 0
    for _, header, length, tag, vr in elements:
        value_offset = position + len(header)
        if tag is not None:
            wanted.append((tag, vr, position, value_offset, length))
        position = value_offset + length
    return wanted


def _walk_runs(
    buffer: Buffer, position: int, end: int, encoding: Encoding
) -> Iterator[list[_Known]]:
    """Yield the elements of defined length that follow each other."""
    run: list[_Known] = []
    for _ in range(_MOST):
        if position + 12 > end:
            break
        raw_tag, vr, length = encoding.header.unpack_from(buffer, position)
        if not raw_tag:
            break  # zeros after the last element
        value_offset = position + 8
        if vr not in encoding.short_vrs:
            value_offset += 0 if encoding.implicit else 4
            length = encoding.length.unpack_from(buffer, value_offset - 4)[0]
        doubtful = encoding.implicit and length >= LOWEST_VR_AS_LENGTH  # see scan_elements
        if length == UNDEFINED_LENGTH or doubtful:
            yield run
            run = []
        else:
            name = "" if encoding.implicit else encoding.vr_of(vr)
            header = bytes(buffer[position:value_offset])
            run.append(_Known(raw_tag, header, length, encoding.wanted.get(raw_tag), name))
        position = value_offset + length
        if length == UNDEFINED_LENGTH:
            position = skip_undefined_length(buffer, value_offset, end, encoding.inside(vr))
    yield run
