"""What is sent is the instance that the URL names, of the study that it names, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from container_bytes import write_tar
from dicom_bytes import dicom_file, element, image_attributes
from serve.asgi_client import ask
from served_archive import CINE, SERIES, STUDY, header, write_archive

import mmindex
from mmindex.index.reader import Reader
from mmindex.serve import application

TWICE = "1.2.9.80"
FILES = "multipart/related; type=application/dicom"


def write_image(path: Path, place: tuple[str, str, str], name: bytes, pixel: int, at: int) -> None:
    """Write an image of one grey level, changed at a time of its own."""
    study, series, uid = place
    data = header(uid, study, series, "OT", name, "20200102") + image_attributes(rows=2, columns=2)
    path.write_bytes(dicom_file(data + element(0x7FE00010, "OW", bytes([pixel]) * 4)))
    os.utime(path, (at, at))


@pytest.fixture(params=["Bob last", "Alice last"])
def twins(request, tmp_path):
    """Serve two patients' studies whose files have one SOP Instance UID."""
    late = request.param == "Bob last"
    write_image(tmp_path / "a.dcm", ("1.5.1", "1.5.1.1", TWICE), b"Alice^A ", 1, 1000 + (not late))
    write_image(tmp_path / "b.dcm", ("1.5.2", "1.5.2.1", TWICE), b"Bob^B ", 2, 1000 + late)
    mmindex.build(tmp_path, workers=1)
    return application(tmp_path)


@pytest.mark.parametrize(
    ("study", "name", "pixel"), [("1.5.1", "Alice^A", 1), ("1.5.2", "Bob^B", 2)]
)
def test_one_sop_instance_uid_in_two_studies_is_two_instances(twins, study, name, pixel):
    """Frames, files, metadata, names and pictures of a study are those of its own file."""
    place = f"/dicom-web/studies/{study}"
    instance = f"{place}/series/{study}.1/instances/{TWICE}"
    octets = {"accept": "application/octet-stream"}
    assert ask(twins, instance + "/frames/1", **octets).content == bytes([pixel]) * 4
    assert ask(twins, instance + "/bulkdata/7FE00010", **octets).content == bytes([pixel]) * 4
    for path in (place, f"{place}/series/{study}.1", instance):
        (found,) = ask(twins, path + "/metadata").json()
        assert found["0020000D"]["Value"] == [study]
        assert found["00100010"]["Value"] == [{"Alphabetic": name}]
        body = ask(twins, path, accept=FILES).content
        assert [one in body for one in (b"Alice", b"Bob")] == [name[0] == "A", name[0] == "B"]
    for query in (
        f"/studies?StudyInstanceUID={study}",
        f"/studies/{study}/series?includefield=PatientName",
        f"/studies/{study}/instances?includefield=PatientName",
    ):
        (found,) = ask(twins, "/dicom-web" + query).json()
        assert found["00100010"]["Value"] == [{"Alphabetic": name}]
    pictures = {
        ask(twins, path + "/thumbnail?window=2,5", accept="image/png").content
        for path in (place, f"{place}/series/{study}.1", instance)
    }
    assert len(pictures) == 1
    other = "1.5.2" if study == "1.5.1" else "1.5.1"
    crossed = f"/dicom-web/studies/{other}/series/{study}.1/instances/{TWICE}"
    for path in ("", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"):
        assert ask(twins, crossed + path).status_code == 404


def test_thumbnails_of_two_studies_differ_where_their_pixels_do(twins):
    """The picture of a study is not that of another patient."""
    found = {
        ask(twins, f"/dicom-web/studies/{study}/thumbnail?window=2,5", accept="image/png").content
        for study in ("1.5.1", "1.5.2")
    }
    assert len(found) == 2


def test_the_file_that_changed_last_is_the_one_of_its_series(tmp_path):
    """Of three files with one UID, the newest in each series is sent and listed."""
    write_image(tmp_path / "a.dcm", ("1.5.1", "1.5.1.1", TWICE), b"A", 1, 1000)
    write_image(tmp_path / "b.dcm", ("1.5.1", "1.5.1.1", TWICE), b"A", 2, 2000)
    write_image(tmp_path / "c.dcm", ("1.5.1", "1.5.1.2", TWICE), b"A", 3, 3000)
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    for series, pixel in (("1.5.1.1", 2), ("1.5.1.2", 3)):
        path = f"/dicom-web/studies/1.5.1/series/{series}/instances"
        assert len(ask(app, path).json()) == 1
        answer = ask(app, f"{path}/{TWICE}/frames/1", accept="application/octet-stream")
        assert answer.content == bytes([pixel]) * 4


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
@pytest.mark.parametrize("kind", ["tar", "files"])
def test_of_equally_new_files_the_listed_one_is_sent(tmp_path, kind, order):
    """Members of one container have one time: lists, counts and frames agree on the last key."""
    place, written = ("1.5.1", "1.5.1.1", TWICE), []
    for number in order:
        data = header(place[2], *place[:2], "OT", b"A", "20200102")
        data += image_attributes(rows=number + 1, columns=2, number_of_frames=number + 1)
        data += element(0x7FE00010, "OW", bytes([number]) * (2 * (number + 1) ** 2))
        written.append((f"{number}.dcm", dicom_file(data)))
    if kind == "tar":
        (tmp_path / "x.tar").write_bytes(write_tar(written))
    for name, data in written if kind == "files" else ():
        (tmp_path / name).write_bytes(data)
        os.utime(tmp_path / name, (1000, 1000))
        mmindex.build(tmp_path, workers=1, containers=True)
    mmindex.build(tmp_path, workers=1, containers=True)
    app = application(tmp_path)
    path = "/dicom-web/studies/1.5.1/series/1.5.1.1/instances"
    (listed,) = ask(app, path).json()
    assert [listed[tag]["Value"] for tag in ("00280010", "00280008")] == [[3], [3]]
    answer = ask(app, f"{path}/{TWICE}/frames/3", accept="application/octet-stream")
    assert answer.content == b"\2" * 6


@pytest.mark.parametrize("twin", [False, True], ids=["one file", "two studies"])
@pytest.mark.parametrize("uid", ["1.2.9.81", TWICE])
def test_a_build_while_an_instance_is_looked_up_sends_no_other_one(
    tmp_path, monkeypatch, uid, twin
):
    """The file is replaced by another patient's and indexed once the record was read: no frame."""
    write_image(tmp_path / "a.dcm", ("1.5.1", "1.5.1.1", TWICE), b"Alice^A ", 1, 1000)
    if twin:
        write_image(tmp_path / "c.dcm", ("1.5.3", "1.5.3.1", TWICE), b"Carol^C ", 3, 3000)
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    read = Reader.read_records
    left = [1]

    def read_then_build(self, kind, asked):
        found = list(read(self, kind, asked))
        if left and any(record.study_instance_uid == "1.5.1" for _, record in found):
            left.pop()
            write_image(tmp_path / "a.dcm", ("1.5.2", "1.5.2.1", uid), b"Bob^B ", 2, 2000)
            mmindex.build(tmp_path, workers=1)
        return found

    monkeypatch.setattr(Reader, "read_records", read_then_build)
    path = f"/dicom-web/studies/1.5.1/series/1.5.1.1/instances/{TWICE}/frames/1"
    answer = ask(app, path, accept="application/octet-stream")
    assert (answer.status_code, left) == (410, [])
    assert ask(app, path, accept="application/octet-stream").status_code == 404
    monkeypatch.undo()
    place = f"/dicom-web/studies/1.5.2/series/1.5.2.1/instances/{uid}/frames/1"
    assert ask(app, place, accept="application/octet-stream").content == b"\2" * 4


def test_a_file_that_is_gone_does_not_hide_the_other_study(tmp_path):
    """Where the newest file with a UID was removed, that of another study is still sent."""
    write_image(tmp_path / "a.dcm", ("1.5.1", "1.5.1.1", TWICE), b"A", 1, 1000)
    write_image(tmp_path / "b.dcm", ("1.5.2", "1.5.2.1", TWICE), b"B", 2, 2000)
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path, revalidate_after=0)
    (tmp_path / "b.dcm").unlink()
    for study, status in (("1.5.1", 200), ("1.5.2", 410)):
        path = f"/dicom-web/studies/{study}/series/{study}.1/instances/{TWICE}/frames/1"
        assert ask(app, path, accept="application/octet-stream").status_code == status


@pytest.mark.parametrize(
    "path",
    ["/series", "/instances", "/metadata", "", "/thumbnail", f"/series/{SERIES}/instances"],
)
def test_one_file_is_in_its_own_study_alone(tmp_path, path):
    """Of one file, another study does not exist, and no search finds it."""
    write_archive(tmp_path)
    app = application(tmp_path / "cine.dcm")
    assert ask(app, f"/dicom-web/studies/9.9.9{path}").status_code == 404
    assert ask(app, f"/dicom-web/studies/{STUDY}/series").status_code == 200
    for query in ("/studies", "/series", "/instances"):
        assert ask(app, f"/dicom-web{query}?StudyInstanceUID=9.9.9").json() == []
        assert len(ask(app, f"/dicom-web{query}?StudyInstanceUID={STUDY}").json()) == 1
    for study, series in (("9.9.9", SERIES), (STUDY, "9.9")):
        crossed = f"/dicom-web/studies/{study}/series/{series}/instances/{CINE}/frames/1"
        assert ask(app, crossed).status_code == 404


@pytest.fixture
def broken(tmp_path):
    """Serve a study of three files of which one was removed after it was indexed."""
    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "ct.dcm").unlink()
    return application(tmp_path)


@pytest.mark.parametrize("most_joined", [500, 1])
def test_a_study_with_a_file_gone_is_partial_content(broken, monkeypatch, most_joined):
    """Some but not all instances: 206 with a Warning (PS3.18 10.4.3), a body or a stream."""
    monkeypatch.setattr("mmindex.serve.routes._MOST_JOINED", most_joined)
    found = ask(broken, f"/dicom-web/studies/{STUDY}/metadata")
    assert found.status_code == 206
    assert "left out" in found.headers["warning"]
    assert len(found.json()) == 2
    files = ask(broken, f"/dicom-web/studies/{STUDY}", accept=FILES)
    assert files.status_code == 206
    assert "left out" in files.headers["warning"]
    assert files.content.count(b"DICM") == 2
    whole = ask(broken, "/dicom-web/studies/1.2.4", accept=FILES)
    assert (whole.status_code, "warning" in whole.headers) == (200, False)
    syntax = "1.2.840.10008.1.2.4.50"
    some = ask(broken, f"/dicom-web/studies/{STUDY}", accept=f"{FILES}; transfer-syntax={syntax}")
    assert (some.status_code, some.content.count(b"DICM")) == (206, 1)


def test_a_study_of_which_all_is_gone_says_so(broken, tmp_path):
    """No instance is left: the reason of one of them, not an empty answer."""
    for name in ("cine.dcm", "report.dcm"):
        (tmp_path / name).unlink()
    assert ask(broken, f"/dicom-web/studies/{STUDY}", accept=FILES).status_code == 410
    assert ask(broken, f"/dicom-web/studies/{STUDY}/metadata").status_code == 410
