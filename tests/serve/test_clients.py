"""What users read DICOMweb with, over our server: wsidicom, highdicom, dicomweb-client."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_bytes import JPEG_BASELINE, dicom_file, element, image_attributes
from served_archive import CINE, CT, FRAMES, LONG, OTHER, SERIES, SR, STUDY, Served, Server, header

import mmindex

SLIDE_STUDY, SLIDE_SERIES, TILE = "1.2.8.20", "1.2.8.21", 64
GREY = "1.2.8.30"


def write_slide(folder: Path) -> None:
    """Write two levels of a slide of JPEG tiles, with pydicom and Pillow."""
    from PIL import Image
    from pydicom.encaps import encapsulate as join_items

    y, x = np.mgrid[:200, :300]
    whole = np.stack([x // 2, y, (x + y) // 3], -1).astype(np.uint8)
    for number, picture in enumerate((whole, whole[::2, ::2]), 1):
        height, width, _ = picture.shape
        tiles = []
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                tile = np.full((TILE, TILE, 3), 255, np.uint8)
                part = picture[top : top + TILE, left : left + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                out = io.BytesIO()
                Image.fromarray(tile).save(out, "JPEG", quality=95, subsampling=0)
                tiles.append(out.getvalue())
        make_slide_header(number, width, height, len(tiles), join_items(tiles)).save_as(
            folder / f"slide-{number}.dcm", enforce_file_format=True
        )


def make_slide_header(
    number: int, width: int, height: int, count: int, value: bytes
) -> pydicom.Dataset:
    found = pydicom.Dataset()
    found.file_meta = pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = JPEG_BASELINE
    found.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    found.SOPInstanceUID = f"{SLIDE_SERIES}.{number}"
    found.StudyInstanceUID, found.SeriesInstanceUID = SLIDE_STUDY, SLIDE_SERIES
    found.FrameOfReferenceUID, found.Modality = "1.2.8.22", "SM"
    found.ContainerIdentifier, found.InstanceNumber = "1", number
    found.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE" if number == 1 else "RESAMPLED"]
    found.Rows = found.Columns = TILE
    found.SamplesPerPixel, found.PlanarConfiguration = 3, 0
    found.PhotometricInterpretation = "YBR_FULL"
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation, found.NumberOfFrames = 7, 0, count
    found.TotalPixelMatrixColumns, found.TotalPixelMatrixRows = width, height
    found.DimensionOrganizationType = "TILED_FULL"
    found.TotalPixelMatrixFocalPlanes = found.NumberOfOpticalPaths = 1
    found.ImagedVolumeWidth, found.ImagedVolumeHeight = 0.15, 0.1
    found.ImagedVolumeDepth = 0.001
    found.FocusMethod, found.ExtendedDepthOfField = "AUTO", "NO"
    found.SpecimenLabelInImage = found.BurnedInAnnotation = "NO"
    found.VolumetricProperties, found.LossyImageCompression = "VOLUME", "01"
    found.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = pydicom.Dataset()
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0
    found.TotalPixelMatrixOriginSequence = [origin]
    measures = pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.0005 * number] * 2, 0.001
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence = [measures]
    found.SharedFunctionalGroupsSequence = [shared]
    light = pydicom.Dataset()
    light.CodeValue, light.CodingSchemeDesignator = "111744", "DCM"
    light.CodeMeaning = "Brightfield illumination"
    path = pydicom.Dataset()
    path.OpticalPathIdentifier, path.IlluminationTypeCodeSequence = "1", [light]
    found.OpticalPathSequence = [path]
    found.PixelData = value
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a slide of JPEG tiles and a cine of grey levels."""
    from mmindex.serve import application

    folder = tmp_path_factory.mktemp("images")
    write_slide(folder)
    grey = np.random.default_rng(3).integers(0, 4096, (5, 12, 10), np.uint16)
    data = header(GREY, STUDY, "1.2.8.31", "XA", b"Grey^A", "20200102")
    data += image_attributes(rows=12, columns=10, bits=16, number_of_frames=5)
    (folder / "grey.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", grey.tobytes())))
    mmindex.build(folder, workers=1)
    server = Server(application(folder))
    yield Served(folder, server.url)
    server.stop()


@pytest.fixture(scope="module")
def api():
    return pytest.importorskip("dicomweb_client.api")


def test_wsidicom_reads_tiles_and_regions(images: Served, api) -> None:
    """Tiles as stored are the archive's frames; a region has the pixels that mmindex decodes."""
    wsidicom = pytest.importorskip("wsidicom")
    client = wsidicom.WsiDicomWebClient(api.DICOMwebClient(images.url + "/dicom-web"))
    with warnings.catch_warnings(), mmindex.open(images.folder) as archive:
        warnings.simplefilter("ignore")
        with wsidicom.WsiDicom.open_web(client, SLIDE_STUDY, SLIDE_SERIES) as slide:
            assert (slide.size.width, slide.size.height) == (300, 200)
            for row, column in np.ndindex(3, 4):  # wsidicom cuts those at the edges anew
                index = 5 * row + column
                tile = slide.read_encoded_tile(0, (column, row))
                assert tile == archive.frame(f"{SLIDE_SERIES}.1", index)
            for level, x, y, width, height in ((0, 0, 0, 300, 200), (0, 50, 60, 90, 70)):
                region = np.asarray(slide.read_region((x, y), level, (width, height)))
                ours = archive.slide(SLIDE_SERIES).read_region(level, x, y, width, height)
                assert np.abs(region.astype(int) - ours).max() <= 2  # two decoders of JPEG
            assert slide.read_thumbnail((75, 50)).size == (75, 50)


def test_highdicom_reads_frames_of_an_instance(images: Served, api) -> None:
    """An image that was retrieved has the pixels of `archive.array`, frame for frame."""
    highdicom = pytest.importorskip("highdicom")
    client = api.DICOMwebClient(images.url + "/dicom-web")
    found = client.retrieve_instance(STUDY, "1.2.8.31", GREY)
    with warnings.catch_warnings(), mmindex.open(images.folder) as archive:
        warnings.simplefilter("ignore")
        image = highdicom.Image.from_dataset(found)
        for index in range(5):
            pixels = image.get_frame(index + 1, apply_modality_transform=False)
            assert np.array_equal(np.squeeze(pixels), archive.array(GREY, index))


def test_every_query_of_dicomweb_client(served: Served, api) -> None:
    """Studies, series and instances, at every level and in every form of the arguments."""
    client = api.DICOMwebClient(served.url + "/dicom-web")
    assert {one["0020000D"]["Value"][0] for one in client.search_for_studies()} == {STUDY, "1.2.4"}
    for filters, count in (
        ({"PatientName": "Smith*"}, 1),
        ({"00100010": "Smith^John"}, 1),
        ({"StudyDate": "20200101-20201231"}, 1),
        ({"ModalitiesInStudy": "CT"}, 1),
    ):
        assert len(client.search_for_studies(search_filters=filters)) == count
    assert len(client.search_for_studies(limit=1, offset=1, fuzzymatching=True)) == 1
    assert client.search_for_studies(offset=2) == []
    assert len(client.search_for_studies(get_remaining=True, limit=1)) == 2
    assert len(client.search_for_series()) == 3
    assert len(client.search_for_series(STUDY, search_filters={"Modality": "CT"})) == 1
    assert len(client.search_for_instances()) == 4
    assert len(client.search_for_instances(STUDY)) == 3
    (found,) = client.search_for_instances(STUDY, SERIES, fields=["FrameTime", "00100020"])
    assert found["00181063"]["Value"] == [40]
    assert found["00080018"]["Value"] == [CINE]


def test_every_retrieval_of_dicomweb_client(served: Served, api) -> None:
    """Files, metadata, frames, bulk data and pictures, whole and as iterators."""
    client = api.DICOMwebClient(served.url + "/dicom-web")
    place = (STUDY, SERIES, CINE)
    stored = pydicom.dcmread(served.folder / "cine.dcm")
    assert client.retrieve_instance(*place) == stored
    syntaxes = (("application/dicom", JPEG_BASELINE),)
    assert client.retrieve_instance(*place, media_types=syntaxes) == stored
    assert list(client.iter_series(*place[:2])) == [stored]
    assert {one.SOPInstanceUID for one in client.iter_study(STUDY)} == {CINE, CT, SR}
    assert len(client.retrieve_study(STUDY)) == 3
    assert len(client.retrieve_series(STUDY, "1.2.3.2")) == 2
    assert len(client.retrieve_study_metadata(STUDY)) == 3
    assert len(client.retrieve_series_metadata(*place[:2])) == 1
    metadata = client.retrieve_instance_metadata(*place)
    assert pydicom.Dataset.from_json(metadata, lambda *_: b"").PatientName == stored.PatientName
    assert list(client.iter_instance_frames(*place, [9, 1])) == [FRAMES[8], FRAMES[0]]
    address = metadata["00291001"]["BulkDataURI"]
    assert client.retrieve_bulkdata(address) == [LONG]
    assert list(client.iter_bulkdata(address)) == [LONG]
    assert client.retrieve_bulkdata(address, byte_range=(2, 5)) == [LONG[2:6]]
    other = ("1.2.4", "1.2.4.1", OTHER)
    for picture in (
        client.retrieve_instance_rendered(*other, media_types=("image/png",)),
        client.retrieve_instance_frames_rendered(*other, [1], media_types=("image/png",)),
        client.retrieve_instance_rendered(*other),
    ):
        from PIL import Image

        assert Image.open(io.BytesIO(picture)).size == (2, 2)


def test_what_is_not_served_fails_as_an_http_error(served: Served, api) -> None:
    """Storing, deleting and rendering a series end with an HTTP error, not with nonsense."""
    requests = pytest.importorskip("requests")
    client = api.DICOMwebClient(served.url + "/dicom-web")
    stored = pydicom.dcmread(served.folder / "other.dcm")
    for call in (
        lambda: client.store_instances([stored]),
        lambda: client.delete_study(STUDY),
        lambda: client.delete_series(STUDY, SERIES),
        lambda: client.delete_instance(STUDY, SERIES, CINE),
        lambda: client.retrieve_instance(STUDY, SERIES, "1.9"),
    ):
        with pytest.raises(requests.HTTPError):
            call()
    assert (served.folder / "cine.dcm").exists()


def test_a_client_with_a_token(served: Served, api) -> None:
    """dicomweb-client sends the token with every request; without it each one is 401."""
    from mmindex.serve import application

    requests = pytest.importorskip("requests")
    server = Server(application(served.folder, token="a-token-of-many-characters"))
    try:
        with pytest.raises(requests.HTTPError):
            api.DICOMwebClient(server.url + "/dicom-web").search_for_studies()
        client = api.DICOMwebClient(
            server.url + "/dicom-web",
            headers={"Authorization": "Bearer a-token-of-many-characters"},
        )
        assert len(client.search_for_studies()) == 2
        assert client.retrieve_instance_frames(STUDY, SERIES, CINE, [2]) == [FRAMES[1]]
    finally:
        server.stop()
