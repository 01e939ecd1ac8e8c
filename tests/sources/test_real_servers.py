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
from dicom_bytes import JPEG_2000, encapsulated_file
from sources.real_servers import NotInstalledError, run_nginx, run_seaweedfs
from sources.source_conformance import CONTENT, SourceConformance

import mmindex
from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.sources.base import ByteSource, FoundFile
from mmindex.sources.bucket import Bucket
from mmindex.sources.object_store import ObjectSource, open_url

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")


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
            served = stack.enter_context(run_nginx(tmp_path_factory.mktemp("nginx")))
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
