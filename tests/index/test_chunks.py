"""Entries and positions that are kept apart from their record, in chunks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from new_store import create_store

from mmindex.errors import StaleIndexError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status

FRAMES = 30_000  # whose entries are over 64 KiB


def write_index(path: Path, step: int) -> None:
    """Write an index of one file, whose fragments begin `step` bytes after each other."""
    entries = b"".join((at * step).to_bytes(4, "little") for at in range(FRAMES + 1))
    layout = Layout.FRAGMENT_A_FRAME
    record = InstanceRecord(
        Status.INDEXED,
        path=b"a.dcm",
        fingerprint=Fingerprint(1, 2, 3),
        sop_instance_uid="1.2.3",
        number_of_frames=FRAMES,
        frames=FrameTable(layout, FRAMES, FRAMES, FRAMES, 500, entries=entries),
    )
    store = create_store(str(path), b"/archive")
    store.replace([pack_record(record)])
    store.close()


def test_entries_of_another_index_that_was_written_over_this_one_are_not_those_of_a_record(
    tmp_path: Path,
) -> None:
    """File ids and keys of chunks are the same there: the identity of the index tells."""
    write_index(tmp_path / "index", 100)
    write_index(tmp_path / "other", 102)
    store = Store(str(tmp_path / "index"))
    record = store.read_path(b"a.dcm")
    assert record is not None
    assert record.frames is not None
    assert record.frames.fragment_ranges(5)[0].offset == 500 + 5 * 100 + 8
    content = (tmp_path / "other").read_bytes()
    with open(tmp_path / "index", "r+b") as file:  # as `rsync --inplace` does
        file.write(content)
    assert os.path.getsize(tmp_path / "index") == len(content)
    assert record.frames.fragment_ranges(6)[0].offset == 500 + 6 * 100 + 8  # in memory already
    with pytest.raises(StaleIndexError, match="another index was written over it"):
        record.frames.fragment_ranges(FRAMES - 1)
    found = store.read_path(b"a.dcm")
    assert found is not None
    assert found.frames is not None
    assert found.frames.fragment_ranges(FRAMES - 1)[0].offset == 500 + (FRAMES - 1) * 102 + 8
    store.close()
