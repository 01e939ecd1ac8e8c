"""Whatever frames are written, the same frames are read, or an error where the rules say so.

The bytes are written by hand; what has to come of them is told by `lawful_frames`, a plain
reading of rules R13 to R19 on lists, which shares nothing with the scanner.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    ICON_IMAGE_SEQUENCE,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_BASELINE,
    PIXEL_DATA,
    PRIVATE_SEQUENCE,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulate,
    extended_offset_table,
    image_attributes,
    item,
    sequence,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from outcomes import check_trusted, open_proved

import mmindex
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    MMIndexError,
    TruncatedFrameError,
)

MARKERS = {
    JPEG_BASELINE: [b"\xff\xd8"],
    JPEG_2000: [b"\xff\x4f", b"\0\0\0\x0cjP  \r\n\x87\n"],
}
ONE_FRAGMENT = (RLE_LOSSLESS, DEFLATED_IMAGE_FRAME)
SYNTAXES = [*MARKERS, *ONE_FRAGMENT, PRIVATE_SYNTAX]

Frames = list[list[bytes]]

fragment_values = st.one_of(
    st.binary(max_size=12),
    st.builds(bytes.__add__, st.sampled_from([b"\xff\xd8", b"\xff\x4f"]), st.binary(max_size=9)),
    st.sampled_from(
        [
            b"\xfe\xff\xdd\xe0\0\0\0\0",
            b"\xfe\xff\x00\xe0\x04\0\0\0",
            b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff",
            b"\xff\xd9",
        ]
    ),
)
odd_frames = st.lists(fragment_values, max_size=4)


@st.composite
def proper_frames(draw: st.DrawFn) -> list[bytes]:
    """Return a frame that begins and ends like JPEG or JPEG 2000, in one fragment or several."""
    begin = draw(st.sampled_from([b"\xff\xd8", b"\xff\x4f"]))
    frame = begin + draw(st.binary(max_size=8)) + b"\xff\xd9"
    at = draw(st.integers(2, len(frame)))
    return [frame] if at == len(frame) else [frame[:at], frame[at:]]


frame_lists: st.SearchStrategy[Frames] = st.one_of(
    st.lists(odd_frames, min_size=1, max_size=6),
    st.lists(proper_frames(), min_size=1, max_size=6),
)


def starts_of(frames: Frames) -> list[int]:
    """Return the offset of each frame's first item, counted from the first one."""
    starts, position = [], 0
    for fragments in frames:
        starts.append(position)
        position += sum(8 + len(fragment) for fragment in fragments)
    return starts


def find_firsts(
    fragments: list[bytes], table: list[int], uid: str, *, extended: bool
) -> list[int] | None:
    """Return the filled fragments that a table begins frames with, None where R15 drops it."""
    starts = [sum(8 + len(f) for f in fragments[:at]) for at in range(len(fragments))]
    if not table or table[0] != 0 or sorted(set(table)) != table or not set(table) <= set(starts):
        return None
    firsts = [starts.index(entry) for entry in table]
    groups = [fragments[a:b] for a, b in zip(firsts, [*firsts[1:], None], strict=True)]
    one = extended or (uid in ONE_FRAGMENT and len(table) > 1)
    most = 1 if one else len(fragments)
    if not all(1 <= sum(map(bool, group)) <= most for group in groups):
        return None
    return [sum(map(bool, fragments[:first])) for first in firsts]


def lawful_frames(
    fragments: list[bytes], count: int, uid: str, bot: list[int], eot: list[int]
) -> list[bytes] | type[FormatError]:
    """Return the frames that R13, R15, R17, R18, R19, R42, R45 and R51 make of the witnesses."""
    filled = [fragment for fragment in fragments if fragment]
    tables = [
        find_firsts(fragments, table, uid, extended=extended)
        for table, extended in ((eot, True), (bot, False))
        if table
    ]
    claims = [firsts for firsts in tables if firsts is not None]
    markers = tuple(MARKERS.get(uid, [b"no marker"]))
    begins = [at for at, fragment in enumerate(filled) if fragment.startswith(markers)]
    if begins:
        claims.append(begins)
    if claims:
        votes = [[c == claim for c in claims] + [len(claim) == count] for claim in claims]
        right = [
            claim
            for claim, vote in zip(claims, votes, strict=True)
            if claim[0] == 0
            and (vote.count(False) == 0 or (vote.count(False), 2) <= (1, vote.count(True)))
        ]
        if not right:
            return AmbiguousFramesError
        firsts = right[0] if all(claim == right[0] for claim in right) else right[-1]
    elif not filled:
        return FormatError
    elif (None in tables and uid in {*MARKERS, RLE_LOSSLESS}) or (
        bot
        and find_firsts(fragments, bot, uid, extended=False) is None
        and (len(bot) != count or bot[0] != 0)
    ):
        return AmbiguousFramesError
    elif count == 1:
        firsts = [0]
    elif len(filled) == count:
        firsts = [*range(count)]
    else:
        return AmbiguousFramesError if len(filled) > count else FormatError
    return [b"".join(filled[a:b]) for a, b in zip(firsts, [*firsts[1:], None], strict=True)]


def read(data: bytes) -> list[bytes | type[MMIndexError]] | type[MMIndexError]:
    """Return every frame or the class of its error, or the class of the file's error.

    Where the offset table is not proved, each frame is the same one or an error.
    """
    frames = read_with(data, prove=True)
    if not isinstance(frames, type):
        trusted = read_with(data, prove=False)
        assert not isinstance(trusted, type)
        check_trusted(trusted, frames)
    return frames


def read_with(data: bytes, *, prove: bool) -> list[bytes | type[MMIndexError]] | type[MMIndexError]:
    """Return every frame or the class of its error, or the class of the file's error."""
    frames: list[bytes | type[MMIndexError]] = []
    try:
        with mmindex.open_file(io.BytesIO(data), prove=prove) as instance:
            for index in range(instance.number_of_frames):
                try:
                    frames.append(instance.frame(index))
                    assert frames[-1] == b"".join(
                        data[place.offset :][: place.length]
                        for place in instance.byte_ranges(index)
                    )
                except MMIndexError as error:
                    frames.append(type(error))
    except MMIndexError as error:
        return type(error)
    return frames


@st.composite
def elements_before(draw: st.DrawFn, implicit: bool) -> bytes:
    """Return sequences and values to be written before the pixel data, nested as it comes."""

    def nested(depth: int) -> bytes:
        value = element(0x00080005, "CS", draw(st.binary(max_size=6)), implicit=implicit)
        if depth and draw(st.booleans()):
            value += sequence(
                PRIVATE_SEQUENCE,
                [
                    item(nested(depth - 1), undefined=draw(st.booleans()))
                    for _ in range(draw(st.integers(0, 2)))
                ],
                undefined=draw(st.booleans()),
                implicit=implicit,
            )
        if draw(st.booleans()):
            icon = encapsulate([b"icon"], bot=[0], implicit=implicit)
            icons = [item(icon, undefined=draw(st.booleans()))]
            value += sequence(
                ICON_IMAGE_SEQUENCE, icons, undefined=draw(st.booleans()), implicit=implicit
            )
        return value

    return nested(3)


@st.composite
def encapsulated(draw: st.DrawFn) -> tuple[bytes, list[bytes], int, str, list[int], list[int]]:
    """Return a file of frames with offset tables, right and wrong, and what went into it."""
    frames = draw(frame_lists)
    uid = draw(st.sampled_from(SYNTAXES))
    implicit = draw(st.booleans())
    right = starts_of(frames)
    wrong = st.lists(st.integers(0, 90), min_size=1, max_size=7)
    tables = st.one_of(st.just([]), st.just(right), st.just([0] * len(right)), wrong)
    bot, eot = draw(tables), draw(st.one_of(st.just([]), tables))
    fragments = [fragment for frame in frames for fragment in frame]
    count = draw(st.one_of(st.just(len(frames)), st.integers(1, 8)))
    lengths = None
    if len(eot) == len(frames) and draw(st.booleans()):
        lengths = [sum(map(len, frame)) for frame in frames]
    data_set = draw(elements_before(implicit))
    data_set += image_attributes(number_of_frames=count, implicit=implicit)
    if eot:
        data_set += extended_offset_table(eot, lengths, implicit=implicit)
    data_set += encapsulate(fragments, bot=bot, implicit=implicit)
    return dicom_file(data_set, uid), fragments, count, uid, bot, eot


def is_proper(frame: bytes | type, uid: str) -> bool:
    """Return whether a frame begins and, but for padding, ends like those of its codec."""
    return (
        isinstance(frame, bytes)
        and frame.startswith(tuple(MARKERS.get(uid, ())))
        and frame.rstrip(b"\0\xff").endswith(b"\xff\xd9")
    )


def uses_lengths(data: bytes) -> bool:
    """Return whether lengths of an Extended Offset Table trim a frame."""
    frames = mmindex.scan(data).frames
    return frames is not None and frames.trimmed


@given(encapsulated())
@settings(max_examples=400, deadline=None)
def test_R18_encapsulated_frames_are_those_of_the_rules(
    written: tuple[bytes, list[bytes], int, str, list[int], list[int]],
) -> None:
    """Fragments of any bytes and number, tables right, wrong or absent: one lawful outcome."""
    data, *rest = written
    lawful = lawful_frames(*rest)
    found = read(data)
    if isinstance(lawful, type):
        assert isinstance(found, type)
        assert issubclass(found, FormatError)
        assert found is lawful or lawful is FormatError
    elif isinstance(found, list) and uses_lengths(data):
        padded = [f + b[len(f) :] for f, b in zip(found, lawful, strict=True)]
        assert padded == lawful
        assert all(len(b) - len(f) in (0, 1) for f, b in zip(found, lawful, strict=True))
    else:
        assert found == lawful


@given(encapsulated(), st.data())
@settings(max_examples=300, deadline=None)
def test_R14_a_cut_file_has_its_own_frames_or_errors(
    written: tuple[bytes, list[bytes], int, str, list[int], list[int]], data: st.DataObject
) -> None:
    """Up to wherever a file is cut, a frame is the whole one, or raises.

    One loss leaves no trace: that of whole fragments of the last frame, where frames do not begin
    and end like their codec's, or this one ends so before them, too. And what was wrong with an
    offset table may be lost: then frames are made of whole fragments at least.
    """
    whole, fragments, _, uid, *_ = written
    original = read(whole)
    assume(isinstance(original, list))
    cut = data.draw(st.integers(0, len(whole) - 1))
    found = read(whole[:cut])
    if isinstance(found, type):
        return
    codes = [anomaly.code for anomaly in mmindex.scan(whole).anomalies]
    has_wrong_table = any(code.startswith(("bot-", "eot-")) for code in codes)
    joined = {
        b"".join(fragments[a:b])
        for a in range(len(fragments))
        for b in range(a + 1, len(fragments) + 1)
    }
    for index, frame in enumerate(found):
        if isinstance(frame, type):
            assert issubclass(frame, TruncatedFrameError)
        elif frame != original[index]:
            assert frame in joined
            if has_wrong_table:
                continue
            assert index == len(found) - 1 or isinstance(found[index + 1], type)
            assert original[index].startswith(frame)
            if all(is_proper(whole_frame, uid) for whole_frame in original):
                assert is_proper(frame, uid)


@st.composite
def native(draw: st.DrawFn) -> tuple[bytes, np.ndarray, int]:
    """Return a file of native frames, every bit of them, and the bits of a frame."""
    bits_allocated = draw(st.sampled_from([1, 8, 16, 32, 64]))
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    samples = draw(st.sampled_from([1, 3])) if bits_allocated > 1 else 1
    count = draw(st.integers(1, 6))
    bits = rows * columns * samples * bits_allocated
    value = draw(st.binary(min_size=(bits * count + 7) // 8, max_size=(bits * count + 7) // 8))
    uid = draw(
        st.sampled_from(
            [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
        )
    )
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    implicit = uid == IMPLICIT_VR_LITTLE_ENDIAN
    data_set = b"" if order == ">" else draw(elements_before(implicit))
    data_set += image_attributes(
        rows=rows,
        columns=columns,
        samples=samples,
        bits=bits_allocated,
        number_of_frames=count,
        photometric="RGB" if samples == 3 else "MONOCHROME2",
        order=order,
        implicit=implicit,
    )
    padded = value + bytes(len(value) % 2)
    vr = "OB" if bits_allocated <= 8 else "OW"
    data_set += element(PIXEL_DATA, vr, padded, order=order, implicit=implicit)
    every_bit = np.unpackbits(np.frombuffer(value, "u1"), bitorder="little")[: bits * count]
    return dicom_file(data_set, uid), every_bit, bits


@given(native(), st.integers(0, 400))
@settings(max_examples=300, deadline=None)
def test_R30_native_frames_are_the_bits_that_were_written(
    written: tuple[bytes, np.ndarray, int], lost: int
) -> None:
    """Frames of any shape and depth begin where the one before them ended, to the bit.

    Of a file that was cut, they are so or raise.
    """
    data, every_bit, bits = written
    count = len(every_bit) // bits
    try:
        instance = open_proved(io.BytesIO(data[: len(data) - lost]))
    except FormatError:
        assert lost
        return
    with instance:
        assert len(instance) == count or (lost and not len(instance))
        for index in range(len(instance)):
            expected = np.packbits(every_bit[index * bits :][:bits], bitorder="little").tobytes()
            try:
                assert instance.frame(index) == expected
            except TruncatedFrameError:
                assert lost


@given(native())
@settings(max_examples=200, deadline=None)
def test_R30_arrays_are_the_numbers_that_were_written(
    written: tuple[bytes, np.ndarray, int],
) -> None:
    """Each pixel is the unsigned number that its bytes are, in the data set's byte order."""
    data, every_bit, bits = written
    with open_proved(io.BytesIO(data)) as instance:
        image = instance.record.image_pixel
        size = image.bits_allocated or 0
        order = "big" if instance.record.transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "little"
        for index in range(len(instance)):
            frame_bits = every_bit[index * bits :][:bits]
            if size == 1:
                expected = frame_bits.tolist()
            else:
                frame = np.packbits(frame_bits, bitorder="little").tobytes()
                step = size // 8
                expected = [
                    int.from_bytes(frame[at : at + step], order)
                    for at in range(0, len(frame), step)
                ]
            assert instance.array(index).ravel().tolist() == expected


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_R17_no_extended_table_leads_out_of_the_items(offsets: list[int], wrap: bool) -> None:
    """Entries of any 64 bits are either those of the items or dropped."""
    frames = [[b"\xff\xd8" + bytes([number]) * 4] for number in range(len(offsets))]
    if wrap:
        offsets = [start + 2**64 - 2**32 for start in starts_of(frames)]
    value = struct.pack(f"<{len(offsets)}Q", *offsets)
    data_set = image_attributes(number_of_frames=len(frames))
    data_set += element(0x7FE00001, "OV", value)
    data_set += encapsulate([frame[0] for frame in frames])
    assert read(dicom_file(data_set, JPEG_BASELINE)) == [frame[0] for frame in frames]
