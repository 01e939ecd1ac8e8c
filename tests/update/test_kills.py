"""kill -9 at random moments: a build, an update and a watch leave an index that is whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from child_process import forks
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.errors import MMIndexError
from mmindex.sources.base import WalkRules
from mmindex.update.watch import Watch

SOP_INSTANCE_UID = 0x00080018
FILES = 60
LONGEST = 0.25  # seconds until a child is killed

pytestmark = forks


class Living:
    """An archive whose files change, and what each of them may hold."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.root, self.index, self.part = folder / "root", folder / "index", folder / "part"
        self.root.mkdir()
        self.chance = random.Random(seed)
        self._version = 0
        self.before: Path | None = None  # where the archive was before its last move
        for number in range(FILES):
            self._write(number)
        mmindex.build(self.root, self.index, workers=1)

    def _write(self, number: int) -> Path:
        """Rename a file into place whose frames say its number and a version."""
        self._version += 1
        pixels = b"%04d%04d" % (number, self._version)
        data_set = element(SOP_INSTANCE_UID, "UI", f"1.{number}")
        data_set += image_attributes(number_of_frames=2)
        self.part.write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", pixels)))
        place = self.root / f"{number % 5}" / f"{number}.dcm"
        place.parent.mkdir(exist_ok=True)
        self.part.rename(place)
        return place

    def change(self, count: int = 15) -> list[Path]:
        """Replace some files, and remove others; return their paths."""
        changed = [self._write(number) for number in self.chance.sample(range(FILES), count)]
        for path in self.chance.sample(changed, count // 3):
            path.unlink()
        return changed

    def move(self) -> None:
        """Copy the archive to another folder, with its times and other inodes; remove the first."""
        before, self.root = self.root, self.root.with_name(f"root-{self._version}")
        shutil.copytree(before, self.root)
        shutil.rmtree(before)
        with mmindex.open(self.index) as archive:  # it may have been killed before it moved
            self.before = Path(archive.root)

    def check(self) -> None:
        """Hold that the index is whole, and that no frame is wrong."""
        if not self.index.exists():  # killed before there was one
            return
        with mmindex.open(self.index) as archive:
            archive.check_index()
            assert list(archive.duplicates()) == []
            for number in range(FILES):
                with suppress(MMIndexError, KeyError):
                    assert archive.frame(f"1.{number}", 0) == b"%04d" % number

    def finish(self) -> None:
        """Hold that a build brings all up to date."""
        mmindex.build(self.root, self.index, workers=1, max_removed="100%", moved_from=self.before)
        there = {int(path.stem) for path in self.root.glob("*/*.dcm")}
        with mmindex.open(self.index) as archive:
            archive.check_index()
            assert set(archive) == {f"1.{number}" for number in there}
            for number in there:
                assert archive.frame(f"1.{number}", 0) == b"%04d" % number


def kill_within(
    seconds: float, work: Callable[[], object], meanwhile: Callable[[], object]
) -> None:
    """Do `work` in a child, and kill the child after these seconds, half-way do `meanwhile`."""
    child = os.fork()
    if not child:
        try:
            os.setpgid(0, 0)
            work()
        finally:
            os._exit(0)
    time.sleep(seconds / 2)
    meanwhile()
    time.sleep(seconds / 2)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def build(living: Living, changed: list[Path]) -> None:
    mmindex.build(living.root, living.index, workers=1, full=True, max_removed="100%")


def update(living: Living, changed: list[Path]) -> None:
    for path in changed:
        mmindex.update(living.root, [path], living.index)


def take_over(living: Living, changed: list[Path]) -> None:
    ignores = random.choice([True, False, None])
    mmindex.build(
        living.root,
        living.index,
        workers=1,
        max_removed="100%",
        moved_from=living.before,
        ignore_inode=ignores,
    )


def watch(living: Living, changed: list[Path]) -> None:
    rules = WalkRules()
    Watch(
        living.root,
        living.index,
        lambda event: None,
        threading.Event(),
        rules=rules,
        max_removed="100%",
    ).run()


def kill_at_random_moments(folder: Path, work: str, times: int) -> None:
    if work == "watch":
        pytest.importorskip("watchfiles")
    living = Living(folder, times)
    do = {"build": build, "update": update, "watch": watch, "move": take_over}[work]
    longest = 4 * LONGEST if work == "watch" else LONGEST
    for number in range(times):
        if work == "build" and number % 10 == 9:  # killed while the index is created
            living.index.unlink()
        changed = living.change(3 if work == "move" else 15)
        if work == "move":
            living.move()
        meanwhile = living.change if work == "watch" else lambda: None
        seconds = longest * living.chance.random()
        kill_within(seconds, lambda paths=changed: do(living, paths), meanwhile)
        living.check()
        if work == "move" and number % 5 == 4:  # of an archive that changed by half, none is found
            living.finish()
    living.finish()


@pytest.mark.parametrize("work", ["build", "update", "watch", "move"])
def test_an_index_outlives_kills(tmp_path: Path, work: str) -> None:
    """After each one it is whole, and in the end a build finds all that is there."""
    kill_at_random_moments(tmp_path, work, 8)


@pytest.mark.long
@pytest.mark.parametrize("work", ["build", "update", "watch", "move"])
def test_an_index_outlives_a_hundred_kills(tmp_path: Path, work: str) -> None:
    """Four hundred in all."""
    kill_at_random_moments(tmp_path, work, 100)
