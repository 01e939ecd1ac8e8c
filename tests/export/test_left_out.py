"""`mmindex export` says which files it leaves out, shows progress, and ends with its reader."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from cli_runner import PROGRAM, ROOT, run
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    deflate,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)

import mmindex
from mmindex.export.jsonl import walk_lines
from mmindex.export.kerchunk import walk_references

MPEG4 = "1.2.840.10008.1.2.4.102"


def make_deflated(uid: str) -> bytes:
    data_set = element(0x00080018, "UI", uid) + image_attributes()
    data_set += element(0x7FE00010, "OW", bytes(4))
    start = dicom_file(b"", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    return start + deflate(data_set)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """25 deflated files, 2 videos and a native one, indexed."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(25):
        (root / f"d{number:02}.dcm").write_bytes(make_deflated(f"1.2.{number}"))
    for number in range(2):
        data_set = element(0x00080018, "UI", f"1.3.{number}") + image_attributes(number_of_frames=9)
        video = encapsulate([b"\0\0\0\x18ftypmp42" + bytes(40)])
        (root / f"v{number}.dcm").write_bytes(dicom_file(data_set + video, MPEG4))
    data_set = element(0x00080018, "UI", "1.4") + image_attributes(number_of_frames=5)
    data_set += element(0x7FE00010, "OW", bytes(20))
    (root / "native.dcm").write_bytes(dicom_file(data_set))
    report = mmindex.build(root, workers=1)
    assert (report.statuses["deflated"], report.statuses["stream"]) == (25, 2)
    return root


@pytest.mark.parametrize("form", ["jsonl", "parquet", "kerchunk"])
def test_files_that_are_left_out_are_counted_and_some_are_named(root, tmp_path, form):
    """By reason; the first 20 by name, all with -v, nothing with -q."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    common = ("export", root, "--format", form, "-o", out)
    lines = run(*common).stderr.splitlines()
    named = [line for line in lines if line.startswith("mmindex: left out: ")]
    assert len(named) == 20
    assert all(": its frames have no bytes of their own" in line for line in named)
    assert "mmindex: 27 files left out: 25 deflated, 2 stream (-v names them)" in lines
    lines = run(*common, "-v").stderr.splitlines()
    assert sum(line.startswith("mmindex: left out: ") for line in lines) == 27
    assert "mmindex: 27 files left out: 25 deflated, 2 stream" in lines
    assert run(*common, "-q").stderr == ""


@pytest.mark.parametrize("form", ["jsonl", "parquet", "kerchunk"])
def test_a_file_with_a_wrong_entry_of_an_unproved_table_is_left_out(tmp_path, form):
    """None of its rows is written, though only one of its frames is wrong; other files are."""
    root = tmp_path / "archive"
    root.mkdir()
    halves = [half for number in range(40) for half in (b"\xff\xd8%02d" % number, b"ab\xff\xd9")]
    for name, wrong in (("a.dcm", 2), ("b.dcm", 0)):
        entries = [24 * frame for frame in range(40)]  # of two items of 8 and 4 bytes each
        entries[4] += wrong  # between those that a build looks at
        data_set = element(0x00080018, "UI", f"1.{len(name)}.{wrong}")
        data_set += image_attributes(number_of_frames=40) + encapsulate(halves, bot=entries)
        (root / name).write_bytes(dicom_file(data_set, JPEG_BASELINE))
    mmindex.build(root, workers=1, prove=False)
    out = tmp_path / "out"
    done = run("export", root, "--format", form, "-o", out)
    assert done.exit_code == 0, done.stderr
    if form == "kerchunk":
        assert "2 files left out: 2 compressed" in done.stderr
        return
    assert "mmindex: left out: a.dcm: damaged: " in done.stderr
    assert "mmindex: 1 file left out: 1 damaged" in done.stderr
    if form == "jsonl":
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(out).to_pylist()
    assert [(row["path"], row["frame"], row["fragment"], row["length"]) for row in rows] == [
        ("b.dcm", frame, fragment, 4) for frame in range(40) for fragment in (0, 1)
    ]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "kerchunk"])
def test_an_archive_without_frames_is_exported(tmp_path, form):
    """Of a report alone: no rows, and nothing that is left out."""
    root = tmp_path / "archive"
    root.mkdir()
    report = element(0x00080018, "UI", "1.2") + element(0x00080060, "CS", "SR")
    (root / "report.dcm").write_bytes(dicom_file(report))
    mmindex.build(root, workers=1)
    out = tmp_path / "out"
    done = run("export", root, "--format", form, "-o", out)
    assert "left out" not in done.stderr
    if form == "jsonl":
        assert out.read_bytes() == b""
    elif form == "kerchunk":
        assert json.loads(out.read_text()) == {
            "version": 1,
            "refs": {".zgroup": '{"zarr_format": 2}'},
        }
    else:
        assert pytest.importorskip("pyarrow.parquet").read_table(out).num_rows == 0


def test_an_export_of_everything_says_nothing(tmp_path):
    """Of an archive of native frames alone."""
    data_set = element(0x00080018, "UI", "1.4") + image_attributes()
    (tmp_path / "a.dcm").write_bytes(dicom_file(data_set + element(0x7FE00010, "OW", bytes(4))))
    mmindex.build(tmp_path, workers=1)
    done = run("export", tmp_path)
    assert done.stderr == ""
    assert json.loads(done.stdout)["path"] == "a.dcm"


@pytest.mark.parametrize("form", ["jsonl", "kerchunk"])
def test_an_export_ends_well_when_its_reader_has_enough(tmp_path, form):
    """As of `| head`: no error, and no count of what was not reached."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(3):
        data_set = element(0x00080018, "UI", f"1.{number}")
        data_set += image_attributes(rows=1, columns=1, number_of_frames=60_000)
        data_set += element(0x7FE00010, "OB", bytes(60_000))
        (root / f"{number}.dcm").write_bytes(dicom_file(data_set))
    (root / "d.dcm").write_bytes(make_deflated("1.9"))
    mmindex.build(root, workers=1)
    script = '"$@" | head -n 1; echo ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *PROGRAM, "export", str(root), "--format", form],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_progress_counts_files_with_frames(root):
    """The last call has all of them."""
    from mmindex.export.jsonl import walk_lines

    calls: list[tuple[int, int]] = []
    with mmindex.open(root) as archive:
        list(walk_lines(archive, progress=lambda done, total: calls.append((done, total))))
    assert calls[-1] == (28, 28)


@pytest.mark.parametrize(("output", "shown"), [("file", True), ("terminal", False)])
def test_progress_is_shown_where_the_output_is_not_the_terminal(root, tmp_path, output, shown):
    """A bar is wiped before files are named; lines of the output are not written over."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    options = ["-o", str(tmp_path / "out")] if output == "file" else []
    command = [*PROGRAM, "export", str(root), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    child = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 4096):
            pieces.append(piece)
    except OSError:  # the end, on Linux
        pass
    finally:
        os.close(ours)
    assert child.wait(timeout=60) == 0
    text = b"".join(pieces).decode()
    assert ("28 of 28 files" in text) == shown
    assert "27 files left out" in text
    if shown:
        assert text.index("28 of 28 files") < text.index("left out:")


def test_references_open_no_file_whose_frames_they_leave_out(tmp_path, monkeypatch):
    """An unproved table takes a look at every frame of its file: a request each, in a bucket."""
    root = tmp_path / "archive"
    root.mkdir()
    data_set = element(0x00080018, "UI", "1.2") + image_attributes(number_of_frames=40)
    entries = [14 * frame for frame in range(40)]
    frames = encapsulate([b"\xff\xd8ab\xff\xd9"] * 40, bot=entries)
    (root / "slide.dcm").write_bytes(dicom_file(data_set + frames, JPEG_BASELINE))
    mmindex.build(root, workers=1, prove=False)

    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(mmindex.Archive, "file", refuse)
    reasons: dict[str, str] = {}
    with mmindex.open(root) as archive:
        refs = json.loads(b"".join(walk_references(archive, left_out=reasons.__setitem__)))
        with pytest.raises(AssertionError):
            list(walk_lines(archive))
    assert set(refs["refs"]) == {".zgroup"}
    ((path, why),) = reasons.items()
    assert path.endswith("slide.dcm")
    assert why.startswith("compressed: ")
