"""Many frames as one array: colours in units, frames that are lost or damaged, Ctrl-C."""

from __future__ import annotations

import io
import itertools
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)
from pydicom.pixels import pixel_array
from pydicom_oracle import FOLDER, read_data_set

import mmindex
from mmindex.errors import (
    DecodeError,
    FormatError,
    FrameIndexError,
    InstanceNotFoundError,
    StaleIndexError,
    TruncatedFrameError,
)
from mmindex.read.pixels import stack_arrays

COLOURS = FOLDER / "examples_ybr_color.dcm"


@pytest.fixture
def colours(tmp_path: Path) -> Iterator[mmindex.Archive]:
    """Index a file of YBR_FULL_422 frames."""
    (tmp_path / "a.dcm").write_bytes(COLOURS.read_bytes())
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        yield archive


def test_colours_in_units_are_rgb_unless_raw(colours: mmindex.Archive) -> None:
    """`rescale` changes the type of colours, `raw` what they are; wherever arrays come from."""
    (uid,) = colours
    data_set = read_data_set(COLOURS)
    for raw in (False, True):
        theirs = pixel_array(data_set, index=0, raw=raw, decoding_plugin="pillow")
        options: dict[str, Any] = {"raw": raw, "rescale": True}
        with mmindex.open_file(COLOURS) as instance:
            found = [
                instance.array(0, **options),
                *instance.arrays([0, 0], **options),
                *instance.arrays([0], out=np.empty((1, *theirs.shape), "f4"), **options),
                colours.array(uid, 0, **options),
                colours.arrays([(uid, 0)], **options)[0],
                mmindex.FrameDataset(colours, **options)[0],
                mmindex.FrameDataset(colours, **options).arrays([0])[0],
            ]
        for array in found:
            assert array.dtype == np.float32
            assert np.abs(array - theirs).max() <= 1


def native(frames: int, length: int | None = None) -> bytes:
    """Return a file of native frames of 2 x 2, of which the value may hold fewer."""
    value = bytes(at % 251 for at in range(4 * frames)) if length is None else bytes(length)
    attributes = image_attributes(number_of_frames=frames)
    return dicom_file(
        element(0x00080018, "UI", "1.2") + attributes + element(PIXEL_DATA, "OB", value)
    )


def compressed(encode: Callable[[np.ndarray], bytes], uid: str, damage: int) -> bytes:
    """Return a file of five frames, one of which lacks its second half."""
    random = np.random.default_rng(3)
    frames = [bytes(encode(random.integers(0, 256, (32, 32), "u1"))) for _ in range(5)]
    frames[damage] = frames[damage][: len(frames[damage]) // 2]
    attributes = image_attributes(rows=32, columns=32, number_of_frames=5)
    padded = [frame + bytes(len(frame) % 2) for frame in frames]
    return dicom_file(attributes + encapsulate(padded), uid)


CUT_RTDOSE = 900  # bytes, so that three of 15 frames of 400 are gone or cut


def cut_rtdose() -> bytes:
    """Return a native file without its last frames."""
    written = io.BytesIO()
    read_data_set(FOLDER / "rtdose.dcm").save_as(written)
    return written.getvalue()[:-CUT_RTDOSE]


@pytest.mark.parametrize("threads", [None, 2])
def test_frames_that_the_end_of_a_file_lost_do_not_lose_the_others(threads: int | None) -> None:
    """Without indices, too: what is there is decoded, what is not is listed with the reason."""
    theirs = pixel_array(read_data_set(FOLDER / "rtdose.dcm"))
    with mmindex.open_file(cut_rtdose()) as instance:
        with pytest.raises(TruncatedFrameError):
            instance.arrays(threads=threads)
        found, lost = instance.arrays(on_error="skip", threads=threads)
        assert np.array_equal(found, theirs[:12])
        assert list(lost) == [12, 13, 14]
        assert all(isinstance(error, TruncatedFrameError) for error in lost.values())
        assert "12 of 15 frames" in lost[13].message
        asked, left_out = instance.arrays(range(15), on_error="skip", threads=threads)
        assert np.array_equal(asked, found)
        assert list(left_out) == list(lost)


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_encapsulated_frames_that_the_end_of_a_file_lost_do_not_lose_the_others(cut: int) -> None:
    """Whether the file ends within a frame, at its end, or before several."""
    data = (FOLDER / "rtdose_rle.dcm").read_bytes()
    whole = mmindex.open_file(data).arrays()
    with mmindex.open_file(data) as instance:
        ((start, length),) = instance.byte_ranges(7)
    with mmindex.open_file(data[: start + length - cut]) as instance:
        found, lost = instance.arrays(on_error="skip")
        assert np.array_equal(found, whole[:7])
        assert list(lost) == list(range(7, 15))


def test_of_a_number_of_frames_that_no_file_has_a_bounded_part_is_listed() -> None:
    """A damaged header costs no memory for each frame that it claims."""
    data = native(2_000_000_000, length=8)
    with mmindex.open_file(data) as instance:
        found, lost = instance.arrays(on_error="skip")
        assert found.shape == (2, 2, 2)
        assert list(lost) == list(range(2, 10_002))
        assert "2 of 2000000000 frames" in lost[2].message


def test_a_file_without_a_single_frame_raises() -> None:
    """There is nothing to return."""
    with mmindex.open_file(native(3, length=2)) as instance, pytest.raises(TruncatedFrameError):
        instance.arrays(on_error="skip")


def encoders() -> dict[str, tuple[str, Callable[[np.ndarray], bytes]]]:
    codecs = pytest.importorskip("imagecodecs")
    return {
        "jpeg": (JPEG_BASELINE, codecs.jpeg8_encode),
        "jpeg2000": (JPEG_2000, lambda a: codecs.jpeg2k_encode(a, reversible=True, level=0)),
        "jpeg-ls": (JPEG_LS, codecs.jpegls_encode),
    }


@pytest.mark.parametrize("damage", [0, 2, 4])
@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "jpeg-ls"])
def test_a_corrupt_frame_of_any_codec_does_not_lose_the_others(
    tmp_path: Path, codec: str, damage: int
) -> None:
    """Of a file and of an archive, whichever frame it is."""
    uid, encode = encoders()[codec]
    data = compressed(encode, uid, damage)
    kept = [at for at in range(5) if at != damage]
    with mmindex.open_file(data) as instance:
        found, failures = instance.arrays(on_error="skip")
        assert list(failures) == [damage]
        assert isinstance(failures[damage], DecodeError)
        assert np.array_equal(found, np.stack([instance.array(at) for at in kept]))
        with pytest.raises(DecodeError):
            instance.arrays()
    identified = element(0x00080018, "UI", "1.2")
    at = data.index(element(0x00280002, "US", 1))
    (tmp_path / "a.dcm").write_bytes(data[:at] + identified + data[at:])
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        pairs = [("1.2", at) for at in range(5)]
        out = np.zeros((5, 32, 32), "u1")
        again, left_out = archive.arrays(pairs, threads=2, out=out, on_error="skip")
        assert np.shares_memory(again, out)
        assert np.array_equal(again, found)
        assert list(left_out) == [damage]
        assert left_out[damage].path == str(tmp_path / "a.dcm")
        with pytest.raises(DecodeError):
            archive.arrays(pairs)
        dataset = mmindex.FrameDataset(archive, on_error="skip")
        assert np.array_equal(dataset.arrays(threads=2), found)
        assert list(dataset.skipped) == [damage]
        with pytest.raises(DecodeError):
            mmindex.FrameDataset(archive).arrays()


def slices(folder: Path, count: int, *, syntax: str = "1.2.840.10008.1.2.1") -> None:
    """Write one-frame files of 2 x 2 whose order by position is the reverse of that by UID."""
    order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    for at in range(count):
        data_set = element(0x00080018, "UI", f"1.2.{at:04}", order=order)
        data_set += element(0x0020000E, "UI", "1.1", order=order)
        data_set += element(0x00200032, "DS", f"0\\0\\{-at}", order=order)
        data_set += element(0x00200037, "DS", "1\\0\\0\\0\\1\\0", order=order)
        data_set += image_attributes(bits=16, order=order)
        value = np.full(4, at, f"{order}u2").tobytes()
        data_set += element(PIXEL_DATA, "OW", value, order=order)
        (folder / f"{at}.dcm").write_bytes(dicom_file(data_set, syntax))
    mmindex.build(folder, workers=1)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", EXPLICIT_VR_BIG_ENDIAN])
def test_the_arrays_of_a_series_are_a_volume(tmp_path: Path, syntax: str) -> None:
    """In the order of the slices' positions, in this machine's byte order; or of some items."""
    slices(tmp_path, 5, syntax=syntax)
    with mmindex.open(tmp_path) as archive:
        series = mmindex.FrameDataset(archive, series_instance_uid="1.1", transform=str)
        volume = series.arrays()
        assert volume[:, 0, 0].tolist() == [4, 3, 2, 1, 0]
        assert volume.dtype == np.dtype("u2")
        assert volume.dtype.isnative
        assert series.arrays([3, 0], threads=2)[:, 1, 1].tolist() == [1, 4]
        with ThreadPoolExecutor(2) as executor:
            assert np.array_equal(series.arrays(executor=executor), volume)
        out = np.zeros((6, 2, 2), "u2")
        assert np.shares_memory(series.arrays(out=out), out)
        assert np.array_equal(out[:5], volume)
        every = mmindex.FrameDataset(archive, series_instance_uid="1.1", duplicates="all")
        assert np.array_equal(every.arrays(), volume)
        rescaled = mmindex.FrameDataset(archive, series_instance_uid="1.1", rescale=True)
        assert rescaled.arrays().dtype == np.float32
        with pytest.raises(FrameIndexError):
            series.arrays([5])
        with pytest.raises(DecodeError, match="no frames"):
            series.arrays([])


def test_pairs_that_fail_are_told_by_their_position(tmp_path: Path) -> None:
    """An unknown UID, a frame that is not there; the same pair may be asked for twice."""
    slices(tmp_path, 3)
    with mmindex.open(tmp_path) as archive:
        pairs = [("1.2.0000", 0), ("9.9", 0), ("1.2.0001", 1), ("1.2.0000", 0), ("1.2.0002", 0)]
        found, failures = archive.arrays(pairs, on_error="skip")
        assert found[:, 0, 0].tolist() == [0, 0, 2]
        assert {at: type(error) for at, error in failures.items()} == {
            1: InstanceNotFoundError,
            2: FrameIndexError,
        }
        with pytest.raises(ValueError, match="on_error: expected one of"):
            archive.arrays(pairs, on_error="ignore")  # type: ignore[call-overload]


def test_no_memory_for_a_stack_is_a_decode_error() -> None:
    """Also where NumPy refuses the shape."""
    for number in (1 << 50, 1 << 62):
        with pytest.raises(DecodeError, match="no memory for"):
            stack_arrays(lambda at, out: np.zeros((64, 64)), number)


@pytest.mark.parametrize("workers", [1, 2, 40])
@pytest.mark.parametrize("way", ["threads", "executor"])
def test_each_frame_is_decoded_once_into_its_place(way: str, workers: int) -> None:
    """By more threads than frames, too; of frames that fail, the first one raises."""
    calls: list[int] = []

    def decode(position: int, out: np.ndarray | None) -> np.ndarray:
        calls.append(position)
        if position in failing:
            raise DecodeError(f"frame {position}")
        found = np.full((2, 2), position, "u1") if out is None else out
        found[:] = position
        return found

    with ThreadPoolExecutor(workers) as executor:
        options: dict[str, Any] = {way: workers if way == "threads" else executor}
        for number in (1, 2, 39, 200):
            failing: set[int] = set()
            calls.clear()
            found, failures = stack_arrays(decode, number, **options)
            assert (found[:, 0, 1] == np.arange(number)).all()
            assert sorted(calls) == list(range(number))
            assert not failures
        failing = {7, 8, 100}
        found, failures = stack_arrays(decode, 200, skip=True, **options)
        assert found[:, 1, 0].tolist() == [at for at in range(200) if at not in failing]
        assert set(failures) == failing
        with pytest.raises(DecodeError, match="frame 7"):
            stack_arrays(decode, 200, **options)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("way", ["here", "threads", "executor"])
def test_ctrl_c_ends_a_stack_before_its_remaining_frames(
    error: type[BaseException], way: str
) -> None:
    """Frames that no thread has begun are not decoded."""
    count = itertools.count()
    begun = threading.Event()

    def decode(position: int, out: np.ndarray | None) -> np.ndarray:
        next(count)
        if position == 3:
            begun.set()
            raise error
        if position > 3:
            begun.wait(5)
        return np.zeros((2, 2))

    with ThreadPoolExecutor(2) as executor:
        options: dict[str, Any] = {
            "here": {},
            "threads": {"threads": 2},
            "executor": {"executor": executor},
        }[way]
        with pytest.raises(error):
            stack_arrays(decode, 100_000, **options)
    assert next(count) < 90_000


@pytest.mark.parametrize("threads", [2, 3])
def test_ctrl_c_while_the_last_frames_are_decoded_raises_once_they_are(threads: int) -> None:
    """No thread writes to `out` after that, nor reads a file that the caller closes."""
    caller = threading.get_ident()
    together = threading.Barrier(threads)
    ended: list[int] = []

    def decode(position: int, out: np.ndarray | None) -> np.ndarray:
        if together.wait(5) == 0:
            threading.Timer(0.1, signal.pthread_kill, (caller, signal.SIGINT)).start()
        if threading.get_ident() != caller:
            time.sleep(0.4)
        ended.append(position)
        return np.ones((2, 2))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            stack_arrays(decode, threads, threads=threads, out=np.zeros((threads, 2, 2)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ended) == list(range(threads))


def test_frames_that_are_left_out_are_listed_in_order_whichever_thread_fails_first() -> None:
    """The errors of one call and of the next have one order."""
    later = threading.Event()

    def decode(position: int, out: np.ndarray | None) -> np.ndarray:
        if position == 1:
            later.wait(5)
        if position == 2:
            threading.Timer(0.1, later.set).start()
        if position in (1, 2):
            raise DecodeError(f"frame {position}")
        return np.zeros((2, 2))

    _, failures = stack_arrays(decode, 4, threads=2, skip=True)
    assert list(failures) == [1, 2]


def test_a_dataset_by_uids_and_parts_of_it_pickle_small(tmp_path: Path) -> None:
    """In the order given, each as often as given; an index that was rebuilt is noticed."""
    slices(tmp_path, 300)
    with mmindex.open(tmp_path) as archive:
        uids = [f"1.2.{at * 7 % 300:04}" for at in range(300)]
        dataset = mmindex.FrameDataset(archive, sop_instance_uids=[*uids, uids[0]], with_ids=True)
        part, small = dataset.split((0.9, 0.1), by="study")[0], dataset.split((1.0,))[0]
        for each in (dataset, part, small):
            pickled = pickle.dumps(each)
            assert len(pickled) < 4000
            copied = pickle.loads(pickled)
            assert [item[1] for item in copied] == [item[1] for item in each]
            copied.archive.close()
        assert [item[1] for item in dataset] == [*uids, uids[0]]
        pickled = pickle.dumps(dataset)
        (tmp_path / "150.dcm").unlink()
        mmindex.build(tmp_path, workers=1)
        with pytest.raises((FormatError, StaleIndexError)):
            dataset.split((0.5, 0.5))
        with pytest.raises(StaleIndexError, match="select them again"):
            pickle.loads(pickled)
