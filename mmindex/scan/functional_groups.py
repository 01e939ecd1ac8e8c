"""What each frame is: Shared and Per-frame Functional Groups (PS3.3 C.7.6.16), by structure.

Walks to the wanted values alone and returns them as arrays, one row a frame. Values of the top
level and shared ones count for every frame that has none of its own. Nothing here knows pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.errors import FormatError
from mmindex.model import Buffer
from mmindex.scan import tags
from mmindex.scan.encoding import UNDEFINED_LENGTH, Encoding
from mmindex.scan.file_format import find_start, scan_file_meta
from mmindex.scan.header import Header
from mmindex.scan.nesting import IrregularError, skip_undefined_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

MISSING_NUMBER = -(1 << 31)  # of a whole number that a frame does not have
_LONGEST = 1024  # bytes of a value
_PADDING = b" \0\t\r\n"


class Column(NamedTuple):
    """A value that frames have: its name, how the value is read, and how many a frame has.

    `kind` is "number" (Decimal String), "double", "signed" or "unsigned" (2 or 4 bytes), or "text";
    `width` is 0 where the number of values differs from file to file.
    """

    name: str
    kind: str
    width: int = 1


Tree = dict[int, "Tree | Column"]

POSITION = Column("image_position_patient", "number", 3)
ORIENTATION = Column("image_orientation_patient", "number", 6)
_WINDOW: Tree = {
    0x0028_1050: Column("window_center", "number"),
    0x0028_1051: Column("window_width", "number"),
}
_RESCALE: Tree = {
    0x0028_1052: Column("rescale_intercept", "number"),
    0x0028_1053: Column("rescale_slope", "number"),
}
_MEASURES: Tree = {
    0x0018_0050: Column("slice_thickness", "number"),
    0x0028_0030: Column("pixel_spacing", "number", 2),
}
_GROUPS: Tree = {
    0x0020_9111: {
        0x0018_9074: Column("frame_acquisition_date_time", "text"),
        0x0018_9151: Column("frame_reference_date_time", "text"),
        0x0018_9220: Column("frame_acquisition_duration", "double"),
        0x0020_9057: Column("in_stack_position_number", "unsigned"),
        0x0020_9128: Column("temporal_position_index", "unsigned"),
        0x0020_9157: Column("dimension_index_values", "unsigned", 0),
    },
    0x0020_9113: {tags.IMAGE_POSITION_PATIENT: POSITION},
    0x0020_9116: {tags.IMAGE_ORIENTATION_PATIENT: ORIENTATION},
    0x0020_9310: {0x0020_930D: Column("temporal_position_time_offset", "double")},
    0x0028_9110: _MEASURES,
    0x0028_9132: _WINDOW,
    0x0028_9145: _RESCALE,
    0x0048_0207: {0x0048_0106: Column("optical_path_identifier", "text")},
    0x0048_021A: {
        0x0040_072A: Column("x_offset_in_slide_coordinate_system", "number"),
        0x0040_073A: Column("y_offset_in_slide_coordinate_system", "number"),
        0x0040_074A: Column("z_offset_in_slide_coordinate_system", "number"),
        0x0048_021E: Column("column_position_in_total_image_pixel_matrix", "signed"),
        0x0048_021F: Column("row_position_in_total_image_pixel_matrix", "signed"),
    },
    0x0062_000A: {0x0062_000B: Column("segment_number", "unsigned")},
}
_TOP_LEVEL: Tree = {
    **_MEASURES,
    **_WINDOW,
    **_RESCALE,
    0x0018_1063: Column("frame_time", "number"),
    tags.IMAGE_POSITION_PATIENT: POSITION,
    tags.IMAGE_ORIENTATION_PATIENT: ORIENTATION,
    tags.SHARED_FUNCTIONAL_GROUPS: _GROUPS,
    tags.PER_FRAME_FUNCTIONAL_GROUPS: _GROUPS,
}
_BINARY = {
    "double": {8: "d"},
    "signed": {2: "h", 4: "i"},
    "unsigned": {2: "H", 4: "I"},
}

_IMAGE_TYPE = Column("image_type", "text")
_TOTAL_COLUMNS = Column("total_pixel_matrix_columns", "unsigned")
_TOTAL_ROWS = Column("total_pixel_matrix_rows", "unsigned")
_ORGANIZATION = Column("dimension_organization_type", "text")
_FOCAL_PLANES = Column("total_pixel_matrix_focal_planes", "unsigned")
_OPTICAL_PATHS = Column("optical_path_identifier", "text", 0)
_CONCATENATION = Column("concatenation_uid", "text")
_FIRST_FRAME = Column("concatenation_frame_offset_number", "unsigned")
_SLIDE: Tree = {
    0x0008_0008: _IMAGE_TYPE,
    0x0020_9161: _CONCATENATION,
    0x0020_9228: _FIRST_FRAME,
    0x0020_9311: _ORGANIZATION,
    0x0048_0006: _TOTAL_COLUMNS,
    0x0048_0007: _TOTAL_ROWS,
    0x0048_0105: {0x0048_0106: _OPTICAL_PATHS},
    0x0048_0303: _FOCAL_PLANES,
}

Values = dict[Column, object]


@dataclass(frozen=True, slots=True)
class SlideImage:
    """What a header says of a whole slide image (PS3.3 C.8.12.4), or of a concatenation's part."""

    image_type: tuple[str, ...]
    total_pixel_matrix_columns: int
    total_pixel_matrix_rows: int
    dimension_organization_type: str
    focal_planes: int
    optical_paths: tuple[str, ...]
    concatenation_uid: str
    concatenation_frame_offset_number: int


def read_slide_image(header: Header) -> SlideImage:
    """Return what a header says of its slide, or of its concatenation; 0 or "" where absent.

    Raises
    ------
    FormatError
        As `read_frame_values`.
    """
    found: Values = {}
    _read_top_level(header, _SLIDE, _Walk(header.buffer, [], {}), found)

    def whole(column: Column) -> int:
        value = found.get(column, 0)
        return value if isinstance(value, int) else 0

    names = found.get(_OPTICAL_PATHS)
    return SlideImage(
        tuple(str(found.get(_IMAGE_TYPE, "")).split("\\")),
        whole(_TOTAL_COLUMNS),
        whole(_TOTAL_ROWS),
        str(found.get(_ORGANIZATION, "")),
        max(1, whole(_FOCAL_PLANES)),
        names if isinstance(names, tuple) else (),
        str(found.get(_CONCATENATION, "")),
        whole(_FIRST_FRAME),
    )


def _read_top_level(header: Header, tree: Tree, walk: _Walk, found: Values) -> None:
    """Read the wanted values before the pixel data."""
    buffer, start, end = header.buffer, 0, len(header.buffer)
    if header.data_set.pixel_data is not None:
        end = header.data_set.pixel_data.element_offset
    if not header.inflated:
        start = scan_file_meta(buffer, find_start(buffer, True, []), True, []).data_set_offset
    try:
        walk.read_elements(start, end, header.encoding, tree, found)
    except (IrregularError, struct.error) as error:
        raise FormatError(
            "the functional groups cannot be read by structure: use instance.dataset()",
            offset=walk.position,
        ) from error


def read_frame_values(header: Header, number_of_frames: int) -> dict[str, NDArray[np.generic]]:
    """Return what frames are, by the name of each value that one of them has.

    Returns
    -------
    dict of str to ndarray
        One row a frame. float64 of Decimal Strings and doubles, NaN where a frame has none; int64
        of whole numbers, MISSING_NUMBER where a frame has none; str of text.

    Raises
    ------
    FormatError
        The functional groups break the rules of structure, or there is not one for each frame.
    """
    top: Values = {}
    shared: Values = {}
    frames: list[Values] = []
    walk = _Walk(header.buffer, frames, shared)
    _read_top_level(header, _TOP_LEVEL, walk, top)
    if not frames:
        frames = [{}] * number_of_frames
    if len(frames) != number_of_frames:
        raise FormatError(
            f"expected Per-frame Functional Groups of {number_of_frames} frames, found "
            f"{len(frames)}",
            offset=walk.position,
        )
    return _stack(frames, {**top, **shared})


@dataclass(slots=True)
class _Walk:
    """Reads elements and items; `position` is where the walk is, for an error to name."""

    buffer: Buffer
    frames: list[Values]
    shared: Values
    position: int = 0

    def read_elements(
        self, start: int, end: int, encoding: Encoding, tree: Tree, found: Values
    ) -> int:
        """Read the wanted values in [start, end); return where the elements end.

        They end at `end`, or after the delimiter of the item that they are in.
        """
        buffer, unpack, position = self.buffer, encoding.header.unpack_from, start
        while position + 8 <= end:
            self.position = position
            raw_tag, vr, length = unpack(buffer, position)
            if raw_tag == encoding.item_end:
                return position + 8
            value_offset = position + 8
            if encoding.implicit:
                length = vr << encoding.vr_shift | length << encoding.length_shift
            elif vr not in encoding.short_vrs:
                if not encoding.is_vr(vr):
                    raise IrregularError
                (length,) = encoding.length.unpack_from(buffer, value_offset)
                value_offset += 4
            tag = encoding.tag_of(raw_tag)
            position = value_offset + length
            wanted = tree.get(tag)
            if length == UNDEFINED_LENGTH:
                inside = encoding.inside(vr)
                if isinstance(wanted, dict):
                    position = self.read_items(tag, value_offset, end, inside, wanted, found)
                else:
                    position = skip_undefined_length(buffer, value_offset, end, inside)
            elif position > end:
                raise IrregularError
            elif isinstance(wanted, dict):
                self.read_items(tag, value_offset, position, encoding, wanted, found)
            elif wanted is not None and length <= _LONGEST:
                value = _read_value(wanted, bytes(buffer[value_offset:position]), encoding)
                if wanted is _OPTICAL_PATHS:
                    names = found.get(wanted, ())
                    found[wanted] = (*(names if isinstance(names, tuple) else ()), str(value or ""))
                elif value is not None:
                    found.setdefault(wanted, value)
        return position

    def read_items(
        self, tag: int, start: int, end: int, encoding: Encoding, tree: Tree, found: Values
    ) -> int:
        """Read the items from `start` on: each is a frame, or adds to `found`; return their end.

        They end at `end`, or after the delimiter of their sequence.
        """
        position, unpack = start, struct.Struct(encoding.byte_order + "II").unpack_from
        if tag == tags.SHARED_FUNCTIONAL_GROUPS:
            found = self.shared
        while position + 8 <= end:
            self.position = position
            raw_tag, length = unpack(self.buffer, position)
            if raw_tag == encoding.sequence_end:
                return position + 8
            if raw_tag != encoding.item:
                raise IrregularError
            item_end = end if length == UNDEFINED_LENGTH else position + 8 + length
            if item_end > end:
                raise IrregularError
            if tag == tags.PER_FRAME_FUNCTIONAL_GROUPS:
                found = {}
                self.frames.append(found)
            position = self.read_elements(position + 8, item_end, encoding, tree, found)
        return position


def _read_value(column: Column, value: bytes, encoding: Encoding) -> object:
    """Return a value as its column has it, None where it is empty or is none of its kind."""
    if column.kind == "text":
        return value.strip(_PADDING).decode("latin-1") or None
    numbers: list[float] | list[int]
    if column.kind == "number":
        try:
            numbers = [float(part) for part in value.strip(_PADDING).split(b"\\")]
        except ValueError:
            return None
    else:
        letters = _BINARY[column.kind]
        size = max(letters) if len(value) % max(letters) == 0 else min(letters)
        count = len(value) // size
        numbers = list(struct.unpack_from(f"{encoding.byte_order}{count}{letters[size]}", value))
    if column.width == 1:
        return numbers[0] if numbers else None
    return tuple(numbers) if len(numbers) == column.width or not column.width else None


def _stack(frames: list[Values], shared: Values) -> dict[str, NDArray[np.generic]]:
    """Return the values of all frames, a column an array."""
    columns = {column: None for values in (shared, *frames) for column in values}
    found: dict[str, NDArray[np.generic]] = {}
    for column in sorted(columns):
        default: object = shared.get(column)
        rows = [values.get(column, default) for values in frames]
        fill: float | str = MISSING_NUMBER
        if column.kind in ("number", "double", "text"):
            fill = "" if column.kind == "text" else nan
        width = max((len(row) for row in rows if isinstance(row, tuple)), default=1)
        if column.width == 1:
            filled: list[object] = [fill if row is None else row for row in rows]
        else:
            filled = [_widen(row, width, fill) for row in rows]
        array: NDArray[np.generic] = np.array(filled, _dtype(column))
        array.flags.writeable = False
        found[column.name] = array
    return found


def _widen(row: object, width: int, fill: float | str) -> tuple[object, ...]:
    values = row if isinstance(row, tuple) else ()
    return (*values, *(fill,) * (width - len(values)))


def _dtype(column: Column) -> type:
    return {"number": np.float64, "double": np.float64, "text": str}.get(column.kind, np.int64)
