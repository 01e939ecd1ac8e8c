"""Files that once led to other bytes than a frame's, or ended a scan: each stays what it is now."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from cli_runner import new_runner
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    HEVC,
    JPEG_2000,
    JPEG_BASELINE,
    PIXEL_DATA,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    item,
    native_file,
    pack_tag,
)

import mmindex
from mmindex.cli import main
from mmindex.errors import AmbiguousFramesError, FormatError, TruncatedFrameError
from mmindex.frame_table import Layout
from mmindex.model import Status
from mmindex.scan.instance import scan_frames, scan_header

UID = element(0x00080018, "UI", "1.2.3")
FRAME = b"\xff\xd8AAAA\xff\xd9"
OTHERS = b"not the frame's bytes, but another's"


def written(folder: Path, data: bytes) -> Path:
    path = folder / "a.dcm"
    path.write_bytes(data)
    return path


def overlong(
    syntax: str, number_of_frames: int, *, bot: bool = False, excess: int = 28, vr: str = "OB"
) -> bytes:
    """Return a file whose last item is `excess` longer than what is left of its value."""
    value = item(struct.pack(f"<{number_of_frames}I", *range(0, 16 * number_of_frames, 16)))
    if not bot:
        value = item()
    value += item(FRAME) * (number_of_frames - 1)
    value += pack_tag(0xFFFEE000) + struct.pack("<I", len(FRAME) + excess) + FRAME
    data_set = image_attributes(number_of_frames=number_of_frames) + element(PIXEL_DATA, vr, value)
    return dicom_file(UID + data_set + element(0xFFFCFFFC, "OB", OTHERS), syntax)


OVERLONG = {
    "no table": (JPEG_BASELINE, 3, False),
    "one frame": (JPEG_BASELINE, 1, False),
    "table": (JPEG_BASELINE, 3, True),
    "one frame, table": (JPEG_BASELINE, 1, True),
    "RLE": (RLE_LOSSLESS, 3, False),
    "one frame of RLE": (RLE_LOSSLESS, 1, False),
    "RLE, table": (RLE_LOSSLESS, 3, True),
}


@pytest.mark.parametrize("excess", [2, 12, 28, 28 + 20])
@pytest.mark.parametrize(("syntax", "frames", "bot"), OVERLONG.values(), ids=OVERLONG)
def test_R14_an_item_that_runs_past_its_value_serves_nothing_behind_it(
    tmp_path: Path, syntax: str, frames: int, bot: bool, excess: int
) -> None:
    """The elements behind a value of defined length are there in the file, but not the frame's."""
    path = written(tmp_path, overlong(syntax, frames, bot=bot, excess=excess))
    with mmindex.open_file(path) as instance:
        assert "truncated-fragment" in [a.code for a in instance.record.anomalies]
        assert len(instance) == frames
        last = frames - 1
        assert instance.frames(range(last)) == [FRAME] * last
        for read in (instance.frame, instance.view, instance.fragments, instance.byte_ranges):
            with pytest.raises(TruncatedFrameError):
                read(last)
        with pytest.raises(TruncatedFrameError):
            instance.frames()


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, RLE_LOSSLESS])
@pytest.mark.parametrize("frames", [1, 3])
def test_R14_a_trusted_table_serves_nothing_behind_the_value_either(
    tmp_path: Path, frames: int, syntax: str
) -> None:
    """A table over an item that is longer than its value is walked, or the frame raises."""
    written(tmp_path, overlong(syntax, frames, bot=True))
    mmindex.build(tmp_path, workers=1, prove=False)
    with mmindex.open(tmp_path) as archive:
        assert archive.frames(("1.2.3", index) for index in range(frames - 1)) == (
            [FRAME] * (frames - 1)
        )
        with pytest.raises(TruncatedFrameError):
            archive.frame("1.2.3", frames - 1)


def test_R20_a_video_stream_ends_where_its_value_ends(tmp_path: Path) -> None:
    """What stands behind the value of a video stream is not served as its last fragment."""
    with pytest.raises(TruncatedFrameError, match="runs past the end of the value"):
        mmindex.open_file(written(tmp_path, overlong(HEVC, 1)))


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


@pytest.mark.parametrize("fragments", [2, 3])
def test_R18_a_cut_file_of_a_private_codec_is_ambiguous(fragments: int) -> None:
    """As many fragments as frames prove nothing where the rest is lost and no marker helps."""
    parts = [b"frame0-a", b"frame0-b", b"frame1-a", b"frame1-b", b"frame2-a", b"frame2-b"]
    whole = encapsulated_file(parts, fragments, PRIVATE_SYNTAX)
    cut = whole[: whole.index(parts[fragments]) - 8]
    with pytest.raises(AmbiguousFramesError):
        mmindex.scan(cut)


def test_R18_a_whole_file_of_a_private_codec_has_one_fragment_a_frame(tmp_path: Path) -> None:
    """With the sequence delimiter there, as many fragments as frames are one each."""
    parts = [b"frame0", b"frame1"]
    with mmindex.open_file(
        written(tmp_path, encapsulated_file(parts, 2, PRIVATE_SYNTAX))
    ) as instance:
        assert list(instance) == parts


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


FRAMES = 199  # of 200 items, one more than a look at some entries sees


def joined_items(kind: str) -> bytes:
    """Return 200 items under a table of 199 entries: frame 6 would be items 6 and 7."""
    items = [b"\xff\xd8frame%03d\xff\xd9\0" % number for number in range(FRAMES + 1)]
    starts = [number * (8 + len(items[0])) for number in range(FRAMES + 1)]
    del starts[7]
    before, bot, syntax = b"", starts, RLE_LOSSLESS
    if kind == "EOT":
        lengths = [len(items[0])] * FRAMES
        before, bot, syntax = extended_offset_table(starts, lengths), [], JPEG_BASELINE
    elif kind == "EOT of lengths that join":
        lengths = [len(items[0])] * FRAMES
        lengths[6] = 2 * len(items[0]) + 8
        before, bot, syntax = extended_offset_table(starts, lengths), [], JPEG_2000
    data_set = UID + image_attributes(number_of_frames=FRAMES) + before
    return dicom_file(data_set + encapsulate(items, bot=bot), syntax)


@pytest.mark.parametrize("kind", ["RLE", "EOT", "EOT of lengths that join"])
def test_R17_R19_a_trusted_table_that_joins_two_items_serves_no_joined_frame(
    tmp_path: Path, kind: str
) -> None:
    """Where a frame is one fragment, an entry that skips one is not trusted or raises."""
    path = written(tmp_path, joined_items(kind))
    try:
        record = scan_frames(scan_header(path.read_bytes()), prove=False)
    except FormatError:
        return  # not trusted; without the table, there is no telling
    mmindex.build(tmp_path, workers=1, prove=False)
    assert record.frames is not None
    with mmindex.open(tmp_path) as archive:
        if record.frames.layout is Layout.TRUSTED:
            assert archive.frame("1.2.3", 5).startswith(b"\xff\xd8frame005")
            assert archive.frame("1.2.3", 7).startswith(b"\xff\xd8frame008")
        instance = archive["1.2.3"]
        for read in (instance.frame, instance.view, instance.fragments, instance.byte_ranges):
            with pytest.raises(FormatError):
                read(6)


@pytest.mark.parametrize(
    "starts", [[0, 1 << 63], [0, (1 << 64) - 1], [0, 1 << 40], [0, 2 + (1 << 63)]]
)
def test_R17_a_trusted_table_with_entries_beyond_the_file_is_dropped(
    tmp_path: Path, starts: list[int]
) -> None:
    """Entries that no file is long enough for, or that 63 bits cannot hold, are not trusted."""
    data_set = UID + image_attributes(number_of_frames=2) + extended_offset_table(starts, [8, 8])
    written(tmp_path, dicom_file(data_set + encapsulate([FRAME, FRAME]), JPEG_BASELINE))
    mmindex.build(tmp_path, workers=1, prove=False)
    with mmindex.open(tmp_path) as archive:
        assert archive.frames([("1.2.3", 0), ("1.2.3", 1)]) == [FRAME, FRAME]


@pytest.mark.parametrize(
    ("tag", "keyword"),
    [(0x00280010, "Rows"), (0x00280011, "Columns"), (0x00280100, "Bits Allocated")],
    ids=["Rows", "Columns", "Bits Allocated"],
)
def test_R36_an_attribute_in_text_is_a_format_error_that_names_it(tag: int, keyword: str) -> None:
    """Rows that are an Integer String are not taken for the number of their characters' codes."""
    numbers = {0x00280002: 1, 0x00280010: 2, 0x00280011: 2, 0x00280100: 8}
    data_set = b"".join(
        element(key, "IS", str(value)) if key == tag else element(key, "US", value)
        for key, value in numbers.items()
    )
    with pytest.raises(FormatError, match=f"{keyword} is absent or no number"):
        mmindex.scan(dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(8192))))


@pytest.mark.parametrize("with_meta", [True, False])
def test_R5_the_record_says_the_byte_order_that_was_found(with_meta: bool) -> None:
    """Big Endian is what the data set is, not what its transfer syntax is called."""
    big = element(0x00080018, "UI", "1.2.3", order=">") + image_attributes(order=">")
    big += element(PIXEL_DATA, "OB", bytes(4), order=">")
    record = mmindex.scan(dicom_file(big, None) if with_meta else big, force=not with_meta)
    assert record.big_endian
    implicit = element(0x00080018, "UI", "1.2.3", implicit=True) + image_attributes(implicit=True)
    implicit += element(PIXEL_DATA, "OB", bytes(4), implicit=True)
    assert not mmindex.scan(dicom_file(implicit, EXPLICIT_VR_BIG_ENDIAN)).big_endian


@pytest.mark.parametrize("at", [16, 24])
def test_a_preamble_with_the_magic_number_of_an_index_is_a_preamble(
    tmp_path: Path, at: int
) -> None:
    """A file that says DICM is a DICOM file, also where LMDB has its magic before that."""
    data = bytearray(dicom_file(UID + image_attributes() + element(PIXEL_DATA, "OB", b"abcd")))
    data[at : at + 4] = struct.pack("=I", 0xBEEF_C0DE)
    path = written(tmp_path, bytes(data))
    result = new_runner().invoke(main, ["info", str(path)], prog_name="mmindex")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "1.2.3" in result.stdout
    frame = new_runner().invoke(main, ["frame", str(path), "1"], prog_name="mmindex")
    assert (frame.exit_code, frame.stdout_bytes) == (0, b"abcd")
