"""The note of a build is committed within the file, which no reader then finds too short."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from child_process import forks, start, wait_for
from dicom_bytes import native_file
from new_store import create_store

import mmindex
from mmindex.index.build_notes import BuildNote
from mmindex.index.lmdb import environment
from mmindex.index.lmdb.file_length import ROOM, used_length
from mmindex.index.problem_notes import Looked, SkippedPath
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status

EVERYWHERE = Looked((), (b"",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(create_store(str(tmp_path / "index"), b"/root")) as opened:
        yield opened


def note(store: Store, number: int, skipped: int = 0) -> list[SkippedPath]:
    """Write the note of a build that skipped so many paths; return these."""
    paths = [SkippedPath(b"%05d" % each + bytes([97]) * 900, "gone") for each in range(skipped)]
    store.write_build(BuildNote(number, 1), EVERYWHERE, paths)
    return paths


def test_no_commit_of_a_note_outgrows_the_file(store: Store, monkeypatch) -> None:
    """Until the file is extended again, it holds all pages that its meta page claims."""
    looks = []
    extend = environment.extend

    def look(env, path):
        assert os.path.getsize(path) >= used_length(env)
        looks.append(not os.path.exists(path + "-writing"))
        extend(env, path)
        assert os.path.getsize(path) >= used_length(env) + ROOM

    monkeypatch.setattr(environment, "extend", look)
    for number in range(1, 80):
        note(store, number, number % 9)
        assert store.read_build() == BuildNote(number, 1)
    assert looks == [True] * 2 * 79
    store.check()


def test_a_note_that_has_no_room_is_committed_as_records_are(store: Store) -> None:
    """Of many skipped paths: the change is made again with a larger file, and is whole."""
    before = os.path.getsize(store.path)
    notes = note(store, 1, 3000)
    assert os.path.getsize(store.path) > before + 3000 * 900
    assert sorted(store.iterate_problem_notes()) == notes
    notes = note(store, 2, 2)
    assert sorted(store.iterate_problem_notes()) == notes
    store.check()
    assert not os.path.exists(store.path + "-writing")


def test_records_are_written_after_notes(store: Store) -> None:
    """The map of a note ends with the file; that of records does not."""
    for number in range(1, 4):
        note(store, number)
        packed = [
            pack_record(
                InstanceRecord(
                    Status.NO_PIXEL_DATA,
                    path=b"%d-%d" % (number, each),
                    fingerprint=Fingerprint(1, 2, 3),
                    sop_instance_uid=f"1.{number}.{each}",
                )
            )
            for each in range(2000)
        ]
        store.replace(packed)
        assert store.count_files() == 2000 * number
    store.check()


def test_what_a_killed_commit_left_is_removed_by_the_next_note(store: Store) -> None:
    """A note of the length before a commit would let a shorter file pass later."""
    left = Path(store.path + "-writing")
    left.write_bytes(b"%d" % os.path.getsize(store.path))
    note(store, 1)
    assert not left.exists()
    assert store.read_build() == BuildNote(1, 1)


def test_a_file_without_its_room_gets_it_before_a_note(store: Store) -> None:
    """Where a process was killed between a commit and the extension of the file."""
    shared = store._environment()
    os.truncate(store.path, used_length(shared.env))
    note(store, 1)
    assert os.path.getsize(store.path) >= used_length(shared.env) + ROOM
    store.check()


class Watched:
    """An environment of LMDB that notes how long its file is when it is flushed."""

    def __init__(self, env: Any, path: str) -> None:
        self.env, self.path, self.flushed = env, path, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def sync(self, force: bool) -> None:
        assert os.path.exists(self.path + "-writing")
        self.env.sync(force)
        self.flushed.append(os.path.getsize(self.path))


def test_the_length_of_the_file_is_flushed_with_its_records(store: Store) -> None:
    """A file that is shorter than its meta page claims after a power failure is damaged."""
    shared = store._environment()
    watched = shared.env = Watched(shared.env, store.path)
    for number in range(1, 6):
        record = InstanceRecord(Status.NO_PIXEL_DATA, path=b"a", fingerprint=Fingerprint(1, 2, 3))
        store.replace([pack_record(record._replace(reason="r" * 100_000))])
        assert watched.flushed[number - 1 :] == [os.path.getsize(store.path)]
        assert watched.flushed[-1] >= used_length(watched) + ROOM


@forks
def test_readers_open_the_index_while_notes_are_written(tmp_path: Path) -> None:
    """Of 300 unchanged updates none gives them a damaged index."""
    (tmp_path / "a.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)

    def read() -> bool:
        while not (tmp_path / "stop").exists():
            with mmindex.open(tmp_path) as archive:
                if not archive.has_file("a.dcm"):
                    return False
        return True

    readers = [start(read) for _ in range(2)]
    try:
        for _ in range(300):
            assert mmindex.build(tmp_path, workers=1).unchanged == 1
    finally:
        (tmp_path / "stop").touch()
    assert [wait_for(reader) for reader in readers] == [0, 0]
