"""Lengths and counts that no file has: refused in little memory."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from child_process import little_memory
from dicom_bytes import (
    JPEG_BASELINE,
    PIXEL_DATA,
    UNDEFINED,
    dicom_file,
    element,
    image_attributes,
    item,
    native_file,
    pack_tag,
    written,
)

import mmindex
from mmindex.errors import (
    TruncatedFrameError,
)
from mmindex.model import Fingerprint
from mmindex.sources.file import (
    FileSource,
    open_descriptor,
)


@pytest.mark.parametrize("frames", [1, 2])
def test_R14_a_fragment_that_claims_4_GiB_raises_with_little_memory(
    tmp_path: Path, frames: int
) -> None:
    """The length of an item is no reason to take so much memory before the file is read."""
    value = item() + item(b"\xff\xd8a\xff\xd9\0") * (frames - 1)
    value += pack_tag(0xFFFEE000) + struct.pack("<I", 0xFFFFFFF0) + b"\xff\xd8abc"
    data_set = image_attributes(number_of_frames=frames)
    data_set += element(PIXEL_DATA, "OB", value, length=UNDEFINED)
    path = written(tmp_path, dicom_file(data_set, JPEG_BASELINE))
    with mmindex.open_file(path) as instance, little_memory():
        for read in (instance.frame, instance.view, lambda last: instance.frames([last])):
            with pytest.raises(TruncatedFrameError):
                read(frames - 1)


def test_a_read_past_the_end_of_the_file_raises_with_little_memory(tmp_path: Path) -> None:
    """A source looks at the size that the file had before it asks for so many bytes."""
    path = str(written(tmp_path, bytes(100)))
    source = FileSource(open_descriptor(path), path, Fingerprint.of(os.stat(path)), 1.0)
    for offset, length in ((0, 1 << 32), (50, 51), (1 << 61, 8), (1 << 64, 8), (99, 1 << 64)):
        with little_memory(), pytest.raises(TruncatedFrameError, match="past the end"):
            source.read(offset, length)
    assert source.read(50, 50) == bytes(50)


@pytest.mark.parametrize("number_of_frames", [30_000_000, 0x7FFFFFFF, 999_999_999_999])
def test_R35_all_of_a_number_of_frames_that_is_not_there_raise_with_little_memory(
    tmp_path: Path, number_of_frames: int
) -> None:
    """Two thousand million frames in a file of a few bytes are not first listed."""
    path = written(tmp_path, native_file(bytes(8), number_of_frames=number_of_frames))
    with mmindex.open_file(path) as instance:
        with pytest.raises(TruncatedFrameError):  # imports what it needs
            instance.array(2)
        for read in (instance.frames, instance.arrays, instance.frames):
            with little_memory(), pytest.raises(TruncatedFrameError):
                read()
        assert instance.frames([0, 1]) == [bytes(4)] * 2
