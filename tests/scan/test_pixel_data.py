"""Rules R10, R46, R48 and R55: fragments, native frames or a codestream where others belong."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    HTJ2K,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    JPEG_XL,
    PIXEL_DATA,
    RLE_LOSSLESS,
    UNDEFINED,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    item,
    native_file,
)
from outcomes import anomaly_codes

import mmindex
from mmindex.errors import AmbiguousFramesError, FormatError, TruncatedFrameError
from mmindex.model import Boundaries

UID = element(0x00080018, "UI", "1.2.3")


def assert_served(folder: Path, data: bytes, frames: list[bytes]) -> None:
    """Assert that the file gives `frames` from memory, from its path, and by an index."""
    path = folder / "a.dcm"
    path.write_bytes(data)
    mmindex.build(folder, workers=1)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == frames
    with mmindex.open_file(path) as instance:
        assert instance.frames() == frames
        assert [bytes(instance.view(index)) for index in range(len(frames))] == frames
    with mmindex.open(folder) as archive:
        assert [archive.frame("1.2.3", index) for index in range(len(frames))] == frames


def in_fragment(value: bytes, uid: str, fragments: int = 1, **attributes: Any) -> bytes:
    """Return a file of a native syntax whose samples are in a fragment."""
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    implicit = uid == IMPLICIT_VR_LITTLE_ENDIAN
    length = len(value) // fragments
    items = item(order=order) + b"".join(
        item(value[at : at + length], order=order) for at in range(0, len(value), length)
    )
    end = struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
    data_set = element(0x00080018, "UI", "1.2.3", order=order, implicit=implicit)
    data_set += image_attributes(order=order, implicit=implicit, **attributes)
    return dicom_file(
        data_set
        + element(PIXEL_DATA, "OB", items + end, order=order, implicit=implicit, length=UNDEFINED),
        uid,
    )


@pytest.mark.parametrize(
    "uid", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
)
@pytest.mark.parametrize("number_of_frames", [1, 3])
def test_R48_native_frames_lie_in_the_only_fragment(
    uid: str, number_of_frames: int, tmp_path: Path
) -> None:
    """A fragment that is exactly N native frames long holds them, one after the other."""
    frames = [b"abcd", b"ABCD", b"1234"][:number_of_frames]
    data = in_fragment(b"".join(frames), uid, number_of_frames=number_of_frames)
    assert anomaly_codes(data) == ["encapsulated-under-native", "native-in-fragment"]
    assert mmindex.scan(data).boundaries is Boundaries.NATIVE
    assert_served(tmp_path, data, frames)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.array(0).tolist() == [[97, 98], [99, 100]]


def test_R48_odd_frames_in_a_fragment_have_no_padding(tmp_path: Path) -> None:
    """Two frames of nine bytes are 18; a single one has a pad byte that is not of the frame."""
    two = in_fragment(
        b"abcdefghiABCDEFGHI", EXPLICIT_VR_LITTLE_ENDIAN, rows=3, columns=3, number_of_frames=2
    )
    assert_served(tmp_path, two, [b"abcdefghi", b"ABCDEFGHI"])
    one = in_fragment(b"abcdefghi\0", EXPLICIT_VR_LITTLE_ENDIAN, rows=3, columns=3)
    assert_served(tmp_path, one, [b"abcdefghi"])


def test_R48_single_bits_in_a_fragment() -> None:
    """Bits run on across frames within a fragment, too: 9 bits a frame, all set, then the first."""
    data = in_fragment(
        b"\xff\x03\0\0", EXPLICIT_VR_LITTLE_ENDIAN, rows=3, columns=3, bits=1, number_of_frames=3
    )
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [b"\xff\x01", b"\x01\0", b"\0\0"]


def test_R48_two_fragments_of_two_frames_are_fragments() -> None:
    """As many fragments as frames are one each, as before."""
    data = in_fragment(b"abcdABCD", EXPLICIT_VR_LITTLE_ENDIAN, 2, number_of_frames=2)
    assert anomaly_codes(data) == ["encapsulated-under-native"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [b"abcd", b"ABCD"]


@pytest.mark.parametrize("length", [7, 10, 12])
def test_R48_a_fragment_of_another_length_is_not_cut_into_frames(length: int) -> None:
    """One fragment cannot be two frames unless it is exactly as long."""
    data = in_fragment(bytes(length), EXPLICIT_VR_LITTLE_ENDIAN, number_of_frames=2)
    with pytest.raises(FormatError):
        mmindex.scan(data)


def test_R48_a_fragment_that_is_cut_holds_no_frames() -> None:
    """The file ends within the fragment: nothing says how long it was meant to be."""
    data = in_fragment(b"abcdABCD", EXPLICIT_VR_LITTLE_ENDIAN, number_of_frames=2)
    cut = data[: data.index(b"abcdABCD") + 6]
    with pytest.raises(FormatError):
        mmindex.scan(cut)


def test_R48_a_fragment_at_the_end_of_the_file_needs_no_delimiter() -> None:
    """The end of the file is as good as the delimiter, with its anomaly."""
    data = in_fragment(b"abcdABCD", EXPLICIT_VR_LITTLE_ENDIAN, number_of_frames=2)[:-8]
    assert "missing-sequence-delimiter" in anomaly_codes(data)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [b"abcd", b"ABCD"]


def test_R48_native_frames_in_a_fragment_of_a_deflated_data_set() -> None:
    """Offsets count in the inflated data set."""
    data_set = image_attributes(number_of_frames=2) + encapsulate([b"abcdABCD"])
    squeeze = zlib.compressobj(wbits=-15)
    data = dicom_file(
        squeeze.compress(data_set) + squeeze.flush(), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [b"abcd", b"ABCD"]


def bare(value: bytes, uid: str, length: int | None = None, **attributes: Any) -> bytes:
    """Return a file of an encapsulated syntax whose pixel data is a value without items."""
    data_set = UID + image_attributes(**attributes)
    return dicom_file(data_set + element(PIXEL_DATA, "OB", value, length=length), uid)


CODESTREAMS = {
    "JPEG": (JPEG_BASELINE, b"\xff\xd8 a codestream \xff\xd9"),
    "JPEG-LS": (JPEG_LS, b"\xff\xd8\xff\xf7 a codestream \xff\xd9"),
    "JPEG 2000": (JPEG_2000, b"\xff\x4f\xff\x51 a codestream \xff\xd9"),
    "JP2": (JPEG_2000, b"\0\0\0\x0cjP  \r\n\x87\n and boxes"),
    "HTJ2K": (HTJ2K, b"\xff\x4f\xff\x51 a codestream \xff\xd9"),
    "JPEG XL": (JPEG_XL, b"\xff\x0a a codestream"),
    "RLE": (RLE_LOSSLESS, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x03abcd\0"),
}


@pytest.mark.parametrize(("uid", "value"), CODESTREAMS.values(), ids=CODESTREAMS)
@pytest.mark.parametrize("number_of_frames", [None, 1])
def test_R48_a_bare_codestream_is_the_frame(
    uid: str, value: bytes, number_of_frames: int | None, tmp_path: Path
) -> None:
    """A value that begins with the codec's start marker is the only frame."""
    data = bare(value, uid, number_of_frames=number_of_frames)
    assert anomaly_codes(data) == ["bare-codestream"]
    assert_served(tmp_path, data, [value])
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.byte_ranges(0) == ((len(data) - len(value), len(value)),)
        assert [bytes(piece) for piece in instance.fragments(0)] == [value]
        assert [bytes(piece) for piece in instance.all_fragments()] == [value]


@pytest.mark.parametrize(
    ("uid", "value", "number_of_frames"),
    [
        (JPEG_BASELINE, b"\xff\xd8 a codestream \xff\xd9", 2),
        (JPEG_BASELINE, b"\xff\x4f another codec's", 1),
        (JPEG_BASELINE, b"\xff", 1),
        (JPEG_BASELINE, b"", 1),
        (JPEG_2000, b"\xff\xd8 another codec's", 1),
        (RLE_LOSSLESS, struct.pack("<16I", 16, 64, *[0] * 14), 1),
    ],
)
def test_R48_a_value_without_the_marker_or_of_several_frames_is_a_format_error(
    uid: str, value: bytes, number_of_frames: int
) -> None:
    """Nothing says where the frames are."""
    with pytest.raises(FormatError, match="expected fragments under"):
        mmindex.scan(bare(value, uid, number_of_frames=number_of_frames))


def test_R48_a_bare_codestream_that_is_cut_is_truncated() -> None:
    """A frame that runs past the end of the file is not served in part."""
    data = bare(b"\xff\xd8 a codestr", JPEG_BASELINE, length=40)
    assert anomaly_codes(data) == ["bare-codestream", "truncated-fragment"]
    with mmindex.open_file(io.BytesIO(data)) as instance, pytest.raises(TruncatedFrameError):
        instance.frame(0)


@pytest.mark.parametrize("uid", [JPEG_BASELINE, JPEG_LS, JPEG_2000, JPEG_XL, RLE_LOSSLESS])
@pytest.mark.parametrize("number_of_frames", [1, 2])
def test_R55_native_frames_under_an_encapsulated_syntax(
    uid: str, number_of_frames: int, tmp_path: Path
) -> None:
    """A value that is exactly the native frames long is native, and decoded so."""
    frames = [b"abcd", b"ABCD"][:number_of_frames]
    data = bare(b"".join(frames), uid, number_of_frames=number_of_frames)
    assert anomaly_codes(data) == ["native-under-encapsulated"]
    assert mmindex.scan(data).boundaries is Boundaries.NATIVE
    assert_served(tmp_path, data, frames)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.array(0).tolist() == [[97, 98], [99, 100]]


def test_R55_colours_and_a_pad_byte(tmp_path: Path) -> None:
    """Three samples of nine pixels are 27 bytes and a pad byte."""
    value = bytes(range(27))
    attributes = {"rows": 3, "columns": 3, "samples": 3, "photometric": "RGB"}
    data = bare(value + b"\0", JPEG_BASELINE, **attributes)
    assert anomaly_codes(data) == ["native-under-encapsulated"]
    assert_served(tmp_path, data, [value])


def test_R55_native_frames_that_are_cut_are_short() -> None:
    """The element's length tells that they are native; the file has only one of two."""
    data = bare(b"abcdAB", JPEG_BASELINE, length=8, number_of_frames=2)
    assert anomaly_codes(data) == ["native-under-encapsulated", "pixel-data-short"]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.frame(0) == b"abcd"
        with pytest.raises(TruncatedFrameError):
            instance.frame(1)


@pytest.mark.parametrize("length", [3, 6, 12, 16])
def test_R55_a_value_of_another_length_is_a_format_error(length: int) -> None:
    """Neither padded nor excessive native frames are guessed under an encapsulated syntax."""
    with pytest.raises(FormatError, match="expected fragments under"):
        mmindex.scan(bare(bytes(length), JPEG_BASELINE, number_of_frames=2))


def test_R48_R55_a_marker_and_the_native_length_contradict_each_other() -> None:
    """Four bytes that begin like a JPEG codestream and are one native frame long are neither."""
    with pytest.raises(AmbiguousFramesError, match="begins like a codestream"):
        mmindex.scan(bare(b"\xff\xd8\xff\xd9", JPEG_BASELINE))


def test_R10_items_in_a_defined_length_under_a_native_syntax(tmp_path: Path) -> None:
    """A value that begins with an item and is not as long as the frames is read as items."""
    items = encapsulate([b"abcd", b"ABCD"], defined=True)
    data = dicom_file(UID + image_attributes(number_of_frames=2) + items)
    assert sorted(anomaly_codes(data)) == [
        "defined-length-encapsulated",
        "encapsulated-under-native",
    ]
    assert_served(tmp_path, data, [b"abcd", b"ABCD"])


def test_R10_native_frames_may_begin_like_an_item() -> None:
    """Of a value as long as its frames, the first pixels are pixels."""
    value = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = native_file(value, number_of_frames=2)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert list(instance) == [value[:4], value[4:]]
    assert anomaly_codes(data) == []


UNCLEAN = {
    "newline": b"2\n",
    "tab": b"\t2",
    "decimal point": b"2.0 ",
    "point alone": b"2.",
    "several values": b"2\\2 ",
}


def with_number_of_frames(text: bytes, vr: str, pixel_data: bytes, uid: str) -> bytes:
    return dicom_file(UID + image_attributes() + element(0x00280008, vr, text) + pixel_data, uid)


@pytest.mark.parametrize("text", UNCLEAN.values(), ids=UNCLEAN)
def test_R46_a_number_of_frames_that_is_not_clean_counts_where_the_value_is_that_long(
    text: bytes, tmp_path: Path
) -> None:
    """Eight bytes are two frames of four; the text is an anomaly."""
    native = element(PIXEL_DATA, "OW", b"abcdABCD")
    data = with_number_of_frames(text, "IS", native, EXPLICIT_VR_LITTLE_ENDIAN)
    assert anomaly_codes(data) == ["number-of-frames"]
    assert_served(tmp_path, data, [b"abcd", b"ABCD"])


@pytest.mark.parametrize(("vr", "value"), [("US", b"\2\0"), ("UL", b"\2\0\0\0"), ("SS", b"\2\0")])
def test_R46_a_binary_number_of_frames(vr: str, value: bytes, tmp_path: Path) -> None:
    """A number in place of text is the number that the length confirms."""
    native = element(PIXEL_DATA, "OW", b"abcdABCD")
    data = with_number_of_frames(value, vr, native, EXPLICIT_VR_LITTLE_ENDIAN)
    assert anomaly_codes(data) == ["number-of-frames"]
    assert_served(tmp_path, data, [b"abcd", b"ABCD"])


@pytest.mark.parametrize("text", [b"3.0 ", b"2.5 ", b"two "])
def test_R46_a_number_that_the_length_does_not_confirm_is_none(text: bytes) -> None:
    """As with any number that cannot be read, there is one frame."""
    native = element(PIXEL_DATA, "OW", b"abcdABCDabcdABCD")
    data = with_number_of_frames(text, "IS", native, EXPLICIT_VR_LITTLE_ENDIAN)
    assert "number-of-frames" in anomaly_codes(data)
    assert mmindex.scan(data).number_of_frames == 1
