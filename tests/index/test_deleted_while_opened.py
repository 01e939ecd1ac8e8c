"""An index that is deleted while it is being opened: LMDB creates an empty file in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb
import pytest
from dicom_bytes import native_file

import mmindex
from mmindex.errors import (
    IndexFormatError,
    IndexWriteError,
    MissingFileError,
    StaleIndexError,
)


def update(root: Path) -> None:
    mmindex.update(root, [root])


@pytest.mark.parametrize("opens", [mmindex.open, update])
def test_no_empty_file_stays_for_a_build_to_stumble_over(tmp_path, monkeypatch, opens):
    """Whoever opens it hears that there is none, and the next build creates one."""
    (tmp_path / "a.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)
    index = tmp_path / ".mmindex"
    real = lmdb.open
    deleted = []

    def open_late(path, **options):
        if not deleted:
            index.unlink()
            deleted.append(path)
        return real(path, **options)

    monkeypatch.setattr(lmdb, "open", open_late)
    with pytest.raises(MissingFileError, match="no such index"):
        opens(tmp_path)
    assert deleted
    assert not index.exists()
    assert mmindex.build(tmp_path, workers=1).scanned == 1


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_reader_of_the_process_is_not_given_another_index(tmp_path, monkeypatch, is_replaced):
    """A build opens the file again where a reader has it open: by then it may be another one."""
    (tmp_path / "a.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)
    index, other = tmp_path / ".mmindex", tmp_path / "other"
    shutil.copy(index, other)
    real = lmdb.open

    def open_late(path, **options):
        monkeypatch.undo()
        index.unlink()
        if is_replaced:
            other.rename(index)
        return real(path, **options)

    error, match = (IndexWriteError, "another index") if is_replaced else (MissingFileError, "no")
    with mmindex.open(tmp_path) as archive:
        assert archive.has_file("a.dcm")
        monkeypatch.setattr(lmdb, "open", open_late)
        with pytest.raises(error, match=match):
            update(tmp_path)
        assert index.exists() == is_replaced
        with pytest.raises(StaleIndexError if is_replaced else MissingFileError):
            archive.has_file("a.dcm")
    assert mmindex.build(tmp_path, workers=1).found == 2 - is_replaced


def test_an_empty_file_of_somebody_stays(tmp_path: Path) -> None:
    """One that was there before."""
    index = tmp_path / ".mmindex"
    lmdb.open(str(index), subdir=False, lock=False).close()
    before = index.read_bytes()
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        mmindex.open(tmp_path)
    assert index.read_bytes() == before
