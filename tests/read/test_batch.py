"""Many frames at once: the frames of single reads, in the order asked, in few calls."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import (
    HEVC,
    PIXEL_DATA,
    RLE_LOSSLESS,
    deflated_file,
    element,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    native_file,
)
from pydicom import dcmread
from pydicom.encaps import generate_fragments, parse_basic_offsets
from sample_archive import testdata

import mmindex
from mmindex.errors import (
    DecodeError,
    FrameIndexError,
    InstanceNotFoundError,
    MissingFileError,
    MMIndexError,
    NotAddressableError,
    StaleIndexError,
    TruncatedFrameError,
)
from mmindex.frame_table import Layout

pytestmark = pytest.mark.skipif(not hasattr(os, "pread"), reason="reads are counted by os.pread")

Reads = list[tuple[int, int]]  # offset, length


def jpeg_frame(number: int, length: int = 100) -> bytes:
    """Return what looks like a JPEG code stream that is found nowhere else."""
    return b"\xff\xd8" + struct.pack("<I", number) + bytes([number % 251]) * (length - 6)


def native(length: int, number_of_frames: int = 12, **attributes: int) -> bytes:
    """Return a file of native frames of one row of `length` bytes, each of one value."""
    value = b"".join(bytes([index + 1]) * length for index in range(number_of_frames))
    attributes = {"rows": 1, "columns": length, **attributes}
    return native_file(
        value + b"\0" * (len(value) % 2), number_of_frames=number_of_frames, **attributes
    )


def in_three_fragments() -> bytes:
    """Return a file of twelve frames of three fragments each, with a Basic Offset Table."""
    frames = [jpeg_frame(number) for number in range(12)]
    fragments = [frame[at : at + 34] for frame in frames for at in (0, 34, 68)]
    length = sum(len(fragment) + 8 for fragment in fragments[:3])
    return encapsulated_file(fragments, 12, bot=[index * length for index in range(12)])


def with_extended_table(lengths: list[int], *, pieces: int = 1) -> bytes:
    """Return a file of frames of these lengths in `pieces` fragments, odd ones padded."""
    fragments: list[bytes] = []
    offsets = []
    for number, length in enumerate(lengths):
        offsets.append(sum(len(fragment) + 8 for fragment in fragments))
        frame = jpeg_frame(number, length) + b"\0" * (length % 2)
        step = len(frame) // pieces // 2 * 2
        cuts = [at * step for at in range(pieces)]
        fragments += [frame[at:end] for at, end in zip(cuts, [*cuts[1:], None], strict=True)]
    table = extended_offset_table(offsets, lengths)
    return encapsulated_file(fragments, len(lengths), before=table)


def deflated() -> bytes:
    """Return a file of twelve native frames whose data set is deflated."""
    data_set = image_attributes(rows=1, columns=20, number_of_frames=12)
    value = b"".join(bytes([index + 1]) * 20 for index in range(12))
    return deflated_file(data_set + element(PIXEL_DATA, "OW", value))


FILES = {
    "native": native(20),
    "native-bits": native_file(
        bytes(range(1, 61, 2)), rows=1, columns=20, bits=1, number_of_frames=12
    ),
    "deflated": deflated(),
    "fragment-a-frame": encapsulated_file([jpeg_frame(number) for number in range(12)], 12),
    "table": in_three_fragments(),
    "extended-table": with_extended_table([100, 101, 102] * 4),
    "extended-table-pieces": with_extended_table([101, 103, 104] * 4, pieces=3),
}
TRUSTED = ("table", "extended-table")


def write_archive(folder: Path, **files: bytes) -> Path:
    """Write files and return their folder."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def with_uid(data: bytes, uid: str) -> bytes:
    """Return a file of Explicit VR with a SOP Instance UID."""
    at = data.index(struct.pack("<HH", 0x0028, 0x0002))
    return data[:at] + element(0x00080018, "UI", uid) + data[at:]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Note what is read by pread."""
    reads: Reads = []
    pread = os.pread

    def noted(number: int, length: int, offset: int) -> bytes:
        reads.append((offset, length))
        return pread(number, length, offset)

    monkeypatch.setattr(os, "pread", noted)
    return reads


@pytest.fixture(params=[*FILES, *(f"trusted-{name}" for name in TRUSTED)])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[mmindex.Instance]:
    """Open an instance of twelve frames, of each way in which frames can lie in a file."""
    name = request.param.removeprefix("trusted-")
    trusted = name != request.param
    root = write_archive(tmp_path / "root", a=FILES[name])
    mmindex.build(root, workers=1, prove=not trusted)
    with mmindex.open(root) as archive, archive.file("a") as instance:
        assert instance.record.frames is not None
        assert (instance.record.frames.layout is Layout.TRUSTED) == trusted
        yield instance


def orders(number_of_frames: int) -> list[list[int]]:
    """Return ways to ask for frames: in order, backwards, again and again, at random."""
    every = list(range(number_of_frames))
    chance = random.Random(5)
    at_random = [chance.choices(every, k=size) for size in (1, 2, 7, 40)]
    return [[], every, every[::-1], [3, 3, 3], [5, 2, 5, 2], every[::2] + every[1::2], *at_random]


def test_frames_are_those_of_single_reads_in_the_order_asked(instance: mmindex.Instance) -> None:
    """Whatever the order and the repetitions, and however the frames lie in the file."""
    single = [instance.frame(index) for index in range(12)]
    assert len(set(single)) == 12
    for asked in orders(12):
        assert instance.frames(asked) == [single[index] for index in asked]
    assert instance.frames() == single
    assert instance.frames(index for index in (4, 1)) == [single[4], single[1]]


@pytest.mark.parametrize("dtype", ["<u1", "<i4", "<i8", "<u8"])
def test_frame_indices_may_be_numpy_integers(instance: mmindex.Instance, dtype: str) -> None:
    """Those of a sampler or a permutation give what Python's give."""
    single = [instance.frame(index) for index in range(12)]
    assert [instance.frame(index) for index in np.arange(12).astype(dtype)] == single
    assert instance.frames(np.arange(12).astype(dtype)) == single


def test_an_archive_returns_frames_in_the_order_of_the_pairs(tmp_path: Path) -> None:
    """The instances may be mixed in any way."""
    uids = {f"1.2.{at}": name for at, name in enumerate(FILES) if name != "deflated"}
    files = {name: with_uid(FILES[name], uid) for uid, name in uids.items()}
    mmindex.build(write_archive(tmp_path, **files), workers=1)
    chance = random.Random(5)
    with mmindex.open(tmp_path, max_open_files=2) as archive:
        truth = {uid: list(archive[uid]) for uid in uids}
        for size in (0, 1, 2, 30, 300):
            pairs = [(chance.choice(list(uids)), chance.randrange(12)) for _ in range(size)]
            assert archive.frames(pairs) == [truth[uid][index] for uid, index in pairs]
            assert archive.frames(iter(pairs)) == archive.frames(pairs)


def test_neighbours_are_read_at_once(tmp_path: Path, reads: Reads) -> None:
    """One call reads frames that lie side by side, or nearly so, in any order."""
    for name in ("native", "fragment-a-frame", "extended-table"):
        instance = mmindex.open_file(write_archive(tmp_path, a=FILES[name]) / "a")
        for asked in ([3, 1, 2], [11, 0, 6, 0], range(12)):
            reads.clear()
            instance.frames(asked)
            assert len(reads) == 1


@pytest.mark.parametrize("trusted", [False, True])
def test_frames_in_several_fragments_are_read_in_the_order_of_the_file(
    tmp_path: Path, reads: Reads, trusted: bool
) -> None:
    """Neighbours among them come in one call, too, each byte once."""
    mmindex.build(write_archive(tmp_path, a=FILES["table"]), workers=1, prove=not trusted)
    with mmindex.open(tmp_path) as archive, archive.file("a") as instance:
        reads.clear()
        instance.frames([7, 3, 11, 3, 5])
        assert reads == sorted(reads)
        reads.clear()
        instance.frames([4, 2, 3])
        assert len(reads) == 1


def test_a_big_gap_is_not_read(tmp_path: Path, reads: Reads) -> None:
    """Of frames far apart only their own bytes are read, in ascending order."""
    instance = mmindex.open_file(write_archive(tmp_path, a=native(50_000)) / "a")
    found = instance.frames([10, 0, 4])
    assert [frame[0] for frame in found] == [11, 1, 5]
    assert [length for _, length in reads] == [50_000] * 3
    assert reads == sorted(reads)


def test_a_batch_is_read_in_pieces_of_bounded_length(tmp_path: Path, reads: Reads) -> None:
    """Three megabytes of neighbours are a few reads, each of a megabyte at most."""
    data = native(30_000, 100, bits=8)
    instance = mmindex.open_file(write_archive(tmp_path, a=data) / "a")
    assert instance.frames(reversed(range(100))) == list(instance)[::-1]
    batch = reads[: len(reads) - 100]
    assert 3 <= len(batch) <= 4
    assert max(length for _, length in batch) <= 1 << 20
    assert sum(length for _, length in batch) == 3_000_000


def test_a_frame_longer_than_a_batch_is_read_whole(tmp_path: Path, reads: Reads) -> None:
    """Its length is what is read, once however often it is asked for."""
    data = encapsulated_file([jpeg_frame(0, 3 << 20), jpeg_frame(1), jpeg_frame(2, 2 << 20)], 3)
    instance = mmindex.open_file(write_archive(tmp_path, a=data) / "a")
    found = instance.frames([2, 0, 1, 0])
    assert [len(frame) for frame in found] == [2 << 20, 3 << 20, 100, 3 << 20]
    assert found == [instance.frame(index) for index in (2, 0, 1, 0)]
    assert sum(length for _, length in reads[:-4]) < (5 << 20) + 1000


def test_an_archive_reads_file_by_file_in_ascending_order(tmp_path: Path, reads: Reads) -> None:
    """A batch that jumps between files reads each of them once."""
    files = {f"1.2.{at}": with_uid(native(20), f"1.2.{at}") for at in range(5)}
    mmindex.build(write_archive(tmp_path, **files), workers=1)
    pairs = [(f"1.2.{at * 3 % 5}", at * 7 % 12) for at in range(60)]
    with mmindex.open(tmp_path) as archive:
        archive.frames(pairs)
        assert len(reads) == 5


@pytest.mark.parametrize("wrong", [-1, 12, 1 << 70])
def test_an_error_names_the_frame_that_is_not_there(instance: mmindex.Instance, wrong: int) -> None:
    """One wrong index among right ones is told by number and file; nothing wraps round."""
    for call in (instance.frames, instance.arrays):
        with pytest.raises(FrameIndexError, match=f"root/a: frame index {wrong} is out of range"):
            call([wrong, 1])
    with pytest.raises(FrameIndexError, match=f"root/a: frame index {wrong} is out of range"):
        instance.frames([0, 11, wrong, 1])


def test_an_error_names_a_pair_that_fails(tmp_path: Path) -> None:
    """By the file and the frame index, or by the UID."""
    files = {f"1.2.{at}": with_uid(native(20), f"1.2.{at}") for at in range(2)}
    mmindex.build(write_archive(tmp_path, **files), workers=1)
    with mmindex.open(tmp_path) as archive:
        for call in (archive.frames, archive.arrays):
            with pytest.raises(FrameIndexError, match=r"1\.2\.1: frame index 99"):
                call([("1.2.0", 0), ("1.2.1", 99)])
            with pytest.raises(InstanceNotFoundError, match=r"9\.9"):
                call([("1.2.0", 0), ("9.9", 0)])


def test_a_cut_frame_is_told_in_a_batch_as_it_is_alone(tmp_path: Path) -> None:
    """What the error says is of the frame, not of all that was to be read with it."""
    data = FILES["fragment-a-frame"][:-20]
    instance = mmindex.open_file(write_archive(tmp_path, a=data) / "a")
    with pytest.raises(TruncatedFrameError, match=r"frame index 11") as alone:
        instance.frame(11)
    assert len(instance.frames(range(11))) == 11
    with pytest.raises(TruncatedFrameError) as caught:
        instance.frames([9, 11, 10])
    assert str(caught.value) == str(alone.value)


@pytest.mark.parametrize("read", ["frames", "arrays"])
def test_a_batch_of_a_file_that_changed_or_is_gone_raises(tmp_path: Path, read: str) -> None:
    """The error is that of a single read and names the file."""
    files = {f"1.2.{at}": with_uid(native(20), f"1.2.{at}") for at in range(3)}
    mmindex.build(write_archive(tmp_path, **files), workers=1)
    with mmindex.open(tmp_path, revalidate_after=0) as archive:
        call: Callable[[list[tuple[str, int]]], object] = getattr(archive, read)
        call([(f"1.2.{at}", 0) for at in range(3)])
        os.truncate(tmp_path / "1.2.1", 300)
        (tmp_path / "1.2.2").unlink()
        for at, error in ((1, StaleIndexError), (2, MissingFileError)):
            with pytest.raises(error, match=rf"1\.2\.{at}: the file"):
                call([("1.2.0", 0), (f"1.2.{at}", 5)])
        call([("1.2.0", 0)])


@pytest.mark.parametrize("workers", [0, 3])
def test_arrays_are_stacked_in_the_order_asked(tmp_path: Path, workers: int) -> None:
    """With or without threads they are those of single calls, of one shape, and writable."""
    files = {f"1.2.{at}": with_uid(native(20, bits=8), f"1.2.{at}") for at in range(3)}
    mmindex.build(write_archive(tmp_path, **files), workers=1)
    pairs = [(f"1.2.{at * 7 % 3}", at * 5 % 12) for at in range(50)]
    pool = ThreadPoolExecutor(workers) if workers else None
    with mmindex.open(tmp_path) as archive, archive["1.2.0"] as instance:
        stacked = archive.arrays(iter(pairs), executor=pool)
        assert stacked.shape == (50, 1, 20)
        assert stacked.dtype == np.uint8
        assert np.array_equal(stacked, [archive.array(*pair) for pair in pairs])
        stacked[:] = 0
        for asked in orders(12)[1:]:
            stacked = instance.arrays(iter(asked), executor=pool)
            assert np.array_equal(stacked, [instance.array(index) for index in asked])
        assert instance.arrays(executor=pool).shape == (12, 1, 20)
    if pool is not None:
        pool.shutdown()


def test_decoded_arrays_are_stacked_like_native_ones(tmp_path: Path) -> None:
    """Samples are the last axis; one frame that is corrupt is told by its error alone."""
    value = b"".join(bytes([index, 100, 200] * 4) for index in range(5))
    data = native_file(value, samples=3, photometric="RGB", number_of_frames=5)
    with mmindex.open_file(write_archive(tmp_path, a=data) / "a") as instance:
        stacked = instance.arrays([4, 0])
        assert stacked.shape == (2, 2, 2, 3)
        assert stacked[:, 0, 0].tolist() == [[4, 100, 200], [0, 100, 200]]
    good = struct.pack("<16I", 1, 64, *[0] * 14) + bytes([3, 1, 2, 3, 4, 0])
    fragments = [good, good[:64], good]  # a header without data
    data = encapsulated_file(fragments, 3, RLE_LOSSLESS)
    with mmindex.open_file(write_archive(tmp_path, a=data) / "a") as instance:
        assert instance.arrays([2, 0]).tolist() == [[[1, 2], [3, 4]]] * 2
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            instance.arrays()


def test_arrays_of_different_shapes_are_refused(tmp_path: Path) -> None:
    """What cannot be stacked says both shapes; so does another dtype."""
    files = {
        "1.2.0": native(20),
        "1.2.1": native(10),
        "1.2.2": native(40, 6, columns=20, bits=16),
    }
    for uid, data in files.items():
        write_archive(tmp_path, **{uid: with_uid(data, uid)})
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        with pytest.raises(DecodeError, match=r"expected \(1, 20\) of uint8, found \(1, 10\)"):
            archive.arrays([("1.2.0", 0), ("1.2.1", 0)])
        with pytest.raises(DecodeError, match=r"found \(1, 20\) of uint16"):
            archive.arrays([("1.2.0", 0), ("1.2.2", 0)])


def test_no_arrays_cannot_be_stacked(tmp_path: Path) -> None:
    """Nothing asked has no shape; of frames it is an empty list."""
    mmindex.build(write_archive(tmp_path, a=FILES["native"]), workers=1)
    with mmindex.open(tmp_path) as archive, archive.file("a") as instance:
        assert archive.frames(iter(())) == instance.frames(iter(())) == []
        for call in (archive.arrays, instance.arrays):
            with pytest.raises(DecodeError, match="no frames to stack"):
                call([])


def pydicom_fragments(data: bytes) -> list[bytes]:
    """Return the fragments of a file as pydicom finds them."""
    value = BytesIO(dcmread(BytesIO(data), force=True).PixelData)
    parse_basic_offsets(value)
    return list(generate_fragments(value))


STREAM = encapsulated_file([b"first of the stream ", b"and the rest"], 900, HEVC)
ENCAPSULATED = {
    "stream": STREAM,
    "single": encapsulated_file([b"\xff\xd8 one", b" of ", b"three "], 1),
    "empty-fragment": encapsulated_file([b"\xff\xd8", b"", b"after"[:4]], 1),
    **{
        name: data
        for name, data in FILES.items()
        if name not in ("native", "native-bits", "deflated")
    },
}


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("name", ENCAPSULATED)
def test_all_fragments_are_those_that_pydicom_generates(
    tmp_path: Path, name: str, trusted: bool
) -> None:
    """Every item of the pixel data, whatever table there is and whether it was taken on trust."""
    data = ENCAPSULATED[name]
    mmindex.build(write_archive(tmp_path, a=data), workers=1, prove=not trusted)
    with mmindex.open(tmp_path) as archive, archive.file("a") as instance:
        found = instance.all_fragments()
        assert [bytes(fragment) for fragment in found] == pydicom_fragments(data)
        assert all(fragment.readonly for fragment in instance.all_fragments())


@pytest.mark.parametrize("name", ["native", "deflated"])
def test_all_fragments_of_native_pixel_data_are_its_frames(tmp_path: Path, name: str) -> None:
    """Each frame is one run of bytes."""
    with mmindex.open_file(write_archive(tmp_path, a=FILES[name]) / "a") as instance:
        assert [bytes(piece) for piece in instance.all_fragments()] == list(instance)


def test_a_stream_has_fragments_but_no_frames(tmp_path: Path) -> None:
    """A batch of its frames raises as a single read does."""
    with mmindex.open_file(write_archive(tmp_path, a=STREAM) / "a") as instance:
        assert b"".join(instance.all_fragments()) == b"first of the stream and the rest"
        for call in (instance.frames, instance.arrays):
            with pytest.raises(NotAddressableError, match="one video stream"):
                call([0])


def test_fragments_of_a_cut_file_end_in_an_error(tmp_path: Path) -> None:
    """Those before the cut are yielded; what is left of the last one is not."""
    data = FILES["fragment-a-frame"][:-20]
    with mmindex.open_file(write_archive(tmp_path, a=data) / "a") as instance:
        fragments = instance.all_fragments()
        assert [bytes(next(fragments)) for _ in range(11)] == [jpeg_frame(at) for at in range(11)]
        with pytest.raises(TruncatedFrameError, match="expected 100 bytes, found 88"):
            next(fragments)


def test_a_closed_instance_has_no_batches(tmp_path: Path) -> None:
    """As single reads, they raise ValueError."""
    for name in ("native", "table"):
        instance = mmindex.open_file(write_archive(tmp_path, a=FILES[name]) / "a")
        instance.close()
        for call in (
            instance.frames,
            instance.arrays,
            lambda of=instance: list(of.all_fragments()),
        ):
            with pytest.raises(ValueError, match="closed") as caught:
                call()
            assert not isinstance(caught.value, MMIndexError)


@pytest.mark.parametrize("name", ["rtdose.dcm", "SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
@pytest.mark.parametrize("threads", [None, 2])
def test_arrays_go_into_an_array_of_the_caller(name, threads):
    """As long as needed or longer, with any strides; another shape, dtype or no writing raises."""
    with mmindex.open_file(testdata(name)) as instance:
        expected = instance.arrays()
        count, *shape = expected.shape
        for out in (
            np.empty_like(expected),
            np.empty((count + 2, *shape), expected.dtype),
            np.empty((2 * count, *shape), expected.dtype)[::2],
            np.empty(expected.shape, expected.dtype, order="F"),
        ):
            found = instance.arrays(out=out, threads=threads)
            assert np.shares_memory(found, out)
            assert np.array_equal(found, expected)
        for wrong in (
            np.empty((count - 1, *shape), expected.dtype),
            np.empty(expected.shape, "f8"),
            np.empty(expected.size, expected.dtype),
        ):
            with pytest.raises(DecodeError, match="expected"):
                instance.arrays(out=wrong, threads=threads)
        fixed = np.zeros_like(expected)
        fixed.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            instance.arrays(out=fixed, threads=threads)
        assert not fixed.any()
