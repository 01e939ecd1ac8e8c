"""One window for several frames, so that they compare, and which frames are looked at for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mmindex.decode.window import Window, choose_window
from mmindex.errors import DecodeError, FormatError
from mmindex.read.ahead import walk_held

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance
    from mmindex.read.pictures import WindowChoice

MOST_FRAMES_SAMPLED = 64  # for a window
_MOST_SAMPLES = 1 << 21


def spread(numbers: Sequence[range], most: int) -> list[int]:
    """Return all numbers, or where they are too many `most` at even steps, first to last."""
    count = sum(map(len, numbers))
    if count <= most:
        return [number for each in numbers for number in each]
    return [_number_at(numbers, at * (count - 1) // (most - 1)) for at in range(most)]


def _number_at(numbers: Sequence[range], at: int) -> int:
    for each in numbers:
        if at < len(each):
            break
        at -= len(each)
    return each[at]


def find_window(values: Iterable[NDArray[np.generic] | None], count: int) -> Window | None:
    """Return one window for frames of an instance, so that they compare.

    Parameters
    ----------
    values : iterable of ndarray or None
        Frames in units, None of one that needs no window by its values; frames after such a one
        are not taken.
    count : int
        How many they are. Of large ones, samples at even steps are looked at.

    Returns
    -------
    Window or None
        None where a frame needs none, or there are no frames.
    """
    import numpy as np

    samples = []
    for array in values:
        if array is None:
            return None
        step = -(-array.size * count // _MOST_SAMPLES)
        if step > 1:
            step |= 1  # with an even one, whole columns would be left out
        samples.append(array.reshape(-1)[::step].copy())
    return choose_window(np.concatenate(samples)) if samples else None


def find_shared_window(
    instance: Instance, frame_indices: Sequence[range], window: WindowChoice
) -> Window | None:
    """Return one window by the values of all these frames, or of some of them at even steps.

    None where frames need no window by their values, where there is one frame, which has its own,
    and where no frame can be read.
    """
    from mmindex.read.pictures import check_window, read_values

    window = check_window(window)
    sampled = spread(frame_indices, MOST_FRAMES_SAMPLED)

    def walk_readable() -> Iterator[NDArray[np.generic] | None]:
        for frame_index, take in walk_held(instance, sampled):
            with suppress(DecodeError, FormatError):  # reported when the picture is made
                yield read_values(instance, frame_index, window, take)

    return find_window(walk_readable(), len(sampled)) if len(sampled) > 1 else None
