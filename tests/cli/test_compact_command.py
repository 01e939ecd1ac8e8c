"""`mmindex compact`: what it prints; what it does is in tests/index/test_compact.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import run
from dicom_bytes import small_image

import mmindex


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive whose index has pages that a second build left unused."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}").write_bytes(small_image(f"1.{number}"))
    for _ in range(2):
        mmindex.build(folder, workers=1, full=True)
    return folder


def test_command_tells_sizes(root: Path, tmp_path: Path) -> None:
    """ROOT is the folder or the index file; what is neither fails in one line."""
    before = (root / ".mmindex").stat().st_size
    printed = run("compact", root).stdout
    after = (root / ".mmindex").stat().st_size
    assert after < before
    assert printed == f"{before} bytes before, {after} bytes after\n"
    printed = run("compact", root / ".mmindex").stdout
    assert printed == f"{after} bytes before, {after} bytes after: it stays as it is\n"
    result = run("compact", tmp_path / "none", code=1)
    assert result.stderr.count("\n") == 1
    assert "no such index" in result.stderr
