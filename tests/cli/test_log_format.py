"""`--log-format json`, `--quiet` and `--verbose` of build and update; the report as JSON."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest
from cli_runner import new_runner, run
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.cli import log as log_module

SOP_INSTANCE_UID = 0x00080018


def image(uid: str, **attributes: int | None) -> bytes:
    data_set = element(SOP_INSTANCE_UID, "UI", uid) + image_attributes(**attributes)
    return dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive with two images, one that is unreadable, and a broken link."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(image(f"1.{ord(name)}"))
    (root / "bad").write_bytes(image("1.9", rows=None))
    (root / "broken").symlink_to("nowhere")
    return root


def events(printed: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in printed.splitlines()]
    for event in found:
        assert datetime.fromisoformat(str(event["time"])).tzinfo is not None
    return found


def test_the_log_of_a_build_is_an_object_a_line(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress, problems, then the report, on standard error; nothing on standard output."""
    monkeypatch.setattr(log_module, "_EVERY", 0.0)
    result = run("build", root, "-j", "1", "--log-format", "json")
    assert result.stdout == ""
    found = events(result.stderr)
    kinds = [event["event"] for event in found]
    assert kinds[0] == "progress"
    assert kinds[-3:] == ["problem", "problem", "report"]
    assert {event["path"] for event in found if event["event"] == "problem"} == {"bad", "broken"}
    assert found[-1]["scanned"] == 3
    quiet = events(run("build", root, "-j", "1", "--log-format", "json", "-q").stderr)
    assert [event["event"] for event in quiet] == ["problem", "report"]
    again = events(run("update", root, root / "broken", "--log-format", "json").stderr)
    assert [event["event"] for event in again] == ["problem", "report"]


def test_an_error_is_an_object_too(root: Path) -> None:
    """With exit code 1, as in text."""
    run("build", root, "-j", "1")
    for path in root.iterdir():
        if not path.name.startswith(".mmindex"):
            path.unlink()
    for command in (("build", root), ("update", root, root / "a")):
        result = run(*command, "--log-format", "json", code=1)
        (failed,) = [each for each in events(result.stderr) if each["event"] == "failed"]
        assert "the root is empty" in str(failed["reason"])
        assert "--max-removed 100%" in str(failed["reason"])


def test_the_report_has_totals_what_was_removed_and_when(root: Path) -> None:
    """Of the whole index, by name, and how long it took."""
    before = datetime.now().astimezone()
    run("build", root, "-j", "1", "-q")
    (root / "a").unlink()
    (root / "c").write_bytes(image("1.99"))
    report = json.loads(run("build", root, "-j", "1", "--json", "-q").stdout)
    assert report["removed_paths"] == ["a"]
    sizes = sum((root / name).stat().st_size for name in ("b", "bad", "c"))
    assert report["totals"] == {
        "files": 3,
        "statuses": {"indexed": 2, "unreadable": 1},
        "instances": 2,
        "frames": 2,
        "bytes": sizes,
    }
    started = datetime.fromisoformat(report["started"])
    ended = datetime.fromisoformat(report["ended"])
    assert before < started <= ended
    assert abs((ended - started).total_seconds() - report["seconds"]) < 0.01
    (root / "b").unlink()
    report = json.loads(run("update", root, root / "b", "--json").stdout)
    assert (report["removed_paths"], report["totals"]["files"]) == (["b"], 2)


def test_verbose_prints_every_problem_of_an_update(root: Path) -> None:
    """Without it, the first twenty."""
    for number in range(30):
        (root / f"broken-{number}").symlink_to("nowhere")
    assert run("update", root, root).stderr.count("No such file") == 20
    assert run("update", root, root, "-v").stderr.count("No such file") == 31
    quiet = run("update", root, root, "-q")
    assert quiet.stdout == ""
    assert "and 11 more problems" in quiet.stderr


@pytest.mark.parametrize("command", ["build", "update"])
def test_guards_keep_an_index_from_being_emptied(root: Path, command: str) -> None:
    """Half of many files, more than a limit says; the limit in files and per cent."""
    for number in range(150):
        (root / f"many-{number}").write_bytes(b"")
    mmindex.build(root, workers=1)
    for number in range(101):
        (root / f"many-{number}").unlink()
    arguments = (command, root) if command == "build" else (command, root, root)
    refused = run(*arguments, code=1)
    assert "over half of the files are gone" in refused.stderr
    for limit in ("100", "66%", "0"):
        assert "nothing was dropped" in run(*arguments, "--max-removed", limit, code=1).stderr
    assert "expected a number of files" in run(*arguments, "--max-removed", "all", code=2).stderr
    report = json.loads(run(*arguments, "--max-removed", "101", "--json").stdout)
    assert report["removed"] == 101
    assert "ROOT is empty" in run(command, "", *arguments[2:], code=2).stderr


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="no /proc")
@pytest.mark.parametrize("command", ["build", "update", "watch"])
def test_a_root_with_proc_below_is_refused(command: str, tmp_path: Path) -> None:
    """The message says what to do instead."""
    paths = [str(tmp_path)] if command == "update" else []
    arguments = [command, "/", *paths, "--index", str(tmp_path / "index")]
    from mmindex.cli import main

    result = new_runner().invoke(main, arguments, prog_name="mmindex")
    assert result.exit_code == 1
    assert "--one-file-system" in result.stderr
    assert not (tmp_path / "index").exists()
