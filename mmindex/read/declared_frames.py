"""A bound for Number of Frames, which a file of a few bytes can declare as any number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmindex.errors import FormatError

if TYPE_CHECKING:
    from mmindex.model import InstanceRecord

_MOST_ABSENT = 1 << 20  # frames


def check_declared_frames(*records: InstanceRecord) -> None:
    """Raise where far more frames are declared than stored: an array has a value a frame.

    Raises
    ------
    FormatError
        Number of Frames, of all records together, is above 1,048,576, and not all of these frames
        are in the files.
    """
    located = (0 if each.frames is None else each.frames.frames_located for each in records)
    check_declared(sum(record.number_of_frames for record in records), located)


def check_declared(count: int, located: Iterable[int]) -> None:
    """Raise as `check_declared_frames`, of numbers: frames declared, and those of each file."""
    found = sum(located)
    if count > max(_MOST_ABSENT, found):
        raise FormatError(
            f"expected at most {_MOST_ABSENT} frames of which some are absent, found Number of "
            f"Frames {count} and {found} frames: the file is cut, or the number is wrong"
        )
