"""Frames by what they are: highdicom's and pydicom's reading of the functional groups agree."""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    dicom_file,
    element,
    image_attributes,
    item,
    sequence,
)

import mmindex
from mmindex.errors import FormatError

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CORPUS = Path(os.environ.get("MMINDEX_CORPUS", _BESIDE))
PARTS = ("seg_image", "sm_image", "multi-frame/CT0012", "liver", "cine-test", "tumor_User1")
FILES = sorted(
    str(path.relative_to(CORPUS))
    for path in CORPUS.rglob("*.dcm")
    if any(part in str(path) for part in PARTS)
)
MISSING = -(1 << 31)


def make_groups(
    segment: int,
    z: float,
    index: tuple[int, ...],
    *,
    order: str = "<",
    implicit: bool = False,
    undefined: bool = False,
) -> bytes:
    """Return an item of Per-frame Functional Groups: index, position, segment, private group."""

    def one(tag: int, *elements: bytes) -> bytes:
        inner = item(b"".join(elements), order=order, undefined=undefined)
        return sequence(tag, [inner], order=order, implicit=implicit, undefined=undefined)

    def plain(tag: int, vr: str, value: bytes | str) -> bytes:
        return element(tag, vr, value, order=order, implicit=implicit)

    groups = [
        one(0x00209111, plain(0x00209157, "UL", struct.pack(f"{order}{len(index)}I", *index))),
        one(0x00209113, plain(0x00200032, "DS", f"1\\2\\{z}")),
        one(0x00211010, one(0x0062000A, plain(0x0062000B, "US", struct.pack(f"{order}H", 9)))),
        one(0x0062000A, plain(0x0062000B, "US", struct.pack(f"{order}H", segment))),
    ]
    return item(b"".join(groups), order=order, undefined=undefined)


def make_file(
    frames: list[tuple[int, float, tuple[int, ...]]],
    uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
    *,
    undefined: bool = False,
    items: int | None = None,
) -> bytes:
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    form = {"order": order, "implicit": uid == IMPLICIT_VR_LITTLE_ENDIAN}
    cosines = element(0x00200037, "DS", "1\\0\\0\\0\\1\\0", **form)
    shared = sequence(0x00209116, [item(cosines, order=order)], **form)
    groups = [make_groups(*frame, **form, undefined=undefined) for frame in frames][:items]
    data_set = image_attributes(number_of_frames=len(frames), **form)
    data_set += sequence(0x52009229, [item(shared, order=order)], **form)
    data_set += sequence(0x52009230, groups, undefined=undefined, **form)
    data_set += element(0x7FE00010, "OW", bytes(4 * len(frames)), **form)
    return dicom_file(data_set, uid)


FRAMES = [(1, -3.5, (1, 1)), (1, -1.0, (1, 2)), (3, -3.5, (2, 1)), (3, -1.0, (2, 2))]


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(
    "uid", [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
)
def test_groups_are_read_in_every_form(uid, undefined):
    """Explicit, implicit, big endian, defined and undefined lengths; not what is nested deeper."""
    with mmindex.open_file(make_file(FRAMES, uid, undefined=undefined)) as instance:
        table = instance.frame_table()
        assert table["segment_number"].tolist() == [1, 1, 3, 3]
        assert table["segment_number"].dtype == np.int64
        assert table["position"].tolist() == [-3.5, -1.0, -3.5, -1.0]
        assert table["dimension_index_values"].tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
        assert table["image_orientation_patient"].shape == (4, 6)
        assert instance.find(segment=3, position=-1).tolist() == [3]
        assert instance.find(position=-3.5).tolist() == [0, 2]
        assert instance.find(dimension_index_values=(2, 1)).tolist() == [2]
        assert instance.find(segment=2).tolist() == []
        assert instance.frame_table() is table
        with pytest.raises(ValueError, match="read-only"):
            table["position"][0] = 1


def test_what_cannot_be_found_raises():
    """A name that no frame has, and no name at all; the message lists the names."""
    with mmindex.open_file(make_file(FRAMES)) as instance:
        with pytest.raises(ValueError, match="segment_number"):
            instance.find(color=1)
        with pytest.raises(ValueError, match="position"):
            instance.find()


def test_frames_without_groups_raise():
    """A row of another frame would be a wrong frame."""
    with (
        mmindex.open_file(make_file(FRAMES, items=3)) as instance,
        pytest.raises(FormatError, match=r"expected .* 4 frames, found 3"),
    ):
        instance.frame_table()


def test_shared_values_go_before_those_of_the_top_level():
    """A frame's own first, then the shared ones, then the data set's (PS3.3 C.7.6.16)."""

    def rescale(intercept: str) -> bytes:
        return sequence(0x00289145, [item(element(0x00281052, "DS", intercept))])

    data_set = image_attributes(number_of_frames=2) + element(0x00281052, "DS", "7")
    data_set += element(0x00281053, "DS", "2")
    data_set += sequence(0x52009229, [item(rescale("8"))])
    data_set += sequence(0x52009230, [item(rescale("9")), item()])
    data_set += element(0x7FE00010, "OW", bytes(8))
    with mmindex.open_file(dicom_file(data_set)) as instance:
        table = instance.frame_table()
    assert table["rescale_intercept"].tolist() == [9, 8]
    assert table["rescale_slope"].tolist() == [2, 2]


def test_a_value_that_one_frame_lacks_is_marked():
    """NaN of decimals, the lowest number of whole ones."""
    bare = item()
    data_set = image_attributes(number_of_frames=2)
    data_set += sequence(0x52009230, [make_groups(5, 1.5, (1,)), bare])
    data_set += element(0x7FE00010, "OW", bytes(8))
    with mmindex.open_file(dicom_file(data_set)) as instance:
        table = instance.frame_table()
    assert table["segment_number"].tolist() == [5, MISSING]
    assert np.isnan(table["image_position_patient"][1]).all()
    assert "position" not in table


@pytest.mark.skipif(not FILES, reason="no corpus: set MMINDEX_CORPUS")
@pytest.mark.parametrize("name", FILES)
def test_real_groups_are_those_of_pydicom(name):
    """Every value of every frame of segmentations, slides, enhanced CT and MR."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(CORPUS / name, stop_before_pixels=True)
    per_frame = data_set.get("PerFrameFunctionalGroupsSequence") or []
    shared = data_set.get("SharedFunctionalGroupsSequence") or []
    with mmindex.open_file(CORPUS / name) as instance:
        if per_frame and len(per_frame) != instance.number_of_frames:
            with pytest.raises(FormatError):
                instance.frame_table()
            return
        table = instance.frame_table()
    for keyword, sequence_keyword, column in (
        ("ReferencedSegmentNumber", "SegmentIdentificationSequence", "segment_number"),
        ("ImagePositionPatient", "PlanePositionSequence", "image_position_patient"),
        ("ImageOrientationPatient", "PlaneOrientationSequence", "image_orientation_patient"),
        ("DimensionIndexValues", "FrameContentSequence", "dimension_index_values"),
        ("TemporalPositionIndex", "FrameContentSequence", "temporal_position_index"),
        ("WindowCenter", "FrameVOILUTSequence", "window_center"),
        ("RescaleSlope", "PixelValueTransformationSequence", "rescale_slope"),
        (
            "ColumnPositionInTotalImagePixelMatrix",
            "PlanePositionSlideSequence",
            "column_position_in_total_image_pixel_matrix",
        ),
        (
            "FrameAcquisitionDateTime",
            "FrameContentSequence",
            "frame_acquisition_date_time",
        ),
    ):
        for index in range(len(per_frame)):
            value = None
            for group in (per_frame[index], *shared[:1]):
                inner = group.get(sequence_keyword)
                if value is None and inner:
                    value = inner[0].get(keyword)
            value = data_set.get(keyword) if value is None else value
            if value is None:
                continue
            if isinstance(value, pydicom.multival.MultiValue):
                single = column in ("window_center",)
                value = float(value[0]) if single else [float(part) for part in value]
            found = table[column][index]
            if np.ndim(found) and not isinstance(value, list):
                value = [value]
            assert np.asarray(found).tolist() == value


HIGHDICOM = [name for name in FILES if "seg_image_ct" in name]


@pytest.mark.skipif(not HIGHDICOM, reason="no corpus: set MMINDEX_CORPUS")
@pytest.mark.parametrize("name", HIGHDICOM)
def test_segments_are_found_where_highdicom_has_them(name):
    """A segment's frames, by highdicom's own reading of the file."""
    highdicom = pytest.importorskip("highdicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = highdicom.seg.segread(CORPUS / name)
        with mmindex.open_file(CORPUS / name) as instance:
            for number in segmentation.segment_numbers:
                frames = instance.find(segment=number)
                sources = segmentation.get_source_image_uids()
                pixels = segmentation.get_pixels_by_source_instance(
                    [uid for _, _, uid in sources],
                    segment_numbers=[number],
                    combine_segments=False,
                    rescale_fractional=False,
                    assert_missing_frames_are_empty=True,
                )
                ours = sum(int(instance.array(int(frame)).sum()) for frame in frames)
                assert ours == int(pixels.sum())
