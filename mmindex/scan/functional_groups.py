"""Shared and Per-frame Functional Groups (PS3.3 C.7.6.16), read by structure.

Walks to the wanted values alone and returns them as arrays, one row a frame. Values of the top
level and shared ones count for every frame that has none of its own. Nothing here knows pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import FormatError
from mmindex.model import Buffer
from mmindex.scan import tags
from mmindex.scan.encoding import UNDEFINED_LENGTH, Encoding
from mmindex.scan.group_columns import (
    Column,
    Parts,
    Tree,
    Values,
    freeze,
    has_form,
    longest_value,
    read_value,
    stack_values,
)
from mmindex.scan.header import Header
from mmindex.scan.lockstep import TakenItems, read_together
from mmindex.scan.nesting import IrregularError, skip_undefined_length
from mmindex.scan.tags import PER_FRAME_FUNCTIONAL_GROUPS, SHARED_FUNCTIONAL_GROUPS
from mmindex.scan.tiled_full import TILE_VALUES, TileValues

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
_REAL_WORLD: Tree = {  # of several mappings, the first one that is a line
    0x0040_9096: {
        0x0040_9224: Column("real_world_value_intercept", "double"),
        0x0040_9225: Column("real_world_value_slope", "double"),
    },
}
_MEASURES: Tree = {
    0x0018_0050: Column("slice_thickness", "number"),
    0x0028_0030: Column("pixel_spacing", "number", 2),
}
_GROUPS: Tree = {
    **_REAL_WORLD,
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
_TIMES = Column("frame_time_vector", "number", 0)
_TOP_LEVEL: Tree = {
    **_MEASURES,
    **_WINDOW,
    **_RESCALE,
    **_REAL_WORLD,
    0x0018_1063: Column("frame_time", "number"),
    0x0018_1065: _TIMES,
    **TILE_VALUES,
    tags.IMAGE_POSITION_PATIENT: POSITION,
    tags.IMAGE_ORIENTATION_PATIENT: ORIENTATION,
    SHARED_FUNCTIONAL_GROUPS: _GROUPS,
    PER_FRAME_FUNCTIONAL_GROUPS: _GROUPS,
}


class Groups(NamedTuple):
    """Values of the top level, shared ones, and those that frames have; and how many frames."""

    top: Values
    shared: Values
    parts: Parts
    number_of_frames: int


def read_groups(header: Header, tree: Tree, number_of_frames: int) -> Groups:
    """Return the wanted values before the pixel data.

    Parameters
    ----------
    tree : Tree
        Where the wanted values are.

    Raises
    ------
    FormatError
        As `read_frame_values`.
    """
    top: Values = {}
    walk = _Walk(header.buffer, [], {}, number_of_frames)
    _read_top_level(header, tree, walk, top)
    parts, count = walk.list_parts()
    if count not in (0, number_of_frames):
        raise FormatError(
            f"expected Per-frame Functional Groups of {number_of_frames} frames, found "
            f"{'more' if count > number_of_frames else count}",
            offset=walk.position,
        )
    return Groups(top, walk.shared, parts, count)


def _read_top_level(header: Header, tree: Tree, walk: _Walk, found: Values) -> None:
    """Read the wanted values before the pixel data."""
    end = len(header.buffer)
    if header.data_set.pixel_data is not None:
        end = header.data_set.pixel_data.element_offset
    try:
        walk.read_elements(header.start, end, header.encoding, tree, found)
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
    groups = read_groups(header, _TOP_LEVEL, number_of_frames)
    top = groups.top
    times, tiles = top.pop(_TIMES, None), TileValues.take(top)
    found = stack_values(number_of_frames, groups.parts, {**top, **groups.shared})
    if isinstance(times, tuple) and len(times) == number_of_frames:
        found[_TIMES.name] = freeze(times)
    return {**tiles.list_tiles(number_of_frames), **found}


@dataclass(slots=True)
class _Walk:
    """Reads elements and items; `position` is where the walk is, for an error to name."""

    buffer: Buffer
    frames: list[Values]
    shared: Values
    most: int = 0
    position: int = 0
    together: TakenItems | None = None

    def list_parts(self) -> tuple[Parts, int]:
        """Return the values that frames have, and the number of frames."""
        import numpy as np

        if self.together is not None and not self.frames:
            return self.together.parts, self.together.number
        by_column: dict[Column, dict[int, object]] = {}
        for index, values in enumerate(self.frames):
            for column, value in values.items():
                by_column.setdefault(column, {})[index] = value
        parts: Parts = {
            column: [(np.array(list(found)), list(found.values()))]
            for column, found in by_column.items()
        }
        return parts, len(self.frames)

    def read_elements(
        self, start: int, end: int, encoding: Encoding, tree: Tree, found: Values
    ) -> int:
        """Read the wanted values in [start, end); return where the elements end.

        They end at `end`, or after the delimiter of the item that they are in.
        """
        buffer, unpack, position = self.buffer, encoding.header.unpack_from, start
        short_vrs, item_end = encoding.short_vrs, encoding.item_end
        big_endian, get = encoding.big_endian, tree.get
        while position + 8 <= end:
            self.position = position
            raw_tag, vr, length = unpack(buffer, position)
            if raw_tag == item_end:
                return position + 8
            # As `Encoding.tag_of` has it: a call an element takes longer than all else here.
            tag = raw_tag if big_endian else (raw_tag & 0xFFFF) << 16 | raw_tag >> 16
            wanted = get(tag)
            if wanted is None and vr in short_vrs:  # most elements
                position += 8 + length
                continue
            value_offset = position + 8
            if encoding.implicit:
                length = vr << encoding.vr_shift | length << encoding.length_shift
            elif vr not in short_vrs:
                if not encoding.is_vr(vr):
                    raise IrregularError
                (length,) = encoding.length.unpack_from(buffer, value_offset)
                value_offset += 4
            position = value_offset + length
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
            elif wanted is not None and length <= longest_value(wanted):
                if not encoding.implicit and not has_form(wanted, encoding.vr_of(vr), length):
                    raise FormatError(
                        f"{wanted.name} cannot be a value of VR {encoding.vr_of(vr)} and {length} "
                        "bytes: use instance.dataset()",
                        offset=self.position,
                    )
                value = read_value(wanted, bytes(buffer[value_offset:position]), encoding)
                if wanted.kind == "text" and not wanted.width:  # of all items
                    names = found.setdefault(wanted, [])
                    assert isinstance(names, list)
                    names.append(str(value or ""))
                elif value is not None:
                    found.setdefault(wanted, value)
        if position > end:
            raise IrregularError
        return position

    def read_items(
        self, tag: int, start: int, end: int, encoding: Encoding, tree: Tree, found: Values
    ) -> int:
        """Read the items from `start` on: each is a frame, or adds to `found`; return their end.

        They end at `end`, or after the delimiter of their sequence.
        """
        position, unpack = start, struct.Struct(encoding.byte_order + "II").unpack_from
        if tag == SHARED_FUNCTIONAL_GROUPS:
            found = self.shared
        elif tag == PER_FRAME_FUNCTIONAL_GROUPS:
            if self.frames or self.together is not None:
                raise FormatError(
                    "Per-frame Functional Groups are there twice", offset=self.position
                )
            self.together = read_together(
                self.buffer,
                *(start, end, encoding, tree, self.most),
                lambda start, found: self.read_item(start, end, encoding, tree, found),
            )
            if self.together is not None:
                return self.together.end
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
            if tag == PER_FRAME_FUNCTIONAL_GROUPS:
                found = {}
                self.frames.append(found)
                if len(self.frames) > self.most:
                    return end
            position = self.read_elements(position + 8, item_end, encoding, tree, found)
        return position

    def read_item(self, start: int, end: int, encoding: Encoding, tree: Tree, found: Values) -> int:
        """Read one item of a sequence; return where the item ends."""
        raw_tag, length = struct.unpack_from(encoding.byte_order + "II", self.buffer, start)
        item_end = end if length == UNDEFINED_LENGTH else start + 8 + length
        if raw_tag != encoding.item or item_end > end:
            raise IrregularError
        return self.read_elements(start + 8, item_end, encoding, tree, found)
