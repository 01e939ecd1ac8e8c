"""kill -9 and readers at any moment: what an index keeps of a study is what a file of it says."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest
from child_process import forks
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.index.store import Store

FILES, STUDIES = 40, 5
SETS = ("qido", "PatientName", "PatientName,PatientID", "none")


class Changing:
    """An archive whose files change; each names its file and version as its patient."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.root, self.index = folder / "root", folder / "index"
        self.root.mkdir()
        self.chance = random.Random(seed)
        self._version = 0
        for number in range(FILES):
            self.write(number)

    def write(self, number: int) -> Path:
        """Rename a file into place."""
        self._version += 1
        study = self.chance.randrange(STUDIES)
        data_set = element(0x00080018, "UI", f"1.{number}")
        data_set += element(0x00100010, "PN", f"N{number}^V{self._version}")
        data_set += element(0x00100020, "LO", f"P{self._version}")
        data_set += element(0x0020000D, "UI", f"2.{study}")
        data_set += element(0x0020000E, "UI", f"3.{study}") + image_attributes(rows=1, columns=2)
        part = self.root.parent / "part"
        part.write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", b"ab")))
        at = 10**9 + self.chance.randrange(50)
        os.utime(part, (at, at))
        place = self.root / f"{number:02}.dcm"
        part.rename(place)
        return place

    def change(self) -> list[Path]:
        """Replace some files, and remove others; return their paths."""
        changed = [self.write(number) for number in self.chance.sample(range(FILES), 8)]
        for path in self.chance.sample(changed, 3):
            path.unlink()
        return changed

    def check(self) -> None:
        """Hold that each study's values are those of a file of it that the index has."""
        if not self.index.exists():
            return
        store = Store(str(self.index))
        try:
            store.check()
            for uid in store.iterate_uids("studies"):
                found = store.read_attributes("studies", uid)
                if found is not None:
                    record = store.read_path(found.path)
                    assert record is not None
                    assert record.fingerprint is not None
                    assert record.study_instance_uid == uid
                    assert record.fingerprint.mtime_ns == found.time_ns
        finally:
            store.close()

    def finish(self, kept: str) -> None:
        """Hold that after a build they are those of the file that changed last."""
        mmindex.build(self.root, self.index, workers=1, max_removed="100%", attributes=kept)
        newest: dict[str, tuple[int, bytes, str]] = {}
        for path in self.root.iterdir():
            read = pydicom.dcmread(path)
            found = path.stat().st_mtime_ns, os.fsencode(path.name), str(read.PatientName)
            newest[read.StudyInstanceUID] = max(found, newest.get(read.StudyInstanceUID, found))
        self.check()
        with mmindex.open(self.index) as archive:
            for study in archive.studies():
                name = newest.pop(study.study_instance_uid)[2]
                expected = None if kept == "none" else name
                assert study.attributes.get("PatientName") == expected
        assert newest == {}


def work(changing: Changing, changed: list[Path], kept: str, how: str) -> None:
    if how == "update" and changing.index.exists():
        for path in changed:
            mmindex.update(changing.root, [path], changing.index, max_removed="100%")
    else:
        mmindex.build(changing.root, changing.index, workers=1, max_removed="100%", attributes=kept)


def kill_after(seconds: float, do: Callable[[], object]) -> None:
    child = os.fork()
    if not child:
        try:
            do()
        finally:
            os._exit(0)
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@forks
@pytest.mark.parametrize("how", ["build", "update"])
def test_killed_writers_leave_no_value_of_a_file_that_is_gone(tmp_path: Path, how: str) -> None:
    """Whichever set they wrote; the next build reads what is missing, and nothing else is left."""
    import pydicom.charset
    import pydicom.datadict  # noqa: F401  # which each child would import anew

    changing = Changing(tmp_path, len(how))
    for _ in range(15):
        changed, kept = changing.change(), changing.chance.choice(SETS)
        seconds = 0.15 * changing.chance.random()
        kill_after(seconds, lambda changed=changed, kept=kept: work(changing, changed, kept, how))
        changing.check()
    for kept in ("qido", "PatientName", "none"):
        changing.finish(kept)


def test_readers_see_whole_values_while_sets_and_files_change(tmp_path: Path) -> None:
    """A name that a file of the study had, or none: never half of one, and never an error."""
    changing = Changing(tmp_path, 1)
    mmindex.build(changing.root, changing.index, workers=1, attributes="qido")
    stop, failures, looks = threading.Event(), [], [0]

    def read() -> None:
        try:
            with mmindex.open(changing.index) as archive:
                while not stop.is_set():
                    for study in archive.studies():
                        name = study.attributes.get("PatientName", "N0^V0")
                        assert name.startswith("N")
                        assert "^V" in name
                        json.dumps(study.attributes)
                        looks[0] += 1
        except Exception as error:  # whatever it is, the test fails with it
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(12):
        changed = changing.change()
        mmindex.update(changing.root, changed, changing.index, max_removed="100%")
        kept = changing.chance.choice(SETS)
        mmindex.build(changing.root, changing.index, workers=1, attributes=kept)
    stop.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert looks[0] > STUDIES
    changing.finish("qido")
