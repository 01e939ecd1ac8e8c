"""Azure as Azurite has it, and Google Cloud Storage as fake-gcs-server has it, on loopback."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from container_bytes import native, write_tar
from sources.emulators import BUCKET, fetch_azurite, run_azurite, run_fake_gcs
from sources.real_servers import NotInstalledError
from sources.source_conformance import CONTENT, SourceConformance

import mmindex
from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.sources.base import ByteSource
from mmindex.sources.object_store import open_url
from mmindex.sources.stores import find_store

obstore = pytest.importorskip("obstore", reason="object stores need obstore")

KEY = "a b/ü%20#?.dcm"


class Cloud(NamedTuple):
    """A bucket at a URL of the environment, and how objects get there and away."""

    url: str
    environment: dict[str, str]
    put: Callable[[str, bytes], None]
    delete: Callable[[str], None]


@pytest.fixture(scope="module", params=["gs", pytest.param("az", marks=pytest.mark.long)])
def started(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp(request.param)
    url = f"{request.param}://{BUCKET}"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        try:
            if request.param == "gs":
                server = stack.enter_context(run_fake_gcs(folder))
                yield Cloud(url, server.environment, server.put, server.delete)
                return
            script = fetch_azurite(folder)
            environment = stack.enter_context(run_azurite(script, folder))
        except NotInstalledError as error:
            pytest.skip(str(error))
        for name, value in environment.items():
            patch.setenv(name, value)
        store: Any = find_store(url)
        yield Cloud(
            url,
            environment,
            lambda key, data: obstore.put(store, key, data),
            lambda key: obstore.delete(store, key),
        )


@pytest.fixture
def cloud(started: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """Return the bucket, with the environment as a user sets it."""
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    return started


class TestCloud(SourceConformance):
    """Azurite honours If-Match; fake-gcs-server does not, and its answers' ETags tell."""

    @pytest.fixture
    def source(self, cloud: Cloud) -> ByteSource:
        self.cloud = cloud
        cloud.put(KEY, CONTENT)
        return open_url(f"{cloud.url}/{KEY}", revalidate_after=0.0)

    def change(self, source: ByteSource, folder: Path) -> None:
        self.cloud.put(KEY, CONTENT[::-1])

    def shorten(self, source: ByteSource, folder: Path) -> None:
        self.cloud.put(KEY, CONTENT[:1000])

    def remove(self, source: ByteSource, folder: Path) -> None:
        self.cloud.delete(KEY)


def test_a_bucket_is_built_and_read(cloud: Cloud, tmp_path: Path) -> None:
    """1,100 objects, more than a page; then some that changed, came and went; an index read."""
    objects = {
        f"{number % 5}/{number}.dcm": native(f"1.{number}", [struct.pack("<I", number)])
        for number in range(1100)
    }
    objects["a b%20ü#?.dcm"] = native("2.0", [b"odd!"])
    objects["a/x.tar"] = write_tar([("1.dcm", native("2.1", [b"1111"]))])
    for name, data in objects.items():
        cloud.put(f"built/{name}", data)
    url, index = f"{cloud.url}/built", tmp_path / "index"
    report = mmindex.build(url, index)
    assert (report.found, report.scanned, report.problem_count) == (1102 + 1, 1102 + 1, 0)
    expected = {f"1.{number}": struct.pack("<I", number) for number in range(1100)}
    expected |= {"2.0": b"odd!", "2.1": b"1111"}
    with mmindex.open(index) as archive:
        assert dict.fromkeys(archive) == dict.fromkeys(expected)
        assert archive.frames([(uid, 0) for uid in expected]) == list(expected.values())
    report = mmindex.build(url, index)
    assert (report.scanned, report.removed, report.received) == (0, 0, 0)
    assert report.requests <= 3
    cloud.delete("built/1/1.dcm")
    cloud.put("built/2/2.dcm", native("1.2", [b"same"]))
    with mmindex.open(index) as archive:
        with pytest.raises(StaleIndexError):
            archive.frame("1.2", 0)
        with pytest.raises(MissingFileError):
            archive.frame("1.1", 0)
    cloud.put("built/new.dcm", native("3.0", [b"new!"]))
    report = mmindex.build(url, index)
    assert (report.scanned, report.removed) == (2, 1)
    with mmindex.open(index) as archive:
        assert archive.frames([("1.2", 0), ("3.0", 0)]) == [b"same", b"new!"]
