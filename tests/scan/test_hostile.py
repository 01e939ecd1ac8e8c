"""Cut, flipped and made-up files: nothing but MMIndexError, no other bytes, bounded memory."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    HEVC,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_BASELINE,
    PIXEL_DATA,
    PRIVATE_SEQUENCE,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    SEQUENCE_DELIMITER,
    UNDEFINED,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    item,
    native_file,
    sequence,
    written,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import check_trusted, open_proved
from pydicom_oracle import FOLDER, quiet_pydicom

import mmindex
from mmindex.errors import FormatError, MMIndexError, TruncatedFrameError
from mmindex.model import Status

Frames = list[bytes | type[MMIndexError]]

REAL = [
    *("JPEGLSNearLossless_08.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_small_odd.dcm"),
    *("SC_rgb_small_odd_big_endian.dcm", "rtdose_1frame.dcm", "SC_rgb_rle_2frame.dcm"),
    *("SC_rgb_gdcm_KY.dcm", "693_J2KI.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "image_dfl.dcm"),
    *("MR_small_jp2klossless.dcm", "rtdose_expb.dcm", "UN_sequence.dcm", "nested_priv_SQ.dcm"),
    *("examples_ybr_color.dcm", "liver_1frame.dcm", "MR_small_implicit.dcm"),
]

PARTS = [b"\xff\xd8AA", b"aa\xff\xd9", b"\xff\xd8BB\xff\xd9", b"", b"\xff\xd8C\xff\xd9"]
FRAMES_OF_PARTS = [PARTS[0] + PARTS[1], PARTS[2], PARTS[4]]
NESTED = sequence(
    PRIVATE_SEQUENCE,
    [
        item(element(0x00080060, "CS", "CT"), undefined=True),
        item(sequence(0x00880200, [item(encapsulate([b"icon"]))], undefined=True)),
    ],
    undefined=True,
)


def with_tables() -> bytes:
    """Return a file that has both offset tables."""
    data_set = image_attributes(number_of_frames=2) + extended_offset_table([0, 14], [6, 5])
    data_set += encapsulate([b"\xff\xd8AAAA", b"\xff\xd8BBB\0"], bot=[0, 14])
    return dicom_file(data_set, JPEG_2000)


MADE = {
    "split": encapsulated_file(PARTS, 3, before=NESTED),
    "table": encapsulated_file(PARTS, 3, bot=[0, 24, 46]),
    "tables": with_tables(),
    "split last": encapsulated_file([PARTS[2], *PARTS[:2]], 2),
    "split last, table": encapsulated_file([PARTS[2], *PARTS[:2]], 2, bot=[0, 14]),
    "split in the middle": encapsulated_file([PARTS[2], *PARTS[:2], PARTS[4]], 3),
    "empty first": encapsulated_file([b"", *PARTS[:2]], 1),
    "no markers, table": encapsulated_file([b"a1", b"a2", b"b1"], 2, PRIVATE_SYNTAX, bot=[0, 20]),
    "rle": encapsulated_file([b"AAAA", b"BBBBBB"], 2, RLE_LOSSLESS),
    "native": native_file(b"aaaabbbbcccc", number_of_frames=3),
    "bits": native_file(b"\xb5\x6c\x01\xff", rows=1, columns=5, bits=1, number_of_frames=6),
    "implicit": native_file(b"aaaabbbb", IMPLICIT_VR_LITTLE_ENDIAN, number_of_frames=2),
    "big-endian": native_file(b"aaaabbbb", EXPLICIT_VR_BIG_ENDIAN, number_of_frames=2),
    "stream": encapsulated_file([b"video", b"more"], 9, HEVC),
    "nested": dicom_file(NESTED + image_attributes() + element(PIXEL_DATA, "OW", b"aaaa")),
}


def read(data: bytes) -> Frames:
    """Return every frame or the class of its error; nothing else may be raised.

    All ways to a frame are tried, the record is looked at, and a video stream is read.
    """
    frames: Frames = []
    for force in (False, True):
        try:
            record = mmindex.scan(data, force=force)
        except MMIndexError:
            continue
        with open_proved(io.BytesIO(data), force=force) as instance:
            assert instance.number_of_frames == record.number_of_frames
            frames = [try_frame(instance, index) for index in range(min(len(instance), 2000))]
            with contextlib.suppress(MMIndexError):
                assert sum(map(len, instance.stream())) == instance.stream_length
        with mmindex.open_file(io.BytesIO(data), force=force, prove=False) as instance:
            count = min(len(instance), 2000)
            check_trusted([try_frame(instance, index) for index in range(count)], frames)
        break
    return frames


def try_frame(instance: mmindex.Instance, index: int) -> bytes | type[MMIndexError]:
    """Return a frame or the class of its error."""
    for read_differently in (instance.view, instance.fragments, instance.byte_ranges):
        with contextlib.suppress(MMIndexError):
            read_differently(index)
    try:
        return instance.frame(index)
    except MMIndexError as error:
        return type(error)


def assert_a_cut_is_honest(data: bytes, original: Frames, cut: int) -> None:
    """Assert that each frame of a cut file is the whole one or raises."""
    for index, frame in enumerate(read(data[:cut])):
        assert isinstance(frame, type) or frame == original[index], (cut, index)


@pytest.mark.parametrize("name", REAL)
def test_R14_a_real_file_cut_anywhere_has_its_own_frames_or_errors(name: str) -> None:
    """At every byte of a small file, and at many of a larger one."""
    data = (FOLDER / name).read_bytes()
    original = read(data)
    stride = max(1, len(data) // 700)
    for cut in [*range(0, len(data), stride), *range(max(0, len(data) - 200), len(data))]:
        assert_a_cut_is_honest(data, original, cut)


@pytest.mark.parametrize("name", MADE)
def test_R14_a_made_up_file_cut_anywhere_has_its_own_frames_or_errors(name: str) -> None:
    """At every byte, frames of several fragments, tables and bits included."""
    data = MADE[name]
    original = read(data)
    for cut in range(len(data)):
        assert_a_cut_is_honest(data, original, cut)


@pytest.mark.parametrize("name", ["split", "table"])
def test_R12_cut_frames_are_truncated_and_not_left_out(name: str) -> None:
    """As long as the number of frames is known, each is served or raises."""
    data = MADE[name]
    first_item = data.index(item(PARTS[0]))
    for cut in range(first_item, len(data)):
        found = read(data[:cut])
        assert len(found) in (0, 3)
        for frame, expected in zip(found, FRAMES_OF_PARTS, strict=False):
            assert frame in (expected, TruncatedFrameError)


LENGTHS = [b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(4)]


@pytest.mark.parametrize("name", MADE)
def test_any_four_bytes_may_be_hostile(name: str) -> None:
    """Whatever length, tag or count is overwritten, only MMIndexError comes of it."""
    data = MADE[name]
    for at in range(128, len(data) - 3):
        for length in (*LENGTHS, struct.pack("<I", len(data) - at), b"\xfe\xff\x00\xe0"):
            read(data[:at] + length + data[at + 4 :])


@pytest.mark.parametrize("name", MADE)
def test_any_stretch_may_be_repeated_or_missing(name: str) -> None:
    """Doubled and lost elements, items and halves of them are read or refused."""
    data = MADE[name]
    for start in range(128, len(data), 3):
        for length in (1, 8, 12, 20):
            read(data[: start + length] + data[start:])
            read(data[:start] + data[start + length :])


mutations = st.lists(
    st.tuples(
        st.integers(0, 2**16),
        st.sampled_from(["write", "insert", "delete", "copy"]),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(LENGTHS)),
    ),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, steps: list[tuple[int, str, bytes]]) -> bytes:
    """Return the data with these changes made, one after the other."""
    for position, kind, piece in steps:
        at = position % (len(data) + 1)
        rest = {
            "write": data[at + len(piece) :],
            "insert": data[at:],
            "delete": data[at + 4 * len(piece) :],
            "copy": data[max(0, at - 16 * len(piece)) :],
        }[kind]
        data = data[:at] + (piece if kind in ("write", "insert") else b"") + rest
    return data


@given(st.sampled_from(REAL[:-3]), mutations)
@settings(max_examples=400, deadline=None)
def test_a_mutated_real_file_raises_nothing_else(
    name: str, steps: list[tuple[int, str, bytes]]
) -> None:
    """Bytes overwritten, put in, taken out and doubled anywhere."""
    read(mutate((FOLDER / name).read_bytes(), steps))


@given(st.sampled_from(sorted(MADE)), mutations)
@settings(max_examples=600, deadline=None)
def test_a_mutated_made_up_file_raises_nothing_else(
    name: str, steps: list[tuple[int, str, bytes]]
) -> None:
    """Every byte of these is structure."""
    read(mutate(MADE[name], steps))


@given(st.sampled_from(["native", "bits", "implicit", "big-endian", "rle", "nested"]), mutations)
@settings(max_examples=300, deadline=None)
def test_arrays_of_mutated_files_raise_nothing_else(
    name: str, steps: list[tuple[int, str, bytes]]
) -> None:
    """What pydicom raises for odd attributes comes as a DecodeError."""
    data = mutate(MADE[name], [(128 + position, kind, piece) for position, kind, piece in steps])
    try:
        with open_proved(io.BytesIO(data)) as instance, quiet_pydicom():
            for index in range(min(len(instance), 20)):
                with contextlib.suppress(MMIndexError):
                    assert isinstance(instance.array(index), np.ndarray)
    except MMIndexError:
        pass


TOKENS = [
    *(b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0", b"\xe0\x7f\x10\0"),
    *(b"\x08\0\x18\0", b"\x28\0\x08\0", b"\x28\0\x10\0", b"\xe0\x7f\x01\0", b"\x99\0\x10\x10"),
    *(b"\x28\0\0\x01", b"\x28\0\x11\0", b"\x28\0\x02\0", b"SQ\0\0", b"UN\0\0", b"OW\0\0"),
    *(b"US\x02\0\x02\0", b"IS\x02\x002 ", b"UI\x04\0", b"OB\0\0", b"ZZ\0\0"),
    *(*LENGTHS, b"\x04\0\0\0", b"\x08\0\0\0", b"\xff\xd8AA", b"\0\0\0\0\0\0\0\0"),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=60), st.sampled_from([0, 1, 2, 3]))
@settings(max_examples=600, deadline=None)
def test_structure_thrown_together_raises_nothing_else(tokens: list[bytes], kind: int) -> None:
    """Tags, representations, lengths and delimiters in any order."""
    uids = [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, JPEG_BASELINE, RLE_LOSSLESS]
    data_set = b"".join(tokens)
    read(dicom_file(data_set, uids[kind]))
    read(dicom_file(image_attributes(number_of_frames=2) + data_set, uids[kind]))
    pixel_data = element(PIXEL_DATA, "OB", data_set, length=UNDEFINED)
    read(dicom_file(image_attributes(number_of_frames=2) + pixel_data, uids[kind]))


def peak_of(function: Callable[[], object]) -> int:
    """Return the most memory that a call had in use at once, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def native_of(frames: str, value: bytes = b"aaaa", **attributes: int) -> bytes:
    """Return a file that says that it has so many frames."""
    return native_file(value, number_of_frames=frames, **attributes)


GIANT = {
    "native frames": native_of("999999999999"),
    "native frames of one bit": native_of("999999999999", rows=1, columns=1, bits=1),
    "native frames of many bytes": native_of("999999999999", rows=65535, columns=65535),
    "encapsulated frames": encapsulated_file([b"\xff\xd8A\xff\xd9"], "999999999999"),
    "frames of a cut file": encapsulated_file(
        [b"\xff\xd8AA\xff\xd9"] * 3, "999999999999", delimiter=b""
    ),
    "frames of a table": encapsulated_file([b"\xff\xd8AA\xff\xd9"] * 2, "999999999999", bot=[0]),
    "a stream of frames": encapsulated_file([b"video"], "999999999999", HEVC),
    "a pixel data length": native_of("2", length=0xFFFFFFFE),
    "an item length": encapsulated_file([], 1, delimiter=b"\xfe\xff\x00\xe0\xfe\xff\xff\xff"),
    "a table length": dicom_file(
        image_attributes()
        + element(PIXEL_DATA, "OB", b"\xfe\xff\x00\xe0\xfc\xff\xff\xff", length=UNDEFINED),
        JPEG_BASELINE,
    ),
    "an extended table length": dicom_file(
        image_attributes() + element(0x7FE00001, "OV", bytes(8), length=0xFFFFFFF8), JPEG_BASELINE
    ),
    "an unknown element": dicom_file(element(0x00991010, "UN", b"", length=0xFFFFFFF0)),
    "a group length": dicom_file(image_attributes(), group_length=0xFFFFFFFF),
    "a deflated frame": encapsulated_file([b"\x78\x9c"], "999999999999", DEFLATED_IMAGE_FRAME),
}


@pytest.mark.parametrize("data", GIANT.values(), ids=GIANT.keys())
def test_a_giant_count_or_length_costs_nothing(data: bytes) -> None:
    """What a file says of itself is not allocated before it is there."""
    read(data)  # what is imported once does not count
    assert peak_of(lambda: read(data)) < 1_000_000


def zero_length_fragments(count: int, **options: object) -> bytes:
    """Return a file of so many empty fragments before one that is filled."""
    return encapsulated_file([b""] * count + [b"\xff\xd8A\xff\xd9"], 1, **options)


GALORE: dict[str, Callable[[], bytes]] = {
    "empty fragments": lambda: zero_length_fragments(50_000),
    "empty fragments of a cut file": lambda: zero_length_fragments(50_000, delimiter=b""),
    "entries that are zero": lambda: zero_length_fragments(1000, bot=bytes(400_000)),
    "entries of an extended table": lambda: dicom_file(
        image_attributes(number_of_frames=25_000)
        + extended_offset_table(range(25_000), range(25_000))
        + encapsulate([b"\xff\xd8A\xff\xd9"]),
        JPEG_BASELINE,
    ),
    "frames": lambda: encapsulated_file([b"\xff\xd8AAAA\xff\xd9"] * 25_000, 25_000),
    "padding": lambda: encapsulated_file([b"\xff\xd8", *[bytes(8)] * 25_000], 1, delimiter=b""),
    "elements": lambda: dicom_file(element(0x00080060, "CS", "CT") * 40_000),
    "empty items": lambda: dicom_file(
        sequence(PRIVATE_SEQUENCE, [item()] * 50_000, undefined=True)
    ),
    "open items": lambda: dicom_file(
        element(PRIVATE_SEQUENCE, "SQ", item(undefined=True) * 25_000, length=UNDEFINED)
        + SEQUENCE_DELIMITER
    ),
    "levels": lambda: dicom_file(
        (pack_open_sequence() + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 20_000
    ),
    "zeros": lambda: dicom_file(bytes(400_000)),
    "a UID": lambda: dicom_file(element(0x00080018, "UN", b"1" * 400_000)),
}


def pack_open_sequence() -> bytes:
    """Return the header of a sequence of undefined length."""
    return element(PRIVATE_SEQUENCE, "SQ", b"", length=UNDEFINED)


@pytest.mark.parametrize("make", GALORE.values(), ids=GALORE.keys())
def test_memory_is_bounded_by_the_file(make: Callable[[], bytes]) -> None:
    """Many small things take a fixed multiple of their bytes, and no more."""
    data = make()

    def scan() -> None:
        with contextlib.suppress(FormatError):
            mmindex.scan(data)

    scan()
    assert peak_of(scan) < 20 * len(data) + 1_000_000


def test_R4_deep_nesting_is_refused_without_recursion() -> None:
    """A hundred thousand levels end at the sixty-fourth."""
    data = GALORE["levels"]() * 5
    with pytest.raises(FormatError, match="nest over 64 levels"):
        mmindex.scan(data)


UID = element(0x00080018, "UI", "1.2.3")


def with_long_transfer_syntax_uid() -> bytes:
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020010, "UT", "1" * 70_000)
    data_set = image_attributes() + element(PIXEL_DATA, "OB", bytes(4))
    return bytes(128) + b"DICM" + meta + data_set


def test_a_transfer_syntax_uid_of_70000_bytes_is_a_format_error() -> None:
    """A UID that no record can hold is refused where it is read."""
    with pytest.raises(FormatError, match=r"Transfer Syntax UID, found 70000 bytes"):
        mmindex.scan(with_long_transfer_syntax_uid())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_build_finishes_with_a_transfer_syntax_uid_of_70000_bytes(
    tmp_path: Path, workers: int
) -> None:
    """One such file is unreadable; the others are indexed."""
    (tmp_path / "long.dcm").write_bytes(with_long_transfer_syntax_uid())
    data_set = UID + image_attributes() + element(PIXEL_DATA, "OB", b"abcd")
    written(tmp_path, dicom_file(data_set))
    report = mmindex.build(tmp_path, workers=workers)
    assert report.statuses == {"unreadable": 1, "indexed": 1}
    with mmindex.open(tmp_path) as archive:
        assert archive.frame("1.2.3", 0) == b"abcd"
        statuses = {record.path: (record.status, record.error) for record in archive.records()}
        assert statuses[b"long.dcm"] == (Status.UNREADABLE, "FormatError")
        with pytest.raises(FormatError, match="Transfer Syntax UID"):
            archive.file("long.dcm")
