"""Deflated data sets: inflated once, and looked at as any file is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_bytes import (
    PIXEL_DATA,
    deflated_file,
    element,
    image_attributes,
    written,
)

import mmindex
from mmindex import MMIndexError
from mmindex.errors import (
    MissingFileError,
    StaleIndexError,
)


def deflated(value: bytes) -> bytes:
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes()
    data_set += element(PIXEL_DATA, "OB", value)
    return deflated_file(data_set)


def remove(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_bytes(deflated(b"something else")[:-2])


CHANGES = [(remove, MissingFileError), (change, StaleIndexError)]


@pytest.mark.parametrize(("happens", "error"), CHANGES)
def test_R7_a_deflated_file_is_looked_at_after_it_was_inflated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Path], None],
    error: type[MMIndexError],
) -> None:
    """The inflated bytes are served no longer than those of a file would be."""
    path = written(tmp_path, deflated(b"ABCD"))
    with mmindex.open_file(path) as instance:
        assert instance.frame(0) == b"ABCD"
        happens(path)
        monkeypatch.setattr("mmindex.sources.file.monotonic", lambda: time.monotonic() + 3600)
        for read in (instance.frame, instance.view, instance.array):
            with pytest.raises(error):
                read(0)
        with pytest.raises(error):
            instance.frames()


@pytest.mark.parametrize(("happens", "error"), CHANGES)
def test_R7_an_archive_serves_no_deflated_file_that_changed(
    tmp_path: Path, happens: Callable[[Path], None], error: type[MMIndexError]
) -> None:
    """An instance that an archive keeps open, inflated, is looked at like any other."""
    path = written(tmp_path, deflated(b"ABCD"))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        assert archive.frame("1.2.3", 0) == b"ABCD"
        happens(path)
        for read in (archive.frame, archive.array):
            with pytest.raises(error):
                read("1.2.3", 0)
