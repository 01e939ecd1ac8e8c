"""Members of containers over DICOMweb: each answer is that for the file outside."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from container_bytes import WRITERS
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    deflate,
    dicom_file,
    element,
    image_attributes,
)
from served_archive import (
    CINE,
    CT,
    LONG,
    OTHER,
    SERIES,
    STUDY,
    Served,
    Server,
    header,
    private,
)

import mmindex
from mmindex.serve import application


def without_boundary(response: httpx.Response) -> bytes:
    """Return a body without the random boundary between its parts."""
    _, _, boundary = response.headers["content-type"].partition("boundary=")
    return response.content.replace(boundary.encode(), b"") if boundary else response.content


@pytest.mark.parametrize("kind", WRITERS)
def test_members_of_containers_are_served(tmp_path: Path, served: Served, kind: str) -> None:
    """Frames, files, metadata and bulk data are those of the files outside."""
    names = ("cine.dcm", "ct.dcm", "report.dcm", "other.dcm")
    files = [(name, (served.folder / name).read_bytes()) for name in names]
    (tmp_path / "s.any").write_bytes(WRITERS[kind](files))
    mmindex.build(tmp_path, workers=1)
    server = Server(application(tmp_path))
    try:
        for uid in (CINE, CT, OTHER):
            place = served.instance(uid)
            for path, accept in (
                (place, "application/dicom"),
                (f"{place}/metadata", "application/dicom+json"),
                (f"{place}/frames/1", "application/octet-stream, image/jpeg"),
                (f"{place}/frames/2,1", "*/*"),
                (f"{place}/rendered", "image/png"),
                (f"{place}/thumbnail", "image/jpeg"),
                (f"{place}/bulkdata/7FE00010", "application/octet-stream; transfer-syntax=*"),
                (f"{place}/bulkdata/00291001", "application/octet-stream"),
            ):
                headers = {"accept": accept}
                found = httpx.get(server.url + path, headers=headers)
                expected = httpx.get(served.url + path, headers=headers)
                assert found.status_code == expected.status_code
                if path.endswith("metadata"):
                    assert found.text.replace(server.url, served.url) == expected.text
                elif expected.status_code == 200:
                    assert without_boundary(found) == without_boundary(expected)
            whole = httpx.get(server.url + place, headers={"accept": "application/dicom"})
            name = {CINE: "cine.dcm", CT: "ct.dcm", OTHER: "other.dcm"}[uid]
            assert whole.content == dict(files)[name]
    finally:
        server.stop()


@pytest.mark.parametrize("kind", WRITERS)
def test_one_member_of_a_container_is_served(tmp_path: Path, served: Served, kind: str) -> None:
    """A path like that of a file in a container is a source, as a DICOM file is."""
    cine = (served.folder / "cine.dcm").read_bytes()
    (tmp_path / "s.zip").write_bytes(WRITERS[kind]([("deep/cine.dcm", cine)]))
    server = Server(application(f"{tmp_path}/s.zip!/deep/cine.dcm"))
    try:
        place = served.instance(CINE)
        accept = {"accept": "application/octet-stream, image/jpeg"}
        for frame in (1, 2):
            path = f"{place}/frames/{frame}"
            found = httpx.get(server.url + path, headers=accept)
            assert found.status_code == 200
            assert found.content == httpx.get(served.url + path, headers=accept).content
        whole = httpx.get(server.url + place, headers={"accept": "application/dicom"})
        assert whole.content == cine
    finally:
        server.stop()


def test_a_member_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    """As a file that is not there."""
    (tmp_path / "s.zip").write_bytes(WRITERS["zip"]([("a", b"b")]))
    for name in ("s.zip!/other", "no.zip!/a"):
        with pytest.raises(mmindex.MMIndexError):
            application(tmp_path / name)


@pytest.mark.parametrize("where", ["outside", "zip"])
@pytest.mark.parametrize("wrap", [deflate, zlib.compress, bytes], ids=["bare", "zlib", "not"])
def test_a_deflated_data_set_is_served(
    tmp_path: Path, wrap: Callable[[bytes], bytes], where: str
) -> None:
    """Frames, bulk data and pictures are of the inflated data set, the file is as it is stored."""
    data = header(CT, STUDY, SERIES, "CT", b"Smith^A ", "20200102")
    data += image_attributes(rows=4, columns=6, bits=16, number_of_frames=2) + private()
    data += element(0x7FE00010, "OW", bytes(range(96)))
    file = dicom_file(wrap(data), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    if where == "zip":
        (tmp_path / "s.zip").write_bytes(WRITERS["zip"]([("ct.dcm", file)]))
    else:
        (tmp_path / "ct.dcm").write_bytes(file)
    mmindex.build(tmp_path, workers=1)
    server = Server(application(tmp_path))
    place = f"{server.url}/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{CT}"
    octets = {"accept": "application/octet-stream"}
    try:
        assert httpx.get(f"{place}/frames/2", headers=octets).content == bytes(range(48, 96))
        assert httpx.get(f"{place}/bulkdata/7FE00010", headers=octets).content == bytes(range(96))
        assert httpx.get(f"{place}/bulkdata/00291001", headers=octets).content == LONG
        assert httpx.get(place, headers={"accept": "application/dicom"}).content == file
        picture = httpx.get(f"{place}/frames/2/rendered", headers={"accept": "image/png"})
        assert picture.content.startswith(b"\x89PNG")
        (found,) = httpx.get(f"{place}/metadata").json()
        assert found["00100010"]["Value"] == [{"Alphabetic": "Smith^A"}]
        assert found["00083002"]["Value"] == ["1.2.840.10008.1.2.1.99"]
    finally:
        server.stop()
