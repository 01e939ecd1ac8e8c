"""Another index file in the place of the one that is served: no request is refused for it."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from dicom_bytes import JPEG_BASELINE, dicom_file, encapsulate, image_attributes
from serve.asgi_client import ask
from served_archive import CINE, CT, FRAMES, SERIES, STUDY, Served, header, write_archive

import mmindex
from mmindex.serve import application
from mmindex.serve.current import CurrentArchive

MANY = [b"\xff\xd8" + bytes([n % 251]) * (40 + 2 * (n % 99)) + b"\xff\xd9" for n in range(20_000)]
LONG = "1.2.9.50"
PLACE = f"/dicom-web/studies/{STUDY}/series/{SERIES}/instances/{LONG}"
OCTETS = "application/octet-stream; transfer-syntax=*, image/jpeg"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write an archive with an instance of so many frames that its table stays in the index."""
    folder = tmp_path / "archive"
    folder.mkdir()
    write_archive(folder)
    data = header(LONG, STUDY, SERIES, "US", b"M\xfcller^Anna", "20200102")
    data += image_attributes(number_of_frames=len(MANY)) + encapsulate(MANY)
    (folder / "long.dcm").write_bytes(dicom_file(data, JPEG_BASELINE))
    mmindex.build(folder, workers=1)
    return folder


def replace_index(folder: Path) -> None:
    """Put a copy of the index in its place."""
    shutil.copy(folder / ".mmindex", folder.parent / "copy")
    os.replace(folder.parent / "copy", folder / ".mmindex")


def test_frames_whose_table_stays_in_the_index(folder: Path) -> None:
    """An instance that was open is opened again, though its record is the same."""
    app = application(folder, revalidate_after=0)
    for _ in range(3):
        for number in (1, 9_999, len(MANY)):
            found = ask(app, f"{PLACE}/frames/{number}", accept=OCTETS)
            assert (found.status_code, found.content) == (200, MANY[number - 1])
        whole = ask(app, f"{PLACE}/bulkdata/7FE00010", accept="*/*")
        assert whole.content.count(b"Content-Type: image/jpeg") == len(MANY)
        replace_index(folder)


def test_an_instance_that_need_not_be_looked_at_yet(folder: Path) -> None:
    """Within the interval, too, what another request found is known to this one."""
    app = application(folder, revalidate_after=0.5)
    assert ask(app, f"{PLACE}/frames/1", accept=OCTETS).content == MANY[0]
    time.sleep(0.4)
    small = Served(folder, "").instance(CINE)
    replace_index(folder)
    assert ask(app, f"{small}/frames/2", accept=OCTETS).content == FRAMES[1]
    found = ask(app, f"{PLACE}/frames/15000", accept=OCTETS)
    assert (found.status_code, found.content) == (200, MANY[14_999])


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every other archive that is read closed before: another request found a new index."""
    real, turns, lock = CurrentArchive.get, itertools.count(), threading.Lock()

    def get(self: CurrentArchive) -> mmindex.Archive:
        archive = real(self)
        with lock:
            if next(turns) % 2:
                return archive
        closed = copy.copy(archive)
        closed.close()
        return closed

    monkeypatch.setattr(CurrentArchive, "get", get)


@pytest.mark.parametrize(
    "path",
    [
        *("/studies", "/series", "/instances", "/instances?includefield=all"),
        *("/studies?PatientName=M*", f"/studies?StudyInstanceUID={STUDY}"),
        *(f"/studies/{STUDY}", f"/studies/{STUDY}/metadata", f"/studies/{STUDY}/series"),
        *(f"{PLACE[10:]}", f"{PLACE[10:]}/metadata", f"{PLACE[10:]}/frames/2,3"),
        f"/studies/{STUDY}/series/1.2.3.2/instances/{CT}/rendered",
        f"/studies/{STUDY}/series/1.2.3.2/thumbnail",
    ],
)
@pytest.mark.usefixtures("overtaken")
def test_what_was_closed_while_it_was_read_is_read_once_more(folder: Path, path: str) -> None:
    """Two threads read: the one that finds another index closes that which the other one reads."""
    app = application(folder, revalidate_after=0)
    for _ in range(3):
        found = ask(app, "/dicom-web" + path, accept="*/*")
        assert found.status_code == 200, found.text


def test_an_instance_whose_index_is_closed_while_its_frames_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame is read from the instance as the new index has it."""
    app = application(folder, revalidate_after=60)
    assert ask(app, f"{PLACE}/frames/1", accept=OCTETS).content == MANY[0]
    real = mmindex.Instance.frame
    get = CurrentArchive.get
    archives: list[CurrentArchive] = []
    monkeypatch.setattr(CurrentArchive, "get", lambda self: archives.append(self) or get(self))
    assert ask(app, "/dicom-web/studies/1.2.4/series").status_code == 200

    def overtaken(self: mmindex.Instance, index: int) -> bytes:
        monkeypatch.setattr(mmindex.Instance, "frame", real)
        replace_index(folder)
        get(archives[0])
        return real(self, index)

    monkeypatch.setattr(mmindex.Instance, "frame", overtaken)
    monkeypatch.setattr("mmindex.serve.held._AT_ONCE", None)
    found = ask(app, f"{PLACE}/frames/11001,11002", accept="*/*")
    assert found.status_code == 200
    assert MANY[11_000] in found.content
    assert MANY[11_001] in found.content


def test_an_instance_that_is_not_in_the_new_index(folder: Path) -> None:
    """What another index does not have is not served from the old one."""
    app = application(folder, revalidate_after=0)
    assert ask(app, f"{PLACE}/frames/1", accept=OCTETS).status_code == 200
    (folder / "long.dcm").unlink()
    mmindex.build(folder, workers=1, index=folder.parent / "new")
    os.replace(folder.parent / "new", folder / ".mmindex")
    assert ask(app, f"{PLACE}/frames/1", accept=OCTETS).status_code == 404
