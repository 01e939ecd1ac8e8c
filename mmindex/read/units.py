"""Values in units, such as Hounsfield units: Modality LUT or rescale (PS3.3 C.11.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import DecodeError
from mmindex.read.display import keep_display
from mmindex.read.header import header_errors
from mmindex.read.tables import read_table

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

    from mmindex.decode.stream import Pixels
    from mmindex.read.instance import Instance


def rescale_frame(instance: Instance, pixels: Pixels, frame_index: int) -> NDArray[np.float32]:
    """Return stored values as values in units, float32; see `Instance.array`.

    The record has slope and intercept where nothing in the header goes before them: the header is
    read for other instances alone, once while they are open.

    Raises
    ------
    DecodeError
        The Modality LUT is damaged.
    """
    numbers = instance.record.image_numbers
    if numbers.rescale_slope is not None and numbers.rescale_intercept is not None:
        return apply_rescale(pixels, numbers.rescale_slope, numbers.rescale_intercept)
    return read_units(instance, pixels, frame_index).astype(np.float32)


def apply_rescale(pixels: Pixels, slope: float, intercept: float) -> NDArray[np.float32]:
    """Return slope * stored value + intercept, rounded once (PS3.3 C.11.1)."""
    values = pixels.astype(np.float64)
    values *= slope
    values += intercept
    return values.astype(np.float32)


def read_units(instance: Instance, pixels: Pixels, frame_index: int) -> Pixels:
    """Return stored values after the Modality LUT or rescale of the header."""
    return apply_modality(pixels, keep_display(instance).of_frame(frame_index))


def apply_modality(pixels: Pixels, header: Dataset) -> Pixels:
    """Return stored values after a header's Modality LUT or rescale.

    Raises
    ------
    DecodeError
        The table or a number is damaged.
    """
    from pydicom.pixels.processing import apply_modality_lut

    try:
        if tables := header.get("ModalityLUTSequence"):
            return read_table(tables[0]).look_up(pixels)
        values: Pixels = apply_modality_lut(pixels, header)
    except header_errors() as error:
        raise DecodeError(f"cannot apply the Modality LUT: {error}") from error
    return values
