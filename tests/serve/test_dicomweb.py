"""DICOMweb as clients see it; dicomweb-client and files written by hand are the oracles."""

from __future__ import annotations

import email
import errno
import io
import json
import os

import httpx
import pydicom
import pytest
from cli_runner import run_child
from served_archive import (
    CINE,
    CT,
    FRAMES,
    LONG,
    OTHER,
    SERIES,
    SR,
    STUDY,
    Served,
    Server,
    write_archive,
)

import mmindex


@pytest.fixture(scope="session")
def http(served: Served):
    with httpx.Client(base_url=served.url) as client:
        yield client


def parts(response: httpx.Response) -> list[bytes]:
    """Split a multipart message with Python's own parser."""
    head = b"Content-Type: " + response.headers["content-type"].encode() + b"\r\n\r\n"
    message = email.message_from_bytes(head + response.content)
    assert message.is_multipart()
    boundary = message.get_boundary().encode()
    bodies = response.content.split(b"--" + boundary)[1:-1]
    return [body.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for body in bodies]


def values(found: list[dict], tag: str) -> list:
    return [one[tag].get("Value", [None])[0] for one in found]


QIDO = "/dicom-web/studies"


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("", {STUDY, "1.2.4"}),
        ("?PatientName=m*", {STUDY}),
        ("?PatientName=MULLER^a??a", {STUDY}),
        ("?00100010=Smith^John", {"1.2.4"}),
        ("?PatientName=Smith", set()),
        ("?PatientID=ID-1.2.?", {STUDY, "1.2.4"}),
        ("?StudyDate=20200101-20201231", {STUDY}),
        ("?StudyDate=20200103-", {"1.2.4"}),
        ("?StudyDate=-20200102", {STUDY}),
        ("?StudyDate=20210305", {"1.2.4"}),
        ("?StudyInstanceUID=1.2.4,1.2.3", {STUDY, "1.2.4"}),
        ("?StudyInstanceUID=1.2.4\\1.9", {"1.2.4"}),
        ("?ModalitiesInStudy=CT", {STUDY}),
        ("?Modality=OT&fuzzymatching=true", {"1.2.4"}),
        ("?SOPInstanceUID=1.2.9.2", {STUDY}),
        ("?AccessionNumber=", {STUDY, "1.2.4"}),
        ("?Nonsense=1", {STUDY, "1.2.4"}),
        ("?ReferencedImageSequence.ReferencedSOPInstanceUID=1.2.77", {STUDY, "1.2.4"}),
    ],
)
def test_studies_match_as_the_standard_says(http, query, studies):
    """Wild cards, ranges, lists and sequences (PS3.4 C.2.2.2)."""
    found = http.get(QIDO + query).json()
    assert set(values(found, "0020000D")) == studies


def test_a_study_has_the_attributes_that_lists_need(http):
    """Counts and modalities are the records'; an empty attribute has no Value."""
    (study,) = http.get(QIDO, params={"StudyInstanceUID": STUDY}).json()
    assert study["00201206"]["Value"] == [2]
    assert study["00201208"]["Value"] == [3]
    assert {"CT", "US"} <= set(study["00080061"]["Value"])
    assert study["00080050"] == {"vr": "SH"}
    assert study["00100010"]["Value"] == [{"Alphabetic": "M\xfcller^Anna"}]
    assert study["00081190"]["Value"][0].endswith(f"/dicom-web/studies/{STUDY}")


@pytest.mark.parametrize(
    "query",
    [
        "?includefield=FrameTime",
        "?includefield=00181063",
        "?includefield=StudyTime,FrameTime",
        "?includefield=StudyTime&includefield=FrameTime",
        "?includefield=all",
    ],
)
def test_includefield_in_all_of_its_forms(http, query):
    """By keyword, by tag, joined by commas, repeated, or all."""
    found = http.get("/dicom-web/instances" + query).json()
    assert {one["00181063"]["Value"][0] for one in found} == {40}


def test_pages_join(http):
    """limit and offset cut the list that a query without them returns."""
    whole = http.get("/dicom-web/instances").json()
    pages = [
        http.get("/dicom-web/instances", params={"limit": 1, "offset": at}).json()
        for at in range(5)
    ]
    assert [one for page in pages for one in page] == whole
    assert len(whole) == 4


def test_levels_below_each_other(http):
    """Series of a study, instances of a study and of a series; others do not come."""
    series = http.get(f"{QIDO}/{STUDY}/series").json()
    assert sorted(values(series, "0020000E")) == [SERIES, "1.2.3.2"]
    found = http.get(f"{QIDO}/{STUDY}/series/1.2.3.2/instances").json()
    assert sorted(values(found, "00080018")) == [CT, SR]
    assert len(http.get(f"{QIDO}/{STUDY}/instances").json()) == 3
    assert http.get(f"{QIDO}/1.9/series").status_code == 404


@pytest.mark.parametrize(
    ("query", "instances"),
    [("?ModalitiesInStudy=US", 3), ("?NumberOfStudyRelatedInstances=3", 3), ("?00080061=MR", 0)],
)
def test_instances_of_all_studies_match_what_is_counted_of_their_study(http, query, instances):
    """Counts and modalities of study and series, also in the answer (PS3.18 10.6.3.3.3)."""
    found = http.get("/dicom-web/instances" + query).json()
    assert len(found) == instances
    assert all({"CT", "US"} <= set(one["00080061"]["Value"]) for one in found)
    assert all(one["00201208"]["Value"] == [3] and "00201209" in one for one in found)


@pytest.mark.parametrize("index", range(len(FRAMES)))
def test_a_single_frame_is_the_bytes_that_were_written(http, served, index):
    """Accept: image/jpeg gets the bare frame."""
    url = f"{served.instance(CINE)}/frames/{index + 1}"
    response = http.get(url, headers={"accept": "image/jpeg"})
    assert response.content == FRAMES[index]
    assert response.headers["content-type"].startswith("image/jpeg")


def test_frames_come_in_the_order_asked(http, served):
    """A list of numbers is a multipart message, a part a frame."""
    response = http.get(f"{served.instance(CINE)}/frames/3,1,9")
    assert parts(response) == [FRAMES[2], FRAMES[0], FRAMES[8]]


def test_native_frames_are_octets(http, served):
    """Uncompressed frames need no transfer syntax to be asked for."""
    accept = {"accept": "multipart/related; type=application/octet-stream"}
    response = http.get(f"{served.instance(CT)}/frames/1,2", headers=accept)
    assert parts(response) == [bytes(range(48))] * 2


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/frames/0", "*/*", 404),
        ("/frames/10", "*/*", 404),
        ("/frames/1,x", "*/*", 400),
        ("/frames/1,", "*/*", 400),
        ("/frames/" + "1," * 1000 + "1", "*/*", 400),
        ("/frames/1", "image/jp2", 406),
        ("/frames/1,2", "image/jpeg", 406),
        ("/frames/1/rendered", "application/dicom", 406),
        ("/frames/1/rendered?quality=0", "*/*", 400),
        ("/frames/1/rendered?window=1", "*/*", 400),
        ("/frames/1/rendered?window=nan,nan", "*/*", 400),
        ("/rendered?viewport=0,5", "*/*", 400),
        ("/rendered?viewport=1e400,5", "*/*", 400),
        ("/metadata", "application/dicom+xml", 406),
        ("", "multipart/related; type=application/dicom; transfer-syntax=1.2.3", 406),
        ("/bulkdata/00990099", "*/*", 404),
        ("/bulkdata/../../../../etc/passwd", "*/*", 404),
        ("/nothing", "*/*", 404),
    ],
)
def test_what_cannot_be_answered_says_why(http, served, path, accept, status):
    """400, 404 and 406 with a sentence."""
    response = http.get(served.instance(CINE) + path, headers={"accept": accept})
    assert response.status_code == status
    assert len(response.text) > 10
    assert str(served.folder) not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/dicom-web/studies", 405),
        ("PUT", "/dicom-web/studies/1.2.3", 405),
        ("DELETE", "/dicom-web/studies/1.2.3", 405),
        ("POST", "/dicom-web/workitems", 501),
        ("GET", "/dicom-web/workitems/1.2", 501),
        ("GET", f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{OTHER}/metadata", 404),
    ],
)
def test_other_services_and_places(http, method, path, status):
    """Storing is 405, worklists are 501, an instance of another study is not found."""
    assert http.request(method, path).status_code == status


@pytest.mark.parametrize("suffix", ["/frames/1", "/frames/1,2", "/metadata", "/rendered", ""])
def test_an_etag_saves_the_body(http, served, suffix):
    """If-None-Match gets 304 while the file is as it was; HEAD has no body."""
    url = served.instance(OTHER) + suffix
    url = url.replace("1,2", "1,1")
    first = http.get(url)
    etag = first.headers["etag"].removeprefix("W/")  # weak of multipart messages
    assert http.get(url, headers={"if-none-match": f'"x", W/{etag}'}).status_code == 304
    assert http.get(url, headers={"if-none-match": '"x"'}).content == first.content
    head = http.head(url)
    assert (head.status_code, head.content) == (200, b"")


def test_ranges_of_a_frame(http, served):
    """206 with Content-Range, 416 after the end; If-Range of another state gets all."""
    url, accept = f"{served.instance(CINE)}/frames/5", {"accept": "image/jpeg"}
    part = http.get(url, headers={**accept, "range": "bytes=3-7"})
    assert (part.status_code, part.content) == (206, FRAMES[4][3:8])
    assert part.headers["content-range"] == f"bytes 3-7/{len(FRAMES[4])}"
    assert http.get(url, headers={**accept, "range": "bytes=999-"}).status_code == 416
    changed = {**accept, "range": "bytes=3-7", "if-range": '"other"'}
    assert http.get(url, headers=changed).content == FRAMES[4]


def test_instances_are_files_as_they_are(http, served):
    """Part 10 files in parts, of an instance and of a study; bare for application/dicom."""
    stored = (served.folder / "cine.dcm").read_bytes()
    accept = {"accept": 'multipart/related; type="application/dicom"'}
    assert parts(http.get(served.instance(CINE), headers=accept)) == [stored]
    names = ("cine.dcm", "ct.dcm", "report.dcm")
    files = sorted((served.folder / name).read_bytes() for name in names)
    assert sorted(parts(http.get(f"{QIDO}/{STUDY}", headers=accept))) == files
    bare = http.get(served.instance(CINE), headers={"accept": "application/dicom"})
    assert bare.content == stored


def test_metadata_and_bulk_data(http, served):
    """Long values and pixel data have a BulkDataURI that leads to their bytes."""
    (found,) = http.get(f"{served.instance(CINE)}/metadata").json()
    assert found["00181063"] == {"vr": "DS", "Value": [40]}
    assert found["00081140"]["Value"] == [{"00081155": {"vr": "UI", "Value": ["1.2.77"]}}]
    octets = {"accept": "application/octet-stream"}
    assert http.get(found["00291001"]["BulkDataURI"], headers=octets).content == LONG
    part = http.get(found["00291001"]["BulkDataURI"], headers={**octets, "range": "bytes=-3"})
    assert (part.status_code, part.content) == (206, LONG[-3:])
    assert parts(http.get(found["7FE00010"]["BulkDataURI"])) == FRAMES
    native = http.get(f"{served.instance(CT)}/bulkdata/7FE00010", headers=octets)
    assert native.content == bytes(range(48)) * 2
    assert len(http.get(f"{QIDO}/{STUDY}/metadata").json()) == 3


def test_metadata_says_what_pydicom_reads(http, served):
    """The JSON of a header leads back to the data set that pydicom reads of the file."""
    (found,) = http.get(f"{served.instance(OTHER)}/metadata").json()
    found = {tag: one for tag, one in found.items() if tag not in ("7FE00010", "00083002")}
    expected = pydicom.dcmread(served.folder / "other.dcm", stop_before_pixels=True)
    assert json.loads(expected.to_json()) == found


def test_a_rendered_frame_is_a_picture(http, served):
    """PNG and JPEG of the frame's size, or fitted into the viewport."""
    from PIL import Image

    for media_type, kind in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
        url = f"{served.instance(CT)}/frames/2/rendered"
        response = http.get(url, headers={"accept": media_type})
        picture = Image.open(io.BytesIO(response.content))
        assert (picture.format, picture.size) == (kind, (6, 4))
    small = http.get(f"{served.instance(CT)}/rendered?viewport=3,3")
    assert Image.open(io.BytesIO(small.content)).size == (3, 2)
    assert http.get(f"{QIDO}/{STUDY}/series/1.2.3.2/thumbnail").status_code == 200


def test_dicomweb_client_reads_every_endpoint(served):
    """dicomweb-client's bytes are those of `archive.frame`."""
    api = pytest.importorskip("dicomweb_client.api")
    client = api.DICOMwebClient(url=served.url + "/dicom-web")
    assert len(client.search_for_studies(limit=1)) == 1
    assert len(client.search_for_studies(search_filters={"PatientName": "Smith*"})) == 1
    assert len(client.search_for_series(STUDY)) == 2
    assert len(client.search_for_instances(STUDY, fields=["FrameTime"])) == 3
    place = (STUDY, SERIES, CINE)
    with mmindex.open(served.folder) as archive:
        expected = [archive.frame(CINE, index) for index in (0, 4, 8)]
    for media_types in (
        None,
        ("image/jpeg",),
        (("image/jpeg", "1.2.840.10008.1.2.4.50"),),
        (("application/octet-stream", "*"),),
    ):
        options = {} if media_types is None else {"media_types": media_types}
        assert client.retrieve_instance_frames(*place, [1, 5, 9], **options) == expected
    assert client.retrieve_instance(*place).SOPInstanceUID == CINE
    assert len(client.retrieve_series(*place[:2])) == 1
    assert len(client.retrieve_study(STUDY)) == 3
    metadata = client.retrieve_instance_metadata(*place)
    assert pydicom.Dataset.from_json(metadata, lambda *_: b"").SOPInstanceUID == CINE
    assert len(client.retrieve_study_metadata(STUDY)) == 3
    assert list(client.retrieve_bulkdata(metadata["00291001"]["BulkDataURI"])) == [LONG]
    picture = client.retrieve_instance_frames_rendered(
        STUDY, "1.2.3.2", CT, [1], media_types=("image/png",)
    )
    assert picture.startswith(b"\x89PNG")


def test_a_build_under_a_running_server_shows(tmp_path):
    """New instances appear, removed and changed ones are 410 or gone, without a restart."""
    from mmindex.serve import application

    write_archive(tmp_path)
    (tmp_path / "ct.dcm").rename(tmp_path.parent / "later.dcm")
    mmindex.build(tmp_path)
    server = Server(application(tmp_path, revalidate_after=0))
    try:
        place = Served(tmp_path, server.url)
        with httpx.Client(base_url=server.url) as client:
            assert client.get(place.instance(CT) + "/frames/1").status_code == 404
            (tmp_path.parent / "later.dcm").rename(tmp_path / "ct.dcm")
            mmindex.build(tmp_path)
            assert client.get(place.instance(CT) + "/frames/1").status_code == 200
            assert len(client.get("/dicom-web/instances").json()) == 4
            os.unlink(tmp_path / "cine.dcm")
            assert client.get(place.instance(CINE) + "/frames/1").status_code == 410
            (tmp_path / "other.dcm").write_bytes((tmp_path / "ct.dcm").read_bytes())
            assert client.get(place.instance(OTHER) + "/frames/1").status_code == 410
            assert client.get(place.instance(OTHER)).status_code == 410
    finally:
        server.stop()


def test_one_file_is_served_without_an_index(served):
    """The path of a DICOM file does; nothing is written beside it."""
    from mmindex.serve import application

    server = Server(application(served.folder / "cine.dcm"))
    try:
        with httpx.Client(base_url=server.url) as client:
            url = served.instance(CINE) + "/frames/2"
            assert client.get(url, headers={"accept": "image/jpeg"}).content == FRAMES[1]
            assert client.get(served.instance(CT) + "/frames/1").status_code == 404
            assert len(client.get("/dicom-web/studies").json()) == 1
    finally:
        server.stop()


@pytest.mark.parametrize("how", ["deleted", "renamed over"])
def test_an_index_that_was_replaced_shows(tmp_path, how):
    """Another index file at the same path is read without a restart, be it lists or frames."""
    from mmindex.serve import application

    root = tmp_path / "archive"
    root.mkdir()
    write_archive(root)
    (root / "ct.dcm").rename(tmp_path / "ct.dcm")
    mmindex.build(root)
    server = Server(application(root, revalidate_after=0))
    try:
        place = Served(root, server.url)
        with httpx.Client(base_url=server.url) as client:
            assert client.get(place.instance(CINE) + "/frames/1").status_code == 200
            assert len(client.get("/dicom-web/instances").json()) == 3
            (tmp_path / "ct.dcm").rename(root / "ct.dcm")
            if how == "deleted":
                (root / ".mmindex").unlink()
                assert client.get(place.instance(CINE) + "/frames/1").status_code == 410
                assert run_child("build", root).returncode == 0
            else:
                assert run_child("build", root, "--index", tmp_path / "new").returncode == 0
                os.replace(tmp_path / "new", root / ".mmindex")
            assert client.get(place.instance(CT) + "/frames/1").status_code == 200
            assert client.get(place.instance(CINE) + "/frames/1").status_code == 200
            assert len(client.get("/dicom-web/instances").json()) == 4
    finally:
        server.stop()


def test_a_removed_file_is_seen_when_one_interval_is_over(tmp_path, monkeypatch):
    """What the server and its archive keep does not add up: one interval is the longest."""
    from mmindex.serve.held import Uids
    from mmindex.serve.shelf import Shelf

    write_archive(tmp_path)
    mmindex.build(tmp_path)
    now = 1000.0
    monkeypatch.setattr("mmindex.serve.shelf.monotonic", lambda: now)
    shelf = Shelf(tmp_path, revalidate_after=1.0)
    shelf.open(Uids(STUDY, SERIES, CINE))
    os.unlink(tmp_path / "cine.dcm")
    now += 0.5
    assert shelf.held(Uids(STUDY, SERIES, CINE)) is not None
    now += 0.6
    assert shelf.held(Uids(STUDY, SERIES, CINE)) is None
    with pytest.raises((mmindex.errors.StaleIndexError, mmindex.errors.MissingFileError)):
        shelf.open(Uids(STUDY, SERIES, CINE))


def test_a_frame_off_a_cold_disk_is_left_to_a_thread(tmp_path, monkeypatch):
    """Where bytes are not in memory the event loop does not wait; the neighbours are read ahead."""
    from mmindex.serve import held as held_module
    from mmindex.serve.held import Uids
    from mmindex.serve.shelf import Shelf

    if held_module._AT_ONCE is None:
        pytest.skip("this system cannot read without waiting")
    write_archive(tmp_path)
    mmindex.build(tmp_path)
    held = Shelf(tmp_path).open(Uids(STUDY, SERIES, CINE))
    assert held.read_at_once(3) == FRAMES[3]

    def not_in_memory(descriptor, buffers, offset, flags):
        assert flags & os.RWF_NOWAIT
        raise BlockingIOError(errno.EAGAIN, "not in memory")

    ahead = []
    monkeypatch.setattr(os, "preadv", not_in_memory)
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: ahead.append(arguments[1:]))
    assert held.read_at_once(3) is None
    assert held.read(3) == FRAMES[3]
    stored = (tmp_path / "cine.dcm").read_bytes()
    end = stored.index(FRAMES[3]) + len(FRAMES[3])
    assert ahead == [(end, 2 << 20, os.POSIX_FADV_WILLNEED)]
    server = Server(application_of(tmp_path))
    try:
        place = Served(tmp_path, server.url).instance(CINE)
        response = httpx.get(server.url + place + "/frames/5", headers={"accept": "image/jpeg"})
        assert response.content == FRAMES[4]
    finally:
        server.stop()


def application_of(folder):
    from mmindex.serve import application

    return application(folder)
