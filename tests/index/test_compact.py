"""`compact`: the same index in fewer bytes, when nobody has it open, whatever stops it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli_runner import new_runner
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes, small_image

import mmindex
from mmindex.cli import main
from mmindex.errors import IndexFormatError, IndexWriteError, MissingFileError
from mmindex.index import compact as compact_module
from mmindex.index import merge as merge_module
from mmindex.index.compact import compact_index
from mmindex.index.lmdb import new_file
from mmindex.model import InstanceRecord
from mmindex.update import build as build_module

ROOT = Path(__file__).resolve().parents[2]
COUNT = 300


def image(number: int, pixels: bytes | None = None) -> bytes:
    return small_image(f"1.{number}", pixels or b"%04d" % number)


def read_records(index: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(index) as archive:
        records = list(archive.records())
        assert len(archive) == len(records)
    return {record.path: record for record in records}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive whose index has been written over and over."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(COUNT):
        (root / f"{number}").write_bytes(image(number))
    for _ in range(4):
        mmindex.build(root, workers=1, full=True)
    return root


def test_an_index_that_would_be_no_smaller_stays_as_it_is(tmp_path: Path) -> None:
    """The first time as after it was made compact."""
    (tmp_path / "0").write_bytes(image(0))
    mmindex.build(tmp_path, workers=1)
    index = tmp_path / ".mmindex"
    compact_index(index)
    status, data = index.stat(), index.read_bytes()
    assert compact_index(index) == (status.st_size, status.st_size)
    said = f"{status.st_size} bytes before, {status.st_size} bytes after: it stays as it is\n"
    assert new_runner().invoke(main, ["compact", str(tmp_path)]).output == said
    assert index.stat().st_ino == status.st_ino
    assert index.read_bytes() == data
    assert {path.name for path in tmp_path.iterdir()} == {"0", ".mmindex", ".mmindex-lock"}


def test_a_series_of_many_files_is_compacted(tmp_path: Path) -> None:
    """The ids of one UID's files fill pages of their own, and are all copied in order."""
    for number in range(600):
        uid = element(0x00080018, "UI", f"1.{number}")
        series = element(0x0020000E, "UI", "1.2.840.9") + image_attributes()
        pixels = element(PIXEL_DATA, "OW", b"%04d" % number)
        (tmp_path / f"{number}").write_bytes(dicom_file(uid + series + pixels))
    mmindex.build(tmp_path, workers=1)
    before = read_records(tmp_path)
    compact_index(tmp_path / ".mmindex")
    assert read_records(tmp_path) == before
    with mmindex.open(tmp_path) as archive:
        in_series = list(archive.instances(series_instance_uid="1.2.840.9"))
        assert [record.path for record in in_series] == list(before)
        assert len(in_series) == 600
    report = mmindex.build(tmp_path, workers=1, full=True)
    assert (report.scanned, report.removed) == (600, 0)


def add(root: Path, number: int) -> None:
    """Add a file, and change one."""
    (root / f"{number}").write_bytes(image(number))
    (root / "0").write_bytes(image(0, b"%04d" % number) + element(0xFFFCFFFC, "OB", bytes(4)))
    mmindex.build(root, workers=1)


def test_compact_is_smaller_and_holds_the_same(root: Path) -> None:
    """Unused pages are gone; records, frames and the next build's view of them are as before."""
    index = root / ".mmindex"
    before, size = read_records(index), index.stat().st_size
    assert compact_index(index) == (size, index.stat().st_size)
    assert index.stat().st_size < size
    assert read_records(index) == before
    with mmindex.open(root) as archive:
        assert archive.root == str(root)
        assert [archive.frame(f"1.{number}", 0) for number in (0, 299)] == [b"0000", b"0299"]
    report = mmindex.build(root, workers=1)
    assert (report.unchanged, report.scanned, report.removed) == (COUNT, 0, 0)
    assert sorted(set(os.listdir(root)) - {f"{n}" for n in range(COUNT)}) in (
        [".mmindex"],
        [".mmindex", ".mmindex-lock"],
    )


def test_the_new_file_is_flushed_before_it_takes_the_place(root: Path, monkeypatch) -> None:
    """With its length: after a power failure, it or the old one is there, and whole."""
    done: list[str] = []

    class Watched:
        def __init__(self, env: Any) -> None:
            self.env = env

        def __getattr__(self, name: str) -> Any:
            if name == "sync":
                done.append("flush")
            return getattr(self.env, name)

    def noted(call: Callable[..., None], *arguments: object) -> None:
        done.append(call.__name__)
        call(*arguments)

    monkeypatch.setattr(new_file, "extend", partial(noted, new_file.extend))
    monkeypatch.setattr(os, "replace", partial(noted, os.replace))
    open_largest = new_file.open_largest
    monkeypatch.setattr(
        new_file, "open_largest", lambda path, **mode: Watched(open_largest(path, **mode))
    )
    compact_index(root / ".mmindex")
    assert done == ["extend", "flush", "replace"]
    assert len(read_records(root / ".mmindex")) == COUNT


def test_compact_twice_changes_nothing_more(root: Path) -> None:
    """The second time there is nothing to drop."""
    _, size = compact_index(root / ".mmindex")
    assert compact_index(root / ".mmindex") == (size, size)


def test_builds_go_on_after_compaction(root: Path) -> None:
    """What is added and removed later is in the new file."""
    compact_index(root / ".mmindex")
    (root / "7").unlink()
    (root / "new").write_bytes(image(1000))
    mmindex.build(root, workers=1)
    records = read_records(root / ".mmindex")
    assert len(records) == COUNT
    assert b"new" in records
    assert b"7" not in records


# Who has it open


def test_an_archive_that_was_pickled_before_reads_the_new_file(root: Path) -> None:
    """A pickle holds paths, not the file."""
    with mmindex.open(root) as archive:
        pickled = pickle.dumps(archive)
    compact_index(root / ".mmindex")
    with pickle.loads(pickled) as archive:
        assert archive.frame("1.5", 0) == b"0005"


READER = """
import sys
import mmindex

with mmindex.open(sys.argv[1], revalidate_after=0) as archive:
    for line in sys.stdin:
        uid = line.strip()
        try:
            print(archive.frame(uid, 0).decode(), len(list(archive.records())), flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
"""


class Reader:
    """Another process that has an archive open and answers with frame 0 and record count."""

    def __init__(self, root: Path) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", READER, str(root)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.communicate()

    def ask(self, uid: str) -> str:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(uid + "\n")
        self._child.stdin.flush()
        return self._child.stdout.readline().strip()


def test_it_is_refused_while_this_process_has_it_open(root: Path) -> None:
    """An archive that is open goes on reading, and the index stays as it is."""
    with mmindex.open(root) as archive:
        size = os.path.getsize(archive.path)
        with pytest.raises(IndexWriteError, match="programs have the index open"):
            compact_index(root / ".mmindex")
        assert archive.frame("1.5", 0) == b"0005"
        assert os.path.getsize(archive.path) == size
    compact_index(root / ".mmindex")
    assert not list(root.glob("*.new-*"))


def test_it_is_refused_while_another_process_has_it_open(root: Path) -> None:
    """A reader in another process goes on reading, and sees later builds."""
    with Reader(root) as reader:
        assert reader.ask("1.5") == "0005 300"
        with pytest.raises(IndexWriteError, match="programs have the index open"):
            compact_index(root / ".mmindex")
        add(root, 1000)
        assert reader.ask("1.1000") == "1000 301"
    compact_index(root / ".mmindex")
    assert len(read_records(root / ".mmindex")) == 301


# What is in its way


def test_it_is_refused_while_a_build_is_at_work(root: Path) -> None:
    """The build's commits would go to a file that nobody sees any more."""
    refused = []

    def compact(report: mmindex.BuildReport) -> None:
        with pytest.raises(IndexWriteError, match="another build of this index is at work"):
            compact_index(root / ".mmindex")
        refused.append(report.scanned)

    mmindex.build(root, workers=1, full=True, progress=compact)
    assert refused
    assert len(read_records(root / ".mmindex")) == COUNT
    assert not list(root.glob("*.new-*"))


def after_compaction(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a compaction pass between the opening of an index and the right to write it."""
    only_writer = build_module.only_writer

    @contextmanager
    def compact_first(path: str, wait: float = 0.0) -> Iterator[None]:
        monkeypatch.setattr(module, "only_writer", only_writer)
        monkeypatch.setattr(compact_module, "only_writer", only_writer)
        compact_index(path)
        (Path(path).parent / "between").write_bytes(image(2000))
        mmindex.build(Path(path).parent, path, workers=1)
        (Path(path).parent / "late").write_bytes(image(2001))
        with only_writer(path):
            yield

    monkeypatch.setattr(module, "only_writer", compact_first)


def test_a_build_that_opened_the_index_before_a_compaction_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reports as scanned is in the index that is there afterwards."""
    after_compaction(build_module, monkeypatch)
    try:
        mmindex.build(root, workers=1)
    except IndexWriteError:
        mmindex.build(root, workers=1)
    assert {b"late", b"between"} <= read_records(root / ".mmindex").keys()


def test_a_second_compaction_drops_no_commit_since_the_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It copies the file that is there when it has the right to write, not the one before."""
    after_compaction(compact_module, monkeypatch)
    with suppress(IndexWriteError):
        compact_index(root / ".mmindex")
    assert b"between" in read_records(root / ".mmindex")


def test_a_merge_that_opened_out_before_a_compaction_loses_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reports as taken over is in the index that is there afterwards."""
    (root / "sub").mkdir()
    (root / "sub" / "new").write_bytes(image(1000))
    mmindex.build(root / "sub", tmp_path / "sub.index", workers=1)
    with monkeypatch.context() as patch:
        after_compaction(merge_module, patch)
        (root / "sub" / "new").rename(tmp_path / "new")  # so that no build finds it
        try:
            merge_module.merge_indexes(root / ".mmindex", [tmp_path / "sub.index"])
        except IndexWriteError:
            merge_module.merge_indexes(root / ".mmindex", [tmp_path / "sub.index"])
    assert b"sub/new" in read_records(root / ".mmindex")


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    """Nothing is written beside it."""
    (tmp_path / "text").write_bytes(b"no index" * 100)
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        compact_index(tmp_path / "text")
    with pytest.raises(MissingFileError, match="no such index"):
        compact_index(tmp_path / "none")
    assert os.listdir(tmp_path) == ["text"]


def test_a_new_file_that_cannot_be_written_leaves_the_old_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is clear, and nothing is left behind."""
    before = read_records(root / ".mmindex")

    def refuse(old: str, new: str) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(IndexWriteError, match="No space left on device"):
            compact_index(root / ".mmindex")
    assert not list(root.glob(".mmindex.new-*"))
    assert read_records(root / ".mmindex") == before


# What kills it

KILLED = """
import os, signal, sys
from mmindex.index import compact
from mmindex.index.store import Store

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def copy_half(store, path, progress):
    copy(store, path)
    os.truncate(path, os.path.getsize(path) // 2)
    die()

def then_die(call):
    return lambda *arguments: (call(*arguments), die())

copy = Store.copy_to
if sys.argv[2] == "in the copy":
    Store.copy_to = copy_half
elif sys.argv[2] == "after the copy":
    Store.copy_to = then_die(copy)
else:
    os.replace = then_die(os.replace)
compact.compact_index(sys.argv[1])
"""


@pytest.mark.parametrize("when", ["in the copy", "after the copy", "after the exchange"])
def test_killed_compaction_leaves_a_whole_index(root: Path, when: str) -> None:
    """Old or new, it has every record; builds and compactions go on, and skip what was left."""
    index = root / ".mmindex"
    before = read_records(index)
    child = subprocess.run([sys.executable, "-c", KILLED, str(index), when], cwd=ROOT, check=False)
    assert child.returncode == -signal.SIGKILL
    assert read_records(index) == before
    report = mmindex.build(root, workers=1)
    assert (report.found, report.unchanged) == (COUNT, COUNT)
    compact_index(index)
    assert read_records(index) == before
    assert not list(root.glob("*.new-*"))
