"""`stats`: counts of an archive against what a test wrote, from the index alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from cli_runner import run as run_command
from dicom_bytes import HEVC, dicom_file, element, encapsulated_file, small_image
from new_store import create_store

import mmindex
from mmindex.index.record import pack_record, unpack_record
from mmindex.read.statistics import Statistics

SOP_INSTANCE_UID = 0x00080018


FILES = {
    **{
        f"{count}-frames": small_image(f"1.{count}", b"abcd" * count)
        for count in (1, 2, 30, 4, 50, 6, 7)
    },
    "twin-1": small_image("1.100", b"abcd" * 3),
    "twin-2": small_image("1.100", b"abcd" * 3),
    "stream": encapsulated_file([b"\0\0\0\1"], 25, HEVC),
    "report": dicom_file(element(SOP_INSTANCE_UID, "UI", "1.101")),
    "text": b"patient,study\n" * 100,
    "empty": b"",
    "cut": small_image("1.102", b"abcd" * 5)[:201],
}
FRAMES = 1 + 2 + 30 + 4 + 50 + 6 + 7 + 3 + 3  # those of a stream and of a cut file can't be read
INSTANCES = 7 + 1
STATUSES = {"indexed": 9, "stream": 1, "no-pixel-data": 1, "not-dicom": 2, "unreadable": 1}
LARGEST = [("50-frames", 50), ("30-frames", 30), ("7-frames", 7), ("6-frames", 6), ("4-frames", 4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive of known content, with its index."""
    root = tmp_path / "archive"
    root.mkdir()
    for name, content in FILES.items():
        (root / name).write_bytes(content)
    mmindex.build(root, workers=1)
    return root


def count(path: Path) -> Statistics:
    with mmindex.open(path) as archive:
        return archive.statistics()


run = partial(run_command, "stats")


def set_scan_times(root: Path, microseconds: dict[str, int]) -> None:
    """Write the index anew with these times, as if the scans had taken them."""
    store = create_store(str(root / ".mmindex"), os.fsencode(root))
    packed = [
        pack_record(record._replace(scan_microseconds=microseconds[os.fsdecode(record.path)]))
        for record in map(unpack_record, list(store.iterate_packed()))
    ]
    store.replace(packed)
    store.close()


def test_counts_are_those_of_the_files_written(root: Path) -> None:
    """Statuses, files, instances, frames and bytes; a UID that two files have counts once."""
    found = count(root)
    assert found.statuses == STATUSES
    assert found.files == len(FILES)
    assert found.instances == INSTANCES
    assert found.frames == FRAMES
    assert found.file_bytes == sum(map(len, FILES.values()))
    assert found.index_bytes == (root / ".mmindex").stat().st_size - (1 << 17)
    assert found.index_bytes_a_frame == found.index_bytes / FRAMES
    assert found.largest == LARGEST


def test_slowest_are_by_the_time_of_their_scan(root: Path) -> None:
    """Five of them, in seconds, whatever they are: a file that is not DICOM can be slow, too."""
    times = {name: number for number, name in enumerate(FILES)}
    times |= {"text": 5_000_000, "cut": 4_000_000, "empty": 3_000_000}
    times |= {"2-frames": 2_000_000, "stream": 0xFFFF_FFFF}
    set_scan_times(root, times)
    assert count(root).slowest == [
        ("stream", 4294.967295),
        ("text", 5.0),
        ("cut", 4.0),
        ("empty", 3.0),
        ("2-frames", 2.0),
    ]
    assert count(root).largest == LARGEST


def test_scans_are_timed(root: Path) -> None:
    """A build stores the time that each scan took."""
    slowest = count(root).slowest
    assert len(slowest) == 5
    assert all(0 < seconds < 600 for _, seconds in slowest)
    assert [seconds for _, seconds in slowest] == sorted(
        (seconds for _, seconds in slowest), reverse=True
    )


def test_an_archive_without_frames_has_no_bytes_a_frame(tmp_path: Path) -> None:
    """Nothing is divided by zero, and an empty archive is no error."""
    mmindex.build(tmp_path, workers=1)
    found = count(tmp_path)
    assert found == replace(
        found, statuses={}, files=0, instances=0, frames=0, file_bytes=0, largest=[], slowest=[]
    )
    assert found.index_bytes_a_frame == 0.0
    assert re.search(r"^Frames +0$", run(tmp_path).stdout, re.MULTILINE)


def test_no_file_is_opened(root: Path, tmp_path: Path) -> None:
    """An index whose archive is gone counts the same."""
    shutil.copy(root / ".mmindex", tmp_path / "index")
    before = count(root)
    shutil.rmtree(root)
    after = count(tmp_path / "index")
    assert after == before


def test_text_is_aligned_rows(root: Path) -> None:
    """What is counted and its value, in one column each."""
    set_scan_times(root, dict.fromkeys(FILES, 0) | {"text": 1_234_567})
    lines = run(root).stdout.splitlines()
    found = count(root)
    rows = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in lines)
    assert rows["Files"] == f"{len(FILES)}, {found.file_bytes} bytes"
    assert {name: int(rows[name]) for name in STATUSES} == STATUSES
    assert rows["Instances"] == str(INSTANCES)
    assert rows["Frames"] == str(FRAMES)
    assert rows["Index"] == (
        f"{found.index_bytes} bytes, {found.index_bytes / FRAMES:.1f} bytes a frame"
    )
    assert rows["Most frames 1"].split() == ["50", "50-frames"]
    assert rows["Most frames 5"].split() == ["4", "4-frames"]
    assert rows["Slowest 1"].split() == ["1.235", "s", "text"]
    assert sum(line.startswith("  ") for line in lines) == len(STATUSES)
    begins = {re.match(r" *\S+(?: \S+)* {2,}", line).end() for line in lines}
    assert len(begins) == 1


def test_json_has_every_field(root: Path) -> None:
    """Its numbers are those of count_archive."""
    found = count(root)
    described = json.loads(run(root, "--json").stdout)
    assert datetime.fromisoformat(described.pop("last_build")).tzinfo is not None
    assert described == {
        "statuses": STATUSES,
        "files": len(FILES),
        "instances": INSTANCES,
        "frames": FRAMES,
        "file_bytes": found.file_bytes,
        "index_bytes": found.index_bytes,
        "largest": [list(pair) for pair in LARGEST],
        "slowest": [list(pair) for pair in found.slowest],
        "index_bytes_a_frame": found.index_bytes_a_frame,
        "attributes": [],
    }


def test_an_index_file_is_counted_like_its_archive(root: Path, tmp_path: Path) -> None:
    """ROOT may be the index."""
    (root / ".mmindex").replace(tmp_path / "old")
    (root / ".mmindex-lock").unlink()
    mmindex.build(root, tmp_path / "index", workers=1)
    described = json.loads(run(tmp_path / "index", "--json").stdout)
    assert (described["files"], described["frames"]) == (len(FILES), FRAMES)


def test_paths_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    """A name with a newline stays on its line."""
    try:
        (tmp_path / os.fsdecode(b"a\nb\xff")).write_bytes(small_image("1.1", b"abcd" * 2))
    except OSError as error:
        pytest.skip(f"no such names here: {error}")
    mmindex.build(tmp_path, workers=1)
    assert r"2  a\nb\udcff" in run(tmp_path).stdout
    ((path, _),) = json.loads(run(tmp_path, "--json").stdout)["largest"]
    assert os.fsencode(path) == b"a\nb\xff"


def test_no_index_is_one_line(tmp_path: Path) -> None:
    """A folder without index exits with 1 and says how to make one."""
    result = run(tmp_path, code=1)
    assert result.stdout == ""
    assert "mmindex build" in result.stderr
