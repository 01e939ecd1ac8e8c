"""Leaves that are checked as arrays: the verdicts are those of a check node by node."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from new_store import create_store

from mmindex.frame_table import FrameTable, Layout
from mmindex.index.databases import DATABASES
from mmindex.index.lmdb import page_check
from mmindex.index.lmdb.leaf_check import find_sound_leaves
from mmindex.index.lmdb.page_check import check_pages
from mmindex.index.record import pack_record
from mmindex.model import Fingerprint, InstanceRecord, Status

PAGE = 4096
COUNT = 700


def record(number: int) -> InstanceRecord:
    """Return a file's record: every fiftieth is long, some share UIDs, some UIDs are short."""
    fragments = 2000 if number % 50 == 0 else 3
    entries = b"".join((at * 100).to_bytes(4, "little") for at in range(fragments + 1))
    return InstanceRecord(
        Status.INDEXED,
        path=b"%d.dcm" % number,
        fingerprint=Fingerprint(1, 2, 3),
        sop_instance_uid=f"1.2.840.{'7' * (number % 40)}.{number - number % 9 // 8}",
        study_instance_uid=f"1.2.842.{number // 700}",
        series_instance_uid=f"1.2.843.{number // 3}",
        number_of_frames=fragments,
        frames=FrameTable(
            Layout.FRAGMENT_A_FRAME, fragments, fragments, fragments, 500, entries=entries
        ),
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("leaves") / "index"
    store = create_store(str(path), b"/archive")
    for start in range(0, COUNT, 140):
        store.replace([pack_record(record(number)) for number in range(start, start + 140)])
    store.close()
    return path


def transaction_of(data: bytes | bytearray) -> int:
    return max(struct.unpack_from("<Q", data, at + 144)[0] for at in (0, PAGE))


def verdicts(
    path: Path, transaction: int, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, ...]]:
    """Return what is said of each database by arrays, and node by node: "" where it is sound."""
    found = []
    for least in (-1, 1 << 60):
        monkeypatch.setattr(page_check, "_MOST_ONE_BY_ONE", least)
        said = []
        for database in DATABASES:
            try:
                assert check_pages(str(path), transaction, database)
                said.append("")
            except (ValueError, struct.error) as error:
                said.append(str(error))
        found.append(tuple(said))
    return found


@pytest.fixture(autouse=True)
def few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_check, "_FEWEST_TOGETHER", 1)


def test_leaves_of_a_whole_index_pass_as_arrays(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, but for those with several values of a key, are found sound at once."""
    found: list[bool] = []

    def find(*args: object) -> object:
        leaves = find_sound_leaves(*args)  # type: ignore[arg-type]
        found.extend(leaf is not None for leaf in leaves)
        return leaves

    monkeypatch.setattr("mmindex.index.lmdb.leaf_check.find_sound_leaves", find)
    arrays, one_by_one = verdicts(index, transaction_of(index.read_bytes()), monkeypatch)
    assert set(arrays) == set(one_by_one) == {""}
    assert sum(found) > 60
    assert found.count(False) < sum(found)


def overwrite_anywhere(data: bytearray, at: int, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 3])):
        data[at + chance.randrange(PAGE)] = chance.choice([0, 1, 2, 4, 0x7F, 0xFF])


def overwrite_head(data: bytearray, at: int, chance: random.Random) -> None:
    data[at + chance.randrange(64)] = chance.choice([0, 1, 2, 3, 4, 0x22, 0x7F, 0xFF])


def overwrite_node(data: bytearray, at: int, chance: random.Random) -> None:
    """Overwrite a field of a node, its key or its value."""
    count = max(1, struct.unpack_from("<H", data, at + 12)[0] // 2 - 8) % 1000
    slot = min(at + 16 + 2 * chance.randrange(count), at + PAGE - 2)
    node = at + struct.unpack_from("<H", data, slot)[0] + chance.randrange(40)
    if node < len(data):
        data[node] = chance.choice([0, 1, 2, 3, 8, data[node] ^ 1, data[node] ^ 0x80, 0xFF])


def swap_nodes(data: bytearray, at: int, chance: random.Random) -> None:
    """Let two nodes of a page change places, or be the same one."""
    first, second = (at + 16 + 2 * chance.randrange(8) for _ in range(2))
    kept = data[first : first + 2]
    data[first : first + 2] = data[second : second + 2]
    if chance.random() < 0.5:
        data[second : second + 2] = kept


def copy_page(data: bytearray, at: int, chance: random.Random) -> None:
    other = chance.randrange(2, len(data) // PAGE) * PAGE
    data[at : at + PAGE] = data[other : other + PAGE]
    if chance.random() < 0.5:
        struct.pack_into("<Q", data, at, at // PAGE)  # its own number


@pytest.mark.parametrize(
    "damage", [overwrite_anywhere, overwrite_head, overwrite_node, swap_nodes, copy_page]
)
def test_verdicts_on_damaged_indexes_are_those_node_by_node(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object
) -> None:
    """Each page is damaged in turn; whatever arrays pass is sound, and nothing else is refused."""
    assert callable(damage)
    data, copy = index.read_bytes(), tmp_path / "copy"
    transaction, chance = transaction_of(data), random.Random(str(damage.__name__))
    refused = 0
    pages = range(2, len(data) // PAGE - 32)
    for number in chance.sample(pages, min(len(pages), 60)):
        damaged = bytearray(data)
        damage(damaged, number * PAGE, chance)
        copy.write_bytes(damaged)
        arrays, one_by_one = verdicts(copy, transaction, monkeypatch)
        assert list(map(bool, arrays)) == list(map(bool, one_by_one)), (number, arrays, one_by_one)
        refused += any(arrays)
    assert refused > 2


@pytest.mark.parametrize("ending", [b"", b"\0", b"\0\0", b"\0" * 8, b"\1"])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 60])
def test_keys_are_in_the_order_of_their_bytes(tmp_path: Path, ending: bytes, length: int) -> None:
    """Zeros at their ends count; the last key may end with the file."""
    keys = sorted({b"k" * length, b"k" * length + ending, b"k" * length + ending + b"\0"})
    for order, is_right in ((keys, True), (keys[::-1], len(keys) == 1), (keys + keys[-1:], False)):
        page = pack_leaf(2, order)
        path = tmp_path / "pages"
        path.write_bytes(bytes(2 * PAGE) + page)
        with path.open("rb") as file, page_check._mapping(file) as data:
            (leaf,) = find_sound_leaves(data, PAGE, [2])
        assert (leaf is not None) is is_right
        if leaf is not None:
            assert leaf == (len(order), order[0], order[-1])


def pack_leaf(number: int, keys: list[bytes]) -> bytes:
    """Return a page of nodes without values, the first one at its end."""
    nodes, offsets, at = b"", [], PAGE
    for key in keys:
        node = struct.pack("<HHHH", 0, 0, 0, len(key)) + key
        at -= len(node) + len(node) % 2
        nodes = node + bytes(len(node) % 2) + nodes
        offsets.append(at)
    head = struct.pack("<QHHHH", number, 0, 2, 16 + 2 * len(keys), at)
    head += struct.pack(f"<{len(keys)}H", *offsets)
    return head + bytes(PAGE - len(head) - len(nodes)) + nodes


def test_many_overlapping_nodes_are_left_to_a_closer_look(tmp_path: Path) -> None:
    """What an array of their keys would take is bounded."""
    count = (PAGE - 16) // 2
    head = struct.pack("<QHHHH", 2, 0, 2, PAGE, PAGE) + struct.pack("<H", 600) * count
    pages = bytearray(head * 200)
    for number in range(200):
        struct.pack_into("<Q", pages, number * PAGE, number + 2)
    path = tmp_path / "pages"
    path.write_bytes(bytes(2 * PAGE) + pages)
    with path.open("rb") as file, page_check._mapping(file) as data:
        assert set(find_sound_leaves(data, PAGE, list(range(2, 202)))) == {None}
        assert find_sound_leaves(data, PAGE, [2, 1]) == [None, None]
        assert find_sound_leaves(data, PAGE, [2, 202]) == [None, None]
