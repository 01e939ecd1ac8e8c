"""`mmindex build`, `update` and `watch` of URLs."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runner import run, run_child
from container_bytes import native
from sources.s3_server import S3Server

import mmindex
from mmindex.cli.progress import describe_progress
from mmindex.update.report import BuildReport

pytest.importorskip("obstore", reason="object stores need obstore")

URL = "s3://archive/study"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with S3Server() as server:
        for number in range(30):
            server.objects[f"study/{number}.dcm"] = native(
                f"1.{number}", [struct.pack("<I", number)]
            )
        yield server


def environment(server: S3Server) -> dict[str, str]:
    return {
        "NO_COLOR": "1",
        "AWS_ENDPOINT": server.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "geheim",
    }


def test_build_and_update_of_a_bucket(server: S3Server, tmp_path: Path) -> None:
    """The summary has requests and bytes; -v names what is read; JSON has both as numbers."""
    index = tmp_path / "index"
    done = run_child("build", URL, "--index", index, "-v", environment=environment(server))
    assert done.returncode == 0, done.stderr
    assert "30 scanned, 0 unchanged, 0 removed" in done.stdout
    total = sum(map(len, server.objects.values()))
    assert f"31 requests, {total / 1000:.1f} kB" in done.stdout
    size = len(server.objects["study/7.dcm"])
    assert f"bytes 0-{size - 1} of {URL}/7.dcm\n" in done.stderr
    assert "geheim" not in done.stdout + done.stderr
    assert b"geheim" not in index.read_bytes()
    done = run_child(
        *("build", URL, "--index", index, "--json", "--concurrency", 2),
        environment=environment(server),
    )
    report = json.loads(done.stdout)
    assert (report["root"], report["unchanged"]) == (URL, 30)
    assert (report["requests"], report["received"]) == (1, 0)
    assert done.stderr == ""
    server.objects["study/30.dcm"] = native("1.30")
    del server.objects["study/3.dcm"]
    names = tmp_path / "names"
    names.write_text("30.dcm\n3.dcm\n")
    done = run_child(
        *("update", URL, "--index", index, "--files-from", names, "--concurrency", 2),
        environment=environment(server),
    )
    assert "1 scanned, 0 unchanged, 1 removed" in done.stdout
    with mmindex.open(index) as archive:
        assert archive.root == URL
        assert "1.30" in archive


def test_problems_of_a_bucket_are_printed(server: S3Server, tmp_path: Path) -> None:
    """With their keys and reasons; `--strict` exits with 1."""
    server.faults = lambda kind, key: 403 if key.endswith("/4.dcm") else 0
    done = run_child(
        *("build", URL, "--index", tmp_path / "index", "--strict"), environment=environment(server)
    )
    assert done.returncode == 1
    assert "mmindex: 4.dcm: " in done.stderr
    assert "403" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", URL], "--index"),
        (["update", URL, "a.dcm"], "--index"),
        (["build", URL, "--index", "INDEX", "--workers", "3"], "--concurrency"),
        (["build", URL, "--index", "INDEX", "--one-file-system"], "for a folder"),
        (["build", URL, "--index", "INDEX", "--no-follow-links"], "for a folder"),
        (["build", URL, "--index", "INDEX", "--ignore-inode"], "for a folder"),
        (["build", URL, "--index", "INDEX", "--moved-from", "FOLDER"], "for a folder"),
        (["update", URL, "a.dcm", "--index", "INDEX", "--one-file-system"], "for a folder"),
        (["build", "FOLDER", "--concurrency", "3"], "for a URL"),
        (["build", URL + "?sig=abc", "--index", "INDEX"], "query"),
        (["watch", URL, "--index", "INDEX"], "costs the listing"),
    ],
)
def test_options_without_meaning_are_refused(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """Exit 2 and what to do, before a request."""
    places = {"INDEX": str(tmp_path / "index"), "FOLDER": str(tmp_path)}
    result = run(*(places.get(each, each) for each in arguments), code=2)
    assert message in result.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_a_web_server_is_not_built(tmp_path: Path) -> None:
    """The error says how names of files are given."""
    result = run("build", "http://127.0.0.1:9/a", "--index", tmp_path / "index", code=1)
    assert "--files-from" in result.stderr


def test_progress_has_requests() -> None:
    """And the bytes of their answers; of a folder neither."""
    report = BuildReport("s3://a", "index", found=10, scanned=5, requests=1234, received=56_700_000)
    assert "1,234 requests, 56.7 MB" in describe_progress(report, 1.0)
    assert "request" not in describe_progress(BuildReport("a", "index", found=10, scanned=5), 1.0)
