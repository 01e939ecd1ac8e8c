"""The window of samples by their values, where a file's own is not asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEW_VALUES = 16  # of labels: each of them is to be seen, however few pixels it has
_CUT_OFF = 0.005  # part of the samples at either end: hot pixels, metal
_MUCH = 0.01  # part of the samples that makes the least value background or padding
_WIDE = 0.25  # part of the window that the gap above padding is at least


class Window(NamedTuple):
    """The values that become black and white."""

    least: float
    greatest: float


def choose_window(samples: NDArray[np.generic]) -> Window:
    """Return the window of samples: nearly all of them, without a few hot ones and padding.

    Half a percent of the samples is cut off at either end. The least value does not count where it
    is that of many samples, as it is outside the body; and if all others are far above, as they are
    above the padding of a CT, the window leaves it out. Where that leaves no contrast, and where
    there are few values, as in a map of labels, the window is from the least to the greatest.
    """
    import numpy as np

    values, counts = np.unique(samples[np.isfinite(samples)], return_counts=True)
    if not len(values):
        return Window(0.0, 0.0)
    widest = Window(float(values[0]), float(values[-1]))
    if len(values) <= _FEW_VALUES:
        return widest
    ends = (_CUT_OFF, 1 - _CUT_OFF)
    least, greatest = _values_at(values, counts, ends)
    if counts[0] >= counts.sum() * _MUCH:
        next_least, greatest = _values_at(values[1:], counts[1:], ends)
        is_padding = float(values[1]) - widest.least > _WIDE * (greatest - next_least)
        least = next_least if is_padding else widest.least
    return Window(least, greatest) if least < greatest else widest


def _values_at(
    values: NDArray[np.generic], counts: NDArray[np.intp], parts: Iterable[float]
) -> tuple[float, ...]:
    """Return the values that these parts of the samples are not above."""
    import numpy as np

    up_to = np.cumsum(counts)
    return tuple(float(values[np.searchsorted(up_to, part * up_to[-1])]) for part in parts)
