"""`mmindex ls`: a list for programs, as JSON, and for people at a terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pydicom
import pytest
from cli_runner import (
    PROGRAM,
    ROOT,
    print_on_terminal,
    read_json_lines,
    read_terminal,
    run,
    run_child,
)
from dicom_bytes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulated_file,
    image_attributes,
    native_file,
)
from sample_archive import CINE, NAMES, uid_of

import mmindex


def test_ls_lists_the_files_by_path(archive):
    """One line a DICOM file, tab-separated where no terminal is, sorted by path."""
    (archive / "note.txt").write_text("hello")
    mmindex.build(archive, workers=1)
    rows = [line.split("\t") for line in run("ls", archive).stdout.splitlines()]
    assert [row[0] for row in rows] == sorted(NAMES)
    size = str((archive / CINE).stat().st_size)
    dataset = pydicom.dcmread(archive / CINE)
    assert rows[sorted(NAMES).index(CINE)][1:] == [
        *(dataset.SOPInstanceUID, "US", "JPEG Baseline (Process 1)", "30", size, "indexed"),
        *(dataset.StudyInstanceUID, dataset.SeriesInstanceUID),
        *("1.2.840.10008.1.2.4.50", "basic-offset-table", ""),
    ]


def test_ls_names_the_anomalies_of_a_file(tmp_path):
    """Off a terminal their codes are the last column; as JSON each has its place and count."""
    data = encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2)
    (tmp_path / "odd.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    assert run("ls", tmp_path).stdout.endswith("\tone-fragment-a-frame\todd-fragment-length\n")
    (row,) = read_json_lines("ls", tmp_path)
    assert row["boundaries"] == "one-fragment-a-frame"
    place = data.index(b"\xff\xd8") - 8
    assert row["anomalies"] == [{"code": "odd-fragment-length", "offset": place, "count": 2}]


def test_ls_takes_an_index_file(archive, tmp_path_factory):
    """An index elsewhere lists the same files."""
    index = tmp_path_factory.mktemp("index") / "index"
    run("build", archive, "--index", index)
    assert run("ls", index).stdout == run("ls", archive).stdout


@pytest.mark.parametrize(("option", "keyword"), [("--study", "Study"), ("--series", "Series")])
def test_ls_of_a_study_or_series_has_its_instances_only(archive, option, keyword):
    """--study and --series choose by UID."""
    uid = pydicom.dcmread(archive / CINE)[f"{keyword}InstanceUID"].value
    assert [row["path"] for row in read_json_lines("ls", archive, option, uid)] == [CINE]
    assert run("ls", archive, option, "1.2.3", "--json", code=1).stdout == ""


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_ls_of_a_study_that_is_not_there_says_so(archive, as_json):
    """A UID that no file has is a failure, since a slip in it is no empty list."""
    result = run("ls", archive, "--study", "1.2", "--series", "1.3", *as_json, code=1)
    index = archive / ".mmindex"
    assert result.stdout == ""
    assert result.stderr == f"mmindex: {index}: the index has no Study Instance UID '1.2'\n"
    result = run("ls", archive, "--series", "1.3", *as_json, code=1)
    assert result.stderr == f"mmindex: {index}: the index has no Series Instance UID '1.3'\n"


def test_ls_of_a_study_without_frames_is_an_empty_list(archive):
    """What is known and has no instances with frames is no failure, and is said."""
    plan = pydicom.dcmread(archive / "rtplan.dcm")
    result = run("ls", archive, "--study", plan.StudyInstanceUID)
    assert (result.stdout, result.stderr) == ("", "mmindex: no instances with frames\n")
    assert read_json_lines("ls", archive, "--study", plan.StudyInstanceUID) == []


def test_ls_as_json_is_an_object_a_line(archive):
    """Every file is a line of its own, so that nobody has to wait for the last one."""
    rows = read_json_lines("ls", archive)
    assert sorted(row["path"] for row in rows) == sorted(NAMES)
    (cine,) = (row for row in rows if row["path"] == CINE)
    assert (cine["number_of_frames"], cine["status"]) == (30, "indexed")


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are text there")
def test_paths_that_are_no_text_or_steer_terminals_are_escaped(folder):
    """A path cannot break a line or hide; JSON gives its bytes back."""
    name = b"a\n\x1b[2J\xff.dcm"
    os.rename(folder / CINE, os.path.join(os.fsencode(folder), name))
    mmindex.build(folder, workers=1)
    first = run("ls", folder).stdout.splitlines()[0]
    assert first.startswith("a\\n\\x1b[2J\\udcff.dcm\t")
    rows = read_json_lines("ls", folder)
    assert name in [os.fsencode(row["path"]) for row in rows]


def test_output_escapes_what_its_encoding_cannot_hold(folder):
    """A path that the output's encoding does not have is no failure."""
    (folder / CINE).rename(folder / "\u20ac.dcm")
    mmindex.build(folder, workers=1)
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*PROGRAM, "ls", str(folder)], env=environment, capture_output=True, text=True, check=True
    )
    assert "\\u20ac.dcm\t" in done.stdout


def test_ls_on_a_terminal_groups_instances_by_study_and_series(archive, terminal):
    """A study's UID is told once, then its series with modality and transfer syntax."""
    second = pydicom.dcmread(archive / CINE)
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    second.save_as(archive / "a second.dcm")
    mmindex.build(archive, workers=1)
    heading, *lines = print_on_terminal(terminal, "ls", archive)
    assert heading.split() == ["Path", "Frames", "Size", "Boundaries", "Status"]
    at = lines.index(f"Study  {second.StudyInstanceUID}")
    size = f"{(archive / CINE).stat().st_size / 1000:.1f}"
    (modality_at,) = (i for i, line in enumerate(lines) if line == "US, JPEG Baseline (Process 1)")
    assert lines[at + 1] == f"Series {second.SeriesInstanceUID}"
    assert modality_at == at + 2
    assert lines[at + 4] == "    1.2.3.4"
    row = lines[at + 5]
    assert row.split() == [CINE, "30", size, "kB", "basic-offset-table", "indexed"]
    assert lines[at + 6] == "    " + uid_of(archive / CINE)
    for name in ("Path", "Boundaries", "Status"):
        assert row[: heading.index(name)].endswith("  ")
        assert row[heading.index(name)] != " "
    assert sum(line.startswith("Study ") for line in lines) == len(NAMES)


def test_ls_on_a_terminal_tells_study_series_and_syntax_once_each(tmp_path, terminal):
    """A study of two series, the second one in two transfer syntaxes; then another study."""
    described = [("1.1", "1.5", True), ("1.1", "1.6", False), ("1.1", "1.6", True)]
    for at, (study, series, explicit) in enumerate([*described, ("1.2", "1.7", True)]):
        data_set = (
            element(0x00080060, "CS", "CT", implicit=not explicit)
            + element(0x0020000D, "UI", study, implicit=not explicit)
            + element(0x0020000E, "UI", series, implicit=not explicit)
            + image_attributes(implicit=not explicit)
            + element(PIXEL_DATA, "OB", bytes(4), implicit=not explicit)
        )
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
        (tmp_path / f"{at}.dcm").write_bytes(dicom_file(data_set, syntax))
    mmindex.build(tmp_path, workers=1)
    lines = print_on_terminal(terminal, "ls", tmp_path)[1:]
    assert [line.split("  native")[0].strip().split("  ")[0] for line in lines] == [
        *("", "Study", "Series 1.5", "CT, Explicit VR Little Endian", "0.dcm"),
        *("Series 1.6", "CT, Explicit VR Little Endian", "2.dcm"),
        *("CT, Implicit VR Little Endian", "1.dcm"),
        *("", "Study", "Series 1.7", "CT, Explicit VR Little Endian", "3.dcm"),
    ]
    assert [line for line in lines if line.startswith("Study")] == ["Study  1.1", "Study  1.2"]


def test_ls_on_a_terminal_counts_anomalies_and_says_what_is_unknown(tmp_path, terminal):
    """A file without UIDs is listed, too; a list of nothing has no heading."""
    (tmp_path / "odd.dcm").write_bytes(encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2))
    mmindex.build(tmp_path, workers=1)
    lines = print_on_terminal(terminal, "ls", tmp_path)
    assert lines[2:5] == [
        "Study  unknown",
        "Series unknown",
        "unknown modality, JPEG Baseline (Process 1)",
    ]
    assert lines[5].endswith("indexed, 1 anomaly")
    assert len(lines) == 6


def test_ls_of_nothing_says_so_on_a_terminal(tmp_path, terminal):
    """There is no heading without a row."""
    mmindex.build(tmp_path, workers=1)
    done = run_child("ls", tmp_path, stdout=terminal[1])
    assert (done.returncode, done.stderr) == (0, "mmindex: no DICOM files\n")
    assert read_terminal(*terminal) == ""
    assert run("ls", tmp_path).stderr == ""


LONG = "2024/ward-seven/a-rather-long-name-of-a-folder/patient-00012345/"


def long_archive(folder):
    """Write and index one file in folders that a terminal has no room for."""
    data_set = element(0x00080018, "UI", "1.2.840.113619.2.55.3.2831868886.46.1466057812.90")
    data_set += image_attributes()
    (folder / LONG).mkdir(parents=True)
    data = dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4)))
    (folder / LONG / "image-1.dcm").write_bytes(data)
    mmindex.build(folder, workers=1)


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_ls_fits_the_terminal_with_paths_cut_in_the_middle(tmp_path, terminal, columns):
    """Both ends of a path stay: where the file is, and which it is."""
    long_archive(tmp_path)
    environment = {"NO_COLOR": "1", "COLUMNS": str(columns)}
    lines = print_on_terminal(terminal, "ls", tmp_path, environment=environment)
    assert max(map(len, lines)) <= columns
    (row,) = (line for line in lines if "image-1.dcm" in line)
    path = row.split()[0]
    assert path.startswith("2024/w")
    assert path.endswith("/image-1.dcm")
    assert ("..." in path) == (columns < 200)


@pytest.mark.parametrize("columns", [60, 80])
def test_ls_leaves_out_boundaries_rather_than_break_lines(tmp_path, terminal, columns):
    """A long path and a file with an anomaly leave no room for them in 80 columns."""
    long_archive(tmp_path)
    fragments = [b"\xff\xd8\xff\xdbabcd"] * 2
    data = encapsulated_file(fragments, 2, bot=[0, 16])
    (tmp_path / "cut.dcm").write_bytes(data[:-10])
    mmindex.build(tmp_path, workers=1)
    environment = {"NO_COLOR": "1", "COLUMNS": str(columns)}
    heading, *lines = print_on_terminal(terminal, "ls", tmp_path, environment=environment)
    assert heading.split() == ["Path", "Frames", "Size", "Status"]
    rows = [line for line in lines if ".dcm" in line]
    assert max(map(len, rows)) <= columns
    assert any(row.endswith("indexed, 1 anomaly") for row in rows)


def test_ls_off_a_terminal_has_whole_paths(tmp_path):
    """However long they are."""
    long_archive(tmp_path)
    assert run("ls", tmp_path).stdout.startswith(f"{LONG}image-1.dcm\t")


@pytest.mark.parametrize(
    ("arguments", "environment", "has_color"),
    [
        ((), {"TERM": "xterm"}, True),
        ((), {"NO_COLOR": "1"}, False),
        ((), {"TERM": "dumb"}, False),
        (("--color", "always"), {"TERM": "dumb"}, True),
        (("--color", "never"), {"TERM": "xterm"}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ],
)
def test_a_terminal_has_colour_unless_it_is_not_wanted(
    archive, terminal, monkeypatch, arguments, environment, has_color
):
    """NO_COLOR and TERM=dumb are heard, and --color decides."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    lines = print_on_terminal(terminal, "ls", archive, *arguments, environment=environment)
    assert ("\x1b[" in "".join(lines)) == has_color


def test_off_a_terminal_there_is_no_colour(archive):
    """What programs read has no escape sequences; --color always says so."""
    result = run("ls", archive)
    assert "\x1b" not in result.stdout
    assert result.stderr == ""
    colored = run("ls", archive, "--color", "always")
    assert colored.stdout == result.stdout
    assert colored.stderr == "mmindex: tab-separated output has no colour\n"
    assert run("ls", archive, "--color", "always", "--json").stderr == ""


def shown_width(line):
    """Return the columns that a terminal shows a line in, of the characters used here."""
    return sum(2 if "\u2e80" <= char <= "\uffef" or char > "\U0001f000" else 1 for char in line)


def test_ls_fits_the_terminal_with_wide_characters_in_paths(tmp_path, terminal):
    """A Chinese character and a picture take two columns each; columns stand below each other."""
    names = (
        "影像/患者甲/2024年头部平扫与增强/序列一/图像0001.dcm",
        "影像.dcm",
        "\U0001f9e0/a.dcm",
        "b.dcm",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)
    heading, *lines = print_on_terminal(terminal, "ls", tmp_path)
    assert max(map(shown_width, lines)) <= 80
    rows = [line for line in lines if ".dcm" in line]
    assert len(rows) == len(names)
    at = heading.index("Boundaries")
    assert {shown_width(row[: row.index("native ")]) for row in rows} == {at}
    assert sum("影" in row and "..." in row and "图像0001.dcm" in row for row in rows) == 1


@pytest.mark.parametrize("columns", [80, 95])
def test_ls_cuts_the_longest_names_of_transfer_syntaxes(tmp_path, terminal, columns):
    """With the modality, that of HTJ2K with RPCL options is wider than 80 columns."""
    data = encapsulated_file([b"\xff\x4f\xff\x51ab"], 1, "1.2.840.10008.1.2.4.202")
    (tmp_path / "a.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    environment = {"NO_COLOR": "1", "COLUMNS": str(columns)}
    lines = print_on_terminal(terminal, "ls", tmp_path, environment=environment)
    assert max(map(len, lines)) <= columns
    (kind,) = (line for line in lines if "RPCL" in line)
    assert kind.endswith("..." if columns == 80 else "(Lossless Only)")
