"""Fixtures that several folders of tests have in common."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from clock import Clock
from dicom_bytes import HEVC, encapsulated_file
from pydicom.encaps import generate_frames
from sample_archive import CINE, NAMES, VIDEO, testdata

import mmindex


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Yield a terminal's two ends, this one and a program's."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let a test say how late it is."""
    clock = Clock()
    for name in ("mmindex.sources.file", "mmindex.read.archive"):
        monkeypatch.setattr(importlib.import_module(name), "monotonic", clock)
    return clock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that pydicom carries, without an index."""
    for name in NAMES:
        shutil.copyfile(testdata(name), tmp_path / name)
    return tmp_path


@pytest.fixture
def archive(folder: Path) -> Path:
    """The folder, with its index."""
    mmindex.build(folder, workers=1)
    return folder


@pytest.fixture
def cine(folder: Path) -> Path:
    """The file of the folder that has most frames."""
    return folder / CINE


@pytest.fixture(scope="session")
def cine_frames() -> list[bytes]:
    """Every frame of the cine as pydicom takes it out."""
    return list(generate_frames(pydicom.dcmread(testdata(CINE)).PixelData, number_of_frames=30))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of 30 frames in three fragments."""
    path = tmp_path / "video.dcm"
    path.write_bytes(encapsulated_file(VIDEO, 30, HEVC))
    return path
