"""Headers and status codes of single answers, held against the standard."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import os

import pytest
from dicom_bytes import dicom_file, element, encapsulate, image_attributes
from serve.asgi_client import ask
from served_archive import CINE, CT, FRAMES, OTHER, SERIES, STUDY, Served, header, write_archive

import mmindex
from mmindex.errors import MMIndexError
from mmindex.serve import Limits, application
from mmindex.serve.errors import RequestError
from mmindex.serve.shelf import Shelf
from mmindex.serve.streams import Stream

FILES = "multipart/related; type=application/dicom"
OCTETS = {"accept": "application/octet-stream; transfer-syntax=*"}


@pytest.fixture(scope="module")
def app(served: Served):
    return application(served.folder)


def place_of(uid: str) -> str:
    return Served(None, "").instance(uid)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("PatientName=Smith*&fuzzymatching=true", ["fuzzymatching parameter is not supported"]),
        ("Nonsense=1", ["unknown parameters"]),
        ("Nonsense=1&fuzzymatching=true", ["fuzzymatching", "unknown parameters"]),
        ("fuzzymatching=false", []),
        ("PatientName=Smith*", []),
    ],
)
def test_literal_matching_is_said_where_fuzzy_was_asked_for(app, query, words):
    """Warning 299 (PS3.18 8.3.4.2), and one for parameters that name nothing."""
    warning = ask(app, f"/dicom-web/studies?{query}").headers.get("warning", "")
    assert all(one in warning for one in words)
    assert warning.count("299") == len(words)


def test_an_index_without_room_for_another_reader_is_503(app, monkeypatch):
    """As with 1,000 programs that have it open: the fault is none of the request's, and passes."""

    def refuse(*arguments, **options):
        raise MMIndexError("1000 programs read the index: try again", path="/secret/.mmindex")

    monkeypatch.setattr(Shelf, "open", refuse)
    monkeypatch.setattr(Shelf, "held", lambda self, uids: None)
    for path in ("", "/frames/1", "/metadata", "/rendered"):
        answer = ask(app, place_of(CT) + path)
        assert answer.status_code == 503, path
        assert "secret" not in answer.text


@pytest.mark.parametrize("quality", ["0001" + "0" * 4400, "00019999", "0001", "101", "", "1e1"])
@pytest.mark.parametrize("uid", [CT, OTHER])
def test_a_quality_that_is_none_is_400(app, uid, quality):
    """One to three digits, 1 to 100, however the number is spelled."""
    assert ask(app, f"{place_of(uid)}/rendered?quality={quality}").status_code == 400
    assert ask(app, f"{place_of(uid)}/rendered?quality=001").status_code == 200


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (errno.EACCES, 503),
        (errno.EIO, 503),
        (errno.EMFILE, 503),
        (errno.ELOOP, 410),
        (errno.ENOENT, 410),
    ],
)
def test_a_file_that_the_system_does_not_open(tmp_path, monkeypatch, number, status):
    """503 without a path, 410 where nothing is there; a study has the rest."""
    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path, revalidate_after=0)
    real = os.open

    def refuse(path, *arguments, **options):
        if os.fspath(path).endswith("ct.dcm"):
            raise OSError(number, os.strerror(number), path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    for path in ("", "/frames/1", "/metadata", "/rendered", "/thumbnail", "/bulkdata/7FE00010"):
        answer = ask(app, place_of(CT) + path)
        assert answer.status_code == status
        assert str(tmp_path) not in answer.text
        assert "ct.dcm" not in answer.text
    assert ask(app, f"/dicom-web/studies/{STUDY}", accept=FILES).status_code == 206
    assert ask(app, f"/dicom-web/studies/{STUDY}/metadata").status_code == 206
    assert ask(app, "/dicom-web/instances?includefield=PatientName").status_code == 200


def test_a_symbolic_link_to_itself_is_410(tmp_path):
    """A loop of links leads to nothing."""
    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "other.dcm").unlink()
    (tmp_path / "other.dcm").symlink_to("other.dcm")
    app = application(tmp_path)
    for path in ("", "/frames/1", "/metadata"):
        assert ask(app, place_of(OTHER) + path).status_code == 410


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")  # of pydicom
@pytest.mark.parametrize(
    "syntax", ["1.2\r\nSet-Cookie: a=b", "1.2\nX: y", "1.2\rX: y", '1.2"; x="', "1.2 3"]
)
def test_a_transfer_syntax_that_is_no_uid_gets_into_no_header(tmp_path, syntax):
    """Line ends in a file's transfer syntax end no line of an answer."""
    uid, series = "1.2.9.71", "1.2.3.71"
    data = header(uid, STUDY, series, "OT", b"Bad^A ", "20200102")
    data += image_attributes(rows=2, columns=2) + encapsulate([b"abcd"])
    (tmp_path / "bad.dcm").write_bytes(dicom_file(data, syntax))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    place = f"/dicom-web/studies/{STUDY}/series/{series}/instances/{uid}"
    for path, accept in (
        ("/frames/1", OCTETS["accept"]),
        ("/frames/1", f"multipart/related; type={OCTETS['accept']}"),
        ("/frames/1,1", "*/*"),
        ("/bulkdata/7FE00010", "*/*"),
        ("", FILES),
        ("", "application/dicom"),
        ("/metadata", "*/*"),
    ):
        answer = ask(app, place + path, accept=accept)
        assert answer.status_code < 500
        assert not any("\r" in one or "\n" in one for one in answer.headers.values())
        assert "set-cookie" not in answer.headers
        if answer.content.startswith(b"--mmindex-"):
            head = answer.content.partition(b"\r\n\r\n")[0]
            assert b"Set-Cookie" not in head
            assert b"\nX:" not in head


@pytest.mark.parametrize(
    ("path", "status"),
    [("/frames/1", 200), ("/frames/1,2", 200), ("/frames/99", 404), ("/frames/1", 304)],
)
def test_frames_are_hardened_as_all_is(app, path, status):
    """Frames and their errors have the headers against sniffing and framing."""
    tag = ask(app, place_of(CINE) + path, accept="image/jpeg").headers.get("etag", '"x"')
    known = {"if_none_match": tag} if status == 304 else {}
    accept = "*/*" if "," in path else "image/jpeg"
    answer = ask(app, place_of(CINE) + path, accept=accept, **known)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert len(answer.headers.get_list("content-security-policy")) == 1


def test_pictures_of_other_frames_have_other_etags(tmp_path):
    """However long the list of numbers is, an ETag is that of its frames and their rendering."""
    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    place = place_of(CT)
    wanted = ["1", "2", "1,2", "2,1", "1" + ",2" * 80, "2" + ",2" * 80]
    paths = [f"{place}/frames/{numbers}/rendered" for numbers in wanted]
    paths += [f"{place}/frames/1/rendered?{query}" for query in ("window=1,2", "quality=9")]
    tags = [ask(app, path, accept="image/png, multipart/related").headers["etag"] for path in paths]
    tags.append(ask(app, paths[0], accept="image/jpeg").headers["etag"])
    tags.append(ask(app, paths[0], accept="multipart/related; type=image/png").headers["etag"])
    assert len(set(tags)) == len(tags)


def test_compressed_and_plain_metadata_have_their_own_etags(app):
    """A strong ETag names one sequence of bytes (RFC 9110 8.8.1); each is known again."""
    path = place_of(CINE) + "/metadata"
    plain = ask(app, path, accept_encoding="identity")
    packed = ask(app, path, accept_encoding="br, gzip;q=0.5")
    refused = ask(app, path, accept_encoding="gzip;q=0")
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in refused.headers
    assert plain.content == packed.content == refused.content
    assert plain.headers["etag"] == refused.headers["etag"] != packed.headers["etag"]
    for answer, encoding in ((plain, "identity"), (packed, "gzip")):
        known = {"if_none_match": answer.headers["etag"], "accept_encoding": encoding}
        assert ask(app, path, **known).status_code == 304


@pytest.mark.parametrize("accept", ["image/jpeg", "*/*", OCTETS["accept"]])
def test_frames_are_never_compressed_again(tmp_path, accept):
    """Whatever a client takes, the bytes of a frame are those in the file."""
    frame = b"\xff\xd8" + b"\0" * 5000 + b"\xff\xd9"
    data = header(CINE, STUDY, SERIES, "US", b"A^B ", "20200102")
    data += image_attributes() + encapsulate([frame])
    (tmp_path / "a.dcm").write_bytes(dicom_file(data, "1.2.840.10008.1.2.4.50"))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    for path in ("/frames/1", "/frames/1,1", "/bulkdata/7FE00010", ""):
        answer = ask(app, place_of(CINE) + path, accept_encoding="gzip", accept="*/*")
        assert "content-encoding" not in answer.headers
        assert frame in answer.content
    answer = ask(app, place_of(CINE) + "/frames/1", accept=accept, accept_encoding="gzip")
    assert "content-encoding" not in answer.headers


def test_bulk_data_that_cannot_be_read_is_no_200(tmp_path):
    """The beginning is read before the status is sent: a cut file is an error at once."""
    data = header(CT, STUDY, "1.2.3.2", "OT", b"Cut^A ", "20200102")
    data += image_attributes(rows=64, columns=64, number_of_frames=2)
    file = dicom_file(data + element(0x7FE00010, "OW", bytes(8192)))
    (tmp_path / "c.dcm").write_bytes(file[:-100])
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    answer = ask(app, place_of(CT) + "/bulkdata/7FE00010", **OCTETS)
    assert answer.status_code in (404, 410)
    assert ask(app, place_of(CT) + "/frames/1", **OCTETS).content == bytes(4096)


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 0), (0, 47), (1, 46), (47, 48), (47, 95), (0, 95), (10, 90), (48, 95), (95, 95)],
)
def test_any_range_of_native_bulk_data(app, start, end):
    """Ranges within a frame, across frames and of whole frames are bytes of the file."""
    headers = {**OCTETS, "range": f"bytes={start}-{end}"}
    answer = ask(app, place_of(CT) + "/bulkdata/7FE00010", **headers)
    assert answer.status_code == 206
    assert answer.content == (bytes(range(48)) * 2)[start : end + 1]


def test_a_long_frame_is_read_once_for_its_bulk_data(tmp_path, monkeypatch):
    """A frame of many chunks costs its own length, not that times the chunks."""
    from mmindex.sources.file import FileSource

    data = header(CT, STUDY, "1.2.3.2", "CR", b"Big^A ", "20200102")
    data += image_attributes(rows=1000, columns=2000, number_of_frames=2)
    pixels = os.urandom(4_000_000)
    (tmp_path / "big.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", pixels)))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    read, real = [], FileSource.read

    def count(source, offset, length):
        read.append(length)
        return real(source, offset, length)

    monkeypatch.setattr(FileSource, "read", count)
    answer = ask(app, place_of(CT) + "/bulkdata/7FE00010", **OCTETS)
    assert answer.content == pixels
    assert sum(read) < 1.1 * len(pixels)
    assert max(read) <= 1 << 18


@pytest.mark.parametrize("fragments", [1, 3, 40])
def test_a_video_is_sent_whole_and_by_range(tmp_path, fragments):
    """Bulk data and the rendered stream are the joined fragments, and read by range."""
    stream = b"\0\0\0\x18ftypmp42" + os.urandom(20_000)
    size = -(-len(stream) // fragments) // 2 * 2 + 2
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    data = header(CINE, STUDY, SERIES, "ES", b"A^B ", "20200102")
    data += image_attributes(number_of_frames=50) + encapsulate(pieces)
    (tmp_path / "v.dcm").write_bytes(dicom_file(data, "1.2.840.10008.1.2.4.102"))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path)
    for path, accept, kind in (
        ("/bulkdata/7FE00010", "application/octet-stream; transfer-syntax=*", "octet-stream"),
        ("/rendered", "video/mp4", "video/mp4"),
        ("/rendered", "*/*", "video/mp4"),
    ):
        answer = ask(app, place_of(CINE) + path, accept=accept)
        assert answer.status_code == 200, answer.text
        assert answer.content == stream
        assert kind in answer.headers["content-type"]
        for start, end in ((0, 11), (5, 9), (size - 3, size + 5), (100, 19_000), (20_000, 20_011)):
            headers = {"accept": accept, "range": f"bytes={start}-{end}"}
            part = ask(app, place_of(CINE) + path, **headers)
            assert (part.status_code, part.content) == (206, stream[start : end + 1])
    assert ask(app, place_of(CINE) + "/rendered", accept="image/png").status_code == 406
    assert ask(app, place_of(CINE) + "/frames/1").status_code == 406
    assert ask(app, place_of(CINE) + "/thumbnail").status_code == 406


def test_many_pictures_are_sent_as_they_are_drawn(tmp_path):
    """The parts are the single pictures, in the order asked; too many are refused."""
    from PIL import Image

    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path, limits=Limits(rendered_frames=3))
    accept = "multipart/related; type=image/png"
    one, two = (
        ask(app, f"{place_of(CT)}/frames/{number}/rendered", accept="image/png").content
        for number in (1, 2)
    )
    answer = ask(app, place_of(CT) + "/frames/2,1,2/rendered", accept=accept)
    bodies = answer.content.split(b"Content-Type: image/png\r\n\r\n")[1:]
    assert [body.partition(b"\r\n--mmindex-")[0] for body in bodies] == [two, one, two]
    assert Image.open(io.BytesIO(one)).size == (6, 4)
    assert ask(app, place_of(CT) + "/frames/1,1,1,1/rendered", accept=accept).status_code == 400


def test_too_many_bytes_in_one_answer_are_refused(tmp_path):
    """Frames of one answer are held in memory up to a bound; all answers together, too."""
    pixels = os.urandom(4 << 20)
    data = header(CT, STUDY, "1.2.3.2", "CR", b"Big^A ", "20200102")
    data += image_attributes(rows=1024, columns=1024, number_of_frames=4)
    (tmp_path / "big.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", pixels)))
    mmindex.build(tmp_path, workers=1)
    app = application(tmp_path, limits=Limits(response_bytes=3 << 20))
    assert ask(app, place_of(CT) + "/frames/1,2,3").status_code == 200
    refused = ask(app, place_of(CT) + "/frames/1,2,3,4")
    assert (refused.status_code, "ask for fewer" in refused.text) == (400, True)
    assert ask(app, place_of(CT) + "/frames/1", **OCTETS).content == pixels[: 1 << 20]
    assert Limits().response_bytes == 256 << 20


def test_gzip_module_reads_what_is_compressed(app):
    """The bytes on the wire are gzip."""
    import asyncio

    import httpx

    async def go() -> bytes:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            headers = {"accept-encoding": "gzip"}
            async with client.stream(
                "GET", place_of(CINE) + "/metadata", headers=headers
            ) as answer:
                return b"".join([chunk async for chunk in answer.aiter_raw()])

    assert b"00291001" in gzip.decompress(asyncio.run(go()))


def test_unknown_uids_are_not_remembered(tmp_path):
    """A client that invents studies makes nothing grow."""
    write_archive(tmp_path)
    mmindex.build(tmp_path, workers=1)
    from mmindex.serve.catalogue import Catalogue
    from mmindex.serve.shelf import Shelf

    catalogue = Catalogue(Shelf(tmp_path))
    for number in range(500):
        assert catalogue.study(f"2.25.{number}") is None
        assert catalogue.rows(f"2.25.{number}") == {}
    assert len(catalogue.rows(STUDY)) == 2
    assert len(catalogue._rows._values) == 1


def test_values_without_pieces_are_bounded_too():
    """Each value counts as one piece at least."""
    from mmindex.serve.recent import Recent

    recent: Recent[int] = Recent(10)
    for number in range(1000):
        recent.keep(str(number), number, 0)
    assert len(recent._values) == 10


def test_headers_of_a_file_that_changes_take_the_place_of_the_old(tmp_path):
    """A file that is rewritten again and again is kept once."""
    from mmindex.serve.headers import HeaderCache
    from mmindex.serve.held import Uids
    from mmindex.serve.shelf import Shelf

    write_archive(tmp_path)
    cache, uids = HeaderCache(), Uids(STUDY, SERIES, CINE)
    for number in range(5):
        os.utime(tmp_path / "cine.dcm", (1000 + number, 1000 + number))
        mmindex.build(tmp_path, workers=1)
        held = Shelf(tmp_path).open(uids)
        assert CINE.encode() in cache.text(held)
        assert cache.summary(held) is cache.summary(held)
    assert len(cache._texts._values) == len(cache._summaries._values) == 1


def test_frames_of_the_archive_are_those_written(app):
    """The frame route under all of these headers still sends the frames."""
    for number, frame in enumerate(FRAMES, 1):
        answer = ask(app, f"{place_of(CINE)}/frames/{number}", accept="image/jpeg")
        assert answer.content == frame


@pytest.mark.parametrize(
    "error",
    [
        RequestError(503, "the client is gone"),
        ValueError("the index is closed"),
        MMIndexError("damaged"),
        OSError(errno.EIO, "Input/output error"),
    ],
)
def test_what_ends_an_answer_on_its_way_is_no_fault_of_the_server(error):
    """The message stays without its end, whatever the reason is that has a status before."""

    def walk():
        yield b"first"
        raise error

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Stream(walk()).stream_response(send))
    assert [message.get("body") for message in sent] == [None, b"first"]
    assert sent[-1]["more_body"]


def test_a_fault_of_the_server_on_its_way_is_reported():
    """Such as a programming error."""

    def walk():
        yield b"first"
        raise ZeroDivisionError

    async def send(message):
        pass

    with pytest.raises(ZeroDivisionError):
        asyncio.run(Stream(walk()).stream_response(send))
