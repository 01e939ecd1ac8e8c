"""Smaller pictures: the means of blocks of pixels, rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LARGEST_STEP = 256  # for which the sum of a block of bytes is below 2**24


def shrink(pixels: NDArray[np.generic], step: int) -> NDArray[np.generic]:
    """Return the means of blocks of step x step pixels; blocks at the edge may be smaller."""
    if step == 1:
        return pixels
    tall, wide = pixels.shape[:2]
    rows, columns = -(-tall // step), -(-wide // step)
    counts = np.outer(*(np.minimum(step, size - np.arange(0, size, step)) for size in (tall, wide)))
    # Sums of floats are exact up to 2**24, of doubles up to 2**53.
    is_small = pixels.dtype.itemsize == 1 and step <= _LARGEST_STEP
    samples = pixels.reshape(tall, wide, -1).astype(np.float32 if is_small else np.float64)
    if (rows * step, columns * step) != (tall, wide):
        padding = (0, rows * step - tall), (0, columns * step - wide), (0, 0)
        samples = np.pad(samples, padding)
    by_row = np.matmul(np.ones(step, samples.dtype), samples.reshape(rows, step, -1))
    blocks = by_row.reshape(rows, columns, step, -1)
    sums = blocks[:, :, 0].astype(np.int64)
    for at in range(1, step):
        sums += blocks[:, :, at].astype(np.int64)
    counts = counts[..., None]
    means = (sums + counts // 2) // counts
    shaped: NDArray[np.generic] = means.reshape(rows, columns, *pixels.shape[2:])
    return shaped.astype(pixels.dtype)
