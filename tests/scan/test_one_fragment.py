"""Pixel data of one fragment: the plain case is served, all else is left to the careful scan."""

from __future__ import annotations

import struct

import pytest
from dicom_bytes import encapsulated_file

from mmindex.model import Boundaries
from mmindex.scan.encoding import EXPLICIT_BIG, EXPLICIT_LITTLE
from mmindex.scan.instance import scan
from mmindex.scan.one_fragment import scan_one_fragment

FRAGMENT = b"\xff\xd8abcd\xff\xd9"


def item(value: bytes, order: str = "<", number: int = 0xE000) -> bytes:
    """Return an item, or with E0DD a sequence delimiter."""
    return struct.pack(order + "HHI", 0xFFFE, number, len(value)) + value


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("table", "boundaries"),
    [(b"", Boundaries.ALL_FRAGMENTS), (bytes(4), Boundaries.BASIC_OFFSET_TABLE)],
)
def test_the_one_fragment_is_the_frame(order: str, table: bytes, boundaries: Boundaries) -> None:
    """With an empty table, or one whose entry is 0, in both byte orders."""
    data = b"head" + item(table, order) + item(FRAGMENT, order) + item(b"", order, 0xE0DD)
    encoding = EXPLICIT_BIG if order == ">" else EXPLICIT_LITTLE
    found = scan_one_fragment(data, 4, encoding)
    assert found is not None
    assert found[1] is boundaries
    assert found[0].contiguous_range(0) == (data.index(FRAGMENT), len(FRAGMENT))


@pytest.mark.parametrize(
    "value",
    [
        item(b"\4\0\0\0") + item(FRAGMENT) + item(b"", number=0xE0DD),  # an entry beside the item
        item(bytes(8)) + item(FRAGMENT) + item(b"", number=0xE0DD),  # two entries
        item(bytes(3)) + item(FRAGMENT) + item(b"", number=0xE0DD),  # no whole entry
        item(b"") + item(FRAGMENT) + item(FRAGMENT) + item(b"", number=0xE0DD),
        item(b"") + item(FRAGMENT + b"\0") + item(b"", number=0xE0DD),  # of an odd length
        item(b"") + item(b"") + item(b"", number=0xE0DD),
        item(b"") + item(FRAGMENT),  # no delimiter
        item(b"") + item(FRAGMENT) + item(b"", number=0xE0DD)[:3],
        item(b"") + item(FRAGMENT)[:-2],
        item(b"") + item(FRAGMENT)[:4] + b"\xff\xff\xff\xff" + FRAGMENT,  # undefined length
        item(FRAGMENT) + item(b"", number=0xE0DD),  # no table
        item(b"", number=0xE0DD) + bytes(20),
        b"",
    ],
)
def test_what_is_not_plain_is_left_to_the_careful_scan(value: bytes) -> None:
    """Another table, more items or fewer, a length that is odd, or another end."""
    for size in range(len(value) + 1):
        assert scan_one_fragment(value[:size], 0, EXPLICIT_LITTLE) is None


@pytest.mark.parametrize("bot", [(), (0,)])
def test_one_frame_is_proved_where_tables_are_trusted(bot: tuple[int, ...]) -> None:
    """The look at the only entry of a table is the whole proof."""
    data = encapsulated_file([FRAGMENT], bot=bot)
    record = scan(data, prove=False)
    assert record == scan(data, prove=True)
    assert record.frames is not None
    assert record.frames.contiguous_range(0) == (data.index(FRAGMENT), len(FRAGMENT))
