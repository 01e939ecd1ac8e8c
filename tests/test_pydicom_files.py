"""Every file that pydicom's wheel carries: our frames and arrays against pydicom's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

import mmindex
from mmindex.errors import DecodeError, MMIndexError

FOLDER = Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())
KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

FRAMES_DIFFER = {
    "MR_truncated.dcm": "R35: pydicom returns the frame short, mmindex raises",
    "badVR.dcm": "R21: pydicom raises for a Number of Frames of '1A', mmindex takes it for 1",
    "meta_missing_tsyntax.dcm": "R6: pydicom reads no frames without a Transfer Syntax UID; "
    "mmindex finds Implicit VR and R36 refuses frames without Rows",
    "nested_priv_SQ.dcm": "R36: pixel data without Rows: pydicom has no frames, mmindex raises",
    "no_meta.dcm": "R6: a stray byte stands before its first element: pydicom reads one private "
    "element of all bytes, mmindex refuses",
    "rtplan_truncated.dcm": "R8: pydicom reads an RT plan up to where it was cut, mmindex raises",
}
ARRAYS_DIFFER = {
    "badVR.dcm": "R21: pydicom raises for a Number of Frames of '1A', mmindex takes it for 1",
}
UNDECODABLE = {  # both refuse
    "JPEG-lossy.dcm": "12-bit JPEG Extended, which no installed plugin decodes",
    "JPEG2000-embedded-sequence-delimiter.dcm": "its codestream was cut in two on purpose",
    "MR_truncated.dcm": "its only frame is cut",
}
NO_META = {"ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "no_meta.dcm", "rtstruct.dcm"}
NOT_DICOM = {
    *("README.txt", "crayons.icc", "dicomdirtests/README.txt", "dicomdirtests/TINY_ALPHA/README"),
    *("rtplan.dump", "rtstruct.dump", "test1.json", "test_PN.json", "zipMR.gz"),
}
DICOM = [name for name in FILES if name not in NOT_DICOM]


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


def test_the_tables_name_files_that_are_there() -> None:
    """A renamed or removed file leaves no entry behind."""
    tables = (FRAMES_DIFFER, ARRAYS_DIFFER, UNDECODABLE, NO_META, NOT_DICOM)
    assert set().union(*tables) <= set(FILES)
    assert len(DICOM) > 100


@pytest.mark.parametrize("name", sorted(NOT_DICOM | NO_META))
def test_R6_what_is_no_dicom_file_is_refused(name: str) -> None:
    """Texts, profiles and archives are refused; so are data sets without File Meta Information."""
    with pytest.raises(mmindex.errors.NotDicomError, match=r"force=True"):
        mmindex.open_file(FOLDER / name)


@pytest.mark.parametrize("name", DICOM)
def test_frames_are_those_of_pydicom(name: str) -> None:
    """Each frame equals pydicom's, byte for byte, or its file stands in the table."""
    force = name in NO_META
    data_set = read_data_set(FOLDER / name, force=force)
    theirs: list[bytes] | type | None = None
    try:
        with quiet_pydicom():
            theirs = pydicom_frames(data_set)
    except (AttributeError, ValueError) as error:
        theirs = type(error)
    ours: list[bytes] | type | None = None
    try:
        with mmindex.open_file(FOLDER / name, force=force) as instance:
            if instance.record.frames is not None:
                ours = list(instance)
                assert len(ours) == instance.number_of_frames
    except MMIndexError as error:
        ours = type(error)
    assert (ours != theirs) == (name in FRAMES_DIFFER)


@pytest.mark.parametrize("name", DICOM)
def test_arrays_are_those_of_pydicom(name: str) -> None:
    """Each array has pydicom's dtype, shape and pixels, or its file stands in a table."""
    force = name in NO_META
    data_set = read_data_set(FOLDER / name, force=force)
    try:
        instance = mmindex.open_file(FOLDER / name, force=force)
    except MMIndexError:
        assert name in FRAMES_DIFFER
        return
    with instance:
        ours = [our_array(instance, at) for at in range(len(instance))]
    theirs = [pydicom_array(data_set, at) for at in range(len(ours))]
    same = all(map(same_array, ours, theirs))
    assert same == (name not in ARRAYS_DIFFER)
    assert (None in [a if a is None else "array" for a in ours]) == (name in UNDECODABLE)


@pytest.mark.parametrize("name", ["JPEG2000-embedded-sequence-delimiter.dcm"])
def test_what_pydicom_cannot_decode_is_a_decode_error(name: str) -> None:
    """The frame is there, its pixels are not: the error says so and names the file."""
    with mmindex.open_file(FOLDER / name) as instance, quiet_pydicom():
        assert instance.frame(0)
        with pytest.raises(DecodeError, match="cannot decode the frame") as caught:
            instance.array(0)
    assert caught.value.path == str(FOLDER / name)
