"""Decoded pixels -> gray or RGB of 8 bits, to look at: no look-up table, no palette.

The index has no window of the file's (VOI LUT Module, PS3.3 C.11.2), so samples of more than 8 bits
get one from their values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mmindex.decode.window import Window, choose_window
from mmindex.errors import DecodeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.model import ImagePixel

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


def find_window(arrays: Iterable[NDArray[np.generic]], count: int) -> Window | None:
    """Return one window for frames of an instance, so that they compare.

    Parameters
    ----------
    arrays : iterable of ndarray
        Decoded frames; those after the first are only taken where a window is needed.
    count : int
        How many they are. Of large ones, samples at even steps are looked at.

    Returns
    -------
    Window or None
        None for samples of 8 bits or less, which are shown as they are.
    """
    import numpy as np

    samples = []
    for array in arrays:
        if array.dtype == np.uint8:
            return None
        step = -(-array.size * count // _MOST_SAMPLES)
        if step > 1:
            step |= 1  # with an even one, whole columns would be left out
        samples.append(array.reshape(-1)[::step].copy())
    return choose_window(np.concatenate(samples)) if samples else None


def render(
    array: NDArray[np.generic], image_pixel: ImagePixel, window: Window | None
) -> NDArray[np.uint8]:
    """Return a frame as 8-bit gray or RGB: masks as 0 and 255, MONOCHROME1 inverted.

    Parameters
    ----------
    array : ndarray
        Shape (rows, columns) or (rows, columns, 3).
    image_pixel : ImagePixel
        What it was decoded by.
    window : Window, optional
        Of samples that are not 8-bit already. NaN becomes black.

    Raises
    ------
    DecodeError
        The samples are no gray values or RGB.
    """
    import numpy as np

    if array.shape[2:] not in ((), (3,)):
        raise DecodeError(f"expected 1 or 3 samples a pixel, found {array.shape[2:]}")
    if image_pixel.bits_allocated == 1:
        pixels = array.astype(bool).astype(np.uint8) * np.uint8(255)
    elif window is None:
        pixels = array.astype(np.uint8)
    else:
        least, greatest = window.least / 2, window.greatest / 2  # the whole span could overflow
        scaled = (array.astype(np.float64) / 2 - least) / ((greatest - least) or 1.0) * 255
        scaled = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0)
        pixels = scaled.clip(0, 255).round().astype(np.uint8)
    is_inverse = image_pixel.photometric_interpretation == "MONOCHROME1"  # its least is white
    return 255 - pixels if is_inverse else pixels
