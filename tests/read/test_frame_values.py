"""Frames by what they are: highdicom's and pydicom's reading of the functional groups agree."""

from __future__ import annotations

import os
import struct
import tracemalloc
import warnings
from collections.abc import Callable
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
from mmindex.scan.functional_groups import read_frame_values
from mmindex.scan.header import Header, scan_header
from mmindex.scan.slide import scan_tile_positions

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


def make_values(count: int, tag: int, vr: str, value: bytes, *, odd: int | None = None) -> bytes:
    """Return a file of frames whose Frame Content has one value; of one VR in all, or in one."""

    def make_item(at: int) -> bytes:
        is_odd = odd is None or at == odd
        usual = element(0x00209157, "UL", struct.pack("<I", at))
        inner = element(tag, vr, value) if is_odd else b""
        return item(sequence(0x00209111, [item(inner + usual if tag < 0x00209157 else usual)]))

    data_set = image_attributes(number_of_frames=count)
    data_set += sequence(0x52009230, [make_item(at) for at in range(count)])
    return dicom_file(data_set + element(0x7FE00010, "OW", bytes(4 * count)))


@pytest.mark.parametrize("odd", [None, 2])
@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("IS", b"3 "),
        ("FD", struct.pack("<d", 3)),
        ("UL", bytes(8)),
        ("US", bytes(4)),
        ("OB", b"12"),
    ],
)
def test_a_number_of_another_form_raises(vr, value, count, odd):
    """Its bytes would be read as another number; of few frames and of many, in all and in one."""
    data = make_values(count, 0x00209128, vr, value, odd=odd)
    with (
        mmindex.open_file(data) as instance,
        pytest.raises(FormatError, match=f"temporal_position_index .* VR {vr}"),
    ):
        instance.frame_table()


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize(("vr", "value"), [("US", b"\x07\0"), ("UL", b"\x07\0\0\0")])
def test_whole_numbers_have_two_or_four_bytes(vr, value, count):
    """As their representation says, which writers choose."""
    with mmindex.open_file(make_values(count, 0x00209128, vr, value)) as instance:
        assert instance.frame_table()["temporal_position_index"].tolist() == [7] * count


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1_0", "1e999", "1,5", "0x10"])
def test_text_that_is_no_decimal_is_no_number(text, count):
    """Python reads more than the standard has (PS3.5 6.2); such a frame is at no position."""
    frames = [(1, at if at else text, (1,)) for at in range(count)]
    with mmindex.open_file(make_file(frames)) as instance:
        table = instance.frame_table()
        assert np.isnan(table["position"]).tolist() == [True] + [False] * (count - 1)
        assert instance.find(position=2).tolist() == [2]
        assert instance.find(segment=1).tolist() == list(range(count))


@pytest.mark.parametrize("count", [3, 40])
def test_groups_that_are_there_twice_raise(count):
    """Either could be meant."""
    groups = [make_groups(1, 0.0, (1,)) for _ in range(count)]
    data_set = image_attributes(number_of_frames=count)
    data_set += sequence(0x52009230, groups) + sequence(0x52009230, groups)
    data = dicom_file(data_set + element(0x7FE00010, "OW", bytes(4 * count)))
    with mmindex.open_file(data) as instance, pytest.raises(FormatError, match="twice"):
        instance.frame_table()


def measure_memory(call: Callable[[], object]) -> int:
    """Return the most memory that a call had in use at once, in bytes."""
    call()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def make_header(*elements: bytes) -> Header:
    data_set = b"".join(elements) + element(0x7FE00010, "OW", bytes(8))
    return scan_header(dicom_file(data_set), force=True)


def test_values_of_all_frames_cost_the_memory_of_one():
    """A small file of a billion frames of one bit has no table of gigabytes."""
    header = make_header(element(0x00181063, "DS", "40"), image_attributes(number_of_frames=2))
    table = read_frame_values(header, 10**9)
    assert table["frame_time"].shape == (10**9,)
    assert table["frame_time"][-1] == 40
    assert measure_memory(lambda: read_frame_values(header, 10**9)) < 1 << 20


def test_tiles_of_a_full_slide_cost_no_memory():
    """The order of a billion frames says where each is."""
    header = make_header(
        image_attributes(number_of_frames=2, rows=1, columns=1),
        element(0x00209311, "CS", "TILED_FULL"),
        element(0x00480006, "UL", struct.pack("<I", 50_000)),
        element(0x00480007, "UL", struct.pack("<I", 20_000)),
    )
    assert measure_memory(lambda: scan_tile_positions(header, 10**9, 1, 1)) < 1 << 20


def test_a_hundred_thousand_optical_paths_take_no_time_of_their_square():
    """Their names are collected one after the other."""
    paths = [item(element(0x00480106, "SH", "ab"))] * 100_000
    header = make_header(image_attributes(), sequence(0x00480105, paths))
    assert measure_memory(lambda: read_frame_values(header, 1)) < 1 << 23


def test_a_part_of_a_full_image_has_the_tiles_of_its_frames():
    """From the Concatenation Frame Offset Number on (PS3.3 C.7.6.16.2.2.4)."""
    data_set = image_attributes(number_of_frames=3)
    data_set += element(0x00209161, "UI", "1.2") + element(0x00209228, "UL", struct.pack("<I", 4))
    data_set += element(0x00209311, "CS", "TILED_FULL")
    for tag, size in ((0x00480006, 7), (0x00480007, 5)):  # 4 x 3 tiles of 2 x 2 pixels
        data_set += element(tag, "UL", struct.pack("<I", size))
    data = dicom_file(data_set + element(0x7FE00010, "OW", bytes(12)))
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
    assert table["column_position_in_total_image_pixel_matrix"].tolist() == [1, 3, 5]
    assert table["row_position_in_total_image_pixel_matrix"].tolist() == [3, 3, 3]


def test_a_full_slide_counts_planes_and_paths():
    """Columns, rows, focal planes, optical paths (PS3.3 C.7.6.17.3)."""
    data_set = image_attributes(number_of_frames=8) + element(0x00209311, "CS", "TILED_FULL")
    for tag, size in ((0x00480006, 4), (0x00480007, 2)):  # 2 x 1 tiles
        data_set += element(tag, "UL", struct.pack("<I", size))
    names = [item(element(0x00480106, "SH", name)) for name in ("DAPI", "FITC")]
    data_set += sequence(0x00480105, names) + element(0x00480303, "UL", struct.pack("<I", 2))
    data = dicom_file(data_set + element(0x7FE00010, "OW", bytes(32)))
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
        assert table["column_position_in_total_image_pixel_matrix"].tolist() == [1, 3] * 4
        assert table["focal_plane"].tolist() == [0, 0, 1, 1] * 2
        assert table["optical_path_identifier"].tolist() == ["DAPI"] * 4 + ["FITC"] * 4
        found = instance.find(
            optical_path_identifier="FITC",
            focal_plane=1,
            column_position_in_total_image_pixel_matrix=3,
        )
        assert found.tolist() == [7]


@pytest.mark.parametrize("own", ["paths", "columns", "both"])
def test_a_full_slide_whose_groups_lack_places_has_those_of_its_order(own):
    """Each value that the groups do not have is that of the order; what they have is theirs."""
    data_set = image_attributes(number_of_frames=4) + element(0x00209311, "CS", "TILED_FULL")
    for tag in (0x00480006, 0x00480007):  # 2 x 2 tiles
        data_set += element(tag, "UL", struct.pack("<I", 4))
    group = b""
    if own != "columns":
        group += sequence(0x00480207, [item(element(0x00480106, "SH", "own"))])
    if own != "paths":
        place = item(element(0x0048021E, "SL", struct.pack("<i", 77)))
        group += sequence(0x0048021A, [place])
    data_set += sequence(0x00480105, [item(element(0x00480106, "SH", "one"))])
    data_set += sequence(0x52009230, [item(group)] * 4)
    data = dicom_file(data_set + element(0x7FE00010, "OW", bytes(16)))
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
    columns = [1, 3, 1, 3] if own == "paths" else [77] * 4
    assert table["column_position_in_total_image_pixel_matrix"].tolist() == columns
    assert table["row_position_in_total_image_pixel_matrix"].tolist() == [1, 1, 3, 3]
    path = "one" if own == "columns" else "own"
    assert table["optical_path_identifier"].tolist() == [path] * 4
