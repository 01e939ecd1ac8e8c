"""Instance: the sequence of frames, their views and ranges, and what close and deflate do."""

from __future__ import annotations

import copy
import gc
import importlib
import io
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    HEVC,
    JPEG_BASELINE,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    encapsulated_file,
    four_bytes,
    image_attributes,
    item,
    native_file,
    written,
)

import mmindex
from mmindex.errors import (
    FormatError,
    FrameIndexError,
    MMIndexError,
    NoPixelDataError,
    NotAddressableError,
    NotContiguousError,
    NotDicomError,
    TruncatedFrameError,
)
from mmindex.model import InstanceRecord, Status
from mmindex.read.instance import Instance
from mmindex.read.recorded_error import recorded_error
from mmindex.sources.file import (
    open_descriptor,
)
from mmindex.sources.memory import MemorySource

FRAMES = [b"\xff\xd8AA\xff\xd9", b"\xff\xd8BBBB\xff\xd9", b"\xff\xd8CC\xff\xd9"]
NATIVE = native_file(b"aaaabbbbcccc", number_of_frames=3)
ENCAPSULATED = encapsulated_file(FRAMES, 3)
SPLIT = encapsulated_file(
    [FRAMES[0][:4], FRAMES[0][4:], FRAMES[1], FRAMES[2][:2], FRAMES[2][2:]], 3, bot=[0, 22, 38]
)
BITS = native_file(b"\xb5\x6c\x01", rows=1, columns=5, bits=1, number_of_frames=3)
FILES = {
    "native": (NATIVE, [b"aaaa", b"bbbb", b"cccc"]),
    "encapsulated": (ENCAPSULATED, FRAMES),
    "split": (SPLIT, FRAMES),
    # 10101101 00110110 1: least significant bits first
    "bits": (BITS, [b"\x15", b"\x05", b"\x1b"]),
}
ACCESSES: list[Callable[[mmindex.Instance, int], object]] = [
    lambda instance, index: instance.frame(index),
    lambda instance, index: instance[index],
    lambda instance, index: instance.view(index),
    lambda instance, index: instance.fragments(index),
    lambda instance, index: instance.byte_ranges(index),
    lambda instance, index: instance.array(index),
]
ACCESS_NAMES = ["frame", "getitem", "view", "fragments", "byte_ranges", "array"]


DEFLATED_SET = image_attributes(number_of_frames=2) + element(PIXEL_DATA, "OW", b"aaaabbbb")


@pytest.fixture(params=FILES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple]:
    """Open a file of each kind; give the instance, its frames and its bytes."""
    data, frames = FILES[request.param]
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    with mmindex.open_file(path) as instance:
        yield instance, frames, data


def test_an_instance_is_a_sequence_of_its_frames(opened: tuple) -> None:
    """Length, indexing, iteration, slices and membership are those of a list of frames."""
    instance, frames, _ = opened
    assert len(instance) == instance.number_of_frames == 3
    assert [instance[0], instance.frame(1), instance[2]] == frames
    assert list(instance) == frames
    assert instance[1:] == frames[1:]
    assert instance[::-1] == list(reversed(instance)) == frames[::-1]
    assert instance[-2:] == frames[-2:]
    assert instance[5:] == []
    assert frames[1] in instance
    assert b"no frame" not in instance
    assert instance.index(frames[2]) == 2


@pytest.mark.parametrize("access", ACCESSES, ids=ACCESS_NAMES)
@pytest.mark.parametrize("index", [-1, -3, 3, 2**40, 10**30])
def test_an_index_never_wraps_round(
    opened: tuple, access: Callable[[mmindex.Instance, int], object], index: int
) -> None:
    """A negative or too large index is an IndexError that says what there is."""
    instance, _, _ = opened
    with pytest.raises(FrameIndexError, match="3 frames, 0 to 2") as caught:
        access(instance, index)
    assert isinstance(caught.value, IndexError)
    assert caught.value.path == instance.path


@pytest.mark.parametrize("index", [1.0, "1", None])
def test_an_index_that_is_no_integer_is_a_type_error(opened: tuple, index: object) -> None:
    """A number that only looks like an index is not rounded."""
    with pytest.raises(TypeError):
        opened[0].frame(index)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_narrow_numpy_index_gives_the_right_frame() -> None:
    """An index of 16 bits does not overflow where it is multiplied by a frame's length."""
    value = b"".join(bytes([number]) * 512 for number in range(40))
    data = native_file(value, rows=16, columns=32, number_of_frames=40)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        for number in (0, 16, 39):
            assert instance.frame(np.int16(number)) == bytes([number]) * 512


def test_byte_ranges_hold_the_frames_in_the_file(opened: tuple) -> None:
    """What lies at a frame's ranges is the frame, or the bytes that cover its bits."""
    instance, frames, data = opened
    bits = instance.record.frames.frame_bits
    for index, frame in enumerate(frames):
        pieces = [data[place.offset :][: place.length] for place in instance.byte_ranges(index)]
        if bits % 8:
            number = int.from_bytes(b"".join(pieces), "little") >> index * bits % 8
            assert number & (1 << bits) - 1 == int.from_bytes(frame, "little")
        else:
            assert b"".join(pieces) == frame


def test_R31_ranges_off_byte_boundaries_cover_the_bits() -> None:
    """Frames of 5 bits take bytes [0, 1), [0, 2) and [1, 2) of the value."""
    start = len(BITS) - 3
    with mmindex.open_file(io.BytesIO(BITS)) as instance:
        ranges = [instance.byte_ranges(index) for index in range(3)]
    assert ranges == [((start, 1),), ((start, 2),), ((start + 1, 1),)]


def test_views_and_fragments_are_read_only_and_hold_the_frame(opened: tuple) -> None:
    """A view is the frame; where it can't be one, the fragments joined are."""
    instance, frames, _ = opened
    if instance.record.frames.frame_bits % 8:
        return
    for index, frame in enumerate(frames):
        fragments = instance.fragments(index)
        assert b"".join(fragments) == frame
        views = list(fragments)
        if len(fragments) == 1:
            views.append(instance.view(index))
            assert views[-1] == frame
        for view in views:
            assert (view.readonly, view.format, view.ndim) == (True, "B", 1)
            with pytest.raises(TypeError, match="read-only"):
                view[0] = 0


@pytest.mark.parametrize("data", [NATIVE, ENCAPSULATED], ids=["native", "encapsulated"])
def test_views_share_the_memory_of_one_map(data: bytes, tmp_path: Path) -> None:
    """Nothing is copied: views of two frames are as far apart as the frames in the file."""
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    with mmindex.open_file(path) as instance:
        pieces = [instance.view(0), *instance.fragments(1), instance.view(1)]
        addresses = [np.frombuffer(p, "u1").__array_interface__["data"][0] for p in pieces]
        offsets = [instance.byte_ranges(index)[0].offset for index in (0, 1, 1)]
    assert [a - addresses[0] for a in addresses] == [o - offsets[0] for o in offsets]


@pytest.mark.parametrize(
    ("data", "why"), [(SPLIT, "in several fragments"), (BITS, "off byte boundaries")]
)
def test_a_frame_in_pieces_has_no_view(data: bytes, why: str) -> None:
    """The error says why, and which call serves the frame."""
    with (
        mmindex.open_file(io.BytesIO(data)) as instance,
        pytest.raises(NotContiguousError, match=why),
    ):
        instance.view(2)


def test_R31_off_byte_boundaries_there_are_no_fragments_either() -> None:
    """A frame whose bits are to be shifted has no piece of the file of its own."""
    with (
        mmindex.open_file(io.BytesIO(BITS)) as instance,
        pytest.raises(NotContiguousError, match="off byte boundaries"),
    ):
        instance.fragments(1)


@pytest.mark.parametrize("access", ACCESSES, ids=ACCESS_NAMES)
def test_a_closed_instance_serves_nothing(
    opened: tuple, access: Callable[[mmindex.Instance, int], object]
) -> None:
    """A read after close raises ValueError, as files do; closing twice is fine."""
    instance, _, _ = opened
    instance.close()
    instance.close()
    with pytest.raises(ValueError, match="closed"):
        access(instance, 0)
    assert len(instance) == 3


def test_a_view_outlives_its_instance(tmp_path: Path) -> None:
    """A view keeps the file mapped after the instance was closed."""
    path = tmp_path / "a.dcm"
    path.write_bytes(NATIVE)
    with mmindex.open_file(path) as instance:
        view, array = instance.view(1), instance.array(2)
    del instance
    assert view == b"bbbb"
    assert array.tobytes() == b"cccc"


@pytest.mark.parametrize("access", ACCESSES, ids=ACCESS_NAMES)
def test_R8_without_pixel_data_there_are_no_frames(
    access: Callable[[mmindex.Instance, int], object],
) -> None:
    """Every access says that the instance has no pixel data."""
    data = dicom_file(element(0x00080060, "CS", "SR"))
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == []
        with pytest.raises(NoPixelDataError, match="no pixel data"):
            access(instance, 0)
        with pytest.raises(NotAddressableError, match="no video stream"):
            instance.stream()


@pytest.mark.parametrize("access", ACCESSES, ids=ACCESS_NAMES)
def test_R20_a_video_stream_has_no_frames(
    access: Callable[[mmindex.Instance, int], object],
) -> None:
    """Every access says that frames are one stream, and what serves it."""
    data = encapsulated_file([b"video", b"", b"stream"], 100, HEVC)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert (len(instance), instance.number_of_frames) == (0, 100)
        assert b"".join(instance.stream()) == b"videostream"
        assert instance.stream_length == 11
        with pytest.raises(NotAddressableError, match=r"instance\.stream\(\)"):
            access(instance, 0)


def test_R20_a_stream_that_is_cut_raises_where_it_ends() -> None:
    """Fragments before the end of the file come; the one it cuts does not come short."""
    data = encapsulated_file([b"video", b"stream"], 100, HEVC, delimiter=b"")[:-1]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        fragments = instance.stream()
        assert next(fragments) == b"video"
        with pytest.raises(TruncatedFrameError, match="expected 6 bytes, found 5"):
            next(fragments)


def test_a_closed_stream_is_a_value_error() -> None:
    """Without a file there is no stream."""
    instance = mmindex.open_file(io.BytesIO(encapsulated_file([b"video"], 100, HEVC)))
    instance.close()
    with pytest.raises(ValueError, match="closed"):
        instance.stream()


@pytest.mark.parametrize("after", [b"", bytes(8), b"junk"])
def test_R7_a_deflated_data_set_is_inflated_once(
    after: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames come from one inflated copy, whatever stands after the stream."""
    module = importlib.import_module("mmindex.sources.inflated")
    inflated = []

    def inflate(buffer: bytes) -> bytes:
        inflated.append(real(buffer))
        return inflated[-1]

    real = module.inflate_data_set
    monkeypatch.setattr(module, "inflate_data_set", inflate)
    path = tmp_path / "a.dcm"
    path.write_bytes(deflated_file(DEFLATED_SET, after=after))
    with mmindex.open_file(path) as instance:
        assert instance.record.status is Status.DEFLATED
        assert list(instance) == [b"aaaa", b"bbbb"]
        assert instance.view(1) == b"bbbb"
        assert instance.view(1).readonly
        assert instance.array(0).tolist() == [[97, 97], [97, 97]]
        with pytest.raises(NotAddressableError, match="deflated as a whole"):
            instance.byte_ranges(0)
    assert inflated == [DEFLATED_SET]


def test_R7_an_inflation_bomb_is_refused() -> None:
    """A data set that inflates to over a thousand times the file is not read."""
    bomb = image_attributes() + element(0x00991010, "OB", bytes(40_000_000))
    data = deflated_file(bomb + element(PIXEL_DATA, "OW", b"aaaa"))
    with pytest.raises(FormatError, match="inflates to over"):
        mmindex.open_file(io.BytesIO(data))


def test_R7_a_data_set_inflates_to_so_many_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit in bytes, too."""
    module = importlib.import_module("mmindex.scan.file_format")
    monkeypatch.setattr(module, "MAX_INFLATED_LENGTH", 100)
    with pytest.raises(FormatError, match="inflates to over 100 bytes"):
        mmindex.open_file(io.BytesIO(deflated_file(DEFLATED_SET)))


def test_R7_a_cut_or_broken_deflate_stream_is_a_format_error() -> None:
    """What was inflated before the damage is not served."""
    data = deflated_file(DEFLATED_SET + element(0xFFFCFFFC, "OB", bytes(range(256))))
    with pytest.raises(FormatError, match="ends too early"):
        mmindex.scan(data[:-20])
    meta = dicom_file(b"", DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    with pytest.raises(FormatError, match="expected a deflated data set"):
        mmindex.scan(meta + b"\xff" * 30)


@pytest.mark.parametrize("name", ["native", "encapsulated", "split", "bits"])
def test_an_instance_serves_many_threads(name: str, tmp_path: Path) -> None:
    """Sixteen threads get the frames that they ask for."""
    data, frames = FILES[name]
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    with mmindex.open_file(path) as instance, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda index: instance.frame(index % 3), range(900)))
    assert found == frames * 300


def test_lost_frames_are_truncated_to_every_reader() -> None:
    """Of a cut file the whole frames are served; the others raise with path and place."""
    data = ENCAPSULATED[: -len(item(FRAMES[2])) - 8 + 10]
    accesses = [*ACCESSES[:5], lambda instance, index: instance.array(index)]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert [instance[0], instance[1]] == FRAMES[:2]
        for access in accesses:
            with pytest.raises(TruncatedFrameError):
                access(instance, 2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [("NotDicomError", NotDicomError), ("FormatError", FormatError), ("Exception", FormatError)],
)
def test_a_recorded_error_is_raised_again(error: str, kind: type[MMIndexError]) -> None:
    """The record of an unreadable file raises the error that its scan ended with."""
    record = InstanceRecord(Status.UNREADABLE, reason="what was wrong", error=error)
    with pytest.raises(kind, match="what was wrong") as caught:
        Instance(record, MemorySource(b"", "a.dcm"))
    assert type(caught.value) is kind
    assert caught.value.path == "a.dcm"


def test_a_frame_error_names_the_file(tmp_path: Path) -> None:
    """Errors that come from the table carry the path, as those of the file do."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8AA\xff\xd9"], 1, JPEG_BASELINE))
    with mmindex.open_file(path) as instance, pytest.raises(FrameIndexError, match=r"a\.dcm"):
        instance.frame(1)


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


@pytest.mark.parametrize(
    "name", ["os", "annotations", "__all__", "__name__", "OSError", "_rebuild", "", "at"]
)
def test_a_recorded_error_that_is_no_error_is_a_format_error(name: str) -> None:
    """A damaged record names no attribute of a module that is then called."""
    record = InstanceRecord(Status.UNREADABLE, error=name, reason="what is wrong")
    error = recorded_error(record, "a.dcm")
    assert type(error) is FormatError
    assert str(error) == "a.dcm: what is wrong"
