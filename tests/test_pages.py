"""An index with damaged pages: it raises, whatever is read, and never ends the process."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mmindex
from mmindex.errors import IndexFormatError
from mmindex.index.keys import DATABASES
from mmindex.index.pages import check_pages
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, FrameTable, InstanceRecord, Layout, Status

PAGE = 4096
MANY, ALL = 300, 700  # files of one study, whose ids fill a page of their own; all files

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def record(number: int) -> InstanceRecord:
    """Return a file's record: every hundredth is long, every third has no frames."""
    fragments = 2000 if number % 100 == 0 else 3
    entries = b"".join((at * 100).to_bytes(4, "little") for at in range(fragments + 1))
    return InstanceRecord(
        Status.NO_PIXEL_DATA if number % 3 == 1 else Status.INDEXED,
        path=b"%d.dcm" % number,
        fingerprint=Fingerprint(1, 2, 3),
        sop_instance_uid=f"1.2.840.{number}",
        study_instance_uid="1.2.841" if number < MANY else f"1.2.842.{number // 10}",
        series_instance_uid=f"1.2.843.{number // 5}",
        number_of_frames=fragments,
        frames=FrameTable(
            Layout.FRAGMENT_A_FRAME, fragments, fragments, fragments, 500, entries=entries
        ),
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose trees have several levels, written in several commits."""
    path = tmp_path_factory.mktemp("pages") / "index"
    store = Store(str(path), root=b"/archive")
    for start in range(0, ALL, 70):
        store.replace([pack_record(record(number)) for number in range(start, start + 70)])
    store.replace([], removed=range(400, 420))
    store.close()
    return path


def read_all(path: Path) -> object:
    """Return all that is in an index, by every way in which it is gone through."""
    with mmindex.open(path) as archive:
        store = archive._store
        return (
            # What is in the pages of a long value, after the first, is not told by them.
            [dataclasses.replace(record, frames=None) for record in archive.records()],
            list(archive),
            list(store.iterate_uids("others")),
            store.find_unseen(bytearray(5000)),
            store.find_unscanned(Status.UNREADABLE),
        )


def read_study(path: Path) -> object:
    """Return the files of a study that has many."""
    with mmindex.open(path) as archive:
        return [record.path for record in archive.instances(study_instance_uid="1.2.841")]


def read_in_child(read: Callable[[Path], object], path: Path, expected: object) -> str:
    """Return what came of reading in another process: "same", "refused", or how that failed."""
    pid = os.fork()
    if not pid:
        os.close(2)  # an assertion of LMDB would be printed
        try:
            os._exit(0 if read(path) == expected else 3)
        except IndexFormatError:
            os._exit(1)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return ["same", "refused", "error", "wrong"][os.WEXITSTATUS(status)]


def damage_pages(
    index: Path,
    tmp_path: Path,
    damage: Callable[[bytearray, int], None],
    read: Callable[[Path], object] = read_all,
) -> dict[str, int]:
    """Return what comes of reading with each page damaged, and how often."""
    data, copy, expected = index.read_bytes(), tmp_path / "copy", read(index)
    outcomes: dict[str, int] = {}
    for number in range(2, len(data) // PAGE):
        damaged = bytearray(data)
        damage(damaged, number * PAGE)
        copy.write_bytes(damaged)
        outcome = read_in_child(read, copy, expected)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def fill_with_zeros(data: bytearray, at: int) -> None:
    data[at : at + PAGE] = bytes(PAGE)


def fill_at_random(data: bytearray, at: int) -> None:
    data[at : at + PAGE] = random.Random(at).randbytes(PAGE)


def copy_another(data: bytearray, at: int) -> None:
    other = PAGE * (2 + at // PAGE % 7 * 5)
    data[at : at + PAGE] = data[other : other + PAGE] if other != at else bytes(PAGE)


@pytest.mark.parametrize("damage", [fill_with_zeros, fill_at_random, copy_another])
def test_a_page_that_was_overwritten_is_refused(
    index: Path, tmp_path: Path, damage: Callable[[bytearray, int], None]
) -> None:
    """Whichever page it is, unless nothing leads to it, or it lies within a long value."""
    outcomes = damage_pages(index, tmp_path, damage)
    assert outcomes.keys() <= {"same", "refused"}
    assert outcomes["refused"] > 40


def test_zeros_among_the_ids_of_a_study_are_refused(index: Path, tmp_path: Path) -> None:
    """The ids of many files of one study have a tree of pages, which LMDB goes through."""
    outcomes = damage_pages(index, tmp_path, fill_with_zeros, read_study)
    assert outcomes.keys() <= {"same", "refused"}
    assert outcomes["refused"] > 20


@pytest.mark.parametrize("seed", range(2))
def test_bytes_overwritten_in_the_heads_of_pages_never_end_the_process(
    index: Path, tmp_path: Path, seed: int
) -> None:
    """Numbers, flags, bounds and offsets of nodes: LMDB follows none that leads astray."""
    chance = random.Random(seed)

    def overwrite(data: bytearray, at: int) -> None:
        for _ in range(chance.choice([1, 4])):
            data[at + chance.randrange(64)] = chance.choice([0, 1, 2, 0x7F, 0xFF])

    outcomes = damage_pages(index, tmp_path, overwrite)
    assert outcomes.keys() <= {"same", "refused", "wrong"}
    assert outcomes["refused"] > 40


def test_pages_of_a_whole_index_are_found_right(index: Path) -> None:
    """Every database of an index that nobody damaged passes, and was looked at."""
    with mmindex.open(index) as archive:
        for database in DATABASES:
            with archive._store._read(database) as txn:
                assert check_pages(str(index), txn.id(), database)


def test_pages_are_those_that_the_transaction_sees(index: Path, tmp_path: Path) -> None:
    """Two commits later, the pages of a transaction can't be found any more, which is no damage."""
    copy = tmp_path / "copy"
    shutil.copy(index, copy)
    store = Store(str(copy), root=b"/archive")
    with store._read("files") as txn:
        seen = txn.id()
    assert check_pages(str(copy), seen, "files")
    store.replace([pack_record(record(2000))])
    assert check_pages(str(copy), seen, "files")
    store.replace([pack_record(record(2001))])
    assert not check_pages(str(copy), seen, "files")
    store.close()


def test_a_tree_that_leads_back_to_itself_is_refused_in_bounded_time(
    index: Path, tmp_path: Path
) -> None:
    """A page that a tree leads to many times over costs no more than the file has pages."""
    data = bytearray(index.read_bytes())
    for at in range(2 * PAGE, len(data), PAGE):
        is_page = int.from_bytes(data[at : at + 8], "little") == at // PAGE
        if is_page and data[at + 10] & 1:  # a branch: all its nodes lead where the first one does
            count = int.from_bytes(data[at + 12 : at + 14], "little") // 2 - 8
            nodes = [
                at + int.from_bytes(data[at + 16 + 2 * n : at + 18 + 2 * n], "little")
                for n in range(count)
            ]
            for node in nodes[1:]:
                data[node : node + 6] = data[nodes[0] : nodes[0] + 6]
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with mmindex.open(copy) as archive:
        for read in (archive.records, archive.__iter__):
            with pytest.raises(IndexFormatError, match="damaged"):
                list(read())
