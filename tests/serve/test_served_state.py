"""What is sent is the file as it is now, under an ETag of its own and in no other encoding."""

from __future__ import annotations

import os
import time
from contextlib import closing
from pathlib import Path

import pytest
from cli_runner import run_child
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)
from new_store import create_store
from serve.asgi_client import ask

import mmindex
from mmindex.index.record import pack_record
from mmindex.model import Fingerprint
from mmindex.serve import application

UID, STUDY, SERIES = "1.2.3.9", "1.2", "1.2.1"
BASE = "/dicom-web"
PLACE = f"{BASE}/studies/{STUDY}/series/{SERIES}/instances/"
OCTETS = "application/octet-stream"
BIG = f"{OCTETS}; transfer-syntax={EXPLICIT_VR_BIG_ENDIAN}"


def identity(uid: str = UID, order: str = "<") -> bytes:
    pairs = ((0x00080016, "1.2.840.10008.5.1.4.1.1.7"), (0x00080018, uid))
    pairs += ((0x0020000D, STUDY), (0x0020000E, SERIES))
    return b"".join(element(tag, "UI", value, order=order) for tag, value in pairs)


def image(fill: int, uid: str = UID, frames: int = 1) -> bytes:
    data = identity(uid) + image_attributes(rows=2, columns=2, number_of_frames=frames)
    return data + element(PIXEL_DATA, "OB", bytes([fill]) * 4 * frames)


def replace(path: Path, data: bytes) -> None:
    """Put another file in a file's place, at once."""
    path.with_suffix(".new").write_bytes(data)
    os.replace(path.with_suffix(".new"), path)


def test_a_file_of_a_mirror_that_is_replaced_is_sent_anew(tmp_path: Path) -> None:
    """In a mirror size and UID decide: a record has no time of its file, the ETag must have it."""
    path = tmp_path / "mirror" / "x.dcm"
    path.parent.mkdir()
    path.write_bytes(dicom_file(image(1)))
    with mmindex.open_file(path) as instance:
        remote = Fingerprint(path.stat().st_size, 10**18, 77, 2)
        record = instance.record._replace(path=b"x.dcm", fingerprint=remote)
    with closing(create_store(tmp_path / "x.mmindex", b"http://127.0.0.1:9/a")) as store:
        store.replace([pack_record(record)])
    app = application(tmp_path / "x.mmindex", archive_root=path.parent, revalidate_after=0)
    paths = ("/frames/1", "/bulkdata/7FE00010", "/rendered", "/metadata", "")
    before = [ask(app, PLACE + UID + one, accept="*/*") for one in paths]
    assert [one.text for one in before if one.status_code != 200] == []
    replace(path, dicom_file(image(9)))
    for one, old in zip(paths, before, strict=True):
        known = old.headers["etag"]
        found = ask(app, PLACE + UID + one, accept="*/*", if_none_match=known)
        assert found.status_code == 200, one
        assert found.headers["etag"] != known
    octets = ask(app, f"{PLACE}{UID}/frames/1", accept=OCTETS)
    assert octets.content == b"\t\t\t\t"


def test_a_new_index_with_the_same_ids_is_listed(tmp_path: Path) -> None:
    """Ids of files count from 0 in every index: those of another one are other files."""
    path = tmp_path / "x.dcm"
    path.write_bytes(dicom_file(image(1, "1.9.1", 2)))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path, revalidate_after=0)

    def look() -> list[tuple[str, int]]:
        found = ask(app, f"{BASE}/studies/{STUDY}/instances").json()
        return [(one["00080018"]["Value"][0], one["00280008"]["Value"][0]) for one in found]

    assert look() == [("1.9.1", 2)]
    for one in tmp_path.glob(".mmindex*"):
        one.unlink()
    path.write_bytes(dicom_file(image(2, "1.9.2", 3)))
    assert run_child("build", tmp_path).returncode == 0
    assert look() == [("1.9.2", 3)]
    (metadata,) = ask(app, f"{BASE}/studies/{STUDY}/metadata").json()
    assert metadata["00080018"]["Value"] == ["1.9.2"]


@pytest.mark.parametrize(("bits", "pixels"), [(16, b"\0\1\0\2\0\3\0\4"), (8, b"\2\1\4\3")])
@pytest.mark.parametrize("path", ["/frames/1", "/bulkdata/7FE00010"])
def test_big_endian_goes_out_under_its_own_name_only(
    tmp_path: Path, path: str, bits: int, pixels: bytes
) -> None:
    """A bare application/octet-stream means Little Endian (PS3.18 8.7.3.3.2)."""
    data = identity(order=">") + image_attributes(rows=2, columns=2, bits=bits, order=">")
    data += element(PIXEL_DATA, "OW", pixels, order=">")
    (tmp_path / "x.dcm").write_bytes(dicom_file(data, EXPLICIT_VR_BIG_ENDIAN))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    if path == "/frames/1":  # bulk data become Little Endian: test_big_endian.py
        for accept in (OCTETS, f'multipart/related; type="{OCTETS}"'):
            assert ask(app, PLACE + UID + path, accept=accept).status_code == 406
    for accept in (f"{OCTETS}; transfer-syntax=*", BIG):
        found = ask(app, PLACE + UID + path, accept=accept)
        assert (found.status_code, found.content) == (200, pixels)
        assert found.headers["content-type"] == BIG
    many = ask(
        app, PLACE + UID + path, accept=f'multipart/related; type="{OCTETS}"; transfer-syntax=*'
    )
    assert many.headers["content-type"].startswith(f'multipart/related; type="{OCTETS}"; boundary')
    assert f"Content-Type: {BIG}\r\n\r\n".encode() + pixels in many.content


def test_R10_a_codestream_goes_out_as_no_native_samples(tmp_path: Path) -> None:
    """The file says that its JPEG frames are native: only who asks for any syntax gets them."""
    frames = [b"\xff\xd8ab\xff\xd9", b"\xff\xd8cd\xff\xd9"]
    data = identity() + image_attributes(rows=2, columns=2, number_of_frames=2)
    data += encapsulate(frames)
    (tmp_path / "x.dcm").write_bytes(dicom_file(data, EXPLICIT_VR_LITTLE_ENDIAN))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    little = f"{OCTETS}; transfer-syntax={EXPLICIT_VR_LITTLE_ENDIAN}"
    for accept in (OCTETS, little, "*/*", "image/*"):
        assert ask(app, f"{PLACE}{UID}/frames/1", accept=accept).status_code == 406
        if accept != "image/*":
            assert ask(app, f"{PLACE}{UID}/bulkdata/7FE00010", accept=accept).status_code == 406
    found = ask(app, f"{PLACE}{UID}/frames/2", accept=f"{OCTETS}; transfer-syntax=*")
    assert (found.content, found.headers["content-type"]) == (frames[1], OCTETS)


@pytest.mark.parametrize("tail", ["/bulkdata/7FE00010?", "?", "#", "/../1.2.3.9", "%2F"])
def test_a_uid_of_any_text_leads_to_no_other_instance(tmp_path: Path, tail: str) -> None:
    """Links of metadata and of lists are of the instance itself, or lead nowhere."""
    (tmp_path / "a.dcm").write_bytes(dicom_file(image(1)))
    (tmp_path / "b.dcm").write_bytes(dicom_file(image(9, UID + tail)))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    links = {
        one["00080018"]["Value"][0]: one["7FE00010"]["BulkDataURI"]
        for one in ask(app, f"{BASE}/studies/{STUDY}/metadata").json()
    }
    for uid, link in links.items():
        path = link.removeprefix("http://127.0.0.1")
        found = ask(app, path, accept=OCTETS)
        assert (uid == UID) == (found.content == b"\1\1\1\1"), link
    listed = ask(app, f"{BASE}/instances").json()
    found = {one["00080018"]["Value"][0]: one["00081190"]["Value"][0] for one in listed}
    assert found == {uid: link.removesuffix("/bulkdata/7FE00010") for uid, link in links.items()}


def test_multipart_messages_have_weak_etags(tmp_path: Path) -> None:
    """Their boundary is of a process: other bytes. The bare form of a thing has another ETag."""
    data = identity() + image_attributes(rows=2, columns=2, number_of_frames=2)
    data += encapsulate([b"\xff\xd8ab\xff\xd9", b"\xff\xd8cd\xff\xd9"])
    (tmp_path / "x.dcm").write_bytes(dicom_file(data, JPEG_BASELINE))
    (tmp_path / "y.dcm").write_bytes(dicom_file(image(3, "1.2.3.8")))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    both = (OCTETS, f'multipart/related; type="{OCTETS}"')
    for path, accepts in (
        (f"{UID}/frames/1", ("image/jpeg", "*/*")),
        (UID, ("application/dicom", "*/*")),
        ("1.2.3.8/frames/1", both),
        ("1.2.3.8/bulkdata/7FE00010", both),
        ("1.2.3.8/rendered", ("image/png", 'multipart/related; type="image/png"')),
    ):
        bare, many = (ask(app, PLACE + path, accept=one).headers["etag"] for one in accepts)
        assert not bare.startswith("W/")
        assert many.startswith("W/")
        assert bare != many.removeprefix("W/")
        for accept, etag, status in (
            *((accepts[0], bare, 304), (accepts[1], many, 304), (accepts[1], many[2:], 304)),
            *((accepts[0], many, 200), (accepts[1], bare, 200)),
        ):
            found = ask(app, PLACE + path, accept=accept, if_none_match=etag)
            assert found.status_code == status, (path, accept, etag)
    part = {"accept": both[1], "range": "bytes=0-1"}
    weak = ask(app, f"{PLACE}1.2.3.8/bulkdata/7FE00010", **part).headers["etag"]
    whole = ask(app, f"{PLACE}1.2.3.8/bulkdata/7FE00010", if_range=weak, **part)
    assert whole.status_code == 200  # If-Range compares strongly (RFC 9110 13.1.5)


@pytest.mark.parametrize("numbers", ["1", "2", "1,2"])
def test_every_form_of_frames_has_an_etag_of_its_own(tmp_path: Path, numbers: str) -> None:
    """Parts of the image type and octets in parts, and both without parts: four things, four tags.

    A tag of one form never gets 304 for another, weak comparison or not.
    """
    data = identity() + image_attributes(rows=2, columns=2, number_of_frames=2)
    data += encapsulate([b"\xff\xd8ab\xff\xd9", b"\xff\xd8cd\xff\xd9"])
    (tmp_path / "x.dcm").write_bytes(dicom_file(data, JPEG_BASELINE))
    mmindex.build(tmp_path, workers=1)
    app, path = application(tmp_path), f"{PLACE}{UID}/frames/{numbers}"
    accepts = ['multipart/related; type="image/jpeg"']
    accepts.append(f'multipart/related; type="{OCTETS}"; transfer-syntax=*')
    if numbers != "1,2":
        accepts += ["image/jpeg", f"{OCTETS}; transfer-syntax=*"]
    tags = [ask(app, path, accept=one).headers["etag"] for one in accepts]
    for accept, own in zip(accepts, tags, strict=True):
        for tag in tags:
            status = 304 if tag == own else 200
            for given in (tag, tag.removeprefix("W/")):
                found = ask(app, path, accept=accept, if_none_match=given)
                assert found.status_code == status, (accept, given)
    assert len({tag.removeprefix("W/") for tag in tags}) == len(tags)


@pytest.mark.parametrize(
    ("syntax", "accept"),
    [
        (JPEG_BASELINE, "image/jpeg"),
        (JPEG_BASELINE, f"{OCTETS}; transfer-syntax=*"),
        (EXPLICIT_VR_LITTLE_ENDIAN, OCTETS),
    ],
)
@pytest.mark.parametrize("numbers", ["1,2", "2,1", "1,1"])
def test_frames_that_no_single_part_has_room_for_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, accept: str, numbers: str
) -> None:
    """Several frames are 406 for a client that takes one part, whatever it has: no byte is read."""
    data = identity() + image_attributes(rows=2, columns=2, number_of_frames=2)
    frames = [b"\xff\xd8ab\xff\xd9", b"\xff\xd8cd\xff\xd9"]
    native = element(PIXEL_DATA, "OB", b"abcdefgh")
    data += native if syntax == EXPLICIT_VR_LITTLE_ENDIAN else encapsulate(frames)
    (tmp_path / "x.dcm").write_bytes(dicom_file(data, syntax))
    mmindex.build(tmp_path, workers=1)
    app, place = application(tmp_path), f"{PLACE}{UID}/frames/"
    assert ask(app, f"{place}1", accept=accept).status_code == 200
    read: list[int] = []
    for name in ("read", "read_at_once"):
        monkeypatch.setattr(f"mmindex.serve.held.Held.{name}", lambda _, index: read.append(index))
    for condition in ({}, {"if_none_match": "*"}):
        found = ask(app, f"{place}{numbers}", accept=accept, **condition)
        assert (found.status_code, "etag" in found.headers) == (406, False)
        assert "multipart/related" in found.text
    assert read == []


def test_no_two_forms_of_encapsulated_bulk_data_share_an_etag(tmp_path: Path) -> None:
    """A message that is never 304 has no ETag: one of image parts is not one of octets in parts."""
    data = identity() + image_attributes(rows=2, columns=2) + encapsulate([b"\xff\xd8ab\xff\xd9"])
    (tmp_path / "x.dcm").write_bytes(dicom_file(data, JPEG_BASELINE))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    for accept in ("*/*", "image/jpeg", f'multipart/related; type="{OCTETS}"; transfer-syntax=*'):
        found = ask(app, f"{PLACE}{UID}/bulkdata/7FE00010", accept=accept)
        assert (found.status_code, "etag" in found.headers) == (200, False)


def test_two_readings_of_a_file_have_two_etags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of mmindex may find other frames in the same file."""
    (tmp_path / "x.dcm").write_bytes(dicom_file(image(1)))
    mmindex.build(tmp_path, workers=1)
    found = [ask(application(tmp_path), f"{PLACE}{UID}/frames/1").headers["etag"]]
    monkeypatch.setattr("mmindex.serve.held.__version__", "99")
    found.append(ask(application(tmp_path), f"{PLACE}{UID}/frames/1").headers["etag"])
    assert found[0] != found[1]


def test_a_frame_in_memory_is_looked_at_after_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each read is to be looked at, one of a file that is being rewritten is 410."""
    path = tmp_path / "x.dcm"
    path.write_bytes(dicom_file(image(1)))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path, revalidate_after=0)
    assert ask(app, f"{PLACE}{UID}/frames/1", accept=OCTETS).content == b"\1" * 4
    real = os.preadv

    def overtaken(descriptor: int, buffers: list, *place: int) -> int:
        monkeypatch.setattr(os, "preadv", real)
        path.write_bytes(dicom_file(image(9)))
        os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
        return real(descriptor, buffers, *place)

    if not hasattr(os, "preadv"):
        pytest.skip("no preadv: frames are read as the library reads them")
    monkeypatch.setattr(os, "preadv", overtaken)
    assert ask(app, f"{PLACE}{UID}/frames/1", accept=OCTETS).status_code == 410
