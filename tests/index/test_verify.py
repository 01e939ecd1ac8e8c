"""An index that is not whole, or whose bytes changed: the check says so, and nothing crashes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest
from child_process import exit_code, forks
from dicom_bytes import write_numbered
from new_store import create_store

import mmindex
from mmindex.errors import IndexFormatError, MMIndexError
from mmindex.index.checksum import seal
from mmindex.index.lmdb import opening
from mmindex.index.lmdb.environment import Environment
from mmindex.index.lmdb.transaction import OvertakenError
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import InstanceRecord, Status

REPOSITORY = Path(__file__).resolve().parents[2]
COUNT = 80
PAGE, ROOM = 4096, 1 << 17  # bytes of a page of the index, and after its last one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive of files of one study, and of one that is no DICOM file."""
    root = tmp_path / "archive"
    root.mkdir()
    for number in range(COUNT):
        write_numbered(root, number)
    (root / "text").write_bytes(b"no DICOM")
    mmindex.build(root, workers=1)
    return root


def change(root: Path, database: str, key: bytes, value: bytes | None, old: bytes = b"") -> None:
    """Put a pair into a database of the index, or delete it (of several values `old`)."""
    index = str(root / ".mmindex")
    with lmdb.open(index, subdir=False, max_dbs=16) as env, env.begin(write=True) as txn:
        opened = env.open_db(database.encode(), txn=txn, create=False)
        if value is None:
            assert txn.delete(key, old, db=opened)
        else:
            txn.put(key, value, db=opened)


def file_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def path_key(path: bytes) -> bytes:
    return hashlib.blake2b(path, digest_size=16).digest()


def path_value(path: bytes, *value: int) -> bytes:
    return seal(path_key(path), struct.pack("<QQqQB", *(*value, 0)))


def test_an_index_that_is_whole_passes(root: Path) -> None:
    """Also one that was brought up to date, and that of an empty archive."""
    write_numbered(root, COUNT)
    (root / "000.dcm").unlink()
    mmindex.build(root, workers=1)
    (root / "empty").mkdir()
    mmindex.build(root / "empty", workers=1)
    for folder in (root, root / "empty"):
        with mmindex.open(folder) as archive:
            archive.check_index()


@pytest.mark.parametrize(
    ("database", "key", "value", "said"),
    [
        ("instances", b"1.2.3.9", None, "'1.2.3.9' in 'instances' misses file "),
        ("instances", b"9.9", file_id(2), "expected 80 values in 'instances', found 81"),
        ("instances", b"9.9", file_id(999), "expected 80 values in 'instances', found 81"),
        ("others", b"9.9", file_id(2), "expected 0 values in 'others', found 1"),
        ("series", b"1.2.5.9", None, "'1.2.5.9' in 'series' misses file "),
        ("studies", b"1.2.4", file_id(999), "expected 80 values in 'studies', found 81"),
        ("paths", path_key(b"009.dcm"), None, "its path leads elsewhere than to file "),
        ("paths", path_key(b"009.dcm"), path_value(b"009.dcm", 1, 2, 3, 4), "leads elsewhere"),
        ("paths", path_key(b"009.dcm"), "fingerprint", "its path leads elsewhere than to file "),
        ("instances", b"1.2.3.9", "another", "'1.2.3.9' in 'instances' misses file "),
        ("paths", path_key(b"999.dcm"), path_value(b"999.dcm", 1, 2, 3, 4), "81 values in 'paths'"),
        ("unscanned", file_id(2), b"unreadable", "expected 1 values in 'unscanned', found 2"),
        ("entries", file_id(2) + bytes(4), b"", "expected 0 values in 'entries', found 1"),
        ("files", file_id(2), None, "expected 80 values in "),
        ("meta", b"next", seal(b"next", file_id(5)), "expected file ids below 5, found 5"),
        ("meta", b"next", file_id(500), "checksum"),
        ("meta", b"root", b"/other", "checksum"),
        ("meta", b"identity", None, "checksum of 0 bytes"),
    ],
)
def test_what_leads_to_no_record_or_to_another_is_said(
    root: Path, database: str, key: bytes, value: bytes | str | None, said: str
) -> None:
    """Every way to a record is gone in both directions; the command says so, too."""
    if value == "fingerprint":  # of the file as it was before
        value = path_value(b"009.dcm", find_id(root, b"009.dcm"), 1, 2, 3)
    elif value == "another":  # instead of its own file, one that has another UID
        change(root, database, key, None)
        value = file_id(find_id(root, b"010.dcm"))
    assert not isinstance(value, str)
    change(root, database, key, value)
    with pytest.raises(IndexFormatError, match=f"damaged index: .*{said}") as caught:  # noqa: SIM117
        with mmindex.open(root) as archive:
            archive.check_index()
    assert caught.value.path == str(root / ".mmindex")
    done = subprocess.run(
        [sys.executable, "-m", "mmindex", "check", str(root)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "damaged index" in done.stderr
    assert done.stdout == ""


def test_a_status_that_a_list_of_files_has_otherwise_is_said(root: Path) -> None:
    """The list of what is no DICOM file, or could not be read."""
    with lmdb.open(str(root / ".mmindex"), subdir=False, max_dbs=16) as env, env.begin() as txn:
        unscanned = env.open_db(b"unscanned", txn=txn, create=False)
        ((key, value),) = list(txn.cursor(unscanned))
    assert value == b"not-dicom"
    change(root, "unscanned", key, b"unreadable")
    with mmindex.open(root) as archive, pytest.raises(IndexFormatError, match="'unscanned' misses"):
        archive.check_index()


def test_pages_that_only_the_check_goes_through_are_looked_at(root: Path) -> None:
    """A page of the paths, which no UID is read through."""
    index = root / ".mmindex"
    data = bytearray(index.read_bytes())
    key = path_key(b"009.dcm")
    page = data.index(key) // PAGE * PAGE
    free_from = int.from_bytes(data[page + 12 : page + 14], "little")
    data[page + 12 : page + 14] = (free_from - 2).to_bytes(2, "little")
    index.write_bytes(data)
    with mmindex.open(root) as archive:
        assert len(list(archive)) == COUNT
        for read in (archive.check_index, lambda: list(archive.records())):
            with pytest.raises(IndexFormatError, match="expected 81 values, found 80"):
                read()


def test_an_index_that_is_overtaken_while_it_is_checked_is_checked_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock, as on a read-only disk, two builds may end meanwhile."""
    monkeypatch.setattr(opening, "_MODES", ({"readonly": True, "lock": False},))
    exits = []

    def overtake_once(self: Environment, txn: object) -> None:
        exits.append(True)
        if len(exits) == 1:
            raise OvertakenError

    with mmindex.open(root) as archive:
        monkeypatch.setattr(Environment, "check_overtaken", overtake_once)
        archive.check_index()
    assert len(exits) > 1


def test_a_first_key_without_bytes_hides_no_record(root: Path) -> None:
    """LMDB would look for the first file id after it."""
    index = root / ".mmindex"
    data = bytearray(index.read_bytes())
    at = data.index(b"\x08\x00" + file_id(1))
    data[at] = 0
    index.write_bytes(data)
    with mmindex.open(root) as archive:
        for read in (archive.records, archive.check_index):
            with pytest.raises(IndexFormatError, match="damaged index"):
                list(read() or ())


@pytest.mark.parametrize("bit", [0, 1, 7, 30, 33, 62, 63])
@pytest.mark.parametrize("key", [b"next", b"root", b"identity"])
def test_no_bit_of_meta_can_flip_unnoticed(root: Path, key: bytes, bit: int) -> None:
    """Neither where the archive is nor the next id is taken from damaged bytes, by no build."""
    index = root / ".mmindex"
    with lmdb.open(str(index), subdir=False, max_dbs=16) as env, env.begin() as txn:
        value = bytearray(txn.get(key, db=env.open_db(b"meta", txn=txn, create=False)))
    value[bit // 8 % len(value)] ^= 1 << bit % 8
    change(root, "meta", key, bytes(value))
    with pytest.raises(IndexFormatError, match="checksum"):  # noqa: SIM117
        with mmindex.open(root) as archive:
            archive.check_index()
    with pytest.raises(IndexFormatError, match="checksum"):
        mmindex.build(root, workers=1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bit", [0, 1, 5, 12, 40])
def test_a_build_loses_no_file_to_a_bit_in_the_id_that_its_path_leads_to(
    root: Path, bit: int, full: bool
) -> None:
    """It would be taken for another file, whose record would be dropped."""
    index = root / ".mmindex"
    with lmdb.open(str(index), subdir=False, max_dbs=16) as env, env.begin() as txn:
        key = path_key(b"009.dcm")
        value = bytearray(txn.get(key, db=env.open_db(b"paths", txn=txn, create=False)))
    value[bit // 8] ^= 1 << bit % 8
    change(root, "paths", key, bytes(value))
    with pytest.raises(IndexFormatError, match="checksum of 33 bytes"):
        mmindex.build(root, workers=1, full=full)
    store = Store(str(index))
    assert len(store.find_unseen(bytearray(store.next_file_id()))) == COUNT + 1
    store.close()


# Records that are no lies of a disk, but of who wrote them


def replace_record(root: Path, number: int, packed: bytes) -> None:
    change(root, "files", file_id(number), seal(file_id(number), packed))


def find_id(root: Path, path: bytes) -> int:
    store = Store(str(root / ".mmindex"))
    (found,) = store.find_paths([path])
    store.close()
    assert found is not None
    return found[0]


def packed_record(root: Path, number: int) -> bytearray:
    with lmdb.open(str(root / ".mmindex"), subdir=False, max_dbs=16) as env, env.begin() as txn:
        files = env.open_db(b"files", txn=txn, create=False)
        return bytearray(txn.get(file_id(number), db=files)[:-4])


@pytest.mark.parametrize(
    ("offset", "form", "value", "said"),
    [
        (3, "B", 0, "file .* has no fingerprint"),
        (33, "Q", 1 << 63, f"{1 << 63} frames"),
        (33, "Q", (1 << 48) + 1, f"{(1 << 48) + 1} frames"),
        (41, "Q", 1 << 62, f"{1 << 62} frames"),
        (0, "B", 40, "unknown status 40"),
    ],
)
def test_a_record_that_cannot_be_is_a_damaged_index(
    root: Path, offset: int, form: str, value: int, said: str
) -> None:
    """Its checksum is right; what it says would end in an error of Python's own."""
    number = find_id(root, b"009.dcm")
    packed = packed_record(root, number)
    struct.pack_into(f"<{form}", packed, offset, value)
    replace_record(root, number, packed)
    with mmindex.open(root) as archive:
        for read in (
            lambda: archive.frame("1.2.3.9", 0),
            lambda: archive.file("009.dcm"),
            lambda: mmindex.FrameDataset(archive),
            lambda: list(archive.records()),
        ):
            with pytest.raises(IndexFormatError, match=said):
                read()
        with suppress(IndexFormatError):
            archive.check_index()


def test_a_build_refuses_a_path_that_leads_to_another_file(root: Path) -> None:
    """Its record would be dropped in place of the file's own."""
    other = find_id(root, b"010.dcm")
    change(root, "paths", path_key(b"009.dcm"), path_value(b"009.dcm", other, 1, 2, 3))
    with pytest.raises(IndexFormatError, match=f"the path of another file leads to file {other}"):
        mmindex.build(root, workers=1)
    with mmindex.open(root) as archive:
        assert archive.frame("1.2.3.10", 0) == b"0010"


def test_a_path_and_a_uid_that_lead_to_no_record_are_damage(root: Path) -> None:
    """A record that is gone with all that leads to it is another matter."""
    number = find_id(root, b"009.dcm")
    change(root, "files", file_id(number), None)
    with mmindex.open(root) as archive:
        for read in (
            lambda: archive.file("009.dcm"),
            lambda: archive["1.2.3.9"],
            lambda: list(archive.instances(series_instance_uid="1.2.5.9")),
        ):
            with pytest.raises(IndexFormatError, match=f"leads to file {number}, which is not"):
                read()


def test_entries_that_no_index_can_hold_cost_a_build_nothing(root: Path) -> None:
    """A record of so many entries is replaced as soon as any other."""
    number = find_id(root, b"009.dcm")
    packed = packed_record(root, number)
    packed[3] |= 16  # entries kept apart
    replace_record(root, number, packed + struct.pack("<Q", 1 << 60))
    os.utime(root / "009.dcm", ns=(1, 1))
    assert mmindex.build(root, workers=1).scanned == 1
    with mmindex.open(root) as archive:
        archive.check_index()


# Whatever flips, a process does not end


@forks
@pytest.mark.parametrize("seed", range(4))
def test_offsets_in_the_last_pages_of_an_index_lead_out_of_no_map(root: Path, seed: int) -> None:
    """The numbers in a page lead up to 128 KiB past it: there is as much after the last page."""
    index = root / ".mmindex"
    data, chance = index.read_bytes(), random.Random(seed)
    end = len(data) - ROOM
    assert not any(data[end:])
    leaves = [
        page
        for page in range(2 * PAGE, end, PAGE)
        if int.from_bytes(data[page : page + 8], "little") == page // PAGE
        and data[page + 10] & 3 == 2
    ]
    for page in leaves[-6:]:
        damaged = bytearray(data)
        free_from = int.from_bytes(data[page + 12 : page + 14], "little")
        for at in range(page + 16, page + free_from, 2):
            damaged[at + 1] = chance.choice([0xFF, 0xF0, data[at + 1] ^ 0x80])
        index.write_bytes(damaged)
        code = exit_code(lambda: look_everything_up(root))
        assert code >= 0, signal.Signals(-code).name


def look_everything_up(root: Path) -> None:
    with suppress(MMIndexError), mmindex.open(root) as archive:
        for number in range(COUNT):
            with suppress(MMIndexError):
                archive.frame(f"1.2.3.{number}", 0)
            with suppress(MMIndexError):
                archive.file(f"{number:03}.dcm")
            with suppress(MMIndexError):
                list(archive.instances(series_instance_uid=f"1.2.5.{number}"))


def test_a_new_index_has_its_room_at_once(tmp_path: Path) -> None:
    """Before anything is put in, after that, and after it was made compact."""
    index = tmp_path / "index"
    store = create_store(str(index), b"/archive")
    sizes = [index.stat().st_size]
    for number in range(50):
        store.replace([pack_record(InstanceRecord(Status.NOT_DICOM, path=b"%d" % number))])
        sizes.append(index.stat().st_size)
    copy = tmp_path / "copy"
    store.copy_to(str(copy))
    store.close()
    sizes.append(copy.stat().st_size)
    with lmdb.open(str(copy), subdir=False, readonly=True) as env:
        assert sizes[-1] == (env.info()["last_pgno"] + 1) * PAGE + ROOM
    assert min(sizes) > ROOM
