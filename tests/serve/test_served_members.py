"""Members of containers over DICOMweb: each answer is that for the file outside."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from container_bytes import WRITERS
from served_archive import CINE, CT, OTHER, Served, Server

import mmindex
from mmindex.serve import application


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
                (f"{place}/bulkdata/00291001", "application/octet-stream"),
            ):
                headers = {"accept": accept}
                found = httpx.get(server.url + path, headers=headers)
                expected = httpx.get(served.url + path, headers=headers)
                assert found.status_code == expected.status_code
                if path.endswith("metadata"):
                    assert found.text.replace(server.url, served.url) == expected.text
                elif expected.status_code == 200:
                    assert found.content == expected.content
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
