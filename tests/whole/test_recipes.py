"""The recipes of the command line's page that other programs run: they index what arrives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex

PAGE = Path(__file__).resolve().parents[2] / "mmindex" / "cli" / "README.md"
PATIENCE = 30.0  # seconds in which a busy machine does anything


def image(uid: str) -> bytes:
    data_set = element(0x00080018, "UI", uid) + image_attributes()
    return dicom_file(data_set + element(PIXEL_DATA, "OW", b"abcd"))


def recipe(language: str, word: str) -> str:
    """Return the only block of code of the page in a language that has this word."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if word in block]
    return found


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with an `mmindex` that notes how often it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "mmindex"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {sys.executable} -m mmindex "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def wait_until(holds: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < PATIENCE
        time.sleep(0.02)


def known(root: Path) -> set[str]:
    with mmindex.open(root) as archive:
        return set(archive)


def test_the_plugin_of_orthanc_indexes_what_is_stored_by_few_processes(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in for the module `orthanc`: forty files that come at once are a few updates."""
    root = tmp_path / "db"
    orthanc = types.ModuleType("orthanc")
    callbacks: list[Callable[[object, str], None]] = []
    errors: list[str] = []
    orthanc.RegisterOnStoredInstanceCallback = callbacks.append  # type: ignore[attr-defined]
    orthanc.LogError = errors.append  # type: ignore[attr-defined]
    orthanc.RestApiGet = lambda uri: json.dumps(  # type: ignore[attr-defined]
        {"Uuid": uri.split("/")[2]}
    )
    monkeypatch.setitem(sys.modules, "orthanc", orthanc)
    root.mkdir()
    mmindex.build(root, workers=1)
    code = recipe("py", "RegisterOnStoredInstanceCallback").replace(
        "/var/lib/orthanc/db", str(root)
    )
    exec(compile(code, "plugin", "exec"), {})
    for number in range(40):
        uuid = f"{number:02}ab-{number}"
        place = root / uuid[:2] / uuid[2:4] / uuid
        place.parent.mkdir(parents=True)
        place.write_bytes(image(f"1.{number}"))
        callbacks[0](None, uuid)
    wait_until(lambda: len(known(root)) == 40)
    assert len((tmp_path / "calls").read_text().splitlines()) < 20
    assert errors == []


def test_the_timer_of_dcm4chee_hands_on_what_is_new_once(tmp_path: Path, on_path: Path) -> None:
    """Also what was there before the first run; a run that failed hands on the same again."""
    root, folder = tmp_path / "fs1", tmp_path / "timer"
    (root / "2026").mkdir(parents=True)
    folder.mkdir()
    (root / "2026" / "first").write_bytes(image("1.1"))
    code = recipe("sh", "-cnewer").replace("/storage/fs1", str(root))

    def run() -> int:
        time.sleep(0.02)  # the clock of a file system has steps
        return subprocess.run(["sh", "-c", code], cwd=folder, check=False).returncode

    assert run() == 0
    assert known(root) == {"1.1"}
    (tmp_path / "old").write_bytes(image("1.2"))
    os.utime(tmp_path / "old", (1, 1))
    time.sleep(0.02)
    (tmp_path / "old").rename(root / "2026" / "moved here")
    (root / ".mmindex").rename(tmp_path / "kept")
    (root / ".mmindex").write_bytes(b"no index")
    assert run() != 0
    (tmp_path / "kept").replace(root / ".mmindex")
    assert run() == 0
    assert known(root) == {"1.1", "1.2"}


def test_the_list_of_lua_is_handed_on_until_an_update_succeeds(
    tmp_path: Path, on_path: Path
) -> None:
    """What came while an update ran, or failed, is in the next one."""
    root, folder = tmp_path / "db", tmp_path / "orthanc"
    for each in (root, folder):
        each.mkdir()
    code = recipe("sh", "rm taken").replace("/var/lib/orthanc/db", str(root))
    code = code.replace("/var/lib/orthanc", str(folder))
    (root / "one").write_bytes(image("1.1"))
    (folder / "stored").write_text(f"{root}/one\n")
    (root / ".mmindex").write_bytes(b"no index")
    process = subprocess.Popen(["sh", "-c", code], start_new_session=True)
    try:
        wait_until((folder / "taken").exists)
        (root / "two").write_bytes(image("1.2"))
        (folder / "stored").write_text(f"{root}/two\n")
        (root / ".mmindex").unlink()
        wait_until(lambda: not (folder / "stored").exists() and not (folder / "taken").exists())
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    assert known(root) == {"1.1", "1.2"}


def test_the_recipe_of_pynetdicom_keeps_the_archive_open() -> None:
    """The handler is that of `tests/update/test_dicom_store.py`, which a real association calls."""
    code = recipe("py", "def store(event)")
    compile(code, "handler", "exec")
    assert "opened = mmindex.open(archive)" in code
