"""Rules R42, R45, R46, R51 to R54: which frames are right where witnesses differ.

Frames of JPEG, JPEG-LS, JPEG 2000 and JPEG XL begin with their start marker, those of RLE with
their header; under a private syntax nothing in a fragment shows where a frame begins.
"""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from child_process import little_memory
from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    HEVC,
    HTJ2K,
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
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    item,
)
from outcomes import anomaly_codes, open_proved, read_frames

import mmindex
from mmindex.errors import AmbiguousFramesError, FormatError, MMIndexError, TruncatedFrameError
from mmindex.model import Boundaries
from mmindex.scan.boundaries import Reading, decide

RLE_HEADER = struct.pack("<16I", 1, 64, *[0] * 14)
CODECS = {
    "jpeg": (JPEG_BASELINE, b"\xff\xd8\xff\xe0"),
    "jpeg-ls": (JPEG_LS, b"\xff\xd8\xff\xf7"),
    "jpeg-2000": (JPEG_2000, b"\xff\x4f\xff\x51"),
    "jpeg-2000-box": (JPEG_2000, JP2_BOX),
    "htj2k": (HTJ2K, b"\xff\x4f\xff\x51"),
    "jpeg-xl": (JPEG_XL, b"\xff\x0a"),
    "jpeg-xl-box": (JPEG_XL, JXL_BOX),
    "rle": (RLE_LOSSLESS, RLE_HEADER),
}
STREAMS = {
    "start-code": b"\0\0\1\xb3",
    "long-start-code": b"\0\0\0\1\x67\x42",
    "program-stream": b"\0\0\1\xba",
    "iso-media": b"\0\0\0\x18ftypmp42",
    "transport-stream": (b"\x47" + bytes(187)) * 2,
}
every_codec = pytest.mark.parametrize(("uid", "start"), CODECS.values(), ids=CODECS)


def halves(start: bytes, count: int) -> list[bytes]:
    """Return `count` frames in two fragments each."""
    fragments = []
    for number in range(count):
        head = start + b"head%d" % number
        fragments += [head + b"\0" * (len(head) % 2), b"tail%d\xff\xd9\0" % number]
    return fragments


def join(fragments: list[bytes], *firsts: int) -> list[bytes]:
    """Return the frames that begin with these fragments."""
    ends = [*firsts[1:], len(fragments)]
    return [b"".join(fragments[a:b]) for a, b in zip(firsts, ends, strict=True)]


def starts(fragments: list[bytes], *firsts: int) -> list[int]:
    """Return the offset table of frames that begin with these fragments."""
    return [sum(8 + len(fragment) for fragment in fragments[:first]) for first in firsts]


def without_table_item(
    fragments: list[bytes], number_of_frames: int | None, uid: str, before: bytes = b""
) -> bytes:
    """Return a file whose first item is the first fragment."""
    value = b"".join(map(item, fragments)) + SEQUENCE_DELIMITER
    data_set = image_attributes(number_of_frames=number_of_frames) + before
    return dicom_file(data_set + element(PIXEL_DATA, "OB", value, length=UNDEFINED), uid)


# R42: the first item is no table


@every_codec
@pytest.mark.parametrize("count", [1, 3])
def test_R42_a_first_item_that_begins_like_a_frame_is_the_first_fragment(
    uid: str, start: bytes, count: int
) -> None:
    """One frame and several, in two fragments each: nothing is taken for a table."""
    fragments = halves(start, count)
    data = without_table_item(fragments, count, uid)
    assert read_frames(data) == join(fragments, *range(0, 2 * count, 2))
    assert "no-basic-offset-table" in anomaly_codes(data)


@every_codec
def test_R42_an_extended_table_without_the_item_of_a_basic_one_counts_from_the_first_fragment(
    uid: str, start: bytes
) -> None:
    """What both witnesses say is served."""
    fragments = [start + b"one.", start + b"two."]
    table = extended_offset_table(starts(fragments, 0, 1), None)
    assert read_frames(without_table_item(fragments, 2, uid, table)) == fragments


@pytest.mark.parametrize("head", STREAMS.values(), ids=STREAMS)
def test_R42_a_stream_without_a_table_begins_with_the_first_item(head: bytes) -> None:
    """Start codes, transport packets and ISO media files begin a stream."""
    data = without_table_item([head, b"rest"], 250, HEVC)
    with open_proved(io.BytesIO(data)) as instance:
        assert b"".join(instance.stream()) == head + b"rest"
    assert anomaly_codes(data) == ["no-basic-offset-table"]


@pytest.mark.parametrize("head", STREAMS.values(), ids=STREAMS)
def test_R42_a_first_item_of_a_stream_that_is_neither_is_dropped_only_before_a_start_code(
    head: bytes,
) -> None:
    """Bytes are never thrown away in silence: the second item has to begin the stream."""
    data = without_table_item([b"none", head, b"rest"], 1, HEVC)
    with open_proved(io.BytesIO(data)) as instance:
        assert b"".join(instance.stream()) == head + b"rest"
    assert anomaly_codes(data) == ["bot-off-item"]
    with pytest.raises(AmbiguousFramesError, match="neither a Basic Offset Table"):
        mmindex.scan(without_table_item([b"none", b"more", b"rest"], 1, HEVC))


@pytest.mark.parametrize(
    "uid", [PRIVATE_SYNTAX, ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME, JPEG_BASELINE]
)
@pytest.mark.parametrize("count", [1, 2])
def test_R42_what_may_be_a_fragment_is_not_dropped_as_a_table(uid: str, count: int) -> None:
    """The fragments left would make the number of frames, and their first bytes would be lost."""
    fragments = [bytes(12), b"second..", b"third..."][: count + 1]
    with pytest.raises(AmbiguousFramesError, match="table"):
        mmindex.scan(without_table_item(fragments, count, uid))


@pytest.mark.parametrize("uid", [PRIVATE_SYNTAX, DEFLATED_IMAGE_FRAME])
def test_R42_a_table_of_zeros_with_an_entry_a_frame_is_dropped(uid: str) -> None:
    """The item has the shape of a table, and no marker could say more."""
    data = encapsulated_file([b"one.", b"two."], 2, uid, bot=[0, 0])
    assert (read_frames(data), anomaly_codes(data)) == ([b"one.", b"two."], ["bot-order"])


# R45: one-fragment syntaxes in several fragments


@pytest.mark.parametrize("uid", [RLE_LOSSLESS, ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME])
@pytest.mark.parametrize("bot", [[], [0]], ids=["no-table", "table"])
@pytest.mark.parametrize("number_of_frames", [1, None])
def test_R45_one_frame_has_all_fragments(
    uid: str, bot: list[int], number_of_frames: int | None
) -> None:
    """Five fragments of one frame are joined."""
    fragments = [RLE_HEADER, b"ab", b"cd", b"ef", b"gh"]
    data = encapsulated_file(fragments, number_of_frames, uid, bot=bot)
    assert read_frames(data) == [b"".join(fragments)]
    assert ("fragmented-rle" in anomaly_codes(data)) == (uid == RLE_LOSSLESS)


@pytest.mark.parametrize("table", [True, False])
def test_R45_headers_begin_frames_of_RLE(table: bool) -> None:
    """With a table that passes and without one."""
    fragments = halves(RLE_HEADER, 3)
    bot = starts(fragments, 0, 2, 4) if table else []
    data = encapsulated_file(fragments, 3, RLE_LOSSLESS, bot=bot)
    assert read_frames(data) == join(fragments, 0, 2, 4)
    assert anomaly_codes(data) == ["fragmented-rle"]


@pytest.mark.parametrize("uid", [RLE_LOSSLESS, ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME])
def test_R45_a_table_of_fragments_without_headers_is_dropped(uid: str) -> None:
    """Nothing shows that a frame begins where an entry leads."""
    fragments = [b"one.", b"two.", b"three."]
    with pytest.raises(AmbiguousFramesError, match="fragment"):
        mmindex.scan(encapsulated_file(fragments, 2, uid, bot=starts(fragments, 0, 2)))


def test_R45_headers_of_another_number_of_frames_are_ambiguous() -> None:
    """Two headers do not make three frames of four fragments."""
    with pytest.raises(AmbiguousFramesError, match="start markers begin 2"):
        mmindex.scan(encapsulated_file(halves(RLE_HEADER, 2), 3, RLE_LOSSLESS))


# R46: Number of Frames that is no clean number


@every_codec
def test_R46_start_markers_bear_out_an_unclean_number_of_frames(uid: str, start: bytes) -> None:
    """A decimal point changes nothing where the fragments say the same."""
    fragments = halves(start, 3)
    data = encapsulated_file(fragments, "3.0", uid)
    assert read_frames(data) == join(fragments, 0, 2, 4)
    assert "number-of-frames" in anomaly_codes(data)
    with pytest.raises(AmbiguousFramesError, match="start markers begin 3"):
        mmindex.scan(encapsulated_file(fragments, "2.0", uid))


def test_R46_fragments_and_tables_bear_out_an_unclean_number_of_frames() -> None:
    """Where nothing bears it out, nothing is guessed."""
    fragments = [b"one.", b"two.", b"three."]
    assert read_frames(encapsulated_file(fragments, "3.0", PRIVATE_SYNTAX)) == fragments
    two = encapsulated_file(fragments, "2.0", PRIVATE_SYNTAX, bot=starts(fragments, 0, 2))
    assert read_frames(two) == join(fragments, 0, 2)
    with pytest.raises(AmbiguousFramesError, match="confirm"):
        mmindex.scan(encapsulated_file(fragments, "2.0", PRIVATE_SYNTAX))


# R51: witnesses


@every_codec
@pytest.mark.parametrize("number_of_frames", [1, 2, 4, 6])
def test_R51_a_table_and_the_markers_overrule_number_of_frames(
    uid: str, start: bytes, number_of_frames: int
) -> None:
    """Also where Number of Frames is 1, or the number of fragments."""
    fragments = halves(start, 3)
    data = encapsulated_file(fragments, number_of_frames, uid, bot=starts(fragments, 0, 2, 4))
    assert read_frames(data) == join(fragments, 0, 2, 4)
    assert "number-of-frames" in anomaly_codes(data)


@every_codec
@pytest.mark.parametrize(("firsts", "code"), [((0, 1, 4), "bot-off-frame"), ((0, 4), "bot-count")])
def test_R51_markers_and_number_of_frames_overrule_a_table(
    uid: str, start: bytes, firsts: tuple[int, ...], code: str
) -> None:
    """A table that leads into a frame, or leaves one out, is dropped."""
    fragments = halves(start, 3)
    data = encapsulated_file(fragments, 3, uid, bot=starts(fragments, *firsts))
    assert read_frames(data) == join(fragments, 0, 2, 4)
    dropped = "bot-fragments" if uid == RLE_LOSSLESS and code == "bot-off-frame" else code
    assert dropped in anomaly_codes(data)


@every_codec
def test_R51_a_table_and_number_of_frames_overrule_markers(uid: str, start: bytes) -> None:
    """A marker that happens to stand within a frame begins none."""
    fragments = halves(start, 2)
    fragments[1] = start + fragments[1] + b"\0" * (len(start) % 2)
    data = encapsulated_file(fragments, 2, uid, bot=starts(fragments, 0, 2))
    assert read_frames(data) == join(fragments, 0, 2)
    assert "start-markers" in anomaly_codes(data)


@every_codec
@pytest.mark.parametrize("number_of_frames", [1, 2, 4, 6])
def test_R51_markers_against_number_of_frames_alone_are_ambiguous(
    uid: str, start: bytes, number_of_frames: int
) -> None:
    """As many fragments as frames are no frames where they do not begin like frames."""
    with pytest.raises(AmbiguousFramesError, match="start markers begin 3"):
        mmindex.scan(encapsulated_file(halves(start, 3), number_of_frames, uid))


@pytest.mark.parametrize("number_of_frames", [1, 3])
def test_R51_a_table_against_number_of_frames_alone_is_ambiguous(number_of_frames: int) -> None:
    """A private codec has no marker that could decide, and fragments are counted by nobody."""
    fragments = [b"one.", b"two.", b"three."]
    with pytest.raises(AmbiguousFramesError, match="has 2"):
        mmindex.scan(
            encapsulated_file(
                fragments, number_of_frames, PRIVATE_SYNTAX, bot=starts(fragments, 0, 2)
            )
        )


def reading(*begins: int, source: Boundaries = Boundaries.BASIC_OFFSET_TABLE) -> Reading:
    """Return what a table says, or the markers."""
    import numpy as np

    return Reading(source, np.array(begins, np.int64), len(begins))


def markers(*begins: int) -> Reading:
    """Return what start markers say."""
    return reading(*begins, source=Boundaries.START_MARKERS)


DECISIONS = {
    "all agree": (2, [reading(0, 2), markers(0, 2)], (0, 2)),
    "table, markers silent": (2, [reading(0, 2)], (0, 2)),
    "table alone": (None, [reading(0, 2)], (0, 2)),
    "markers, no table": (2, [markers(0, 2)], (0, 2)),
    "number against two": (3, [reading(0, 2), markers(0, 2)], (0, 2)),
    "markers against two": (2, [reading(0, 2), markers(0, 1, 2)], (0, 2)),
    "markers of no frame against two": (2, [reading(0, 2), markers(2)], (0, 2)),
    "table against two": (2, [reading(0), markers(0, 2)], (0, 2)),
    "table elsewhere": (2, [reading(0, 1), markers(0, 2)], (0, 2)),
    "table against number": (3, [reading(0, 2)], None),
    "markers against number": (3, [markers(0, 2)], None),
    "three say three things": (4, [reading(0, 2), markers(0, 1, 2)], None),
    "table against markers": (None, [reading(0, 2), markers(0, 1, 2)], None),
    "markers of no frame": (2, [markers(1, 2)], None),
    "two tables against number": (3, [reading(0, 2), reading(0, 2)], (0, 2)),
}


@pytest.mark.parametrize(("count", "said", "right"), DECISIONS.values(), ids=DECISIONS)
def test_R51_the_decision_is_that_of_the_table_in_its_docstring(
    count: int | None, said: list[Reading], right: tuple[int, ...] | None
) -> None:
    """One stands against two, or nobody against one; else nothing is right."""
    found = decide(count, said)
    assert (None if found is None else tuple(found.begins)) == right


# R52: cut inside an item's header


@pytest.mark.parametrize("left", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("bot", [False, True], ids=["no-table", "table"])
@pytest.mark.parametrize("codec", ["jpeg", "jpeg-2000", "jpeg-xl", "jpeg-xl-box", "rle"])
def test_R52_a_frame_before_half_a_header_is_whole_only_where_something_shows_it(
    codec: str, bot: bool, left: int
) -> None:
    """The next fragment may have been of the same frame: an end marker or an entry has to tell."""
    uid, start = CODECS[codec]
    fragments = halves(start, 3)
    table = starts(fragments, 0, 2, 4) if bot else []
    half = item(b"next")[:left]
    cut = encapsulated_file(fragments[:3], 3, uid, bot=table, delimiter=half)
    if bot:
        assert read_frames(cut) == [
            join(fragments, 0, 2)[0],
            TruncatedFrameError,
            TruncatedFrameError,
        ]
        assert "truncated-fragment" in anomaly_codes(cut)
        whole = encapsulated_file(fragments[:4], 3, uid, bot=table, delimiter=half)
        assert read_frames(whole) == [*join(fragments[:4], 0, 2), TruncatedFrameError]
    else:
        with pytest.raises(FormatError, match="fragment"):
            mmindex.scan(cut)
        one = encapsulated_file(fragments[:2], 1, uid, delimiter=half)
        shown = codec in ("jpeg", "jpeg-2000")
        assert read_frames(one) == [b"".join(fragments[:2]) if shown else TruncatedFrameError]
        assert "truncated-fragment" in anomaly_codes(one)


@pytest.mark.parametrize("codec", ["jpeg-xl", "rle"])
def test_R52_other_bytes_after_a_fragment_show_a_damaged_length(codec: str) -> None:
    """Of a codec without end marker, the last fragment may have lost its end, or have too much."""
    uid, start = CODECS[codec]
    for by in (-4, 4, 8):
        data = bytearray(encapsulated_file([start + b"pixels of a frame."], 1, uid))
        at = data.index(start) - 4
        length = struct.unpack_from("<I", data, at)[0]
        struct.pack_into("<I", data, at, length + by)
        assert read_frames(bytes(data)) == [TruncatedFrameError]


# R53: tables that agree with each other and not with the walk


@pytest.mark.parametrize("tables", ["both", "lengths"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("by", [-2, 2, 4, 1000])
@pytest.mark.parametrize("damaged", [0, 2, 4])
def test_R53_the_frame_of_a_damaged_item_raises_and_the_others_are_served(
    tables: str, codec: str, by: int, damaged: int
) -> None:
    """Two tables, or offsets and lengths of one, bear each other out."""
    uid, start = CODECS[codec]
    fragments = [
        start + b"frame%d" % n + b"." * (1 + len(start) % 2) + b"\xff\xd9" for n in range(5)
    ]
    fragments = [fragment + b"\0" * (len(fragment) % 2) for fragment in fragments]
    offsets = starts(fragments, *range(5))
    lengths = [len(fragment) for fragment in fragments] if tables == "lengths" else None
    bot = offsets if tables == "both" else []
    before = extended_offset_table(offsets, lengths)
    data = bytearray(encapsulated_file(fragments, 5, uid, bot=bot, before=before))
    at = data.index(fragments[damaged]) - 4
    struct.pack_into("<I", data, at, len(fragments[damaged]) + by)
    found = read_frames(bytes(data))
    assert isinstance(found[damaged], type)
    if damaged < 4:
        expected: list[bytes | type] = list(fragments)
        expected[damaged] = FormatError
        assert found == expected
        assert "item-length" in anomaly_codes(bytes(data))
    else:
        assert found[:4] == fragments[:4]


# R54: bounds


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("kind", ["basic", "extended"])
def test_R54_a_table_of_2_to_the_28_entries_costs_little_memory(
    tmp_path: Path, kind: str, closed: bool
) -> None:
    """More entries than items can follow are not read, though the file is a few kB of disk."""
    path, entries = tmp_path / "sparse.dcm", 1 << 28
    fragment = item(b"\xff\xd8\xff\xd9")
    end = SEQUENCE_DELIMITER if closed else b""
    data_set = image_attributes(number_of_frames=str(entries))
    header = element(PIXEL_DATA, "OB", length=UNDEFINED)
    with path.open("wb") as file:
        if kind == "basic":
            table = item()[:4] + struct.pack("<I", 4 * entries)
            file.write(dicom_file(data_set + header + table, JPEG_BASELINE))
            file.seek(4 * entries, 1)
        else:
            table = element(0x7FE00001, "OV", length=8 * (entries >> 1))
            file.write(dicom_file(data_set + table, JPEG_BASELINE))
            file.seek(8 * (entries >> 1), 1)
            file.write(header + item())
        file.write(fragment + end)
    with little_memory(), suppress(FormatError), open_proved(path) as instance:
        assert read_or_error(instance, 1) is not bytes


def read_or_error(instance: mmindex.Instance, frame_index: int) -> type:
    """Return what reading a frame gives: bytes, or the class of an error."""
    try:
        return type(instance.frame(frame_index))
    except MMIndexError as error:
        return type(error)
