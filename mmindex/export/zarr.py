"""Zarr: the frames of an instance or a series as a read-only store (package zarr, extra `export`).

The store is a group (Zarr format 3) with one array, `frames`, of a chunk a frame. A chunk is
decoded when it is read, so that Zarr needs no codec. Nothing is written, and nothing is kept.
"""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError, MissingDependencyError
from mmindex.index.instance_names import InstanceName, name_of
from mmindex.read.frame_stack import FrameStack, stack_series

try:
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
except ImportError:
    raise MissingDependencyError("Zarr is missing: pip install 'mmindex[export]'") from None

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from mmindex.read.archive import Archive

ARRAY = "frames"
_AXES = "frame", "row", "column", "sample"
_METADATA = "zarr.json"


class FrameStore(Store):  # type: ignore[misc]
    """A read-only store of Zarr over the frames of a `FrameStack`; see `open`."""

    supports_writes = supports_deletes = supports_partial_writes = False
    supports_listing = True

    def __init__(self, stack: FrameStack, attributes: dict[str, object]) -> None:
        super().__init__(read_only=True)
        self._stack = stack
        dtype, shape = stack.dtype, stack.shape
        array = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": "bool" if dtype.kind == "b" else dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (1, *shape[1:])}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
            "fill_value": 0,
            "dimension_names": _AXES[: len(shape)],
            "attributes": attributes,
        }
        group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
        self._metadata = {
            _METADATA: json.dumps(group).encode(),
            f"{ARRAY}/{_METADATA}": json.dumps(array).encode(),
        }
        self._ending = "/0" * (len(shape) - 1)  # of the key of a chunk

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrameStore) and self._stack is other._stack

    def __hash__(self) -> int:
        return id(self._stack)

    def _find(self, key: str) -> int | None:
        """Return the frame of a chunk's key, None of a key that is none."""
        number = key.removeprefix(f"{ARRAY}/c/").removesuffix(self._ending)
        if not number.isdecimal() or key != self._key(int(number)):
            return None
        return int(number) if int(number) < self._stack.shape[0] else None

    def _key(self, index: int) -> str:
        return f"{ARRAY}/c/{index}{self._ending}"

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key; a frame is decoded in a thread of its own."""
        data = self._metadata.get(key)
        if data is None:
            index = self._find(key)
            if index is None:
                return None
            frame = await asyncio.to_thread(self._stack.read, index)
            little = np.ascontiguousarray(frame, frame.dtype.newbyteorder("<"))
            return prototype.buffer.from_array_like(_cut(little.reshape(-1).view("B"), byte_range))
        return prototype.buffer.from_bytes(_cut(np.frombuffer(data, "B"), byte_range).tobytes())

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> builtins.list[Buffer | None]:
        """Return the bytes of several keys and ranges."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether there is such a key."""
        return key in self._metadata or self._find(key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Raise: the store is read-only."""
        self._check_writable()

    async def set_partial_values(self, key_start_values: Iterable[object]) -> None:
        """Raise: the store is read-only. Abstract before zarr 3.1.3."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Raise: the store is read-only."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """Yield every key."""
        for name in self._metadata:
            yield name
        for index in range(self._stack.shape[0]):
            yield self._key(index)

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with a prefix."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names below a prefix, each once."""
        folder = prefix.strip("/") + "/" if prefix.strip("/") else ""
        seen = set()
        async for key in self.list_prefix(folder):
            name = key[len(folder) :].partition("/")[0]
            if name not in seen:
                seen.add(name)
                yield name


def _cut(data: np.ndarray, byte_range: ByteRequest | None) -> np.ndarray:
    """Return the asked part of bytes."""
    if isinstance(byte_range, RangeByteRequest):
        return data[byte_range.start : byte_range.end]
    if isinstance(byte_range, OffsetByteRequest):
        return data[byte_range.offset :]
    if isinstance(byte_range, SuffixByteRequest):
        return data[max(0, len(data) - byte_range.suffix) :]
    return data


def open(
    archive: Archive, *, series_uid: str | None = None, sop_instance_uid: str | None = None
) -> FrameStore:
    """Return the frames of a series or an instance as a store for Zarr.

    `zarr.open_group(store, mode="r")["frames"]` is the array: (frames, rows, columns[, samples]),
    with dimension names "frame", "row", "column", "sample". Its attributes are, where all frames
    have the same: pixel_spacing (mm between rows, between columns), spacing (mm along frame, row
    and column), rescale_slope and rescale_intercept, frame_time (ms). For xarray, scale_factor and
    add_offset are the same slope and intercept. `slice_positions` has a number a frame, in mm.

    Parameters
    ----------
    archive : Archive
        Stays open while the store is used.
    series_uid : str
        Series Instance UID: frames in the order of `FrameDataset`.
    sop_instance_uid : str
        One instance instead.

    Raises
    ------
    MissingDependencyError
        zarr is not installed (when this module is imported).
    InstanceNotFoundError
        The archive has no such series or instance.
    FormatError, DecodeError
        Frames differ in shape or type; the first one cannot be decoded.
    ValueError
        Neither or both are given.
    """
    if (series_uid is None) == (sop_instance_uid is None):
        raise ValueError("give either series_uid or sop_instance_uid")
    if sop_instance_uid is not None:
        stack = FrameStack(archive, [archive.record(sop_instance_uid)])
    else:
        assert series_uid is not None
        stack = stack_series(archive, series_uid)
    return FrameStore(stack, _describe(archive, stack))


def _describe(archive: Archive, stack: FrameStack) -> dict[str, object]:
    """Return the attributes of an array."""
    records = stack.records
    found: dict[str, object] = {
        "series_instance_uid": records[0].series_instance_uid,
        "modality": records[0].modality,
        "photometric_interpretation": records[0].image_pixel.photometric_interpretation,
    }
    columns: dict[str, list[object]] = {}
    positions: list[float | None] = [record.image_numbers.slice_position for record in records]
    for name in ("pixel_spacing", "rescale_slope", "rescale_intercept", "frame_time"):
        columns[name] = [getattr(record.image_numbers, name) for record in records]
    if len(records) == 1:
        found["sop_instance_uid"] = records[0].sop_instance_uid
        if records[0].number_of_frames > 1:
            columns, positions = _read_table(archive, name_of(records[0]), columns)
    for name, values in columns.items():
        if values and values[0] is not None and all(value == values[0] for value in values):
            found[name] = values[0]
    if "rescale_slope" in found and "rescale_intercept" in found:
        found["scale_factor"], found["add_offset"] = (
            found["rescale_slope"],
            found["rescale_intercept"],
        )
    if len(positions) == stack.shape[0] and None not in positions:
        places = np.array(positions, np.float64)
        found["slice_positions"] = places.tolist()
        steps = np.diff(places)
        spacing = found.get("pixel_spacing")
        if len(steps) and isinstance(spacing, (tuple, list)) and np.allclose(steps, steps[0]):
            found["spacing"] = [abs(float(steps[0])), *spacing]
    return found


def _read_table(
    archive: Archive, name: InstanceName, columns: dict[str, builtins.list[object]]
) -> tuple[dict[str, builtins.list[object]], builtins.list[float | None]]:
    """Return the values and positions that the frames of one instance have."""
    with archive[name] as instance:
        try:
            table = instance.frame_table()
        except FormatError:
            return columns, []
    values = {name: _take_common(table[name]) if name in table else [] for name in columns}
    positions = table["position"].tolist() if "position" in table else []
    return values, positions


def _take_common(column: np.ndarray) -> builtins.list[object]:
    """Return the value that all frames have, as a list of one; an empty list without."""
    first = column[:1]
    return first.tolist() if bool((column == first).all()) else []
