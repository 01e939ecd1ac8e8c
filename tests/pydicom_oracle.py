"""What pydicom makes of a file, quietly: the oracle of many tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

import mmindex
from mmindex.errors import MMIndexError

FOLDER = Path(pydicom.data.__file__).parent / "test_files"
KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep what pydicom warns of odd files from becoming errors."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")
        yield


def read_data_set(path: Path, *, force: bool = False) -> pydicom.FileDataset:
    """Return pydicom's data set."""
    with quiet_pydicom():
        return pydicom.dcmread(path, force=force)


def pydicom_frames(data_set: pydicom.FileDataset) -> list[bytes] | None:
    """Return the frames that pydicom has, as stored; None where it has no pixel data."""
    keyword = next((keyword for keyword in KEYWORDS if keyword in data_set), None)
    if keyword is None:
        return None
    value = data_set[keyword].value
    count = int(data_set.get("NumberOfFrames") or 1)
    if data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        return list(generate_frames(value, number_of_frames=count))
    depth = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword)
    pixels = data_set.Rows * data_set.Columns
    bits = pixels * data_set.SamplesPerPixel * (depth or data_set.BitsAllocated)
    if data_set.PhotometricInterpretation == "YBR_FULL_422":
        bits = bits // 3 * 2
    if bits % 8 == 0:
        return [value[at * bits // 8 : (at + 1) * bits // 8] for at in range(count)]
    every_bit = np.unpackbits(np.frombuffer(value, "u1"), bitorder="little")
    return [
        np.packbits(every_bit[at * bits : (at + 1) * bits], bitorder="little").tobytes()
        for at in range(count)
    ]


def pydicom_array(data_set: pydicom.FileDataset, frame_index: int) -> np.ndarray | None:
    """Return the pixels that pydicom has, None where it refuses."""
    try:
        with quiet_pydicom():
            return pixel_array(data_set, index=frame_index)
    except (AttributeError, NotImplementedError, RuntimeError, ValueError):
        return None


def exact_array(
    source: Path | pydicom.FileDataset, frame_index: int, *, raw: bool = False
) -> np.ndarray:
    """Return pydicom's pixels, of lossy JPEG by Pillow: its plugins differ in a few values."""
    data_set = source if isinstance(source, pydicom.FileDataset) else read_data_set(source)
    is_lossy = data_set.file_meta.TransferSyntaxUID in LOSSY_JPEG
    options = {"decoding_plugin": "pillow"} if is_lossy else {}
    return pixel_array(data_set, index=frame_index, raw=raw, **options)


def our_array(instance: mmindex.Instance, frame_index: int) -> np.ndarray | None:
    """Return our pixels, None where we refuse."""
    try:
        with quiet_pydicom():
            return instance.array(frame_index)
    except MMIndexError:
        return None


def same_array(ours: np.ndarray | None, theirs: np.ndarray | None) -> bool:
    """Return whether both are refused, or equal in dtype, shape and every pixel."""
    if ours is None or theirs is None:
        return ours is theirs
    return (
        ours.dtype == theirs.dtype
        and ours.shape == theirs.shape
        and np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
    )


def differ_from_pillow(
    instance: mmindex.Instance, data_set: pydicom.FileDataset, frame_index: int, *, raw: bool
) -> int | None:
    """Return by how much samples of lossy JPEG differ from pydicom's by Pillow, None without any.

    As stored they are the same. RGB may differ by one: libjpeg rounds once, from interpolated
    chroma to RGB, where pydicom rounds samples of YBR first and converts these.
    """
    try:
        with quiet_pydicom():
            theirs = pixel_array(data_set, index=frame_index, raw=raw, decoding_plugin="pillow")
    except (AttributeError, NotImplementedError, RuntimeError, ValueError):
        return None
    ours = instance.array(frame_index, raw=raw)
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs).max())


LOSSY_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")


def close_array(ours: np.ndarray | None, theirs: np.ndarray | None, syntax_uid: str) -> bool:
    """Return whether arrays are the same; those of lossy JPEG within 4 values a sample.

    Decoders differ in their inverse transforms, which the standard leaves open.
    """
    if ours is None or theirs is None or syntax_uid not in LOSSY_JPEG:
        return same_array(ours, theirs)
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        return False
    return int(np.abs(ours.astype("i8") - theirs).max()) <= 4
