"""An object store and a web server of others, on loopback: SeaweedFS over S3, and nginx."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from container_bytes import native, write_tar
from dicom_bytes import JPEG_2000, element, encapsulated_file
from sources.real_servers import NotInstalledError, run_nginx, run_seaweedfs
from sources.source_conformance import CONTENT, SourceConformance

import mmindex
from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.sources.base import ByteSource, FoundFile
from mmindex.sources.bucket import Bucket
from mmindex.sources.object_store import ObjectSource, open_url
from mmindex.sources.requests import Request, watching

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")


UID = element(0x00080018, "UI", "1.2.3")
FRAMES = [b"\xff\x4f" + random.Random(at).randbytes(20_000) for at in range(60)]
SLIDE = encapsulated_file(
    FRAMES, len(FRAMES), JPEG_2000, bot=[at * 20_010 for at in range(len(FRAMES))]
)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a bucket of SeaweedFS, as a store of obstore."""
    with ExitStack() as stack:
        try:
            store, _ = stack.enter_context(run_seaweedfs(tmp_path_factory.mktemp("weed")))
        except NotInstalledError as error:
            pytest.skip(str(error))
        yield store


class TestSeaweedFS(SourceConformance):
    """S3 with ETags and If-Match."""

    @pytest.fixture
    def source(self, bucket: Any) -> ByteSource:
        self.store = bucket
        obstore.put(bucket, "a b/ü%20#.dcm", CONTENT)
        return ObjectSource(bucket, "a b/ü%20#.dcm", "s3://archive/a b/ü%20#.dcm", None, 0.0)

    def change(self, source: ByteSource, folder: Path) -> None:
        obstore.put(self.store, "a b/ü%20#.dcm", CONTENT[::-1])

    def shorten(self, source: ByteSource, folder: Path) -> None:
        obstore.put(self.store, "a b/ü%20#.dcm", CONTENT[:1000])

    def remove(self, source: ByteSource, folder: Path) -> None:
        obstore.delete(self.store, "a b/ü%20#.dcm")


def test_a_bucket_of_s3_is_walked_and_read(bucket: Any) -> None:
    """The listing's versions are those of the responses: so an unchanged bucket stays known."""
    for number in range(30):
        obstore.put(bucket, f"walk/{number}.dcm", SLIDE)
    root = Bucket("s3://archive", store=bucket)
    found = {
        file.path: file.fingerprint
        for file in root.walk()
        if isinstance(file, FoundFile) and file.path.startswith(b"walk/")
    }
    assert len(found) == 30
    for path, version in found.items():
        assert root.open(path).version == version
        assert root.open(path, version).read(0, len(SLIDE)) == SLIDE
    with mmindex.open_file("s3://archive/walk/5.dcm", store=bucket) as instance:
        assert list(instance) == FRAMES
        obstore.put(bucket, "walk/5.dcm", SLIDE[:-8])
        with pytest.raises(StaleIndexError):
            instance.frame(0)
    with pytest.raises(MissingFileError):
        mmindex.open_file("s3://archive/walk/none.dcm", store=bucket)


def test_a_bucket_of_s3_is_built(bucket: Any, tmp_path: Path) -> None:
    """1,200 objects on two pages, odd keys among them; then some that changed, came and went."""
    local, url = tmp_path / "local", "s3://archive/built"
    names = [f"{number % 5}/{number}.dcm" for number in range(1200)]
    names += ["a b.dcm", "a%20b.dcm", "größe/ü.dcm", "q&x+y=.dcm", "a/x.tar"]
    for number, name in enumerate(names):
        data = native(f"1.{number}", [struct.pack("<I", number)])
        if name.endswith(".tar"):
            data = write_tar([("1.dcm", native("2.1")), ("2.dcm", native("2.2", [b"wxyz"]))])
        path = local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        obstore.put(bucket, f"built/{name}", data)
    index = tmp_path / "index"

    def check() -> None:
        mmindex.build(local, tmp_path / "local-index", workers=1)
        with (
            mmindex.open(index, store=bucket) as remote,
            mmindex.open(tmp_path / "local-index") as archive,
        ):
            remote.check_index()
            assert {record.location for record in remote.records()} == {
                record.location for record in archive.records()
            }
            pairs = [(uid, 0) for uid in archive]
            assert remote.frames(pairs) == archive.frames(pairs)

    report = mmindex.build(url, index, store=bucket)
    assert (report.found, report.scanned, report.problem_count) == (1207, 1207, 0)
    check()
    report = mmindex.build(url, index, store=bucket)
    assert (report.scanned, report.removed, report.received) == (0, 0, 0)
    assert report.requests <= 3
    for name in names[:20]:
        (local / name).unlink()
        obstore.delete(bucket, f"built/{name}")
    for number, name in enumerate([*names[20:40], "new/1.dcm", "new/2.dcm"]):
        data = native(f"3.{number}", [b"%04d" % number])
        (local / name).parent.mkdir(exist_ok=True)
        (local / name).write_bytes(data)
        obstore.put(bucket, f"built/{name}", data)
    report = mmindex.build(url, index, store=bucket)
    assert (report.scanned, report.removed) == (22, 20)
    check()
    obstore.delete(bucket, "built/new/1.dcm")
    (local / "new/1.dcm").unlink()
    report = mmindex.update(url, ["new"], index, store=bucket)
    assert (report.found, report.removed) == (1, 1)
    check()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Yield the URL of nginx, and the folder that it serves."""
    with ExitStack() as stack:
        try:
            folder = tmp_path_factory.mktemp("nginx")
            served = stack.enter_context(run_nginx(folder, folder / "access"))
        except NotInstalledError as error:
            pytest.skip(str(error))
        yield served


class TestNginx(SourceConformance):
    """A web server whose ETag is the time and the size of a file."""

    @pytest.fixture
    def source(self, site: tuple[str, Path]) -> ByteSource:
        url, served = site
        self.file = served / "a b.dcm"
        self.file.write_bytes(CONTENT)
        os.utime(self.file, (9, 9))
        return open_url(f"{url}/a%20b.dcm", revalidate_after=0)

    def change(self, source: ByteSource, folder: Path) -> None:
        self.file.write_bytes(CONTENT[::-1])
        os.utime(self.file, (5, 5))

    def shorten(self, source: ByteSource, folder: Path) -> None:
        self.file.write_bytes(CONTENT[:1000])

    def remove(self, source: ByteSource, folder: Path) -> None:
        self.file.unlink()


def test_nginx_serves_frames(site: tuple[str, Path]) -> None:
    """Frames by range of a file on a web server."""
    url, served = site
    (served / "slide.dcm").write_bytes(SLIDE)
    with mmindex.open_file(f"{url}/slide.dcm") as instance:
        assert instance.frames() == FRAMES
        assert instance.frame(59) == FRAMES[59]


# What is read, as others count.


def random_tiles(instance: mmindex.Instance, frames: list[bytes]) -> tuple[list[Request], int]:
    """Read 1,000 random tiles; return the requests, and the bytes of the tiles."""
    requests: list[Request] = []
    wanted = random.Random(3).sample(range(len(frames)), 1000)
    with watching(requests.append):
        assert instance.frames(wanted) == [frames[at] for at in wanted]
    return requests, sum(len(frames[at]) for at in wanted)


def test_tiles_of_s3_are_few_requests(bucket: Any, tmp_path: Path) -> None:
    """The first tile is 1 GET; 1,000 are at most 1,000 GETs and 1.05 times their bytes."""
    frames = [b"\xff\x4f" + random.Random(at).randbytes(9_998) for at in range(3000)]
    data = encapsulated_file(
        frames, len(frames), JPEG_2000, bot=[at * 10_008 for at in range(len(frames))], before=UID
    )
    obstore.put(bucket, "tiles/slide.dcm", data)
    report = mmindex.build("s3://archive/tiles", tmp_path / "index", store=bucket)
    assert report.requests <= 20
    assert report.received < 1 << 18
    requests: list[Request] = []
    with mmindex.open(tmp_path / "index", store=bucket) as archive:
        with watching(requests.append):
            assert archive.frame("1.2.3", 77) == frames[77]
        assert len(requests) == 1
        requests, wanted = random_tiles(archive["1.2.3"], frames)
        assert len(requests) <= 1000
        assert sum(each.length for each in requests) <= 1.05 * wanted


def read_log(path: Path) -> list[tuple[str, int, int]]:
    """Return method, status and bytes of each request that nginx has answered."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return [(method, int(status), int(length)) for method, status, length in lines]


def test_a_slide_of_1_gb_on_a_web_server(site: tuple[str, Path]) -> None:
    """With an offset table: under 1 MiB and ten requests, as the server's own log counts."""
    url, served = site
    stride, count = 10_008, 110_000
    head = encapsulated_file(
        [], count, JPEG_2000, bot=[at * stride for at in range(count)], delimiter=b""
    )
    item = b"\xfe\xff\x00\xe0" + struct.pack("<I", stride - 8) + b"\xff\x4f\xff\x51"
    with (served / "large.dcm").open("wb") as file:  # holes but for the items
        file.write(head)
        for at in range(count):
            file.seek(len(head) + at * stride)
            file.write(item)
        file.seek(len(head) + count * stride)
        file.write(b"\xfe\xff\xdd\xe0\0\0\0\0")
    assert (served / "large.dcm").stat().st_size > 10**9
    log = served.parent / "access"
    log.write_text("")
    with mmindex.open_file(f"{url}/large.dcm") as instance:
        assert len(instance) == count
        requests = read_log(log)
        assert len(requests) <= 10
        assert sum(length for _, _, length in requests) < 1 << 20
        log.write_text("")
        assert instance.frame(99_999)[:4] == b"\xff\x4f\xff\x51"
        ((method, status, length),) = read_log(log)
        assert (method, status) == ("GET", 206)
        assert length <= stride + 64
    (served / "large.dcm").unlink()
