"""Every file that pydicom's wheel carries: our frames and arrays against pydicom's own."""

from __future__ import annotations

import pytest
from picture_oracle import compare_picture
from pydicom_oracle import (
    FOLDER,
    LOSSY_JPEG,
    close_array,
    differ_from_pillow,
    our_array,
    pydicom_array,
    pydicom_frames,
    quiet_pydicom,
    read_data_set,
)

import mmindex
from mmindex.errors import DecodeError, MMIndexError

FILES = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file())

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
    "JPEG-lossy.dcm": "12-bit JPEG with a faulty scan header, which no plugin of pydicom decodes",
}
UNDECODABLE = {  # both refuse
    "JPEG2000-embedded-sequence-delimiter.dcm": "its codestream was cut in two on purpose",
    "MR_truncated.dcm": "its only frame is cut",
}
NO_META = {"ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "no_meta.dcm", "rtstruct.dcm"}
NOT_DICOM = {
    *("README.txt", "crayons.icc", "dicomdirtests/README.txt", "dicomdirtests/TINY_ALPHA/README"),
    *("rtplan.dump", "rtstruct.dump", "test1.json", "test_PN.json", "zipMR.gz"),
}
DICOM = [name for name in FILES if name not in NOT_DICOM]


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


@pytest.mark.parametrize("prove", [True, False], ids=["proved", "trusted"])
@pytest.mark.parametrize("name", DICOM)
def test_frames_are_those_of_pydicom(name: str, prove: bool) -> None:
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
        with mmindex.open_file(FOLDER / name, force=force, prove=prove) as instance:
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
    uid = instance.record.transfer_syntax_uid
    same = all(close_array(*pair, uid) for pair in zip(ours, theirs, strict=True))
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


WITH_ARRAYS = [name for name in DICOM if name not in {*FRAMES_DIFFER, *ARRAYS_DIFFER, *UNDECODABLE}]


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_every_sample_of_lossy_jpeg_is_that_of_pydicom_with_pillow(name: str) -> None:
    """As stored, and as RGB."""
    data_set = read_data_set(FOLDER / name, force=name in NO_META)
    with mmindex.open_file(FOLDER / name, force=name in NO_META) as instance:
        if instance.record.transfer_syntax_uid not in LOSSY_JPEG:
            return
        indices = range(len(instance))
        for raw in (True, False):
            found = {differ_from_pillow(instance, data_set, at, raw=raw) for at in indices}
            assert found <= {None, 0}


@pytest.mark.parametrize("name", WITH_ARRAYS)
def test_every_picture_is_that_of_pydicoms_functions(name: str) -> None:
    """Windows, tables and palettes of each frame, within rounding."""
    data_set = read_data_set(FOLDER / name, force=name in NO_META)
    with mmindex.open_file(FOLDER / name, force=name in NO_META) as instance:
        found = [compare_picture(instance, data_set, index) for index in range(len(instance))]
    assert max((each for each in found if each is not None), default=0) <= 1
    if name in ("MR_small.dcm", "examples_palette.dcm", "examples_ybr_color.dcm"):
        assert found
        assert None not in found
