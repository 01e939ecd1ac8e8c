"""Splits by patient: Patient ID and issuer, from what an index keeps or from headers."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex import FrameDataset


def write(
    path: Path, uid: str, study: str, patient: str, issuer: str = "", name: str = "Doe"
) -> None:
    data_set = b"".join(
        (
            element(0x00080018, "UI", uid),
            element(0x00100010, "PN", name),
            element(0x00100020, "LO", patient),
            element(0x00100021, "LO", issuer),
            element(0x0020000D, "UI", study) if study else b"",
            element(0x0020000E, "UI", f"{study or 9}.1"),
            image_attributes(rows=2, columns=2),
            element(PIXEL_DATA, "OW", b"1234"),
        )
    )
    path.write_bytes(dicom_file(data_set))


def find_parts(folder: Path, seed: int = 0, by: str = "patient") -> list[set[str]]:
    """Return the instances of ten parts of an archive."""
    with mmindex.open(folder) as archive:
        dataset = FrameDataset(archive, with_ids=True)
        parts = dataset.split((0.1,) * 10, by=by, seed=seed)  # type: ignore[arg-type]
        return [{uid for _, uid, _ in part} for part in parts]


def are_together(folder: Path, *uids: str) -> bool:
    """Return whether instances are in one part, whatever the seed."""
    return all(any(set(uids) <= part for part in find_parts(folder, seed)) for seed in range(6))


@pytest.fixture(params=["", "qido", "PatientID,IssuerOfPatientID"])
def attributes(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_id_of_two_issuers_is_two_patients(tmp_path: Path, attributes: str) -> None:
    """And studies of one ID and issuer are never divided."""
    for number in range(20):
        patient, issuer = f"P{number % 5}", "AB"[number % 10 // 5]
        write(tmp_path / f"{number}", f"1.{number}", f"2.{number}", patient, issuer)
    mmindex.build(tmp_path, attributes=attributes, workers=1)
    assert [len(part) for part in find_parts(tmp_path)] == [2] * 10
    for part in find_parts(tmp_path, seed=3):
        assert len({int(uid[2:]) % 10 for uid in part}) == 1
    assert find_parts(tmp_path, seed=3) == find_parts(tmp_path, seed=3)
    assert find_parts(tmp_path, seed=3) != find_parts(tmp_path, seed=4)


def test_an_id_without_issuer_is_the_same_patient(tmp_path: Path, attributes: str) -> None:
    """One study names no issuer: which of the two it is of cannot be known, so none is divided."""
    for number, issuer in enumerate(("A", "", "B")):
        write(tmp_path / f"{number}", f"1.{number}", f"2.{number}", "P", issuer)
    for number in range(3, 20):
        write(tmp_path / f"{number}", f"1.{number}", f"2.{number}", f"P{number}", "A")
    mmindex.build(tmp_path, attributes=attributes, workers=1)
    assert are_together(tmp_path, "1.0", "1.1", "1.2")
    assert not are_together(tmp_path, "1.0", "1.3")


def test_studies_without_an_id_are_patients_of_their_own(tmp_path: Path, attributes: str) -> None:
    """A blank ID is none, an ID like a study's UID is another patient, nor do files without study
    follow the first one."""
    write(tmp_path / "a", "1.1", "2.1", "")
    write(tmp_path / "b", "1.2", "2.2", "  ")
    write(tmp_path / "c", "1.3", "2.3", "2.1")
    write(tmp_path / "d", "1.4", "", "X")
    write(tmp_path / "e", "1.5", "", "Y")
    write(tmp_path / "f", "1.6", "2.6", "Y")
    mmindex.build(tmp_path, attributes=attributes, workers=1)
    assert not are_together(tmp_path, "1.1", "1.2")
    assert not are_together(tmp_path, "1.1", "1.3")
    assert not are_together(tmp_path, "1.4", "1.5")
    assert are_together(tmp_path, "1.5", "1.6")


def test_no_header_is_read_where_the_index_keeps_the_id(tmp_path: Path) -> None:
    """The files may be away; without attributes each study's header is read."""
    for number in range(10):
        write(tmp_path / f"{number}", f"1.{number}", f"2.{number}", f"P{number % 5}")
    mmindex.build(tmp_path, attributes="PatientID", workers=1)
    for number in range(10):
        (tmp_path / f"{number}").unlink()
    with mmindex.open(tmp_path) as archive:
        parts = FrameDataset(archive).split((0.5, 0.5), seed=1)
        assert sorted(map(len, parts)) == [4, 6]


def test_what_an_archive_says_of_a_study_and_a_series(tmp_path: Path) -> None:
    """By keyword; nothing where the index keeps nothing."""
    write(tmp_path / "a", "1.1", "2.1", "P", name="Doe^Jane=Doh^Jay")
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert archive.kept_attributes() is None
        assert archive.attributes("2.1") == {}
        assert [study.attributes for study in archive.studies()] == [{}]
    mmindex.build(tmp_path, attributes=["PatientName", "PatientID", "IssuerOfPatientID"])
    with mmindex.open(tmp_path) as archive:
        kept = archive.kept_attributes()
        assert kept is not None
        assert kept.names == ("IssuerOfPatientID", "PatientID", "PatientName")
        expected = {"PatientName": "Doe^Jane=Doh^Jay", "PatientID": "P"}
        (study,), (series,) = archive.studies(), archive.series()
        assert study.attributes == archive.attributes("2.1") == expected
        assert series.attributes == archive.attributes("2.1.1") == archive.attributes("9") == {}
        assert len({study, series}) == 2
