"""Pixels by meaning: values in units, and pictures as viewers show them (PS3.3 C.11, C.7.6.3.1).

pydicom's functions apply the tables. A frame's own functional groups go before the shared ones, and
those before the top level (C.7.6.16).
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableSequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmindex.decode.window import Window, choose_window
from mmindex.errors import DecodeError
from mmindex.read.display import keep_display
from mmindex.read.header import header_errors
from mmindex.read.pixels import read_array
from mmindex.read.tables import read_palette, read_table
from mmindex.read.units import apply_modality

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel
    from mmindex.read.instance import Instance

    WindowChoice = Literal["file", "auto"] | tuple[float, float]

_PALETTE, _COLOURS = "PALETTE COLOR", ("Red", "Green", "Blue")


def check_window(window: object) -> WindowChoice:
    """Return the window that a caller asks for.

    Raises
    ------
    ValueError
        The window is not "file", "auto", or a finite center and a finite width above 0.
    """
    if window == "file":
        return "file"
    if window == "auto":
        return "auto"
    try:
        center, width = map(float, window)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        center = width = math.nan
    if not math.isfinite(center) or not 0 < width < math.inf:
        raise ValueError(f"expected a window of file, auto or (center, width), found {window!r}")
    return center, width


def read_values(
    instance: Instance,
    frame_index: int,
    window: WindowChoice,
    take: Callable[[], Instance] | None = None,
) -> NDArray[np.generic] | None:
    """Return a frame's values in units where its picture needs a window by values, else None.

    Colours, masks and gray values of 8 bits are shown as they are; others need none if one is given
    or the file has one.

    Parameters
    ----------
    take : callable, optional
        As in `read_picture`.
    """
    image = instance.record.image_pixel
    if isinstance(window, tuple) or image.photometric_interpretation == _PALETTE:
        return None
    if image.bits_allocated == 1 or (image.samples_per_pixel or 1) > 1:
        return None
    header = keep_display(instance).of_frame(frame_index)
    if window == "file" and (_has_voi_lut(header) or _find_window(header) is not None):
        return None
    pixels = read_array(take() if take else instance, frame_index, raw=False)
    return None if _is_shown_as_stored(pixels, image) else apply_modality(pixels, header)


def _is_shown_as_stored(pixels: Pixels, image: ImagePixel) -> bool:
    return image.bits_stored == 8 and pixels.dtype == np.uint8


def _find_window(header: Dataset) -> tuple[float, float] | None:
    """Return center and width of the file's first window; None where it has none of any width."""
    found = []
    for name in ("WindowCenter", "WindowWidth"):
        try:
            found.append(float(_take_first(header.get(name))))
        except header_errors():  # absent, empty, or no number
            return None
    center, width = found
    return (center, width) if math.isfinite(center) and 0 < width < math.inf else None


def _take_first(value: Any) -> Any:
    return value[0] if isinstance(value, MutableSequence) else value


def _has_voi_lut(header: Dataset) -> bool:
    table = (header.get("VOILUTSequence") or [None])[0]
    return table is not None and "LUTData" in table


def read_picture(
    instance: Instance,
    frame_index: int,
    window: WindowChoice,
    *,
    apply_palette: bool = True,
    by_values: Window | None = None,
    take: Callable[[], Instance] | None = None,
) -> NDArray[np.uint8]:
    """Return a frame as 8-bit gray or RGB; see `Instance.picture`.

    Parameters
    ----------
    by_values : Window, optional
        The window of several frames, for one whose window is by values.
    take : callable, optional
        Returns what the frame is read from, such as an instance that holds it in memory; the
        header is that of `instance`.
    """
    window = check_window(window)
    pixels = read_array(take() if take else instance, frame_index, raw=False)
    return show_pixels(
        instance, frame_index, pixels, window, apply_palette=apply_palette, by_values=by_values
    )


def show_pixels(
    instance: Instance,
    frame_index: int,
    pixels: Pixels,
    window: WindowChoice,
    *,
    apply_palette: bool = True,
    by_values: Window | None = None,
) -> NDArray[np.uint8]:
    """Return pixels as 8-bit gray or RGB, by the attributes of the frame that they come from."""
    image = instance.record.image_pixel
    if image.photometric_interpretation == _PALETTE:
        if apply_palette:
            return _apply_palette(pixels, keep_display(instance).of_frame(frame_index))
        return stretch(pixels, choose_window(pixels))
    if pixels.ndim == 3:
        if pixels.shape[2] != 3:
            raise DecodeError(f"expected 1 or 3 samples a pixel, found {pixels.shape[2]}")
        excess = (image.bits_stored or 8) - 8
        shown = np.right_shift(pixels, excess) if excess > 0 else pixels
        return shown.astype(np.uint8)
    if image.bits_allocated == 1:
        shown = pixels.astype(np.uint8) * np.uint8(255)
    else:
        header = keep_display(instance).of_frame(frame_index)
        shown = _window(pixels, image, header, window, by_values)
    return 255 - shown if image.photometric_interpretation == "MONOCHROME1" else shown


def _window(
    pixels: Pixels,
    image: ImagePixel,
    header: Dataset,
    window: WindowChoice,
    by_values: Window | None,
) -> NDArray[np.uint8]:
    """Return gray values as 0 to 255: VOI LUT, window, or by their values."""
    from pydicom.pixels.processing import apply_windowing

    values = apply_modality(pixels, header)
    try:
        if window == "file" and _has_voi_lut(header):
            if values.dtype.kind == "f":
                values = np.rint(values)
            table = read_table(header.VOILUTSequence[0])
            found = table.look_up(values).astype(np.float64)
            return _to_bytes(found * (255 / ((1 << table.depth) - 1)))
        if window == "file":
            window = _find_window(header) or "auto"
        if window == "auto":
            if _is_shown_as_stored(pixels, image):
                return pixels.astype(np.uint8)
            return stretch(values, by_values or choose_window(values.reshape(-1)))
        center, width = window
        function = str(_take_first(header.get("VOILUTFunction")) or "LINEAR").strip()
        if width < 1 and function.upper() == "LINEAR":
            function = "LINEAR_EXACT"  # of doses and ratios; LINEAR is of whole numbers
        _replace(header, WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
        _show_in_bytes(header)
        return _to_bytes(apply_windowing(values, header))
    except header_errors() as error:
        raise DecodeError(f"cannot apply the VOI LUT or window: {error}") from error


def _show_in_bytes(header: Dataset) -> None:
    """Make pydicom's window end in 0 to 255: rescaling is done, and these are its output range."""
    _replace(header, PhotometricInterpretation="MONOCHROME2", BitsStored=8, PixelRepresentation=0)
    for name in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        if name in header:
            del header[name]


def _replace(header: Dataset, **values: object) -> None:
    """Replace elements: their values may be those of other frames, too."""
    for name, value in values.items():
        if name in header:
            del header[name]
        setattr(header, name, value)


def _apply_palette(pixels: Pixels, header: Dataset) -> NDArray[np.uint8]:
    """Return colours of palette indices; of 16 bits, the upper 8 (PS3.3 C.7.6.3.1.6)."""
    from pydicom.pixels.processing import apply_color_lut

    try:
        if "RedPaletteColorLookupTableData" in header:
            tables = [read_palette(header, colour).to_bytes() for colour in _COLOURS]
            return np.stack([table.look_up(pixels) for table in tables], -1).astype(np.uint8)
        colours = apply_color_lut(pixels, header)[..., :3]
    except header_errors() as error:
        raise DecodeError(
            f"cannot apply the palette: {error}; `mmindex frame --format npy` and `Instance.array` "
            "return the indices"
        ) from error
    return (colours >> 8 if colours.dtype.itemsize == 2 else colours).astype(np.uint8)


def stretch(values: Pixels, window: Window) -> NDArray[np.uint8]:
    """Return values as 0 to 255 between the ends of a window; NaN is black."""
    least, greatest = window.least / 2, window.greatest / 2  # the whole span could overflow
    scaled = (values.astype(np.float64) / 2 - least) / ((greatest - least) or 1.0) * 255
    return _to_bytes(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0))


def _to_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return values.clip(0, 255).round().astype(np.uint8)
