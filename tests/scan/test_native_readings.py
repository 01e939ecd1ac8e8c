"""Rules R32, R35, R40, R41, R46, R49 and R54: what the length of a native value decides."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    FLOAT_PIXEL_DATA,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    image_attributes,
    native_file,
)
from outcomes import anomaly_codes

import mmindex
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    NotContiguousError,
    TruncatedFrameError,
)

UIDS = element(0x00080018, "UI", "1.2.3")


def deflated(value: bytes, vr: str = "OW", **attributes: Any) -> bytes:
    data_set = UIDS + image_attributes(**attributes) + element(PIXEL_DATA, vr, value)
    return deflated_file(data_set)


def indexed(value: bytes, vr: str = "OW", **attributes: Any) -> bytes:
    data_set = UIDS + image_attributes(**attributes) + element(PIXEL_DATA, vr, value)
    return dicom_file(data_set)


def assert_served(tmp_path: Path, frames: list[bytes], value: bytes, **attributes: Any) -> None:
    """Assert that every way of reading gives `frames`: memory, file, deflated, index, batch."""
    for data in (indexed(value, **attributes), deflated(value, **attributes)):
        path = tmp_path / "a.dcm"
        path.write_bytes(data)
        with mmindex.open_file(io.BytesIO(data)) as instance:
            assert list(instance) == frames
        with mmindex.open_file(path) as instance:
            assert list(instance) == frames
            assert instance.frames() == frames
            assert instance.frames(range(len(frames) - 1, -1, -1)) == frames[::-1]
        mmindex.build(tmp_path, workers=1)
        with mmindex.open(tmp_path) as archive:
            assert [archive.frame("1.2.3", index) for index in range(len(frames))] == frames
            pairs = [("1.2.3", index) for index in reversed(range(len(frames)))]
            assert archive.frames(pairs) == frames[::-1]
            assert archive["1.2.3"].record.frames == mmindex.scan(data).frames


NINE = [b"abcdefghi", b"ABCDEFGHI", b"123456789"]
THREE_SAMPLES = [bytes(range(27)), bytes(range(100, 127))]
PADDED = {
    "8 bits, odd, to 2 bytes": (
        b"abcdefghi\0ABCDEFGHI\0" + b"123456789\0",
        NINE,
        {"rows": 3, "columns": 3, "number_of_frames": 3},
    ),
    "8 bits, one row, to 4 bytes": (
        b"abcdefghi\0\0\0ABCDEFGHI\0\0\0",
        [b"abcdefghi", b"ABCDEFGHI"],
        {"rows": 1, "columns": 9, "number_of_frames": 2},
    ),
    "padding that is not zero": (
        b"abcdefghi?ABCDEFGHI!",
        NINE[:2],
        {"rows": 3, "columns": 3, "number_of_frames": 2},
    ),
    "3 samples, to 2 bytes": (
        THREE_SAMPLES[0] + b"\0" + THREE_SAMPLES[1] + b"\0",
        THREE_SAMPLES,
        {"rows": 3, "columns": 3, "samples": 3, "photometric": "RGB", "number_of_frames": 2},
    ),
    "16 bits, odd pixels, to 4 bytes": (
        b"aabbccddeeffgghhii\0\0AABBCCDDEEFFGGHHII\0\0",
        [b"aabbccddeeffgghhii", b"AABBCCDDEEFFGGHHII"],
        {"rows": 3, "columns": 3, "bits": 16, "number_of_frames": 2},
    ),
    "1 bit, to bytes": (
        b"\xff\xff\xff\xff\x01\xaa\x55\xaa\x55\x00\x0f\xf0\x0f\xf0\x01\0",
        [b"\xff\xff\xff\xff\x01", b"\xaa\x55\xaa\x55\x00", b"\x0f\xf0\x0f\xf0\x01"],
        {"rows": 1, "columns": 33, "bits": 1, "number_of_frames": 3},
    ),
    "1 bit, to words": (
        b"\xff\xff\xff\xff\x01\0\xaa\x55\xaa\x55\x00\0",
        [b"\xff\xff\xff\xff\x01", b"\xaa\x55\xaa\x55\x00"],
        {"rows": 1, "columns": 33, "bits": 1, "number_of_frames": 2},
    ),
}


@pytest.mark.parametrize(("value", "frames", "attributes"), PADDED.values(), ids=PADDED)
def test_R40_frames_that_are_padded_one_by_one_lie_at_the_padded_stride(
    value: bytes, frames: list[bytes], attributes: dict[str, Any], tmp_path: Path
) -> None:
    """N times the padded frame is no standard length: the padding is in no frame."""
    data = indexed(value, **attributes)
    assert anomaly_codes(data) == ["frame-padding"]
    assert_served(tmp_path, frames, value, **attributes)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        for index in range(len(frames)):
            ((offset, length),) = instance.byte_ranges(index)
            assert length == len(frames[index])
            assert offset == len(data) - len(value) + index * (len(value) // len(frames))
            if attributes.get("bits") == 1:  # its last bits share a byte with the padding
                with pytest.raises(NotContiguousError):
                    instance.view(index)
            else:
                assert bytes(instance.view(index)) == frames[index]


def in_planes(data: bytes) -> bytes:
    """Return a file of three samples with Planar Configuration 1 in place of 0."""
    planar = element(0x00280006, "US", 0)
    assert data.count(planar) == 1
    return data.replace(planar, element(0x00280006, "US", 1))


def test_R40_padded_frames_of_three_planes() -> None:
    """Frames of three planes of 9 bytes each are padded as a whole: 27 bytes to 28."""
    value = THREE_SAMPLES[0] + b"\0" + THREE_SAMPLES[1] + b"\0"
    attributes = {"rows": 3, "columns": 3, "samples": 3, "photometric": "RGB"}
    data = in_planes(indexed(value, **attributes, number_of_frames=2))
    assert anomaly_codes(data) == ["frame-padding"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == THREE_SAMPLES
        planes = np.arange(100, 127).reshape(3, 3, 3)
        assert instance.array(1).tolist() == planes.transpose(1, 2, 0).tolist()


def test_R40_arrays_of_padded_single_bits_begin_at_each_stride() -> None:
    """Of 33 bits in five bytes, padded to six, the first and the last are set, then the second."""
    value = b"\x01\0\0\0\x01\0" + b"\x02\0\0\0\0\0"
    data = indexed(value, rows=1, columns=33, bits=1, number_of_frames=2)
    assert anomaly_codes(data) == ["frame-padding"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert np.flatnonzero(instance.array(0)).tolist() == [0, 32]
        assert np.flatnonzero(instance.array(1)).tolist() == [1]


@pytest.mark.parametrize("number_of_frames", [2, 3])
def test_R40_swapped_pairs_of_padded_frames(number_of_frames: int) -> None:
    """In OW of Big Endian each frame of 9 bytes ends in a pair that its padding is in."""
    frame = bytes([2, 1, 4, 3, 6, 5, 8, 7, 0, 9])
    data = native_file(
        frame * number_of_frames,
        EXPLICIT_VR_BIG_ENDIAN,
        rows=3,
        columns=3,
        number_of_frames=number_of_frames,
    )
    assert anomaly_codes(data) == ["frame-padding"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [frame[:9]] * number_of_frames
        for index in range(number_of_frames):
            assert instance.array(index).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_R40_a_cut_value_of_padded_frames_loses_the_frames_that_are_not_there() -> None:
    """The element's length decides, not what the file has left."""
    value = b"abcdefghi\0ABCDEFGHI\0123"
    data = native_file(value, rows=3, columns=3, number_of_frames=3, length=30)
    assert anomaly_codes(data) == ["frame-padding", "pixel-data-short"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.frames([0, 1]) == NINE[:2]
        with pytest.raises(TruncatedFrameError):
            instance.frame(2)


def test_R40_a_last_frame_is_whole_without_its_padding() -> None:
    """A file that was cut after the last frame's last byte has lost nothing of a frame."""
    data = native_file(b"abcdefghi\0ABCDEFGHI", rows=3, columns=3, number_of_frames=2, length=20)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == NINE[:2]


AMBIGUOUS = {
    "rows padded to 4 bytes": (24, {"rows": 3, "columns": 3, "number_of_frames": 2}),
    "rows padded to 4 bytes, one frame": (12, {"rows": 3, "columns": 3}),
    "rows of 5 padded to 2 bytes, one frame": (12, {"rows": 2, "columns": 5}),
    "rows or the frame padded": (16, {"rows": 2, "columns": 3, "number_of_frames": 2}),
    "rows of single bits": (10, {"rows": 5, "columns": 9, "bits": 1}),
    "9 padded frames, 10 whole ones": (90, {"rows": 3, "columns": 3, "number_of_frames": 9}),
    "4 bytes a frame of 2, or twice the frames": (
        8,
        {"rows": 1, "columns": 2, "number_of_frames": 2},
    ),
    "3 bytes too many": (11, {"number_of_frames": 2}),
    "half a frame too much": (10, {"number_of_frames": 2}),
    "a length that is far too long": (0xFFFFFFFE, {"number_of_frames": 3}),
    "planes padded to 2 bytes, one frame": (30, {"rows": 3, "columns": 3, "samples": 3}),
}


@pytest.mark.parametrize(("length", "attributes"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_R40_a_length_of_two_readings_or_of_none_is_ambiguous(
    length: int, attributes: dict[str, Any]
) -> None:
    """No frame is served where it may begin elsewhere."""
    photometric = "RGB" if "samples" in attributes else "MONOCHROME2"
    data = native_file(bytes(min(length, 90)), length=length, photometric=photometric, **attributes)
    if "samples" in attributes:
        data = in_planes(data)
    with pytest.raises(AmbiguousFramesError, match="agrees with"):
        mmindex.scan(data)


@pytest.mark.parametrize(
    ("value", "attributes", "anomalies"),
    [
        (b"abcdefghi" * 3 + b"\0", {"rows": 3, "columns": 3, "number_of_frames": 3}, []),
        (b"abcdefghi" * 2, {"rows": 3, "columns": 3, "number_of_frames": 2}, []),
        (b"abcd" * 2 + b"\0", {"number_of_frames": 2}, []),
        (b"abcd" + b"123", {"number_of_frames": 1}, ["pixel-data-excess"]),
        (b"abcd" * 5, {"number_of_frames": 3}, ["pixel-data-excess"]),
        (b"abcdefghi" * 5 + b"\0", {"rows": 3, "columns": 3, "number_of_frames": 3}, None),
    ],
)
def test_R35_the_standard_s_length_stands_before_all_other_readings(
    value: bytes, attributes: dict[str, Any], anomalies: list[str] | None
) -> None:
    """A pad byte is no anomaly; whole frames in excess, or anything after one frame, is one."""
    data = native_file(value, **attributes)
    assert anomaly_codes(data) == (["pixel-data-excess"] if anomalies is None else anomalies)
    frame = value[: 9 if attributes.get("rows") else 4]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [frame] * attributes["number_of_frames"]


@pytest.mark.parametrize("length", [4, 20, 28, 18])
def test_R54_ybr_full_422_of_neither_length_is_ambiguous(length: int) -> None:
    """Two frames are 16 bytes or 24; other lengths that are whole frames of no kind are refused."""
    data = native_file(
        bytes(length), vr="OB", samples=3, photometric="YBR_FULL_422", number_of_frames=2
    )
    with pytest.raises(AmbiguousFramesError, match="16 or 24 bytes"):
        mmindex.scan(data)


# Samples 0x321, 0x654, 0x987 and 0xCBA of 12 bits: the lowest bits of each first.
PACKED_12 = bytes.fromhex("21 43 65 87 a9 cb")
SAMPLES_12 = [0x321, 0x654, 0x987, 0xCBA]


def test_R41_12_bits_packed(tmp_path: Path) -> None:
    """Two frames of four samples take six bytes each, without an anomaly."""
    other = PACKED_12[3:] + PACKED_12[:3]
    attributes = {"bits": 12, "number_of_frames": 2}
    assert anomaly_codes(indexed(PACKED_12 + other, **attributes)) == []
    assert_served(tmp_path, [PACKED_12, other], PACKED_12 + other, **attributes)
    with mmindex.open_file(io.BytesIO(indexed(PACKED_12 + other, **attributes))) as instance:
        assert instance.array(0).tolist() == [SAMPLES_12[:2], SAMPLES_12[2:]]
        assert instance.array(1).tolist() == [SAMPLES_12[2:], SAMPLES_12[:2]]
        assert instance.array(1).dtype == np.uint16


def test_R41_12_bits_packed_across_frames(tmp_path: Path) -> None:
    """Frames of three samples, 36 bits, follow each other without a gap: frame 1 is shifted."""
    value = bytes.fromhex("21 43 65 87 19 32 54 76 98") + b"\0"  # 321 654 987 twice
    attributes = {"rows": 1, "columns": 3, "bits": 12, "number_of_frames": 2}
    frames = [bytes.fromhex("21 43 65 87 09"), bytes.fromhex("21 43 65 87 09")]
    assert_served(tmp_path, frames, value, **attributes)
    with mmindex.open_file(io.BytesIO(indexed(value, **attributes))) as instance:
        assert instance.array(0).tolist() == [[0x321, 0x654, 0x987]]
        assert instance.array(1).tolist() == [[0x321, 0x654, 0x987]]


def test_R41_packed_samples_in_words_of_big_endian() -> None:
    """In OW of Big Endian the words of the packed bits are swapped."""
    swapped = bytes.fromhex("43 21 87 65 cb a9")
    data = native_file(swapped, EXPLICIT_VR_BIG_ENDIAN, bits=12)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.frame(0) == swapped
        assert instance.array(0).tolist() == [SAMPLES_12[:2], SAMPLES_12[2:]]


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("uid", [EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
@pytest.mark.parametrize("number_of_frames", [1, 2])
def test_R41_a_value_as_long_as_words_has_a_sample_a_word(
    bits: int, uid: str, number_of_frames: int
) -> None:
    """The length decides: two bytes a sample, with an anomaly."""
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    samples = [1, 2, 3, 4, 5, 6, 0x155, 0x3FF]
    value = struct.pack(f"{order}8H", *samples) * number_of_frames
    data = native_file(value, uid, columns=4, bits=bits, number_of_frames=number_of_frames)
    assert anomaly_codes(data) == ["bits-in-words"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [value[:16]] * number_of_frames
        last = instance.array(number_of_frames - 1)
        assert last.tolist() == [samples[:4], samples[4:]]


@pytest.mark.parametrize("frames", [1, 3])
def test_R41_words_of_32_bits(frames: int) -> None:
    """Samples of 20 bits may have four bytes each."""
    value = struct.pack("<4I", 1, 2, 0xFFFFF, 3) * frames
    data = native_file(value, bits=20, number_of_frames=frames)
    assert anomaly_codes(data) == ["bits-in-words"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.frames() == [value[:16]] * frames
        assert instance.array(frames - 1).tolist() == [[1, 2], [0xFFFFF, 3]]


PACKED_OR_NOT = {
    "neither packed nor words": (10, 12, {}),
    "packed with a pad byte, or words": (4, 12, {"rows": 1}),
    "14 bits, packed with a pad byte, or words": (8, 14, {}),
    "words with excess": (18, 12, {"number_of_frames": 2}),
    "4 bits in bytes": (8, 4, {"rows": 4}),
    "packed and padded, or words": (12, 12, {"rows": 1, "columns": 3, "number_of_frames": 2}),
}


@pytest.mark.parametrize(
    ("length", "bits", "attributes"), PACKED_OR_NOT.values(), ids=PACKED_OR_NOT
)
def test_R41_neither_packed_nor_in_words_is_ambiguous(
    length: int, bits: int, attributes: dict[str, Any]
) -> None:
    """Where both lengths fit, or none, no sample is guessed."""
    with pytest.raises(AmbiguousFramesError):
        mmindex.scan(native_file(bytes(length), bits=bits, **attributes))


@pytest.mark.parametrize("samples", [None, b""], ids=["absent", "empty"])
def test_R46_samples_per_pixel_is_one_where_the_value_is_that_long(
    samples: bytes | None, tmp_path: Path
) -> None:
    """The frames of one sample are served, and decoded."""
    attributes = {"samples": samples, "number_of_frames": 2}
    data = indexed(b"abcdABCD", **attributes)
    assert anomaly_codes(data) == ["samples-per-pixel"]
    assert_served(tmp_path, [b"abcd", b"ABCD"], b"abcdABCD", **attributes)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.array(1).tolist() == [[65, 66], [67, 68]]


@pytest.mark.parametrize(
    ("length", "photometric"),
    [(24, "MONOCHROME2"), (10, "MONOCHROME2"), (6, "MONOCHROME2"), (8, "RGB"), (0, "MONOCHROME2")],
)
def test_R46_absent_samples_per_pixel_is_refused_where_the_length_is_another(
    length: int, photometric: str
) -> None:
    """Neither three samples nor excess nor a colour space are guessed."""
    data = native_file(bytes(length), samples=None, photometric=photometric, number_of_frames=2)
    with pytest.raises(FormatError, match="Samples per Pixel is absent"):
        mmindex.scan(data)


def test_R46_floats_without_samples_per_pixel() -> None:
    """Float Pixel Data is 32 bits a sample, with or without Bits Allocated."""
    value = struct.pack("<4f", 1, 2, 3, 4)
    data = native_file(value, tag=FLOAT_PIXEL_DATA, vr="OF", samples=None, bits=None)
    assert anomaly_codes(data) == ["samples-per-pixel"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.array(0).tolist() == [[1, 2], [3, 4]]


ROWS = COLUMNS = 16384  # with 16 bits a frame of 512 MiB: nine of them are 4.5 GiB
FRAME = ROWS * COLUMNS * 2
NINE_FRAMES = 9 * FRAME


def write_sparse(path: Path, length: int, after: bytes = b"", cut: int = 0, **more: Any) -> int:
    """Write a value of nine frames whose element has `length`; return the value's offset."""
    attributes = {"rows": ROWS, "columns": COLUMNS, "bits": 16, "number_of_frames": 9, **more}
    start = native_file(b"", length=length, **attributes)
    with path.open("wb") as file:
        file.write(start)
        for frame in range(9):
            file.seek(len(start) + frame * FRAME)
            file.write(b"frame %d" % frame)
        file.seek(len(start) + NINE_FRAMES)
        file.write(after)
        file.truncate(len(start) + NINE_FRAMES + len(after) - cut)
    return len(start)


AFTER = {"end of the file": b"", "padding": element(0xFFFCFFFC, "OB", bytes(4))}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_R49_a_value_over_4_gib_whose_length_wrapped_is_served(
    tmp_path: Path, after: bytes
) -> None:
    """The file goes on to where nine frames end, 4 GiB behind the end that the length gives."""
    path = tmp_path / "a.dcm"
    value_offset = write_sparse(path, NINE_FRAMES - (1 << 32), after)
    with mmindex.open_file(path) as instance:
        assert [anomaly.code for anomaly in instance.record.anomalies] == ["length-wrapped"]
        for frame in (0, 7, 8):
            assert instance.byte_ranges(frame) == ((value_offset + frame * FRAME, FRAME),)
            assert bytes(instance.view(frame)[:7]) == b"frame %d" % frame
    path.unlink()


@pytest.mark.parametrize(
    ("length", "after", "cut"),
    [
        (NINE_FRAMES - (1 << 32), b"no element, but junk", 0),
        (NINE_FRAMES - (1 << 32), b"", 2),
        (NINE_FRAMES - (1 << 32) - FRAME, b"", 0),
    ],
    ids=["junk", "cut", "another length"],
)
def test_R49_a_value_that_does_not_end_with_its_frames_is_short(
    tmp_path: Path, length: int, after: bytes, cut: int
) -> None:
    """Where the file does not agree, only the frames within the length are served."""
    path = tmp_path / "a.dcm"
    write_sparse(path, length, after, cut)
    with mmindex.open_file(path) as instance:
        assert "length-wrapped" not in [anomaly.code for anomaly in instance.record.anomalies]
        with pytest.raises(TruncatedFrameError):
            instance.view(8)
    path.unlink()
