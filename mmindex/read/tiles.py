"""Which frame is the tile at a column and row of a slide's level (PS3.3 C.7.6.17).

TILED_FULL by arithmetic; every other organization by the positions of its frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError
from mmindex.read.frame_values import read_scanned_header
from mmindex.scan.functional_groups import (
    SlideImage,
    read_frame_values,
    read_slide_image,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance

_Z = "z_offset_in_slide_coordinate_system"
_COLUMN = "column_position_in_total_image_pixel_matrix"
_ROW = "row_position_in_total_image_pixel_matrix"


@dataclass(frozen=True, slots=True)
class Part:
    """An instance of a slide, what its header says of the slide, and its first frame's number.

    `first_frame` counts from the beginning of the concatenation that the instance belongs to.
    """

    instance: Instance
    image: SlideImage
    rows: int
    columns: int

    @property
    def first_frame(self) -> int:
        """(0020,9228), 0 where the instance is no part of a concatenation."""
        return self.image.concatenation_frame_offset_number


@dataclass(frozen=True, slots=True)
class TileMap:
    """The tiles of one image: columns and rows of tiles, focal planes, optical paths.

    `keys` are sorted, with the frame of each in `frames`; None of TILED_FULL.
    """

    parts: tuple[Part, ...]
    columns: int
    rows: int
    focal_planes: int
    optical_paths: tuple[str, ...]
    keys: NDArray[np.int64] | None = None
    frames: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def find(
        self, column: int, row: int, focal_plane: int, optical_path: int
    ) -> tuple[Instance, int] | None:
        """Return the instance and frame index of a tile, None where the image has no such tile."""
        key = ((optical_path * self.focal_planes + focal_plane) * self.rows + row) * self.columns
        frame = key = key + column
        if self.keys is not None:
            at = int(np.searchsorted(self.keys, key))
            if at == len(self.keys) or self.keys[at] != key:
                return None
            frame = int(self.frames[at])
        for part in self.parts:
            if 0 <= frame - part.first_frame < part.instance.number_of_frames:
                return part.instance, frame - part.first_frame
        return None


def read_part(instance: Instance) -> Part:
    """Return an instance of a slide with what its header says.

    Raises
    ------
    FormatError
        Rows or Columns are absent.
    """
    image = read_slide_image(read_scanned_header(instance))
    pixel = instance.record.image_pixel
    if not pixel.rows or not pixel.columns:
        raise FormatError("expected Rows and Columns of a tile, found none", path=instance.path)
    return Part(instance, image, pixel.rows, pixel.columns)


def make_tile_map(parts: list[Part]) -> TileMap:
    """Return the tiles of one image, which a concatenation spreads over several instances.

    Raises
    ------
    FormatError
        Parts overlap or leave a gap; tiles lie off the grid, twice at a place, or are too many.
    """
    parts = sorted(parts, key=lambda part: part.first_frame)
    image, path = parts[0].image, parts[0].instance.path
    check_sequence([(part.first_frame, part.instance) for part in parts])
    columns = -(-image.total_pixel_matrix_columns // parts[0].columns)
    rows = -(-image.total_pixel_matrix_rows // parts[0].rows)
    count = sum(part.instance.number_of_frames for part in parts)
    if image.dimension_organization_type == "TILED_FULL":
        paths = image.optical_paths or ("",)
        expected = columns * rows * image.focal_planes * len(paths)
        if count != expected:
            raise FormatError(
                f"expected {expected} tiles of a full slide, {columns} x {rows} in "
                f"{image.focal_planes} focal planes and {len(paths)} optical paths, found {count}",
                path=path,
            )
        return TileMap(tuple(parts), columns, rows, image.focal_planes, paths)
    return _map_positions(parts, columns, rows)


def check_sequence(parts: list[tuple[int, Instance]]) -> None:
    """Raise FormatError unless each part begins at the frame after the last one of the part before.

    Parameters
    ----------
    parts : list of (int, Instance)
        Concatenation Frame Offset Number and instance, in order (PS3.3 C.7.6.16.2.2.4).
    """
    expected = 0
    for first_frame, instance in parts:
        if first_frame != expected:
            raise FormatError(
                f"expected the concatenation's frame {expected} next, found an instance that "
                f"begins with frame {first_frame}",
                path=instance.path,
            )
        expected += instance.number_of_frames


def _map_positions(parts: list[Part], columns: int, rows: int) -> TileMap:
    tables = [
        read_frame_values(read_scanned_header(part.instance), part.instance.number_of_frames)
        for part in parts
    ]
    path = parts[0].instance.path
    if any(_COLUMN not in table or _ROW not in table for table in tables):
        if columns == rows == 1 and sum(part.instance.number_of_frames for part in parts) == 1:
            return TileMap(tuple(parts), 1, 1, 1, parts[0].image.optical_paths[:1] or ("",))
        raise FormatError("the slide's frames have no positions", path=path)
    column = np.concatenate([table[_COLUMN] for table in tables]).astype(np.int64)
    row = np.concatenate([table[_ROW] for table in tables]).astype(np.int64)
    off_grid = ((column - 1) % parts[0].columns + (row - 1) % parts[0].rows) != 0
    column, row = (column - 1) // parts[0].columns, (row - 1) // parts[0].rows
    outside = (column < 0) | (row < 0) | (column >= columns) | (row >= rows)
    wrong = np.flatnonzero(off_grid | outside)
    if len(wrong):
        raise FormatError(f"the tile of frame index {wrong[0]} lies off the grid", path=path)
    z = np.zeros(len(column))
    if all(_Z in table for table in tables):
        z = np.concatenate([table[_Z] for table in tables]).astype(np.float64)
    heights, plane = np.unique(np.nan_to_num(np.round(z, 6)), return_inverse=True)
    paths = parts[0].image.optical_paths or ("",)
    optical = np.zeros(len(column), np.int64)
    if all("optical_path_identifier" in table for table in tables):
        each = np.concatenate([table["optical_path_identifier"] for table in tables]).astype(str)
        found, inverse = np.unique(each, return_inverse=True)
        known = [name for name in paths if name in found]
        paths = (*known, *(str(name) for name in found if name not in known))
        optical = np.array([paths.index(str(name)) for name in found])[inverse]
    if columns * rows * len(heights) * len(paths) >= 1 << 62:
        raise FormatError("the slide has more tiles than can be numbered", path=path)
    keys = ((optical * len(heights) + plane) * rows + row) * columns + column
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    double = np.flatnonzero(keys[1:] == keys[:-1])
    if len(double):
        frames = order[double[0]], order[double[0] + 1]
        raise FormatError(f"frame indices {frames[0]} and {frames[1]} are one tile", path=path)
    return TileMap(tuple(parts), columns, rows, len(heights), paths, keys, order)


def make_tile_maps(parts: list[Part]) -> list[TileMap]:
    """Return the images of one level, whose optical paths differ.

    Raises
    ------
    FormatError
        Two images have the same optical path, or differ in tiles.
    """
    images: dict[str, list[Part]] = {}
    for number, part in enumerate(parts):
        images.setdefault(part.image.concatenation_uid or f" {number}", []).append(part)
    maps = [make_tile_map(each) for each in images.values()]
    seen: set[str] = set()
    for tiles in maps:
        same = seen.intersection(tiles.optical_paths)
        first = parts[0]
        if same or any((part.rows, part.columns) != (first.rows, first.columns) for part in parts):
            why = f"have optical path {min(same)!r}" if same else "have other tiles"
            raise FormatError(
                f"two images of {first.image.total_pixel_matrix_columns} x "
                f"{first.image.total_pixel_matrix_rows} pixels {why}",
                path=tiles.parts[0].instance.path,
            )
        seen.update(tiles.optical_paths)
    return maps
