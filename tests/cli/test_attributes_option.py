"""`--attributes` of build, update and watch, and where commands show what an index keeps."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from cli_runner import print_on_terminal, read_json_lines, run, run_child
from served_archive import CT, OTHER, write_archive

import mmindex
from mmindex.cli.printing import cut_end

NAMES = ("Müller", "Anna", "Smith", "ID-1.2", "20200102")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_archive(tmp_path)
    return tmp_path


def test_build_keeps_what_it_is_asked_to_and_follows(folder: Path) -> None:
    """A later build, an update and another set; "none" drops all."""
    run("build", folder, "--attributes", "PatientName")
    (folder / "other.dcm").touch()
    run("build", folder)
    run("update", folder, folder / "ct.dcm")
    with mmindex.open(folder) as archive:
        assert archive.attributes("1.2.4") == {"PatientName": "Smith^John"}
    run("build", folder, "--attributes", "none")
    with mmindex.open(folder) as archive:
        assert archive.kept_attributes() is None


@pytest.mark.parametrize("command", ["build", "update", "watch"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("PatientNme", "did you mean PatientName"),
        ("quido", "did you mean qido"),
        ("PixelData", "cannot be kept"),
        ("00111001", "private"),
        ("", "expected a keyword or tag"),
        ("PatientName,", "expected a keyword or tag"),
    ],
)
def test_a_wrong_attribute_is_wrong_usage(
    folder: Path, command: str, value: str, reason: str
) -> None:
    """Exit code 2, with what may have been meant, and no index."""
    paths = [folder / "ct.dcm"] if command == "update" else []
    result = run(command, folder, *paths, "--attributes", value, code=2)
    assert reason in " ".join(result.stderr.split())
    assert not (folder / ".mmindex").exists()


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--log-format", "json"), ("--verbose",)])
def test_no_log_names_a_patient(folder: Path, arguments: tuple[str, ...]) -> None:
    """Neither a build's nor an update's report, with a file that cannot be read, too."""
    broken = (folder / "ct.dcm").read_bytes()[:-20]
    (folder / "broken.dcm").write_bytes(broken)
    for command in (
        ("build", folder, "--full", *arguments),
        ("update", folder, folder, *arguments),
    ):
        result = run(*command, *(("--attributes", "qido") if command[0] == "build" else ()))
        assert not any(name in result.stdout + result.stderr for name in NAMES)


def test_ls_shows_whose_studies_these_are(folder: Path, terminal: tuple[int, int]) -> None:
    """On a terminal below each study and series, as JSON with every file."""
    run("build", folder, "--attributes", "qido")
    lines = print_on_terminal(terminal, "ls", folder)
    at = next(number for number, line in enumerate(lines) if "Study  1.2.4" in line)
    assert lines[at + 1] == "  Smith^John, ID-1.2.4, 2021-03-05, OT of 20210305"
    assert max(map(len, lines)) <= 80
    rows = {row["sop_instance_uid"]: row["attributes"] for row in read_json_lines("ls", folder)}
    assert rows[OTHER]["PatientName"] == "Smith^John"
    assert rows[CT]["PatientID"] == "ID-1.2.3"


def test_ls_of_an_index_without_attributes_is_as_before(folder: Path) -> None:
    """No name in the list, nor for programs; twelve columns in both."""
    run("build", folder)
    without = run("ls", folder).stdout
    assert all(row["attributes"] == {} for row in read_json_lines("ls", folder))
    run("build", folder, "--attributes", "qido")
    assert run("ls", folder).stdout == without


def test_stats_and_info_say_that_the_index_identifies_people(
    folder: Path, terminal: tuple[int, int]
) -> None:
    """By the names of what is kept; nothing where nothing is."""
    run("build", folder)
    assert "identifies" not in run("stats", folder).stdout
    assert json.loads(run("stats", folder, "--json").stdout)["attributes"] == []
    assert json.loads(run("info", folder / "ct.dcm", "--json").stdout)["kept_attributes"] == []
    run("build", folder, "--attributes", "PatientID,SeriesNumber")
    kept = "kept in the index, which identifies people: PatientID, SeriesNumber"
    assert kept in run("stats", folder).stdout
    assert kept in run("info", folder / "ct.dcm").stdout
    names = ["PatientID", "SeriesNumber"]
    assert json.loads(run("stats", folder, "--json").stdout)["attributes"] == names
    assert json.loads(run("info", folder / "ct.dcm", "--json").stdout)["kept_attributes"] == names
    lines = print_on_terminal(terminal, "info", folder / "ct.dcm")
    at = next(number for number, line in enumerate(lines) if line.startswith("Attributes"))
    assert lines[at + 1].strip() == "SeriesNumber"
    assert len(lines[at]) <= 80


@pytest.mark.parametrize("name", [b"\x1b[31mRed^\x07Bell", b"Doe\nStudy  9.9"])
def test_a_name_steers_no_terminal(folder: Path, terminal: tuple[int, int], name: bytes) -> None:
    """Control characters are printed as escapes."""
    data = (folder / "other.dcm").read_bytes()
    head, rest = data.split(b"\x10\0\x10\0PN\x0a\0Smith^John")
    name += b" " * (len(name) % 2)
    place = b"\x10\0\x10\0PN" + len(name).to_bytes(2, "little") + name
    (folder / "other.dcm").write_bytes(head + place + rest)
    run("build", folder, "--attributes", "qido")
    result = run_child("ls", folder, "--json")
    assert "\x1b" not in result.stdout
    text = "\n".join(print_on_terminal(terminal, "ls", folder, "--study", "1.2.4"))
    assert "\x1b[31m" not in text
    assert "\x07" not in text
    assert "\nStudy  9.9" not in text


@pytest.mark.parametrize("width", range(3, 14))
@pytest.mark.parametrize(
    "text", ["Yamada^Tarou=山田^太郎", "山田太郎山田太郎", "abc", "e\u0301" * 9, ""]
)
def test_a_long_name_is_cut_by_columns(text: str, width: int) -> None:
    """A wide character takes two columns of a terminal, a combining one none."""

    def measure(shown: str) -> int:
        wide = sum(unicodedata.east_asian_width(char) in "WF" for char in shown)
        return len(shown) + wide - sum(map(bool, map(unicodedata.combining, shown)))

    shown = cut_end(text, width)
    assert measure(shown) <= width
    assert shown == text or shown.endswith("...")
    assert shown == text or measure(text) > width
