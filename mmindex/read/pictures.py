"""What pixels mean: values in units, and pictures as a viewer shows them (PS3.3 C.11, C.7.6.3.1).

The header is read by pydicom, whose functions apply the tables. A frame's own functional groups go
before the shared ones, and those before the top level (C.7.6.16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from mmindex.decode.window import Window, choose_window
from mmindex.errors import DecodeError
from mmindex.read.header import read_header
from mmindex.read.pixels import read_array

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel
    from mmindex.read.instance import Instance

    WindowChoice = Literal["file", "auto"] | tuple[float, float]

_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_TABLE_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
)


def read_frame_header(instance: Instance, frame_index: int) -> Dataset:
    """Return the header with a frame's own rescale and window at its top level."""
    header = read_header(instance)
    shared = header.get("SharedFunctionalGroupsSequence") or []
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    items = [*shared[:1], *frames[frame_index : frame_index + 1]]
    for item in items:
        for name in _GROUPS:
            for group in (item.get(name) or [])[:1]:
                for element in group:
                    header[element.tag] = element
    return header


def rescale_frame(instance: Instance, pixels: Pixels, frame_index: int) -> NDArray[np.float32]:
    """Return stored values as values in units, float32; see `Instance.array`.

    Raises
    ------
    DecodeError
        The Modality LUT is damaged.
    """
    return _apply_modality(pixels, read_frame_header(instance, frame_index)).astype(np.float32)


def read_picture(
    instance: Instance, frame_index: int, window: WindowChoice, *, apply_palette: bool
) -> NDArray[np.uint8]:
    """Return a frame as 8-bit gray or RGB; see `Instance.picture`."""
    pixels = read_array(instance, frame_index, raw=False)
    image = instance.record.image_pixel
    if image.photometric_interpretation == "PALETTE COLOR":
        if apply_palette:
            return _apply_palette(pixels, read_frame_header(instance, frame_index))
        return _stretch(pixels, choose_window(pixels))
    if pixels.ndim == 3:
        if pixels.shape[2] != 3:
            raise DecodeError(f"expected 1 or 3 samples a pixel, found {pixels.shape[2]}")
        excess = (image.bits_stored or 8) - 8
        shown = np.right_shift(pixels, excess) if excess > 0 else pixels
        return shown.astype(np.uint8)
    if image.bits_allocated == 1:
        shown = pixels.astype(np.uint8) * np.uint8(255)
    else:
        shown = _window(pixels, image, read_frame_header(instance, frame_index), window)
    return 255 - shown if image.photometric_interpretation == "MONOCHROME1" else shown


def _window(
    pixels: Pixels, image: ImagePixel, header: Dataset, window: WindowChoice
) -> NDArray[np.uint8]:
    """Return gray values as 0 to 255: VOI LUT, window, or by their values."""
    from pydicom.pixels.processing import apply_voi, apply_windowing

    values = _apply_modality(pixels, header)
    table = (header.get("VOILUTSequence") or [None])[0]
    try:
        if window == "file" and table is not None and "LUTData" in table:
            if values.dtype.kind == "f":
                values = np.rint(values).astype(np.int64)
            depth = int(table.LUTDescriptor[2])
            found = apply_voi(values, header).astype(np.float64)
            return _to_bytes(found * (255 / ((1 << depth) - 1)))
        if window == "file" and header.get("WindowCenter") is None:
            window = "auto"
        if window == "auto":
            if image.bits_stored == 8 and pixels.dtype == np.uint8:
                return pixels.astype(np.uint8)
            return _stretch(values, choose_window(values.reshape(-1)))
        if isinstance(window, tuple):
            header.WindowCenter, header.WindowWidth = map(float, window)
        _show_in_bytes(header)
        return _to_bytes(apply_windowing(values, header))
    except _TABLE_ERRORS as error:
        raise DecodeError(f"cannot apply the VOI LUT or window: {error}") from error


def _show_in_bytes(header: Dataset) -> None:
    """Make pydicom's window end in 0 to 255: rescaling is done, and these are its output range."""
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsStored, header.PixelRepresentation = 8, 0
    for name in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        if name in header:
            del header[name]


def _apply_modality(pixels: Pixels, header: Dataset) -> Pixels:
    from pydicom.pixels.processing import apply_modality_lut

    try:
        values: Pixels = apply_modality_lut(pixels, header)
    except _TABLE_ERRORS as error:
        raise DecodeError(f"cannot apply the Modality LUT: {error}") from error
    return values


def _apply_palette(pixels: Pixels, header: Dataset) -> NDArray[np.uint8]:
    """Return colours of palette indices; of 16 bits, the upper 8 (PS3.3 C.7.6.3.1.6)."""
    from pydicom.pixels.processing import apply_color_lut

    try:
        colours = apply_color_lut(pixels, header)[..., :3]
    except _TABLE_ERRORS as error:
        raise DecodeError(f"cannot apply the palette: {error}") from error
    return (colours >> 8 if colours.dtype.itemsize == 2 else colours).astype(np.uint8)


def _stretch(values: Pixels, window: Window) -> NDArray[np.uint8]:
    """Return values as 0 to 255 between the ends of a window; NaN is black."""
    least, greatest = window.least / 2, window.greatest / 2  # the whole span could overflow
    scaled = (values.astype(np.float64) / 2 - least) / ((greatest - least) or 1.0) * 255
    return _to_bytes(np.nan_to_num(scaled, nan=0, posinf=255, neginf=0))


def _to_bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return values.clip(0, 255).round().astype(np.uint8)
