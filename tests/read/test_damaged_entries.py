"""Entries of a frame table that are no ranges: a damaged index, in little memory."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from child_process import little_memory
from dicom_bytes import (
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    written,
)
from new_store import create_store

import mmindex
from mmindex import MMIndexError
from mmindex.errors import (
    IndexFormatError,
)
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.record import pack_record
from mmindex.model import Fingerprint, InstanceRecord, Status
from mmindex.read.instance import Instance
from mmindex.sources.file import (
    FileSource,
    open_descriptor,
)

SIZE = 1000  # bytes of the file that damaged records are of


DAMAGED = {
    "an item that ends before it begins": (Layout.FRAGMENT_A_FRAME, 1, (24, 0)),
    "an item shorter than its header": (Layout.FRAGMENT_A_FRAME, 1, (0, 7)),
    "a frame that ends before it begins": (Layout.FRAGMENTS, 1, (1, 0, 0, 24)),
    "a frame of no fragment": (Layout.FRAGMENTS, 1, (0, 0, 0, 24)),
    "a frame of fragments that are not there": (Layout.FRAGMENTS, 1, (0, 1 << 31, 0, 24)),
    "fragments that overlap": (Layout.FRAGMENTS, 2, (0, 2, 0, 24, 12)),
    "a span that ends before it begins": (Layout.TRUSTED, 0, (24, 0)),
}


def damaged(
    folder: Path, layout: Layout, fragments: int, entries: tuple[int, ...], size: int
) -> Instance:
    """Return an instance of one frame whose record has these entries, of `size` bytes each."""
    path = str(written(folder, bytes(SIZE)))
    packed = struct.pack(f"<{len(entries)}{'I' if size == 4 else 'Q'}", *entries)
    table = FrameTable(layout, 1, 1, fragments, 100, entry_size=size, entries=packed)
    fingerprint = Fingerprint.of(os.stat(path))
    record = InstanceRecord(
        Status.INDEXED, frames=table, number_of_frames=1, fingerprint=fingerprint
    )
    return Instance(record, FileSource(open_descriptor(path), path, fingerprint, 1.0))


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(("layout", "fragments", "entries"), DAMAGED.values(), ids=DAMAGED)
def test_entries_that_are_no_ranges_are_a_damaged_index(
    tmp_path: Path, layout: Layout, fragments: int, entries: tuple[int, ...], size: int
) -> None:
    """A record with a flipped bit gives an error that names the remedy, and no bytes."""
    instance = damaged(tmp_path, layout, fragments, entries, size)
    reads = (instance.frame, instance.view, instance.fragments, instance.byte_ranges)
    for read in (*reads, instance.array, lambda index: instance.frames([index])):
        with pytest.raises(IndexFormatError, match="rebuild the index"):
            read(0)


@pytest.mark.parametrize(
    "entries", [(0, 1 << 62), (0, (1 << 64) - 1), ((1 << 63) + 5, (1 << 63) + 100), (2000, 2100)]
)
@pytest.mark.parametrize("layout", [Layout.FRAGMENT_A_FRAME, Layout.FRAGMENTS, Layout.TRUSTED])
def test_entries_far_beyond_the_file_raise_with_little_memory(
    tmp_path: Path, layout: Layout, entries: tuple[int, int]
) -> None:
    """An offset that 63 bits cannot hold is an error of this package like any other."""
    fragments = 0 if layout is Layout.TRUSTED else 1
    whole = (0, 1, *entries) if layout is Layout.FRAGMENTS else entries
    instance = damaged(tmp_path, layout, fragments, whole, 8)
    reads = (instance.frame, instance.view, instance.fragments, instance.byte_ranges)
    for read in (*reads, instance.array, lambda index: instance.frames([index])):
        with pytest.raises(MMIndexError):  # imports what it needs
            read(0)
        with little_memory(), pytest.raises(MMIndexError):
            read(0)


def test_entries_of_an_index_that_are_no_ranges_are_a_damaged_index(tmp_path: Path) -> None:
    """What an index file says is checked when a frame is read, not only when it is written."""
    values = [b"\xff\xd8%04d\xff\xd9" % index for index in range(8)]
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes(number_of_frames=8)
    written(tmp_path, dicom_file(data_set + encapsulate(values), RLE_LOSSLESS))
    report = mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        (record,) = archive.records()
    assert record.frames is not None
    assert record.frames.entries[:] == struct.pack("<9I", *range(0, 9 * 16, 16))
    changed = struct.pack("<9I", 0, 16, 32, 8, *range(64, 9 * 16, 16))
    store = create_store(report.index, os.fsencode(tmp_path))
    store.replace([pack_record(record._replace(frames=record.frames._replace(entries=changed)))])
    store.close()
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.2.3", 0) == values[0]
        for read in (archive.frame, archive.array, lambda *pair: archive.frames([pair])):
            with pytest.raises(IndexFormatError, match="frame index 2 are no ranges"):
                read("1.2.3", 2)
