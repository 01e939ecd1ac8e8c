"""A tile of a sparse slide is found in an index by short reads, however many tiles there are."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from new_store import create_store

from mmindex.errors import IndexFormatError
from mmindex.frame_table import FrameTable, Layout
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, InstanceRecord, Status
from mmindex.tile_positions import SlideImage, TilePositions, pack_positions

SIDE = 1000  # columns and rows of tiles


def make_image(tiles: int) -> tuple[SlideImage, np.ndarray]:
    """Return a slide and the key of each frame, in a random order of places."""
    size = SIDE * 256
    image = SlideImage(size, size, 256, 256, ("A",), "TILED_SPARSE", "", 0, (0.0, 2.0), ("1",))
    keys = np.random.default_rng(tiles).permutation(2 * SIDE * SIDE)[:tiles]
    return image, keys


@pytest.mark.parametrize("tiles", [3_000, 500_000])
def test_a_tile_is_found_in_constant_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiles: int
) -> None:
    """The head and the fences are read once, then 256 tiles at most for a look-up."""
    image, keys = make_image(tiles)
    store = create_store(str(tmp_path / ".mmindex"), os.fsencode(tmp_path))
    record = InstanceRecord(
        Status.INDEXED,
        path=b"slide.dcm",
        fingerprint=Fingerprint(1, 2, 3),
        sop_instance_uid="1.2",
        number_of_frames=tiles,
        frames=FrameTable(Layout.NATIVE, tiles, tiles, tiles, 500, frame_bits=8, stride_bits=8),
        positions=pack_positions(image, keys),
    )
    store.replace([pack_record(record)])
    (file_id,) = store.find_uid("instances", "1.2")
    read: list[int] = []
    read_positions: Callable[..., bytes] = Store.read_positions

    def count(store: Store, *arguments: object) -> bytes:
        data = read_positions(store, *arguments)
        read.append(len(data))
        return data

    monkeypatch.setattr(Store, "read_positions", count)
    found = store.read_record(file_id)
    assert found is not None
    assert found.positions is not None
    positions = TilePositions(found.positions)
    fences = -(-tiles // 256) * 8
    chunk = 16_384
    chance = random.Random(1)
    frames = [0, tiles - 1, *(chance.randrange(tiles) for _ in range(50))]
    for number, frame in enumerate(frames):
        read.clear()
        plane, place = divmod(int(keys[frame]), SIDE * SIDE)
        assert positions.find(place % SIDE, place // SIDE, plane, 0) == frame
        most = 2 * chunk + (fences + chunk if number == 0 else 0)
        assert sum(read) <= most, read
    store.close()


def test_a_walk_of_a_plane_has_its_tiles_in_order() -> None:
    """Rows, then columns; those of other planes are left out."""
    image, keys = make_image(3_000)
    positions = TilePositions(pack_positions(image, keys))
    for plane in (0, 1):
        first = plane * SIDE * SIDE
        expected = sorted(
            (key - first, frame)
            for frame, key in enumerate(keys.tolist())
            if first <= key < first + SIDE * SIDE
        )
        assert list(positions.walk(plane, 0)) == expected


def test_a_walk_of_tiles_that_are_not_in_order_raises() -> None:
    """As of a damaged index: a tile would be counted twice, or lost."""
    image, keys = make_image(300)
    data = bytearray(pack_positions(image, np.sort(keys)))
    data[-12 * 5 : -12 * 4] = data[-12 * 6 : -12 * 5]
    walk = TilePositions(bytes(data)).walk
    with pytest.raises(IndexFormatError, match="rebuild"):
        deque(chain(walk(0, 0), walk(1, 0)))
