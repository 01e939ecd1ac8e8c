"""An index with damaged pages: it raises, whatever is read, and never ends the process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from child_process import exit_code, forks
from new_store import create_store

import mmindex
from mmindex.errors import IndexFormatError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.databases import DATABASES
from mmindex.index.lmdb.page_check import check_pages
from mmindex.index.record import pack_record
from mmindex.model import Fingerprint, InstanceRecord, Status

PAGE = 4096
MANY, ALL = 600, 700  # files of one study, whose ids fill pages of their own; all files

pytestmark = forks


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


# Where fields of LMDB 0.9 are in a page, in the record of a database, and in a node.
KEY_LENGTH, FLAGS, FREE_FROM, FREE_TO, FIRST_NODE = 8, 10, 12, 14, 16
OVERFLOW_PAGES = 12
DEPTH, ENTRIES, ROOT = 6, 32, 40
LENGTH, KEY_SIZE = 0, 6


def number_at(data: bytes | bytearray, at: int, form: str = "H") -> int:
    """Return a little-endian number."""
    number: int = struct.unpack_from(f"<{form}", data, at)[0]
    return number


def transaction_of(data: bytes | bytearray) -> int:
    """Return the number of the last transaction, by the two meta pages."""
    return max(number_at(data, 144, "Q"), number_at(data, PAGE + 144, "Q"))


def nodes_of(data: bytes | bytearray, at: int) -> list[int]:
    """Return where the nodes of a page are."""
    count = (number_at(data, at + FREE_FROM) - FIRST_NODE) // 2
    return [at + number_at(data, at + FIRST_NODE + 2 * node) for node in range(count)]


def key_of(data: bytes | bytearray, node: int) -> bytes:
    return bytes(data[node + 8 : node + 8 + number_at(data, node + KEY_SIZE)])


def value_of(data: bytes | bytearray, node: int) -> int:
    """Return where the value of a node is."""
    return node + 8 + number_at(data, node + KEY_SIZE)


def find_database(data: bytes | bytearray, name: str) -> int:
    """Return where the record of a database is, in the tree of databases, which has one page."""
    root = number_at(data, transaction_of(data) % 2 * PAGE + 88 + ROOT, "Q") * PAGE
    (node,) = (node for node in nodes_of(data, root) if key_of(data, node) == name.encode())
    return value_of(data, node)


def find_root(data: bytes | bytearray, name: str) -> int:
    """Return where the first page of a database of two levels is, a branch."""
    database = find_database(data, name)
    assert number_at(data, database + DEPTH) == 2
    return number_at(data, database + ROOT, "Q") * PAGE


def find_leaves(data: bytes | bytearray, database: int) -> list[int]:
    """Return where the leaves are of a tree of one or two levels, by its record."""
    root = number_at(data, database + ROOT, "Q") * PAGE
    if number_at(data, database + DEPTH) == 1:
        return [root]
    return [number_at(data, node, "I") * PAGE for node in nodes_of(data, root)]


def find_leaf(data: bytes | bytearray, name: str) -> int:
    """Return where the first leaf of a database is."""
    return find_leaves(data, find_database(data, name))[0]


def find_node(data: bytes | bytearray, name: str, flags: int) -> int:
    """Return the first node of these flags in the leaves of a database."""
    leaves = find_leaves(data, find_database(data, name))
    nodes = (node for leaf in leaves for node in nodes_of(data, leaf))
    return next(node for node in nodes if number_at(data, node + 4) == flags)


def find_second_child(data: bytes | bytearray, name: str) -> int:
    """Return the second node of the root of a database."""
    return nodes_of(data, find_root(data, name))[1]


def find_long_value(data: bytes | bytearray, name: str) -> int:
    """Return the first page of a value that has pages of its own."""
    return number_at(data, value_of(data, find_node(data, name, 1)), "Q") * PAGE


def find_few_ids(data: bytes | bytearray, name: str) -> int:
    """Return the page within a node of the ids of a UID that few files have."""
    return value_of(data, find_node(data, name, 4))


def find_many_ids(data: bytes | bytearray, name: str) -> int:
    """Return the record of the tree of the ids of the study that many files have."""
    return value_of(data, find_node(data, name, 6))


def find_page_of_ids(data: bytes | bytearray, name: str) -> int:
    """Return the first leaf of that tree."""
    return find_leaves(data, find_many_ids(data, name))[0]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index whose trees have several levels, written in several commits."""
    path = tmp_path_factory.mktemp("pages") / "index"
    store = create_store(str(path), b"/archive")
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
            list(archive.records()),
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

    def work() -> None:
        os.close(2)  # an assertion of LMDB would be printed
        try:
            os._exit(0 if read(path) == expected else 3)
        except IndexFormatError:
            os._exit(1)
        except BaseException:
            os._exit(2)

    code = exit_code(work)
    if code < 0:
        return signal.Signals(-code).name
    return ["same", "refused", "error", "wrong"][code]


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


@pytest.mark.long
@pytest.mark.parametrize("damage", [fill_with_zeros, fill_at_random, copy_another])
def test_a_page_that_was_overwritten_is_refused(
    index: Path, tmp_path: Path, damage: Callable[[bytearray, int], None]
) -> None:
    """Whichever page it is, unless nothing leads to it, or it lies within a long value."""
    outcomes = damage_pages(index, tmp_path, damage)
    assert outcomes.keys() <= {"same", "refused"}
    assert outcomes["refused"] > 40


@pytest.mark.long
def test_zeros_among_the_ids_of_a_study_are_refused(index: Path, tmp_path: Path) -> None:
    """The ids of many files of one study have a tree of pages, which LMDB goes through."""
    outcomes = damage_pages(index, tmp_path, fill_with_zeros, read_study)
    assert outcomes.keys() <= {"same", "refused"}
    assert outcomes["refused"] > 20


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_bytes_overwritten_in_the_heads_of_pages_never_end_the_process(
    index: Path, tmp_path: Path, seed: int
) -> None:
    """Numbers, flags, bounds and offsets of nodes: LMDB follows none that leads astray."""
    chance = random.Random(seed)

    def overwrite(data: bytearray, at: int) -> None:
        for _ in range(chance.choice([1, 4])):
            data[at + chance.randrange(64)] = chance.choice([0, 1, 2, 0x7F, 0xFF])

    outcomes = damage_pages(index, tmp_path, overwrite)
    assert outcomes.keys() <= {"same", "refused"}
    assert outcomes["refused"] > 40


def test_pages_of_a_whole_index_are_found_right(index: Path) -> None:
    """Every database of an index that nobody damaged passes, and was looked at."""
    with mmindex.open(index) as archive:
        for database in DATABASES:
            shared = archive._store._environment()
            with shared.lock, shared.begin() as txn:
                assert check_pages(str(index), txn.id(), database)


def test_pages_are_those_that_the_transaction_sees(index: Path, tmp_path: Path) -> None:
    """Two commits later, the pages of a transaction can't be found any more, which is no damage."""
    copy = tmp_path / "copy"
    shutil.copy(index, copy)
    store = create_store(str(copy), b"/archive")
    shared = store._environment()
    with shared.lock, shared.begin() as txn:
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


# A place in a database, the field there, what is written over it, and what is said of that.
BROKEN = {
    "database-too-deep": ("files", find_database, DEPTH, "H", 33, "a tree of depth 33"),
    "database-without-pages": ("files", find_database, DEPTH, "H", 0, "a tree of depth 0"),
    "database-cut": ("files", lambda d, n: find_database(d, n) - 13, 0, "H", 46, "found 46"),
    "root-past-the-end": ("files", find_database, ROOT, "Q", 1 << 40, f"page {1 << 40} of"),
    "root-a-meta-page": ("files", find_database, ROOT, "Q", 1, "page 1 of"),
    "branch-of-another-number": ("files", find_root, 0, "Q", 3, r"is another \(number 3,"),
    "branch-a-leaf": ("files", find_root, FLAGS, "H", 2, "flags 0x2"),
    "branch-to-one-page": ("files", find_root, FREE_FROM, "H", 18, "leads to 1 others"),
    "branch-to-no-page": ("files", find_root, FREE_FROM, "H", 16, "leads to 0 others"),
    "branch-key-too-long": ("files", find_second_child, KEY_SIZE, "H", PAGE, "runs past its end"),
    "child-past-the-end": ("files", find_second_child, 0, "I", 1 << 31, f"page {1 << 31} of"),
    "child-far-past-the-end": ("files", find_second_child, 4, "H", 1, "page 4294967"),
    "free-space-in-the-header": ("files", find_leaf, FREE_FROM, "H", 14, "free space at 14 to"),
    "free-space-reversed": ("files", find_leaf, FREE_TO, "H", 17, "free space at .* to 17"),
    "free-space-past-the-end": ("files", find_leaf, FREE_TO, "H", PAGE + 1, f"to {PAGE + 1}"),
    "node-in-the-header": ("files", find_leaf, FIRST_NODE, "H", 15, "a node at 15"),
    "node-past-the-end": ("files", find_leaf, FIRST_NODE, "H", PAGE - 7, f"a node at {PAGE - 7}"),
    "key-too-long": ("paths", lambda d, n: find_node(d, n, 0), KEY_SIZE, "H", PAGE, "past its end"),
    "value-too-long": ("paths", lambda d, n: find_node(d, n, 0), LENGTH, "H", PAGE, "past its end"),
    "long-value-past-the-end": (
        *("files", lambda d, n: value_of(d, find_node(d, n, 1)), 0, "Q", 1 << 40),
        f"page {1 << 40} of",
    ),
    "long-value-in-a-meta-page": (
        *("files", lambda d, n: value_of(d, find_node(d, n, 1)), 0, "Q", 1),
        "page 1 of",
    ),
    "long-value-of-another-number": ("files", find_long_value, 0, "Q", 2, "another .number 2,"),
    "long-value-in-a-leaf": ("files", find_long_value, FLAGS, "H", 2, "another .*flags 0x2"),
    "long-value-of-too-few-pages": (
        *("files", find_long_value, OVERFLOW_PAGES, "I", 1),
        "bytes in 1 pages",
    ),
    "long-value-of-too-many-pages": (
        *("files", find_long_value, OVERFLOW_PAGES, "I", 1 << 20),
        f"bytes in {1 << 20} pages",
    ),
    "long-value-without-room-for-a-header": (
        *("files", lambda d, n: find_node(d, n, 1), LENGTH, "H", 2 * PAGE),
        f"{2 * PAGE} bytes in 2 pages",
    ),
    "long-value-longer-than-its-pages": (
        *("files", lambda d, n: find_node(d, n, 1), LENGTH + 2, "H", 1),
        "bytes in . pages",
    ),
    "ids-cut": ("series", lambda d, n: find_node(d, n, 4), LENGTH, "H", 15, "a page of 15 bytes"),
    "ids-with-nodes": ("series", find_few_ids, FLAGS, "H", 0x42, "5 values in a page"),
    "ids-none": ("series", find_few_ids, FREE_FROM, "H", 16, "0 values in a page"),
    "ids-too-many": ("series", find_few_ids, FREE_FROM, "H", 16 + 2 * 9, "9 values in a page"),
    "ids-of-no-length": ("series", find_few_ids, KEY_LENGTH, "H", 0, "5 values in a page"),
    "ids-too-long": ("series", find_few_ids, KEY_LENGTH, "H", 64, "5 values in a page"),
    "tree-of-ids-too-deep": ("studies", find_many_ids, DEPTH, "H", 33, "a tree of depth 33"),
    "tree-of-ids-of-another-kind": (
        *("studies", find_many_ids, 4, "H", 0x14),
        "values of a key in a tree of flags 0x14",
    ),
    "tree-of-ids-of-another-length": (
        *("studies", find_many_ids, 0, "I", 1 << 20),
        f"keys of 8 bytes in a tree of {1 << 20}",
    ),
    "leaf-of-keys-alone": ("files", find_leaf, FLAGS, "H", 0x22, "flags 0x22"),
    "page-of-ids-another": ("studies", find_page_of_ids, 0, "Q", 2, "another .number 2,"),
    "page-of-ids-too-long": ("studies", find_page_of_ids, KEY_LENGTH, "H", PAGE, "a tree of 8"),
    "page-of-too-many-ids": ("studies", find_page_of_ids, FREE_FROM, "H", 1200, "past its end"),
    "ids-no-leaf": ("series", find_few_ids, FLAGS, "H", 0x60, "5 values in a page .* flags 0x60"),
    "ids-one-less": ("series", find_few_ids, FREE_FROM, "H", 16 + 2 * 4, "values, found"),
    "ids-in-no-order": ("series", find_few_ids, FIRST_NODE, "Q", 0xFF, "5 values in no order"),
    "entries": ("files", find_database, ENTRIES, "Q", 5, "expected 5 values, found 680"),
    "leaf-of-nothing": ("files", find_leaf, FREE_FROM, "H", 16, "holds nothing"),
    "leaf-of-one": ("files", find_leaf, FREE_FROM, "H", 18, "expected 680 values, found"),
    "branch-key-too-low": ("files", find_second_child, 8, "Q", 0, "the key .* in page"),
    "branch-key-too-high": (
        *("files", find_second_child, 8, "Q", 0xFF << 56),
        "keys in no order in page",
    ),
}


@pytest.mark.parametrize(
    ("database", "find", "field", "form", "broken", "said"), BROKEN.values(), ids=BROKEN
)
def test_a_broken_field_of_a_page_is_said(
    index: Path,
    tmp_path: Path,
    database: str,
    find: Callable[[bytearray, str], int],
    field: int,
    form: str,
    broken: int,
    said: str,
) -> None:
    """Every check of a page, a node or a value has one field that only it finds broken."""
    data = bytearray(index.read_bytes())
    struct.pack_into(f"<{form}", data, find(data, database) + field, broken)
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with pytest.raises(ValueError, match=said):
        check_pages(str(copy), transaction_of(data), database)


def lead_to_the_first(data: bytearray, root: int) -> None:
    """Let the second node of a branch lead where the first one does."""
    first, second, *_ = nodes_of(data, root)
    data[second : second + 6] = data[first : first + 6]


def test_a_page_that_a_tree_leads_to_twice_is_said(index: Path, tmp_path: Path) -> None:
    """Two nodes of one branch that lead to the same leaf, which by itself is whole."""
    data = bytearray(index.read_bytes())
    lead_to_the_first(data, find_root(data, "files"))
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with pytest.raises(ValueError, match=r"the key .* in page"):
        check_pages(str(copy), transaction_of(data), "files")


@pytest.mark.parametrize("byte", range(8))
def test_a_tree_of_ids_that_says_something_else_never_ends_the_process(
    index: Path, tmp_path: Path, byte: int
) -> None:
    """Length of the ids, flags and depth: LMDB takes them from the record of the tree unchecked."""
    copy, expected = tmp_path / "copy", read_study(index)
    for value in (0, 1, 4, 0x14, 0x40, 0xE4, 0xFF):
        data = bytearray(index.read_bytes())
        at = find_many_ids(data, "studies") + byte
        changed, data[at] = data[at] != value, value
        copy.write_bytes(data)
        assert read_in_child(read_study, copy, expected) == ("refused" if changed else "same")


def test_the_many_ids_of_a_study_are_looked_at_before_they_are_read(
    index: Path, tmp_path: Path
) -> None:
    """A study whose tree of ids leads to a page twice has no file twice: it is refused."""
    data = bytearray(index.read_bytes())
    root = number_at(data, find_many_ids(data, "studies") + ROOT, "Q") * PAGE
    lead_to_the_first(data, root)
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with mmindex.open(copy) as archive:
        with pytest.raises(IndexFormatError, match=r"the key .* in page"):
            list(archive.instances(study_instance_uid="1.2.841"))
        with pytest.raises(IndexFormatError, match=r"the key .* in page"):
            archive._store.find_uid("studies", "1.2.841")


def with_larger_pages(data: bytes | bytearray, size: int) -> bytes:
    """Return an index without long values as a system whose pages are larger would write it."""
    pages = []
    for at in range(0, len(data), PAGE):
        page, longer = bytearray(data[at : at + PAGE]), size - PAGE
        free = PAGE
        if at < 2 * PAGE:
            struct.pack_into("<I", page, 40, size)
        elif number_at(page, FLAGS) in (1, 2):  # its nodes are at its end
            free = number_at(page, FREE_FROM)
            for field in range(FREE_TO, free, 2):
                struct.pack_into("<H", page, field, number_at(page, field) + longer)
        pages.append(bytes(page[:free]) + bytes(longer) + bytes(page[free:]))
    return b"".join(pages)


@pytest.mark.parametrize("commits", [1, 2])
@pytest.mark.parametrize("size", [PAGE, 2 * PAGE, 8 * PAGE])
def test_pages_are_as_long_as_the_meta_page_says(tmp_path: Path, size: int, commits: int) -> None:
    """With pages of any length, a whole index passes by either meta page, a broken one fails."""
    path = tmp_path / "index"
    store = create_store(str(path), b"/archive")
    numbers = range(1, 1 + 49 * commits)
    for start in range(1, 1 + 49 * commits, 49):
        store.replace([pack_record(record(number)) for number in range(start, start + 49)])
    store.close()
    data = bytearray(path.read_bytes())
    transaction, count = transaction_of(data), len(data) // PAGE
    path.write_bytes(with_larger_pages(data, size))
    assert check_pages(str(path), transaction, "files")
    with mmindex.open(path) as archive:
        assert [r.path for r in archive.records()] == [b"%d.dcm" % n for n in numbers]
    for place, broken, said in (
        (find_leaf(data, "files") + FLAGS, 1, "flags 0x1"),
        (find_database(data, "files") + ROOT, count, f"page {count} of {count}"),
    ):
        damaged = bytearray(data)
        damaged[place] = broken
        path.write_bytes(with_larger_pages(damaged, size))
        with pytest.raises(ValueError, match=said):
            check_pages(str(path), transaction, "files")


@pytest.mark.parametrize("earlier", [0, -2], ids=["first", "one-before"])
def test_file_ids_in_no_order_are_refused(index: Path, tmp_path: Path, earlier: int) -> None:
    """A key that was overwritten with that of a file before it is not read as one after it."""
    data = bytearray(index.read_bytes())
    nodes = nodes_of(data, find_leaf(data, "files"))
    data[nodes[-1] + 8 : nodes[-1] + 16] = key_of(data, nodes[earlier])
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with mmindex.open(copy) as archive:
        with pytest.raises(IndexFormatError, match=r"a path leads to file .*, which is not there"):
            list(islice(archive.records(), 2 * ALL))
        with pytest.raises(IndexFormatError, match="keys in no order"):
            archive.check_index()


def point_back(data: bytearray) -> None:
    """Let the keys of a branch all lead to its first leaf."""
    for node in nodes_of(data, find_root(data, "instances"))[1:]:
        data[node + 8] = ord("9")


def repeat_a_key(data: bytearray) -> None:
    """Overwrite the last key of a leaf with the one before it, which is as long."""
    *_, last_but_one, last = nodes_of(data, find_leaf(data, "instances"))
    key = key_of(data, last_but_one)
    assert len(key) == len(key_of(data, last))
    data[last + 8 : last + 8 + len(key)] = key


@pytest.mark.parametrize("damage", [point_back, repeat_a_key])
def test_uids_in_no_order_are_refused(
    index: Path, tmp_path: Path, damage: Callable[[bytearray], None]
) -> None:
    """No UID comes a second time, neither from a leaf nor because of a branch."""
    data = bytearray(index.read_bytes())
    damage(data)
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with (
        mmindex.open(copy) as archive,
        pytest.raises(IndexFormatError, match=r"the key .* in page|keys in no order"),
    ):
        list(islice(archive, 2 * ALL))


@pytest.mark.parametrize("size", [0, 1, 4095, 1 << 17, (1 << 32) - 1])
def test_a_page_size_that_none_can_be_is_said(index: Path, tmp_path: Path, size: int) -> None:
    """Nothing is divided by it, nor looked for beyond the file."""
    data = bytearray(index.read_bytes())
    data[40:44] = size.to_bytes(4, "little")
    copy = tmp_path / "copy"
    copy.write_bytes(data)
    with pytest.raises(ValueError, match=f"pages of {size} bytes"):
        check_pages(str(copy), 0, "files")
