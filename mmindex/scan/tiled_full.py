"""The tile of each frame of a TILED_FULL image, by the order of frames (PS3.3 C.7.6.17.3).

Columns first, then rows, focal planes, and optical paths or segments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmindex.errors import FormatError
from mmindex.scan import tags
from mmindex.scan.group_columns import Column, Tree, Values

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORGANIZATION = Column("dimension_organization_type", "text")
TOTAL_COLUMNS = Column("total_pixel_matrix_columns", "unsigned")
TOTAL_ROWS = Column("total_pixel_matrix_rows", "unsigned")
FOCAL_PLANES = Column("total_pixel_matrix_focal_planes", "unsigned")
FIRST_FRAME = Column("concatenation_frame_offset_number", "unsigned")
CONCATENATION = Column("concatenation_uid", "text")
OPTICAL_PATHS = Column("optical_path_identifiers", "text", 0)
_ROWS = Column("rows", "unsigned")
_COLUMNS = Column("columns", "unsigned")
_SEGMENTS = Column("segment_labels", "text", 0)  # one of each; segments are numbered from 1 on
_SEGMENTATION_TYPE = Column("segmentation_type", "text")

TILED_IMAGE: Tree = {  # of an image in tiles, be its frames in order or at places of their own
    0x0020_9161: CONCATENATION,
    0x0020_9228: FIRST_FRAME,
    0x0020_9311: ORGANIZATION,
    0x0048_0006: TOTAL_COLUMNS,
    0x0048_0007: TOTAL_ROWS,
    0x0048_0105: {0x0048_0106: OPTICAL_PATHS},
    0x0048_0303: FOCAL_PLANES,
}
TILE_VALUES: Tree = {
    **TILED_IMAGE,
    tags.ROWS: _ROWS,
    tags.COLUMNS: _COLUMNS,
    0x0062_0001: _SEGMENTATION_TYPE,
    0x0062_0002: {0x0062_0005: _SEGMENTS},
}
_WANTED = (
    *(_ROWS, _COLUMNS, ORGANIZATION, TOTAL_COLUMNS, TOTAL_ROWS, FOCAL_PLANES, FIRST_FRAME),
    *(CONCATENATION, OPTICAL_PATHS, _SEGMENTS, _SEGMENTATION_TYPE),
)


class TileValues(NamedTuple):
    """The tile parameters in a file; a number is 0 where the file does not have it."""

    organization: str
    size: tuple[int, int]  # of the whole image: columns, rows
    tile: tuple[int, int]
    focal_planes: int
    first_frame: int
    is_part: bool  # of a concatenation
    optical_paths: list[str]
    number_of_segments: int

    @classmethod
    def take(cls, top: Values) -> TileValues:
        """Take the values out of those of the top level."""
        found = {column: top.pop(column, None) for column in _WANTED}

        def number(column: Column) -> int:
            value = found[column]
            return value if isinstance(value, int) else 0

        def names(column: Column) -> list[str]:
            value = found[column]
            return value if isinstance(value, list) else []

        is_labelmap = found[_SEGMENTATION_TYPE] == "LABELMAP"
        return cls(
            str(found[ORGANIZATION] or ""),
            (number(TOTAL_COLUMNS), number(TOTAL_ROWS)),
            (number(_COLUMNS), number(_ROWS)),
            max(1, number(FOCAL_PLANES)),
            number(FIRST_FRAME),
            bool(found[CONCATENATION]),
            names(OPTICAL_PATHS),
            0 if is_labelmap else len(names(_SEGMENTS)),
        )

    def list_tiles(self, number_of_frames: int) -> dict[str, NDArray[np.generic]]:
        """Return place, focal plane and optical path or segment of each frame, by name.

        Nothing of an image of another organization, or of one without a size.

        Raises
        ------
        FormatError
            There are not as many frames as tiles.
        """
        if self.organization != "TILED_FULL" or min(*self.size, *self.tile) < 1:
            return {}
        columns, rows = (
            -(-whole // tile) for whole, tile in zip(self.size, self.tile, strict=True)
        )
        channels = self.number_of_segments or max(1, len(self.optical_paths))
        expected = columns * rows * self.focal_planes * channels
        last = self.first_frame + number_of_frames
        if last > expected or (last < expected and not self.is_part):
            raise FormatError(
                f"expected {expected} tiles of a full image, {columns} x {rows} in "
                f"{self.focal_planes} focal planes and {channels} optical paths or segments, "
                f"found {last}"
            )
        frame = np.arange(self.first_frame, last, dtype=np.int64)
        row, plane = frame // columns % rows, frame // (columns * rows)
        found = {
            "column_position_in_total_image_pixel_matrix": frame % columns * self.tile[0] + 1,
            "row_position_in_total_image_pixel_matrix": row * self.tile[1] + 1,
        }
        if self.focal_planes > 1:
            found["focal_plane"] = plane % self.focal_planes
        channel = plane // self.focal_planes
        if self.number_of_segments:
            found["segment_number"] = channel + 1
        for array in found.values():
            array.flags.writeable = False
        if not self.optical_paths or self.number_of_segments:
            return dict(found)
        names = np.array(self.optical_paths, str)[channel]
        names.flags.writeable = False
        return {**found, "optical_path_identifier": names}
