"""Many functional groups read side by side give what each item says, one by one."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    dicom_file,
    element,
    image_attributes,
    item,
    sequence,
)

import mmindex
from mmindex.errors import FormatError
from mmindex.scan import lockstep
from mmindex.scan.functional_groups import read_frame_values
from mmindex.scan.header import scan_header

FORMS = [
    (EXPLICIT_VR_LITTLE_ENDIAN, False, False),
    (EXPLICIT_VR_LITTLE_ENDIAN, True, True),
    (EXPLICIT_VR_LITTLE_ENDIAN, False, True),
    (EXPLICIT_VR_LITTLE_ENDIAN, True, False),
    (IMPLICIT_VR_LITTLE_ENDIAN, False, False),
    (IMPLICIT_VR_LITTLE_ENDIAN, True, True),
    (EXPLICIT_VR_BIG_ENDIAN, True, False),
]
IDS = ["defined", "undefined", "undefined-items", "undefined-sequences", "implicit"]
IDS += ["implicit-undefined", "big-endian"]


class Writer:
    """Writes the groups of frames in one form."""

    def __init__(self, uid: str, sequences: bool, items: bool) -> None:
        self.uid = uid
        self.order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
        self.form = {"order": self.order, "implicit": uid == IMPLICIT_VR_LITTLE_ENDIAN}
        self.sequences, self.items = sequences, items

    def plain(self, tag: int, vr: str, value: bytes | str) -> bytes:
        return element(tag, vr, value, **self.form)

    def group(self, tag: int, *elements: bytes, count: int = 1) -> bytes:
        inner = [item(b"".join(elements), order=self.order, undefined=self.items)] * count
        return sequence(tag, inner, undefined=self.sequences, **self.form)

    def frame(self, *groups: bytes) -> bytes:
        return item(b"".join(groups), order=self.order, undefined=self.items)

    def file(self, frames: list[bytes], number: int | None = None) -> bytes:
        data_set = image_attributes(number_of_frames=number or len(frames), **self.form)
        data_set += sequence(0x52009230, frames, undefined=self.sequences, **self.form)
        return dicom_file(
            data_set + self.plain(0x7FE00010, "OW", bytes(4 * (number or len(frames)))), self.uid
        )


def read(data: bytes) -> dict[str, np.ndarray]:
    header = scan_header(data)
    return read_frame_values(header, header.number_of_frames()[0] or 1)


def make_varied(writer: Writer, seed: int) -> tuple[list[bytes], list[dict[str, object]]]:
    """Return items of four kinds in any order, and what each says."""
    rnd = random.Random(seed)
    frames, expected = [], []
    for number in range(200):
        kind = rnd.choice([0, 0, 0, 0, 0, 1, 2, 3])
        says: dict[str, object] = {"segment_number": number * 7 % 300}
        index = tuple(rnd.randrange(9) for _ in range(3 if kind != 1 else 2))
        z = rnd.choice([0.5, -12.25, 1e-3, 77.0, float(number)])
        text = f"1\\-2\\{z}" + " " * rnd.randrange(3)
        says["dimension_index_values"] = (*index, *(-(1 << 31),) * (3 - len(index)))
        says["image_position_patient"] = (1.0, -2.0, z)
        name = rnd.choice(["a", "bb", "ccc"])
        says["optical_path_identifier"] = name
        packed = struct.pack(f"{writer.order}{len(index)}I", *index)
        segment = struct.pack(f"{writer.order}H", number * 7 % 300)
        groups = [
            writer.group(0x00209111, writer.plain(0x00209157, "UL", packed)),
            writer.group(0x00209113, writer.plain(0x00200032, "DS", text)),
            writer.group(0x00480207, writer.plain(0x00480106, "SH", name)),
            writer.group(0x0062000A, writer.plain(0x0062000B, "US", segment)),
        ]
        if kind == 2:  # a group that others do not have, of several items, deeper ones in them
            deeper = writer.group(0x0062000A, writer.plain(0x0062000B, "US", b"\1\1"))
            groups.insert(2, writer.group(0x00211010, deeper, count=rnd.randrange(4)))
        if kind == 3:  # no position, or an empty one
            groups[1] = b"" if rnd.random() < 0.5 else writer.group(0x00209113)
            says["image_position_patient"] = (np.nan,) * 3
        frames.append(writer.frame(*groups))
        expected.append(says)
    return frames, expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_each_frame_has_what_its_item_says(form, seed):
    """Of items in every form, with groups that some lack and values of every length."""
    writer = Writer(*form)
    frames, expected = make_varied(writer, seed)
    found = read(writer.file(frames))
    for name in expected[0]:
        rows = np.array([says[name] for says in expected])
        assert np.array_equal(found[name], rows, equal_nan=rows.dtype.kind == "f"), name


@pytest.mark.parametrize("form", FORMS, ids=IDS)
def test_more_frames_than_a_block_are_read(form):
    """The last item of a block ends where the first one of the next block begins."""
    writer = Writer(*form)
    count = 40_000 if form[0] == EXPLICIT_VR_LITTLE_ENDIAN else 300
    packed = [struct.pack(f"{writer.order}H", number & 0xFFFF) for number in range(count)]
    frames = [
        writer.frame(writer.group(0x0062000A, writer.plain(0x0062000B, "US", each)))
        for each in packed
    ]
    found = read(writer.file(frames))
    assert np.array_equal(found["segment_number"], np.arange(count))


@pytest.mark.parametrize("form", FORMS[:6], ids=IDS[:6])
def test_values_that_are_none_of_their_kind_are_missing(form):
    """Letters for a number, an empty text, two numbers where three are expected, NUL padding."""
    writer = Writer(*form)

    def frame(position: str | bytes, name: str, z: str | bytes) -> bytes:
        return writer.frame(
            writer.group(0x00209113, writer.plain(0x00200032, "DS", position)),
            writer.group(0x00480207, writer.plain(0x00480106, "SH", name)),
            writer.group(0x0048021A, writer.plain(0x0040074A, "DS", z)),
        )

    frames = [frame("1\\2\\3", "x", "4")] * 20
    frames[5] = frame("1\\2", "", "")
    frames[6] = frame("a\\b\\c", "  ", "east")
    frames[7] = frame(b"1\\2\\7\0", "y", b" 8\0 ")
    found = read(writer.file(frames))
    assert np.isnan(found["image_position_patient"][5:7]).all()
    assert found["image_position_patient"][7].tolist() == [1, 2, 7]
    assert found["optical_path_identifier"].tolist() == ["x"] * 5 + ["", "", "y"] + ["x"] * 12
    assert np.isnan(found["z_offset_in_slide_coordinate_system"][5:7]).all()
    assert found["image_position_patient"][19].tolist() == [1, 2, 3]


@pytest.mark.parametrize("form", FORMS[:6], ids=IDS[:6])
@pytest.mark.parametrize("count", [59, 61])
def test_groups_of_fewer_or_more_frames_raise(form, count):
    """A row of another frame would be a wrong frame."""
    writer = Writer(*form)
    segment = writer.plain(0x0062000B, "US", b"\1\0")
    frames = [writer.frame(writer.group(0x0062000A, segment))] * count
    with pytest.raises(FormatError, match="Functional Groups of 60 frames, found"):
        read(writer.file(frames, 60))


def test_what_looks_like_an_item_within_a_value_is_none():
    """A value that has the bytes of an item's end and beginning moves no frame's row."""
    writer = Writer(EXPLICIT_VR_LITTLE_ENDIAN, True, True)
    trap = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\x11\x21\x10\x10SQ"
    frames = []
    for number in range(64):
        private = writer.group(0x21111010, writer.plain(0x21111011, "OB", trap * (number % 3)))
        segment = writer.plain(0x0062000B, "US", struct.pack("<H", number))
        frames.append(writer.frame(private, writer.group(0x0062000A, segment)))
    frames = [writer.frame(each[8:-8]) for each in frames]
    assert np.array_equal(read(writer.file(frames))["segment_number"], np.arange(64))


@pytest.mark.parametrize("form", FORMS[:6], ids=IDS[:6])
def test_damaged_groups_are_read_as_one_by_one(form, monkeypatch):
    """With a bit turned anywhere, frames have what a walk of one item at a time reads, or raise."""
    writer = Writer(*form)
    frames, _ = make_varied(writer, 7)
    data = writer.file(frames)
    rnd = random.Random(3)
    begin = len(dicom_file(b"", form[0])) + 100

    def try_read(broken: bytes) -> dict[str, list] | str:
        try:
            return {name: repr(column.tolist()) for name, column in read(broken).items()}
        except mmindex.MMIndexError as error:
            return type(error).__name__

    for _ in range(60):
        at = rnd.randrange(begin, len(data) - 900)
        broken = bytearray(data)
        broken[at] ^= 1 << rnd.randrange(8)
        together = try_read(bytes(broken))
        with monkeypatch.context() as patch:
            patch.setattr(lockstep, "FEWEST", 1 << 40)
            assert together == try_read(bytes(broken)), at
