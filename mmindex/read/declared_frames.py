"""A bound for Number of Frames, which a file of a few bytes can declare as any number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmindex.errors import FormatError

if TYPE_CHECKING:
    from mmindex.model import InstanceRecord

_MOST_ABSENT = 1 << 20  # frames


def check_declared_frames(record: InstanceRecord) -> None:
    """Raise where far more frames are declared than stored: an array with a value a frame.

    Raises
    ------
    FormatError
        Number of Frames is above 1,048,576, and not all of these frames are in the file.
    """
    count = record.number_of_frames
    located = 0 if record.frames is None else record.frames.frames_located
    if count > max(_MOST_ABSENT, located):
        raise FormatError(
            f"expected at most {_MOST_ABSENT} frames of which some are absent, found Number of "
            f"Frames {count} and {located} frames: the file is cut, or the number is wrong"
        )
