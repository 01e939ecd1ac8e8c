"""Rules R30 to R36, and R21 where it is native: frames without fragments."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from child_process import little_memory
from dicom_bytes import (
    DOUBLE_FLOAT_PIXEL_DATA,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    FLOAT_PIXEL_DATA,
    IMPLICIT_VR_LITTLE_ENDIAN,
    element,
    encapsulated_file,
    native_file,
)
from outcomes import anomaly_codes, read_frames

import mmindex
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    FrameIndexError,
    NotContiguousError,
    TruncatedFrameError,
)
from mmindex.model import Boundaries, Status

NATIVE_SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]


def open_bytes(data: bytes) -> mmindex.Instance:
    """Open the file `data`."""
    return mmindex.open_file(io.BytesIO(data))


@pytest.mark.parametrize("uid", NATIVE_SYNTAXES)
def test_R30_frames_follow_each_other(uid: str) -> None:
    """Frame i starts i frame lengths after the value's start: here 12 bytes each."""
    value = bytes(range(36))
    data = native_file(value, uid, columns=3, bits=16, number_of_frames=3)
    value_offset = len(data) - 36
    with open_bytes(data) as instance:
        assert instance.number_of_frames == len(instance) == 3
        assert list(instance) == [value[0:12], value[12:24], value[24:36]]
        assert instance.byte_ranges(2) == ((value_offset + 24, 12),)
        assert bytes(instance.view(1)) == instance[1] == value[12:24]
        assert instance.view(1).readonly
        assert [bytes(fragment) for fragment in instance.fragments(1)] == [value[12:24]]
        assert instance.record.status is Status.INDEXED
        assert instance.record.boundaries is Boundaries.NATIVE
        assert instance.record.anomalies == ()


@pytest.mark.parametrize(
    ("bits", "samples", "frame_length"),
    [(8, 1, 6), (8, 3, 18), (16, 1, 12), (16, 3, 36), (32, 1, 24)],
)
def test_R30_a_frame_length_counts_samples_and_bits(
    bits: int, samples: int, frame_length: int
) -> None:
    """Rows x columns x samples x bits / 8, here of 2 x 3 pixels."""
    value = bytes(range(2 * frame_length))
    photometric = "RGB" if samples == 3 else "MONOCHROME2"
    data = native_file(
        value, columns=3, bits=bits, samples=samples, number_of_frames=2, photometric=photometric
    )
    assert read_frames(data) == [value[:frame_length], value[frame_length:]]
    assert anomaly_codes(data) == []


@pytest.mark.parametrize("uid", NATIVE_SYNTAXES)
def test_R30_an_array_has_the_byte_order_of_the_data_set(uid: str) -> None:
    """Sixteen-bit samples are decoded from either byte order."""
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    value = struct.pack(f"{order}8H", 1, 2, 3, 4, 500, 600, 700, 800)
    with open_bytes(native_file(value, uid, bits=16, number_of_frames=2)) as instance:
        np.testing.assert_array_equal(instance.array(0), [[1, 2], [3, 4]])
        np.testing.assert_array_equal(instance.array(1), [[500, 600], [700, 800]])


@pytest.mark.parametrize("frame_index", [-1, -2, 2, 2**40])
def test_R30_an_index_never_wraps_round(frame_index: int) -> None:
    """An index outside 0 to N-1 is an IndexError, negative ones too."""
    with open_bytes(native_file(bytes(8), number_of_frames=2)) as instance:
        for read in (
            *(instance.frame, instance.view, instance.fragments),
            *(instance.byte_ranges, instance.array, instance.__getitem__),
        ):
            with pytest.raises(FrameIndexError, match="range"):
                read(frame_index)


def test_R31_frames_of_single_bits_are_shifted_to_bit_0() -> None:
    """Three frames of 9 bits share bytes; each is served from its own first bit on.

    The first frame is all ones, the second has only its first pixel set (bit 9 of the
    value), the third only its last (bit 26).
    """
    value = bytes([0b11111111, 0b00000011, 0b00000000, 0b00000100])
    data = native_file(value, rows=3, columns=3, bits=1, number_of_frames=3)
    value_offset = len(data) - 4
    with open_bytes(data) as instance:
        assert [instance.byte_ranges(i) for i in range(3)] == [
            ((value_offset, 2),),
            ((value_offset + 1, 2),),
            ((value_offset + 2, 2),),
        ]
        assert list(instance) == [b"\xff\x01", b"\x01\x00", b"\x00\x01"]
        np.testing.assert_array_equal(instance.array(0), np.ones((3, 3)))
        np.testing.assert_array_equal(instance.array(1), [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
        np.testing.assert_array_equal(instance.array(2), [[0, 0, 0], [0, 0, 0], [0, 0, 1]])
        assert instance.record.anomalies == ()


def test_R31_a_frame_of_two_bytes_may_lie_in_three() -> None:
    """Frame 1 is bits 15 to 29, all ones: they touch bytes 1, 2 and 3."""
    data = native_file(b"\x00\x80\xff\x3f", rows=3, columns=5, bits=1, number_of_frames=2)
    value_offset = len(data) - 4
    with open_bytes(data) as instance:
        assert instance.byte_ranges(1) == ((value_offset + 1, 3),)
        assert list(instance) == [b"\x00\x00", b"\xff\x7f"]
        np.testing.assert_array_equal(instance.array(1), np.ones((3, 5)))
        for frame_index in (0, 1):
            with pytest.raises(NotContiguousError, match=r"bit|byte"):
                instance.view(frame_index)


def test_R31_frames_of_whole_bytes_can_be_viewed() -> None:
    """Sixteen pixels of one bit are two bytes, without a shift."""
    data = native_file(b"abcd", rows=4, columns=4, bits=1, number_of_frames=2)
    with open_bytes(data) as instance:
        assert list(instance) == [b"ab", b"cd"]
        assert bytes(instance.view(1)) == b"cd"


def test_R31_a_short_value_serves_the_frames_whose_bits_are_all_there() -> None:
    """Of three frames of 9 bits, 16 bits hold only the first."""
    data = native_file(b"\xff\x03", rows=3, columns=3, bits=1, number_of_frames=3)
    assert read_frames(data) == [b"\xff\x01", TruncatedFrameError, TruncatedFrameError]
    assert anomaly_codes(data) == ["pixel-data-short"]


@pytest.mark.parametrize(("frame_length", "anomalies"), [(8, []), (12, ["photometric-length"])])
def test_R32_ybr_full_422_has_two_bytes_a_pixel_unless_the_value_says_three(
    frame_length: int, anomalies: list[str]
) -> None:
    """Of 2 x 2 pixels, 8 bytes a frame are the standard's and 12 a writer's mistake."""
    value = bytes(range(2 * frame_length))
    data = native_file(value, vr="OB", samples=3, number_of_frames=2, photometric="YBR_FULL_422")
    assert read_frames(data) == [value[:frame_length], value[frame_length:]]
    assert anomaly_codes(data) == anomalies
    with open_bytes(data) as instance:
        assert instance.array(1).shape == (2, 2, 3)


def test_R32_a_cut_value_of_three_samples_a_pixel_is_still_three() -> None:
    """The element's length tells, 36 bytes for three frames of 12, not what the file has left."""
    value = bytes(range(30))
    attributes = {"samples": 3, "number_of_frames": 3, "photometric": "YBR_FULL_422"}
    data = native_file(value, vr="OB", length=36, **attributes)
    assert read_frames(data) == [value[:12], value[12:24], TruncatedFrameError]
    assert set(anomaly_codes(data)) == {"photometric-length", "pixel-data-short"}


def test_R33_big_endian_ow_keeps_8_bit_samples_swapped_in_pairs() -> None:
    """frame() gives what is stored; array() gives the pixels."""
    stored = bytes([2, 1, 4, 3, 6, 5, 8, 7])
    data = native_file(stored, EXPLICIT_VR_BIG_ENDIAN, vr="OW", number_of_frames=2)
    with open_bytes(data) as instance:
        assert list(instance) == [bytes([2, 1, 4, 3]), bytes([6, 5, 8, 7])]
        np.testing.assert_array_equal(instance.array(0), [[1, 2], [3, 4]])
        np.testing.assert_array_equal(instance.array(1), [[5, 6], [7, 8]])


def test_R33_odd_frames_share_a_pair() -> None:
    """Frames of 9 bytes: the last pixel of frame 0 and the first of 1 are one swapped pair."""
    stored = bytes([2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17])
    data = native_file(
        stored, EXPLICIT_VR_BIG_ENDIAN, vr="OW", rows=3, columns=3, number_of_frames=2
    )
    with open_bytes(data) as instance:
        assert list(instance) == [stored[:9], stored[9:]]
        np.testing.assert_array_equal(instance.array(0), np.arange(1, 10).reshape(3, 3))
        np.testing.assert_array_equal(instance.array(1), np.arange(10, 19).reshape(3, 3))


def test_R33_an_odd_last_frame_takes_its_last_pixel_from_behind_the_padding() -> None:
    """The ninth pixel and the padding byte are swapped like any pair."""
    stored = bytes([2, 1, 4, 3, 6, 5, 8, 7, 0, 9])
    data = native_file(stored, EXPLICIT_VR_BIG_ENDIAN, vr="OW", rows=3, columns=3)
    with open_bytes(data) as instance:
        np.testing.assert_array_equal(instance.array(0), np.arange(1, 10).reshape(3, 3))
        assert instance.record.anomalies == ()


def test_R33_ob_is_not_swapped() -> None:
    """Big endian has no meaning for OB."""
    data = native_file(bytes([1, 2, 3, 4]), EXPLICIT_VR_BIG_ENDIAN, vr="OB")
    with open_bytes(data) as instance:
        np.testing.assert_array_equal(instance.array(0), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("tag", "vr", "letter", "bits"),
    [(FLOAT_PIXEL_DATA, "OF", "f", 32), (DOUBLE_FLOAT_PIXEL_DATA, "OD", "d", 64)],
    ids=["float", "double"],
)
@pytest.mark.parametrize("uid", NATIVE_SYNTAXES)
def test_R34_float_frames_have_32_and_64_bits_a_sample(
    tag: int, vr: str, letter: str, bits: int, uid: str
) -> None:
    """Float and Double Float Pixel Data are served and decoded as floats."""
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    value = struct.pack(f"{order}8{letter}", 0.5, 1, 2, 3, -4.25, 5, 6, 7)
    data = native_file(value, uid, tag=tag, vr=vr, bits=bits, number_of_frames=2)
    frame_length = bits // 2
    assert read_frames(data) == [value[:frame_length], value[frame_length:]]
    with open_bytes(data) as instance:
        assert instance.array(1).dtype.itemsize == bits // 8
        np.testing.assert_array_equal(instance.array(0), [[0.5, 1], [2, 3]])
        np.testing.assert_array_equal(instance.array(1), [[-4.25, 5], [6, 7]])


def test_R34_floats_need_no_bits_allocated() -> None:
    """The element itself says how long a sample is."""
    data = native_file(
        bytes(range(32)), tag=FLOAT_PIXEL_DATA, vr="OF", bits=None, number_of_frames=2
    )
    assert read_frames(data) == [bytes(range(16)), bytes(range(16, 32))]


def test_R35_one_pad_byte_is_normal() -> None:
    """Nine bytes of pixels are padded to ten."""
    data = native_file(b"123456789\0", rows=3, columns=3)
    assert read_frames(data) == [b"123456789"]
    assert anomaly_codes(data) == []


def test_R35_excess_frames_are_not_served() -> None:
    """NumberOfFrames counts, not the value's length."""
    data = native_file(b"one.two.more", number_of_frames=2)
    assert read_frames(data) == [b"one.", b"two."]
    assert anomaly_codes(data) == ["pixel-data-excess"]


def test_R35_an_excess_frame_of_odd_length_is_seen() -> None:
    """Eighteen bytes are two frames of nine, not one and its padding."""
    data = native_file(b"123456789abcdefghi", rows=3, columns=3, number_of_frames=1)
    assert read_frames(data) == [b"123456789"]
    assert anomaly_codes(data) == ["pixel-data-excess"]


@pytest.mark.parametrize("value", [b"one.two.th", b"one.two.", b"one.two.thr"])
def test_R35_of_a_short_value_complete_frames_are_served(value: bytes) -> None:
    """Frames that are all there are served, the third is lost."""
    data = native_file(value, number_of_frames=3)
    assert read_frames(data) == [b"one.", b"two.", TruncatedFrameError]
    assert anomaly_codes(data) == ["pixel-data-short"]


def test_R35_a_short_value_does_not_borrow_from_what_follows_it() -> None:
    """Elements behind the pixel data are in no frame."""
    padding = element(0xFFFCFFFC, "OB", b"padding." * 4)
    data = native_file(b"one.two.", number_of_frames=3) + padding
    assert read_frames(data) == [b"one.", b"two.", TruncatedFrameError]
    assert anomaly_codes(data) == ["pixel-data-short"]


@pytest.mark.parametrize("length", [12, 4000])
def test_R35_a_value_cut_by_the_end_of_the_file_is_short(length: int) -> None:
    """The element promises more than the file has."""
    data = native_file(b"one.two.th", number_of_frames=3, length=length)
    assert read_frames(data) == [b"one.", b"two.", TruncatedFrameError]
    assert "pixel-data-short" in anomaly_codes(data)


def test_R35_a_lost_frame_is_lost_to_every_reader() -> None:
    """No way of reading returns a part of a frame."""
    with open_bytes(native_file(b"one.tw", number_of_frames=2)) as instance:
        assert len(instance) == 2
        for read in (
            *(instance.frame, instance.view, instance.fragments),
            *(instance.byte_ranges, instance.array),
        ):
            with pytest.raises(TruncatedFrameError, match="1"):
                read(1)


def test_R35_an_empty_value_has_no_frame() -> None:
    """Pixel data of length 0 has lost its only frame."""
    data = native_file(b"")
    assert read_frames(data) == [TruncatedFrameError]
    assert anomaly_codes(data) == ["pixel-data-short"]


def test_R35_a_giant_number_of_frames_costs_nothing() -> None:
    """2147483647 frames that are not there take no memory."""
    data = native_file(b"one.two.", number_of_frames=2147483647)
    with little_memory(), open_bytes(data) as instance:
        assert len(instance) == 2147483647
        assert [instance.frame(0), instance.frame(1)] == [b"one.", b"two."]
        with pytest.raises(TruncatedFrameError, match=r"2147483646|missing"):
            instance.frame(2147483646)


NEEDED = {
    "rows": "(?i)rows",
    "columns": "(?i)columns",
    "samples": "(?i)samples.?per.?pixel",
    "bits": "(?i)bits.?allocated",
}


@pytest.mark.parametrize("value", [None, 0, b""], ids=["absent", "zero", "empty"])
@pytest.mark.parametrize(("attribute", "name"), NEEDED.items())
def test_R36_native_frames_need_their_attributes(
    attribute: str, name: str, value: int | bytes | None
) -> None:
    """The error names the attribute that is absent or zero, in a value of no single sample."""
    with pytest.raises(FormatError, match=name):
        mmindex.scan(native_file(b"12345678", **{attribute: value}))


def test_R36_encapsulated_frames_are_served_without_the_attributes() -> None:
    """Fragments have lengths of their own; only a native frame's must be computed."""
    data = encapsulated_file([b"\xff\xd8frame1\xff\xd9"])
    rows, columns = b"\x28\0\x10\0US\x02\0\x02\0", b"\x28\0\x11\0US\x02\0\x02\0"
    assert rows + columns in data
    assert read_frames(data.replace(rows + columns, b"")) == [b"\xff\xd8frame1\xff\xd9"]


@pytest.mark.parametrize(
    ("number_of_frames", "anomalies"),
    [
        (None, []),
        ("1", []),
        (" 1", []),
        ("0", ["number-of-frames"]),
        ("", ["number-of-frames"]),
        ("many", ["number-of-frames"]),
        ("1\\2", ["number-of-frames"]),
    ],
)
def test_R21_native_pixel_data_has_one_frame_unless_it_says_more(
    number_of_frames: str | None, anomalies: list[str]
) -> None:
    """An absent number of frames is 1; one that is 0 or no number is 1 with an anomaly."""
    data = native_file(b"1234", number_of_frames=number_of_frames)
    assert read_frames(data) == [b"1234"]
    assert anomaly_codes(data) == anomalies


def ybr_422(length: int, number_of_frames: int | None) -> bytes:
    """Return 2 by 2 pixels of YBR_FULL_422: 8 bytes of two samples a pixel, 12 of three."""
    return native_file(
        bytes(range(length)),
        vr="OB",
        samples=3,
        photometric="YBR_FULL_422",
        number_of_frames=number_of_frames,
    )


YBR_422 = {
    "two samples": (16, 2, 8),
    "three samples": (24, 2, 12),
    "exactly N of two, though whole ones of three": (24, 3, 8),
}


@pytest.mark.parametrize(("length", "frames", "frame_length"), YBR_422.values(), ids=YBR_422)
def test_R32_the_samples_of_YBR_FULL_422_follow_from_whole_frames(
    length: int, frames: int | None, frame_length: int
) -> None:
    """A value that is exactly N frames of one kind is of that kind."""
    record = mmindex.scan(ybr_422(length, frames))
    assert record.frames is not None
    assert record.frames.frame_bits == frame_length * 8
    codes = [anomaly.code for anomaly in record.anomalies]
    assert ("photometric-length" in codes) == (frame_length == 12)


NEITHER = {
    "excess of three": (36, 2),
    "excess of three, N absent": (36, None),
    "excess of three, one frame": (60, 1),
    "excess of two": (32, 2),
    "excess of two, N absent": (16, None),
    "short, but whole ones of three": (36, 10),
    "short, whole ones of two": (16, 10),
    "excess of both": (24, 1),
    "excess of both, N absent": (24, None),
    "excess of both, two frames": (48, 2),
    "excess of two, not of three": (48, 3),
    "excess of both, four frames": (72, 4),
}


@pytest.mark.parametrize(("length", "frames"), NEITHER.values(), ids=NEITHER)
def test_R54_a_value_of_YBR_FULL_422_that_is_exactly_neither_length_is_ambiguous(
    length: int, frames: int | None
) -> None:
    """No frame is served where the length is that of N frames of neither kind."""
    with pytest.raises(AmbiguousFramesError, match="agrees with"):
        mmindex.scan(ybr_422(length, frames))
