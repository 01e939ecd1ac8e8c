"""Members of containers by every way to read: each gives what the extracted files give."""

from __future__ import annotations

import json
import os
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from child_process import exit_code, forks
from cli_runner import run
from container_bytes import WRITERS, deflated_data_set, encapsulated, native
from dicom_bytes import (
    PIXEL_DATA,
    deflate,
    dicom_file,
    element,
    encapsulated_file,
    four_bytes,
    image_attributes,
    native_file,
)
from pydicom.data import get_testdata_file
from read.test_slide import make_slide, make_tile

import mmindex
from mmindex.errors import (
    FormatError,
    FrameIndexError,
    MissingFileError,
    MMIndexError,
    NotAddressableError,
    StaleIndexError,
)
from mmindex.frame_table import Layout
from mmindex.model import Member
from mmindex.read.verify import verify_archive
from mmindex.sources import folder
from mmindex.sources.member import DeflatedMember, InflatedFiles, inflate_member

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

PYDICOM = ("CT_small.dcm", "examples_overlay.dcm", "rtdose.dcm", "examples_ybr_color.dcm")


def slice_at(number: int) -> bytes:
    """Return a slice of a volume, `number` mm above the first."""
    data_set = element(0x00080018, "UI", f"7.{number}")
    data_set += element(0x0020000D, "UI", "7.1") + element(0x0020000E, "UI", "7.1.1")
    data_set += element(0x00200032, "DS", f"0\\0\\{number}")
    data_set += element(0x00200037, "DS", "1\\0\\0\\0\\1\\0")
    data_set += image_attributes() + element(0x00280030, "DS", "1\\1")
    return dicom_file(data_set + element(PIXEL_DATA, "OB", bytes([number] * 4)))


def slide_file() -> bytes:
    return make_slide("8.1", [make_tile(number) for number in range(9)])


FILES = {
    "one.dcm": native("1.1", [b"abcd", b"efgh", b"ijkl"]),
    "f/two.dcm": encapsulated("1.2", [b"\xff\xd8one\xff\xd9", b"\xff\xd8two2\xff\xd9"]),
    "deflated.dcm": deflated_data_set("1.3", b"wxyz"),
    "bits.dcm": native_file(
        b"\x96\xa5\x0f\0\xff\0", vr="OB", rows=3, columns=4, bits=1, number_of_frames=4
    ),
    "slide.dcm": slide_file(),
    **{f"volume/{number}.dcm": slice_at(number) for number in range(4)},
}


class Pair:
    """One archive with its files in a container, and one with the same files as they are."""

    def __init__(self, folder: Path, kind: str) -> None:
        files = dict(FILES)
        for name in PYDICOM:
            files[name] = Path(get_testdata_file(name, download=False)).read_bytes()
        self.kind = kind
        self.root, plain = folder / "packed", folder / "plain"
        self.root.mkdir()
        self.container = self.root / "s"
        self.container.write_bytes(WRITERS[kind](files.items()))
        for name, data in files.items():
            (plain / name).parent.mkdir(parents=True, exist_ok=True)
            (plain / name).write_bytes(data)
        mmindex.build(self.root, workers=1)
        mmindex.build(plain, workers=1)
        self.packed, self.plain = mmindex.open(self.root), mmindex.open(plain)

    def close(self) -> None:
        self.packed.close()
        self.plain.close()


@pytest.fixture(params=WRITERS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path, request.param)
    yield pair
    pair.close()


def test_instances_are_those_of_the_extracted_files(pair: Pair) -> None:
    """Bytes, views, pixels and header of every instance, and what the archive says of it."""
    assert list(pair.packed) == list(pair.plain)
    for uid in pair.plain:
        expected, found = pair.plain[uid], pair.packed[uid]
        assert found.frames() == expected.frames() == list(found)
        assert [pair.packed.frame(uid, at) for at in range(len(found))] == expected.frames()
        assert found.dataset() == expected.dataset()
        assert found.path == f"{pair.container}!/{os.fsdecode(expected.record.path)}"
        assert found.file_path == str(pair.container)
        assert found.record.size == expected.record.size
        if not expected.record.transfer_syntax_uid.endswith(".4.50"):
            assert np.array_equal(found.arrays(), expected.arrays())
    bits, same = pair.packed.file("s!/bits.dcm"), pair.plain.file("bits.dcm")
    assert list(bits) == list(same)


def test_listings_are_those_of_the_extracted_files(pair: Pair) -> None:
    """Studies and series with their sizes; the container's bytes count once."""
    assert list(pair.packed.studies()) == list(pair.plain.studies())
    assert list(pair.packed.series()) == list(pair.plain.series())
    found, expected = pair.packed.statistics(), pair.plain.statistics()
    assert found.statuses.pop("container") == 1
    assert (found.instances, found.frames) == (expected.instances, expected.frames)
    assert found.file_bytes == pair.container.stat().st_size
    assert [path for path, _ in found.largest[:1]] == [f"s!/{expected.largest[0][0]}"]


def test_volumes_slides_and_datasets_of_members(pair: Pair) -> None:
    """What is put together of several files does not see where these are."""
    found, expected = pair.packed.volume("7.1.1"), pair.plain.volume("7.1.1")
    assert np.array_equal(found.array, expected.array)
    assert (found.spacing, found.origin) == (expected.spacing, expected.origin)
    with pair.packed.slide("1.2.4") as slide, pair.plain.slide("1.2.4") as other:
        assert np.array_equal(slide.read_region(0, 0, 0, 10, 5), other.read_region(0, 0, 0, 10, 5))
    for duplicates in ("newest", "all"):
        options = {"decoded": False, "with_ids": True, "duplicates": duplicates}
        datasets = [mmindex.FrameDataset(each, **options) for each in (pair.packed, pair.plain)]
        assert list(datasets[0]) == list(datasets[1])
    parts = [
        [len(part) for part in mmindex.FrameDataset(each).split((0.5, 0.5))]
        for each in (pair.packed, pair.plain)
    ]
    assert parts[0] == parts[1]


def test_verify_and_problems_name_members(pair: Pair) -> None:
    """By paths like `s!/a.dcm`; nothing is found that the extracted files do not have."""
    done = {each.path: each for each in verify_archive(pair.packed, pair.packed.instances())}
    expected = {each.path: each for each in verify_archive(pair.plain, pair.plain.instances())}
    assert set(done) == {b"s!/" + path for path in expected}
    for path, each in expected.items():
        assert done[b"s!/" + path][1:] == each[1:]
    problems = sorted((problem.path, problem.kind) for problem in pair.packed.problems())
    others = sorted((f"s!/{problem.path}", problem.kind) for problem in pair.plain.problems())
    assert problems == others


def test_byte_ranges_count_in_the_container(pair: Pair) -> None:
    """Those of stored members; a deflated one has none, and no export."""
    whole = pair.container.read_bytes()
    if pair.kind == "deflated":
        with pytest.raises(NotAddressableError, match="file in the container is deflated"):
            pair.packed["1.1"].byte_ranges(0)
        assert run("export", pair.root).stdout == ""
        return
    rows = [json.loads(line) for line in run("export", pair.root).stdout.splitlines()]
    found: dict[tuple[str, int], bytes] = {}
    for row in rows:
        assert (row["path"], row["size"]) == ("s", len(whole))
        piece = whole[row["offset"] : row["offset"] + row["length"]]
        key = row["sop_instance_uid"], row["frame"]
        found[key] = found.get(key, b"") + piece
    for (uid, frame), data in found.items():
        if uid:
            assert data == pair.plain.frame(uid, frame)
    assert {uid for uid, _ in found} == {*pair.plain, ""} - {"1.3"}
    references = json.loads(run("export", pair.root, "--format", "kerchunk").stdout)["refs"]
    url, offset, length = references["1.1/1.0.0"]
    assert (url, whole[offset : offset + length]) == (str(pair.container), b"efgh")


def test_the_command_line_takes_paths_of_members(pair: Pair, tmp_path: Path) -> None:
    """From the index above the container, as of other files; `ls` and `check` list them."""
    path = f"{pair.container}!/one.dcm"
    described = json.loads(run("info", path, "--json").stdout)
    assert described["index"] == str(pair.root / ".mmindex")
    assert described["member"]["name"] == "one.dcm"
    assert described["member"]["length"] == described["file_size"] == len(FILES["one.dcm"])
    assert described["member"]["method"] == ("deflated" if pair.kind == "deflated" else "stored")
    lines = [line.split(None, 1) for line in run("info", path).stdout.splitlines()]
    assert dict(lines)["Container"].startswith(f"{pair.container}, ")
    run("frame", path, 2, "-o", tmp_path / "frame")
    assert (tmp_path / "frame").read_bytes() == b"efgh"
    run("sheet", path, "-o", tmp_path / "sheet.png")
    if pair.kind != "deflated":
        (frame,) = json.loads(run("ranges", path, 2).stdout)["frames"]
        (where,) = frame["ranges"]
        data = pair.container.read_bytes()
        assert data[where["offset"] : where["offset"] + where["length"]] == b"efgh"
    listed = [line.split("\t") for line in run("ls", pair.root).stdout.splitlines()]
    assert sorted(line[0] for line in listed) == sorted(
        f"s!/{os.fsdecode(record.path)}" for record in pair.plain.records()
    )
    sizes = {line[0]: int(line[5]) for line in listed}
    assert sizes["s!/one.dcm"] == len(FILES["one.dcm"])
    os.utime(pair.container, (1, 1))
    stale = json.loads(run("info", path, "--json").stdout)
    assert stale["index"] is None
    rows = [line.split("\t")[:2] for line in run("check", pair.root, code=1).stdout.splitlines()]
    assert ["s", "stale"] in rows
    assert not any(kind == "stale" for name, kind in rows if name != "s")


def test_a_container_that_changed_is_stale(pair: Pair) -> None:
    """For instances in hand, for new ones, and for frames by UID; a build then finds it."""
    archive = mmindex.open(pair.root, revalidate_after=0)
    instance = archive["1.1"]
    files = [("one.dcm", native("1.1", [b"ABCD"]))]
    pair.container.write_bytes(WRITERS[pair.kind](files))
    for read in (
        lambda: instance.frame(0),
        lambda: archive.frame("1.1", 0),
        lambda: archive["1.1"],
        lambda: archive.file("s!/one.dcm"),
    ):
        with pytest.raises(StaleIndexError):
            read()
    mmindex.build(pair.root, workers=1)
    assert archive.frame("1.1", 0) == b"ABCD"
    pair.container.unlink()
    with pytest.raises(MissingFileError):
        archive.frame("1.1", 0)


def test_many_members_share_one_open_file(pair: Pair) -> None:
    """However many instances are open; the last one closes it."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    if before is None:
        pytest.skip("open files are counted in /proc")
    with mmindex.open(pair.root) as archive:
        alone = len(os.listdir("/proc/self/fd"))
        opened = [archive[uid] for uid in archive]
        for instance in opened:
            instance.frame(0)
        assert len(os.listdir("/proc/self/fd")) == alone + 1
        for instance in opened[1:]:
            instance.close()
        assert len(opened[0].frame(0)) > 0
        with pytest.raises(ValueError, match="closed"):
            opened[1].frame(0)
        opened[0].close()
        assert len(os.listdir("/proc/self/fd")) == alone


def test_a_moved_archive_with_containers_is_read(pair: Pair, tmp_path: Path) -> None:
    """Inodes may be others there."""
    status = pair.container.stat()
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "s").write_bytes(pair.container.read_bytes())
    os.utime(tmp_path / "moved" / "s", ns=(status.st_mtime_ns, status.st_mtime_ns))
    pair.container.unlink()
    with mmindex.open(pair.root, archive_root=tmp_path / "moved") as archive:
        assert archive.frame("1.1", 1) == b"efgh"
        assert archive.file("s!/f/two.dcm").frame(0) == b"\xff\xd8one\xff\xd9"


def test_threads_read_members_of_one_container(pair: Pair) -> None:
    """Each gets its own frames, whoever opens or inflates first."""
    expected = {uid: pair.plain[uid].frames() for uid in pair.plain}
    barrier = threading.Barrier(4)

    def read(seed: int) -> bool:
        barrier.wait()
        uids = list(expected)
        order = [uids[(seed + at * (seed + 1)) % len(uids)] for at in range(200)]
        return all(pair.packed[uid].frames() == expected[uid] for uid in order)

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(read, range(4)))


def test_an_index_error_of_a_member_names_it(pair: Pair) -> None:
    """By the path that leads to it."""
    with pytest.raises(FrameIndexError, match=r"s!/one\.dcm"):
        pair.packed["1.1"].frame(3)


def test_open_file_reads_the_header_of_a_member(pair: Pair) -> None:
    """Without an index, too."""
    for uid in pair.plain:
        name = os.fsdecode(pair.plain.record(uid).path)
        with mmindex.open_file(f"{pair.container}!/{name}") as instance:
            assert instance.dataset() == pair.plain[uid].dataset()
            assert instance.frames() == pair.plain[uid].frames()
            assert instance.record.member == pair.packed.record(uid).member
            assert instance.file_path == str(pair.container)


@pytest.mark.parametrize("kind", WRITERS)
def test_members_with_trusted_offset_tables_are_read(tmp_path: Path, kind: str) -> None:
    """Their items are looked at when a frame is read, in the container or in the inflated file."""
    frames = [b"\xff\xd8" + bytes([at]) * 20 + b"\xff\xd9" for at in range(50)]
    file = encapsulated_file(frames, 50, bot=[at * 32 for at in range(50)])
    (tmp_path / "s").write_bytes(WRITERS[kind]([("x", bytes(777)), ("a.dcm", file)]))
    mmindex.build(tmp_path, workers=1, prove=False)
    with mmindex.open(tmp_path) as archive:
        instance = archive.file("s!/a.dcm")
        assert instance.record.frames is not None
        assert instance.record.frames.layout is Layout.TRUSTED
        assert instance.frames() == frames
        assert [bytes(piece) for piece in instance.all_fragments()] == frames
    rows = [json.loads(line) for line in run("export", tmp_path).stdout.splitlines()]
    data = (tmp_path / "s").read_bytes()
    found = [data[row["offset"] : row["offset"] + row["length"]] for row in rows]
    assert found == ([] if kind == "deflated" else frames)


def test_inflated_members_are_kept_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those read last stay; one that was let go of is inflated again."""
    size = 200_000
    files = [
        (f"{at}.dcm", native_file(bytes([at]) * size, vr="OB", rows=400, columns=500))
        for at in range(8)
    ]
    (tmp_path / "s.zip").write_bytes(WRITERS["deflated"](files))
    mmindex.build(tmp_path, workers=1)
    kept = InflatedFiles(3 * size)
    monkeypatch.setattr("mmindex.sources.member.InflatedFiles", lambda: kept)
    with mmindex.open(tmp_path) as archive:
        opened = [archive.file(f"s.zip!/{at}.dcm") for at in range(8)]
        for _ in range(3):
            for at, instance in enumerate(opened):
                assert instance.frame(0) == bytes([at]) * size
                assert sum(map(len, kept._files.values())) <= 3 * size + 2000
        assert archive.file("s.zip!/7.dcm").frame(0) == bytes([7]) * size


def test_one_long_inflated_file_is_kept() -> None:
    """The last one stays, whatever its length, until another comes."""
    kept = InflatedFiles(10)
    kept.keep("long", bytes(100))
    assert kept.get("long") == bytes(100)
    kept.keep("short", bytes(5))
    assert (kept.get("long"), kept.get("short")) == (None, bytes(5))
    for number in range(20):
        kept.keep(number, bytes(3))
    assert kept.get(19) == bytes(3)
    assert kept.get(0) is None


def test_a_damaged_deflated_member_raises_when_it_is_read(tmp_path: Path) -> None:
    """Its bytes changed with no change of size and time: the checksum says so."""
    path = tmp_path / "s.zip"
    path.write_bytes(WRITERS["deflated"]([("a.dcm", native("1.1", [bytes(range(4))] * 50))]))
    mmindex.build(tmp_path, workers=1)
    status = path.stat()
    data = bytearray(path.read_bytes())
    with mmindex.open(tmp_path) as archive:
        member = archive.record("1.1").member
        assert member is not None
        data[member.offset + member.compressed_length - 3] ^= 0x10
        with open(path, "r+b") as file:
            file.write(data)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        with pytest.raises(MMIndexError, match=r"s\.zip!/a\.dcm"):
            archive.frame("1.1", 0)


def test_containers_of_an_archive_are_opened_through_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand reads of members of one container open it a few times at most."""
    (tmp_path / "s.tar").write_bytes(
        WRITERS["tar"]([(f"{at}.dcm", native(f"1.{at}")) for at in range(50)])
    )
    mmindex.build(tmp_path, workers=1)
    opened: list[str] = []
    real = folder.open_descriptor
    monkeypatch.setattr(
        folder, "open_descriptor", lambda path: (opened.append(path), real(path))[1]
    )
    with mmindex.open(tmp_path) as archive:
        for at in range(1000):
            assert archive[f"1.{at % 50}"].frame(0) == b"abcd"
            archive.frame(f"1.{at % 50}", 0)
    assert 0 < len(opened) < 60


@pytest.mark.parametrize("content", ["zeros", "noise", "mixed"])
def test_a_long_deflated_member_takes_its_length_of_memory(content: str) -> None:
    """Neither pieces nor a join beside the file; a wrong length, CRC or end raises as of short."""
    length = (1 << 24) + 12_345
    noise = os.urandom(1 << 20)
    data = {
        "zeros": bytes(length),
        "noise": (noise * 17)[:length],
        "mixed": (noise + bytes(15 << 20) + noise)[:length],
    }[content]
    deflated = deflate(data)
    member = Member(b"a.dcm", 0, length, len(deflated), 8, zlib.crc32(data))
    tracemalloc.start()
    try:
        found = inflate_member(member, deflated)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == data
    assert peak < 1.3 * length
    for wrong, stream in (
        (member, deflated[:-1]),
        (member, deflated[: len(deflated) // 2]),
        (member._replace(length=length - 1), deflated),
        (member._replace(length=length + 1), deflated),
        (member._replace(crc=member.crc ^ 1), deflated),
    ):
        with pytest.raises(FormatError):
            inflate_member(wrong, stream)


@forks
def test_a_forked_child_does_not_wait_for_a_member_that_a_thread_inflates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a DataLoader's worker, whose parent reads beside it."""
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as container:
        container.writestr("a.dcm", four_bytes(b"abcd"))
    mmindex.build(tmp_path, workers=1)
    entered, leave = threading.Event(), threading.Event()
    inflate = DeflatedMember._inflate

    def inflate_late(member: DeflatedMember) -> bytes | memoryview:
        if threading.current_thread() is thread:
            entered.set()
            leave.wait()
        return inflate(member)

    monkeypatch.setattr(DeflatedMember, "_inflate", inflate_late)
    with mmindex.open(tmp_path) as archive, archive["1.2.3"] as instance:
        thread = threading.Thread(target=instance.frame, args=(0,))
        thread.start()
        entered.wait()
        assert exit_code(lambda: instance.frame(0) == b"abcd") == 0
        leave.set()
        thread.join()
