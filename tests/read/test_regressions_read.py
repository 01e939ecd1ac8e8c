"""Reads that once gave other pixels, took all memory, hung or killed the process: none does."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import signal
import struct
import sys
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    UNDEFINED,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    item,
    native_file,
    pack_tag,
)

import mmindex
from mmindex import MMIndexError
from mmindex.errors import (
    DecodeError,
    FormatError,
    IndexFormatError,
    MissingFileError,
    StaleIndexError,
    TruncatedFrameError,
)
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status
from mmindex.read.instance import Instance, recorded_error
from mmindex.sources.file import (
    Descriptor,
    FileSource,
    open_descriptor,
)

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

LITTLE = 4 << 20  # bytes of memory that a refusal may take
LONGEST = 60  # seconds after which a child that hangs is killed


def written(folder: Path, data: bytes, name: str = "a.dcm") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def identified(data_set: bytes, uid: str = "1.2.3") -> bytes:
    return dicom_file(element(0x00080018, "UI", uid) + data_set)


def four_bytes(value: bytes, uid: str = "1.2.3") -> bytes:
    """Return a file of one native frame of 2 by 2 pixels."""
    return identified(image_attributes() + element(PIXEL_DATA, "OB", value), uid)


def exit_code(work: Callable[[], object]) -> int:
    """Return the exit code of a child that does `work`; that of a signal is negative.

    A child that hangs is killed, and what it forked with it.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return code


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail where what is done in the `with` takes more memory than `LITTLE`."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LITTLE


# Copies of what has an open file.


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("mapped", [False, True])
def test_an_instance_is_neither_deep_copied_nor_pickled(
    tmp_path: Path, copied: Callable[[Instance], object], mapped: bool
) -> None:
    """A copy would close the number of a descriptor that is somebody else's by then."""
    instance = mmindex.open_file(written(tmp_path, four_bytes(b"AAAA")))
    if mapped:
        instance.view(0)
    with pytest.raises(TypeError):
        copied(instance)
    gc.collect()
    other = mmindex.open_file(written(tmp_path, four_bytes(b"BBBB"), "b.dcm"))
    assert (instance.frame(0), other.frame(0)) == (b"AAAA", b"BBBB")


def test_no_protocol_of_pickle_takes_a_descriptor(tmp_path: Path) -> None:
    """What an unpickled number would name is not known; the refusal says what to send instead."""
    descriptor = open_descriptor(str(written(tmp_path, b"AAAA")))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="send the Archive or the path"):
            pickle.dumps(descriptor, protocol)
    for copied in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="send the Archive or the path"):
            copied(descriptor)
    gc.collect()
    assert os.pread(descriptor.number, 4, 0) == b"AAAA"


# The byte order of pixels.


def big_endian(value: bytes, *, bits: int = 16, vr: str = "OW", **attributes: Any) -> bytes:
    data_set = element(0x00080018, "UI", "1.2.3", order=">")
    data_set += image_attributes(order=">", bits=bits, **attributes)
    return data_set + element(PIXEL_DATA, vr, value, order=">")


def implicit(value: bytes, *, bits: int = 16) -> bytes:
    data_set = element(0x00080018, "UI", "1.2.3", implicit=True)
    data_set += image_attributes(implicit=True, bits=bits)
    return data_set + element(PIXEL_DATA, "OW", value, implicit=True)


WORDS = {
    "Big Endian": dicom_file(big_endian(struct.pack(">4H", 1, 2, 3, 4)), EXPLICIT_VR_BIG_ENDIAN),
    "Big Endian, not said": dicom_file(big_endian(struct.pack(">4H", 1, 2, 3, 4)), None),
    "Big Endian, no meta": big_endian(struct.pack(">4H", 1, 2, 3, 4)),
    "implicit, called Big Endian": dicom_file(
        implicit(struct.pack("<4H", 1, 2, 3, 4)), EXPLICIT_VR_BIG_ENDIAN
    ),
    "implicit, not said": dicom_file(implicit(struct.pack("<4H", 1, 2, 3, 4)), None),
    "implicit, no meta": implicit(struct.pack("<4H", 1, 2, 3, 4)),
    "swapped pairs": dicom_file(big_endian(b"\2\1\4\3", bits=8), EXPLICIT_VR_BIG_ENDIAN),
    "swapped pairs, not said": dicom_file(big_endian(b"\2\1\4\3", bits=8), None),
    "swapped pairs, no meta": big_endian(b"\2\1\4\3", bits=8),
    "OB in Big Endian, not said": dicom_file(big_endian(b"\1\2\3\4", bits=8, vr="OB"), None),
    "bytes, called Big Endian": dicom_file(implicit(b"\1\2\3\4", bits=8), EXPLICIT_VR_BIG_ENDIAN),
}


@pytest.mark.parametrize("indexed", [False, True], ids=["file", "archive"])
@pytest.mark.parametrize("data", WORDS.values(), ids=WORDS)
def test_R33_pixels_have_the_byte_order_that_was_found(
    tmp_path: Path, data: bytes, indexed: bool
) -> None:
    """What the transfer syntax is called does not change a pixel, with an index or without."""
    path = written(tmp_path, data)
    if indexed:
        mmindex.build(tmp_path, workers=1, force=True)
        with mmindex.open(tmp_path) as archive:
            pixels = [archive.array("1.2.3", 0), archive.arrays([("1.2.3", 0)])[0]]
    else:
        with mmindex.open_file(path, force=True) as instance:
            pixels = [instance.array(0), instance.array(0, copy=True), instance.arrays()[0]]
    for array in pixels:
        assert array.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("with_meta", [True, False])
def test_R31_bits_of_Big_Endian_words_follow_the_byte_order_that_was_found(
    tmp_path: Path, with_meta: bool
) -> None:
    """Frames of 1 bit in swapped words are right where no transfer syntax says Big Endian."""
    bits = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0] * 3, np.uint8)
    packed = np.packbits(np.append(bits, np.zeros(5, np.uint8)), bitorder="little")
    swapped = packed.reshape(-1, 2)[:, ::-1].tobytes()
    data = big_endian(swapped, bits=1, rows=3, columns=3, number_of_frames=3)
    path = written(tmp_path, dicom_file(data, None) if with_meta else data)
    with mmindex.open_file(path, force=not with_meta) as instance:
        for index in range(3):
            assert instance.array(index).ravel().tolist() == bits[:9].tolist()
            assert instance.frame(index) == np.packbits(bits[:9], bitorder="little").tobytes()


@pytest.mark.parametrize("syntax", [PRIVATE_SYNTAX, "1.2.840.113619.5.2"])
def test_R2_native_frames_of_a_private_transfer_syntax_are_bytes_only(
    tmp_path: Path, syntax: str
) -> None:
    """How its samples lie is not known: frames are served as stored, and no pixels."""
    stored = struct.pack(">4H", 1, 2, 3, 4)
    with mmindex.open_file(written(tmp_path, dicom_file(implicit(stored), syntax))) as instance:
        assert instance.frame(0) == stored
        for read in (instance.array, lambda index: instance.arrays([index])):
            with pytest.raises(DecodeError, match="private transfer syntax"):
                read(0)


# Files that are cut while they are mapped.


def large(stored_bits: int) -> bytes:
    """Return a file of two frames that lie on many pages, of 16 bits allocated."""
    attributes = image_attributes(rows=256, columns=256, bits=16, number_of_frames=2)
    stored = element(0x00280101, "US", stored_bits)
    attributes = attributes.replace(element(0x00280101, "US", 16), stored)
    return identified(attributes + element(PIXEL_DATA, "OW", bytes(2 * 256 * 256 * 2)))


CUT: dict[str, tuple[int, Callable[[Instance], object]]] = {
    "array(copy=True)": (16, lambda instance: instance.array(1, copy=True)),
    "arrays()": (16, lambda instance: instance.arrays()),
    "array() of 12 in 16 bits": (12, lambda instance: instance.array(1)),
    "array(raw=True) of 12 in 16 bits": (12, lambda instance: instance.array(1, raw=True)),
    "frame()": (16, lambda instance: instance.frame(1)),
    "frames()": (16, lambda instance: instance.frames()),
}


@forks
@pytest.mark.parametrize(("stored_bits", "read"), CUT.values(), ids=CUT)
def test_an_array_of_its_own_of_a_cut_file_raises(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stored_bits: int,
    read: Callable[[Instance], object],
) -> None:
    """A copy is not made of mapped memory, whose lost part would kill the process."""
    path = written(tmp_path, large(stored_bits))
    monkeypatch.setattr("mmindex.read.open_file.REVALIDATE_AFTER", 3600.0)

    def cut_and_read() -> None:
        with mmindex.open_file(path) as instance:
            instance.array(0)
            instance.view(0)
            os.truncate(path, 1000)
            with pytest.raises(MMIndexError):
                read(instance)

    assert exit_code(cut_and_read) == 0


@forks
def test_items_of_a_dataset_over_a_cut_file_raise(tmp_path: Path) -> None:
    """A training loop gets an error for an item whose file was cut, and lives on."""
    path = written(tmp_path, large(16))
    mmindex.build(tmp_path, workers=1)

    def cut_and_read() -> None:
        with mmindex.open(tmp_path, revalidate_after=3600) as archive:
            dataset = mmindex.FrameDataset(archive)
            dataset[0]
            archive.array("1.2.3", 0)  # maps the file
            os.truncate(path, 1000)
            for index in (0, 1):
                with pytest.raises(MMIndexError):
                    dataset[index]
            with pytest.raises(MMIndexError):
                archive.arrays([("1.2.3", 0), ("1.2.3", 1)])

    assert exit_code(cut_and_read) == 0


# Numbers in a file that are too large.


@pytest.mark.parametrize("frames", [1, 2])
def test_R14_a_fragment_that_claims_4_GiB_raises_with_little_memory(
    tmp_path: Path, frames: int
) -> None:
    """The length of an item is no reason to take so much memory before the file is read."""
    value = item() + item(b"\xff\xd8a\xff\xd9\0") * (frames - 1)
    value += pack_tag(0xFFFEE000) + struct.pack("<I", 0xFFFFFFF0) + b"\xff\xd8abc"
    data_set = image_attributes(number_of_frames=frames)
    data_set += element(PIXEL_DATA, "OB", value, length=UNDEFINED)
    path = written(tmp_path, dicom_file(data_set, JPEG_BASELINE))
    with mmindex.open_file(path) as instance, little_memory():
        for read in (instance.frame, instance.view, lambda last: instance.frames([last])):
            with pytest.raises(TruncatedFrameError):
                read(frames - 1)


def test_a_read_past_the_end_of_the_file_raises_with_little_memory(tmp_path: Path) -> None:
    """A source looks at the size that the file had before it asks for so many bytes."""
    path = str(written(tmp_path, bytes(100)))
    source = FileSource(open_descriptor(path), path, Fingerprint.of(os.stat(path)), 1.0)
    for offset, length in ((0, 1 << 32), (50, 51), (1 << 61, 8), (1 << 64, 8), (99, 1 << 64)):
        with little_memory(), pytest.raises(TruncatedFrameError, match="past the end"):
            source.read(offset, length)
    assert source.read(50, 50) == bytes(50)


@pytest.mark.parametrize("number_of_frames", [30_000_000, 0x7FFFFFFF, 999_999_999_999])
def test_R35_all_of_a_number_of_frames_that_is_not_there_raise_with_little_memory(
    tmp_path: Path, number_of_frames: int
) -> None:
    """Two thousand million frames in a file of a few bytes are not first listed."""
    path = written(tmp_path, native_file(bytes(8), number_of_frames=number_of_frames))
    with mmindex.open_file(path) as instance:
        with pytest.raises(TruncatedFrameError):  # imports what it needs
            instance.array(2)
        for read in (instance.frames, instance.arrays, instance.frames):
            with little_memory(), pytest.raises(TruncatedFrameError):
                read()
        assert instance.frames([0, 1]) == [bytes(4)] * 2


# Errors of decoders, errors in records.


class PanicException(BaseException):
    """What pyo3 raises for a panic in Rust."""


JPEG_HEADER = b"\xff\xd8\xff\xc0\0\x0b\x08\0\2\0\2\1\1\x11\0\xff\xd9"  # of 2 x 2 pixels


def decode_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every decoder raise `error`."""

    class Decoder:
        is_available = True

        def as_array(self, *arguments: object, **options: object) -> None:
            raise error

    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr("pydicom.pixels.decoders.base.get_decoder", lambda uid: Decoder())


@pytest.mark.parametrize("error", [PanicException("index out of bounds"), MemoryError("too much")])
def test_a_decoder_that_panics_or_has_no_memory_is_a_decode_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """What a codec does with hostile bytes is an error of this one frame."""
    data = dicom_file(image_attributes() + encapsulate([JPEG_HEADER]), JPEG_BASELINE)
    path = written(tmp_path, data)
    decode_with(monkeypatch, error)
    with mmindex.open_file(path) as instance:
        with pytest.raises(DecodeError, match=str(error)) as caught:
            instance.array(0)
        assert caught.value.path == str(path)
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interruption_of_a_decoder_passes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Ctrl-C while a frame is decoded is not an error of the frame."""
    data = dicom_file(image_attributes() + encapsulate([JPEG_HEADER]), JPEG_BASELINE)
    decode_with(monkeypatch, error)
    with (
        mmindex.open_file(written(tmp_path, data)) as instance,
        pytest.raises(type(error)) as caught,
    ):
        instance.array(0)
    assert caught.value is error


@pytest.mark.parametrize(
    "name", ["os", "annotations", "__all__", "__name__", "OSError", "_rebuild", "", "at"]
)
def test_a_recorded_error_that_is_no_error_is_a_format_error(name: str) -> None:
    """A damaged record names no attribute of a module that is then called."""
    record = InstanceRecord(Status.UNREADABLE, error=name, reason="what is wrong")
    error = recorded_error(record, "a.dcm")
    assert type(error) is FormatError
    assert str(error) == "a.dcm: what is wrong"


# The number of open files.


@forks
@pytest.mark.parametrize("read", ["frame", "array", "view"])
def test_an_archive_of_more_files_than_may_be_open_is_read(tmp_path: Path, read: str) -> None:
    """A file that is mapped has two descriptors, which the default of kept files allows for."""
    import resource

    for number in range(200):
        written(tmp_path, four_bytes(struct.pack("<I", number), f"1.2.{number}"), f"{number}.dcm")
    mmindex.build(tmp_path, workers=1)

    def read_all() -> None:
        import pydicom.pixels  # noqa: F401  # needs files of its own

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with mmindex.open(tmp_path) as archive:
            for number in [*range(200), *range(199, -1, -1)]:
                if read == "frame":
                    found = archive.frame(f"1.2.{number}", 0)
                elif read == "array":
                    found = archive.array(f"1.2.{number}", 0).tobytes()
                else:
                    found = bytes(archive[f"1.2.{number}"].view(0))
                assert found == struct.pack("<I", number)

    assert exit_code(read_all) == 0


# Files that change.


def deflated(value: bytes) -> bytes:
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes()
    data_set += element(PIXEL_DATA, "OB", value)
    deflater = zlib.compressobj(wbits=-15)
    return dicom_file(
        deflater.compress(data_set) + deflater.flush(), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )


def remove(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_bytes(deflated(b"something else")[:-2])


CHANGES = [(remove, MissingFileError), (change, StaleIndexError)]


@pytest.mark.parametrize(("happens", "error"), CHANGES)
def test_R7_a_deflated_file_is_looked_at_after_it_was_inflated(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    happens: Callable[[Path], None],
    error: type[MMIndexError],
) -> None:
    """The inflated bytes are served no longer than those of a file would be."""
    path = written(tmp_path, deflated(b"ABCD"))
    with mmindex.open_file(path) as instance:
        assert instance.frame(0) == b"ABCD"
        happens(path)
        monkeypatch.setattr("mmindex.sources.file.monotonic", lambda: time.monotonic() + 3600)
        for read in (instance.frame, instance.view, instance.array):
            with pytest.raises(error):
                read(0)
        with pytest.raises(error):
            instance.frames()


@pytest.mark.parametrize(("happens", "error"), CHANGES)
def test_R7_an_archive_serves_no_deflated_file_that_changed(
    tmp_path: Path, happens: Callable[[Path], None], error: type[MMIndexError]
) -> None:
    """An instance that an archive keeps open, inflated, is looked at like any other."""
    path = written(tmp_path, deflated(b"ABCD"))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        assert archive.frame("1.2.3", 0) == b"ABCD"
        happens(path)
        for read in (archive.frame, archive.array):
            with pytest.raises(error):
                read("1.2.3", 0)


OPENINGS: dict[str, Callable[[mmindex.Archive], object]] = {
    "by path": lambda archive: archive.file("a.dcm").frame(0),
    "by UID": lambda archive: archive["1.2.3"].frame(0),
    "frame": lambda archive: archive.frame("1.2.3", 0),
    "frames": lambda archive: archive.frames([("1.2.3", 0)]),
    "array": lambda archive: archive.array("1.2.3", 0),
}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("read", OPENINGS.values(), ids=OPENINGS)
def test_a_file_that_is_another_one_when_it_is_opened_is_stale(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[mmindex.Archive], object],
    moved: bool,
) -> None:
    """What is compared is the file that was opened, not only the one that its path names."""
    folder = tmp_path / "archive"
    folder.mkdir()
    path = written(folder, four_bytes(b"AAAA"))
    other = written(tmp_path, four_bytes(b"BBBB"), "b.dcm")
    mmindex.build(folder, tmp_path / "index", workers=1)
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))

    def open_other(asked: str | bytes) -> Descriptor:
        assert os.fsdecode(asked) == str(path)
        return open_descriptor(str(other))

    monkeypatch.setattr("mmindex.read.archive.open_descriptor", open_other)
    root = folder if moved else None
    with (
        mmindex.open(tmp_path / "index", archive_root=root) as archive,
        pytest.raises(StaleIndexError, match="another one"),
    ):
        read(archive)


# Threads, forks, indexes that are none.


def make_archive(folder: Path, files: int = 12, frames: int = 20) -> None:
    for number in range(files):
        values = [b"\xff\xd8%06d\xff\xd9" % (number * 1000 + index) for index in range(frames)]
        data_set = element(0x00080018, "UI", f"1.2.{number}")
        data_set += image_attributes(number_of_frames=frames) + encapsulate(values)
        written(folder, dicom_file(data_set, JPEG_BASELINE), f"{number}.dcm")
    mmindex.build(folder, workers=1)


def read_frames(archive: mmindex.Archive, index: int) -> None:
    for number in range(12):
        expected = b"\xff\xd8%06d\xff\xd9" % (number * 1000 + index)
        assert archive.frame(f"1.2.{number}", index) == expected


def read_records(archive: mmindex.Archive, index: int) -> None:
    assert {record.number_of_frames for record in archive.records()} == {20}
    assert len(list(archive)) == len(archive) == 12


@forks
@pytest.mark.parametrize("read", [read_frames, read_records])
def test_an_archive_that_is_closed_under_readers_says_so(
    tmp_path: Path, read: Callable[[mmindex.Archive, int], None]
) -> None:
    """A thread that reads while another closes gets an error; LMDB's memory is not touched."""
    make_archive(tmp_path)

    def close_under_readers() -> None:
        sys.setswitchinterval(1e-6)
        for turn in range(150):
            archive = mmindex.open(tmp_path, revalidate_after=0)
            others: list[BaseException] = []
            reading = threading.Barrier(5)

            def run(
                archive: mmindex.Archive = archive,
                others: list[BaseException] = others,
                reading: threading.Barrier = reading,
            ) -> None:
                reading.wait()
                try:
                    for index in range(10_000):
                        read(archive, index % 20)
                except MMIndexError:
                    pass
                except BaseException as error:
                    if not (type(error) is ValueError and str(error) == "the index is closed"):
                        others.append(error)

            threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            reading.wait()
            for index in range(turn % 4):
                read(archive, index)
            archive.close()
            for thread in threads:
                thread.join()
            assert others == []

    assert exit_code(close_under_readers) == 0


@forks
def test_a_fork_while_threads_read_gives_a_child_that_reads(tmp_path: Path) -> None:
    """No lock that a thread of the parent held is waited for in the child, nor in LMDB."""
    make_archive(tmp_path)

    def fork_under_readers() -> None:
        archive = mmindex.open(tmp_path, revalidate_after=0)
        stopped = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                while not stopped.is_set():
                    read_frames(archive, 5)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for index in range(30):
            child = os.fork()
            if not child:
                code = 3
                try:
                    signal.alarm(LONGEST // 3)
                    read_frames(archive, index % 20)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            read_frames(archive, index % 20)
        stopped.set()
        for thread in threads:
            thread.join()
        assert failures == []

    assert exit_code(fork_under_readers) == 0


INDEX_OPENINGS: dict[str, Callable[[Path], object]] = {
    "open": mmindex.open,
    "build": lambda path: mmindex.build(path.parent, path, workers=1),
}


@forks
@pytest.mark.parametrize("open_index", INDEX_OPENINGS.values(), ids=INDEX_OPENINGS)
def test_a_fifo_in_the_place_of_an_index_is_refused(
    tmp_path: Path, open_index: Callable[[Path], object]
) -> None:
    """Nobody waits for somebody to write to it."""
    path = tmp_path / "index"
    os.mkfifo(path)

    def refuse() -> None:
        signal.alarm(10)
        with pytest.raises(IndexFormatError, match="not an mmindex index"):
            open_index(path)

    assert exit_code(refuse) == 0


# Damaged records.

SIZE = 1000  # bytes of the file that damaged records are of
DAMAGED = {
    "an item that ends before it begins": (Layout.FRAGMENT_A_FRAME, 1, (24, 0)),
    "an item shorter than its header": (Layout.FRAGMENT_A_FRAME, 1, (0, 7)),
    "a frame that ends before it begins": (Layout.FRAGMENTS, 1, (1, 0, 0, 24)),
    "a frame of no fragment": (Layout.FRAGMENTS, 1, (0, 0, 0, 24)),
    "a frame of fragments that are not there": (Layout.FRAGMENTS, 1, (0, 1 << 31, 0, 24)),
    "fragments that overlap": (Layout.FRAGMENTS, 2, (0, 2, 0, 24, 12)),
    "a span that ends before it begins": (Layout.TRUSTED, 0, (24, 0)),
}


def damaged(
    folder: Path, layout: Layout, fragments: int, entries: tuple[int, ...], size: int
) -> Instance:
    """Return an instance of one frame whose record has these entries, of `size` bytes each."""
    path = str(written(folder, bytes(SIZE)))
    packed = struct.pack(f"<{len(entries)}{'I' if size == 4 else 'Q'}", *entries)
    table = FrameTable(layout, 1, 1, fragments, 100, entry_size=size, entries=packed)
    fingerprint = Fingerprint.of(os.stat(path))
    record = InstanceRecord(
        Status.INDEXED, frames=table, number_of_frames=1, fingerprint=fingerprint
    )
    return Instance(record, FileSource(open_descriptor(path), path, fingerprint, 1.0))


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(("layout", "fragments", "entries"), DAMAGED.values(), ids=DAMAGED)
def test_entries_that_are_no_ranges_are_a_damaged_index(
    tmp_path: Path, layout: Layout, fragments: int, entries: tuple[int, ...], size: int
) -> None:
    """A record with a flipped bit gives an error that names the remedy, and no bytes."""
    instance = damaged(tmp_path, layout, fragments, entries, size)
    reads = (instance.frame, instance.view, instance.fragments, instance.byte_ranges)
    for read in (*reads, instance.array, lambda index: instance.frames([index])):
        with pytest.raises(IndexFormatError, match="build the index anew"):
            read(0)


@pytest.mark.parametrize(
    "entries", [(0, 1 << 62), (0, (1 << 64) - 1), ((1 << 63) + 5, (1 << 63) + 100), (2000, 2100)]
)
@pytest.mark.parametrize("layout", [Layout.FRAGMENT_A_FRAME, Layout.FRAGMENTS, Layout.TRUSTED])
def test_entries_far_beyond_the_file_raise_with_little_memory(
    tmp_path: Path, layout: Layout, entries: tuple[int, int]
) -> None:
    """An offset that 63 bits cannot hold is an error of this package like any other."""
    fragments = 0 if layout is Layout.TRUSTED else 1
    whole = (0, 1, *entries) if layout is Layout.FRAGMENTS else entries
    instance = damaged(tmp_path, layout, fragments, whole, 8)
    reads = (instance.frame, instance.view, instance.fragments, instance.byte_ranges)
    for read in (*reads, instance.array, lambda index: instance.frames([index])):
        with pytest.raises(MMIndexError):  # imports what it needs
            read(0)
        with little_memory(), pytest.raises(MMIndexError):
            read(0)


def test_entries_of_an_index_that_are_no_ranges_are_a_damaged_index(tmp_path: Path) -> None:
    """What an index file says is checked when a frame is read, not only when it is written."""
    values = [b"\xff\xd8%04d\xff\xd9" % index for index in range(8)]
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes(number_of_frames=8)
    written(tmp_path, dicom_file(data_set + encapsulate(values), RLE_LOSSLESS))
    report = mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        (record,) = archive.records()
    assert record.frames is not None
    assert record.frames.entries[:] == struct.pack("<9I", *range(0, 9 * 16, 16))
    changed = struct.pack("<9I", 0, 16, 32, 8, *range(64, 9 * 16, 16))
    store = Store(report.index, root=os.fsencode(tmp_path))
    store.replace([pack_record(replace(record, frames=replace(record.frames, entries=changed)))])
    store.close()
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.2.3", 0) == values[0]
        for read in (archive.frame, archive.array, lambda *pair: archive.frames([pair])):
            with pytest.raises(IndexFormatError, match="frame index 2 are no ranges"):
                read("1.2.3", 2)


def test_a_file_object_in_memory_is_no_open_file(tmp_path: Path) -> None:
    """Bytes in memory have no descriptor: their size bounds what is read, too."""
    instance = mmindex.open_file(io.BytesIO(four_bytes(b"ABCD")))
    table = instance.record.frames
    assert table is not None
    record = replace(instance.record, frames=replace(table, value_offset=1 << 40))
    with little_memory(), pytest.raises(TruncatedFrameError):
        Instance(record, instance.source).frame(0)
