"""What a listing reads of a record: the values of the whole record, and no byte beyond it."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from mmindex.errors import IndexFormatError
from mmindex.index.listing import ListedFile, is_troubled, measure, unpack_listed
from mmindex.index.record import unpack_record
from mmindex.model import Status

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("*.hex"))


def packed_of(path: Path) -> bytes:
    return bytes.fromhex(path.read_text())


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_listing_has_the_values_of_the_record(path: Path) -> None:
    """Those of the test vectors, or none where the whole record has to be unpacked."""
    packed = packed_of(path)
    record = unpack_record(packed)
    listed = unpack_listed(memoryview(packed))
    is_behind = bool(record.anomalies) or not record.status.is_instance
    assert (listed is None) == is_behind
    if listed is not None:
        assert listed == ListedFile(*[getattr(record, name) for name in ListedFile._fields])
    frames = record.number_of_frames if record.status.has_frames else 0
    assert measure(7, memoryview(packed)) == (7, frames, record.scan_microseconds)
    troubled = bool(record.anomalies) or record.status is Status.UNREADABLE
    assert is_troubled(memoryview(packed)) is troubled


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
@pytest.mark.parametrize("seed", range(300))
def test_bytes_that_are_no_record_are_damage(path: Path, seed: int) -> None:
    """Cut or overwritten, they give values or IndexFormatError, in bounded time."""
    chance = random.Random(seed)
    data = bytearray(packed_of(path))
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if seed % 3 == 0:
        del data[chance.randrange(len(data)) :]
    for read in (unpack_listed, is_troubled, lambda view: measure(1, view)):
        with suppress(IndexFormatError):
            read(memoryview(bytes(data)))


def test_a_path_that_leads_out_of_the_archive_is_damage() -> None:
    """As in a whole record."""
    packed = packed_of(next(path for path in VECTORS if path.stem == "ct-slice"))
    path = unpack_record(packed).path
    with pytest.raises(IndexFormatError, match="leads out"):
        unpack_listed(memoryview(packed.replace(path, b"/" + path[1:], 1)))
