"""Frames by what they are, in objects that highdicom wrote; highdicom and pydicom are the oracles.

Segmentations of volumes and of slides (TILED_FULL and TILED_SPARSE), parametric maps, enhanced CT,
MR and PET; and a cine, which highdicom does not write.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_bytes import dicom_file, element, image_attributes
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from slide_files import cut, draw, write_slide_file

import mmindex
from mmindex.errors import FormatError

hd = pytest.importorskip("highdicom", reason="no highdicom")
pytestmark = pytest.mark.filterwarnings("ignore")  # of highdicom's own

CT, MR, PET = (f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("2", "4", "128"))
DEVICE = {"manufacturer": "none", "manufacturer_model_name": "none", "device_serial_number": "1"}
SERIES = {"series_number": 9, "instance_number": 1}
ROWS, COLUMNS, SLICES = 6, 8, 5


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def make_slice(number: int, sop_class: str) -> Dataset:
    """Return an oblique slice of a volume, whose pixels say its number."""
    data_set = Dataset()
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    modality = {CT: "CT", MR: "MR", PET: "PT"}[sop_class]
    normal = np.cross((1, 0, 0), (0, 0.6, 0.8))
    position = np.array((-10.0, 5.0, -120.5)) + 2.5 * number * normal
    values = {
        "PatientID": "1", "PatientName": "A^B", "PatientBirthDate": "", "PatientSex": "O",
        "StudyInstanceUID": "1.2.3", "StudyID": "1", "StudyDate": "20200101",
        "StudyTime": "120000", "AccessionNumber": "1", "ReferringPhysicianName": "",
        "SeriesInstanceUID": "1.2.4", "SeriesNumber": 1, "Modality": modality,
        "FrameOfReferenceUID": "1.2.5", "PositionReferenceIndicator": "",
        "SOPClassUID": sop_class, "SOPInstanceUID": f"1.2.6.{number + 1}",
        "InstanceNumber": number + 1, "Manufacturer": "none", "SliceThickness": "2.5",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "AcquisitionNumber": 1,
        "AcquisitionDate": "20200101", "AcquisitionTime": f"1200{number:02}",
        "ContentDate": "20200101", "ContentTime": "120000", "KVP": "120",
        "ImagePositionPatient": [f"{each:.4f}" for each in position],
        "ImageOrientationPatient": [1, 0, 0, 0, 0.6, 0.8], "PixelSpacing": [0.5, 0.75],
        "RescaleSlope": str(1 + number / 2), "RescaleIntercept": "-1024", "RescaleType": "HU",
        "WindowCenter": str(40 + number), "WindowWidth": "400", "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "Rows": ROWS, "Columns": COLUMNS,
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0,
        "Laterality": "", "BodyPartExamined": "HEAD", "BurnedInAnnotation": "NO",
    }  # fmt: skip
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    data_set.PixelData = np.full((ROWS, COLUMNS), number, "<u2").tobytes()
    return data_set


def make_volume(sop_class: str = CT) -> list[Dataset]:
    return [make_slice(number, sop_class) for number in range(SLICES)]


def to_bytes(data_set: Dataset) -> bytes:
    buffer = io.BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def along_normal(position: Any, orientation: Any) -> float:
    """Return the position along the slice normal, by the formula of PS3.3 C.7.6.2.1.1."""
    cosines = np.array(orientation, float)
    return float(np.dot(np.array(position, float), np.cross(cosines[:3], cosines[3:])))


def describe_segments(count: int) -> list[Any]:
    code = hd.sr.CodedConcept("1", "99X", "thing")
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"segment {number}",
            segmented_property_category=code,
            segmented_property_type=code,
            algorithm_type="MANUAL",
        )
        for number in range(1, count + 1)
    ]


def write_segmentation(sources: list[Dataset], pixels: np.ndarray, count: int, **more: Any) -> Any:
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=more.pop("segmentation_type", "BINARY"),
        segment_descriptions=describe_segments(count),
        series_instance_uid="1.2.8",
        sop_instance_uid="1.2.9",
        software_versions="1",
        **SERIES,
        **DEVICE,
        **more,
    )


def per_frame(data_set: Dataset) -> list[Dataset]:
    return list(data_set.PerFrameFunctionalGroupsSequence)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_of_a_volume(kind):
    """Segment, position along the normal and dimension indices of every frame; `find` by both."""
    rng = np.random.default_rng(3)
    masks = rng.integers(0, 2, (SLICES, ROWS, COLUMNS, 3)).astype(np.uint8)
    masks[2, ..., 1] = 0  # a frame that is left out
    if kind == "FRACTIONAL":
        masks = masks.astype(np.float32)
    written = write_segmentation(make_volume(), masks, 3, segmentation_type=kind)
    data = to_bytes(written)
    orientation = written.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    expected = [
        (
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            along_normal(
                group.PlanePositionSequence[0].ImagePositionPatient,
                orientation.ImageOrientationPatient,
            ),
            list(group.FrameContentSequence[0].DimensionIndexValues),
        )
        for group in per_frame(written)
    ]
    assert len(expected) == 14
    theirs = hd.seg.segread(io.BytesIO(data))
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
        found = zip(
            table["segment_number"].tolist(),
            table["position"].tolist(),
            table["dimension_index_values"].tolist(),
            strict=True,
        )
        for (segment, position, indices), wanted in zip(found, expected, strict=True):
            assert (segment, indices) == (wanted[0], wanted[2])
            assert position == pytest.approx(wanted[1], abs=1e-9)
        by_uid = [uid for _, _, uid in theirs.get_source_image_uids()]
        pixels = theirs.get_pixels_by_source_instance(
            by_uid, assert_missing_frames_are_empty=True, rescale_fractional=False
        )
        sources = {each.SOPInstanceUID: each for each in make_volume()}
        for at, uid in enumerate(by_uid):
            place = along_normal(
                sources[uid].ImagePositionPatient, sources[uid].ImageOrientationPatient
            )
            for segment in (1, 2, 3):
                frames = instance.find(segment=segment, position=place)
                mask = pixels[at, ..., segment - 1]
                assert len(frames) == (0 if not mask.any() else 1)
                for frame in frames.tolist():
                    assert np.array_equal(instance.array(frame), mask)


def make_slide_source(size: tuple[int, int]) -> Dataset:
    """Return a slide as a source of segmentations, with the attributes that highdicom copies."""
    tiles = [tile for *_, tile in cut(draw(*size))]
    source = pydicom.dcmread(io.BytesIO(write_slide_file(1, size, tiles)))
    for keyword, value in {
        "PatientID": "1", "PatientName": "A^B", "PatientBirthDate": "", "PatientSex": "O",
        "StudyID": "1", "StudyDate": "20200101", "StudyTime": "120000", "AccessionNumber": "1",
        "ReferringPhysicianName": "", "FrameOfReferenceUID": "1.2.5", "SeriesNumber": 1,
        "PositionReferenceIndicator": "SLIDE_CORNER", "ContainerIdentifier": "1",
        "StudyInstanceUID": "1.2.3", "Modality": "SM", "InstanceNumber": 1,
    }.items():  # fmt: skip
        if keyword not in source:
            setattr(source, keyword, value)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99X", "glass"
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "1", "1.2.7"
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    specimen.SpecimenPreparationSequence = []
    source.ContainerTypeCodeSequence = [code]
    source.IssuerOfTheContainerIdentifierSequence = []
    source.SpecimenDescriptionSequence = [specimen]
    return source


@pytest.mark.parametrize("organization", ["TILED_FULL", "TILED_SPARSE"])
def test_a_tiled_segmentation_of_a_slide(organization):
    """Segment and place of every tile, those of the edges, too; tiles that are left out."""
    size = 230, 170
    source = make_slide_source(size)
    y, x = np.mgrid[: size[1], : size[0]]
    masks = np.stack([x > 150, (x + y) % 7 == 0], -1).astype(np.uint8)
    written = write_segmentation(
        [source],
        masks[np.newaxis],
        2,
        tile_pixel_array=True,
        tile_size=(64, 64),
        dimension_organization_type=organization,
        omit_empty_frames=organization == "TILED_SPARSE",
    )
    assert written.DimensionOrganizationType == organization
    data = to_bytes(written)
    if organization == "TILED_FULL":
        expected = [
            (channel, column, row)
            for channel, _, column, row, *_ in hd.spatial.iter_tiled_full_frame_data(written)
        ]
        assert len(expected) == 24
    else:
        expected = [
            (
                group.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
                group.PlanePositionSlideSequence[0].ColumnPositionInTotalImagePixelMatrix,
                group.PlanePositionSlideSequence[0].RowPositionInTotalImagePixelMatrix,
            )
            for group in per_frame(written)
        ]
        assert len(expected) == 12 + 6
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
        column = table["column_position_in_total_image_pixel_matrix"]
        row = table["row_position_in_total_image_pixel_matrix"]
        found = zip(table["segment_number"].tolist(), column.tolist(), row.tolist(), strict=True)
        assert list(found) == expected
        assert {column.dtype, row.dtype, table["segment_number"].dtype} == {np.dtype(np.int64)}
        padded = np.zeros((192, 256, 2), np.uint8)
        padded[: size[1], : size[0]] = masks
        for frame, (segment, x0, y0) in enumerate(expected):
            tile = padded[y0 - 1 : y0 + 63, x0 - 1 : x0 + 63, segment - 1]
            assert np.array_equal(instance.array(frame), tile)
            assert instance.find(
                segment=segment,
                column_position_in_total_image_pixel_matrix=x0,
                row_position_in_total_image_pixel_matrix=y0,
            ).tolist() == [frame]


def test_a_labelmap_of_a_slide_has_no_segment_a_frame():
    """Each tile is of all segments."""
    source = make_slide_source((100, 70))
    labels = np.zeros((1, 70, 100), np.uint8)
    labels[0, 10:40, 30:] = 2
    try:
        written = write_segmentation(
            [source],
            labels,
            2,
            segmentation_type="LABELMAP",
            tile_pixel_array=True,
            tile_size=(32, 32),
            dimension_organization_type="TILED_FULL",
            omit_empty_frames=False,
        )
    except ValueError as error:
        pytest.skip(f"this highdicom writes no label maps: {error}")
    with mmindex.open_file(to_bytes(written)) as instance:
        table = instance.frame_table()
        assert instance.number_of_frames == 12
        assert "segment_number" not in table
        column = table["column_position_in_total_image_pixel_matrix"]
        assert column.tolist() == [1, 33, 65, 97] * 3


def test_a_full_image_of_another_number_of_tiles_raises():
    """A Total Pixel Matrix that does not fit the frames would give them other places."""
    source = make_slide_source((100, 70))
    written = write_segmentation(
        [source],
        np.ones((1, 70, 100, 1), np.uint8),
        1,
        tile_pixel_array=True,
        tile_size=(32, 32),
        dimension_organization_type="TILED_FULL",
        omit_empty_frames=False,
    )
    for size in (60, 4_294_967_295):
        written.TotalPixelMatrixColumns = size
        with (
            mmindex.open_file(to_bytes(written)) as instance,
            pytest.raises(FormatError, match=r"expected .* tiles of a full image, .* found 12"),
        ):
            instance.frame_table()


def test_a_parametric_map():
    """Position, dimension indices, window; slope and intercept are those of its real world map."""
    volume = make_volume()
    pixels = np.arange(SLICES * ROWS * COLUMNS, dtype=np.float64).reshape(SLICES, ROWS, COLUMNS)
    unit = hd.sr.CodedConcept("1", "UCUM", "no units")
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="1",
        lut_explanation="values",
        unit=unit,
        value_range=[-10000.0, 10000.0],
        slope=1.0,
        intercept=0.0,
    )
    written = hd.pm.ParametricMap(
        source_images=volume,
        pixel_array=pixels,
        series_instance_uid="1.2.8",
        sop_instance_uid="1.2.9",
        software_versions="1",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        window_center=50,
        window_width=100,
        **SERIES,
        **DEVICE,
    )
    orientation = written.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    voi = written.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    with mmindex.open_file(to_bytes(written)) as instance:
        table = instance.frame_table()
        groups = per_frame(written)
        places = [
            along_normal(
                group.PlanePositionSequence[0].ImagePositionPatient,
                orientation.ImageOrientationPatient,
            )
            for group in groups
        ]
        assert table["position"] == pytest.approx(np.array(places), abs=1e-9)
        indices = [
            np.atleast_1d(group.FrameContentSequence[0].DimensionIndexValues).tolist()
            for group in groups
        ]
        assert table["dimension_index_values"].tolist() == indices
        assert table["window_center"].tolist() == [float(voi.WindowCenter)] * SLICES
        assert table["window_width"].tolist() == [float(voi.WindowWidth)] * SLICES
        assert table["real_world_value_slope"].tolist() == [1.0] * SLICES
        assert table["real_world_value_intercept"].tolist() == [0.0] * SLICES
        for at, place in enumerate(places):
            (frame,) = instance.find(position=place).tolist()
            assert frame == at
            assert np.array_equal(instance.array(frame), written.pixel_array[at])


@pytest.mark.parametrize("lines", [[(0.5, -3.0)], [(0.25, 7.0), (2.0, -1.5)]])
def test_real_world_values_of_a_parametric_map(lines):
    """Slope and intercept that all frames share, and those that each has."""
    volume = make_volume()
    pixels = np.arange(SLICES * ROWS * COLUMNS, dtype=np.uint16).reshape(SLICES, ROWS, COLUMNS)
    unit = hd.sr.CodedConcept("1", "UCUM", "no units")
    mappings = [
        [
            hd.pm.RealWorldValueMapping(
                lut_label=str(number),
                lut_explanation="values",
                unit=unit,
                value_range=[0, 1000],
                slope=slope,
                intercept=intercept,
            )
        ]
        for number, (slope, intercept) in enumerate(lines)
    ]
    written = hd.pm.ParametricMap(
        source_images=volume,
        pixel_array=np.stack([pixels] * len(lines), axis=-1) if len(lines) > 1 else pixels,
        series_instance_uid="1.2.8",
        sop_instance_uid="1.2.9",
        software_versions="1",
        contains_recognizable_visual_features=False,
        real_world_value_mappings=mappings if len(lines) > 1 else mappings[0],
        window_center=50,
        window_width=100,
        **SERIES,
        **DEVICE,
    )
    shared = written.SharedFunctionalGroupsSequence[0]
    assert ("RealWorldValueMappingSequence" in shared) == (len(lines) == 1)
    peer = hd.Image.from_dataset(pydicom.dcmread(io.BytesIO(to_bytes(written))))
    with mmindex.open_file(to_bytes(written)) as instance:
        table = instance.frame_table()
        found = list(
            zip(table["real_world_value_slope"], table["real_world_value_intercept"], strict=True)
        )
        assert len(found) == instance.number_of_frames == SLICES * len(lines)
        assert set(found) == set(lines)
        for at, (slope, intercept) in enumerate(found):
            expected = peer.get_frame(at + 1, apply_real_world_transform=True)
            assert instance.array(at) * slope + intercept == pytest.approx(expected)


LEGACY = {
    "CT": (CT, "LegacyConvertedEnhancedCTImage"),
    "MR": (MR, "LegacyConvertedEnhancedMRImage"),
    "PET": (PET, "LegacyConvertedEnhancedPETImage"),
}


@pytest.mark.parametrize("kind", LEGACY)
def test_an_enhanced_image(kind):
    """CT, MR, PET: position, rescale, window and time of each frame, as pydicom reads them."""
    sop_class, name = LEGACY[kind]
    written = getattr(hd.legacy, name)(
        legacy_datasets=make_volume(sop_class),
        series_instance_uid="1.2.8",
        sop_instance_uid="1.2.9",
        **SERIES,
    )
    data = to_bytes(written)
    read = pydicom.dcmread(io.BytesIO(data))
    shared = read.SharedFunctionalGroupsSequence[0]

    def value(group: Dataset, sequence: str, keyword: str) -> Any:
        for each in (group, shared):
            if sequence in each and keyword in each[sequence].value[0]:
                return each[sequence].value[0][keyword].value
        return None

    wanted = {
        "rescale_slope": ("PixelValueTransformationSequence", "RescaleSlope"),
        "rescale_intercept": ("PixelValueTransformationSequence", "RescaleIntercept"),
        "window_center": ("FrameVOILUTSequence", "WindowCenter"),
        "window_width": ("FrameVOILUTSequence", "WindowWidth"),
        "image_position_patient": ("PlanePositionSequence", "ImagePositionPatient"),
        "image_orientation_patient": ("PlaneOrientationSequence", "ImageOrientationPatient"),
        "pixel_spacing": ("PixelMeasuresSequence", "PixelSpacing"),
        "frame_acquisition_date_time": ("FrameContentSequence", "FrameAcquisitionDateTime"),
        "dimension_index_values": ("FrameContentSequence", "DimensionIndexValues"),
        "temporal_position_index": ("FrameContentSequence", "TemporalPositionIndex"),
    }
    checked = set()
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
        for at, group in enumerate(per_frame(read)):
            for column, where in wanted.items():
                expected = value(group, *where)
                if expected is None:
                    assert column not in table
                    continue
                checked.add(column)
                found = table[column][at]
                if isinstance(expected, str):
                    assert found == expected
                else:
                    assert np.ravel(found).tolist() == np.ravel(np.array(expected, float)).tolist()
            place = along_normal(
                value(group, *wanted["image_position_patient"]),
                value(group, *wanted["image_orientation_patient"]),
            )
            assert table["position"][at] == pytest.approx(place, abs=1e-9)
            assert instance.find(position=place).tolist() == [at]
            assert np.array_equal(instance.array(at), read.pixel_array[at])
    assert {"rescale_slope", "image_position_patient", "pixel_spacing"} <= checked


@pytest.mark.parametrize("vector", [True, False])
def test_a_cine_has_the_time_of_each_frame(vector):
    """Frame Time, or the Frame Time Vector where it has a value a frame; as pydicom reads both."""
    count = 400
    times = [0.0, *(33.25 + number % 7 for number in range(count - 1))]
    data_set = element(0x00181063, "DS", "33.333")
    if vector:
        data_set = element(0x00181065, "DS", "\\".join(map(str, times)))
    data_set += image_attributes(number_of_frames=count)
    data = dicom_file(data_set + element(0x7FE00010, "OW", bytes(4 * count)))
    read = pydicom.dcmread(io.BytesIO(data))
    with mmindex.open_file(data) as instance:
        table = instance.frame_table()
    if vector:
        assert table["frame_time_vector"].tolist() == list(map(float, read.FrameTimeVector))
        assert "frame_time" not in table
    else:
        assert table["frame_time"].tolist() == [float(read.FrameTime)] * count
        assert "frame_time_vector" not in table
    assert not any(column.flags.writeable for column in table.values())


def test_a_frame_time_vector_of_another_length_is_of_no_frame():
    """A time of another frame would be wrong."""
    data_set = element(0x00181065, "DS", "0\\33\\33") + image_attributes(number_of_frames=4)
    data = dicom_file(data_set + element(0x7FE00010, "OW", bytes(16)))
    with mmindex.open_file(data) as instance:
        assert "frame_time_vector" not in instance.frame_table()
