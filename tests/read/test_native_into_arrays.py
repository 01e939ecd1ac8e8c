"""Native frames that are read straight into the array that gets them, and those that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import (
    ENCAPSULATED_UNCOMPRESSED,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    encapsulate_frames,
    identified,
    written,
)
from numpy.typing import NDArray

import mmindex
from mmindex.errors import DecodeError, TruncatedFrameError

Pixels = NDArray[np.generic]

FRAMES, ROWS, COLUMNS = 3, 5, 7


def attributes(
    *,
    bits: int = 16,
    stored: int = 16,
    high: int | None = None,
    signed: bool = False,
    samples: int = 1,
    planar: int = 0,
    frames: int = FRAMES,
    order: str = "<",
) -> bytes:
    """Return the Image Pixel Module in tag order."""
    values: list[tuple[int, str, Any]] = [
        (0x00280002, "US", samples),
        (0x00280004, "CS", "RGB" if samples == 3 else "MONOCHROME2"),
        *([(0x00280006, "US", planar)] if samples == 3 else []),
        (0x00280008, "IS", str(frames)),
        (0x00280010, "US", ROWS),
        (0x00280011, "US", COLUMNS),
        (0x00280100, "US", bits),
        (0x00280101, "US", stored),
        (0x00280102, "US", stored - 1 if high is None else high),
        (0x00280103, "US", int(signed)),
    ]
    return b"".join(element(tag, vr, value, order=order) for tag, vr, value in values)


def noise(dtype: str, *, samples: int = 1) -> Pixels:
    """Return frames of any bits at all."""
    shape = (FRAMES, ROWS, COLUMNS, samples)[: 3 if samples == 1 else 4]
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(4).bytes(size), dtype).reshape(shape)


def native_case(dtype: str, **kind: Any) -> tuple[bytes, Pixels]:
    """Return a file of native frames whose bytes are `noise`, and its pixels by PS3.5 8.1.1."""
    samples = kind.get("samples", 1)
    stored = noise(dtype, samples=samples)
    big = dtype.startswith(">")
    itemsize = np.dtype(dtype).itemsize
    bits = 8 * itemsize
    kind = {"bits": bits, "stored": bits, **kind}
    order = ">" if big else "<"
    head = attributes(order=order, signed=np.dtype(dtype).kind == "i", **kind)
    vr = "OW" if itemsize > 1 else "OB"
    syntax = EXPLICIT_VR_BIG_ENDIAN if big else EXPLICIT_VR_LITTLE_ENDIAN
    value = stored.tobytes()
    uid = element(0x00080018, "UI", "1.2.3", order=order)
    data = dicom_file(uid + head + element(PIXEL_DATA, vr, value, order=order), syntax)
    if kind.get("planar"):  # the same bytes are the planes of each frame
        planes = stored.reshape(FRAMES, samples, ROWS, COLUMNS)
        stored = planes.transpose(0, 2, 3, 1)
    meant = stored.astype("i8") & ((1 << kind["stored"]) - 1)
    if np.dtype(dtype).kind == "i":
        meant -= (meant >> (kind["stored"] - 1)) << kind["stored"]
    return data, meant


CASES = {
    "8 bits": native_case("u1"),
    "8 bits with sign": native_case("i1"),
    "7 of 8 bits": native_case("u1", stored=7),
    "16 bits": native_case("<u2"),
    "16 bits with sign": native_case("<i2"),
    "12 of 16 bits": native_case("<u2", stored=12),
    "12 of 16 bits with sign": native_case("<i2", stored=12),
    "32 bits": native_case("<u4"),
    "20 of 32 bits with sign": native_case("<i4", stored=20),
    "colour by pixel": native_case("u1", samples=3),
    "colour by plane": native_case("u1", samples=3, planar=1),
    "16 bits colour by pixel": native_case("<u2", samples=3),
    "big endian": native_case(">u2"),
    "12 of 16 bits in big endian": native_case(">i2", stored=12),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[bytes, Pixels]:
    """Return a file, and the pixels that its bytes mean."""
    return CASES[request.param]


def targets(like: Pixels) -> Iterator[Pixels]:
    """Yield arrays for `out`: contiguous, longer, with gaps, of the other byte order."""
    yield np.full(like.shape, 77, like.dtype)
    yield np.full((len(like) + 2, *like.shape[1:]), 77, like.dtype)
    yield np.full((*like.shape[:-1], 2 * like.shape[-1]), 77, like.dtype)[..., ::2]
    yield np.full(like.shape, 77, like.dtype.newbyteorder())
    yield np.full(like.shape, 77, like.dtype)[::-1]


def test_native_frames_are_the_same_whatever_array_gets_them(
    tmp_path: Path, case: tuple[bytes, Pixels]
) -> None:
    """As a view, as a copy, into the caller's array of any layout, by one thread or two."""
    data, meant = case
    written(tmp_path, data)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open_file(tmp_path / "a.dcm") as instance, mmindex.open(tmp_path) as archive:
        first = instance.array(0)
        for at in range(FRAMES):
            for copy in (False, True):
                found = instance.array(at, copy=copy)
                assert found.tolist() == meant[at].tolist()
                assert found.dtype == first.dtype
                assert found.flags.writeable or not copy
        like = instance.arrays()
        assert like.tolist() == meant.tolist()
        for threads in (None, 2):
            for out in targets(like):
                assert np.shares_memory(instance.arrays(out=out, threads=threads), out)
                assert out[:FRAMES].tolist() == meant.tolist()
                assert (out[FRAMES:] == 77).all()
        pairs = [("1.2.3", at) for at in (2, 0, 1)]
        for out in targets(like):
            assert archive.arrays(pairs, out=out)[:3].tolist() == meant[[2, 0, 1]].tolist()


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_a_file_that_is_not_open_gives_each_reader_an_array_of_its_own(
    tmp_path: Path, dtype: str
) -> None:
    """First reads and later ones, of a dataset and of `out`: writable, and no two the same."""
    data, meant = native_case(dtype, stored=12)
    written(tmp_path, data)
    mmindex.build(tmp_path, workers=1)
    for option in ({}, {"native_byte_order": False}):
        with mmindex.open(tmp_path, max_open_files=1) as archive:
            items = [mmindex.FrameDataset(archive, **option)[1] for _ in range(3)]
        for item in items:
            assert item.tolist() == meant[1].tolist()
            item[:] = 0
    for _ in range(3):
        with mmindex.open(tmp_path) as archive:
            out = np.zeros((1, ROWS, COLUMNS), "u2")
            assert archive.arrays([("1.2.3", 2)], out=out).tolist() == meant[2:].tolist()


def uncompressed(fragments: list[bytes], *, frames: int, **kind: Any) -> bytes:
    """Return a file of Encapsulated Uncompressed frames (PS3.5 A.4.11)."""
    head = identified(attributes(frames=frames, **kind))
    many = len(fragments) == frames
    value = encapsulate_frames(fragments) if many else encapsulate(fragments)
    return dicom_file(head + value, ENCAPSULATED_UNCOMPRESSED)


@pytest.mark.parametrize("way", ["view", "copy", "out", "threads", "index"])
@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(("dtype", "stored"), [("<u2", 16), ("<u2", 12), ("u1", 8)])
def test_encapsulated_uncompressed_frames_are_native_samples(
    tmp_path: Path, dtype: str, stored: int, pieces: int, way: str
) -> None:
    """35 bytes a frame with their padding, 70 without; in one fragment or in two."""
    frames = 1 if pieces == 2 else FRAMES
    kind: dict[str, Any] = {"bits": 8 * np.dtype(dtype).itemsize, "stored": stored}
    pixels = noise(dtype)[:frames]
    fragments = [frame.tobytes() + bytes(frame.nbytes % 2) for frame in pixels]
    if pieces == 2:
        fragments = [fragments[0][:20], fragments[0][20:]]
    written(tmp_path, uncompressed(fragments, frames=frames, **kind))
    meant = pixels & ((1 << stored) - 1)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open_file(tmp_path / "a.dcm") as instance, mmindex.open(tmp_path) as archive:
        out = np.zeros(pixels.shape, dtype)
        found = {
            "view": lambda: [instance.array(at) for at in range(frames)],
            "copy": lambda: [instance.array(at, copy=True) for at in range(frames)],
            "out": lambda: instance.arrays(out=out),
            "threads": lambda: instance.arrays(threads=2),
            "index": lambda: [archive.array("1.2.3", at) for at in range(frames)],
        }[way]()
    assert np.array_equal(found, meant)


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("change", [-2, -1, 1, 2, 70])
def test_encapsulated_uncompressed_frames_of_another_length_are_refused(
    change: int, copy: bool
) -> None:
    """Neither less than the samples take nor more is a frame; the native ones beside it are."""
    frame = bytes(range(70))
    damaged = (frame + bytes(70))[: 70 + change]
    damaged += bytes(len(damaged) % 2)
    with mmindex.open_file(uncompressed([frame, damaged], frames=2)) as instance:
        assert instance.array(0, copy=copy).tobytes() == frame
        if change == -1:  # an even length, and not the padding's
            assert instance.array(1, copy=copy).tobytes() == frame[:69] + b"\0"
            return
        with pytest.raises(DecodeError, match="expected 70 bytes"):
            instance.array(1, copy=copy)
        with pytest.raises(DecodeError, match="expected 70 bytes"):
            instance.arrays(out=np.zeros((2, ROWS, COLUMNS), "u2"))


def test_a_frame_that_the_end_of_its_file_cut_is_an_error_with_its_place(tmp_path: Path) -> None:
    """Read into an array, too; the frames before it are there."""
    data, meant = native_case("<u2")
    path = written(tmp_path, data[:-3])
    with mmindex.open_file(path) as instance:
        out = np.zeros((1, ROWS, COLUMNS), "u2")
        assert instance.arrays([1], out=out).tolist() == meant[1:2].tolist()
        for options in ({"copy": True}, {"copy": False}):
            with pytest.raises(TruncatedFrameError) as caught:
                instance.array(2, **options)
            assert caught.value.path == str(path)
        with pytest.raises(TruncatedFrameError):
            instance.arrays([2], out=out)


def test_high_bit_above_the_samples_is_looked_at_before_bits_are_dropped(tmp_path: Path) -> None:
    """Samples in the upper 12 of 16 bits come down, in the caller's array as anywhere."""
    meant = (noise("<u2") & 0xFFF) | 1
    head = identified(attributes(stored=12, high=15))
    data = dicom_file(head + element(PIXEL_DATA, "OW", (meant << 4).tobytes()))
    with mmindex.open_file(written(tmp_path, data)) as instance:
        assert np.array_equal(instance.array(1, copy=True), meant[1])
        assert np.array_equal(instance.arrays(out=np.zeros(meant.shape, "u2")), meant)
