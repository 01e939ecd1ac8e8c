"""Tar headers that ask for much work, and pax records as Python's tarfile reads them."""

from __future__ import annotations

import io
import os
import random
import tarfile
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmindex.errors import FormatError
from mmindex.sources.container import walk_members
from mmindex.sources.member import LONGEST_NAME, FoundMember, strip_name
from mmindex.sources.memory import MemorySource

BLOCK = 512
MEMBERS = 2000
MIB = 1 << 20


def header(name: bytes, length: int, kind: bytes = b"0") -> bytes:
    """Return a ustar header of 512 bytes (POSIX.1-2017, pax: ustar interchange format)."""
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % length
    head += b"00000000000\0"
    tail = (kind + bytes(100) + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
    return head + b"%06o\0 " % sum(head + b" " * 8 + tail) + tail


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", len(records), kind) + padded(records)


def record(keyword: bytes, value: bytes) -> bytes:
    """Return a record, whose length counts its own digits."""
    rest = b" " + keyword + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def walk(data: bytes) -> list[FoundMember]:
    return list(walk_members(MemorySource(data, "c.tar")))


def seconds_to_walk(data: bytes) -> float:
    """Return the least of three times of the processor."""
    times = []
    for _ in range(3):
        started = time.process_time()
        walk(data)
        times.append(time.process_time() - started)
    return min(times)


FILL = {
    "many short ones": b"".join(record(b"%x" % number, b"") for number in range(MIB // 10)),
    "a comment": record(b"comment", b"c" * (MIB - 32)),
    "sparse files": b"".join(record(b"GNU.sparse.%x" % number, b"") for number in range(MIB // 24)),
    "a long keyword": record(b"k" * (MIB - 32), b""),
}


@pytest.mark.parametrize("fill", FILL)
@pytest.mark.parametrize("kind", [b"g", b"x"])
def test_a_mebibyte_of_pax_records_costs_nothing_a_member(fill: str, kind: bytes) -> None:
    """Records of all members are parsed once, whatever follows; none but three are kept."""
    records = FILL[fill]
    assert MIB // 2 < len(records) <= MIB
    members = header(b"a.dcm", 0) * MEMBERS + bytes(1024)
    alone, together = (
        seconds_to_walk(pax(records, kind)),
        seconds_to_walk(pax(records, kind) + members),
    )
    assert together - alone < 0.5  # the work of a member times that of a record takes minutes
    data = pax(records, kind) + members
    tracemalloc.start()
    try:
        found = sum(1 for _ in walk_members(MemorySource(data)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == MEMBERS
    assert peak < 4 * MIB


@pytest.mark.parametrize("length", [LONGEST_NAME + 1, MIB - 64])
def test_a_path_of_all_members_that_none_can_have_is_damage(length: int) -> None:
    """Each member would look at all of it."""
    data = header(b"a", 0) + pax(record(b"path", b"p" * length), b"g") + header(b"b", 0)
    members = walk_members(MemorySource(data, "c.tar"))
    assert next(members).name == b"a"
    with pytest.raises(FormatError, match=f"a path of {length} bytes for all") as caught:
        next(members)
    assert caught.value.offset == BLOCK


def test_a_path_of_half_a_million_dots_is_stripped_in_one_go() -> None:
    """The name after them counts."""
    dots = b"./" * ((MIB - 64) // 2)
    data = pax(record(b"path", dots + b"a.dcm")) + header(b"b", 0) + bytes(1024)
    started = time.process_time()
    assert [member.name for member in walk(data)] == [b"a.dcm"]
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        *((b"./a", b"a"), (b".//./a", b"a"), (b"././", b""), (b".a", b".a"), (b"../a", b"../a")),
        *((b"/./a", b"/./a"), (b"./.a", b".a"), (b"a./b", b"a./b"), (b".", b"."), (b"", b"")),
    ],
)
def test_dots_before_a_name_are_left_out(name: bytes, stripped: bytes) -> None:
    """As `tar c .` writes them, and no others."""
    assert strip_name(name) == stripped


def test_pax_records_are_those_of_tarfile() -> None:
    """Names, lengths and places of members with records of their own and of all."""
    source = random.Random(5)
    for _ in range(40):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for number in range(6):
                info = tarfile.TarInfo(f"{'größe' * source.randrange(40)}/{number}")
                info.size = source.randrange(3000)
                info.pax_headers = {
                    f"SCHILY.xattr.{each}": "x\ny=" * source.randrange(99) for each in range(5)
                }
                info.mtime = source.random()
                tar.addfile(info, io.BytesIO(source.randbytes(info.size)))
        data = pax(record(b"comment", b"of all"), b"g") + stream.getvalue()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            expected = [
                (member.name.encode(), member.offset_data, member.size)
                for member in tar.getmembers()
            ]
        assert [(each.name, each.offset, each.length) for each in walk(data)] == expected


def test_records_of_one_member_go_before_those_of_all_in_any_order() -> None:
    """Those that come later count among their own kind; a file name that is empty is none."""
    common, own = pax(record(b"path", b"all"), b"g"), pax(record(b"path", b"one"))
    member = header(b"name", 0)
    assert [each.name for each in walk(own + common + member + member)] == [b"one", b"all"]
    assert [each.name for each in walk(common + own + member + member)] == [b"one", b"all"]
    twice = pax(record(b"path", b"a") + record(b"path", b"b") + record(b"size", b"0"))
    assert [each.name for each in walk(twice + member)] == [b"b"]
    assert [each.name for each in walk(common + pax(record(b"path", b"")) + member)] == [b"name"]


@pytest.mark.parametrize(
    "bad", [b"5 a=", b"4 a=\n", b"x", b"6 a=\n", b"99999999999 a=\n", b"5a=\n"]
)
def test_records_that_are_none_are_damage(bad: bytes) -> None:
    """A length that leads elsewhere than to the end of a line is not guessed at."""
    with pytest.raises(FormatError, match="its pax records are no records"):
        walk(pax(record(b"path", b"a") + bad) + header(b"b", 0))


@pytest.mark.parametrize("size", [b"", b"-1", b"1" * 21, b"0x1"])
def test_a_size_record_that_is_no_number_is_damage(size: bytes) -> None:
    """Where the next member begins cannot be known."""
    with pytest.raises(FormatError, match="its size is no number"):
        walk(pax(record(b"size", size)) + header(b"b", 0))


@pytest.mark.parametrize(
    ("field", "length"),
    [
        (b"00000000017\0", 15),
        (b"00000000017 ", 15),
        (b"      17\0   ", 15),
        (b"17\0" + b"9" * 9, 15),
        (b"000000000017", 15),
        (b"\0" * 12, 0),
        (b" " * 12, 0),
        (b"\x80" + bytes(10) + b"\x0f", 15),
    ],
)
def test_sizes_are_read_as_tarfile_reads_them(field: bytes, length: int) -> None:
    """Octal digits with any end, or none, and GNU's base 256."""
    block = bytearray(header(b"a", 0))
    block[124:136] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data = bytes(block) + bytes(BLOCK) + header(b"b", 0) + bytes(1024)
    if not length:
        data = bytes(block) + header(b"b", 0) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [(each.name.encode(), each.size) for each in tar.getmembers()]
    assert expected == [(b"a", length), (b"b", 0)]
    assert [(each.name, each.length) for each in walk(data)] == expected


def test_checksums_of_bytes_with_signs_are_taken() -> None:
    """As some old programs added; one that is off by one is refused."""
    block = bytearray(header("größe".encode(), 0))
    block[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in block)
    assert signed != sum(block)
    for total, is_right in ((signed, True), (sum(block), True), (signed + 1, False)):
        block[148:156] = b"%06o\0 " % total
        data = header(b"a", 0) + bytes(block) + bytes(1024)
        if is_right:
            assert len(walk(data)) == 2
        else:
            with pytest.raises(FormatError, match="its checksum is wrong"):
                walk(data)


class Counted(MemorySource):
    """A container that counts reads."""

    reads = 0

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read(offset, length)


@pytest.mark.parametrize("form", ["ustar", "pax", "long names", "pax of 900 bytes", "global"])
def test_a_member_costs_one_read_whatever_precedes_its_header(form: str) -> None:
    """Records, or a long name, and the header after them are read together."""
    before = {
        "ustar": b"",
        "pax": pax(record(b"mtime", b"1795683745.477")),
        "long names": header(b"././@LongLink", 301, b"L") + padded(b"n" * 300 + b"\0"),
        "pax of 900 bytes": pax(record(b"comment", b"c" * 900)),
        "global": b"",
    }[form]
    member = before + header(b"a.dcm", 5000) + bytes(5120)
    data = (pax(record(b"comment", b"c"), b"g") if form == "global" else b"") + member * 50
    container = Counted(data + bytes(1024), "c.tar")
    found = list(walk_members(container))
    assert [each.length for each in found] == [5000] * 50
    assert all(each.offset % BLOCK == 0 and each.offset for each in found)
    assert container.reads <= 50 + 5


def test_headers_of_records_that_differ_are_each_checked() -> None:
    """The second of two that share a checksum field has another byte."""
    member = header(b"a", 0)
    good = pax(record(b"mtime", b"1"))
    bad = bytearray(good)
    bad[5] ^= 1
    assert len(walk((good + member) * 3)) == 3
    with pytest.raises(FormatError, match="its checksum is wrong") as caught:
        walk(good + member + bytes(bad) + member)
    assert caught.value.offset == len(good + member)


def expected_of(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return name, place and length of the files that tarfile finds."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [
            (strip_name(os.fsencode(each.name)), each.offset_data, each.size)
            for each in tar.getmembers()
            if each.isreg()
        ]


NAMES = st.sampled_from(
    [
        "a",
        "a.dcm",
        "d/b.dcm",
        "./c",
        "x" * 101,
        "p" * 90 + "/" + "q" * 90,
        "z" * 300,
        "größe",
        "b..c",
    ]
)
KINDS = st.sampled_from(
    [tarfile.REGTYPE] * 4
    + [tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]
)
MEMBER = st.tuples(
    NAMES,
    KINDS,
    st.sampled_from([0, 1, 511, 512, 513, 1024, 3000]),
    st.sampled_from([0, 1.5, 1795683745.477]),
    st.sampled_from([0, 0, 10, 430, 460, 900, 4000]),
)


@given(st.lists(MEMBER, max_size=8), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
@settings(max_examples=200, deadline=None)
def test_any_tar_is_walked_as_tarfile_walks_it(
    members: list[tuple[str, bytes, int, float, int]], tar_format: int
) -> None:
    """Names, places and lengths, in every mix of headers, at the edges of blocks and of reads."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as tar:
        for name, kind, length, mtime, comment in members:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, mtime, "a" * (comment % 400)
            info.size = length if info.isreg() else 0
            if comment:
                info.pax_headers = {"comment": "c" * comment}
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    if data := stream.getvalue() if members else b"":
        found = [(each.name, each.offset, each.length) for each in walk(data)]
        assert found == expected_of(data)


@pytest.mark.parametrize(
    ("start", "is_right"),
    [
        *((b"9 ", True), (b"009 ", True), (b"9  ", True), (b"9", False), (b" 9 ", False)),
        *((b"+9 ", False), (b"9_ ", False), (b"0_9 ", False), (b"\xd9\xa9 ", False)),
    ],
)
def test_lengths_of_records_are_digits(start: bytes, is_right: bool) -> None:
    """Whatever else Python takes for a number."""
    line = start + b"a" * (6 - len(start)) + b"=b\n"
    data = pax(line) + header(b"n", 0)
    if is_right:
        assert [each.name for each in walk(data)] == [b"n"]
        return
    with pytest.raises(FormatError, match="its pax records are no records"):
        walk(data)


def test_a_record_of_twelve_digits_is_none() -> None:
    """Eleven are more than any record has."""
    assert len(walk(pax(b"00000000018 aaa=b\n") + header(b"n", 0))) == 1
    with pytest.raises(FormatError, match="its pax records are no records"):
        walk(pax(b"000000000018 aa=b\n") + header(b"n", 0))
