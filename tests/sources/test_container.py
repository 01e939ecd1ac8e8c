"""Members of tar and zip containers: what Python's tarfile and zipfile read, and damaged ones."""

from __future__ import annotations

import io
import os
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulated_file,
    image_attributes,
    native_file,
)
from sources.source_conformance import CONTENT, SourceConformance, open_source, replace_file

import mmindex
from mmindex.errors import (
    FormatError,
    MissingFileError,
    MMIndexError,
    NotAddressableError,
    NotDicomError,
    StaleIndexError,
)
from mmindex.frame_table import ByteRange
from mmindex.model import Fingerprint, Status
from mmindex.sources.base import ByteSource
from mmindex.sources.container import is_container, open_member, walk_members
from mmindex.sources.file import FileSource, open_descriptor
from mmindex.sources.member import FoundMember
from mmindex.sources.memory import MemorySource

FRAMES = [b"\xff\xd8AA\xff\xd9", b"\xff\xd8BBBB\xff\xd9", b"\xff\xd8CC\xff\xd9"]
ENCAPSULATED = encapsulated_file(FRAMES, 3)
NATIVE = native_file(b"aaaabbbbcccc", number_of_frames=3)


def deflated_data_set() -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data_set = image_attributes() + element(PIXEL_DATA, "OW", bytes(range(4)))
    stream = compressor.compress(data_set) + compressor.flush()
    return dicom_file(stream, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


FILES: dict[str, bytes] = {
    "a.dcm": ENCAPSULATED,
    "deep/folder/native.dcm": NATIVE,
    "empty": b"",
    "x" * 90 + "/" + "y" * 90 + "/long.dcm": ENCAPSULATED,
    "z" * 300: NATIVE,
    "größe.dcm": NATIVE,
    "random": random.Random(3).randbytes(1500),
}


def write_tar(files: dict[str, bytes], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_zip(
    files: dict[str, bytes], method: int = zipfile.ZIP_STORED, *, zip64: bool = False
) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as container:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with container.open(info, "w", force_zip64=zip64) as file:
                file.write(data)
    return stream.getvalue()


def deflate_zip(files: dict[str, bytes]) -> bytes:
    return write_zip(files, zipfile.ZIP_DEFLATED)


class Unseekable(io.BytesIO):
    """A stream to which zipfile writes lengths after the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def stream_zip(method: int) -> bytes:
    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", method) as container:
        for name, data in FILES.items():
            container.writestr(name, data)
    return stream.getvalue()


def short_names() -> dict[str, bytes]:
    return {name: data for name, data in FILES.items() if len(name) < 100 and name.isascii()}


CONTAINERS: dict[str, Callable[[], bytes]] = {
    "tar gnu": lambda: write_tar(FILES, tarfile.GNU_FORMAT),
    "tar pax": lambda: write_tar(FILES, tarfile.PAX_FORMAT),
    "tar ustar": lambda: write_tar(short_names(), tarfile.USTAR_FORMAT),
    "zip stored": lambda: write_zip(FILES),
    "zip deflated": lambda: deflate_zip(FILES),
    "zip64 fields": lambda: write_zip(FILES, zip64=True),
    "zip streamed stored": lambda: stream_zip(zipfile.ZIP_STORED),
    "zip streamed deflated": lambda: stream_zip(zipfile.ZIP_DEFLATED),
    "zip after a program": lambda: b"#!/bin/sh\n" * 9 + deflate_zip(FILES),
    "empty zip": lambda: write_zip({}),
    "empty tar": lambda: write_tar({}),
}


def oracle(data: bytes) -> dict[bytes, bytes]:
    """Return what Python's own modules read."""
    stream = io.BytesIO(data)
    found: dict[bytes, bytes] = {}
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as container:
            for info in container.infolist():
                if not info.is_dir():
                    found[info.filename.encode()] = container.read(info)
        return found
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar.getmembers():
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                found[os.fsencode(member.name)] = file.read()
    return found


def read_member(source: ByteSource) -> bytes:
    return source.read(source.first, source.size)


def read_container(data: bytes) -> dict[bytes, bytes]:
    """Return all members' bytes; a member that cannot be read raises."""
    container = MemorySource(data, "container")
    return {
        member.name: read_member(open_member(MemorySource(data, "container"), member))
        for member in walk_members(container)
    }


@pytest.mark.parametrize("kind", [kind for kind in CONTAINERS if "program" not in kind])
def test_members_are_what_pythons_own_modules_read(kind: str) -> None:
    """Names, order and bytes of every file are those of tarfile and zipfile."""
    data = CONTAINERS[kind]()
    if kind == "empty tar":
        with pytest.raises(FormatError):
            read_container(data)
        return
    assert is_container(data[:512])
    found, expected = read_container(data), oracle(data)
    assert found == expected
    assert list(found) == list(expected)


def test_a_zip_after_a_program_is_walked_though_not_found_by_itself() -> None:
    """Offsets then count from the end of what stands before the container."""
    from mmindex.sources.zip import walk_zip

    data = CONTAINERS["zip after a program"]()
    container = MemorySource(data)
    found = {
        member.name: read_member(open_member(MemorySource(data), member))
        for member in walk_zip(container)
    }
    assert found == oracle(data)


@pytest.mark.parametrize("data", [b"", b"x" * 511, bytes(1024), ENCAPSULATED, NATIVE])
def test_other_files_are_no_containers(data: bytes) -> None:
    """Neither empty ones nor zeros nor DICOM files."""
    assert not is_container(data[:512])
    with pytest.raises(FormatError, match="expected a tar or zip container"):
        list(walk_members(MemorySource(data)))


class TestStoredInZip(SourceConformance):
    """Offsets count in the container; nothing outside of the member can be read."""

    def make(self, folder: Path) -> ByteSource:
        (folder / "a.zip").write_bytes(write_zip({"before": b"b" * 99, "a": CONTENT, "z": b"zz"}))
        return self.open(folder / "a.zip")

    def open(self, path: Path) -> ByteSource:
        container = open_source(path)
        (member,) = (member for member in walk_members(container) if member.name == b"a")
        return open_member(container, member)

    def change(self, source: ByteSource, folder: Path) -> None:
        replace_file(folder / "a.zip", write_zip({"before": b"b" * 99, "a": CONTENT[::-1]}))

    def shorten(self, source: ByteSource, folder: Path) -> None:
        os.truncate(folder / "a.zip", source.first + 1000)

    def remove(self, source: ByteSource, folder: Path) -> None:
        (folder / "a.zip").unlink()


class TestStoredInTar(TestStoredInZip):
    def make(self, folder: Path) -> ByteSource:
        (folder / "a.zip").write_bytes(write_tar({"before": b"b" * 99, "a": CONTENT, "z": b"zz"}))
        return self.open(folder / "a.zip")


class TestDeflatedInZip(TestStoredInZip):
    """The member is inflated once; its container is watched."""

    is_inflated = True

    shorten = None

    def make(self, folder: Path) -> ByteSource:
        (folder / "a.zip").write_bytes(deflate_zip({"b": b"b" * 99, "a": CONTENT}))
        return self.open(folder / "a.zip")


# Files in containers by their paths.


@pytest.fixture(params=["tar", "zip stored", "zip deflated"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    files = {
        "a.dcm": ENCAPSULATED,
        "deep/native.dcm": NATIVE,
        "deflated.dcm": deflated_data_set(),
        "text": b"no DICOM file" * 20,
        "inner.zip": write_zip({"a.dcm": NATIVE}),
    }
    write: dict[str, Callable[[dict[str, bytes]], bytes]] = {
        "tar": write_tar,
        "zip stored": write_zip,
        "zip deflated": deflate_zip,
    }
    path = tmp_path / "study.any"
    path.write_bytes(write[request.param](files))
    return path, request.param


def test_open_file_reads_members(container: tuple[Path, str]) -> None:
    """Frames, batches, views, arrays; ranges count in the container where there are any."""
    path, kind = container
    with mmindex.open_file(f"{path}!/a.dcm") as instance:
        assert instance.path == f"{path}!/a.dcm"
        assert list(instance) == FRAMES
        assert instance.frames([2, 0, 1]) == [FRAMES[2], FRAMES[0], FRAMES[1]]
        assert [bytes(instance.view(at)) for at in range(3)] == FRAMES
        if kind == "zip deflated":
            assert instance.record.status is Status.DEFLATED
            with pytest.raises(NotAddressableError):
                instance.byte_ranges(1)
        else:
            (piece,) = instance.byte_ranges(1)
            data = path.read_bytes()
            assert data[piece.offset : piece.offset + piece.length] == FRAMES[1]
    with mmindex.open_file(f"{path}!/deep/native.dcm") as instance:
        assert list(instance) == [b"aaaa", b"bbbb", b"cccc"]
        assert instance.array(1).tolist() == [[98, 98], [98, 98]]


def test_R7_a_deflated_data_set_in_a_container_is_inflated_too(
    container: tuple[Path, str],
) -> None:
    """Once by the container where that deflates, and once more as the data set says."""
    with mmindex.open_file(f"{container[0]}!/deflated.dcm") as instance:
        assert instance.frame(0) == bytes(range(4))


def test_what_is_no_dicom_file_in_a_container_is_named(container: tuple[Path, str]) -> None:
    """Containers in containers are not opened."""
    path, _ = container
    for name in ("text", "inner.zip"):
        with pytest.raises(NotDicomError) as caught:
            mmindex.open_file(f"{path}!/{name}")
        assert caught.value.path == f"{path}!/{name}"
    for name in ("nothing", "", "a.dcm/", "inner.zip!/a.dcm"):
        with pytest.raises(MissingFileError):
            mmindex.open_file(f"{path}!/{name}")
    with pytest.raises(MissingFileError):
        mmindex.open_file(f"{path}x!/a.dcm")


def test_a_real_file_of_such_a_name_wins(container: tuple[Path, str]) -> None:
    """A folder may have a name that ends in "!"."""
    path, _ = container
    Path(f"{path}!").mkdir()
    Path(f"{path}!/a.dcm").write_bytes(NATIVE)
    with mmindex.open_file(f"{path}!/a.dcm") as instance:
        assert list(instance) == [b"aaaa", b"bbbb", b"cccc"]


def test_a_container_whose_name_has_the_separator(tmp_path: Path) -> None:
    """The first part that is a file is the container."""
    (tmp_path / "odd!").mkdir()
    (tmp_path / "odd!" / "b.zip").write_bytes(write_zip({"c!/d": NATIVE}))
    with mmindex.open_file(f"{tmp_path}/odd!/b.zip!/c!/d") as instance:
        assert len(instance) == 3


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    """So tarfile and zipfile read them, and so an appended tar means it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a", ENCAPSULATED)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", NATIVE)
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    with mmindex.open_file(f"{tmp_path}/a.zip!/a") as instance:
        assert instance.frame(0) == b"aaaa"


def test_names_of_tar_c_dot_have_no_dot(tmp_path: Path) -> None:
    """`tar c .` writes "./" before every name."""
    (tmp_path / "a.tar").write_bytes(write_tar({"./a.dcm": NATIVE, ".//./b": NATIVE}))
    assert set(read_container((tmp_path / "a.tar").read_bytes())) == {b"a.dcm", b"b"}
    for name in ("a.dcm", "./a.dcm", "b"):
        with mmindex.open_file(f"{tmp_path}/a.tar!/{name}") as instance:
            assert len(instance) == 3


# Members that cannot be read, and say why.


def reasons(data: bytes) -> dict[bytes, str]:
    return {member.name: member.reason for member in walk_members(MemorySource(data))}


def patch(data: bytes, at: int, *values: bytes) -> bytes:
    for value in values:
        data = data[:at] + value + data[at + len(value) :]
    return data


def two_members(method: int = zipfile.ZIP_STORED) -> tuple[bytes, int, int, int]:
    """Return a zip of two members, where its second local header and its two entries are."""
    data = write_zip({"a": b"A" * 100, "b": b"B" * 100}, method)
    first = data.index(b"PK\1\2")
    return data, data.index(b"PK\3\4", 4), first, data.index(b"PK\1\2", first + 4)


def test_encrypted_members_say_so() -> None:
    """By the flag of the directory, and by that of the local header alone."""
    data, local, _, entry = two_members()
    for at in (entry + 8, local + 6):
        found = reasons(patch(data, at, b"\1\0"))
        assert found[b"a"] == ""
        assert "encrypted" in found[b"b"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_say_so(method: int) -> None:
    """The reason has the method's number; opening raises with it."""
    data = write_zip({"a": b"A" * 1000}, method)
    (member,) = walk_members(MemorySource(data))
    assert f"method {method}" in member.reason
    with pytest.raises(FormatError, match=f"method {method}") as caught:
        open_member(MemorySource(data, "c.zip"), member)
    assert caught.value.path == "c.zip!/a"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_errors_of_a_container_name_the_member(tmp_path: Path, method: int) -> None:
    """Whichever way the member was read or looked at when the container had changed."""
    path = tmp_path / "c.zip"
    path.write_bytes(write_zip({"a": b"A" * 1000}, method))
    descriptor = open_descriptor(str(path))
    version = Fingerprint.of(path.stat())
    with closing(FileSource(descriptor, str(path), version, revalidate_after=0.0)) as container:
        (member,) = walk_members(container)
        source = open_member(container, member)
        start = source.first
        path.write_bytes(b"another file")
        for look in (
            source.check,
            source.check_if_due,
            partial(source.read, start, 4),
            partial(source.read_many, [(start, 4)]),
            partial(source.view, start, 4),
        ):
            with pytest.raises(StaleIndexError) as caught:
                look()
            assert caught.value.path == f"{path}!/a"


LIES: dict[str, tuple[str, int, bytes]] = {
    "name": ("local", 30, b"c"),
    "method": ("local", 8, b"\x08\0"),
    "length": ("local", 22, struct.pack("<I", 99)),
    "compressed length": ("local", 18, struct.pack("<I", 99)),
    "length of the name": ("local", 26, b"\2\0"),
    "signature": ("local", 0, b"PK\3\5"),
    "length in the directory": ("entry", 24, struct.pack("<I", 99)),
    "stored lengths that differ": ("entry", 20, struct.pack("<I", 99)),
    "longer than the container": ("entry", 20, struct.pack("<II", 1 << 30, 1 << 30)),
    "another member's place": ("entry", 42, struct.pack("<I", 0)),
    "a place within another member": ("entry", 42, struct.pack("<I", 40)),
    "another part": ("entry", 34, b"\1\0"),
    "extra that reaches into the next": ("local", 28, b"\xf0\0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_member_whose_headers_disagree_is_not_read(lie: str) -> None:
    """The member has a reason, or the container is refused; no byte of another is returned."""
    data, local, _, entry = two_members()
    where, at, value = LIES[lie]
    found = reasons(patch(data, {"local": local, "entry": entry}[where] + at, value))
    assert list(found) == [b"a", b"b"]
    assert found[b"b"]


def test_members_that_overlap_are_refused() -> None:
    """A quoted overlap inflates the same bytes again and again: none of its members is read."""
    body = zlib.compress(bytes(100_000), 9)[2:-4]
    crc = zlib.crc32(bytes(100_000))

    def header(name: bytes, signature: bytes, extra: bytes, tail: bytes) -> bytes:
        lengths = struct.pack("<III", crc, len(body), 100_000)
        return signature + extra + struct.pack("<HHHH", 0, 8, 0, 0) + lengths + tail + name

    count = 2000
    local = header(b"same", b"PK\3\4", b"\x14\0", struct.pack("<HH", 4, 0)) + body
    entry = header(
        b"same", b"PK\1\2", b"\x14\0\x14\0", struct.pack("<HHHHHII", 4, 0, 0, 0, 0, 0, 0)
    )
    directory = entry * count
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(local), 0)
    assert set(reasons(local + directory + end).values()) == {
        "the member overlaps with another one"
    }
    (member,) = walk_members(
        MemorySource(
            local
            + entry
            + b"PK\5\6"
            + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)
        )
    )
    assert member.reason == ""


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a", "a/../../b", "..", "a/.."], ids=lambda name: name
)
@pytest.mark.parametrize("write", [write_zip, write_tar], ids=["zip", "tar"])
def test_names_that_lead_out_are_not_read(
    name: str, write: Callable[[dict[str, bytes]], bytes], tmp_path: Path
) -> None:
    """No file is ever opened by a member's name; such a member is refused all the same."""
    data = write({name: NATIVE, "good": NATIVE})
    found = reasons(data)
    assert found.pop(b"good") == ""
    assert [("leads out" in reason) for reason in found.values()] == [True]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(FormatError, match="leads out"):
        mmindex.open_file(f"{tmp_path}/a!/{name}")


# Deflated members that lie about what is in them.


def one_deflated(content: bytes) -> tuple[bytes, FoundMember]:
    data = deflate_zip({"a": content})
    (member,) = walk_members(MemorySource(data))
    return data, member


@pytest.mark.parametrize("by", [-1, 1, 1000])
def test_a_deflated_member_of_another_length_raises(by: int) -> None:
    """It is never returned short, nor cut to the length that the container says."""
    data, member = one_deflated(b"content" * 100)
    source = open_member(MemorySource(data), member._replace(length=member.length + by))
    with pytest.raises(FormatError, match="does not inflate to the"):
        source.read(0, 5)


def test_a_deflated_member_with_a_wrong_crc_raises() -> None:
    """However well it inflates."""
    data, member = one_deflated(b"content" * 100)
    source = open_member(MemorySource(data), member._replace(crc=member.crc ^ 1))
    with pytest.raises(FormatError, match="expected CRC"):
        source.read(0, 5)


def test_a_bomb_costs_little_memory() -> None:
    """Lengths that no deflate stream has are refused unread; others stop where they should end."""
    data, member = one_deflated(bytes(64 << 20))
    tracemalloc.start()
    try:
        for length in (1000, 1 << 40, 1 << 32):
            source = open_member(MemorySource(data), member._replace(length=length))
            with pytest.raises(FormatError):
                source.read(0, 5)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_densest_member_is_read() -> None:
    """Deflate makes 1,030 zeros of a byte, which is no bomb."""
    data, member = one_deflated(bytes(8 << 20))
    assert read_member(open_member(MemorySource(data), member)) == bytes(8 << 20)


# Tar headers that are odd or damaged.


def tar_header(
    name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = b"ustar\x0000"
) -> bytes:
    fields = [
        name.ljust(100, b"\0"),
        b"0000644\0",
        b"0000000\0",
        b"0000000\0",
        size.ljust(12, b"\0"),
    ]
    head = b"".join(fields) + b"00000000000\0"
    tail = kind + bytes(100) + magic
    block = (head + b" " * 8 + tail).ljust(512, b"\0")
    return head + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


@pytest.mark.parametrize("size", [b"00000000005\0", b"          5 ", b"\x80" + bytes(10) + b"\5"])
@pytest.mark.parametrize("magic", [b"ustar\x0000", b"ustar  \0", b""])
def test_sizes_are_octal_or_base_256(size: bytes, magic: bytes) -> None:
    """As old and new programs write them."""
    data = (
        tar_header(b"z", b"00000000000\0") + tar_header(b"a", size, magic=magic) + padded(b"hello")
    )
    assert read_container(data + bytes(1024))[b"a"] == b"hello"
    assert read_container(data)[b"a"] == b"hello"


def test_links_folders_and_devices_are_no_members() -> None:
    """Whatever their size says, they have no data."""
    others = b"".join(
        tar_header(b"o" + kind, b"00000000777\0", kind)
        for kind in (b"1", b"2", b"3", b"4", b"5", b"6")
    )
    data = others + tar_header(b"a", b"00000000005\0") + padded(b"hello") + bytes(1024)
    assert read_container(data) == {b"a": b"hello"} == oracle(data)


def test_sparse_files_are_refused_and_stepped_over(tmp_path: Path) -> None:
    """GNU's own header and pax records alike; the member after them is found."""
    sparse = bytearray(tar_header(b"s", b"00000001000\0", b"S", b"ustar  \0"))
    sparse[482] = 1
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    data = bytes(sparse) + bytes(512) + bytes(512)
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    data += tar_header(b"pax", b"%011o\0" % len(records), b"x") + padded(records)
    data += tar_header(b"p", b"00000001000\0") + bytes(512)
    data += tar_header(b"a", b"00000000005\0") + padded(b"hello") + bytes(1024)
    found = reasons(data)
    assert list(found) == [b"s", b"p", b"a"]
    assert ["sparse" in reason for reason in found.values()] == [True, True, False]


def test_pax_records_of_all_and_of_one_member() -> None:
    """The records of one member go before those of all, and only for that one."""

    def pax(kind: bytes, records: bytes) -> bytes:
        return tar_header(b"pax", b"%011o\0" % len(records), kind) + padded(records)

    member = tar_header(b"name", b"00000000000\0")
    data = pax(b"g", b"10 size=5\n") + member + padded(b"first")
    data += pax(b"x", b"10 size=6\n12 path=two\n") + member + padded(b"second") + member
    data += padded(b"third") + bytes(1024)
    assert read_container(data) == {b"name": b"third", b"two": b"second"}


DAMAGED_TARS: dict[str, bytes] = {
    "checksum": patch(tar_header(b"b", b"00000000005\0"), 5, b"x") + padded(b"hello"),
    "size of letters": tar_header(b"b", b"size") + padded(b"hello"),
    "negative size": tar_header(b"b", b"-0000000005\0") + padded(b"hello"),
    "long name of 1 GiB": tar_header(b"b", b"10000000000\0", b"L"),
    "long name cut": tar_header(b"b", b"00000077777\0", b"L"),
    "pax without length": tar_header(b"b", b"00000000010\0", b"x") + padded(b"size=5\n "),
    "pax length of nothing": tar_header(b"b", b"00000000010\0", b"x") + padded(b"0 size=5"),
    "pax length too long": tar_header(b"b", b"00000000010\0", b"x") + padded(b"99 a=55\n"),
}


@pytest.mark.parametrize("damage", DAMAGED_TARS)
def test_a_damaged_tar_header_ends_the_walk_with_an_error(damage: str) -> None:
    """Members before it are yielded; nothing after it is guessed."""
    good = tar_header(b"a", b"00000000005\0") + padded(b"hello")
    walk = walk_members(MemorySource(good + DAMAGED_TARS[damage] + good + bytes(1024), "c.tar"))
    assert next(walk).name == b"a"
    with pytest.raises(FormatError, match="damaged one") as caught:
        list(walk)
    assert (caught.value.path, caught.value.offset) == ("c.tar", 1024)


def test_a_tar_member_past_the_end_has_its_reason() -> None:
    """A container that was cut serves the members before the cut."""
    data = write_tar({"a": NATIVE, "b": CONTENT})[: -len(CONTENT) // 2]
    found = reasons(data)
    assert found[b"a"] == ""
    assert "past the end" in found[b"b"]


DAMAGED_ZIPS: dict[str, Callable[[bytes], bytes]] = {
    "no end": lambda data: data[:-22],
    "cut": lambda data: data[: len(data) // 2],
    "nothing but a beginning": lambda data: data[:4],
    "nothing but the beginning of an end": lambda data: b"PK\5\6",
    "an end that is cut": lambda data: write_zip({})[:-1],
    "directory before the file": lambda data: patch(data, len(data) - 10, b"\xff" * 8),
    "directory in the data": lambda data: patch(data, len(data) - 10, struct.pack("<I", 120)),
    "entry of another kind": lambda data: patch(data, data.index(b"PK\1\2"), b"PK\1\3"),
    "name too long": lambda data: patch(data, data.index(b"PK\1\2") + 28, b"\xff\xff"),
    "zip64 without its field": lambda data: patch(data, data.index(b"PK\1\2") + 24, b"\xff" * 4),
    "member behind the directory": lambda data: patch(
        data, data.index(b"PK\1\2") + 42, struct.pack("<I", len(data))
    ),
    "one of several parts": lambda data: patch(data, len(data) - 18, b"\1\0"),
}


@pytest.mark.parametrize("damage", DAMAGED_ZIPS)
def test_a_damaged_zip_is_an_error(damage: str) -> None:
    """The error says that the central directory is what is damaged."""
    data = DAMAGED_ZIPS[damage](write_zip({"a": b"A" * 100, "b": b"B" * 100}))
    with pytest.raises(FormatError, match="expected the central directory"):
        list(walk_members(MemorySource(data)))


@pytest.mark.parametrize(
    "kind", ["tar gnu", "tar pax", "zip stored", "zip deflated", "zip64 fields"]
)
def test_damaged_containers_give_no_wrong_bytes(kind: str) -> None:
    """Whatever bytes change: lengths are right and deflated bytes are, or an error is raised."""
    data = CONTAINERS[kind]()
    expected = oracle(data)
    source = random.Random(kind)
    started = time.monotonic()
    for _ in range(600):
        damaged = bytearray(data)
        for _ in range(source.choice((1, 1, 2, 8))):
            at = source.randrange(len(damaged))
            damaged[at : at + source.choice((1, 2, 4))] = source.randbytes(source.choice((1, 2, 4)))
        if source.random() < 0.2:
            del damaged[source.randrange(len(damaged)) :]
        try:
            for member in walk_members(MemorySource(bytes(damaged))):
                if member.reason:
                    continue
                found = read_member(open_member(MemorySource(bytes(damaged)), member))
                assert len(found) == member.length
                if "deflated" in kind and found != expected.get(member.name, found):
                    raise AssertionError("CRC passed for other bytes")
        except MMIndexError:
            continue
    assert time.monotonic() - started < 120


def test_a_million_bytes_of_entries_are_read_in_chunks() -> None:
    """Entries that lie across the chunks of the directory are read whole."""
    files = {f"{'n' * (number % 300)}{number}": b"%d" % number for number in range(9000)}
    data = write_zip(files)
    assert len(data) > 3 << 20
    assert read_container(data) == {name.encode(): value for name, value in files.items()}


def test_byte_ranges_of_a_member_count_in_the_container(tmp_path: Path) -> None:
    """Anomalies' offsets, too."""
    cut = ENCAPSULATED[:-8]
    (tmp_path / "a.tar").write_bytes(write_tar({"x": b"x" * 5000, "a": cut}))
    with mmindex.open_file(f"{tmp_path}/a.tar!/a") as instance:
        data = (tmp_path / "a.tar").read_bytes()
        begin = data.index(cut[128:200]) - 128
        (anomaly,) = instance.record.anomalies
        assert anomaly.code == "missing-sequence-delimiter"
        assert anomaly.offset == begin + len(cut)
        assert instance.byte_ranges(0) == (ByteRange(data.index(FRAMES[0]), len(FRAMES[0])),)


@pytest.mark.parametrize("length", [300, 4000, 4096])
def test_a_member_whose_path_is_longer_than_those_of_files_is_opened(
    tmp_path: Path, length: int
) -> None:
    """The system takes paths of 4095 bytes and names of 255; containers have longer ones."""
    name = "n" * length
    (tmp_path / "a.tar").write_bytes(write_tar({name: NATIVE}, tarfile.PAX_FORMAT))
    with mmindex.open_file(f"{tmp_path}/a.tar!/{name}") as instance:
        assert instance.frame(1) == b"bbbb"
    with pytest.raises(MissingFileError):
        mmindex.open_file(f"{tmp_path}/a.tar!/{name[:-1]}")
    with pytest.raises(MissingFileError):
        mmindex.open_file(f"{tmp_path}/{name}/a.dcm")
