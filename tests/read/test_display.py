"""What showing a frame takes of its functional groups: its own values, and no other frame's."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes, item, sequence

import mmindex
from mmindex.errors import FormatError

TABLES = [(0, 60, 120, 255), (255, 120, 60, 0), (0, 60, 120, 255), (9, 8, 7, 6)]
PER_FRAME = 0x52009230


def make_file(*elements: bytes, frames: int = 1) -> bytes:
    """Return a file of frames of the values 0, 1, 2, 3 in 16 bits, with more elements."""
    data_set = image_attributes(rows=1, columns=4, number_of_frames=frames, bits=16)
    pixels = element(PIXEL_DATA, "OW", struct.pack("<4H", 0, 1, 2, 3) * frames)
    return dicom_file(data_set + b"".join(elements) + pixels)


def make_table(tag: int, values: tuple[int, ...], *, undefined: bool = False) -> bytes:
    """Return a Modality or VOI LUT Sequence (PS3.3 C.11.1, C.11.2) of four values of 8 bits."""
    entry = element(0x00283002, "US", struct.pack("<3H", 4, 0, 8))
    if tag == 0x00283000:
        entry += element(0x00283004, "LO", "US")
    entry += element(0x00283006, "US", struct.pack("<4H", *values))
    return sequence(tag, [item(entry, undefined=undefined)], undefined=undefined)


def make_group(tag: int, *elements: bytes, undefined: bool = False) -> bytes:
    return sequence(tag, [item(b"".join(elements), undefined=undefined)], undefined=undefined)


VOI, MODALITY = (0x00289132, 0x00283010), (0x00289145, 0x00283000)  # groups and their tables


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(("group", "table"), [VOI, MODALITY], ids=["voi", "modality"])
def test_each_frame_has_its_own_table(group: int, table: int, undefined: bool) -> None:
    """Also where sequences are of undefined length, which are read with what is in them."""
    groups = []
    for values in TABLES:
        made = make_table(table, values, undefined=undefined)
        own = make_group(group, made, undefined=undefined)
        groups.append(item(own, undefined=undefined))
    file = make_file(sequence(PER_FRAME, groups, undefined=undefined), frames=len(TABLES))
    with mmindex.open_file(file) as instance:
        for frame_index, values in enumerate(TABLES):
            if (group, table) == VOI:
                shown = instance.picture(frame_index).tolist()
            else:
                shown = instance.array(frame_index, rescale=True).tolist()
            assert shown == [list(values)]


SLOPE = element(0x00281052, "DS", "0") + element(0x00281053, "DS", "10")
WINDOW = element(0x00281050, "DS", "1.5") + element(0x00281051, "DS", "4")
TABLE = (250, 250, 250, 250)


@pytest.mark.parametrize("level", ["frame", "shared"])
def test_a_groups_slope_takes_the_place_of_a_table_of_the_top_level(level: str) -> None:
    """What stands in a functional group says all of the units (PS3.3 C.7.6.16.2.9)."""
    tag = PER_FRAME if level == "frame" else 0x52009229
    groups = sequence(tag, [item(make_group(0x00289145, SLOPE))])
    with mmindex.open_file(make_file(make_table(0x00283000, TABLE), groups)) as instance:
        assert instance.array(0, rescale=True).tolist() == [[0, 10, 20, 30]]


def test_a_groups_table_takes_the_place_of_a_slope_of_the_top_level() -> None:
    table = make_table(0x00283000, (5, 6, 7, 8))
    groups = sequence(PER_FRAME, [item(make_group(0x00289145, table))])
    with mmindex.open_file(make_file(SLOPE, groups)) as instance:
        assert instance.array(0, rescale=True).tolist() == [[5, 6, 7, 8]]


def test_a_groups_window_takes_the_place_of_a_table_of_the_top_level() -> None:
    groups = sequence(PER_FRAME, [item(make_group(0x00289132, WINDOW))])
    with (
        mmindex.open_file(make_file(make_table(0x00283010, TABLE), groups)) as both,
        mmindex.open_file(make_file(groups)) as alone,
    ):
        assert np.array_equal(both.picture(0), alone.picture(0))
        assert len(np.unique(both.picture(0))) == 4


@pytest.mark.parametrize("count", [2, 4])
def test_groups_that_are_not_one_a_frame_are_an_error(count: int) -> None:
    """Which frame a group is of is open then; groups that say nothing of units do no harm."""
    groups = [item(make_group(0x00289145, SLOPE))] * count
    with mmindex.open_file(make_file(sequence(PER_FRAME, groups), frames=3)) as instance:
        with pytest.raises(FormatError, match=f"of 3 frames .*, found {count} items"):
            instance.array(0, rescale=True)
        with pytest.raises(FormatError, match="Per-frame"):
            instance.picture(0)
    others = [item(make_group(0x00209111, element(0x00209157, "UL", bytes(4))))] * count
    with mmindex.open_file(make_file(SLOPE, sequence(PER_FRAME, others), frames=3)) as instance:
        assert instance.array(2, rescale=True).tolist() == [[0, 10, 20, 30]]
