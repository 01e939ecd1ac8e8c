"""Smaller pictures: the means of blocks of pixels, summed piece by piece, each piece once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_ROWS = 16  # rows of blocks that are summed together
_MOST_IN_16_BITS = 256  # rows of bytes whose sum 16 bits hold


class BlockMeans:
    """The means of blocks of step x step pixels of an image whose pieces come in any order.

    Blocks at the right and lower edge may be smaller. Pixels that no piece covers are background.
    Whole numbers are rounded, halves up. Memory is that of the means and of the rows of a piece.

    Parameters
    ----------
    height, width : int
        Size of the image, in pixels.
    step : int
        Side of a block, in pixels.
    background : ndarray
        One pixel: shape () or (samples,); its dtype is that of the image.
    """

    def __init__(self, height: int, width: int, step: int, background: NDArray[np.generic]) -> None:
        self._step = step
        self._size = height, width
        self._dtype = background.dtype
        # Sums of 8 and 16 bits fit 63 bits for every size that an image can have (2**32 - 1).
        is_small = background.dtype.kind in "biu" and background.dtype.itemsize <= 2
        self._kind: Any = np.int64 if is_small else np.float64
        self._background = background.reshape(-1).astype(self._kind)
        self._shape = background.shape
        rows, columns = -(-height // step), -(-width // step)
        self._counts = self._cover(0, rows, 0, columns, (0, 0), self._size)
        self._sums: NDArray[Any] = self._counts[..., None] * self._background

    def _cover(
        self,
        first_row: int,
        last_row: int,
        first_column: int,
        last_column: int,
        start: tuple[int, int],
        end: tuple[int, int],
    ) -> NDArray[Any]:
        """Return how many pixels of [start, end) each of these blocks has."""
        rows, columns = (
            np.diff(np.clip(np.arange(first, last + 1) * self._step, low, high))
            for first, last, low, high in (
                (first_row, last_row, start[0], end[0]),
                (first_column, last_column, start[1], end[1]),
            )
        )
        covered: NDArray[Any] = np.outer(rows, columns)
        return covered

    def add(self, pixels: NDArray[np.generic], top: int, left: int) -> None:
        """Add a piece, (rows, columns[, samples]), whose first pixel is at `top` and `left`.

        What lies outside the image is left out.
        """
        height, width = self._size
        pixels = pixels[: height - top, : width - left]
        tall, wide = pixels.shape[:2]
        step, last = self._step, left + wide
        pixels = pixels.reshape(tall, wide, -1)
        first_column, last_column = left // step, -(-last // step)
        first_row, last_row = top // step, -(-(top + tall) // step)
        for row in range(first_row, last_row, _BLOCK_ROWS):
            until = min(last_row, row + _BLOCK_ROWS)
            start, end = max(top, row * step), min(top + tall, until * step)
            sums = self._sum(pixels[start - top : end - top], start, row, until, left)
            covered = self._cover(row, until, first_column, last_column, (start, left), (end, last))
            sums -= covered[..., None] * self._background
            self._sums[row:until, first_column:last_column] += sums

    def _sum(
        self, pixels: NDArray[np.generic], top: int, first_row: int, last_row: int, left: int
    ) -> NDArray[Any]:
        """Return the sums of the blocks in some rows of blocks, of the pixels that are there.

        Rows are added in the narrowest type that holds their sum: many lanes of the processor at
        once. A product of matrices would wait for other cores, which may be busy.
        """
        tall, wide, samples = pixels.shape
        step, dtype = self._step, self._dtype
        size = 2 if dtype.itemsize == 1 and min(step, tall) <= _MOST_IN_16_BITS else 4
        sum_type: Any = np.dtype(f"{'i' if dtype.kind == 'i' else 'u'}{size}")
        if self._kind is np.float64:
            sum_type = self._kind
        flat = pixels.reshape(tall, -1).astype(sum_type)
        by_row = np.empty((last_row - first_row, flat.shape[1]), sum_type)
        for at in range(last_row - first_row):
            start = max(0, (first_row + at) * step - top)
            end = (first_row + at + 1) * step - top
            np.add.reduce(flat[start:end], axis=0, out=by_row[at])
        columns = np.arange(left // step, -(-(left + wide) // step)) * step - left
        by_column = by_row.reshape(-1, wide, samples).astype(self._kind, copy=False)
        sums: NDArray[Any] = np.add.reduceat(by_column, np.maximum(columns, 0), axis=1)
        return sums

    def means(self) -> NDArray[np.generic]:
        """Return the means: (rows, columns[, samples])."""
        counts = self._counts[..., None]
        means: NDArray[Any]
        if self._kind is np.int64:
            means = (self._sums + counts // 2) // counts
        elif self._dtype.kind == "f":
            means = self._sums / counts
        else:
            means = np.floor(self._sums / counts + 0.5)
        shaped: NDArray[np.generic] = means.reshape(*self._counts.shape, *self._shape)
        return shaped.astype(self._dtype)
