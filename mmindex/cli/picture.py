"""Decoded pixels -> gray or RGB of 8 bits, to look at: no look-up table, no palette.

The index has no window of the file's (VOI LUT Module, PS3.3 C.11.2), so samples of more than 8 bits
get one from their values.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmindex.decode.window import Window, choose_window
from mmindex.errors import DecodeError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from mmindex import ImagePixel
    from mmindex.cli.source_argument import Opened

MOST_FRAMES_SAMPLED = 64  # for a window
_MOST_SAMPLES = 1 << 21


def check_picture(opened: Opened) -> None:
    """Raise an error where no picture can be made of an instance's frames.

    Raises
    ------
    DecodeError
        The samples are indices into a palette.
    MissingDependencyError
        Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise MissingDependencyError("PNG needs Pillow: pip install 'mmindex[codecs]'") from None
    if opened.instance.record.image_pixel.photometric_interpretation == "PALETTE COLOR":
        raise DecodeError(
            "the samples are indices into a palette (PALETTE COLOR), not a picture: "
            "use `mmindex frame --format npy`",
            path=opened.path,
        )


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


def encode_png(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
