"""Trusted offset tables: the frames of a full proof, or an error, for a handful of page reads."""

from __future__ import annotations

import json
import mmap
import os
import re
import struct
from pathlib import Path

import pytest
from cli_runner import run
from dicom_bytes import (
    JPEG_2000,
    JPEG_BASELINE,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    SEQUENCE_DELIMITER,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    item,
    written,
)
from frame_model import starts_of

import mmindex
from mmindex.errors import (
    FormatError,
    FrameIndexError,
    MMIndexError,
    NotContiguousError,
    StaleIndexError,
)
from mmindex.frame_table import Layout
from mmindex.index.record import pack_record, unpack_record
from mmindex.model import Boundaries, InstanceRecord, Status
from mmindex.scan.instance import scan_frames, scan_header

GIB = 1 << 30
UID = "1.5"
A, B, C = (b"\xff\xd8" + bytes([byte]) * 4 + b"\xff\xd9" for byte in b"ABC")


def jpeg(number: int) -> bytes:
    """Return a fragment with start and end marker, its length depending on its number."""
    return b"\xff\xd8" + b"%04d" % number * (1 + number % 3) + b"\xff\xd9"


def dicom(
    frames: list[list[bytes]],
    *,
    bot: list[int] | None = None,
    eot: list[int] | None = None,
    lengths: list[int] | None = None,
    syntax: str = JPEG_BASELINE,
    delimiter: bytes = SEQUENCE_DELIMITER,
) -> bytes:
    """Return a file of frames of several fragments, with the tables given."""
    data_set = element(0x00080018, "UI", UID) + image_attributes(number_of_frames=len(frames))
    if eot is not None:
        data_set += extended_offset_table(eot, lengths)
    fragments = [fragment for frame in frames for fragment in frame]
    data_set += encapsulate(fragments, bot=bot or (), delimiter=delimiter)
    return dicom_file(data_set, syntax)


def scan(data: bytes | mmap.mmap, *, trust: bool = True) -> InstanceRecord:
    return scan_frames(scan_header(data), prove=not trust)


def build(folder: Path, data: bytes, *, trust: bool = True) -> Path:
    """Return an archive of one file."""
    root = folder / ("trusted" if trust else "proved")
    root.mkdir(exist_ok=True)
    (root / "a.dcm").write_bytes(data)
    mmindex.build(root, workers=1, prove=not trust)
    return root


def outcomes(root: Path) -> list[bytes | str]:
    """Return every frame, or why there is none."""
    found: list[bytes | str] = []
    with mmindex.open(root) as archive:
        try:
            instance = archive.file("a.dcm")
        except MMIndexError as error:
            return [type(error).__name__]
        for index in range(len(instance)):
            try:
                found.append(instance.frame(index))
            except MMIndexError as error:
                found.append(type(error).__name__)
    return found


def layout_of(root: Path) -> Layout:
    with mmindex.open(root) as archive:
        (record,) = archive.records()
    assert record.frames is not None
    return record.frames.layout


SINGLE = [[jpeg(number)] for number in range(40)]
SINGLE_RLE = [[struct.pack("<2I", 1, 64) + frame[0]] for frame in SINGLE]
SEVERAL = [[jpeg(number)[:4], jpeg(number)[4:]][: 1 + number % 2] for number in range(40)]
WITH_EMPTY = [[A], [b"", B], [C, b""], [A[:4], b"", A[4:]]]
ODD = [[b"\xff\xd8%d\xff\xd9" % number + b"\0" * (number % 2)] for number in range(30)]
GOOD = {
    "bot": dicom(SINGLE, bot=starts_of(SINGLE)),
    "bot-several-fragments": dicom(SEVERAL, bot=starts_of(SEVERAL)),
    "bot-empty-fragments": dicom(WITH_EMPTY, bot=starts_of(WITH_EMPTY)),
    "bot-one-frame": dicom([[A[:4], A[4:]]], bot=[0]),
    "bot-rle": dicom(SINGLE_RLE, bot=starts_of(SINGLE_RLE), syntax=RLE_LOSSLESS),
    "eot": dicom(SINGLE, eot=starts_of(SINGLE), lengths=[len(frame[0]) for frame in SINGLE]),
    "eot-without-lengths": dicom(SINGLE, eot=starts_of(SINGLE)),
    "eot-padded": dicom(
        ODD,
        eot=starts_of(ODD),
        lengths=[len(frame[0].rstrip(b"\0")) for frame in ODD],
    ),
    "both": dicom(
        SINGLE,
        bot=starts_of(SINGLE),
        eot=starts_of(SINGLE),
        lengths=[len(frame[0]) for frame in SINGLE],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_frames_are_those_of_a_full_proof(tmp_path: Path, name: str) -> None:
    """Frame by frame, in batches, and by slices."""
    trusted, proved = (build(tmp_path, GOOD[name], trust=trust) for trust in (True, False))
    assert layout_of(trusted) is Layout.TRUSTED
    assert layout_of(proved) is not Layout.TRUSTED
    expected = outcomes(proved)
    assert all(isinstance(frame, bytes) for frame in expected)
    assert outcomes(trusted) == expected
    with mmindex.open(trusted) as archive:
        instance = archive[UID]
        indices = [*range(len(expected))][::-1]
        assert instance.frames(indices) == expected[::-1]
        assert instance.frames() == instance[:] == list(instance) == expected
        assert archive.frames([(UID, index) for index in indices]) == expected[::-1]
        with pytest.raises(FrameIndexError, match="out of range"):
            instance.frame(len(expected))
        with pytest.raises(FrameIndexError, match="out of range"):
            instance.byte_ranges(-1)


@pytest.mark.parametrize("name", GOOD)
def test_views_fragments_and_ranges_are_those_of_a_full_proof(tmp_path: Path, name: str) -> None:
    """Where fragments are is found when a frame is read, and is the same."""
    trusted, proved = (build(tmp_path, GOOD[name], trust=trust) for trust in (True, False))
    with mmindex.open(trusted) as one, mmindex.open(proved) as other, one[UID] as left:
        right = other[UID]
        for index in range(len(right)):
            assert left.byte_ranges(index) == right.byte_ranges(index)
            assert left.fragments(index) == right.fragments(index)
            if len(right.byte_ranges(index)) == 1:
                assert left.view(index) == right.view(index)
                assert left.view(index).readonly
            else:
                with pytest.raises(NotContiguousError, match="in several fragments"):
                    left.view(index)
        assert list(left.all_fragments()) == list(right.all_fragments())


@pytest.mark.parametrize("name", GOOD)
def test_records_pack_and_unpack(name: str) -> None:
    """The layout survives the index's format, with its padding bits."""
    record = scan(GOOD[name])
    assert record.frames is not None
    assert record.frames.layout is Layout.TRUSTED
    assert record.frames.number_of_frames == record.number_of_frames
    assert unpack_record(pack_record(record)) == record
    assert record.boundaries is scan(GOOD[name], trust=False).boundaries


def test_a_leading_empty_fragment_does_not_undo_trimming(tmp_path: Path) -> None:
    """The Extended Offset Table's lengths leave out padding, whatever items are empty."""
    padded = A[:-1] + b"\xd9\0"
    frames = [[b"", padded], [B]]
    data = dicom(frames, eot=starts_of(frames), lengths=[len(padded) - 1, len(B)])
    trusted, proved = (build(tmp_path, data, trust=trust) for trust in (True, False))
    assert outcomes(proved) == [padded[:-1], B]
    assert outcomes(trusted) == outcomes(proved)


def test_a_count_that_comes_from_the_table(tmp_path: Path) -> None:
    """Without Number of Frames the entries count, trusted or not."""
    fragments = [jpeg(number) for number in range(20)]
    starts = starts_of([[fragment] for fragment in fragments])
    data = encapsulated_file(fragments, None, bot=starts)
    trusted, proved = (build(tmp_path, data, trust=trust) for trust in (True, False))
    assert layout_of(trusted) is Layout.TRUSTED
    assert outcomes(trusted) == outcomes(proved) == fragments


def test_without_a_table_nothing_is_trusted(tmp_path: Path) -> None:
    """Items are walked, as ever."""
    root = build(tmp_path, dicom(SINGLE))
    assert layout_of(root) is Layout.FRAGMENT_A_FRAME
    assert outcomes(root) == [frame[0] for frame in SINGLE]


# Tables that lie


def lie(index: int, by: int) -> bytes:
    """Return a file whose table is wrong at one of its entries."""
    starts = starts_of(SINGLE)
    starts[index] += by
    return dicom(SINGLE, bot=starts)


@pytest.mark.parametrize("by", [2, -2, 8, -8])
def test_an_entry_that_lies_raises_and_its_neighbours_are_right(tmp_path: Path, by: int) -> None:
    """The frame that it begins and the one that it ends are in doubt; no other is."""
    samples = [
        index
        for index in range(1, 39)
        if layout_of(build(tmp_path, lie(index, by))) is Layout.TRUSTED
    ]
    assert len(samples) >= 5
    for index in samples:
        root = build(tmp_path, lie(index, by))
        found = outcomes(root)
        expected: list[bytes | str] = [frame[0] for frame in SINGLE]
        expected[index - 1 : index + 1] = ["FormatError"] * 2
        assert found == expected
    with mmindex.open(root) as archive, archive[UID] as instance:
        for read in (instance.frame, instance.byte_ranges, instance.view, instance.fragments):
            with pytest.raises(FormatError, match=r"@0x.*prove=True") as raised:
                read(index)
            assert raised.value.path == str(root / "a.dcm")
        with pytest.raises(FormatError, match="wrong"):
            list(instance.all_fragments())
        with pytest.raises(FormatError, match="wrong"):
            instance.frames()


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, RLE_LOSSLESS])
@pytest.mark.parametrize("kind", ["before", "within", "run", "eot"])
def test_an_entry_into_a_frame_of_several_fragments_cuts_no_frame_short(
    tmp_path: Path, kind: str, syntax: str
) -> None:
    """Of a frame to whose later items it leads, the true bytes are read, or an error is raised."""
    head = struct.pack("<2I", 1, 64) if syntax == RLE_LOSSLESS else b"\xff\xd8"
    frames = [[head + b"%02d" % number, b"middle%02d" % number, b"end"] for number in range(40)]
    for index in range(1, 39, 3):
        starts = starts_of(frames)
        second, third = (starts[index - 1] + 8 + len(head) + 2 + extra for extra in (0, 16))
        if kind == "within":
            second += starts[index] - starts[index - 1]
        starts[index] = second
        if kind == "run":
            starts[index + 1] = third
        bot, eot = (None, starts) if kind == "eot" else (starts, None)
        for found, frame in zip(
            outcomes(build(tmp_path, dicom(frames, bot=bot, eot=eot, syntax=syntax), trust=True)),
            frames,
            strict=False,
        ):
            assert found == b"".join(frame) or str(found).endswith("Error")


def test_frames_without_a_marker_that_may_have_several_fragments_are_proved() -> None:
    """Nothing in such a frame shows that an entry leads into it."""
    frames = [[b"a%02d" % number + b"."] for number in range(40)]
    for syntax in (JPEG_BASELINE, RLE_LOSSLESS, PRIVATE_SYNTAX):
        data = dicom(frames, bot=starts_of(frames), syntax=syntax)
        assert scan(data) == scan(data, trust=False)


@pytest.mark.parametrize(
    ("index", "by"), [(0, 8), (0, 2), (1, 2), (39, 2), (39, -2), (37, 4), (20, 1 << 20), (7, -40)]
)
def test_a_table_that_the_samples_catch_falls_back_to_the_proof(
    tmp_path: Path, index: int, by: int
) -> None:
    """The first, the last, those between and the order: frames and anomalies are the proof's."""
    data = lie(index, by)
    record = scan(data)
    assert record == scan(data, trust=False)
    assert "bot-o" in record.anomalies[0].code
    assert record.boundaries is Boundaries.ONE_FRAGMENT_A_FRAME
    assert outcomes(build(tmp_path, data)) == [frame[0] for frame in SINGLE]


@pytest.mark.parametrize("cut", [5, 8, 12, 30])
def test_a_file_that_was_cut_falls_back_to_the_proof(cut: int) -> None:
    """Without the sequence delimiter nobody says that the last frame is whole."""
    data = GOOD["bot"][:-cut]
    assert scan(data) == scan(data, trust=False)


BAD = {
    # As many filled fragments as frames: the proof drops the table and takes one each.
    "frame-of-empty-fragments": dicom([[A], [b""], [B, C]], bot=[0, 16, 24]),
    # RLE has one fragment a frame (rule R19), as the Extended Offset Table has (R17).
    "rle-of-two-fragments": dicom([[A, B], [C]], bot=[0, 32], syntax=RLE_LOSSLESS),
    "eot-of-two-fragments": dicom([[A, B], [C]], eot=[0, 32], lengths=[len(A + B) + 8, len(C)]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_the_proof_would_drop_gives_no_other_frames(tmp_path: Path, name: str) -> None:
    """Where the samples see that the rules are broken, it is as without trust."""
    trusted, proved = (build(tmp_path, BAD[name], trust=trust) for trust in (True, False))
    assert outcomes(trusted) == outcomes(proved)


def test_a_stale_file_is_told_before_its_frames_are_looked_for(tmp_path: Path) -> None:
    """What changed is no wrong table."""
    root = build(tmp_path, GOOD["bot"])
    with mmindex.open(root, revalidate_after=0) as archive:
        instance = archive[UID]
        assert instance[0] == jpeg(0)
        (root / "a.dcm").write_bytes(GOOD["bot-several-fragments"])
        with pytest.raises(StaleIndexError, match="the file changed"):
            instance.frame(1)


# What it costs


def test_unsampled_frames_are_not_read() -> None:
    """Items between the samples may be anything: nobody looks at them before they are read."""
    frames = [[b"\xff\xd8" + bytes(98)] for _ in range(2000)]
    right = dicom(frames, bot=starts_of(frames))
    first = right.index(struct.pack("<HHI", 0xFFFE, 0xE000, 100))
    trusted = scan(right)
    assert trusted.frames is not None
    broken = bytearray(right)
    spared = {0, 1999}
    samples = {round(1999 * k / 15) for k in range(16)}
    for sample in samples:
        spared |= {sample - 1, sample, sample + 1}
    for index in set(range(2000)) - spared:
        broken[first + 108 * index : first + 108 * index + 8] = b"nothing."
    assert scan(bytes(broken)) == trusted


def test_few_pages_of_a_slide_are_touched(tmp_path: Path) -> None:
    """Of 2,000 frames of 128 KiB those sampled are mapped, a page or a few each."""
    if not os.path.exists("/proc/self/smaps"):
        pytest.skip("needs /proc/self/smaps")
    path = tmp_path / "slide.dcm"
    count, length = 2000, 1 << 17
    starts = [index * (length + 8) for index in range(count)]
    head = encapsulated_file([], count, bot=starts, delimiter=b"")
    with path.open("wb") as file:
        file.write(head)
        for start in starts:
            file.seek(len(head) + start)
            file.write(struct.pack("<HHI", 0xFFFE, 0xE000, length) + b"\xff\xd8")
        file.seek(length - 2, os.SEEK_CUR)
        file.write(SEQUENCE_DELIMITER)
    assert mapped_by_scan(path, trust=True) < 1 << 20
    assert mapped_by_scan(path, trust=False) >= count * mmap.PAGESIZE


def mapped_by_scan(path: Path, *, trust: bool) -> int:
    """Return how many bytes of a file are in memory after a scan of its map."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        record = scan(mapped, trust=trust)
        assert record.status is Status.INDEXED
        with open("/proc/self/smaps", encoding="utf-8", errors="surrogateescape") as maps:
            found = re.search(rf"{re.escape(str(path))}\n.*?Rss: +(\d+) kB", maps.read(), re.DOTALL)
    assert found is not None
    return int(found[1]) << 10


def write_sparse(path: Path, head: bytes, last_items: bytes) -> None:
    """Write `head`, three items of 1.5 GiB of holes, `last_items` and a delimiter."""
    space = os.statvfs(path.parent)
    if space.f_bavail * space.f_frsize < GIB:
        pytest.skip("not enough room for a sparse file")
    try:
        with path.open("wb") as file:
            file.write(head)
            for _ in range(3):
                file.write(struct.pack("<HHI", 0xFFFE, 0xE000, 3 * GIB // 2) + b"\xff\xd8")
                file.seek(3 * GIB // 2 - 2, os.SEEK_CUR)
            file.write(last_items + SEQUENCE_DELIMITER)
        status = path.stat()
    except OSError as error:
        pytest.skip(f"no sparse files here: {error}")
    if status.st_blocks * 512 > GIB:
        path.unlink()
        pytest.skip("no sparse files here")


def test_entries_past_4_gib_wrap_and_are_trusted_all_the_same(tmp_path: Path) -> None:
    """The fourth frame begins at 4.5 GiB + 24, which is 0.5 GiB + 24 in 32 bits."""
    root = tmp_path / "trusted"
    root.mkdir()
    bot = [0, 3 * GIB // 2 + 8, 3 * GIB + 16, GIB // 2 + 24]
    head = encapsulated_file([], 4, bot=bot, delimiter=b"")
    write_sparse(root / "a.dcm", head, item(b"\xff\xd8la") + item(b"stfr"))
    mmindex.build(root, workers=1, prove=False)
    assert layout_of(root) is Layout.TRUSTED
    with mmindex.open(root) as archive, archive.file("a.dcm") as instance:
        assert instance.record.frames is not None
        assert instance.record.frames.entry_size == 8
        assert instance.frame(3) == b"\xff\xd8lastfr"
        size = (root / "a.dcm").stat().st_size
        assert instance.byte_ranges(3) == ((size - 24, 4), (size - 12, 4))


# The command


@pytest.mark.parametrize("name", GOOD)
def test_open_file_trusts_unless_told_and_scan_on_request(tmp_path: Path, name: str) -> None:
    """By path and of a file object, the frames are those of a full proof."""
    path = tmp_path / "a.dcm"
    path.write_bytes(GOOD[name])
    with mmindex.open_file(path, prove=True) as proved:
        assert proved.record.frames is not None
        assert proved.record.frames.layout is not Layout.TRUSTED
        expected = list(proved)
    for options in ({}, {"prove": False}):
        with mmindex.open_file(path, **options) as trusted:
            assert trusted.record.frames is not None
            assert trusted.record.frames.layout is Layout.TRUSTED
            assert list(trusted) == expected
    with path.open("rb") as file, mmindex.open_file(file, prove=False) as trusted:
        assert list(trusted) == expected
    record = mmindex.scan(GOOD[name], prove=False)
    assert record == scan(GOOD[name])


def test_command_trusts_on_request_only(tmp_path: Path) -> None:
    """The option goes to the scan, in other processes, too; ranges and info serve the result."""
    (tmp_path / "a.dcm").write_bytes(GOOD["bot-several-fragments"])
    run("build", tmp_path)
    assert layout_of(tmp_path) is Layout.FRAGMENTS
    ranges = run("ranges", tmp_path / "a.dcm", 1, 2).stdout
    run("build", tmp_path, "--full", "--no-prove")
    assert layout_of(tmp_path) is Layout.TRUSTED
    assert run("ranges", tmp_path / "a.dcm", 1, 2).stdout == ranges
    run("build", tmp_path, "--no-prove")
    assert run("frame", tmp_path / "a.dcm", 3, "-o", "-").stdout_bytes == b"".join(SEVERAL[2])


@pytest.mark.parametrize("name", GOOD)
def test_info_describes_an_instance_of_a_trusted_table(tmp_path: Path, name: str) -> None:
    """In text and as JSON; attributes, frames and anomalies are known without a proof."""
    root = build(tmp_path, GOOD[name])
    described = json.loads(run("info", root / "a.dcm", "--json").stdout)
    assert described["number_of_frames"] == scan(GOOD[name]).number_of_frames
    assert run("info", root / "a.dcm").stdout


def test_other_processes_are_told_to_trust(tmp_path: Path) -> None:
    """Workers scan as the build was asked to."""
    for number in range(300):
        (tmp_path / f"{number}").write_bytes(GOOD["bot"])
    mmindex.build(tmp_path, workers=2, prove=False)
    with mmindex.open(tmp_path) as archive:
        layouts = [record.frames.layout for record in archive.records() if record.frames]
    assert layouts == [Layout.TRUSTED] * 300


SOP_INSTANCE_UID = element(0x00080018, "UI", "1.2.3")


FRAME = b"\xff\xd8AAAA\xff\xd9"


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
    data_set = SOP_INSTANCE_UID + image_attributes(number_of_frames=FRAMES) + before
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
    data_set = (
        SOP_INSTANCE_UID
        + image_attributes(number_of_frames=2)
        + extended_offset_table(starts, [8, 8])
    )
    written(tmp_path, dicom_file(data_set + encapsulate([FRAME, FRAME]), JPEG_BASELINE))
    mmindex.build(tmp_path, workers=1, prove=False)
    with mmindex.open(tmp_path) as archive:
        assert archive.frames([("1.2.3", 0), ("1.2.3", 1)]) == [FRAME, FRAME]
