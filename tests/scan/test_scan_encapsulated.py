"""Rules R10 to R21: where the frames of encapsulated pixel data begin and end.

Three whole frames, A, B and C, take items of 14, 16 and 18 bytes; two halved ones take
items of 12 and 14 (HEAD_1, TAIL_1) and of 12 and 12 bytes (HEAD_2, TAIL_2).
"""

from __future__ import annotations

import io
import mmap
import os
import struct
from pathlib import Path

import pytest
from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    EXPLICIT_VR_LITTLE_ENDIAN,
    HEVC,
    HTJ2K,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JP2_BOX,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    JPEG_XL,
    JXL_BOX,
    PIXEL_DATA,
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
)
from outcomes import anomaly_codes, read_frames

import mmindex
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    NotAddressableError,
    TruncatedFrameError,
)
from mmindex.model import Boundaries, Status

A, B, C = b"\xff\xd8AA\xff\xd9", b"\xff\xd8BBBB\xff\xd9", b"\xff\xd8CCCCCC\xff\xd9"
HEAD_1, TAIL_1 = b"\xff\xd8AA", b"aaaa\xff\xd9"
HEAD_2, TAIL_2 = b"\xff\xd8BB", b"bb\xff\xd9"
HALVES = [HEAD_1, TAIL_1, HEAD_2, TAIL_2]
WHOLE = [HEAD_1 + TAIL_1, HEAD_2 + TAIL_2]
ONE_FRAGMENT_SYNTAXES = [RLE_LOSSLESS, ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME]
GIB = 2**30


@pytest.mark.parametrize("implicit", [False, True])
def test_R10_undefined_length_is_encapsulated_whatever_the_syntax(implicit: bool) -> None:
    """Items under a native transfer syntax are read as items."""
    uid = IMPLICIT_VR_LITTLE_ENDIAN if implicit else EXPLICIT_VR_LITTLE_ENDIAN
    data_set = image_attributes(number_of_frames=2, implicit=implicit)
    data = dicom_file(data_set + encapsulate([A, B], implicit=implicit), uid)
    assert read_frames(data) == [A, B]
    assert anomaly_codes(data) == ["encapsulated-under-native"]


@pytest.mark.parametrize("delimiter", [SEQUENCE_DELIMITER, b""])
def test_R10_a_defined_length_that_begins_with_an_item_is_parsed_as_items(delimiter: bytes) -> None:
    """The value is bounded by its length and needs no delimiter."""
    pixel_data = encapsulate([A, B], bot=[0, 14], delimiter=delimiter, defined=True)
    after = element(0xFFFCFFFC, "OB", item(b"no frame"))
    data = dicom_file(image_attributes(number_of_frames=2) + pixel_data + after, JPEG_BASELINE)
    assert read_frames(data) == [A, B]
    assert anomaly_codes(data) == ["defined-length-encapsulated"]


@pytest.mark.parametrize("value", [b"", bytes(16)], ids=["empty", "zeros"])
def test_R10_a_defined_length_without_items_is_a_format_error(value: bytes) -> None:
    """Neither native nor encapsulated: there is no safe reading."""
    data = dicom_file(image_attributes() + element(PIXEL_DATA, "OB", value), JPEG_BASELINE)
    with pytest.raises(FormatError, match="0x"):
        mmindex.scan(data)


HOSTILE = {
    "sequence-delimiter": b"\xff\xd8" + SEQUENCE_DELIMITER + b"\xff\xd9",
    "item-delimiter": b"\xff\xd8" + b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xff\xd9",
    "item": b"\xff\xd8" + item(b"\xff\xd8") + b"\xff\xd9",
    "end-of-image": b"\xff\xd8\xff\xd9more\xff\xd9",
    "pixel-data-element": b"\xff\xd8\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xff\xd9",
}


@pytest.mark.parametrize("fragment", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("delimiter", [SEQUENCE_DELIMITER, b""], ids=["delimiter", "cut"])
def test_R11_a_fragment_may_contain_any_bytes(fragment: bytes, delimiter: bytes) -> None:
    """Only lengths lead from item to item; no byte pattern ends a fragment."""
    data = encapsulated_file([fragment, B, fragment], 3, delimiter=delimiter)
    assert read_frames(data) == [fragment, B, fragment]


def test_R11_byte_ranges_are_the_values_of_items() -> None:
    """Without a table the items lie 12 + 8 bytes behind the pixel data element."""
    data = encapsulated_file(HALVES, 2)
    first_item = len(data) - 8 - 12 - 12 - 14 - 12
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.byte_ranges(0) == ((first_item + 8, 4), (first_item + 20, 6))
        assert instance.byte_ranges(1) == ((first_item + 34, 4), (first_item + 46, 4))
        assert [bytes(fragment) for fragment in instance.fragments(1)] == [HEAD_2, TAIL_2]
        assert list(instance) == WHOLE


@pytest.mark.parametrize("length", [0, 1, 1000, UNDEFINED])
def test_R12_the_length_of_the_delimiter_is_ignored(length: int) -> None:
    """The walk ends at the tag (FFFE,E0DD)."""
    data = encapsulated_file([A, B], 2, delimiter=b"\xfe\xff\xdd\xe0" + struct.pack("<I", length))
    assert read_frames(data) == [A, B]


@pytest.mark.parametrize(
    "after",
    [
        element(0xFFFCFFFC, "OB", bytes(20)),
        element(0x7FE10010, "LO", "private"),
        b"foreign!" * 4,
        item(B),
    ],
    ids=["padding", "private", "foreign", "item"],
)
@pytest.mark.parametrize("number_of_frames", [1, 2])
def test_R12_what_follows_the_delimiter_belongs_to_no_frame(
    after: bytes, number_of_frames: int
) -> None:
    """The last frame never reads on to the end of the file."""
    frames = [A, B] if number_of_frames == 2 else [HEAD_1 + TAIL_1]
    fragments = [A, B] if number_of_frames == 2 else [HEAD_1, TAIL_1]
    data = encapsulated_file(fragments, number_of_frames, after=after)
    assert read_frames(data) == frames


@pytest.mark.parametrize("number_of_frames", [1, 3])
@pytest.mark.parametrize(
    ("end", "anomaly"),
    [
        (b"", "missing-sequence-delimiter"),
        (bytes(8), "junk-after-fragments"),
        (bytes(1000), "junk-after-fragments"),
        (b"foreign bytes behind", "junk-after-fragments"),
        (element(0xFFFCFFFC, "OB", bytes(20)), "junk-after-fragments"),
        (b"\xfe\xff\x0d\xe0\0\0\0\0", "junk-after-fragments"),
    ],
    ids=["end-of-file", "zeros", "many-zeros", "foreign", "element", "item-delimiter"],
)
def test_R12_fragments_without_a_delimiter_end_where_items_end(
    end: bytes, anomaly: str, number_of_frames: int
) -> None:
    """Complete items are served, and what ends them is recorded."""
    fragments = [A, B, C] if number_of_frames == 3 else [HEAD_1, b"more", TAIL_1]
    data = encapsulated_file(fragments, number_of_frames, delimiter=end)
    assert read_frames(data) == (
        [A, B, C] if number_of_frames == 3 else [HEAD_1 + b"more" + TAIL_1]
    )
    assert anomaly_codes(data) == [anomaly]


@pytest.mark.parametrize("end", [b"\xfe", b"\xfe\xff\xdd\xe0", b"\xfe\xff\0\xe0\x06\0\0"])
def test_R12_half_a_header_at_the_end_of_the_file_is_no_item(end: bytes) -> None:
    """Complete items before it stay frames."""
    assert read_frames(encapsulated_file([A, B], 2, delimiter=end)) == [A, B]


def test_R12_a_cut_file_whose_fragments_are_no_frames_is_ambiguous() -> None:
    """Two of four halves are left: as many as frames, but the second begins none."""
    data = encapsulated_file([HEAD_1, TAIL_1], 2, delimiter=b"")
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(data)


@pytest.mark.parametrize(
    ("fragments", "uid"),
    [([A, B], JPEG_BASELINE), ([b"one.", b"two."], RLE_LOSSLESS)],
    ids=["start-markers", "one-fragment-syntax"],
)
def test_R12_a_cut_file_serves_the_frames_it_has(fragments: list[bytes], uid: str) -> None:
    """Whole frames before the cut are served, the others are lost."""
    data = encapsulated_file(fragments, 4, uid, delimiter=b"")
    assert read_frames(data) == [*fragments, TruncatedFrameError, TruncatedFrameError]


def test_R12_a_cut_file_of_fewer_fragments_than_frames_may_be_undecidable() -> None:
    """Two fragments of which one begins no frame do not say which of three frames they are."""
    with pytest.raises(FormatError, match="fragment"):
        mmindex.scan(encapsulated_file([HEAD_1, TAIL_1], 3, delimiter=b""))


@pytest.mark.parametrize("uid", [JPEG_BASELINE, JPEG_LS])
def test_R12_a_cut_last_frame_without_its_end_marker_is_truncated(uid: str) -> None:
    """The cut fell between two fragments: the last frame lacks its tail, the others do not."""
    cut = encapsulated_file([HEAD_1, TAIL_1, HEAD_2], 2, uid, delimiter=b"")
    assert read_frames(cut) == [HEAD_1 + TAIL_1, TruncatedFrameError]
    assert read_frames(encapsulated_file([HEAD_1], 1, uid, delimiter=b"")) == [TruncatedFrameError]


@pytest.mark.parametrize(
    "rest",
    [
        [b"aa\xff\xd9"],
        [b"aa\xff\xd9\0"],
        [b"aa\xff\xd9\xff\xff"],
        [b"aa\xff\xd9\0\xff\0"],
        [b"aa\xff\xd9" + bytes(100)],
        [b"aa\xff\xd9", b""],
        [b"aa\xff", b"\xd9"],
        [b"aa\xff\xd9", bytes(2)],
    ],
    ids=[
        *("whole", "padded", "filled", "both", "long-padding"),
        *("empty-item", "marker-in-two-items", "padding-item"),
    ],
)
@pytest.mark.parametrize("number_of_frames", [1, 2])
def test_R12_a_cut_last_frame_with_its_end_marker_is_served(
    rest: list[bytes], number_of_frames: int
) -> None:
    """An end marker, padding of 00 and FF aside, vouches for the frame that the cut follows."""
    before = [HEAD_1, TAIL_1] * (number_of_frames - 1)
    data = encapsulated_file([*before, b"\xff\xd8", *rest], number_of_frames, delimiter=b"")
    assert read_frames(data)[-1] == b"\xff\xd8" + b"".join(rest)


def test_R12_a_table_of_a_cut_file_tells_which_frames_are_lost() -> None:
    """Entries beyond the end of the file are the lost frames."""
    data = encapsulated_file([A, B], 4, bot=[0, 14, 30, 48], delimiter=b"")
    assert read_frames(data) == [A, B, TruncatedFrameError, TruncatedFrameError]


@pytest.mark.parametrize("uid", [JPEG_BASELINE, JPEG_XL, PRIVATE_SYNTAX])
def test_R12_a_table_of_a_cut_file_tells_which_frame_is_not_all_there(uid: str) -> None:
    """Frame 1 would end at 50 and its items end at 38: its second half is lost."""
    data = encapsulated_file([HEAD_1, TAIL_1, HEAD_2], 3, uid, bot=[0, 26, 50], delimiter=b"")
    assert read_frames(data) == [HEAD_1 + TAIL_1, TruncatedFrameError, TruncatedFrameError]


@pytest.mark.parametrize("bot", [b"", bytes(4)], ids=["no-table", "table"])
@pytest.mark.parametrize("position", [0, 1])
def test_R13_an_item_of_undefined_length_is_a_format_error(position: int, bot: bytes) -> None:
    """Neither the table nor a fragment may have an undefined length."""
    items = [item(bot), item(A)]
    items[position] = items[position][:4] + b"\xff\xff\xff\xff" + items[position][8:]
    value = b"".join(items) + SEQUENCE_DELIMITER
    pixel_data = element(PIXEL_DATA, "OB", value, length=UNDEFINED)
    with pytest.raises(FormatError, match=r"(?i)undefined"):
        mmindex.scan(dicom_file(image_attributes() + pixel_data, JPEG_BASELINE))


def test_R13_odd_fragments_are_served_and_counted() -> None:
    """An odd length is an anomaly and moves nothing."""
    data = encapsulated_file([A + b"x", B, C + b"y"], 3, bot=[0, 15, 31])
    assert read_frames(data) == [A + b"x", B, C + b"y"]
    (anomaly,) = mmindex.scan(data).anomalies
    assert (anomaly.code, anomaly.count) == ("odd-fragment-length", 2)


@pytest.mark.parametrize(
    ("fragments", "bot"),
    [
        ([A, b"", B], []),
        ([A, b"", B], [0, 22]),
        ([A, b"", B], [0, 14]),
        ([b"", A, B], []),
        ([b"", A, B], [0, 22]),
        ([A, B, b""], []),
        ([A, B, b""], [0, 14]),
    ],
)
def test_R13_an_empty_fragment_is_no_frame_but_takes_part_in_offsets(
    fragments: list[bytes], bot: list[int]
) -> None:
    """An entry may count over an empty item or point to it; the frames are the same."""
    data = encapsulated_file(fragments, 2, bot=bot)
    assert read_frames(data) == [A, B]
    assert anomaly_codes(data) == ["empty-fragment"]


@pytest.mark.parametrize("bot", [[], [0, 14, 22]], ids=["no-table", "table"])
def test_R13_an_empty_fragment_never_makes_a_frame(bot: list[int]) -> None:
    """Three items of which one is empty are not three frames."""
    with (
        pytest.raises(FormatError, match=r"fragment|frame"),
        mmindex.open_file(io.BytesIO(encapsulated_file([A, b"", B], 3, bot=bot))) as instance,
    ):
        instance.frame(1)


def test_R13_nothing_but_empty_fragments_is_no_frame() -> None:
    """An empty frame is never served."""
    with (
        pytest.raises(FormatError, match=r"fragment|frame"),
        mmindex.open_file(io.BytesIO(encapsulated_file([b"", b""], 1))) as instance,
    ):
        instance.frame(0)


@pytest.mark.parametrize("bot", [[], [0, 14, 30]], ids=["no-table", "table"])
@pytest.mark.parametrize("left", [0, 1, 9])
def test_R14_a_fragment_past_the_end_of_the_file_is_a_lost_frame(bot: list[int], left: int) -> None:
    """Complete frames stay readable; the one that owns the fragment raises."""
    whole = encapsulated_file([A, B, C], 3, bot=bot, delimiter=b"")
    data = whole[: len(whole) - 10 + left]
    assert read_frames(data) == [A, B, TruncatedFrameError]
    assert "truncated-fragment" in anomaly_codes(data)


def test_R14_a_lost_frame_is_lost_to_every_reader() -> None:
    """No way of reading returns a part of a frame, or a range that the file does not have."""
    data = encapsulated_file([A, B], 2, delimiter=b"")[:-1]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.frame(0) == A
        for read in (
            *(instance.frame, instance.view, instance.fragments),
            *(instance.byte_ranges, instance.array),
        ):
            with pytest.raises(TruncatedFrameError, match="1"):
                read(1)


def test_R14_a_lost_second_fragment_loses_the_frame() -> None:
    """The first fragment of the last frame is there, and is not served alone."""
    data = encapsulated_file(HALVES, 2, bot=[0, 26], delimiter=b"")[:-1]
    assert read_frames(data) == [HEAD_1 + TAIL_1, TruncatedFrameError]
    assert "truncated-fragment" in anomaly_codes(data)


@pytest.mark.parametrize("length", [5000, 0x7FFFFFFF, UNDEFINED - 1])
def test_R14_a_hostile_length_is_a_truncated_fragment(length: int) -> None:
    """A length past the end of the file does not reach the frames before."""
    last = b"\xfe\xff\0\xe0" + struct.pack("<I", length) + C
    data = encapsulated_file([A, B], 3, delimiter=last + SEQUENCE_DELIMITER)
    assert read_frames(data) == [A, B, TruncatedFrameError]


def test_R15_a_table_tells_where_frames_of_several_fragments_begin() -> None:
    """Entries count from the first byte after the table's item to items."""
    record = mmindex.scan(encapsulated_file(HALVES, 2, bot=[0, 26]))
    assert (record.boundaries, record.anomalies) == (Boundaries.BASIC_OFFSET_TABLE, ())
    assert read_frames(encapsulated_file(HALVES, 2, bot=[0, 26])) == WHOLE
    without_markers = [b"12", b"34", b"56"]
    assert read_frames(encapsulated_file(without_markers, 2, bot=[0, 20])) == [b"1234", b"56"]


BROKEN_TABLES = {
    "short": ([0, 14], {"bot-count"}),
    "long": ([0, 14, 30, 48], {"bot-count"}),
    "only-zero": ([0], {"bot-count"}),
    "half-an-entry": (struct.pack("<2I", 0, 14) + b"\x1e\0", {"bot-count"}),
    "all-zero": ([0, 0, 0], {"bot-order"}),
    "out-of-order": ([0, 30, 14], {"bot-order"}),
    "an-entry-twice": ([0, 14, 14], {"bot-order"}),
    "values-not-items": ([0, 22, 38], {"bot-off-item"}),
    "one-byte-off": ([0, 14, 31], {"bot-off-item"}),
    "lengths-without-headers": ([0, 6, 14], {"bot-off-item"}),
    "past-the-end": ([0, 14, 5000], {"bot-off-item"}),
    "the-delimiter": ([0, 30, 48], {"bot-off-item"}),
    "from-the-table-item": ([20, 34, 50], {"bot-order", "bot-off-item"}),
    "not-from-the-first-item": ([14, 30, 48], {"bot-order", "bot-off-item"}),
    "garbage": ([0xFFFFFFFF] * 3, {"bot-order", "bot-off-item"}),
}


@pytest.mark.parametrize(("bot", "codes"), BROKEN_TABLES.values(), ids=BROKEN_TABLES.keys())
def test_R15_a_broken_table_is_dropped_and_the_fragments_decide(
    bot: list[int] | bytes, codes: set[str]
) -> None:
    """The bytes win over the table; an anomaly says what was wrong with it."""
    data = encapsulated_file([A, B, C], 3, bot=bot)
    (code,) = anomaly_codes(data)
    assert code in codes
    assert read_frames(data) == [A, B, C]
    assert mmindex.scan(data).boundaries is Boundaries.ONE_FRAGMENT_A_FRAME


def test_R15_an_entry_leads_to_an_item_and_no_other_tag() -> None:
    """What stands where the third frame should be has an item's length, not its tag."""
    foreign = b"\xfe\xff\x0d\xe0\x0a\0\0\0" + C
    data = encapsulated_file([A, B], 3, bot=[0, 14, 30], delimiter=foreign + SEQUENCE_DELIMITER)
    assert read_frames(data) == [A, B, TruncatedFrameError]
    assert anomaly_codes(data)


def test_R15_without_table_and_markers_nothing_is_guessed() -> None:
    """A broken table of fragments that begin no frame leaves no reading."""
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(encapsulated_file([b"12", b"34", b"56"], 2, bot=[0, 12]))


def write_sparse(path: Path, head: bytes, last_items: bytes) -> None:
    """Write `head`, three items of 1.5 GiB of holes, `last_items` and a delimiter.

    Items begin at 0, 1.5 GiB + 8, 3 GiB + 16 and 4.5 GiB + 24.
    """
    space = os.statvfs(path.parent)
    if space.f_bavail * space.f_frsize < GIB:
        pytest.skip("not enough room for a sparse file")
    try:
        with path.open("wb") as file:
            file.write(head)
            for _ in range(3):
                file.write(b"\xfe\xff\0\xe0" + struct.pack("<I", 3 * GIB // 2))
                file.seek(3 * GIB // 2, os.SEEK_CUR)
            file.write(last_items + SEQUENCE_DELIMITER)
    except OSError as error:
        pytest.skip(f"no sparse files here: {error}")


def test_R16_entries_past_4_gib_agree_modulo_2_to_the_32(tmp_path: Path) -> None:
    """Of frames of 2, 1 and 2 fragments the third begins at 4.5 GiB + 24: 0.5 GiB + 24, wrapped."""
    path = tmp_path / "sparse.dcm"
    head = encapsulated_file([], 3, bot=[0, 3 * GIB + 16, GIB // 2 + 24], delimiter=b"")
    write_sparse(path, head, item(b"last") + item(b"frag"))
    size = path.stat().st_size
    first_item = size - 8 - 12 - 12 - 24 - 9 * GIB // 2
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        record = mmindex.scan(mapped)
    assert [anomaly.code for anomaly in record.anomalies] == ["bot-wrapped"]
    assert record.boundaries is Boundaries.BASIC_OFFSET_TABLE
    with mmindex.open_file(path) as instance:
        assert instance.byte_ranges(0) == (
            (first_item + 8, 3 * GIB // 2),
            (first_item + 3 * GIB // 2 + 16, 3 * GIB // 2),
        )
        assert instance.byte_ranges(1) == ((first_item + 3 * GIB + 24, 3 * GIB // 2),)
        assert instance.frame(2) == b"lastfrag"
        assert instance.byte_ranges(2) == ((size - 8 - 12 - 4, 4), (size - 8 - 4, 4))


def test_R16_a_frame_may_itself_be_over_4_gib(tmp_path: Path) -> None:
    """Frame 0 is 4.5 GiB in three items, so that entry 1 wraps and yet increases."""
    path = tmp_path / "sparse.dcm"
    head = encapsulated_file([], 2, bot=[0, GIB // 2 + 24], delimiter=b"")
    write_sparse(path, head, item(b"last") + item(b"frag"))
    with mmindex.open_file(path) as instance:
        assert [anomaly.code for anomaly in instance.record.anomalies] == ["bot-wrapped"]
        assert [length for _, length in instance.byte_ranges(0)] == [3 * GIB // 2] * 3
        assert instance.frame(1) == b"lastfrag"


def test_R16_a_wrapped_entry_still_has_to_land_on_an_item(tmp_path: Path) -> None:
    """An entry that no item agrees with drops the table, past 4 GiB as before it."""
    path = tmp_path / "sparse.dcm"
    head = encapsulated_file([], 3, bot=[0, 3 * GIB + 16, GIB // 2 + 32], delimiter=b"")
    write_sparse(path, head, item(b"last") + item(b"frag"))
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.open_file(path)


def with_extended_table(
    fragments: list[bytes],
    number_of_frames: int | str | None,
    offsets: list[int],
    lengths: list[int] | None,
    *,
    bot: list[int] | tuple[()] = (),
) -> bytes:
    """Return a file with an Extended Offset Table before its fragments."""
    tables = extended_offset_table(offsets, lengths)
    return encapsulated_file(fragments, number_of_frames, before=tables, bot=bot)


def test_R17_an_extended_table_tells_where_frames_begin() -> None:
    """Sixty-four-bit entries have the origin of the basic ones."""
    data = with_extended_table([A, B, C], 3, [0, 14, 30], [6, 8, 10])
    record = mmindex.scan(data)
    assert (record.boundaries, record.anomalies) == (Boundaries.EXTENDED_OFFSET_TABLE, ())
    assert read_frames(data) == [A, B, C]


def test_R17_lengths_trim_the_padding_byte() -> None:
    """A length one less than the item's leaves out its last byte, and only that."""
    data = with_extended_table([A, B + b"x\0", C], 3, [0, 14, 32], [6, 9, 10])
    assert read_frames(data) == [A, B + b"x", C]
    assert anomaly_codes(data) == []
    with mmindex.open_file(io.BytesIO(data)) as instance:
        padded_item = len(data) - 8 - 18 - 18
        assert instance.byte_ranges(1) == ((padded_item + 8, 9),)
        assert bytes(instance.view(1)) == B + b"x"
        assert [bytes(fragment) for fragment in instance.fragments(1)] == [B + b"x"]


@pytest.mark.parametrize("length", [0, 4, 6, 9, 10, 2**64 - 1])
def test_R17_a_wrong_length_is_an_anomaly_and_cuts_nothing(length: int) -> None:
    """The item's own length is right: 8 bytes, of which the table may trim one."""
    data = with_extended_table([A, B, C], 3, [0, 14, 30], [6, length, 10])
    assert read_frames(data) == [A, B, C]
    assert "eot-length" in anomaly_codes(data)


@pytest.mark.parametrize("lengths", [None, [6, 8], [6, 8, 10, 12]], ids=["none", "short", "long"])
def test_R17_without_a_length_a_frame_nothing_is_trimmed(lengths: list[int] | None) -> None:
    """Lengths that are not there, or not as many as frames, trim nothing."""
    assert read_frames(with_extended_table([A, B, C], 3, [0, 14, 30], lengths)) == [A, B, C]


@pytest.mark.parametrize(
    ("offsets", "codes"),
    [
        ([0, 14], {"eot-count"}),
        ([0, 14, 30, 48], {"eot-count"}),
        ([0, 30, 14], {"eot-order"}),
        ([0, 0, 0], {"eot-order"}),
        ([0, 22, 38], {"eot-off-item"}),
        ([0, 14, 2**63], {"eot-off-item"}),
        ([0, 14, 2**32 + 30], {"eot-off-item"}),
        ([14, 30, 48], {"eot-order", "eot-off-item"}),
        ([2**64 - 1] * 3, {"eot-order", "eot-off-item"}),
    ],
)
def test_R17_a_broken_extended_table_is_dropped(offsets: list[int], codes: set[str]) -> None:
    """It is checked like the basic one, and its 64-bit entries never wrap."""
    data = with_extended_table([A, B, C], 3, offsets, [8] * len(offsets))
    assert codes & set(anomaly_codes(data))
    assert read_frames(data) == [A, B, C]
    assert mmindex.scan(data).boundaries is Boundaries.ONE_FRAGMENT_A_FRAME


def test_R17_several_fragments_a_frame_drop_an_extended_table() -> None:
    """Where entries land but a frame would own two fragments, the start markers decide."""
    data = with_extended_table(HALVES, 2, [0, 26], [10, 8])
    assert read_frames(data) == WHOLE
    assert "eot-fragments" in anomaly_codes(data)
    assert mmindex.scan(data).boundaries is Boundaries.START_MARKERS
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(with_extended_table([b"12", b"34", b"56"], 2, [0, 20], [4, 2]))


def test_R17_a_basic_table_that_agrees_is_tolerated() -> None:
    """Both tables at once are against the standard, and the same frames."""
    data = with_extended_table([A, B, C], 3, [0, 14, 30], [6, 8, 10], bot=[0, 14, 30])
    assert read_frames(data) == [A, B, C]
    assert anomaly_codes(data) == ["eot-with-bot"]


@pytest.mark.parametrize(
    ("offsets", "bot"),
    [([0, 14, 30], [0, 0, 0]), ([0, 14, 30], [0, 22, 38]), ([0, 22, 38], [0, 14, 30])],
    ids=["basic-zero", "basic-off", "extended-off"],
)
def test_R17_of_two_tables_that_disagree_none_can_do_harm(
    offsets: list[int], bot: list[int]
) -> None:
    """A broken table beside a good one changes no frame and is recorded."""
    data = with_extended_table([A, B, C], 3, offsets, [6, 8, 10], bot=bot)
    assert read_frames(data) == [A, B, C]
    assert anomaly_codes(data)


def test_R17_entries_past_4_gib_are_right_as_they_are(tmp_path: Path) -> None:
    """Three frames of 1.5 GiB of holes and a last one: entries are 64-bit."""
    path = tmp_path / "sparse.dcm"
    offsets = [0, 3 * GIB // 2 + 8, 3 * GIB + 16, 9 * GIB // 2 + 24]
    tables = extended_offset_table(offsets, [3 * GIB // 2] * 3 + [5])
    write_sparse(path, encapsulated_file([], 4, before=tables, delimiter=b""), item(b"last.\0"))
    with mmindex.open_file(path) as instance:
        assert instance.record.anomalies == ()
        assert instance.record.boundaries is Boundaries.EXTENDED_OFFSET_TABLE
        assert instance.frame(3) == b"last."
        assert instance.byte_ranges(2)[0].length == 3 * GIB // 2


MARKERS = {
    "jpeg": (JPEG_BASELINE, b"\xff\xd8"),
    "jpeg-ls": (JPEG_LS, b"\xff\xd8"),
    "jpeg-2000-codestream": (JPEG_2000, b"\xff\x4f"),
    "jpeg-2000-box": (JPEG_2000, JP2_BOX),
    "htj2k-codestream": (HTJ2K, b"\xff\x4f"),
    "htj2k-box": (HTJ2K, JP2_BOX),
    "jpeg-xl-codestream": (JPEG_XL, b"\xff\x0a"),
    "jpeg-xl-box": (JPEG_XL, JXL_BOX),
}
EVERY_SYNTAX = [JPEG_BASELINE, JPEG_LS, JPEG_2000, HTJ2K, JPEG_XL, PRIVATE_SYNTAX]


@pytest.mark.parametrize("uid", EVERY_SYNTAX)
def test_R18_one_frame_owns_all_fragments(uid: str) -> None:
    """N = 1: all fragments are the frame, unless a second one begins like a frame (R51)."""
    data = encapsulated_file([A, b"more", TAIL_1], 1, uid)
    assert read_frames(data) == [A + b"more" + TAIL_1]
    assert mmindex.scan(data).boundaries is Boundaries.ALL_FRAGMENTS


@pytest.mark.parametrize("uid", EVERY_SYNTAX)
def test_R18_as_many_fragments_as_frames_are_one_each(uid: str) -> None:
    """F = N: one fragment a frame, whatever it begins with."""
    data = encapsulated_file([b"one.", b"two.", b"three."], 3, uid)
    assert read_frames(data) == [b"one.", b"two.", b"three."]
    assert anomaly_codes(data) == []
    assert mmindex.scan(data).boundaries is Boundaries.ONE_FRAGMENT_A_FRAME


@pytest.mark.parametrize(("uid", "marker"), MARKERS.values(), ids=MARKERS.keys())
def test_R18_two_fragments_a_frame_without_table_split_on_start_markers(
    uid: str, marker: bytes
) -> None:
    """F > N: a frame begins at a fragment that begins with the codec's start marker."""
    fragments = [marker + b"1", b"tail" + marker, marker + b"2", b"\xff\xd9", marker + b"3"]
    data = encapsulated_file([fragment + b"\0" for fragment in fragments], 3, uid)
    assert read_frames(data) == [
        marker + b"1\0tail" + marker + b"\0",
        marker + b"2\0\xff\xd9\0",
        marker + b"3\0",
    ]
    assert mmindex.scan(data).boundaries is Boundaries.START_MARKERS


@pytest.mark.parametrize("uid", [JPEG_2000, HTJ2K])
@pytest.mark.parametrize("markers", ["CC", "BB", "CB", "BC", "CBCBB"])
def test_R18_fragments_as_long_as_any_start_marker_may_begin_with_either_one(
    markers: str, uid: str
) -> None:
    """Frames that begin with a codestream (C) or a box (B), in fragments of 12 bytes and more."""
    starts = {"C": b"\xff\x4f\xff\x51frame%03d", "B": JP2_BOX + b"frame%03d."}
    heads = [starts[marker] % number for number, marker in enumerate(markers)]
    tails = [b"the rest of frame %02d" % number for number in range(len(markers))]
    fragments = [piece for pair in zip(heads, tails, strict=True) for piece in pair]
    assert min(map(len, fragments)) >= 12
    data = encapsulated_file(fragments, len(markers), uid)
    assert read_frames(data) == [head + tail for head, tail in zip(heads, tails, strict=True)]
    assert mmindex.scan(data).boundaries is Boundaries.START_MARKERS


@pytest.mark.parametrize(("uid", "marker"), MARKERS.values(), ids=MARKERS.keys())
@pytest.mark.parametrize("pattern", ["M-M-M", "M----", "-----", "MMMMM", "-M-M-", "-MM--"])
def test_R18_start_markers_count_only_if_they_make_every_frame(
    pattern: str, uid: str, marker: bytes
) -> None:
    """Markers (M) that make more or fewer than 2 frames, or leave a first fragment to none."""
    fragments = [marker + b"start." if letter == "M" else b"more" for letter in pattern]
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(encapsulated_file(fragments, 2, uid))


@pytest.mark.parametrize("uid", [JPEG_2000, JPEG_XL, PRIVATE_SYNTAX])
def test_R18_the_marker_of_another_codec_begins_no_frame(uid: str) -> None:
    """FFD8 means something in JPEG and JPEG-LS only."""
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(encapsulated_file(HALVES, 2, uid))


@pytest.mark.parametrize("uid", [*EVERY_SYNTAX, *ONE_FRAGMENT_SYNTAXES])
@pytest.mark.parametrize("number_of_frames", [3, 2147483647])
def test_R18_fewer_fragments_than_frames_are_a_format_error(
    uid: str, number_of_frames: int
) -> None:
    """F < N, with a delimiter that says nothing is missing: no reading makes N frames."""
    with pytest.raises(FormatError, match="fragment"):
        mmindex.scan(encapsulated_file([A, B], number_of_frames, uid))


@pytest.mark.parametrize("uid", ONE_FRAGMENT_SYNTAXES)
@pytest.mark.parametrize(("count", "number_of_frames"), [(1, 1), (3, 3)])
def test_R19_some_syntaxes_have_one_fragment_a_frame(
    uid: str, count: int, number_of_frames: int
) -> None:
    """RLE, Encapsulated Uncompressed and Deflated Image Frame: F = N."""
    fragments = [b"one.", b"two.", b"three."][:count]
    assert read_frames(encapsulated_file(fragments, number_of_frames, uid)) == fragments


@pytest.mark.parametrize("uid", ONE_FRAGMENT_SYNTAXES)
def test_R19_anything_else_is_ambiguous(uid: str) -> None:
    """More fragments than frames have no reading, but for one frame (R45)."""
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(encapsulated_file([b"one.", b"two.", b"three."], 2, uid))


@pytest.mark.parametrize(
    "uid",
    [
        *(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109)),
        *(f"1.2.840.10008.1.2.4.{number}.1" for number in range(100, 107)),
    ],
)
def test_R20_video_is_one_stream(uid: str) -> None:
    """A stream's fragments are served in order; its frames have no bytes of their own."""
    data = encapsulated_file([b"\0\0\1\xb3", b"stream", b"end."], 250, uid)
    record = mmindex.scan(data)
    assert (record.status, record.number_of_frames) == (Status.STREAM, 250)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert [bytes(piece) for piece in instance.stream()] == [b"\0\0\1\xb3", b"stream", b"end."]
        assert instance.stream_length == 14
        for read in (instance.frame, instance.view, instance.byte_ranges, instance.array):
            with pytest.raises(NotAddressableError, match="stream"):
                read(0)


@pytest.mark.parametrize("number_of_frames", [None, 1, 2, 3])
@pytest.mark.parametrize("bot", [[], [0], [0, 12, 26]])
def test_R20_neither_counts_nor_tables_make_frames_of_a_stream(
    number_of_frames: int | None, bot: list[int]
) -> None:
    """As many fragments or entries as frames are a coincidence."""
    data = encapsulated_file([b"\0\0\1\xb3", b"stream", b"end."], number_of_frames, HEVC, bot=bot)
    assert mmindex.scan(data).status is Status.STREAM
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert b"".join(instance.stream()) == b"\0\0\1\xb3streamend."
        with pytest.raises(NotAddressableError, match="stream"):
            instance.frame(0)


@pytest.mark.parametrize(
    "number_of_frames", [None, "0", "", "many"], ids=["absent", "zero", "empty", "no-number"]
)
def test_R21_a_table_tells_the_number_of_frames_where_nothing_else_does(
    number_of_frames: str | None,
) -> None:
    """The entries of a table that passes every other check are the frames."""
    basic = encapsulated_file(HALVES, number_of_frames, bot=[0, 26])
    extended = with_extended_table([A, B, C], number_of_frames, [0, 14, 30], [6, 8, 10])
    for data, frames in ((basic, WHOLE), (extended, [A, B, C])):
        assert mmindex.scan(data).number_of_frames == len(frames)
        assert read_frames(data) == frames
        assert anomaly_codes(data) == ["number-of-frames"]


@pytest.mark.parametrize(
    ("number_of_frames", "anomalies"), [(None, []), ("0", ["number-of-frames"])]
)
@pytest.mark.parametrize("bot", [[], [0]], ids=["no-table", "one-entry"])
def test_R21_without_a_table_there_is_one_frame(
    number_of_frames: str | None, anomalies: list[str], bot: list[int]
) -> None:
    """One frame that says nothing of its number is normal; one that says 0 is not."""
    data = encapsulated_file([HEAD_1, TAIL_1], number_of_frames, bot=bot)
    assert read_frames(data) == [HEAD_1 + TAIL_1]
    assert anomaly_codes(data) == anomalies
    with pytest.raises(AmbiguousFramesError, match="start markers begin 2"):  # R51
        mmindex.scan(encapsulated_file([A, B], number_of_frames, bot=bot))


@pytest.mark.parametrize("bot", [[0, 15], [0, 0], [12, 30]], ids=["off-item", "zero", "late"])
def test_R21_a_broken_table_does_not_tell_the_number_of_frames(bot: list[int]) -> None:
    """A table that fails a check is dropped, and one frame owns all fragments."""
    data = encapsulated_file([HEAD_1, TAIL_1], None, bot=bot)
    assert read_frames(data) == [HEAD_1 + TAIL_1]
    assert any(code.startswith("bot-") for code in anomaly_codes(data))


def test_R21_a_table_alone_never_overrules_the_number_of_frames() -> None:
    """Where both are there and disagree, start markers decide (R51)."""
    data = encapsulated_file([A, B, C], 3, bot=[0, 30])
    assert read_frames(data) == [A, B, C]
    assert anomaly_codes(data) == ["bot-count"]
    data = encapsulated_file([A, B, C], 1, bot=[0, 14, 30])
    assert read_frames(data) == [A, B, C]
    assert anomaly_codes(data) == ["number-of-frames"]
    with pytest.raises(AmbiguousFramesError, match="Number of Frames says 1"):
        mmindex.scan(encapsulated_file([A, B, C], 1, PRIVATE_SYNTAX, bot=[0, 14, 30]))
