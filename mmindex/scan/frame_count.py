"""Number of Frames (0028,0008), as a header has it: a count, or a candidate for one."""

from __future__ import annotations

from typing import NamedTuple


class FrameCount(NamedTuple):
    """Number of Frames as it was found.

    Attributes
    ----------
    number : int or None
        At least 1. None where the element is absent, or has a value that is 0 or no number.
    is_clean : bool
        Whether the value is an Integer String (PS3.5 6.2), or the element is absent. An unclean
        number is a candidate: text with tabs, line ends, a decimal point or several values (the
        first counts), or a binary value. Use it only where the length of the value, an offset
        table, start markers or the fragments bear it out (rule R46), and record
        `number-of-frames` either way.
    """

    number: int | None
    is_clean: bool = True
