"""Queries of an archive whose index keeps attributes: the same answers, from no header."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes
from served_archive import CINE, OTHER, SR, STUDY, Server, header, write_archive

import mmindex
from mmindex.serve import application

DICOMWEB = "/dicom-web"


class Both:
    """The same archive twice: with attributes in its index and without files, and as it was."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.bare = folder / "whole", folder / "bare"
        self.whole.mkdir()
        write_archive(self.whole)
        for path in self.whole.iterdir():  # files of a study that agree
            path.write_bytes(re.sub(rb"(US|CT|SR) of ", b"XX of ", path.read_bytes()))
        shutil.copytree(self.whole, self.bare)
        mmindex.build(self.whole, workers=1)
        mmindex.build(self.bare, attributes="qido", workers=1)
        for path in self.bare.glob("*.dcm"):
            path.unlink()
        self.servers = [Server(application(one)) for one in (self.whole, self.bare)]

    def get(self, path: str) -> list[object]:
        found = []
        for server in self.servers:
            response = httpx.get(server.url + DICOMWEB + path)
            assert response.status_code == 200, response.text
            text = response.text.replace(server.url, "")
            found.append(sorted(json.loads(text), key=json.dumps))
        return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    both = Both(tmp_path_factory.mktemp("both"))
    yield both
    for server in both.servers:
        server.stop()


@pytest.mark.parametrize(
    "query",
    [
        "/studies",
        "/studies?limit=1&offset=1",
        "/studies?PatientName=m%C3%BCller*",
        "/studies?PatientID=ID-1.2.4&includefield=StudyDescription,00100021",
        "/studies?StudyDate=20200101-20201231",
        "/studies?ModalitiesInStudy=OT",
        "/studies?SOPInstanceUID=1.2.9.2",
        f"/studies?StudyInstanceUID={STUDY}",
        "/studies?StudyInstanceUID=1.9",
        "/series",
        "/series?Modality=CT&PatientName=*anna",
        "/series?SeriesNumber=1",
        f"/studies/{STUDY}/series",
        f"/studies/{STUDY}/series?SeriesDescription=x",
        "/instances?PatientName=smith^john",
        f"/studies/{STUDY}/instances?InstanceNumber=1",
        f"/studies/{STUDY}/series/{STUDY}.2/instances",
    ],
)
def test_an_answer_is_the_same_and_reads_no_header(both: Both, query: str) -> None:
    """Where the index keeps what a query needs, the files may be away."""
    of_headers, of_index = both.get(query)
    assert of_index == of_headers


def test_what_is_not_kept_is_read_from_the_header(both: Both) -> None:
    """Of files that are away, such attributes are empty."""
    of_headers, of_index = both.get(
        "/studies?StudyInstanceUID=1.2.4&includefield=00080070,FrameTime"
    )
    assert of_headers[0]["00181063"]["Value"] == [40]  # type: ignore[index]
    assert "Value" not in of_index[0]["00181063"]  # type: ignore[index]


def test_a_series_is_found_by_any_of_its_instances(both: Both) -> None:
    """Not by the one whose header is read alone; and an instance is never said to be another."""
    for query in ("/series", f"/studies/{STUDY}/series", "/studies"):
        for found in both.get(f"{query}?SOPInstanceUID={SR}"):
            (one,) = found
            assert one["0020000D"]["Value"] == [STUDY]  # type: ignore[index]
            assert "Value" not in one["00080018"]  # type: ignore[index]


def write(folder: Path, number: int, study: str, name: bytes, at: int = 0) -> None:
    data_set = header(f"1.5.{number}", study, f"{study}.1", "CT", name, "20200101")
    data_set = data_set.replace(
        element(0x00200013, "IS", "1"), element(0x00200013, "IS", str(number))
    )
    data_set += image_attributes(rows=1, columns=2) + element(PIXEL_DATA, "OW", b"ab")
    path = folder / f"{number}.dcm"
    path.write_bytes(dicom_file(data_set))
    if at:
        os.utime(path, (at, at))


@pytest.mark.parametrize("attributes", ["", "qido"])
def test_pages_of_many_instances_join(tmp_path: Path, attributes: str) -> None:
    """By limit and offset, across studies; a whole answer of over a thousand is a stream."""
    for number in range(1203):
        write(tmp_path, number, f"1.6.{number % 7}", b"Doe^Jane")
    mmindex.build(tmp_path, attributes=attributes, workers=1)
    server = Server(application(tmp_path))
    try:
        with httpx.Client(base_url=server.url + DICOMWEB, timeout=60) as client:
            whole = client.get("/instances").json()
            assert len(whole) == 1203
            assert len({one["00080018"]["Value"][0] for one in whole}) == 1203
            assert {one["00100010"]["Value"][0]["Alphabetic"] for one in whole} == {"Doe^Jane"}
            assert all(
                one["00081190"]["Value"][0].startswith(server.url + DICOMWEB) for one in whole
            )
            pages = [
                one
                for offset in range(0, 1300, 100)
                for one in client.get(f"/instances?limit=100&offset={offset}").json()
            ]
            assert pages == whole
            filtered = client.get("/instances?InstanceNumber=7&limit=5").json()
            assert [one["00080018"]["Value"] for one in filtered] == [["1.5.7"]]
            assert client.get("/instances?offset=2000").json() == []
            assert client.get("/instances?limit=0").json() == []
            head = client.head("/instances")
            assert (head.status_code, head.content) == (200, b"")
    finally:
        server.stop()


@pytest.mark.parametrize("attributes", ["", "qido"])
def test_a_change_is_seen_without_a_restart(tmp_path: Path, attributes: str) -> None:
    """New names, counts and studies; what is gone is gone, and other studies stay as they were."""
    for number in range(4):
        write(tmp_path, number, f"1.6.{number % 2}", b"Old^Name", at=1_000_000_000)
    mmindex.build(tmp_path, attributes=attributes, workers=1)
    server = Server(application(tmp_path, revalidate_after=0.0))

    def look(query: str = "") -> dict[str, tuple[int, str]]:
        found = httpx.get(f"{server.url}{DICOMWEB}/studies{query}").json()
        return {
            one["0020000D"]["Value"][0]: (
                one["00201208"]["Value"][0],
                one["00100010"]["Value"][0]["Alphabetic"],
            )
            for one in found
        }

    try:
        assert look() == {"1.6.0": (2, "Old^Name"), "1.6.1": (2, "Old^Name")}
        for number in (1, 3):
            write(tmp_path, number, "1.6.1", b"New^Name")
        write(tmp_path, 8, "1.6.2", b"Third^One")
        (tmp_path / "0.dcm").unlink()
        mmindex.update(tmp_path, [tmp_path / f"{number}.dcm" for number in (0, 1, 3, 8)])
        expected = {"1.6.0": (1, "Old^Name"), "1.6.1": (2, "New^Name"), "1.6.2": (1, "Third^One")}
        assert look() == expected
        assert look("?PatientName=new*") == {"1.6.1": (2, "New^Name")}
        mmindex.build(tmp_path, attributes="none", workers=1)
        assert look() == expected
    finally:
        server.stop()


def test_one_file_is_served_as_before(tmp_path: Path) -> None:
    """A study of one instance, from its header."""
    write_archive(tmp_path)
    server = Server(application(tmp_path / "other.dcm"))
    try:
        (study,) = httpx.get(f"{server.url}{DICOMWEB}/studies").json()
        assert study["00100010"]["Value"] == [{"Alphabetic": "Smith^John"}]
        (instance,) = httpx.get(f"{server.url}{DICOMWEB}/instances").json()
        assert instance["00080018"]["Value"] == [OTHER]
        assert httpx.get(f"{server.url}{DICOMWEB}/studies?SOPInstanceUID={CINE}").json() == []
    finally:
        server.stop()
