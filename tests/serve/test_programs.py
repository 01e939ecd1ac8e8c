"""The calls that 3D Slicer and MONAI Label make of a DICOMweb server, one after the other.

Both read with dicomweb-client: Slicer 5 in `DICOMUtils.importFromDICOMWeb` and in the extension
DICOMwebBrowser, MONAI Label 0.8 in `datastore/dicom.py` and `datastore/utils/dicom.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_bytes import dicom_file, element, item, sequence
from pydicom.dataset import Dataset
from served_archive import Served, Server

import mmindex

api = pytest.importorskip("dicomweb_client.api")
CT, CT_SERIES, SLICES = "1.2.8.40", "1.2.8.40.1", 5
SEG_SERIES, SEG = "1.2.8.40.2", "1.2.8.40.2.1"
OTHER = "1.2.8.41"
NAME = "CompressedSamples^CT1"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a CT with a segmentation, and a second patient's CT."""
    from mmindex.serve import application

    folder = tmp_path_factory.mktemp("programs")
    for number in range(SLICES):
        write_slice(folder, CT, CT_SERIES, number)
    write_slice(folder, OTHER, f"{OTHER}.1", 0)
    (folder / "seg.dcm").write_bytes(dicom_file(segmentation()))
    mmindex.build(folder, workers=1)
    server = Server(application(folder))
    yield Served(folder, server.url)
    server.stop()


def write_slice(folder: Path, study: str, series: str, number: int) -> None:
    import pydicom.data

    found = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    found.StudyInstanceUID, found.SeriesInstanceUID, found.InstanceNumber = study, series, number
    found.SOPInstanceUID = found.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number + 1}"
    found.PatientID = f"ID of {study}"
    found.PixelData = np.roll(found.pixel_array, 9 * number, 0).tobytes()
    found.save_as(folder / f"{series}-{number}.dcm")


def segmentation() -> bytes:
    """Return the data set of a segmentation, as far as it is looked at."""
    referenced = sequence(0x00081115, [item(element(0x0020000E, "UI", CT_SERIES))])
    return b"".join(
        (
            element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.66.4"),
            element(0x00080018, "UI", SEG),
            *(element(0x00080020, "DA", "20040119"), element(0x00080060, "CS", "SEG ")),
            referenced,
            *(element(0x00100010, "PN", NAME), element(0x00100020, "LO", f"ID of {CT}")),
            *(element(0x0020000D, "UI", CT), element(0x0020000E, "UI", SEG_SERIES)),
        )
    )


def read_folder(folder: Path) -> dict[str, Dataset]:
    found = map(pydicom.dcmread, folder.glob("*.dcm"))
    return {one.SOPInstanceUID: one for one in found}


@pytest.fixture
def stored(archive: Served) -> dict[str, Dataset]:
    """Return the files of the archive, as pydicom reads them."""
    return read_folder(archive.folder)


@pytest.fixture
def client(archive: Served):
    return api.DICOMwebClient(url=archive.url + "/dicom-web", headers={})


def hold_saved(instances: list[Dataset], stored: dict[str, Dataset], folder: Path) -> None:
    """Save instances as both programs do, and hold that each is the file of the archive."""
    for number, instance in enumerate(instances):
        instance.save_as(folder / f"{number}.dcm")
    saved = read_folder(folder)
    assert saved == {uid: stored[uid] for uid in saved}
    assert len(saved) == len(instances)


def test_slicer_imports_a_study(client, stored: dict[str, Dataset], tmp_path: Path) -> None:
    """`importFromDICOMWeb`: each series of the study, its metadata, then its files as they come."""
    found = client.search_for_series(study_instance_uid=CT)
    series = [one["0020000E"]["Value"][0] for one in found]
    assert sorted(series) == [CT_SERIES, SEG_SERIES]
    for uid in series:
        place = {"study_instance_uid": CT, "series_instance_uid": uid}
        metadata = client.retrieve_series_metadata(**place)
        uids = {one["00080018"]["Value"][0] for one in metadata}
        instances = list(client.iter_series(**place))
        assert {one.SOPInstanceUID for one in instances} == uids
        (tmp_path / uid).mkdir()
        hold_saved(instances, stored, tmp_path / uid)


def test_slicer_browses(client, stored: dict[str, Dataset], tmp_path: Path) -> None:
    """DICOMwebBrowser: studies by pages until one is empty, series, and instances one by one."""
    studies: list[dict[str, dict]] = []
    while page := client.search_for_studies(offset=len(studies)):
        assert page[0] not in studies
        studies += page
    assert sorted(one["0020000D"]["Value"][0] for one in studies) == [CT, OTHER]
    (study,) = (one for one in studies if one["0020000D"]["Value"] == [CT])
    expected = stored[f"{CT_SERIES}.1"]
    shown = {tag: study[tag]["Value"] for tag in ("00100010", "00100020", "00080061", "00080020")}
    assert shown == {
        "00100010": [{"Alphabetic": NAME}],
        "00100020": [f"ID of {CT}"],
        "00080061": ["CT", "SEG"],
        "00080020": ["20040119"],
    }
    (series,) = client.search_for_series(CT, search_filters={"Modality": "CT"})
    row = Dataset.from_json(series)
    assert row.Modality == "CT"
    assert row.SeriesNumber == expected.SeriesNumber
    assert row.NumberOfSeriesRelatedInstances == SLICES
    place = {"study_instance_uid": CT, "series_instance_uid": CT_SERIES}
    uids = [one["00080018"]["Value"][0] for one in client.search_for_instances(**place)]
    assert len(uids) == SLICES
    hold_saved(
        [client.retrieve_instance(**place, sop_instance_uid=uid) for uid in uids], stored, tmp_path
    )


def test_monai_label_lists_images_and_labels(client) -> None:
    """Series by modality; which image a segmentation is of; what is shown of a series."""
    found = client.search_for_series(search_filters={"Modality": "CT"})
    images = [str(Dataset.from_json(one)["SeriesInstanceUID"].value) for one in found]
    assert sorted(images) == [CT_SERIES, f"{OTHER}.1"]
    (found,) = client.search_for_series(search_filters={"Modality": "SEG"})
    label = Dataset.from_json(found)
    place = str(label["StudyInstanceUID"].value), str(label["SeriesInstanceUID"].value)
    metadata = client.retrieve_series_metadata(*place)
    image = Dataset.from_json(metadata[0])
    assert image["ReferencedSeriesSequence"].value[0]["SeriesInstanceUID"].value == CT_SERIES
    shown = Dataset.from_json(
        client.search_for_series(search_filters={"SeriesInstanceUID": CT_SERIES})[0]
    )
    assert (shown.Modality, shown.StudyInstanceUID) == ("CT", CT)
    assert (shown.StudyDate, shown.PatientID) == ("20040119", f"ID of {CT}")
    assert shown.StudyTime == "072730"
    assert shown.RetrieveURL.endswith(f"/dicom-web/studies/{CT}/series/{CT_SERIES}")


def test_monai_label_downloads_a_series(client, stored: dict[str, Dataset], tmp_path: Path) -> None:
    """A series is found by its UID alone, and retrieved whole."""
    found = client.search_for_series(search_filters={"SeriesInstanceUID": CT_SERIES})
    (series,) = (one for one in found if one["0020000E"]["Value"] == [CT_SERIES])
    study = str(Dataset.from_json(series)["StudyInstanceUID"].value)
    instances = client.retrieve_series(study, CT_SERIES)
    assert len(instances) == SLICES
    hold_saved(instances, stored, tmp_path)


def test_monai_label_downloads_by_frame(client, stored: dict[str, Dataset]) -> None:
    """Metadata, and the first frame of each instance as its pixel data."""
    for metadata in client.retrieve_series_metadata(CT, CT_SERIES):
        found = Dataset.from_json(metadata, lambda *_: b"")
        uid = str(found["SOPInstanceUID"].value)
        frames = client.retrieve_instance_frames(
            study_instance_uid=CT,
            series_instance_uid=CT_SERIES,
            sop_instance_uid=uid,
            frame_numbers=[1],
        )
        found.PixelData = bytes(frames[0])
        out = io.BytesIO()
        found.save_as(out, implicit_vr=True, little_endian=True)
        saved = pydicom.dcmread(io.BytesIO(out.getvalue()), force=True)
        assert saved.PixelData == stored[uid].PixelData
        assert saved.ImagePositionPatient == stored[uid].ImagePositionPatient
