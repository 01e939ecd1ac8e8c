"""Archives, indexes and files at URLs over DICOMweb; a web server on loopback has them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from remote_archive import index_objects
from serve.asgi_client import ask
from served_archive import (
    CINE,
    CT,
    FRAMES,
    LONG,
    OTHER,
    SR,
    Process,
    Served,
    write_archive,
)

pytest.importorskip("obstore")
from sources.range_server import RangeServer

import mmindex
from mmindex.serve import application

NAMES = ("cine.dcm", "ct.dcm", "report.dcm", "other.dcm")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Serve the files of the small archive as objects, with an index below them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = tmp_path / "local"
    local.mkdir()
    write_archive(local)
    with RangeServer() as server:
        for name in NAMES:
            server.objects[f"/files/{name}"] = (local / name).read_bytes()
        index = index_objects(tmp_path / "remote.mmindex", server.url + "/files", NAMES)
        server.objects["/files/.mmindex"] = index.read_bytes()
        yield server


def check_all(app: object, folder: Path) -> None:
    """Compare every kind of answer with the files."""
    served = Served(folder, "")
    octets = {"accept": "application/octet-stream; transfer-syntax=*"}
    assert len(ask(app, "/dicom-web/instances").json()) == 4
    for uid, name in ((CINE, "cine.dcm"), (CT, "ct.dcm"), (SR, "report.dcm"), (OTHER, "other.dcm")):
        place = served.instance(uid)
        whole = ask(app, place, accept="application/dicom")
        assert (whole.status_code, whole.content) == (200, (folder / name).read_bytes())
        (found,) = ask(app, place + "/metadata").json()
        assert found["00080018"]["Value"] == [uid]
    for number in (1, 9):
        answer = ask(app, f"{served.instance(CINE)}/frames/{number}", accept="image/jpeg")
        assert answer.content == FRAMES[number - 1]
    assert ask(app, served.instance(CT) + "/frames/2", **octets).content == bytes(range(48))
    assert ask(app, served.instance(CT) + "/bulkdata/7FE00010", **octets).content == (
        bytes(range(48)) * 2
    )
    part = ask(app, served.instance(CT) + "/bulkdata/7FE00010", range="bytes=40-60", **octets)
    assert (part.status_code, part.content) == (206, (bytes(range(48)) * 2)[40:61])
    assert ask(app, served.instance(CINE) + "/bulkdata/00291001", **octets).content == LONG
    assert ask(app, served.instance(CT) + "/rendered", accept="image/png").content[1:4] == b"PNG"
    study = ask(app, "/dicom-web/studies/1.2.3", accept="multipart/related; type=application/dicom")
    assert (study.status_code, study.content.count(b"DICM")) == (200, 3)


@pytest.mark.parametrize("kind", ["bucket", "index at a URL", "local index", "mirror"])
def test_an_archive_at_a_url_is_served(bucket, tmp_path, kind):
    """Searches, metadata, frames, bulk data, pictures and whole files come from the objects."""
    sources = {
        "bucket": bucket.url + "/files",
        "index at a URL": bucket.url + "/files/.mmindex",
        "local index": tmp_path / "remote.mmindex",
        "mirror": tmp_path / "remote.mmindex",
    }
    root = tmp_path / "local" if kind == "mirror" else None
    check_all(application(sources[kind], archive_root=root), tmp_path / "local")
    archive = mmindex.open(sources[kind], archive_root=root)
    check_all(application(archive), tmp_path / "local")


def test_a_dicom_file_at_a_url_is_served(bucket, tmp_path):
    """An object without an index is scanned where it is, whatever its name ends in."""
    bucket.objects["/one/image"] = bucket.objects["/files/cine.dcm"]
    for path in ("/files/cine.dcm", "/one/image"):
        app = application(bucket.url + path)
        place = Served(tmp_path, "").instance(CINE)
        assert ask(app, place + "/frames/2", accept="image/jpeg").content == FRAMES[1]
        whole = ask(app, place, accept="application/dicom").content
        assert whole == bucket.objects[path]
        assert len(ask(app, "/dicom-web/instances").json()) == 1
        assert ask(app, "/dicom-web/studies/9.9/series").status_code == 404


@pytest.mark.parametrize("path", ["/nothing", "/text", "/nothing.dcm", "/nothing.mmindex"])
def test_a_url_of_nothing_is_refused_at_once(bucket, path):
    """No index and no DICOM file: the error says what was expected there."""
    bucket.objects["/text"] = b"no DICOM file at all" * 20
    with pytest.raises(mmindex.MMIndexError):
        application(bucket.url + path)


def test_an_object_that_changed_or_is_gone_is_410(bucket, tmp_path):
    """As a file that changed; the study is partial; a broken store is 502 and names no host."""
    app = application(tmp_path / "remote.mmindex", revalidate_after=0)
    served = Served(tmp_path, "")
    bucket.objects["/files/ct.dcm"] = bucket.objects["/files/cine.dcm"]
    del bucket.objects["/files/other.dcm"]
    for uid in (CT, OTHER):
        for path in ("", "/frames/1"):
            answer = ask(app, served.instance(uid) + path, accept="*/*")
            assert answer.status_code == 410, answer.text
    study = ask(app, "/dicom-web/studies/1.2.3", accept="multipart/related; type=application/dicom")
    assert (study.status_code, study.content.count(b"DICM")) == (206, 2)
    bucket.faults = lambda path: "status 403"
    answer = ask(app, served.instance(CINE) + "/frames/1")
    assert answer.status_code == 502
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("length", [0, 1, 200, -1])
@pytest.mark.parametrize("is_read_before", [False, True])
def test_an_object_that_shrank_is_410(bucket, tmp_path, length, is_read_before):
    """Wherever the new end is before, in or after what is asked for."""
    app = application(tmp_path / "remote.mmindex", revalidate_after=0)
    place = Served(tmp_path, "").instance(CINE)
    if is_read_before:
        assert ask(app, place + "/frames/1", accept="image/jpeg").content == FRAMES[0]
    bucket.objects["/files/cine.dcm"] = bucket.objects["/files/cine.dcm"][:length]
    for path in ("/frames/1", "/frames/9", "/metadata", ""):
        answer = ask(app, place + path, accept="*/*")
        assert answer.status_code == 410, (path, answer.text)


def test_a_new_index_at_the_url_is_fetched(bucket, tmp_path, monkeypatch):
    """When some time has passed, the index that took the old one's place is read."""
    monkeypatch.setattr("mmindex.serve.current._FETCH_AFTER", 0.0)
    app = application(bucket.url + "/files", revalidate_after=0)
    assert len(ask(app, "/dicom-web/instances").json()) == 4
    index = index_objects(tmp_path / "later.mmindex", bucket.url + "/files", NAMES[:2])
    bucket.objects["/files/.mmindex"] = index.read_bytes()
    assert len(ask(app, "/dicom-web/instances").json()) == 2
    del bucket.objects["/files/.mmindex"]
    assert len(ask(app, "/dicom-web/instances").json()) == 2


def test_a_slow_store_holds_up_nobody_else(bucket, tmp_path):
    """While objects do not come, the event loop answers other requests."""
    app = application(tmp_path / "remote.mmindex")
    served = Served(tmp_path, "")
    go_on = threading.Event()

    def wait(path: str) -> str:
        go_on.wait(20)
        return ""

    async def go() -> tuple[float, list[httpx.Response]]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await client.get("/dicom-web/studies?limit=1")
            bucket.faults = wait
            slow = [
                asyncio.create_task(client.get(served.instance(uid) + path, timeout=60))
                for uid, path in ((CINE, "/frames/1"), (CT, ""), (CT, "/bulkdata/7FE00010"))
            ]
            await asyncio.sleep(0.2)
            began = time.monotonic()
            assert (await client.get("/")).status_code == 200
            took = time.monotonic() - began
            assert not any(one.done() for one in slow)
            go_on.set()
            return took, await asyncio.gather(*slow)

    took, answers = asyncio.run(go())
    assert took < 5
    assert [one.status_code for one in answers] == [200, 200, 200]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_serves_a_url(bucket, tmp_path, workers):
    """`mmindex serve URL`, also with workers, each of which opens the bucket after its fork."""
    server = Process(bucket.url + "/files", tmp_path / "log", "--workers", str(workers))
    try:
        place = server.url + Served(tmp_path, "").instance(CINE)
        for number in range(1, 9):
            answer = httpx.get(f"{place}/frames/{number}", headers={"accept": "image/jpeg"})
            assert answer.content == FRAMES[number - 1]
    finally:
        log = server.stop()
    assert "Traceback" not in log
