"""`mmindex merge`: what it prints; what it joins is in tests/index/test_merge.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from cli_runner import run as run_command
from dicom_bytes import small_image

import mmindex

run = partial(run_command, "merge")


@pytest.fixture
def years(tmp_path: Path) -> list[Path]:
    """Two folders of three files each, with their indexes, in one archive."""
    folders = [tmp_path / "archive" / year for year in ("2023", "2024")]
    for folder in folders:
        folder.mkdir(parents=True)
        for number in (1, 2, 3):
            (folder / f"{number}.dcm").write_bytes(small_image(f"{folder.name}.{number}"))
        mmindex.build(folder, workers=1)
    return folders


def test_command_says_what_it_joined(tmp_path: Path, years: list[Path]) -> None:
    """Index, root and number of files."""
    out = tmp_path / "all"
    assert run(out, *years).stdout == (f"Index: {out} of {tmp_path / 'archive'}\n6 files merged\n")
    with mmindex.open(out) as archive:
        assert sorted(archive) == [
            f"{year}.{number}" for year in (2023, 2024) for number in (1, 2, 3)
        ]
    assert run(tmp_path / "above", *years, "--root", tmp_path).stdout == (
        f"Index: {tmp_path / 'above'} of {tmp_path}\n6 files merged\n"
    )


def test_command_fails_in_one_line(tmp_path: Path, years: list[Path]) -> None:
    """Exit code 1 for what cannot be merged, 2 where there is nothing to merge."""
    result = run(tmp_path / "all", tmp_path / "none", code=1)
    assert result.stderr == (
        f"mmindex: {tmp_path / 'none'}: there is no such index; `mmindex build` creates one\n"
    )
    outside = tmp_path / "archive" / "2024"
    result = run(tmp_path / "all", *years, "--root", outside, code=1)
    assert result.stderr.count("\n") == 1
    assert "is not under" in result.stderr
    run(tmp_path / "all", code=2)


@pytest.mark.parametrize("options", [(), ("-q",)])
def test_command_says_which_attributes_are_lost(
    tmp_path: Path, years: list[Path], options: tuple[str, ...]
) -> None:
    """Also where it is quiet: what served names of patients serves none from then on."""
    mmindex.build(years[0], workers=1, attributes=["StudyDate"])
    out = tmp_path / "all"
    result = run(out, *years, *options)
    assert result.stderr == (
        "mmindex: the indexes keep different attributes: none are kept, not StudyDate; "
        f"`mmindex build {tmp_path / 'archive'} --index {out} --attributes ...` reads them again\n"
    )
    assert bool(result.stdout) is (not options)
    mmindex.build(tmp_path / "archive", out, workers=1, attributes=["StudyDate"])
    assert not run(tmp_path / "again", out, *options).stderr
