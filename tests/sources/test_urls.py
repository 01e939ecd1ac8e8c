"""URLs: which object they name, what is sent with them, and that no output has their secrets."""

from __future__ import annotations

import base64
import json
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cli_runner import run
from container_bytes import WRITERS, encapsulated, native
from slide_files import write_slide_file
from sources.loopback import patient
from sources.range_server import RangeServer
from sources.s3_server import S3Server

import mmindex
from mmindex.errors import (
    IndexWriteError,
    MissingFileError,
    MMIndexError,
    RemoteReadError,
    StaleIndexError,
)
from mmindex.sources.base import FoundFile, Skipped
from mmindex.sources.bucket import Bucket
from mmindex.sources.object_store import ObjectSource, open_url
from mmindex.sources.requests import run_at_once
from mmindex.sources.stores import describe_error, find_store, make_store, name_url

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")

SECRET = "geheim"
BASIC = "Basic " + base64.b64encode(f"user:{SECRET}@".encode()).decode()
FRAME = b"\1\2\3\4"


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server
    make_store.cache_clear()  # connections that are kept open


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def with_user(url: str) -> str:
    return url.replace("://", f"://user:{SECRET}%40@")


SIGNED = f"?X-Amz-Algorithm=AWS4&X-Amz-Signature={SECRET}%2F&a=/b"


# Credentials.


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:geheim@host:80/a%20b.dcm", "https://host:80/a%20b.dcm"),
        ("HTTPS://user:ge@heim@host/a@b", "https://host/a@b"),
        ("http://host/a?X-Amz-Signature=geheim", "http://host/a"),
        ("http://host?token=geheim", "http://host"),
        ("http://host/a#geheim", "http://host/a"),
        ("s3://KEY:geheim@bucket/a?b#c.dcm", "s3://bucket/a?b#c.dcm"),
        ("az://container/a?sv=2024&sig=geheim", "az://container/a"),
        ("s3://bucket/a?x-amz-signature=geheim", "s3://bucket/a"),
        ("gs://bucket/a", "gs://bucket/a"),
    ],
)
def test_names_have_no_credentials(url: str, name: str) -> None:
    """A key in a bucket keeps what a web server would take for a query, but no signature."""
    assert name_url(url) == name


def every_door(url: str, root: str, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Return what a user can do with the URL of an object, and that of a folder."""
    index = tmp_path / "index"
    return {
        "open_file": lambda: mmindex.open_file(url),
        "open": lambda: mmindex.open(root),
        "archive_root": lambda: mmindex.open(tmp_path / "local", archive_root=root),
        "build": lambda: mmindex.build(root, index),
        "update": lambda: mmindex.update(root, ["a.dcm"], index),
        "open_slide": lambda: mmindex.open_slide(url),
        "info": lambda: run("info", "-v", url),
        "info --json": lambda: run("info", "--json", url),
        "info of an archive": lambda: run("info", root, "--instance", "1.2.3"),
        "info of an index": lambda: run("info", url.replace("a.dcm", ".mmindex")),
        "frame": lambda: run("frame", url, "1", "-o", str(tmp_path / "out")),
        "ranges": lambda: run("ranges", url),
        "ls": lambda: run("ls", "-v", root),
        "stats": lambda: run("stats", "-v", root),
        "check": lambda: run("check", root),
        "sheet": lambda: run("sheet", url, "-o", str(tmp_path / "a.png")),
        "build command": lambda: run("build", root, "--index", str(index)),
        "update command": lambda: run("update", root, "a.dcm", "--index", str(index)),
        "export": lambda: run("export", root, "--format", "jsonl"),
        "kerchunk": lambda: run("export", root, "--format", "kerchunk"),
        "root": lambda: run("ls", str(tmp_path / "local"), "--root", root),
    }


def what_is_shown(act: Callable[[], object]) -> str:
    """Return all texts that a user sees of what an act returns or raises."""
    try:
        found: Any = act()
    except Exception as error:
        return f"{error!r} {error} {getattr(error, 'path', '')} {error.__dict__}"
    shown = [repr(found), str(found)]
    for name in ("output", "stdout", "stderr", "path", "root", "name", "exception"):
        shown.append(str(getattr(found, name, "")))
    if isinstance(found, mmindex.Archive):
        for uid in found:
            with suppress(MMIndexError):
                shown.append(f"{found[uid].path} {found[uid]!r}")
    with suppress(AttributeError):
        found.close()
    return " ".join(shown)


@pytest.mark.parametrize("state", ["whole", "missing", "forbidden", "changed", "no DICOM"])
@pytest.mark.parametrize("kind", ["user", "query"])
def test_no_door_shows_credentials(
    server: RangeServer, tmp_path: Path, kind: str, state: str
) -> None:
    """Neither output nor errors nor the index: of objects that can be read, and that cannot."""
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a.dcm").write_bytes(native("1.2.3", [FRAME]))
    mmindex.build(tmp_path / "archive", workers=1)
    index = (tmp_path / "archive/.mmindex").read_bytes()
    (tmp_path / "local").write_bytes(index)
    if state not in ("missing", "no DICOM"):
        server.objects["/files/a.dcm"] = native("1.2.3", [FRAME])
        server.objects["/files/.mmindex"] = index
    if state == "no DICOM":
        server.objects["/files/a.dcm"] = server.objects["/files/.mmindex"] = b"nothing" * 200
    if state == "forbidden":
        server.faults = lambda path: "status 403"
    if state == "changed":
        server.faults = lambda path: "other"
    tail = SIGNED if kind == "query" else ""
    root = f"{server.url}/files{tail}"
    url = f"{server.url}/files/a.dcm{tail}"
    if kind == "user":
        root, url = with_user(root), with_user(url)
    for door, act in every_door(url, root, tmp_path).items():
        shown = what_is_shown(act)
        assert SECRET not in shown, (door, shown)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_user_and_password_of_a_url_are_sent(server: RangeServer, tmp_path: Path) -> None:
    """As Basic credentials (RFC 7617), of frames and of an index with its objects."""
    (tmp_path / "a.dcm").write_bytes(native("1.2.3", [FRAME]))
    mmindex.build(tmp_path, workers=1)
    server.objects["/f/a.dcm"] = native("1.2.3", [FRAME])
    server.objects["/f/.mmindex"] = (tmp_path / ".mmindex").read_bytes()
    with mmindex.open_file(with_user(f"{server.url}/f/a.dcm")) as instance:
        assert instance.frame(0) == FRAME
        assert instance.path == f"{server.url}/f/a.dcm"
    with mmindex.open(with_user(f"{server.url}/f")) as archive:
        assert archive.root == f"{server.url}/f"
        assert archive.frame("1.2.3", 0) == FRAME
    with mmindex.open(tmp_path, archive_root=with_user(f"{server.url}/f")) as archive:
        again = pickle.loads(pickle.dumps(archive))
        assert again.root == f"{server.url}/f"
        assert again.frame("1.2.3", 0) == FRAME
        again.close()
    sent = {
        headers.get("authorization", headers.get("Authorization")) for headers in server.headers
    }
    assert sent == {BASIC}


def test_a_redirect_to_another_host_gets_no_password(server: RangeServer) -> None:
    """obstore follows redirects; the version is compared wherever the bytes come from."""
    with RangeServer() as other:
        other.objects["/b.dcm"] = data = native("1.2.3", [FRAME])
        server.redirects["/a.dcm"] = f"{other.url}/b.dcm"
        with mmindex.open_file(with_user(f"{server.url}/a.dcm")) as instance:
            assert instance.frame(0) == FRAME
            assert instance.path == f"{server.url}/a.dcm"
            other.objects["/b.dcm"] = data[::-1]
            with pytest.raises(StaleIndexError):
                instance.frame(0)
        sent = [{name.lower(): value for name, value in each.items()} for each in other.headers]
        assert not any("authorization" in each for each in sent)
        assert any("authorization" in map(str.lower, each) for each in server.headers)


def test_commands_send_what_the_url_has(server: RangeServer, tmp_path: Path) -> None:
    """Also where a command opens the index, or the slide, a second time."""
    (tmp_path / "a.dcm").write_bytes(data := native("1.2.3", [FRAME]))
    mmindex.build(tmp_path, workers=1)
    server.objects["/f/a.dcm"] = data
    server.objects["/f/.mmindex"] = (tmp_path / ".mmindex").read_bytes()
    tiles = [bytes([at]) * (32 * 32 * 3) for at in range(4)]
    server.objects["/s.dcm"] = write_slide_file(1, (64, 64), tiles)
    server.authorization = BASIC
    with pytest.raises(RemoteReadError):
        mmindex.open(f"{server.url}/f")
    root, slide = with_user(f"{server.url}/f"), with_user(f"{server.url}/s.dcm")
    assert "Last build" in run("info", f"{root}/.mmindex", "--instance", "1.2.3").stdout
    assert run("frame", f"{root}/a.dcm", "1").stdout_bytes == FRAME
    assert "a.dcm" in run("ls", root).stdout
    assert run("frame", slide, "--tile", "0,1,1").stdout_bytes == tiles[3]
    run("sheet", slide, "-o", tmp_path / "a.png")
    run("sheet", root, "--instance", "1.2.3", "-o", tmp_path / "b.png")
    assert 401 not in {served.status for served in server.served[1:]}


def test_a_signed_url_is_read_by_get_alone(server: RangeServer, tmp_path: Path) -> None:
    """A signature is of one method and one object; the query goes with every request as it is."""
    data = native("1.2.3", [FRAME])
    server.objects["/b/a b.dcm"] = data
    with mmindex.open_file(f"{server.url}/b/a%20b.dcm{SIGNED}") as instance:
        assert instance.frame(0) == FRAME
        assert instance.path == f"{server.url}/b/a%20b.dcm"
        server.objects["/b/a b.dcm"] = data[::-1]
        with pytest.raises(StaleIndexError):
            instance.frame(0)
    assert {served.method for served in server.served} == {"GET"}
    assert set(server.urls) == {f"/b/a%20b.dcm{SIGNED}"}
    (tmp_path / "a.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    server.objects["/x.mmindex"] = (tmp_path / ".mmindex").read_bytes()
    with mmindex.open(f"{server.url}/x.mmindex{SIGNED}", archive_root=tmp_path) as archive:
        assert archive.frame("1.2.3", 0) == FRAME


def test_a_signed_query_after_a_key_is_told(tmp_path: Path) -> None:
    """The URL of a bucket takes none; without the signature in the error."""
    with pytest.raises(MissingFileError, match="found a signed query") as caught:
        open_url("az://container/a.dcm?sv=1&sig=geheim")
    assert "geheim" not in str(caught.value)
    for root in ("http://127.0.0.1/a?sig=geheim", "s3://u:geheim@b/a?b=c", "s3://u:geheim@b//a"):
        with pytest.raises(ValueError, match="expected a") as refused:
            Bucket(root)
        assert "geheim" not in str(refused.value)


def test_other_credentials_in_the_environment_are_another_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that were rotated are used from the next URL on."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    first = find_store("s3://bucket/a")
    assert find_store("s3://bucket/b") is first
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "two")
    assert find_store("s3://bucket/b") is not first
    assert find_store("memory://m/b") is find_store("memory://m/c")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://bucket/a", "S3Store"),
        ("gs://bucket/a", "GCSStore"),
        ("az://container/a", "AzureStore"),
        ("memory://name/a", "MemoryStore"),
        ("https://host/a", "HTTPStore"),
    ],
)
def test_every_scheme_has_its_store(url: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made of the URL and the environment; nothing is requested."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    make_store.cache_clear()
    assert type(find_store(url)).__name__ == kind


@pytest.mark.parametrize(
    ("url", "prefix"), [("s3://b/a", "AWS_"), ("gs://b/a", "GOOGLE_"), ("az://c/a", "AZURE_")]
)
def test_the_environment_sets_options_of_the_client(
    url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of its own kind of store alone; a time of ours holds unless the environment has one."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    for each in ("AWS_", "GOOGLE_", "AZURE_"):
        monkeypatch.setenv(f"{each}PROXY_URL", f"http://{each.lower()}.example:1")
    monkeypatch.setenv(f"{prefix}ALLOW_INVALID_CERTIFICATES", "true")
    monkeypatch.setenv(f"{prefix.lower()}read_timeout", "7s")
    options = find_store(url).client_options
    assert options["proxy_url"] == f"http://{prefix.lower()}.example:1"
    assert (options["allow_invalid_certificates"], options["read_timeout"]) == ("true", "7s")
    assert options["connect_timeout"] == "5s"
    assert "allow_http" not in options


def test_a_store_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever obstore says of the environment, as an error of this package."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    make_store.cache_clear()
    with pytest.raises(RemoteReadError, match="no store: "):
        open_url("az://container/a")


# Servers.


@pytest.mark.parametrize("status", [405, 501, 200])
def test_a_server_without_heads_is_asked_by_get(
    status: int, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads are refused, or say no length; an object that is not there is missing all the same."""
    store = stores.HTTPStore(server.url, **patient(1))
    monkeypatch.setattr("mmindex.sources.object_store.find_store", lambda url: store)
    server.objects["/a"] = native("1.2.3", [FRAME])
    server.head_status = status
    with mmindex.open_file(f"{server.url}/a") as instance:
        assert instance.frame(0) == FRAME
        del server.objects["/a"]
        with pytest.raises(MissingFileError):
            instance.frame(0)
    with pytest.raises(MissingFileError):
        open_url(f"{server.url}/a")
    heads = [served for served in server.served if served.method == "HEAD"]
    assert len(heads) == (4 if status == 501 else 2)  # obstore retries once


def test_a_refusal_is_not_taken_for_a_missing_object(server: RangeServer, tmp_path: Path) -> None:
    """An update drops what is missing: where no method is allowed, an object may be there."""
    key = "a" * 400
    server.objects[f"/{key}"] = native("1.2.3", [FRAME])
    index, url = tmp_path / "index", f"{server.url}/{key}"
    mmindex.update(server.url, [url], index)
    server.head_status, server.faults = 405, lambda path: "status 405"
    for call in (lambda: open_url(url), lambda: mmindex.update(server.url, [url], index)):
        with pytest.raises(RemoteReadError):
            call()
    with mmindex.open(index) as archive, pytest.raises(RemoteReadError):
        archive.frame("1.2.3", 0)
    server.faults = lambda path: "status 410"
    assert mmindex.update(server.url, [url], index).removed == 1


@pytest.mark.parametrize(
    ("age", "name", "waits"),
    [
        *[(0.5, "http://h/a", 1), (50, "https://h/a", 1), (-50, "http://h/a", 1)],
        *[(70, "http://h/a", 0), (-70, "http://h/a", 0), (0.5, "s3://b/a", 0)],
    ],
)
def test_a_file_of_a_web_server_is_taken_when_its_second_is_over(
    age: float, name: str, waits: int, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such times, and ETags made of them, are the same for what replaces it within the second."""
    waited = []

    def replace(seconds: float) -> None:
        waited.append(seconds)
        server.objects["/a"] = b"y" * 50

    monkeypatch.setattr("mmindex.sources.object_store.sleep", replace)
    server.e_tags, server.modified = False, time.time() - age
    server.objects["/a"] = b"x" * 50
    source = ObjectSource(stores.HTTPStore(server.url, **patient(1)), "a", name)
    assert source.read(0, 50) == (b"y" if waits else b"x") * 50
    assert len(waited) == waits
    assert all(seconds > 1 for seconds in waited)


# Keys.


@pytest.mark.parametrize(
    "tail", ["/a.dcm", "a.dcm/", "x/../a.dcm", "x//a.dcm", "./a.dcm", "", "a.dcm/.", "a.dcm//"]
)
def test_a_key_with_an_odd_part_is_no_other_key(tail: str, server: RangeServer) -> None:
    """obstore would drop empty parts, and read another object in silence."""
    store = stores.MemoryStore()
    obstore.put(store, "a.dcm", b"another")
    server.objects["/a.dcm"] = b"another"
    for url, given in ((f"s3://bucket/{tail}", store), (f"{server.url}/{tail}", None)):
        with pytest.raises(MissingFileError, match=r"without empty parts, '\.' and '\.\.'"):
            open_url(url, store=given)
    if tail:
        with pytest.raises(MissingFileError, match="without empty parts"):
            Bucket("s3://bucket", store=store).open(tail.encode())
    assert not server.served


def test_a_quoted_slash_is_no_slash(server: RangeServer) -> None:
    """obstore cannot address such an object of a web server."""
    server.objects["/b/a.dcm"] = b"another"
    with pytest.raises(MissingFileError, match="quoted slash"):
        open_url(f"{server.url}/b%2Fa.dcm")
    assert not server.served


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        ("%ff.dcm", "no object with such a key can be read"),
        ("a%0Ab", r"without control characters, found 'a\\nb': such objects cannot be read"),
        ("\udcff", "no object with such a key can be read"),
    ],
)
def test_a_key_that_obstore_refuses_is_told(tail: str, why: str, server: RangeServer) -> None:
    """Bytes that are no UTF-8 are not replaced by others; a line break is no part of a key."""
    server.objects["/\ufffd.dcm"] = b"another"
    with pytest.raises(MissingFileError, match=why):
        open_url(f"{server.url}/{tail}")
    assert not server.served


@pytest.mark.parametrize(
    "url", ["http:///a", "http://[bad/a", "s3:///a", "http://127.0.0.1:99999/a"]
)
def test_a_url_without_a_host_is_told(url: str) -> None:
    """As an error of this package."""
    with pytest.raises(RemoteReadError, match="no store: "):
        open_url(url)


def test_folder_markers_are_left_out_beside_odd_keys() -> None:
    """Where a key has an empty part, folder by folder is listed: markers are no files there."""
    with S3Server() as server:
        server.objects.update(
            {"s/": b"", "s/d/": b"", "s/d/1": b"1", "s/e/": b"", "s/z//x": b"x", "s/empty": b""}
        )
        found = list(Bucket("s3://archive/s", store=server.connect()).walk())
    files = {each.path for each in found if isinstance(each, FoundFile)}
    assert files == {b"d/1", b"empty"}
    assert [each.path for each in found if isinstance(each, Skipped)] == [b"z"]


# Versions.


@pytest.mark.parametrize("key", ["a", "k" * 900])
def test_an_object_that_shrank_is_stale(key: str, server: RangeServer) -> None:
    """The server answers 416 where the range lies behind the new end, however long errors are."""
    server.objects[f"/{key}"] = bytes(5000)
    source = ObjectSource(stores.HTTPStore(server.url, **patient(1)), key, "a")
    for honours in (True, False):
        server.honours_if_match = honours
        server.objects[f"/{key}"] = bytes(100)
        for offset in (4000, 50):
            with pytest.raises(StaleIndexError, match="the object changed"):
                source.read(offset, 100)


def test_an_object_that_is_empty_now_is_stale(server: RangeServer) -> None:
    """Some servers answer a range of an empty object with 200 instead of 416."""
    server.objects["/a"] = bytes(5000)
    store = stores.HTTPStore(server.url, **patient(1))
    source = ObjectSource(store, "a", "a", ObjectSource(store, "a", "a").version)
    server.objects["/a"] = b""
    server.faults = lambda path: "whole"
    with pytest.raises(StaleIndexError, match="found 0 bytes"):
        source.read(50, 100)


@pytest.mark.parametrize("fault", ["", "whole"])
def test_an_object_of_a_signed_url_that_is_empty_now_is_stale(
    fault: str, server: RangeServer
) -> None:
    """A GET of its first byte, which is not there, is answered with 416 or 200."""
    server.objects["/a"] = bytes(5000)
    source = open_url(f"{server.url}/a{SIGNED}", store=None)
    server.faults = lambda path: fault
    server.objects["/a"] = b""
    for ask in (source.check, lambda: source.read(50, 100)):
        with pytest.raises(StaleIndexError, match="found 0 bytes"):
            ask()
    assert open_url(f"{server.url}/a{SIGNED}").size == 0
    assert {served.method for served in server.served} == {"GET"}
    server.objects["/a"] = bytes(5000)
    server.faults = lambda path: "whole"
    with pytest.raises(RemoteReadError, match="a range with the whole object"):
        open_url(f"{server.url}/a{SIGNED}")


def test_an_object_of_s3_that_shrank_is_stale() -> None:
    """Without an ETag to ask for, as of an index."""
    with S3Server() as server:
        server.objects["a"] = bytes(5000)
        version = ObjectSource(server.connect(), "a", "a").version
        server.objects["a"] = bytes(100)
        for offset in (4000, 50):
            with pytest.raises(StaleIndexError):
                ObjectSource(server.connect(), "a", "a", version).read(offset, 100)


@pytest.mark.parametrize("kind", ["memory", "folder"])
@pytest.mark.parametrize("length", [0, 100, 4050])
def test_an_object_of_a_callers_store_that_shrank_is_stale(
    kind: str, length: int, tmp_path: Path
) -> None:
    """Ranges end in it, or are behind its end; with an ETag to ask for, and without."""
    store = stores.MemoryStore() if kind == "memory" else stores.LocalStore(tmp_path)
    store.put("a", bytes(5000))
    opened = ObjectSource(store, "a", "a")
    assert opened.read(0, 5) == bytes(5)
    indexed = ObjectSource(store, "a", "a", opened.version)
    store.put("a", bytes(length))
    for source in (opened, indexed):
        for offset in (0, 4000, 4900):
            with pytest.raises(StaleIndexError):
                source.read(offset, 100)


def test_a_server_without_versions_is_an_error(server: RangeServer) -> None:
    """Size alone would not show that an object changed."""
    server.objects["/a"] = bytes(5000)
    store = stores.HTTPStore(server.url, **patient(1))
    source = ObjectSource(store, "a", "a")
    server.e_tags, server.modified = False, 0.0
    with pytest.raises(RemoteReadError, match="neither ETag nor Last-Modified"):
        ObjectSource(store, "a", "a")
    with pytest.raises(StaleIndexError):
        source.read(0, 5)
    with pytest.raises(RemoteReadError, match="neither ETag nor Last-Modified"):
        ObjectSource(store, "a", "a", source.version._replace(inode=0, mtime_ns=0)).read(0, 5)


def test_a_weak_e_tag_and_another_time_are_a_change(server: RangeServer) -> None:
    """A weak ETag says that two objects mean the same, not that their bytes are (RFC 9110)."""
    server.objects["/a"] = data = b"A" * 1000
    server.e_tag_prefix = "W/"
    source = ObjectSource(stores.HTTPStore(server.url, **patient(1)), "a", "a")
    assert source.read(0, 4) == source.read(5, 4) == b"AAAA"
    other = b"B" * 1000
    server.tags[id(other)] = other, server.tag(data)  # the same ETag
    server.objects["/a"] = other
    server.modified += 9
    with pytest.raises(StaleIndexError):
        source.read(0, 4)
    server.objects["/a"] = b"C" * 1000  # another ETag, the same time
    server.modified -= 9
    with pytest.raises(StaleIndexError):
        source.read(0, 4)


def test_an_object_with_a_weak_e_tag_is_brought_up_to_date(
    server: RangeServer, tmp_path: Path
) -> None:
    """What a read takes for stale, an update takes for changed."""
    server.e_tag_prefix = "W/"
    server.objects["/f/a.dcm"] = first = native("1.2.3", [FRAME])
    url, index = f"{server.url}/f", tmp_path / "index"
    mmindex.update(url, ["a.dcm"], index)
    assert mmindex.update(url, ["a.dcm"], index).unchanged == 1
    second = native("1.2.3", [b"wxyz"])
    server.tags[id(second)] = second, server.tag(first)  # the same ETag
    server.objects["/f/a.dcm"] = second
    server.modified += 9
    with mmindex.open(index) as archive:
        with pytest.raises(StaleIndexError):
            archive.frame("1.2.3", 0)
        assert mmindex.update(url, ["a.dcm"], index).scanned == 1
        assert archive.frame("1.2.3", 0) == b"wxyz"


# Errors.


def test_what_a_server_sends_is_cut_in_errors() -> None:
    """A line of at most 300 characters that cannot steer a terminal."""
    line = describe_error(
        ValueError("\x1b[31mevil \0 https://u:pw@h/a?b " + "x" * 2_000_000 + "\nb")
    )
    assert len(line) == 300
    assert line.isprintable()
    assert "pw" not in line


def test_calls_have_ended_when_one_has_failed() -> None:
    """What they write to, such as the number of an open file, may be another's afterwards."""
    running, begun = [], threading.Barrier(4, timeout=10)

    def call(item: int) -> None:
        running.append(item)
        if item < 4:
            begun.wait()
        if item == 0:
            raise RemoteReadError("503")
        time.sleep(0.05)
        running.remove(item)

    with pytest.raises(RemoteReadError):
        run_at_once(call, range(200))
    assert running == [0]


def test_update_takes_urls_of_objects(server: RangeServer, tmp_path: Path) -> None:
    """With the user of the root or without; a query or a quoted slash would be another object."""
    server.objects["/f/b/a.dcm"] = native("1.2.3", [FRAME])
    server.authorization = BASIC
    root, index = with_user(f"{server.url}/f"), tmp_path / "index"
    for path in (f"{root}/b/a.dcm", f"{server.url}/f/b/a.dcm"):
        report = mmindex.update(root, [path], index)
        assert (report.found, report.statuses) in ((1, {"indexed": 1}), (1, {}))
    for tail in ("b%2Fa.dcm", f"b/a.dcm{SIGNED}", "../a.dcm"):
        with pytest.raises(IndexWriteError, match="expected a key below") as refused:
            mmindex.update(root, [f"{root}/{tail}"], index)
        assert SECRET not in f"{refused.value} {refused.value.path}"


def test_json_has_the_name_without_credentials(server: RangeServer) -> None:
    """And is JSON."""
    server.objects["/a.dcm"] = native("1.2.3", [FRAME])
    done = run("info", "--json", with_user(f"{server.url}/a.dcm"))
    assert json.loads(done.stdout)["path"] == f"{server.url}/a.dcm"


# Files in containers.


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_in_a_container_at_a_url(kind: str) -> None:
    """Of a stored one its headers and the frame are read, as those of an object are."""
    frames = [b"\xff\xd8" + bytes([at]) * 40_000 for at in range(50)]
    one = encapsulated("1.2.3", frames)
    members = [("d/a b.dcm", one), ("b.dcm", native("1.2.4", [b"wxyz"])), ("./c.dcm", one)]
    data = WRITERS[kind](members)
    with RangeServer() as server:
        server.objects["/x/a%20 b.tar"] = data
        base = f"{server.url}/x/a%2520%20b.tar"
        for name in ("d/a b.dcm", "d/a%20b.dcm"):
            server.served.clear()
            with mmindex.open_file(f"{base}!/{name}") as instance:
                assert instance.record.sop_instance_uid == "1.2.3"
                assert instance.frame(7) == frames[7]
                if kind in ("tar", "zip"):
                    assert server.bytes_served < len(one) + 400_000
                assert instance.frames() == frames
                assert instance.path == f"{base}!/d/a b.dcm"
                assert instance.file_path == base
        with pytest.raises(MissingFileError, match=r"has no file 'none\.dcm'"):
            mmindex.open_file(f"{base}!/none.dcm")
        with pytest.raises(MissingFileError, match="and so is its container"):
            mmindex.open_file(f"{server.url}/none.tar!/a.dcm")
        done = run("info", base, code=1)
        assert "a tar or zip container: name a file in it" in done.stderr
