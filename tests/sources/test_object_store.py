"""Objects of stores and web servers: right bytes or an error, and how many requests they cost."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from dicom_bytes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    native_file,
)
from sources.loopback import patient
from sources.range_server import RangeServer, at_random
from sources.source_conformance import CONTENT, SIZE, SourceConformance

import mmindex
from mmindex.errors import (
    FormatError,
    MissingFileError,
    MMIndexError,
    NotDicomError,
    RemoteReadError,
    StaleIndexError,
)
from mmindex.frame_table import ByteRange, Layout
from mmindex.model import Fingerprint, VersionKind
from mmindex.scan.instance import scan
from mmindex.sources.base import ByteSource, FoundFile
from mmindex.sources.bucket import Bucket
from mmindex.sources.object_store import ObjectSource, open_url
from mmindex.sources.object_version import version_of
from mmindex.sources.remote_scan import scan_remote
from mmindex.sources.stores import make_store

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server
    make_store.cache_clear()  # connections that are kept open


def connect(server: RangeServer, *, retries: int = 8) -> Any:
    """Return a store that retries within milliseconds."""
    return stores.HTTPStore(server.url, **patient(retries))


class TestMemory(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        self.store = stores.MemoryStore()
        obstore.put(self.store, "a/b.dcm", CONTENT)
        return ObjectSource(self.store, "a/b.dcm", "memory:///a/b.dcm", None, 0.0)

    def change(self, source: ByteSource, folder: Path) -> None:
        obstore.put(self.store, "a/b.dcm", CONTENT[::-1])

    def shorten(self, source: ByteSource, folder: Path) -> None:
        obstore.put(self.store, "a/b.dcm", CONTENT[:1000])

    def remove(self, source: ByteSource, folder: Path) -> None:
        obstore.delete(self.store, "a/b.dcm")


class TestHTTP(SourceConformance):
    """A web server with ETags that honours If-Match."""

    e_tags, honours_if_match = True, True

    @pytest.fixture
    def source(self, server: RangeServer) -> ByteSource:
        self.server = server
        server.e_tags, server.honours_if_match = self.e_tags, self.honours_if_match
        server.objects["/a b/ü%20#.dcm"] = CONTENT
        return open_url(f"{server.url}/a%20b/%C3%BC%2520%23.dcm", revalidate_after=0)

    def change(self, source: ByteSource, folder: Path) -> None:
        self.server.objects["/a b/ü%20#.dcm"] = CONTENT[::-1]
        self.server.modified += 5

    def shorten(self, source: ByteSource, folder: Path) -> None:
        self.server.objects["/a b/ü%20#.dcm"] = CONTENT[:1000]

    def remove(self, source: ByteSource, folder: Path) -> None:
        del self.server.objects["/a b/ü%20#.dcm"]


class TestHTTPWithoutIfMatch(TestHTTP):
    """The ETag of each response is compared."""

    honours_if_match = False


class TestHTTPWithoutETags(TestHTTP):
    """Size and time of each response are compared."""

    e_tags = False


# Versions.


def test_a_version_is_size_time_and_e_tag(server: RangeServer) -> None:
    """A version from elsewhere is believed only as far as responses agree."""
    server.objects["/a"] = CONTENT
    store = connect(server)
    version = open_url(f"{server.url}/a").version
    assert version.size == SIZE
    assert version.mtime_ns == 1_700_000_000_000_000_000
    assert 0 < version.inode < 1 << 63
    assert version.kind == VersionKind.REMOTE

    def read(version: Fingerprint) -> bytes:
        return ObjectSource(store, "a", "a", version).read(5, 5)

    assert read(version) == CONTENT[5:10]
    assert read(version._replace(mtime_ns=5)) == CONTENT[5:10]  # the ETag is enough
    assert read(version._replace(inode=0)) == CONTENT[5:10]
    for other in (
        version._replace(size=SIZE + 1),
        version._replace(inode=version.inode ^ 1),
        version._replace(inode=0, mtime_ns=5),
    ):
        with pytest.raises(StaleIndexError, match=r"expected \d+ bytes of .*ETag .*, found"):
            read(other)


def test_a_listing_and_a_response_give_one_version() -> None:
    """A listing has milliseconds and bare ETags, which responses have not."""
    from datetime import datetime

    listed = datetime(2024, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    answered = listed.replace(microsecond=0)
    versions = {
        version_of({"size": 5, "last_modified": moment, "e_tag": e_tag})
        for moment in (listed, answered)
        for e_tag in ('"abc"', "abc")
    }
    assert len(versions) == 1


def test_a_proxy_may_weaken_the_e_tag_of_a_listing(server: RangeServer) -> None:
    """The listing's ETag is strong, the response's weak: they are one where the time is one."""
    server.objects["/a"] = CONTENT
    version = ObjectSource(connect(server), "a", "a").version
    server.e_tag_prefix = "W/"
    source = ObjectSource(connect(server), "a", "a", version)
    assert source.read(5, 5) == CONTENT[5:10]
    server.modified += 5
    with pytest.raises(StaleIndexError):
        source.read(5, 5)


def test_a_changed_object_is_never_mixed_with_the_old(server: RangeServer) -> None:
    """A body that breaks off is not gone on with from another object, whatever If-Match does."""
    server.objects["/a"] = CONTENT
    source = ObjectSource(connect(server), "a", "a")
    for second in ("other", "other unnoticed"):
        server.objects["/a"] = CONTENT
        answers = iter(["cut", second, ""])
        server.faults = lambda path, answers=answers: next(answers, "")
        with pytest.raises((StaleIndexError, RemoteReadError)):
            source.read(0, SIZE)


# Failures.


@pytest.mark.parametrize("fault", ["status 429", "status 500", "status 503", "cut", "reset"])
def test_what_passes_is_retried(server: RangeServer, fault: str) -> None:
    """One failure, and a later answer is the right one."""
    server.objects["/a"] = CONTENT
    source = ObjectSource(connect(server), "a", "a")
    answers = iter([fault, fault])
    server.faults = lambda path: next(answers, "")
    if fault == "status 429":
        with pytest.raises(RemoteReadError):
            ObjectSource(connect(server, retries=0), "a", "a").read(5, 500)
    assert source.read(5, 500) == CONTENT[5:505]


@pytest.mark.parametrize("fault", ["status 403", "status 503", "cut", "reset"])
def test_what_stays_is_an_error_that_says_so(server: RangeServer, fault: str) -> None:
    """The error has the URL, and ends after a bounded number of retries."""
    server.objects["/a"] = CONTENT
    source = ObjectSource(connect(server, retries=3), "a", f"{server.url}/a")
    server.faults = lambda path: fault
    with pytest.raises(RemoteReadError, match=r"http://.*/a") as caught:
        source.read(5, 500)
    assert isinstance(caught.value, OSError)
    assert type(pickle.loads(pickle.dumps(caught.value))) is RemoteReadError
    assert len(server.served) <= 9
    if fault == "status 503":
        assert "after 3 retries" in str(caught.value)


@pytest.mark.parametrize("status", [403, 412, 429, 500])
@pytest.mark.parametrize("lasts", [True, False], ids=["always", "once"])
def test_a_refused_question_for_the_version_is_one_error(
    server: RangeServer, status: int, lasts: bool
) -> None:
    """Such a question names no ETag, so that 412 to it says nothing of a change."""
    server.objects["/a"] = CONTENT
    url = f"{server.url}/a"
    known = ObjectSource(connect(server, retries=0), "a", url)
    server.head_statuses = repeat(status) if lasts else iter([status])
    with pytest.raises(RemoteReadError, match=url):
        ObjectSource(connect(server, retries=0), "a", url)
    assert [one.status for one in server.served] == [200, status]
    server.head_statuses = repeat(status) if lasts else iter([status])
    with pytest.raises(RemoteReadError, match=url):
        known.check()
    assert [one.status for one in server.served] == [200, status, status]


def test_a_changed_object_is_stale_where_the_question_is_refused_too(server: RangeServer) -> None:
    """A server that answers 412 to a read and to HEAD is asked once, and the read is stale."""
    server.objects["/a"] = CONTENT
    source = ObjectSource(connect(server, retries=0), "a", "a")
    server.objects["/a"] = CONTENT[::-1]
    server.head_statuses = repeat(412)
    with pytest.raises(StaleIndexError, match="the object changed"):
        source.read(5, 500)
    assert [one.status for one in server.served] == [200, 412, 412]


def test_a_server_that_ignores_ranges_is_an_error(server: RangeServer) -> None:
    """The whole object is never downloaded in silence."""
    server.objects["/a"] = CONTENT * 100
    source = ObjectSource(connect(server), "a", "a")
    server.faults = lambda path: "whole"
    for read in (lambda: source.read(5, 5), lambda: mmindex.open_file(f"{server.url}/a")):
        with pytest.raises(RemoteReadError, match="a server that serves byte ranges"):
            read()


def test_a_missing_object_and_a_missing_server(server: RangeServer) -> None:
    """One is a FileNotFoundError, the other is not."""
    with pytest.raises(MissingFileError, match="the object is gone"):
        open_url(f"{server.url}/nothing")
    store = stores.HTTPStore(
        "http://127.0.0.1:9",
        client_options={"allow_http": True},
        retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=1)},
    )
    with pytest.raises(RemoteReadError):
        ObjectSource(store, "a", "a")


def test_reads_through_a_faulty_server_are_right_or_errors(server: RangeServer) -> None:
    """2,000 reads, a fifth of which meet a fault: none wrong, none short, none for ever."""
    server.objects["/a"] = CONTENT
    source = ObjectSource(connect(server), "a", "a")
    faults = ["status 503", "status 500", "cut", "reset", "whole", "status 404", "status 412"]
    server.faults = at_random(faults, 0.2, 7)

    def read(seed: int) -> bool:
        at = random.Random(seed)
        offset = at.randrange(SIZE)
        length = at.randrange(min(20_000, SIZE - offset) + 1)
        try:
            if seed % 4:
                return source.read(offset, length) == CONTENT[offset : offset + length]
            ranges = [ByteRange(offset, length), ByteRange(0, 9)]
            return source.read_many(ranges) == [CONTENT[offset : offset + length], CONTENT[:9]]
        except MMIndexError:
            return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(2000)))


def test_reads_of_an_object_that_changes_are_never_the_new_bytes(server: RangeServer) -> None:
    """Whichever request the change meets: the bytes that were indexed, or an error."""
    server.objects["/a"] = CONTENT
    server.honours_if_match = False
    source = ObjectSource(connect(server), "a", "a")
    server.faults = at_random(["other", "cut", "other unnoticed"], 0.3, 8)
    right = 0
    for seed in range(500):
        offset = random.Random(seed).randrange(SIZE - 9000)
        try:
            assert source.read(offset, 9000) == CONTENT[offset : offset + 9000]
            right += 1
        except MMIndexError:
            pass
    assert right > 20


FORKED = """
import os, sys
from mmindex.errors import RemoteReadError
from mmindex.sources.object_store import open_url
source = open_url(sys.argv[1])
child = os.fork()
if not child:
    try:
        source.read(0, 5)
    except RemoteReadError as error:
        os._exit(7 if "forked" in str(error) else 1)
    os._exit(2)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), source.read(0, 5))
"""


def test_a_forked_process_is_told_rather_than_left_waiting(server: RangeServer) -> None:
    """The threads that serve obstore do not outlive a fork."""
    server.objects["/a"] = b"hello world"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, f"{server.url}/a"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.split() == ["7", "b'hello'"], done.stderr


# Roots.


def test_a_bucket_is_walked_and_its_objects_opened() -> None:
    """Paths are relative to the URL; versions are those of the listing."""
    store = stores.MemoryStore()
    for number in range(2500):
        obstore.put(store, f"deep/{number}", b"%d" % number)
    bucket = Bucket("memory://bucket", store=store)
    found = [file for file in bucket.walk() if isinstance(file, FoundFile)]
    assert len(found) == 2500
    for path, version in found[::500]:
        source = bucket.open(path, version)
        assert source.read(0, source.size) == path.split(b"/")[1]
        assert source.name == f"memory://bucket/{path.decode()}"
    obstore.put(store, "deep/5", b"6")
    path, version = next(file for file in found if file.path == b"deep/5")
    with pytest.raises(StaleIndexError):
        bucket.open(path, version).read(0, 1)
    with pytest.raises(MissingFileError):
        bucket.open(b"deep/x", version).read(0, 1)


def test_a_server_that_lists_nothing_is_told(server: RangeServer) -> None:
    """A plain web server has no listing; its objects open by their paths all the same."""
    server.objects["/a/b"] = CONTENT
    bucket = Bucket(f"{server.url}/a/")
    with pytest.raises(RemoteReadError, match="no listing"):
        list(bucket.walk())
    assert bucket.open(b"b").read(3, 3) == CONTENT[3:6]


# Scans: as many requests as are needed, and the record of a scan of all bytes.

TILES = [b"\xff\x4f" + random.Random(at).randbytes(9_000 + at % 50 * 100) for at in range(3000)]


def offsets(frames: list[bytes]) -> list[int]:
    found, at = [], 0
    for frame in frames:
        found.append(at)
        at += 8 + len(frame)
    return found


def padded(frames: list[bytes]) -> list[bytes]:
    return [frame + b"\0" * (len(frame) % 2) for frame in frames]


def slide(*, table: bool) -> bytes:
    bot = offsets(padded(TILES)) if table else ()
    return encapsulated_file(padded(TILES), len(TILES), JPEG_2000, bot=bot)


def with_extended_table() -> bytes:
    frames = padded(TILES[:500])
    eot = extended_offset_table(offsets(frames), [len(frame) for frame in frames])
    return encapsulated_file(frames, len(frames), JPEG_2000, before=eot)


def deflated() -> bytes:
    value = random.Random(4).randbytes(400 * 400)
    data_set = image_attributes(rows=400, columns=400) + element(PIXEL_DATA, "OW", value)
    return deflated_file(data_set)


def fragmented(*, table: bool) -> bytes:
    pieces = [padded([tile[:4000], tile[4000:]]) for tile in TILES[:300]]
    flat = [piece for pair in pieces for piece in pair]
    bot = offsets(flat)[::2] if table else ()
    return encapsulated_file(flat, 300, JPEG_2000, bot=bot)


BIG_HEADER = element(0x00091010, "OB", bytes(700_000))
OBJECTS: dict[str, Callable[[], bytes]] = {
    "native": lambda: native_file(
        bytes(1000 * 1000 * 4), rows=1000, columns=1000, number_of_frames=4
    ),
    "native cut": lambda: native_file(
        bytes(1000 * 1000 * 4), rows=1000, columns=1000, number_of_frames=4
    )[:-1500_000],
    "slide with a table": lambda: slide(table=True),
    "slide without a table": lambda: slide(table=False),
    "slide cut": lambda: slide(table=False)[:-5_000_000],
    "slide with a table, cut": lambda: slide(table=True)[:-5_000_000],
    "extended offset table": with_extended_table,
    "fragments with a table": lambda: fragmented(table=True),
    "fragments without a table": lambda: fragmented(table=False),
    "large header": lambda: encapsulated_file(padded(TILES[:50]), 50, JPEG_2000, before=BIG_HEADER),
    "one large frame": lambda: encapsulated_file([b"\xff\x4f" + bytes(3_000_000)], 1, JPEG_2000),
    "few large frames": lambda: encapsulated_file(
        [b"\xff\x4f" + bytes(2_000_000)] * 8, 8, JPEG_2000
    ),
    "small": lambda: native_file(b"aaaabbbb", number_of_frames=2),
    "no pixel data": lambda: dicom_file(
        element(0x00080060, "CS", "SR") + BIG_HEADER, EXPLICIT_VR_LITTLE_ENDIAN
    ),
    "deflated": deflated,
    "elements after": lambda: encapsulated_file(
        padded(TILES[:50]), 50, JPEG_2000, after=element(0xFFFCFFFC, "OB", bytes(100_000))
    ),
    "table is wrong": lambda: encapsulated_file(
        padded(TILES[:300]), 300, JPEG_2000, bot=[at + 2 * (at > 9) for at in range(300)]
    ),
    "no DICOM file": lambda: bytes(5_000_000),
    "ambiguous": lambda: encapsulated_file([b"a1" * 50_000] * 5, 2, JPEG_2000),
    "empty": lambda: b"",
    "header that never ends": lambda: dicom_file(
        image_attributes() + element(0x00091010, "OB", bytes(300_000), length=900_000)
    ),
}


class Counting(ByteSource):
    """A source in memory that counts what is read."""

    gap = 1 << 20
    together = 16 << 20

    def __init__(self, data: bytes) -> None:
        self.name, self.size, self.version = "counted", len(data), None
        self.data = data
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.reads.append((offset, length))
        return self.data[offset : offset + length]

    def read_many(self, ranges: Any) -> list[bytes]:
        return [self.read(*piece) for piece in ranges]

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)


def outcome(run: Callable[[], object]) -> object:
    try:
        return run()
    except FormatError as error:
        return type(error), str(error)


@pytest.mark.parametrize("prove", [False, True])
@pytest.mark.parametrize("kind", OBJECTS)
def test_a_remote_scan_is_the_scan_of_all_bytes(kind: str, prove: bool) -> None:
    """Record or error are those of a buffer that holds the whole object; few bytes are read."""
    data = OBJECTS[kind]()

    def scan_buffer(buffer: Any) -> object:
        return scan(buffer, prove=prove)

    source = Counting(data)
    found = outcome(lambda: scan_remote(source, scan_buffer, prove=prove))  # type: ignore[arg-type]
    assert found == outcome(lambda: scan_buffer(data))
    assert source.bytes_read <= len(data)


@pytest.mark.parametrize(
    ("kind", "prove", "requests", "most"),
    [
        ("native", True, 2, 100_000),
        ("slide with a table", False, 18, 100_000),
        ("extended offset table", False, 18, 100_000),
        ("large header", False, 10, 1_300_000),
        ("one large frame", True, 6, 200_000),
        ("few large frames", True, 16, 4_500_000),
        ("no DICOM file", True, 1, 66_000),
    ],
)
def test_a_scan_reads_little(kind: str, prove: bool, requests: int, most: int) -> None:
    """Neither pixel data nor the items between samples are read."""
    source = Counting(OBJECTS[kind]())
    outcome(lambda: scan_remote(source, lambda buffer: scan(buffer, prove=prove), prove=prove))
    assert len(source.reads) <= requests
    assert source.bytes_read <= most


class Sparse(Counting):
    """A slide of 1 GB, of which only the header, the table and items are there."""

    def __init__(self, count: int) -> None:
        self.stride = 10_000
        value = encapsulated_file(
            [], count, JPEG_2000, bot=[at * self.stride for at in range(count)], delimiter=b""
        )
        self.head = value
        super().__init__(b"")
        self.size = len(value) + count * self.stride + 8

    def read(self, offset: int, length: int) -> bytes:
        self.reads.append((offset, length))
        assert 0 <= offset <= offset + length <= self.size
        item = b"\xfe\xff\x00\xe0" + (self.stride - 8).to_bytes(4, "little") + b"\xff\x4f\xff\x51"
        found = bytearray()
        for at in range(offset, offset + length):
            if at < len(self.head):
                found.append(self.head[at])
            elif at >= self.size - 8:
                found.append(b"\xfe\xff\xdd\xe0\0\0\0\0"[at - self.size + 8])
            else:
                within = (at - len(self.head)) % self.stride
                found.append(item[within] if within < len(item) else 7)
        return bytes(found)


def test_a_slide_of_1_gb_is_scanned_by_ten_requests_and_under_1_mib() -> None:
    """With its table of 100,000 entries; the record has every frame."""
    source = Sparse(100_000)
    assert source.size > 10**9
    record = scan_remote(source, lambda buffer: scan(buffer, prove=False), prove=False)
    assert record.frames is not None
    assert record.frames.layout is Layout.TRUSTED
    assert record.frames.frames_located == 100_000
    assert record.frames.span(99_999) == (len(source.head) + 99_999 * 10_000, 10_000)
    assert len(source.reads) <= 9  # and one asks for the object's size
    assert source.bytes_read < 1 << 20


@pytest.mark.long
def test_a_slide_over_http(server: RangeServer) -> None:
    """First frame of an indexed instance: 1 GET. 1,000 random tiles: few GETs, few bytes more."""
    server.objects["/slide.dcm"] = slide(table=True)
    with mmindex.open_file(f"{server.url}/slide.dcm", prove=False) as instance:
        assert instance.path == f"{server.url}/slide.dcm"
        assert server.bytes_served < 1 << 20
        version = instance.source.version
        assert isinstance(version, Fingerprint)
        record = instance.record
    frames = padded(TILES)
    bucket = Bucket(server.url)
    with mmindex.Instance(record, bucket.open(b"slide.dcm", version)) as instance:
        server.served.clear()
        assert instance.frame(77) == frames[77]
        assert [request.method for request in server.served] == ["GET"]
        server.served.clear()
        wanted = random.Random(3).sample(range(len(frames)), 1000)
        assert instance.frames(wanted) == [frames[at] for at in wanted]
        assert len(server.gets) <= 1000
        assert server.bytes_served <= 1.05 * sum(len(frames[at]) for at in wanted)
        server.served.clear()
        assert instance.frames() == frames
        assert len(server.gets) <= 4
        assert server.bytes_served <= 1.01 * len(server.objects["/slide.dcm"])
        server.objects["/slide.dcm"] = slide(table=False)
        with pytest.raises(StaleIndexError):
            instance.frame(5)


@pytest.mark.parametrize("kind", ["native", "slide without a table", "deflated", "large header"])
def test_open_file_of_a_url_reads_what_a_local_file_has(server: RangeServer, kind: str) -> None:
    """Frames, views and batches; a deflated data set is fetched once."""
    server.objects["/a"] = OBJECTS[kind]()
    with (
        mmindex.open_file(f"{server.url}/a") as remote,
        mmindex.open_file(server.objects["/a"]) as local,
    ):
        assert len(remote) == len(local)
        wanted = range(0, len(local), max(1, len(local) // 7))
        assert [remote.frame(at) for at in wanted] == [local.frame(at) for at in wanted]
        assert remote.frames(wanted) == local.frames(wanted)
        assert remote.view(0) == local.view(0)


def test_what_is_no_dicom_file_is_told_after_one_request(server: RangeServer) -> None:
    """The error has the URL."""
    server.objects["/a"] = bytes(5_000_000)
    with pytest.raises(NotDicomError, match=r"http://.*/a @0x80"):
        mmindex.open_file(f"{server.url}/a")
    assert len(server.gets) == 1
