"""Frames by what they are: position, segment, time (PS3.3 C.7.6.16), of one instance."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from mmindex.errors import naming
from mmindex.read.declared_frames import check_declared_frames
from mmindex.scan.functional_groups import read_frame_values
from mmindex.scan.header import Header, scan_up_to_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance

_SHORT_NAMES = {"segment": "segment_number"}
_KEPT: WeakKeyDictionary[Instance, Mapping[str, NDArray[np.generic]]] = WeakKeyDictionary()


def read_scanned_header(instance: Instance) -> Header:
    """Return what stands before an instance's pixel data, for functional groups to be read."""
    return scan_up_to_value(instance.read_header())


def keep_frame_table(instance: Instance) -> Mapping[str, NDArray[np.generic]]:
    """Return what every frame is, read once an open instance; see `Instance.frame_table`."""
    found = _KEPT.get(instance)
    if found is None:
        with naming(instance.path):
            found = _KEPT[instance] = read_frame_table(instance)
    return found


def read_frame_table(instance: Instance) -> Mapping[str, NDArray[np.generic]]:
    """Return what every frame is; see `Instance.frame_table`."""
    check_declared_frames(instance.record)
    header = read_scanned_header(instance)
    found = read_frame_values(header, max(1, instance.number_of_frames))
    if "image_position_patient" in found and "image_orientation_patient" in found:
        place, cosines = found["image_position_patient"], found["image_orientation_patient"]
        found["position"] = _find_positions(place, cosines)
    return MappingProxyType(found)


def _find_positions(
    place: NDArray[np.generic], cosines: NDArray[np.generic]
) -> NDArray[np.generic]:
    """Return the position of each frame along its normal; what all frames share, once."""
    count = len(place)
    place, cosines = (
        (each if each.strides[0] else each[:1]).astype(np.float64) for each in (place, cosines)
    )
    position: NDArray[np.generic] = (place * np.cross(cosines[:, :3], cosines[:, 3:])).sum(axis=1)
    position = position if len(position) == count else np.broadcast_to(position, (count,))
    position.flags.writeable = False
    return position


def find_frames(
    table: Mapping[str, NDArray[np.generic]], wanted: Mapping[str, object], tolerance: float
) -> NDArray[np.intp]:
    """Return the indices of frames that have all of these values; see `Instance.find`."""
    matches: NDArray[np.bool_] | None = None
    for name, value in wanted.items():
        column = table.get(_SHORT_NAMES.get(name, name))
        if column is None:
            raise ValueError(f"no frame has a {name!r}: there are {', '.join(sorted(table))}")
        if column.dtype.kind == "f":
            near = np.abs(column.astype(np.float64) - np.asarray(value, np.float64))
            same: NDArray[np.bool_] = np.asarray(near <= tolerance)
        else:
            same = np.asarray(column == np.asarray(value))
        if same.ndim > 1:
            same = np.asarray(same.all(axis=1))
        matches = same if matches is None else matches & same
    if matches is None:
        raise ValueError(f"say what to find: there are {', '.join(sorted(table))}")
    return np.flatnonzero(matches)
