"""Archives in buckets: built as folders are, at the cost of a listing where nothing changed."""

from __future__ import annotations

import random
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from container_bytes import WRITERS, encapsulated, native, write_tar, write_zip
from dicom_bytes import (
    JPEG_2000,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    identified,
    image_attributes,
)
from sources.s3_server import S3Server

import mmindex
from mmindex.errors import FormatError, IndexWriteError, MissingFileError, RemoteReadError
from mmindex.frame_table import Layout
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status, VersionKind
from mmindex.sources.bucket import Bucket
from mmindex.sources.stores import describe_error

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")

URL = "s3://archive/study"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def image(number: int, version: int = 0) -> bytes:
    return native(f"1.{number}", [struct.pack("<HH", number, version)])


def samples() -> dict[str, bytes]:
    """Return objects of every status, and one of each way that frames are found."""
    chance = random.Random(1)
    frames = [b"\xff\x4f" + chance.randbytes(3000) for _ in range(70)]
    table = [at * 3010 for at in range(70)]
    long = [b"\xff\xd8" + chance.randbytes(40_000) + b"\xff\xd9" for _ in range(20)]
    data_set = image_attributes() + element(PIXEL_DATA, "OB", b"abcd")
    return {
        "native.dcm": native("1.1", [b"abcd", b"efgh"]),
        "a/table.dcm": encapsulated_file(frames, 70, JPEG_2000, bot=table),
        "a/no table.dcm": encapsulated_file(frames, 70, JPEG_2000),
        "a/long.dcm": encapsulated("1.4", long),
        "deflated.dcm": deflated_file(identified(data_set, "1.5")),
        "notes.txt": b"no DICOM file " * 40,
        "large.txt": b"no DICOM file " * 40_000,
        "empty": b"",
        "cut.dcm": native("1.6")[:-60],
        "broken.dcm": native("1.7")[:140] + b"\xff" * 200_000,
        "x.tar": write_tar([("t/1.dcm", native("2.1")), ("t/2.dcm", native("2.2", [b"tttt"]))]),
        "x.zip": write_zip([("1.dcm", encapsulated("2.3", long[:3]))]),
        "y.zip": WRITERS["deflated"]([("1.dcm", encapsulated("2.4", long[3:6]))]),
    }


def put_all(folder: Path, objects: dict[str, bytes]) -> Path:
    for key, data in objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def records_of(index: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(index) as archive:
        archive.check_index()
        return {record.location: record for record in archive.records()}


def without_version(record: InstanceRecord) -> InstanceRecord:
    return record._replace(fingerprint=None, scan_microseconds=0)


def counts(report: mmindex.BuildReport) -> tuple[int, int, int, int]:
    return report.found, report.scanned, report.unchanged, report.removed


def check_same(
    index: Path, objects: dict[str, bytes], folder: Path, store: Any, *, prove: bool = False
) -> None:
    """Hold that records, and all frames read from the store, are those of a local archive."""
    local = put_all(folder, objects)
    mmindex.build(local, folder / "index", workers=1, prove=prove)
    expected, found = records_of(folder / "index"), records_of(index)
    assert found.keys() == expected.keys()
    for location, record in expected.items():
        assert without_version(found[location]) == without_version(record), location
    with mmindex.open(folder / "index") as archive, mmindex.open(index, store=store) as remote:
        for location, record in expected.items():
            if record.status.has_frames:
                assert remote.file(location).frames() == archive.file(location).frames()


def test_a_bucket_gives_the_records_and_frames_of_a_folder(
    tmp_path: Path, server: S3Server
) -> None:
    """Every status, every kind of table, files in tar and zip; then an unchanged bucket: 1 GET."""
    server.objects.update({f"study/{key}": data for key, data in samples().items()})
    server.objects["other.dcm"] = image(9)
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert report.root == URL
    assert report.requests == len(server.requests)
    assert report.received == sum(each.length for each in server.requests if each.kind == "GET")
    check_same(index, samples(), tmp_path / "local", store)
    server.requests.clear()
    again = mmindex.build(URL, index, store=store)
    assert [(each.kind, each.key) for each in server.requests] == [("LIST", "study/")]
    assert counts(again) == (report.found, 0, report.found, 0)
    assert (again.requests, again.received) == (1, 0)


def test_memory_store_is_built(tmp_path: Path) -> None:
    """A store of the caller's own; `--full` scans all again and changes nothing."""
    store = stores.MemoryStore()
    for key, data in samples().items():
        obstore.put(store, f"study/{key}", data)
    index = tmp_path / "index"
    mmindex.build(URL, index, store=store, concurrency=3)
    before = records_of(index)
    report = mmindex.build(URL, index, store=store, full=True, concurrency=1)
    assert report.unchanged == 0
    assert records_of(index).keys() == before.keys()
    check_same(index, samples(), tmp_path / "local", store)
    mmindex.build(URL, index, store=store, full=True, prove=True)
    check_same(index, samples(), tmp_path / "proved", store, prove=True)


def test_only_what_changed_is_read(tmp_path: Path, server: S3Server) -> None:
    """2,500 objects on three pages: those that are new, changed or gone cost their own requests."""
    objects = {f"study/{number % 7}/{number}.dcm": image(number) for number in range(2500)}
    server.objects.update(objects)
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert counts(report) == (2500, 2500, 0, 0)
    assert server.count("LIST") == 3
    assert server.count("GET") == 2500
    server.requests.clear()
    assert counts(mmindex.build(URL, index, store=store)) == (2500, 0, 2500, 0)
    assert Counter(each.kind for each in server.requests) == {"LIST": 3}
    for number in range(30):
        server.objects[f"study/{number % 7}/{number}.dcm"] = image(number, 5)
        del server.objects[f"study/{(number + 100) % 7}/{number + 100}.dcm"]
        server.objects[f"study/new/{number}.dcm"] = image(number + 5000)
    server.requests.clear()
    report = mmindex.build(URL, index, store=store)
    assert counts(report) == (2500, 60, 2440, 30)
    assert server.count("GET") == 60
    records = records_of(index)
    assert {f"study/{path.decode()}" for path in records} == server.objects.keys()
    root = Bucket(URL, store=store)
    for path in (b"5/5.dcm", b"new/3.dcm", b"0/700.dcm"):
        with mmindex.Instance(records[path], root.open(path, records[path].fingerprint)) as found:
            data = server.objects[f"study/{path.decode()}"]
            assert found.frame(0) == data[-4:]


def test_an_object_that_was_put_again_as_it_was_is_unchanged(
    tmp_path: Path, server: S3Server
) -> None:
    """The ETag decides, not the time."""
    server.objects["study/a.dcm"] = image(1)
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store)
    server.modified += 1000
    assert counts(mmindex.build(URL, index, store=store)) == (1, 0, 1, 0)


def test_an_object_that_changes_after_the_listing_is_scanned_as_it_is(
    tmp_path: Path, server: S3Server
) -> None:
    """No record mixes two versions of an object; one that keeps changing is a problem."""
    for number in range(20):
        server.objects[f"study/{number}.dcm"] = image(number)
    changed: set[str] = set()

    def change(kind: str, key: str) -> int:
        if kind == "GET" and key not in changed and key.endswith(("3.dcm", "8.dcm")):
            changed.add(key)
            server.objects[key] = image(int(key[6:-4]) + 1000, 7) + b"\0" * 8
        if key == "study/11.dcm" and kind != "LIST":
            server.objects[key] += b"\0"
        return 0

    server.faults = change
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert changed
    records = records_of(index)
    assert [path for path, record in records.items() if record.status is Status.UNREADABLE] == [
        b"11.dcm"
    ]
    assert report.problems[0][0] == "11.dcm"
    assert records[b"3.dcm"].sop_instance_uid == "1.1003"
    server.faults = lambda kind, key: 0
    report = mmindex.build(URL, index, store=store)
    assert counts(report) == (20, 1, 19, 0)
    assert records_of(index)[b"11.dcm"].status is Status.INDEXED


@pytest.mark.parametrize("seed", range(4))
def test_an_object_that_is_cut_after_the_listing_is_scanned_as_it_is(
    tmp_path: Path, server: S3Server, seed: int
) -> None:
    """A range that runs past its new end is no problem of the store."""
    large = encapsulated("1.1", [b"\xff\xd8" + bytes(90_000) + b"\xff\xd9"] * 9)
    server.objects["study/1.dcm"] = large
    gets = Counter[str]()

    def cut(kind: str, key: str) -> int:
        gets[kind] += 1
        if kind == "GET" and gets["GET"] == seed + 1:
            server.objects[key] = image(7)
        return 0

    server.faults = cut
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store)
    (record,) = records_of(index).values()
    assert (record.status, record.sop_instance_uid) in (
        (Status.INDEXED, "1.7"),
        (Status.INDEXED, "1.1"),  # cut after its last request
    )
    if record.sop_instance_uid == "1.1":
        assert gets["GET"] <= seed


def test_an_object_that_vanishes_after_the_listing_is_a_problem_and_then_gone(
    tmp_path: Path, server: S3Server
) -> None:
    """The build goes on; the next one drops the object."""
    for number in range(20):
        server.objects[f"study/{number}.dcm"] = image(number)

    def vanish(kind: str, key: str) -> int:
        if key == "study/7.dcm":
            server.objects.pop(key, None)
        return 0

    server.faults = vanish
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert report.statuses == {"indexed": 19, "unreadable": 1}
    assert "gone" in report.problems[0][1]
    report = mmindex.build(URL, index, store=store)
    assert (report.removed, report.unreadable) == (1, 0)


def test_a_forbidden_object_is_a_problem_until_it_can_be_read(
    tmp_path: Path, server: S3Server
) -> None:
    """403 is asked once and recorded with its reason; each later build asks again."""
    for number in range(20):
        server.objects[f"study/{number}.dcm"] = image(number)
    server.faults = lambda kind, key: 403 if key == "study/4.dcm" else 0
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert report.statuses == {"indexed": 19, "unreadable": 1}
    assert report.problems[0][0] == "4.dcm"
    assert "403" in report.problems[0][1]
    assert "key" not in records_of(index)[b"4.dcm"].error
    assert counts(mmindex.build(URL, index, store=store)) == (20, 1, 19, 0)
    server.faults = lambda kind, key: 0
    report = mmindex.build(URL, index, store=store)
    assert (report.scanned, report.unreadable) == (1, 0)
    assert records_of(index)[b"4.dcm"].status is Status.INDEXED


def test_a_storm_of_503_costs_retries(tmp_path: Path, server: S3Server) -> None:
    """A third of all answers fails; what fails after all retries is left for the next build."""
    for number in range(300):
        server.objects[f"study/{number}.dcm"] = image(number)
    chance = random.Random(5)
    server.faults = lambda kind, key: 503 if chance.random() < 0.33 else 0
    index, store = tmp_path / "index", server.connect(retries=2)
    for _ in range(20):
        try:
            report = mmindex.build(URL, index, store=store)
        except RemoteReadError:  # of the listing
            continue
        assert report.found == 300
        if not report.unreadable:
            break
    server.faults = lambda kind, key: 0
    mmindex.build(URL, index, store=store)
    for path, record in records_of(index).items():
        assert record.sop_instance_uid == f"1.{path[:-4].decode()}"
        assert record.status is Status.INDEXED


def test_a_container_whose_file_could_not_be_read_is_looked_at_again(
    tmp_path: Path, server: S3Server
) -> None:
    """A file that a store did not return is not lost in a container that counts as unchanged."""
    files = [(f"{number}.dcm", image(number) + b"\0" * 90_000) for number in range(10)]
    server.objects["study/x.tar"] = write_tar(files)
    gets = Counter[str]()

    def fail(kind: str, key: str) -> int:
        gets[kind] += 1
        return 403 if kind == "GET" and gets["GET"] in (7, 9) else 0

    server.faults = fail
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert report.problem_count
    server.faults = lambda kind, key: 0
    mmindex.build(URL, index, store=store)
    report = mmindex.build(URL, index, store=store)
    assert (report.scanned, report.unreadable, report.found) == (0, 0, 11)
    records = records_of(index)
    assert {record.sop_instance_uid for record in records.values() if record.member} == {
        f"1.{number}" for number in range(10)
    }


def test_a_container_that_was_put_again_keeps_its_files(tmp_path: Path, server: S3Server) -> None:
    """Its time changes, its ETag does not: its files stay in the index, whatever is asked."""
    server.objects["study/x.tar"] = write_tar([("1.dcm", image(1)), ("2.dcm", image(2))])
    index, store = tmp_path / "index", server.connect()
    for options in ({}, {"full": True}, {"force": True}, {"containers": False}, {}, {}):
        server.modified += 1000
        mmindex.build(URL, index, store=store, **options)
        expected = {b"x.tar", b"x.tar!/1.dcm", b"x.tar!/2.dcm"}
        if options == {"containers": False}:
            expected = {b"x.tar"}
        assert records_of(index).keys() == expected, options
        with mmindex.open(index, store=store) as archive:
            for uid in archive:
                assert archive.frame(uid, 0) == image(int(uid[2:]))[-4:]


ODD_KEYS = ["a b.dcm", "a%20b.dcm", "größe/ü.dcm", "q?x#y&z=.dcm", "+.dcm", "e\u0301.dcm", "c.dcm"]


@pytest.mark.parametrize("extra", [[], ["d//x.dcm"], ["d/../x.dcm"], ["d/./x.dcm"]])
def test_odd_keys_are_read_or_told(tmp_path: Path, server: S3Server, extra: list[str]) -> None:
    """Keys that obstore cannot list cost their folder, with the reason, and no other."""
    good = [*ODD_KEYS, "d/ok.dcm"]
    for number, key in enumerate([*good, *extra]):
        server.objects[f"study/{key}"] = image(number)
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    records = records_of(index)
    read = {path.decode(): record.sop_instance_uid for path, record in records.items()}
    expected = {key: f"1.{number}" for number, key in enumerate(good)}
    if extra:
        del expected["d/ok.dcm"]
    assert {key: read[key] for key in expected} == expected
    assert len(read) == len(expected)
    assert bool(report.problem_count) is bool(extra)
    if extra:
        assert report.problems[0][0].startswith("d")
        assert "obstore" in report.problems[0][1]
        del server.objects["study/c.dcm"]
        again = mmindex.build(URL, index, store=store)
        assert again.removed == 1


def test_a_folder_that_cannot_be_listed_any_more_drops_nothing(
    tmp_path: Path, server: S3Server
) -> None:
    """What the index knows below it stays, as below a folder that is forbidden."""
    for number in range(5):
        server.objects[f"study/d/{number}.dcm"] = image(number)
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store)
    server.objects["study/d//odd.dcm"] = image(6)
    report = mmindex.build(URL, index, store=store)
    assert report.removed == 0
    assert len(records_of(index)) == 5


def test_markers_of_folders_are_no_files(tmp_path: Path, server: S3Server) -> None:
    """An empty object whose key ends with a slash is a folder's marker, as consoles write it."""
    server.objects.update({"study/": b"", "study/a/": b"", "study/a/1.dcm": image(1)})
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert records_of(index).keys() == {b"a/1.dcm"}
    assert report.problem_count == 0


def test_excluded_objects_and_indexes_are_left_out(tmp_path: Path, server: S3Server) -> None:
    """A glob stands for a folder with all below it; an index that lies in the bucket is none."""
    for key in (
        "a/1.dcm",
        "tmp/2.dcm",
        "b/tmp/3.dcm",
        "b/x.part",
        "b/4.dcm",
        ".mmindex",
        "a/.mmindex-lock",
    ):
        server.objects[f"study/{key}"] = image(len(server.objects))
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store, exclude=["tmp", "*.part"])
    assert records_of(index).keys() == {b"a/1.dcm", b"b/4.dcm"}
    mmindex.build(URL, index, store=store, exclude=["b/t*", "*.part", "a"])
    assert records_of(index).keys() == {b"tmp/2.dcm", b"b/4.dcm"}


@pytest.mark.parametrize(
    ("exclude", "new"),
    [
        ([], ["a.dcm", "deep/tmp/x.dcm", "tmp/deep/x.dcm", "tmp/x.dcm", ".mmindex-x.dcm"]),
        (["tmp"], ["a.dcm", ".mmindex-x.dcm"]),
        (["tmp/deep"], ["a.dcm", "deep/tmp/x.dcm", "tmp/x.dcm", ".mmindex-x.dcm"]),
        (["a.*", "*/tmp"], ["tmp/deep/x.dcm", "tmp/x.dcm", ".mmindex-x.dcm"]),
    ],
)
def test_what_a_build_leaves_out_is_no_new_object(
    tmp_path: Path, server: S3Server, exclude: list[str], new: list[str]
) -> None:
    """The problems and a build read one list of globs alike: folders, names, and index files."""
    server.objects["study/known.dcm"] = image(0)
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store)
    for key in ("tmp/x.dcm", "tmp/deep/x.dcm", "deep/tmp/x.dcm", "a.dcm", ".mmindex-x.dcm"):
        server.objects[f"study/{key}"] = image(len(server.objects))
    for key in (".mmindex", ".mmindex-lock", "deep/.mmindex-writing"):
        server.objects[f"study/{key}"] = b"of an index"
    with mmindex.open(index, store=store) as archive:
        found = list(archive.problems(kinds=["new"], exclude=exclude))
    assert sorted(problem.path for problem in found) == sorted(new)
    report = mmindex.build(URL, index, store=store, exclude=exclude)
    assert report.scanned == len(new)


def test_young_objects_are_left_for_later(tmp_path: Path, server: S3Server) -> None:
    """By the time of their last change."""
    server.objects["study/a.dcm"] = image(1)
    index, store = tmp_path / "index", server.connect()
    server.modified = __import__("time").time()
    report = mmindex.build(URL, index, store=store, min_age=3600)
    assert (report.postponed, report.scanned) == (1, 0)
    server.modified -= 7200
    assert mmindex.build(URL, index, store=store, min_age=3600).scanned == 1


@pytest.mark.parametrize("left", [0, 40])
def test_a_bucket_that_lost_its_objects_empties_no_index(
    tmp_path: Path, server: S3Server, left: int
) -> None:
    """An empty listing, or one of a third of the objects, drops nothing unless that is meant."""
    for number in range(150):
        server.objects[f"study/{number}.dcm"] = image(number)
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store)
    server.objects = dict(list(server.objects.items())[:left])
    with pytest.raises(IndexWriteError, match="empty" if not left else "over half"):
        mmindex.build(URL, index, store=store)
    assert len(records_of(index)) == 150
    mmindex.build(URL, index, store=store, max_removed="100%")
    assert len(records_of(index)) == left


def test_duplicates_and_the_last_build_are_noted(tmp_path: Path, server: S3Server) -> None:
    """As of a folder."""
    server.objects.update({"study/a.dcm": image(1), "study/b.dcm": image(1)})
    index, store = tmp_path / "index", server.connect()
    assert mmindex.build(URL, index, store=store).duplicates == 1
    with closing(Store(str(index))) as store:
        assert store.read_build() is not None


def test_an_update_looks_at_its_keys_alone(tmp_path: Path, server: S3Server) -> None:
    """New, changed and gone objects, whole prefixes, a file in a container; URLs and keys."""
    for number in range(50):
        server.objects[f"study/{number % 2}/{number}.dcm"] = image(number)
    server.objects["study/x.tar"] = write_tar([("1.dcm", image(90)), ("2.dcm", image(91))])
    index, store = tmp_path / "index", server.connect()
    mmindex.build(URL, index, store=store)
    server.objects["study/0/2.dcm"] = image(2, 9)
    server.objects["study/new.dcm"] = image(60)
    del server.objects["study/0/4.dcm"]
    server.objects["study/x.tar"] = write_tar([("1.dcm", image(90, 1))])
    server.requests.clear()
    keys = [f"{URL}/0/2.dcm", "new.dcm", b"0/4.dcm", "x.tar!/2.dcm", "0/6.dcm", "nothing"]
    report = mmindex.update(URL, keys, index, store=store)
    assert counts(report) == (5, 4, 1, 2)
    assert server.count("GET") < 12
    records = records_of(index)
    assert b"new.dcm" in records
    assert b"0/4.dcm" not in records
    assert b"x.tar!/2.dcm" not in records
    del server.objects["study/1/1.dcm"]
    server.objects["study/1/3.dcm"] = image(3, 3)
    report = mmindex.update(URL, ["1"], index, store=store)
    assert counts(report) == (24, 1, 23, 1)
    assert report.requests


@pytest.mark.parametrize("key", ["../x", "a/../../b", "s3://other/a", "a//b", b"\xff.dcm", "./a"])
def test_an_update_refuses_keys_outside(tmp_path: Path, server: S3Server, key: str) -> None:
    """Nothing is asked of the store for a key that cannot be below the root."""
    with pytest.raises(IndexWriteError, match="expected a key below s3://archive/study"):
        mmindex.update(URL, [key], tmp_path / "index", store=server.connect())
    assert not server.requests


@pytest.mark.parametrize(
    ("url", "more", "message"),
    [
        (URL, {"index": None}, "name the index"),
        (URL, {"index": "s3://archive/i"}, "local file"),
        (URL + "?X-Amz-Signature=abc", {}, "without a query"),
        (URL, {"follow_links": False}, "no links"),
        (URL, {"one_file_system": True}, "no links"),
        (URL, {"ignore_inode": True}, "for a folder"),
        (URL, {"moved_from": "old"}, "for a folder"),
        (URL, {"concurrency": 0}, "at least 1"),
    ],
)
def test_arguments_without_meaning_are_refused(
    tmp_path: Path, url: str, more: dict[str, Any], message: str
) -> None:
    """Before a request, and no index is left behind."""
    with pytest.raises(ValueError, match=message) as caught:
        mmindex.build(url, **{"index": tmp_path / "index", **more}, store=stores.MemoryStore())
    assert "abc" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="are for a URL"):
        mmindex.build(tmp_path, concurrency=3)


def test_no_credentials_are_kept(tmp_path: Path) -> None:
    """The index, the report and errors have the URL without a user's name and password."""
    store = stores.MemoryStore()
    obstore.put(store, "a/1.dcm", image(1))
    index = tmp_path / "index"
    report = mmindex.build("memory://user:geheim@host/a/", index, store=store)
    assert report.root == "memory://host/a"
    assert b"geheim" not in index.read_bytes()
    assert report.scanned == 1


def test_an_index_belongs_to_one_url(tmp_path: Path) -> None:
    """That of another prefix, or of a folder, is not overwritten."""
    store, index = stores.MemoryStore(), tmp_path / "index"
    obstore.put(store, "a/1.dcm", image(1))
    mmindex.build("memory://x/a", index, store=store)
    with pytest.raises(IndexWriteError, match="memory://x/a"):
        mmindex.build("memory://x/b", index, store=store)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IndexWriteError, match="memory://x/a"):
        mmindex.build(tmp_path / "folder", index)


def test_web_servers_are_not_listed_but_updated(tmp_path: Path) -> None:
    """Names of files have to be given."""
    from sources.range_server import RangeServer

    with RangeServer() as server:
        server.objects.update({"/a/1.dcm": image(1), "/a/2 x.dcm": image(2), "/3.dcm": image(3)})
        with pytest.raises(RemoteReadError, match="--files-from"):
            mmindex.build(f"{server.url}/a", tmp_path / "index")
        report = mmindex.update(
            f"{server.url}/a",
            ["1.dcm", f"{server.url}/a/2%20x.dcm", "none.dcm"],
            tmp_path / "index",
        )
        assert counts(report) == (2, 2, 0, 0)
        server.objects["/a/1.dcm"] = image(1, 4)
        del server.objects["/a/2 x.dcm"]
        report = mmindex.update(f"{server.url}/a", ["1.dcm", "2 x.dcm"], tmp_path / "index")
        assert counts(report) == (1, 1, 0, 1)


KILLED = """
import os, signal, sys
import mmindex
import mmindex.update.build
from obstore.store import S3Store
store = S3Store("archive", endpoint=sys.argv[1], region="us-east-1", access_key_id="key",
                secret_access_key="secret", client_options={"allow_http": True})
commits = sys.modules['mmindex.update.commits']
commits._COMMIT_FILES = 100
def kill(report):
    if report.scanned >= 600:
        os.kill(os.getpid(), signal.SIGKILL)
mmindex.build("s3://archive/study", sys.argv[2], store=store, progress=kill)
"""


def test_a_build_that_was_killed_goes_on(tmp_path: Path, server: S3Server) -> None:
    """What was committed before kill -9 is not read again."""
    for number in range(1000):
        server.objects[f"study/{number}.dcm"] = image(number)
    index = tmp_path / "index"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, server.url, str(index)],
        cwd=Path(__file__).resolve().parents[2],
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    kept = len(records_of(index))
    assert 500 <= kept < 1000
    server.requests.clear()
    report = mmindex.build(URL, index, store=server.connect())
    assert counts(report) == (1000, 1000 - kept, kept, 0)
    assert server.count("GET") == 1000 - kept
    assert len(records_of(index)) == 1000


@pytest.mark.parametrize("kind", ["threads", "spawn", "fork"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_executors_scan_objects(tmp_path: Path, server: S3Server, kind: str) -> None:
    """A store pickles; processes that were forked, in which obstore hangs, are not waited for."""
    for number in range(600):
        server.objects[f"study/{number}.dcm"] = image(number)
    store = server.connect()
    executor: Any = ThreadPoolExecutor(2)
    if kind != "threads":
        executor = ProcessPoolExecutor(1, mp_context=get_context(kind))
    with executor:
        report = mmindex.build(URL, tmp_path / "index", store=store, executor=executor)
    assert report.statuses == {"indexed": 600}
    records = records_of(tmp_path / "index")
    assert {record.sop_instance_uid for record in records.values()} == {
        f"1.{number}" for number in range(600)
    }


def test_indexes_of_prefixes_are_merged(tmp_path: Path, server: S3Server) -> None:
    """Into one of what they share of the URL; those of other buckets or of folders are refused."""
    store = server.connect()
    for number, key in enumerate(["a/x/1.dcm", "a/y/2.dcm", "ab/3.dcm"]):
        server.objects[key] = image(number)
    for prefix in ("a/x", "a/y", "ab"):
        mmindex.build(f"s3://archive/{prefix}", tmp_path / prefix.replace("/", "-"), store=store)
    one = mmindex.merge(tmp_path / "one", [tmp_path / "a-x", tmp_path / "a-y"])
    assert one.root == "s3://archive/a"
    assert records_of(tmp_path / "one").keys() == {b"x/1.dcm", b"y/2.dcm"}
    two = mmindex.merge(tmp_path / "two", [tmp_path / "one", tmp_path / "ab"])
    assert two.root == "s3://archive"
    with mmindex.open(tmp_path / "two", store=store) as archive:
        assert archive.frame("1.1", 0) == server.objects["a/y/2.dcm"][-4:]
        assert archive.frame("1.2", 0) == server.objects["ab/3.dcm"][-4:]
    assert counts(mmindex.build("s3://archive", tmp_path / "two", store=store)) == (3, 0, 3, 0)
    (tmp_path / "folder").mkdir()
    mmindex.build(tmp_path / "folder", tmp_path / "local")
    mmindex.build("s3://other/a", tmp_path / "other", store=store)
    for wrong in ("local", "other"):
        with pytest.raises(IndexWriteError, match="one bucket"):
            mmindex.merge(tmp_path / "three", [tmp_path / "ab", tmp_path / wrong])
        with pytest.raises(IndexWriteError, match="not under"):
            mmindex.merge(tmp_path / "two", [tmp_path / wrong])


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_container_in_a_bucket_costs_its_headers(
    tmp_path: Path, server: S3Server, kind: str
) -> None:
    """A request for each header of tar, some for the directory of zip, and one for each file."""
    files = [
        (f"{number}.dcm", native(f"1.{number}", [b"%04d" % number] * 100_000))
        for number in range(40)
    ]
    data = WRITERS[kind](files)
    server.objects["study/x"] = data
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert report.scanned == 41
    assert server.count("GET") <= (85 if kind == "tar" else 90)
    assert server.received("study/x") <= 41 * (1 << 16) + 40 * 512 + (1 << 17)
    assert server.received("study/x") < len(data) / 4
    with mmindex.open(index, store=store) as archive:
        for number in (0, 17, 39):
            assert archive.frame(f"1.{number}", 99_999) == b"%04d" % number


def test_small_files_of_a_container_cost_few_requests_to_walk(
    tmp_path: Path, server: S3Server
) -> None:
    """Near headers are read together."""
    for kind in ("tar", "zip"):
        server.objects[f"study/x.{kind}"] = WRITERS[kind](
            [(f"{number}.dcm", image(number)) for number in range(500)]
        )
    index, store = tmp_path / "index", server.connect()
    report = mmindex.build(URL, index, store=store)
    assert report.scanned == 1002
    assert server.count("GET") <= 1000 + 80


def test_keys_that_begin_with_a_slash_are_no_other_objects(
    tmp_path: Path, server: S3Server
) -> None:
    """They are listed without it: such a record is of the object without it, or of none."""
    server.objects.update({"/1.dcm": image(1), "1.dcm": image(2), "/3.dcm": image(3)})
    index, store = tmp_path / "index", server.connect()
    for _ in range(2):
        mmindex.build("s3://archive", index, store=store)
        records = records_of(index)
        assert records[b"1.dcm"].sop_instance_uid == "1.2"
        assert records[b"3.dcm"].status is Status.UNREADABLE
    with mmindex.open(index, store=store) as archive:
        assert archive.frame("1.2", 0) == image(2)[-4:]


def test_a_store_without_prefix_is_built(tmp_path: Path) -> None:
    """A URL may be a scheme alone where the store is given."""
    store, index = stores.MemoryStore(), tmp_path / "index"
    obstore.put(store, "a/1.dcm", image(1))
    assert mmindex.build("memory://", index, store=store).root == "memory://"
    with mmindex.open(index, store=store) as archive:
        assert archive.frame("1.1", 0) == image(1)[-4:]


def test_deep_keys_are_left_out_with_their_folders(tmp_path: Path) -> None:
    """However many folders they are in."""
    store, index = stores.MemoryStore(), tmp_path / "index"
    deep = "/".join("d" * 1000)
    obstore.put(store, f"{deep}/x/1.dcm", image(1))
    obstore.put(store, f"{deep}/y/2.dcm", image(2))
    mmindex.build("memory://x", index, store=store, exclude=["x"])
    assert records_of(index).keys() == {f"{deep}/y/2.dcm".encode()}


def test_signatures_are_in_no_problem_and_no_index(tmp_path: Path) -> None:
    """A token of Azure's is in the query of each request, and a store's errors name requests."""
    from sources.range_server import RangeServer

    with RangeServer() as server:
        account = stores.AzureStore(
            "box",
            account_name="account",
            sas_key="sv=2024-01-01&sig=geheim",
            endpoint=server.url,
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        server.faults = lambda path: "status 403"
        index = tmp_path / "index"
        with pytest.raises(RemoteReadError) as caught:
            mmindex.build("az://box", index, store=account)
        assert "geheim" not in str(caught.value)
        version = Fingerprint(100, 0, 1, VersionKind.REMOTE)
        with pytest.raises(RemoteReadError) as caught:
            Bucket("az://box", store=account).open(b"a.dcm", version).read(0, 9)
        assert "403" in str(caught.value)
        assert "geheim" not in str(caught.value)
    assert b"geheim" not in index.read_bytes()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("GET https://h/a?sig=x in 3 s - 403", "GET https://h/a in 3 s - 403"),
        ("(https://user:pw@h/a?b=c) refused\nmore", "(https://h/a) refused"),
        ("no URL? none", "no URL? none"),
    ],
)
def test_errors_of_stores_lose_their_secrets(message: str, expected: str) -> None:
    """Queries, users and passwords; the rest stays."""
    assert describe_error(OSError(message)) == expected


def test_the_url_of_an_object_is_no_root(tmp_path: Path, server: S3Server) -> None:
    """Below it nothing lies; an empty prefix is an empty archive."""
    server.objects["study/a.dcm"] = image(1)
    store = server.connect()
    with pytest.raises(MissingFileError, match="last slash"):
        mmindex.build(f"{URL}/a.dcm", tmp_path / "index", store=store)
    assert mmindex.build(f"{URL}/none", tmp_path / "other", store=store).found == 0


# Offset tables of objects.


def slide(frames: list[bytes], bot: list[int]) -> bytes:
    """Return a file of frames with a Basic Offset Table."""
    attributes = image_attributes(number_of_frames=len(frames))
    return dicom_file(identified(attributes, "1.2") + encapsulate(frames, bot=bot), JPEG_2000)


def tiles(count: int) -> tuple[list[bytes], list[int]]:
    """Return frames of 10 kB and the entries of their offset table."""
    frames = [b"\xff\x4f" + at.to_bytes(4) * 2_499 + b"ab" for at in range(count)]
    return frames, [at * 10_008 for at in range(count)]


def test_a_slide_with_a_table_is_built_by_few_requests(tmp_path: Path) -> None:
    """Not proved unless asked: under 1 MiB and ten requests, the listing among them."""
    frames, bot = tiles(7_000)
    data = slide(frames, bot)
    assert len(data) > 1 << 26
    with S3Server() as server:
        server.objects["study/s.dcm"] = data
        store, index = server.connect(), tmp_path / "index"
        report = mmindex.build("s3://archive/study", index, store=store)
        assert report.statuses == {"indexed": 1}
        assert report.requests <= 10
        assert report.received == server.received("study/s.dcm") < 1 << 20
        with mmindex.open(index, store=store) as archive:
            (uid,) = archive
            (record,) = archive.records()
            assert record.frames is not None
            assert record.frames.layout is Layout.TRUSTED
            server.requests.clear()
            assert archive.frame(uid, 4_321) == frames[4_321]
            assert [request.kind for request in server.requests] == ["GET"]
        server.requests.clear()
        report = mmindex.update("s3://archive/study", ["s.dcm"], tmp_path / "other", store=store)
        assert report.scanned == 1
        assert server.received("study/s.dcm") < 1 << 20
        report = mmindex.build("s3://archive/study", index, store=store, full=True, prove=True)
        assert report.received > 1 << 26
        with mmindex.open(index, store=store) as archive:
            (record,) = archive.records()
            assert record.frames is not None
            assert record.frames.layout is not Layout.TRUSTED
            assert archive.frame(uid, 4_321) == frames[4_321]


@pytest.mark.parametrize("shift", [-8, 2, 8, 10_008])
def test_a_wrong_entry_of_an_index_of_a_bucket_is_never_a_wrong_frame(
    tmp_path: Path, shift: int
) -> None:
    """The index keeps that a table was not proved: each read of a frame checks its entry."""
    frames, bot = tiles(300)
    wrong = 123
    bot[wrong] += shift
    data = slide(frames, bot)
    with S3Server() as server:
        server.objects["study/s.dcm"] = data
        store, index = server.connect(), tmp_path / "index"
        report = mmindex.build("s3://archive/study", index, store=store)
        if shift == 10_008:  # two entries are the same: the order of all is checked
            assert report.received > len(data) // 2
        else:
            assert report.received < 1 << 20
        with mmindex.open(index, store=store) as archive:
            (uid,) = archive
            for at in (wrong - 2, wrong + 1):
                assert archive.frame(uid, at) == frames[at]
            for at in (wrong - 1, wrong):
                if report.received > 1 << 20:  # all was looked at
                    assert archive.frame(uid, at) == frames[at]
                    continue
                with pytest.raises(FormatError, match=r"entry of frame .* full=True, prove=True"):
                    archive.frame(uid, at)
                with pytest.raises(FormatError, match="is wrong"):
                    archive.frames([(uid, at)])
