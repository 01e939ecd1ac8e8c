"""Arrays of a file that is cut short while they are read: an error, never a signal."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from child_process import exit_code, forks
from dicom_bytes import (
    PIXEL_DATA,
    element,
    identified,
    image_attributes,
    written,
)

import mmindex
from mmindex import MMIndexError
from mmindex.read.instance import Instance


def large(stored_bits: int) -> bytes:
    """Return a file of two frames that lie on many pages, of 16 bits allocated."""
    attributes = image_attributes(rows=256, columns=256, bits=16, number_of_frames=2)
    stored = element(0x00280101, "US", stored_bits)
    attributes = attributes.replace(element(0x00280101, "US", 16), stored)
    return identified(attributes + element(PIXEL_DATA, "OW", bytes(2 * 256 * 256 * 2)))


CUT: dict[str, tuple[int, Callable[[Instance], object]]] = {
    "array(copy=True)": (16, lambda instance: instance.array(1, copy=True)),
    "arrays()": (16, lambda instance: instance.arrays()),
    "array() of 12 in 16 bits": (12, lambda instance: instance.array(1)),
    "array(raw=True) of 12 in 16 bits": (12, lambda instance: instance.array(1, raw=True)),
    "frame()": (16, lambda instance: instance.frame(1)),
    "frames()": (16, lambda instance: instance.frames()),
}


@forks
@pytest.mark.parametrize(("stored_bits", "read"), CUT.values(), ids=CUT)
def test_an_array_of_its_own_of_a_cut_file_raises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored_bits: int,
    read: Callable[[Instance], object],
) -> None:
    """A copy is not made of mapped memory, whose lost part would kill the process."""
    path = written(tmp_path, large(stored_bits))
    monkeypatch.setattr("mmindex.read.open_file.REVALIDATE_AFTER", 3600.0)

    def cut_and_read() -> None:
        with mmindex.open_file(path) as instance:
            instance.array(0)
            instance.view(0)
            os.truncate(path, 1000)
            with pytest.raises(MMIndexError):
                read(instance)

    assert exit_code(cut_and_read) == 0


@forks
def test_items_of_a_dataset_over_a_cut_file_raise(tmp_path: Path) -> None:
    """A training loop gets an error for an item whose file was cut, and lives on."""
    path = written(tmp_path, large(16))
    mmindex.build(tmp_path, workers=1)

    def cut_and_read() -> None:
        with mmindex.open(tmp_path, revalidate_after=3600) as archive:
            dataset = mmindex.FrameDataset(archive)
            dataset[0]
            archive.array("1.2.3", 0)  # maps the file
            os.truncate(path, 1000)
            for index in (0, 1):
                with pytest.raises(MMIndexError):
                    dataset[index]
            with pytest.raises(MMIndexError):
                archive.arrays([("1.2.3", 0), ("1.2.3", 1)])

    assert exit_code(cut_and_read) == 0
