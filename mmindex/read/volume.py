"""Volume: the slices of a series as one array, and where it lies in the patient (PS3.3 C.7.6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError
from mmindex.index.instance_names import UidWithin, name_of
from mmindex.read.header import header_errors
from mmindex.read.selection import select_series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from pydicom import Dataset

    from mmindex.model import InstanceRecord
    from mmindex.read.archive import Archive

_COSINES = 1e-3  # by which direction cosines of parallel slices may differ
_SQUARE = 1e-2  # by which the axes of a slice may differ from unit vectors at right angles
_STEP = 0.05  # part of the distance of slices by which distances may differ
_SHIFT = 0.5  # part of a pixel by which slices may be shifted in their plane


@dataclass(frozen=True, slots=True)
class Volume:
    """Parallel slices at even distances.

    Attributes
    ----------
    array : ndarray
        Shape (slices, rows, columns[, samples]), along the slices' normal.
    spacing : (float, float, float)
        Distance of neighbours along each axis of the array, in mm; of a single slice, its
        thickness is not looked at and the first is 0.
    origin : (float, float, float)
        Center of the first pixel in the patient's coordinates (left, posterior, superior), in mm.
    direction : ndarray
        Shape (3, 3), float64: the direction of each axis of the array, a row each.
    """

    array: NDArray[np.generic]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Slice:
    name: UidWithin
    frame_index: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]

    @property
    def uid(self) -> str:
        return self.name.sop_instance_uid


def read_volume(
    archive: Archive, series_instance_uid: str, *, rescale: bool, threads: int | None
) -> Volume:
    """Return the slices of a series; see `Archive.volume`.

    Raises
    ------
    FormatError
        They make no volume.
    """
    slices: list[_Slice] = []
    for record in select_series(archive, series_instance_uid):
        slices += _walk_slices(archive, record)
    if not slices:
        raise FormatError(f"series {series_instance_uid} has no slices", path=archive.path)
    try:
        step = _sort_slices(slices)
    except FormatError as error:
        error.message = (
            f"series {series_instance_uid} is no volume: {error.message}; FrameDataset has its "
            "frames one by one"
        )
        raise error.at(archive.path) from None

    pairs = [(each.name, each.frame_index) for each in slices]
    stack = archive.arrays(pairs, rescale=rescale, threads=threads)
    first = slices[0]
    along_row, along_column = first.orientation[:3], first.orientation[3:]
    direction = np.array([np.cross(along_row, along_column), along_column, along_row])
    x, y, z = map(float, first.position)
    return Volume(stack, (step, *first.spacing), (x, y, z), direction)


def _walk_slices(archive: Archive, record: InstanceRecord) -> Iterator[_Slice]:
    """Yield where the frames of an instance lie, by its record or by its header."""
    numbers = record.image_numbers
    known = numbers.image_position_patient, numbers.image_orientation_patient, numbers.pixel_spacing
    if record.number_of_frames == 1 and None not in known:
        yield _make_slice(name_of(record), 0, *known)
        return
    with archive.file(record.key) as instance:
        header = instance.dataset()
    try:
        yield from _walk_header(record, header)
    except header_errors() as error:
        raise FormatError(
            f"pydicom cannot read where the frames of {record.sop_instance_uid} lie: {error}"
        ) from error


def _walk_header(record: InstanceRecord, header: Dataset) -> Iterator[_Slice]:
    offsets = header.get("GridFrameOffsetVector")
    if offsets:
        yield from _walk_dose(record, header, offsets)
        return
    for frame_index in range(record.number_of_frames):
        values = (
            _find_value(header, frame_index, "PlanePositionSequence", "ImagePositionPatient"),
            _find_value(header, frame_index, "PlaneOrientationSequence", "ImageOrientationPatient"),
            _find_value(header, frame_index, "PixelMeasuresSequence", "PixelSpacing"),
        )
        yield _make_slice(name_of(record), frame_index, *values)


def _walk_dose(record: InstanceRecord, header: Dataset, offsets: object) -> Iterator[_Slice]:
    """Yield where the planes of an RT Dose lie: the header has the first, and offsets from it.

    Offsets are along the normal; those that begin with the first plane's z are z themselves, which
    is for planes across the z axis alone (PS3.3 C.8.8.3.2).
    """
    name, count = name_of(record), record.number_of_frames
    keywords = "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"
    first = _make_slice(name, 0, *map(header.get, keywords))
    steps = np.atleast_1d(np.asarray(offsets, np.float64))
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    if steps[0] == first.position[2] and steps[0] and abs(normal[2]) > 1 - _COSINES:
        steps = (steps - steps[0]) * np.sign(normal[2])
    if len(steps) != count or steps[0] or not np.isfinite(steps).all():
        raise FormatError(
            f"the Grid Frame Offset Vector of {first.uid} gives no positions for its {count} frames"
        )
    for frame_index, step in enumerate(steps):
        place = first.position + step * normal
        yield _Slice(name, frame_index, place, first.orientation, first.spacing)


def _find_value(header: Dataset, frame_index: int, sequence: str, keyword: str) -> object:
    """Return a value of a frame: its own, the shared, or that of the top level."""
    groups = [
        *(header.get("PerFrameFunctionalGroupsSequence") or [])[frame_index : frame_index + 1],
        *(header.get("SharedFunctionalGroupsSequence") or [])[:1],
    ]
    for group in groups:
        for item in (group.get(sequence) or [])[:1]:
            if item.get(keyword) is not None:
                return item.get(keyword)
    return header.get(keyword)


def _make_slice(
    name: UidWithin, frame_index: int, position: object, orientation: object, spacing: object
) -> _Slice:
    uid = name.sop_instance_uid
    try:
        place = np.asarray(position, np.float64)
        cosines = np.asarray(orientation, np.float64)
        rows, columns = map(float, spacing)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        place = cosines = np.empty(0)
        rows = columns = 0.0
    given = (*place.flat, *cosines.flat, rows, columns)
    if place.shape != (3,) or cosines.shape != (6,) or not np.isfinite(given).all():
        raise FormatError(f"frame index {frame_index} of {uid} gives no position in space")
    axes = cosines.reshape(2, 3)
    if min(rows, columns) <= 0 or np.abs(axes @ axes.T - np.eye(2)).max() > _SQUARE:
        raise FormatError(
            f"frame index {frame_index} of {uid}: expected spacing above 0 and unit vectors at "
            f"right angles (PS3.3 C.7.6.2.1.1), found {rows}, {columns} and {cosines.tolist()}"
        )
    return _Slice(name, frame_index, place, cosines, (rows, columns))


def _sort_slices(slices: list[_Slice]) -> float:
    """Sort slices along their normal; return the distance of neighbours, in mm.

    Raises
    ------
    FormatError
        One is missing, double or not parallel.
    """
    first = slices[0]
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    for each in slices:
        if np.abs(each.orientation - first.orientation).max() > _COSINES:
            raise FormatError(f"slice {each.uid} is not parallel to {first.uid}")
        if np.abs(np.subtract(each.spacing, first.spacing)).max() > _COSINES * first.spacing[0]:
            raise FormatError(f"slice {each.uid} has another pixel spacing than {first.uid}")
    slices.sort(key=lambda each: float(each.position @ normal))
    if len(slices) == 1:
        return 0.0
    places = np.array([each.position for each in slices])
    heights = places @ normal
    steps = np.diff(heights)
    step = float(np.median(steps))
    at = int(np.argmin(steps))
    if steps[at] <= step * _STEP or step <= 0:
        raise FormatError(f"two slices at {heights[at]:.3f} mm: {slices[at].uid}")
    wrong = np.flatnonzero(np.abs(steps - step) > step * _STEP)
    if len(wrong):
        at = int(wrong[0])
        raise FormatError(
            f"expected slices {step:.3f} mm from each other, found {steps[at]:.3f} mm after "
            f"{slices[at].uid}"
        )
    shift = places - places[0] - np.outer(heights - heights[0], normal)
    if np.abs(shift).max() > _SHIFT * min(first.spacing):
        raise FormatError("slices are shifted in their plane, as of a tilted gantry")
    return step
