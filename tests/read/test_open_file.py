"""open_file: paths and file objects, and files that change while they are open."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from child_process import little_memory
from clock import Clock
from dicom_bytes import (
    JPEG_BASELINE,
    PIXEL_DATA,
    deflated_file,
    element,
    encapsulated_file,
    four_bytes,
    image_attributes,
    native_file,
)

import mmindex
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    MissingFileError,
    MMIndexError,
    NotDicomError,
    StaleIndexError,
    TruncatedFrameError,
)
from mmindex.read.instance import Instance

FRAMES = [b"\xff\xd8AA\xff\xd9", b"\xff\xd8BBBB\xff\xd9", b"\xff\xd8CC\xff\xd9"]
ENCAPSULATED = encapsulated_file(FRAMES, 3)
OTHER = encapsulated_file([frame.lower() for frame in FRAMES], 3)
NATIVE = native_file(b"aaaabbbbcccc", number_of_frames=3)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a file of three frames."""
    path = tmp_path / "a.dcm"
    path.write_bytes(ENCAPSULATED)
    return path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_opened(path: Path, kind: type) -> None:
    """Text and path objects do; nothing is written beside the file."""
    with mmindex.open_file(kind(path)) as instance:
        assert list(instance) == FRAMES
        assert instance.path == str(path)
        assert instance.record.fingerprint is not None
        assert instance.record.fingerprint.size == len(ENCAPSULATED)
    assert os.listdir(path.parent) == ["a.dcm"]


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    """The error is mmindex's and Python's own, and names the file."""
    with pytest.raises(MissingFileError, match=r"b\.dcm") as caught:
        mmindex.open_file(tmp_path / "b.dcm")
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """It is refused before it is read."""
    with pytest.raises(NotDicomError, match="expected a file, found a folder"):
        mmindex.open_file(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_fifo_does_not_make_the_reader_wait(tmp_path: Path) -> None:
    """A pipe that nobody writes to is refused at once."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotDicomError, match="expected a file"):
        mmindex.open_file(tmp_path / "pipe")


@pytest.mark.parametrize("data", [b"", b"x", bytes(131), bytes(132), b"no DICOM file" * 20])
def test_R6_other_files_are_no_dicom_files(tmp_path: Path, data: bytes) -> None:
    """However short they are, they are told apart, and the error says where."""
    (tmp_path / "a").write_bytes(data)
    for source in (tmp_path / "a", io.BytesIO(data)):
        with pytest.raises(NotDicomError, match="0x80") as caught:
            mmindex.open_file(source)
        assert caught.value.offset == 128


def test_R6_force_reads_a_bare_data_set(tmp_path: Path) -> None:
    """Without preamble and File Meta Information a file is read only if that is asked for."""
    data = NATIVE[NATIVE.index(b"\x28\x00\x02\x00US") :]
    (tmp_path / "a").write_bytes(data)
    for source in (tmp_path / "a", io.BytesIO(data)):
        with mmindex.open_file(source, force=True) as instance:
            assert list(instance) == [b"aaaa", b"bbbb", b"cccc"]


def test_R18_ambiguous_frames_are_told_when_a_file_is_opened(tmp_path: Path) -> None:
    """The error names file and place."""
    (tmp_path / "a").write_bytes(encapsulated_file([b"a1", b"a2", b"b1"], 2))
    with pytest.raises(
        AmbiguousFramesError, match=r"a @0x[0-9a-f]+: expected 2 frames, found 3 fragments"
    ):
        mmindex.open_file(tmp_path / "a")


@pytest.mark.parametrize("position", [0, 5, len(ENCAPSULATED)])
def test_a_file_object_is_read_from_its_start(path: Path, position: int) -> None:
    """Wherever it stands, the whole of it is read, and it stands there afterwards."""
    with path.open("rb") as plain, path.open("rb", buffering=0) as raw:
        for source in (io.BytesIO(ENCAPSULATED), plain, raw):
            source.seek(position)
            with mmindex.open_file(source) as instance:
                assert list(instance) == FRAMES
            assert source.tell() == position
            assert not source.closed


def test_a_file_object_may_be_closed_and_its_file_removed(path: Path) -> None:
    """The instance keeps the file open by itself."""
    with path.open("rb") as file:
        instance = mmindex.open_file(file)
    path.unlink()
    with instance:
        assert list(instance) == FRAMES
        assert instance.view(1) == FRAMES[1]
        assert instance.path == str(path)


def test_a_bytes_object_may_be_closed() -> None:
    """What a file object in memory held is kept."""
    source = io.BytesIO(ENCAPSULATED)
    instance = mmindex.open_file(source)
    source.close()
    assert list(instance) == FRAMES
    assert instance.path is None


def test_a_gzip_file_is_read_decompressed(tmp_path: Path) -> None:
    """The descriptor of a GzipFile holds other bytes than it reads, and is left alone."""
    with gzip.open(tmp_path / "a.dcm.gz", "wb") as file:
        file.write(ENCAPSULATED)
    with gzip.open(tmp_path / "a.dcm.gz") as file:
        instance = mmindex.open_file(file)
    with instance:
        assert list(instance) == FRAMES
        assert [bytes(instance.view(index)) for index in range(3)] == FRAMES


def test_what_was_written_but_not_flushed_is_read() -> None:
    """A temporary file that is still being written to has no name and no stale bytes."""
    with tempfile.TemporaryFile() as file:
        file.write(ENCAPSULATED)
        with mmindex.open_file(file) as instance:
            assert list(instance) == FRAMES
            assert instance.path is None
        assert file.tell() == len(ENCAPSULATED)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files here")
def test_no_descriptor_is_left_open(path: Path, tmp_path: Path) -> None:
    """Neither a closed instance nor a refused file keeps one."""
    (tmp_path / "broken").write_bytes(ENCAPSULATED[:200])
    (tmp_path / "other").write_bytes(bytes(500))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for name in ("broken", "other", "missing", "."):
            with contextlib.suppress(MMIndexError):
                mmindex.open_file(tmp_path / name)
        with mmindex.open_file(path) as instance:
            instance.view(0)
        mmindex.open_file(path)[0]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_relative_path_is_that_of_the_folder_it_was_opened_in(
    path: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stays the one that it was when the process changes its folder."""
    monkeypatch.chdir(tmp_path)
    with mmindex.open_file("a.dcm") as instance:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        clock.now += 2
        assert list(instance) == FRAMES


def rewrite(path: Path) -> None:
    """Put other frames of the same lengths in the file's place, in place."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(OTHER)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def replace(path: Path) -> None:
    """Put another file of the same size and time in its place."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(OTHER)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def touch(path: Path) -> None:
    """Change the time alone."""
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def grow(path: Path) -> None:
    """Append to the file."""
    with path.open("ab") as file:
        file.write(b"more")


CHANGES: dict[str, tuple[Callable[[Path], object], type[MMIndexError]]] = {
    "rewritten": (rewrite, StaleIndexError),
    "replaced": (replace, StaleIndexError),
    "touched": (touch, StaleIndexError),
    "grown": (grow, StaleIndexError),
    "cut": (lambda path: os.truncate(path, 200), StaleIndexError),
    "emptied": (lambda path: os.truncate(path, 0), StaleIndexError),
    "removed": (Path.unlink, MissingFileError),
}
READS: dict[str, Callable[[mmindex.Instance], object]] = {
    "frame": lambda instance: instance.frame(1),
    "view": lambda instance: instance.view(1),
    "fragments": lambda instance: instance.fragments(1),
    "array": lambda instance: instance.array(1),
    "iterate": list,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("read", READS)
def test_a_changed_file_raises_once_it_is_looked_at(
    path: Path, clock: Clock, change: str, read: str
) -> None:
    """A second after the last look, no read returns bytes of a file that changed."""
    make_change, error = CHANGES[change]
    with mmindex.open_file(path) as instance:
        assert instance.frame(1) == FRAMES[1]
        assert instance.view(1) == FRAMES[1]
        make_change(path)
        clock.now += 1.0
        with pytest.raises(error, match=r"a\.dcm"):
            READS[read](instance)
        with pytest.raises(error, match=r"a\.dcm"):
            instance.frame(0)


@pytest.mark.parametrize("change", ["cut", "emptied"])
def test_a_cut_file_raises_even_before_it_is_looked_at(
    path: Path, clock: Clock, change: str
) -> None:
    """A short read is not mistaken for a frame, however early it comes."""
    with mmindex.open_file(path) as instance:
        CHANGES[change][0](path)
        with pytest.raises((StaleIndexError, TruncatedFrameError)):
            instance.frame(1)
        with pytest.raises((StaleIndexError, TruncatedFrameError)):
            instance.view(1)


def test_a_file_that_did_not_change_is_served_on(path: Path, clock: Clock) -> None:
    """Looking at a file again and again does no harm."""
    with mmindex.open_file(path) as instance:
        for _ in range(5):
            clock.now += 1.5
            assert list(instance) == FRAMES


@pytest.mark.parametrize(
    "change", [name for name in CHANGES if name not in ("removed", "replaced")]
)
def test_the_file_of_a_file_object_is_watched_too(path: Path, clock: Clock, change: str) -> None:
    """The open file itself is looked at; what becomes of its name does not matter."""
    with path.open("rb") as file, mmindex.open_file(file) as instance:
        CHANGES[change][0](path)
        clock.now += 1.0
        with pytest.raises(StaleIndexError, match="the file changed"):
            instance.frame(1)


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_a_file_object_outlives_its_name(path: Path, clock: Clock, change: str) -> None:
    """The file that was opened is served although its name is gone or leads elsewhere."""
    with path.open("rb") as file, mmindex.open_file(file) as instance:
        CHANGES[change][0](path)
        clock.now += 1.0
        assert list(instance) == FRAMES


@pytest.mark.parametrize(
    "change", [name for name in CHANGES if name not in ("removed", "replaced")]
)
def test_R7_a_deflated_file_that_changed_before_its_first_read_raises(
    path: Path, clock: Clock, change: str
) -> None:
    """The data set is inflated at the first read, and of no other file."""
    data_set = image_attributes() + element(PIXEL_DATA, "OW", bytes(range(4)))
    path.write_bytes(deflated_file(data_set))
    with mmindex.open_file(path) as instance:
        CHANGES[change][0](path)
        clock.now += 1.0
        with pytest.raises((StaleIndexError, FormatError)):
            instance.frame(0)


CUT_WHILE_OPEN = """
import os, sys
import mmindex
path, read = sys.argv[1:]
instance = mmindex.open_file(path)
first = instance.frame(0)
os.truncate(path, 4096)
try:
    if read == "frame":
        instance.frame(0)
    elif read == "view":
        bytes(instance.view(0))
    elif read == "array":
        instance.array(0).sum()
    else:
        list(instance)
except mmindex.MMIndexError as error:
    print(type(error).__name__)
    sys.exit(3)
"""


@pytest.mark.parametrize("read", ["frame", "view", "array", "iterate"])
@pytest.mark.parametrize("kind", ["native", "encapsulated"])
def test_a_file_cut_under_a_reader_does_not_kill_it(tmp_path: Path, read: str, kind: str) -> None:
    """The reading process ends with an exception, not with a signal."""
    length = 1 << 16
    path = tmp_path / "a.dcm"
    if kind == "native":
        value = bytes(2 * length)
        path.write_bytes(native_file(value, rows=256, columns=256, number_of_frames=2))
    else:
        frame = b"\xff\xd8" + bytes(length) + b"\xff\xd9"
        path.write_bytes(encapsulated_file([frame, frame], 2, JPEG_BASELINE))
    ended = subprocess.run(
        [sys.executable, "-c", CUT_WHILE_OPEN, str(path), read],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    assert ended.returncode == 3, ended.stderr
    assert ended.stdout.strip() in ("StaleIndexError", "TruncatedFrameError")


BUFFERS: dict[str, Callable[[bytes], bytes | bytearray | memoryview]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview of words": lambda data: memoryview(data + bytes(len(data) % 2)).cast("H"),
    "every second byte": lambda data: memoryview(bytes(b for pair in data for b in (pair, 7)))[::2],
}


@pytest.mark.parametrize("buffer", BUFFERS)
@pytest.mark.parametrize("data", [ENCAPSULATED, NATIVE], ids=["encapsulated", "native"])
def test_the_bytes_of_a_file_are_opened(buffer: str, data: bytes) -> None:
    """Whatever kind of memory they are in, nothing of a file is needed."""
    expected = FRAMES if data is ENCAPSULATED else [b"aaaa", b"bbbb", b"cccc"]
    with mmindex.open_file(BUFFERS[buffer](data)) as instance:
        assert list(instance) == expected
        assert instance.frames([2, 0]) == [expected[2], expected[0]]
        assert instance.view(1) == expected[1]
        assert instance.path is None


def test_R7_the_bytes_of_a_deflated_file_are_opened() -> None:
    """They are inflated as those of a file are."""
    data_set = image_attributes() + element(PIXEL_DATA, "OW", bytes(range(4)))
    with mmindex.open_file(deflated_file(data_set)) as instance:
        assert instance.frame(0) == bytes(range(4))


@pytest.mark.parametrize("data", [b"", b"x", b"a.dcm", ENCAPSULATED[:200]])
def test_R6_bytes_that_are_no_dicom_file_are_refused(data: bytes) -> None:
    """Bytes are never taken for a path."""
    with pytest.raises(FormatError):
        mmindex.open_file(data)


@pytest.mark.parametrize(
    "source",
    [pydicom.Dataset(), pydicom.FileDataset("a", {}), io.StringIO("text"), 3, None, [ENCAPSULATED]],
    ids=["Dataset", "FileDataset", "StringIO", "int", "None", "list"],
)
def test_what_is_no_source_is_a_type_error_that_says_what_is_taken(source: Any) -> None:
    """The error names the kinds that are taken and the one that was found."""
    kind = type(source).__qualname__
    with pytest.raises(TypeError, match=rf"expected a path, .*bytes of a file.*found .*\b{kind}$"):
        mmindex.open_file(source)


def test_a_file_opened_as_text_is_a_type_error(path: Path) -> None:
    """It is refused before it is read, and stays open."""
    with path.open("r", encoding="latin-1") as file:
        with pytest.raises(TypeError, match="opened in binary mode"):
            mmindex.open_file(file)  # type: ignore[arg-type]
        assert file.tell() == 0


def test_a_reader_that_returns_text_is_a_type_error() -> None:
    """A file object of another library is known by what it returns."""

    class Reader(io.BytesIO):
        def read(self, size: int | None = -1) -> str:  # type: ignore[override]
            return "text"

    with pytest.raises(TypeError, match="opened in binary mode"):
        mmindex.open_file(Reader())


def test_a_path_object_of_bytes_is_a_path(path: Path) -> None:
    """os.PathLike may return bytes, as names of files are."""

    class BytesPath:
        def __fspath__(self) -> bytes:
            return os.fsencode(path)

    with mmindex.open_file(BytesPath()) as instance:  # type: ignore[arg-type]
        assert list(instance) == FRAMES


def test_a_path_with_a_nul_character_is_that_of_no_file() -> None:
    """The error is ours, not that of the system call."""
    with pytest.raises(MissingFileError, match="no NUL character"):
        mmindex.open_file("a\0b")


def test_a_file_object_in_memory_is_no_open_file(tmp_path: Path) -> None:
    """Bytes in memory have no descriptor: their size bounds what is read, too."""
    instance = mmindex.open_file(io.BytesIO(four_bytes(b"ABCD")))
    table = instance.record.frames
    assert table is not None
    record = instance.record._replace(frames=table._replace(value_offset=1 << 40))
    with little_memory(), pytest.raises(TruncatedFrameError):
        Instance(record, instance.source).frame(0)
