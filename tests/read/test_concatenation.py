"""A concatenation is one sequence of frames over several instances."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from dicom_bytes import dicom_file, element, image_attributes

import mmindex
from mmindex.errors import FormatError, FrameIndexError, InstanceNotFoundError


def write_part(
    path: Path, uid: str, first: int, frames: list[bytes], name: str = "1.7", total: int = 0
) -> None:
    data_set = element(0x00080018, "UI", uid) + element(0x0020000D, "UI", "1.2")
    data_set += element(0x0020000E, "UI", "1.3") + element(0x00209161, "UI", name)
    if total:
        data_set += element(0x00209163, "US", struct.pack("<H", total))
    data_set += element(0x00209228, "UL", struct.pack("<I", first))
    data_set += image_attributes(number_of_frames=len(frames))
    path.write_bytes(dicom_file(data_set + element(0x7FE00010, "OB", b"".join(frames))))


FRAMES = [bytes([number] * 4) for number in range(7)]


def write_parts(folder: Path) -> None:
    write_part(folder / "a.dcm", "1.1.1", 5, FRAMES[5:])
    write_part(folder / "b.dcm", "1.1.2", 0, FRAMES[:2])
    write_part(folder / "c.dcm", "1.1.3", 2, FRAMES[2:5])
    write_part(folder / "d.dcm", "1.1.4", 0, FRAMES[:1], name="1.8")


@pytest.mark.parametrize("series", [None, "1.3"])
def test_frames_follow_in_the_order_of_their_offsets(tmp_path, series):
    """Over the instances of this UID alone; an index past the end raises."""
    write_parts(tmp_path)
    mmindex.build(tmp_path, workers=1)
    with (
        mmindex.open(tmp_path) as archive,
        archive.concatenation("1.7", series_instance_uid=series) as frames,
    ):
        assert list(frames) == FRAMES
        assert len(frames) == 7
        assert frames[2:4] == FRAMES[2:4]
        assert frames.locate(4) == (frames.instances[1], 2)
        assert frames.array(6).tolist() == [[6, 6], [6, 6]]
        for index in (-1, 7):
            with pytest.raises(FrameIndexError, match="7 frames"):
                frames.frame(index)
        with pytest.raises(InstanceNotFoundError, match="Concatenation UID"):
            archive.concatenation("1.9")


@pytest.mark.parametrize("name", ["b.dcm", "c.dcm"])
def test_a_gap_raises(tmp_path, name):
    """A part that is missing is no shorter sequence."""
    write_parts(tmp_path)
    (tmp_path / name).unlink()
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, pytest.raises(FormatError, match="begins with frame"):
        archive.concatenation("1.7")


def test_parts_that_overlap_raise(tmp_path):
    """Two instances say that they have the same frames."""
    write_parts(tmp_path)
    write_part(tmp_path / "e.dcm", "1.1.5", 2, FRAMES[2:5])
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, pytest.raises(FormatError, match="begins with frame"):
        archive.concatenation("1.7")


@pytest.mark.parametrize("total", [0, 1, 2, 3])
def test_the_number_of_parts_is_what_they_say(tmp_path, total):
    """A last part that is missing leaves no gap; 0 is not said (PS3.3 C.7.6.16.2.2.4)."""
    write_part(tmp_path / "a.dcm", "1.1.1", 0, FRAMES[:2], total=total)
    write_part(tmp_path / "b.dcm", "1.1.2", 2, FRAMES[2:], total=total)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        if total in (0, 2):
            with archive.concatenation("1.7") as frames:
                assert list(frames) == FRAMES
            return
        with pytest.raises(FormatError, match=f"concatenation of {total} instances, found 2"):
            archive.concatenation("1.7")


@pytest.mark.parametrize("asked", [0, 1])
def test_any_part_may_say_how_many_there_are(tmp_path, asked):
    """In-concatenation Total Number of a first part shows that the last one is missing, too."""
    totals = [0, 0]
    totals[asked] = 3
    write_part(tmp_path / "a.dcm", "1.1.1", 0, FRAMES[:2], total=totals[0])
    write_part(tmp_path / "b.dcm", "1.1.2", 2, FRAMES[2:5], total=totals[1])
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, pytest.raises(FormatError, match="of 3 instances"):
        archive.concatenation("1.7")


@pytest.mark.parametrize("newest", ["a.dcm", "c.dcm"])
def test_of_two_files_of_a_part_the_offset_is_that_of_the_one_that_is_served(tmp_path, newest):
    """Offset and frames come from one file: the newer, whichever is listed first."""
    write_part(tmp_path / "a.dcm", "1.1.1", 0, FRAMES[:2])
    write_part(tmp_path / "b.dcm", "1.1.2", 0, FRAMES[:2])
    write_part(tmp_path / "c.dcm", "1.1.1", 2, FRAMES[2:4])
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        when = 2_000_000_000 if name == newest else 1_000_000_000
        os.utime(tmp_path / name, (when, when))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        if newest == "a.dcm":
            with pytest.raises(FormatError, match="begins with frame 0"):
                archive.concatenation("1.7")
            return
        with archive.concatenation("1.7") as frames:
            assert list(frames) == FRAMES[:4]


def test_a_newer_file_of_another_concatenation_is_no_part(tmp_path):
    """The file that is served says what the instance is part of."""
    write_part(tmp_path / "a.dcm", "1.1.1", 0, FRAMES[:2])
    write_part(tmp_path / "b.dcm", "1.1.2", 2, FRAMES[2:4])
    write_part(tmp_path / "c.dcm", "1.1.2", 0, FRAMES[2:4], name="1.8")
    for name, when in (("a.dcm", 1), ("b.dcm", 1), ("c.dcm", 2)):
        os.utime(tmp_path / name, (when * 1_000_000_000, when * 1_000_000_000))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        with archive.concatenation("1.7") as frames:
            assert list(frames) == FRAMES[:2]
        with archive.concatenation("1.8") as frames:
            assert list(frames) == FRAMES[2:4]
