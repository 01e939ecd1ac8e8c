"""Numbers as options take them: times and counts, none of them endless."""

from __future__ import annotations

from typing import Any

import click

_LONGEST = 1e9  # seconds or minutes; some system calls take no more than 292 years
_MOST = 4096  # processes, threads or requests, all of which may be started at once
MOST_FRAMES = 1 << 48  # of a file, as in an index


class Time(click.FloatRange):
    """A number of seconds or minutes."""

    def __init__(self, *, min_open: bool = False) -> None:
        super().__init__(min=0, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; raises BadParameter for one that is out of range, or no number."""
        number = float(super().convert(value, param, ctx))
        if not number <= _LONGEST:  # NaN is within the range, as comparisons see it
            self.fail(f"expected at most {_LONGEST:,.0f}, found {value!r}", param, ctx)
        return number


class Count(click.IntRange):
    """A number of things, by itself of those that are done or shown at once."""

    def __init__(self, most: int = _MOST) -> None:
        super().__init__(min=1)
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; raises BadParameter for one that is out of range, or no number."""
        number = int(super().convert(value, param, ctx))
        if number > self._most:
            self.fail(f"expected at most {self._most:,}, found {value}", param, ctx)
        return number
