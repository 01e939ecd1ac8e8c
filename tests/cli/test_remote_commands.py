"""Commands whose SOURCE or ROOT is a URL, or an index of a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import read_terminal, run, run_child
from remote_archive import index_objects, native_object
from slide_files import write_slide_file
from sources.range_server import RangeServer

import mmindex
from mmindex.sources.bucket import Bucket
from mmindex.sources.stores import make_store

obstore = pytest.importorskip("obstore", reason="object stores need obstore")

FRAMES = [bytes(range(at, at + 16)) for at in range(6)]
NAMES = [f"ward {at}/{at}.dcm" for at in range(3)]


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        for at, name in enumerate(NAMES):
            server.objects[f"/files/{name}"] = native_object(f"1.2.{at}", FRAMES)
        yield server
    make_store.cache_clear()  # connections that are kept open


@pytest.fixture
def index(server: RangeServer, tmp_path: Path) -> Path:
    return index_objects(tmp_path / "remote.mmindex", f"{server.url}/files", NAMES)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_source_may_be_the_url_of_an_object(server: RangeServer, tmp_path: Path) -> None:
    """frame, info, ranges and sheet read it by ranges, and name it."""
    url = f"{server.url}/files/ward%201/1.dcm"
    assert run("frame", url, 3).stdout_bytes == FRAMES[2]
    run("frame", url, "1-", "-o", tmp_path / "{number}.raw")
    assert (tmp_path / "6.raw").read_bytes() == FRAMES[5]
    described = json.loads(run("info", url, "--json").stdout)
    assert (described["path"], described["number_of_frames"]) == (url, 6)
    assert described["index"] is None
    assert url in run("info", url).stdout
    ranges = json.loads(run("ranges", url, 2).stdout)
    ((piece,),) = (frame["ranges"] for frame in ranges["frames"])
    data = server.objects["/files/ward 1/1.dcm"]
    assert data[piece["offset"] :][: piece["length"]] == FRAMES[1]
    run("sheet", url, "-o", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "the object is gone" in run("frame", f"{server.url}/none", 1, code=1).stderr


def test_root_may_be_a_url_with_an_index(server: RangeServer, index: Path, tmp_path: Path) -> None:
    """Below the root, or named itself; so may SOURCE with --instance."""
    server.objects["/files/.mmindex"] = index.read_bytes()
    for url in (f"{server.url}/files", f"{server.url}/files/.mmindex"):
        assert run("frame", url, 3, "--instance", "1.2.1").stdout_bytes == FRAMES[2]
        described = json.loads(run("info", url, "--json", "--instance", "1.2.1").stdout)
        assert described["index"] == url
        rows = [line.split("\t") for line in run("ls", url).stdout.splitlines()]
        assert [row[0] for row in rows] == NAMES
        assert json.loads(run("stats", url, "--json").stdout)["frames"] == 18
        assert run("verify", url).stdout == ""
        lines = [json.loads(line) for line in run("export", url).stdout.splitlines()]
        assert {line["path"] for line in lines} == set(NAMES)
        assert all(len(line["etag_digest"]) == 16 for line in lines)
        assert run("check", url, "--fail-on", "missing,stale").exit_code == 0
    assert "--instance" in run("frame", f"{server.url}/files/.mmindex", 1, code=2).stderr
    assert "gone" in run("ls", f"{server.url}/none", code=1).stderr


def test_check_without_a_listing_asks_for_each_object(server: RangeServer, index: Path) -> None:
    """Missing and changed objects are found; that new ones are not looked for is said."""
    server.objects["/files/" + NAMES[0]] = native_object("1.2.0", FRAMES[::-1])
    del server.objects["/files/" + NAMES[1]]
    found = [line.split("\t")[:2] for line in run("check", index, code=1).stdout.splitlines()]
    assert sorted(found) == [[".", "unreadable"], [NAMES[0], "stale"], [NAMES[1], "missing"]]


def test_check_of_a_bucket_is_its_listing(tmp_path: Path) -> None:
    """Missing, stale and new by one walk, without a request for each object."""
    store = make_store("memory", "check")
    for at, name in enumerate(NAMES):
        obstore.put(store, f"deep/{name}", native_object(f"1.2.{at}", FRAMES))
    index = index_objects(tmp_path / "index", "memory://check/deep", NAMES)
    with mmindex.open(index) as archive:
        assert not list(archive.problems())
    obstore.put(store, f"deep/{NAMES[0]}", native_object("1.2.0", FRAMES[::-1]))
    obstore.delete(store, f"deep/{NAMES[1]}")
    obstore.put(store, "deep/new.dcm", b"new")
    obstore.put(store, "deep/out.tmp", b"new")
    obstore.put(store, "deep/.mmindex", b"index")
    with mmindex.open(index) as archive:
        found = {(each.kind, each.path) for each in archive.problems(exclude=["*.tmp"])}
        assert found == {("stale", NAMES[0]), ("missing", NAMES[1]), ("new", "new.dcm")}
        assert {each.kind for each in archive.problems(kinds=["missing"])} == {"missing"}


def test_check_of_a_bucket_goes_on_while_its_index_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an update puts in after the check began is neither new nor missing."""
    url, index = "memory://grows/deep", tmp_path / "index"
    store = make_store("memory", "grows")
    obstore.put(store, "deep/first", native_object("1.2", FRAMES))
    mmindex.update(url, ["first"], index, store=store)
    obstore.put(store, "deep/first", b"other")
    keys = [str(number) for number in range(40)]
    walk = Bucket.walk

    def update_and_walk(bucket: Bucket) -> Iterator[object]:
        for key in keys:
            obstore.put(store, f"deep/{key}", native_object(f"1.3.{key}", FRAMES))
        monkeypatch.undo()
        mmindex.update(url, keys, index, store=store)
        yield from walk(bucket)

    monkeypatch.setattr(Bucket, "walk", update_and_walk)
    with mmindex.open(index, store=store) as archive:
        assert [(each.kind, each.path) for each in archive.problems()] == [("stale", "first")]


def test_check_of_a_mirror_compares_sizes(server: RangeServer, index: Path, tmp_path: Path) -> None:
    """A bucket's index and a local copy: times and inodes are others."""
    for at, name in enumerate(NAMES):
        (tmp_path / "mirror" / name).parent.mkdir(parents=True)
        (tmp_path / "mirror" / name).write_bytes(native_object(f"1.2.{at}", FRAMES))
    with mmindex.open(index, archive_root=tmp_path / "mirror") as archive:
        assert not list(archive.problems())
        (tmp_path / "mirror" / NAMES[2]).write_bytes(b"short")
        assert [each.kind for each in archive.problems()] == ["stale"]


def test_verbose_prints_each_range_and_how_many(server: RangeServer, index: Path) -> None:
    """On standard error; nothing of local files."""
    told = run("frame", index, 3, "--instance", "1.2.1", "-v")
    assert told.stdout_bytes == FRAMES[2]
    data = server.objects["/files/" + NAMES[1]]
    first = data.index(FRAMES[0]) + 32
    url = f"{server.url}/files/ward%201/1.dcm"
    assert told.stderr.splitlines() == [
        f"mmindex: bytes {first}-{first + 15} of {url}",
        "mmindex: 1 request, 16 B",
    ]
    assert run("stats", index, "-v").stderr == ""
    opened = run("info", url, "-v").stderr.splitlines()
    assert opened[0] == f"mmindex: version of {url}"
    assert opened[-1].startswith("mmindex: 2 requests, ")


def test_a_terminal_shows_requests_while_an_object_is_opened(
    server: RangeServer, terminal: tuple[int, int]
) -> None:
    """The line is wiped before anything else is printed."""
    ours, theirs = terminal
    url = f"{server.url}/files/ward%201/1.dcm"
    done = run_child("info", url, stderr=theirs)
    shown = read_terminal(ours, theirs)
    assert done.returncode == 0
    assert "1 request, 0 B" in shown
    assert shown.rstrip("\r").endswith(" ")


def test_a_tile_of_remote_objects(tmp_path: Path) -> None:
    """SOURCE of --tile may be a folder of objects, which the store lists."""
    store = make_store("memory", "slide")
    tiles = [bytes([at]) * (32 * 32 * 3) for at in range(4)]
    data = write_slide_file(1, (64, 64), tiles)
    obstore.put(store, "case/1.dcm", data)
    obstore.put(store, "case/notes.txt", b"no DICOM file")
    obstore.put(store, "case/deeper/2.dcm", b"not looked at")
    for source in ("memory://slide/case/", "memory://slide/case/1.dcm"):
        assert run("frame", source, "--tile", "0,1,1").stdout_bytes == tiles[3]
