"""`mmindex update`: paths as arguments and in lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import run
from dicom_bytes import small_image

import mmindex


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive of one file, with its index."""
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "first.dcm").write_bytes(small_image("1.1"))
    mmindex.build(folder, workers=1)
    return folder


def test_update_command_reads_paths_from_a_file(root: Path) -> None:
    """One a line, or with a zero byte after each."""
    (root / "new.dcm").write_bytes(small_image("2.1"))
    (root / "line\nbreak.dcm").write_bytes(small_image("2.2"))
    (root.parent / "lines").write_text(f"{root}/new.dcm\n")
    done = run("update", root, "--files-from", root.parent / "lines", "--json")
    assert '"scanned": 1' in done.stdout
    run("update", root, "--files-from", "-", "-0", input=f"{root}/line\nbreak.dcm\0")
    with mmindex.open(root) as archive:
        assert archive.has_file("line\nbreak.dcm")


@pytest.mark.parametrize(
    "arguments",
    [
        ["update", ""],
        ["update", "."],
        ["update", ".", "x", "-0"],
        ["update", ".", ""],
        ["build", ""],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """An unset variable of a script is no archive."""
    run(*arguments, code=2)
