"""Decoded pixels -> PNG, to look at: no window of the file, no look-up table, no palette."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mmindex.errors import DecodeError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex import ImagePixel


def encode_png(array: NDArray[np.generic], image_pixel: ImagePixel) -> bytes:
    """Return a frame as a PNG file of 8-bit gray or RGB.

    Parameters
    ----------
    array : ndarray
        Shape (rows, columns) or (rows, columns, 3).
    image_pixel : ImagePixel
        What the array was decoded by. MONOCHROME1 is inverted: it has its least value white.

    Raises
    ------
    DecodeError
        The samples are no gray values or RGB.
    MissingDependencyError
        Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependencyError("PNG needs Pillow: pip install 'mmindex[codecs]'") from None
    photometric = image_pixel.photometric_interpretation
    if photometric == "PALETTE COLOR":
        raise DecodeError(
            "the samples are indices into a palette (PALETTE COLOR), not a picture: "
            "use --format npy"
        )
    if array.shape[2:] not in ((), (3,)):
        raise DecodeError(f"expected 1 or 3 samples a pixel, found {array.shape[2:]}")
    pixels = _scale(array, is_mask=image_pixel.bits_allocated == 1)
    if photometric == "MONOCHROME1":
        pixels = 255 - pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _scale(array: NDArray[np.generic], *, is_mask: bool) -> NDArray[np.uint8]:
    """Return uint8 samples: 8-bit ones as they are, 1-bit ones as 0 and 255, others windowed."""
    import numpy as np

    if is_mask:
        return array.astype(bool).astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(array.shape, np.uint8)
    least, greatest = values[finite].min(), values[finite].max()
    span = float(greatest / 2 - least / 2) or 1.0  # halves: the whole could overflow
    scaled = (values / 2 - least / 2) / span * 255
    finite_scaled: NDArray[np.float64] = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0)
    return finite_scaled.round().astype(np.uint8)
