"""A build on a cluster: two worker processes of a real scheduler, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dicom_bytes import small_image

import mmindex
from mmindex.errors import MMIndexError
from mmindex.model import InstanceRecord

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[2]
COUNT = 1500


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and what is none, and the index of a serial build beside them."""
    folder = tmp_path_factory.mktemp("cluster")
    for number in range(COUNT):
        file = folder / "archive" / f"{number % 10}" / f"{number:04}.dcm"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(small_image(f"1.{number}", b"%04d" % number))
    (folder / "archive" / "text").write_bytes(b"no DICOM")
    (folder / "archive" / "cut").write_bytes(small_image("1.1", b"0001")[:200])
    mmindex.build(folder / "archive", folder / "serial", workers=1)
    return folder


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[distributed.LocalCluster]:
    """A scheduler and two worker processes that see the same files."""
    soon = {"distributed.comm.timeouts.connect": "2s"}  # when a worker's results died with it
    with (
        dask.config.set(soon),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # any port: the default one may be taken
            local_directory=str(tmp_path),
        ) as cluster,
    ):
        yield cluster


def read_records(index: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(index) as archive:
        return {record.path: record for record in archive.records()}


def test_build_on_a_cluster_equals_a_serial_one(
    archive: Path, tmp_path: Path, cluster: distributed.LocalCluster
) -> None:
    """By the API and by the command line; workers scan, this process alone writes."""
    serial = read_records(archive / "serial")
    with distributed.Client(cluster) as client:
        workers = client.run(os.getpid)
        assert len(set(workers.values()) - {os.getpid()}) == 2
        report = mmindex.build(
            archive / "archive", tmp_path / "api", executor=client.get_executor()
        )
    assert (report.found, report.scanned) == (COUNT + 2, COUNT + 2)
    assert report.statuses == {"indexed": COUNT, "not-dicom": 1, "unreadable": 1}
    assert read_records(tmp_path / "api") == serial

    command = [sys.executable, "-c", "from mmindex.cli import main; main(prog_name='mmindex')"]
    command += ["build", str(archive / "archive"), "--index", str(tmp_path / "command")]
    command += ["--dask", cluster.scheduler_address, "--json"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    described = json.loads(child.stdout)
    assert (described["scanned"], described["statuses"]) == (COUNT + 2, dict(report.statuses))
    assert [line for line in child.stderr.splitlines() if "cut: " not in line] == []
    assert read_records(tmp_path / "command") == serial


def test_worker_killed_in_mid_build_loses_no_file(
    archive: Path, tmp_path: Path, cluster: distributed.LocalCluster
) -> None:
    """What it was scanning is scanned by the other one, or by its successor."""
    killed: list[int] = []
    with distributed.Client(cluster) as client:
        workers = list(client.run(os.getpid).values())

        def kill_one(report: mmindex.BuildReport) -> None:
            if report.scanned and not killed:
                killed.append(report.scanned)
                os.kill(workers[0], signal.SIGKILL)

        report = mmindex.build(
            archive / "archive",
            tmp_path / "index",
            executor=client.get_executor(),
            progress=kill_one,
        )
        assert 0 < killed[0] < COUNT
    assert (report.found, report.scanned) == (COUNT + 2, COUNT + 2)
    assert read_records(tmp_path / "index") == read_records(archive / "serial")


def test_cluster_lost_in_mid_build_loses_nothing_that_was_scanned(
    archive: Path, tmp_path: Path, cluster: distributed.LocalCluster
) -> None:
    """The build ends by itself or with an error of its own; the next one does what is left."""
    lost: list[int] = []
    with distributed.Client(cluster) as client:

        def lose(report: mmindex.BuildReport) -> None:
            if report.scanned and not lost:
                lost.append(report.scanned)
                cluster.close()

        with suppress(MMIndexError):
            mmindex.build(
                archive / "archive",
                tmp_path / "index",
                executor=client.get_executor(),
                progress=lose,
            )
    assert lost
    serial = read_records(archive / "serial")
    left = read_records(tmp_path / "index")
    assert left.items() <= serial.items()
    assert len(left) >= lost[0]
    mmindex.build(archive / "archive", tmp_path / "index", workers=1)
    assert read_records(tmp_path / "index") == serial


def test_a_bucket_is_built_on_a_cluster(
    archive: Path, tmp_path: Path, cluster: distributed.LocalCluster
) -> None:
    """Workers read the store that the build was given; frames are those of the folder."""
    pytest.importorskip("obstore", reason="object stores need obstore")
    from sources.s3_server import S3Server

    with S3Server() as server, distributed.Client(cluster) as client:
        for path in (archive / "archive").rglob("*"):
            if path.is_file():
                server.objects[f"study/{path.relative_to(archive / 'archive')}"] = path.read_bytes()
        store = server.connect()
        report = mmindex.build(
            "s3://archive/study",
            tmp_path / "index",
            store=store,
            executor=client.get_executor(),
            concurrency=8,
        )
        assert report.statuses == {"indexed": COUNT, "not-dicom": 1, "unreadable": 1}
        assert report.requests == server.count("LIST")  # those of the workers are not counted
        assert server.count("GET") == COUNT + 2
        with (
            mmindex.open(tmp_path / "index", store=store) as remote,
            mmindex.open(archive / "serial") as local,
        ):
            pairs = [(uid, 0) for uid in local]
            assert remote.frames(pairs) == local.frames(pairs)
