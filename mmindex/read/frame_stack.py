"""FrameStack: frames of one shape and type, of an instance or a series of an archive, by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import DecodeError, FormatError, naming
from mmindex.index.instance_names import name_of
from mmindex.read.declared_frames import check_declared_frames
from mmindex.read.items import Items
from mmindex.read.order import order_records
from mmindex.read.selection import select_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmindex.model import InstanceRecord
    from mmindex.read.archive import Archive


class FrameStack:
    """The decoded frames of records, one after the other: an array that is read frame by frame.

    Attributes
    ----------
    records : sequence of InstanceRecord
        Whose frames they are, in order; without their frame tables.
    shape : tuple of int
        (frames, rows, columns[, samples]).
    dtype : numpy.dtype
        Type of the pixels, in this machine's byte order.

    Raises
    ------
    FormatError
        Frames differ in rows, columns, samples or bits, or there are none; a file declares more
        than 1,048,576 frames and does not have them.
    DecodeError
        The first frame cannot be decoded.
    """

    def __init__(self, archive: Archive, records: Sequence[InstanceRecord]) -> None:
        for record in records:
            with naming(archive.full_path(record)):
                check_declared_frames(record)
        with naming(archive.path):
            check_declared_frames(*records)
        records = [
            record._replace(frames=None, positions=None)  # which may be long
            for record in records
            if record.status.has_frames
        ]
        if not records:
            raise FormatError("there are no frames", path=archive.path)
        self._archive = archive
        self.records = records
        self._names = [name_of(record) for record in records]
        self._items = Items(records, by_path=False)
        kinds = [_describe(record) for record in records]
        for record, kind in zip(records, kinds, strict=True):
            if kind != kinds[0]:
                raise FormatError(
                    f"expected frames of one kind, found {kind} beside {kinds[0]}: open instances "
                    "one by one",
                    path=archive.full_path(record),
                )
        first = archive.array(self._names[0], 0)
        self.shape = (len(self._items), *first.shape)
        self.dtype = first.dtype.newbyteorder("=")

    def read(self, index: int) -> NDArray[np.generic]:
        """Return the pixels of a frame.

        Raises
        ------
        DecodeError
            The frame cannot be decoded, or differs from the first one in shape or type.
        MMIndexError
            As `Archive.array`.
        """
        at, frame_index = self._items.find(index)
        frame = self._archive.array(self._names[at], frame_index)
        found = frame.shape, frame.dtype.newbyteorder("=")
        if found != (self.shape[1:], self.dtype):
            raise DecodeError(
                f"expected a frame of {self.shape[1:]} as {self.dtype}, found {frame.shape} as "
                f"{frame.dtype} in frame index {frame_index}",
                path=self._archive.full_path(self.records[at]),
            )
        return frame.astype(self.dtype, copy=False)


def _describe(record: InstanceRecord) -> str:
    image = record.image_pixel
    return (
        f"{image.rows} x {image.columns} x {image.samples_per_pixel or 1} pixels of "
        f"{image.bits_allocated} bits{' with sign' * bool(image.pixel_representation)} in "
        f"{image.pixel_keyword}"
    )


def stack_series(archive: Archive, series_instance_uid: str) -> FrameStack:
    """Return the frames of a series, in the order that a `FrameDataset` has them.

    Raises
    ------
    InstanceNotFoundError
        The archive has no such series.
    FormatError, DecodeError
        As `FrameStack`.
    """
    return FrameStack(
        archive, order_records(select_series(archive, series_instance_uid), "position")
    )
