"""What pydicom's own functions make of a frame's pixels as 0 to 255: the oracle of pictures."""

from __future__ import annotations

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian
from pydicom_oracle import LOSSY_JPEG, pydicom_array, quiet_pydicom

import mmindex

_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def of_frame(data_set: pydicom.Dataset, frame_index: int) -> pydicom.Dataset:
    """Return a data set with a frame's functional groups at the top level (PS3.3 C.7.6.16)."""
    flat = pydicom.Dataset()
    flat.update(data_set)  # Dataset(data_set) would share its elements
    flat.file_meta = data_set.file_meta
    shared = (data_set.get("SharedFunctionalGroupsSequence") or [])[:1]
    own = data_set.get("PerFrameFunctionalGroupsSequence") or []
    for groups in [*shared, *own[frame_index : frame_index + 1]]:
        for name in _GROUPS:
            for item in (groups.get(name) or [])[:1]:
                for element in item:
                    flat[element.tag] = element
    return flat


def swap_palette(data_set: pydicom.Dataset) -> None:
    """Put words of a big-endian file's palette in this machine's order, as pydicom reads them."""
    for colour in ("Red", "Green", "Blue"):
        element = data_set[f"{colour}PaletteColorLookupTableData"]
        swapped = np.frombuffer(element.value, ">u2").astype("<u2").tobytes()
        data_set[element.tag] = pydicom.DataElement(element.tag, element.VR, swapped)


def expected_picture(pixels: np.ndarray, data_set: pydicom.Dataset) -> np.ndarray | None:
    """Return a picture by pydicom's functions; None where they say nothing of one.

    Gray values of its windows are in an output range, which becomes 0 to 255.
    """
    photometric = data_set.get("PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        if data_set.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
            swap_palette(data_set)
        colours = apply_color_lut(pixels, data_set)[..., :3]
        return colours >> 8 if colours.dtype.itemsize == 2 else colours
    if pixels.ndim == 3:
        return pixels if pixels.dtype == np.uint8 else None
    table = (data_set.get("VOILUTSequence") or [None])[0]
    if data_set.get("WindowCenter") is None and table is None:
        return None
    values = apply_voi_lut(apply_modality_lut(pixels, data_set), data_set).astype(float)
    least, greatest = 0.0, 0.0
    if table is not None:
        greatest = 2.0 ** table.LUTDescriptor[2] - 1
    elif data_set.get("ModalityLUTSequence"):
        greatest = 2.0 ** data_set.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    else:
        bits, signed = data_set.BitsStored, data_set.PixelRepresentation
        ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0, 2.0**bits - 1)
        slope, cut = (data_set.get(f"Rescale{name}") for name in ("Slope", "Intercept"))
        if slope is not None and cut is not None:
            ends = (ends[0] * float(slope) + float(cut), ends[1] * float(slope) + float(cut))
        least, greatest = ends
    shown = ((values - least) / (greatest - least) * 255).clip(0, 255).round()
    return 255 - shown if photometric == "MONOCHROME1" else shown


def compare_picture(
    instance: mmindex.Instance, data_set: pydicom.FileDataset, frame_index: int
) -> int | None:
    """Return by how much a picture differs from pydicom's; None where pydicom has none.

    Of lossy JPEG, pydicom's functions get our pixels: its decoders differ among themselves.
    """
    is_lossy = data_set.file_meta.TransferSyntaxUID in LOSSY_JPEG
    pixels = instance.array(frame_index) if is_lossy else pydicom_array(data_set, frame_index)
    if pixels is None:
        return None
    with quiet_pydicom():
        theirs = expected_picture(pixels, of_frame(data_set, frame_index))
        if theirs is None:
            return None
        ours = instance.picture(frame_index)
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(float) - theirs).max())
