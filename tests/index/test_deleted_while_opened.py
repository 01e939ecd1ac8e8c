"""An index that is deleted while it is being opened: LMDB creates an empty file in its place."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from dicom_bytes import native_file

import mmindex
from mmindex.errors import IndexFormatError, MissingFileError


@pytest.mark.parametrize("opens", [mmindex.open, lambda root: mmindex.update(root, [root])])
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


def test_an_empty_file_of_somebody_stays(tmp_path: Path) -> None:
    """One that was there before."""
    index = tmp_path / ".mmindex"
    lmdb.open(str(index), subdir=False, lock=False).close()
    before = index.read_bytes()
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        mmindex.open(tmp_path)
    assert index.read_bytes() == before
