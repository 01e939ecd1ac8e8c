"""The positions of the tiles of one whole slide image (PS3.3 C.7.6.17, C.8.12.4 to C.8.12.6).

Read from a header by structure; pixel data is not looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError
from mmindex.scan.functional_groups import Groups, read_groups
from mmindex.scan.group_columns import Column, Tree, stack_values
from mmindex.scan.tags import PER_FRAME_FUNCTIONAL_GROUPS, SHARED_FUNCTIONAL_GROUPS
from mmindex.scan.tiled_full import (
    CONCATENATION,
    FIRST_FRAME,
    FOCAL_PLANES,
    OPTICAL_PATHS,
    ORGANIZATION,
    TILED_IMAGE,
    TOTAL_COLUMNS,
    TOTAL_ROWS,
)
from mmindex.tile_positions import SlideImage, pack_positions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.model import ImagePixel
    from mmindex.scan.header import Header

_MICROMETERS = 1000  # a millimeter
_DECIMALS = 6  # of a height, by which focal planes are one
_MOST_PLANES = 1 << 16
_BESIDE = ("LABEL", "OVERVIEW")  # pictures of the slide, which need no tiles

_IMAGE_TYPE = Column("image_type", "text")
_ORIGIN = Column("total_pixel_matrix_origin_z", "number")
_SPACING = Column("spacing_between_slices", "number")
_PATH = Column("optical_path_identifier", "text")
_Z = Column("z_offset_in_slide_coordinate_system", "number")
_COLUMN = Column("column_position_in_total_image_pixel_matrix", "signed")
_ROW = Column("row_position_in_total_image_pixel_matrix", "signed")
_GROUPS: Tree = {
    0x0028_9110: {0x0018_0088: _SPACING},
    0x0048_0207: {0x0048_0106: _PATH},
    0x0048_021A: {0x0040_074A: _Z, 0x0048_021E: _COLUMN, 0x0048_021F: _ROW},
}
_SLIDE: Tree = {
    **TILED_IMAGE,
    0x0008_0008: _IMAGE_TYPE,
    0x0048_0008: {0x0040_074A: _ORIGIN},
    SHARED_FUNCTIONAL_GROUPS: _GROUPS,
    PER_FRAME_FUNCTIONAL_GROUPS: _GROUPS,
}


def find_tile_positions(header: Header, number_of_frames: int, image: ImagePixel) -> bytes | None:
    """Return what `scan_tile_positions` does, None where the file breaks the rules of a slide."""
    try:
        return scan_tile_positions(header, number_of_frames, image.columns or 0, image.rows or 0)
    except FormatError:
        return None


def scan_tile_positions(
    header: Header, number_of_frames: int, tile_width: int, tile_height: int
) -> bytes:
    """Return where the tiles of a whole slide image are, packed: see `TilePositions`.

    Parameters
    ----------
    number_of_frames : int
        Frames of the instance.
    tile_width, tile_height : int
        Columns and Rows of a tile.

    Raises
    ------
    FormatError
        The functional groups break the rules of structure; tiles lie off the grid, outside the
        image or twice at one place, or have no positions.
    """
    if tile_width < 1 or tile_height < 1:
        raise FormatError("expected Rows and Columns of a tile, found none")
    groups = read_groups(header, _SLIDE, number_of_frames)
    top, shared = groups.top, groups.shared
    width, height, planes, first_frame = [
        value if isinstance(value := top.get(column), int) else 0
        for column in (TOTAL_COLUMNS, TOTAL_ROWS, FOCAL_PLANES, FIRST_FRAME)
    ]
    planes = max(1, planes)
    names, origin = top.get(OPTICAL_PATHS), top.get(_ORIGIN)
    paths = tuple(names) if isinstance(names, list) else ("",)
    organization = str(top.get(ORGANIZATION, ""))
    is_single = (
        (0 < width <= tile_width)
        and (0 < height <= tile_height)
        and number_of_frames == planes * len(paths)
    )
    has_positions = all(each in groups.parts or each in shared for each in (_COLUMN, _ROW))
    is_full = organization == "TILED_FULL" or (is_single and not has_positions)
    heights: tuple[float, ...] = (0.0,)
    if is_full:
        if planes > _MOST_PLANES:
            raise FormatError(f"a slide has at most {_MOST_PLANES} focal planes, found {planes}")
        base = origin if isinstance(origin, float) else _read_first_height(groups)
        heights = _space_out(base, shared.get(_SPACING), planes)
    image = SlideImage(
        *(width, height, tile_width, tile_height),
        tuple(str(top.get(_IMAGE_TYPE, "")).split("\\")),
        organization,
        str(top.get(CONCATENATION, "")),
        first_frame,
        heights,
        paths,
    )
    if is_full:
        return pack_positions(image)
    flavor = (*image.image_type, "", "", "")[2]
    if image.width < 1 or image.height < 1 or (flavor in _BESIDE and not has_positions):
        return pack_positions(image)
    if not has_positions:
        raise FormatError("the slide's frames have no positions")
    # Frames without values of their own are alike: there may be more of them than memory holds.
    count = number_of_frames if groups.parts else 1
    if count < number_of_frames:
        raise FormatError("frame indices 0 and 1 are one tile: no frame has a position of its own")
    table = stack_values(count, groups.parts, shared)
    z = np.full(count, np.nan)
    z[:] = table.get(_Z.name, np.nan)
    z[np.isnan(z)] = origin if isinstance(origin, float) else 0.0
    return _pack_sparse(image, table, z)


def _read_first_height(groups: Groups) -> float:
    """Return the height of the first frame, in micrometers; 0 where there is none."""
    own = [
        values[at]
        for frames, values in groups.parts.get(_Z, ())
        for at in np.flatnonzero(frames == 0).tolist()
    ]
    height = own[-1] if own else groups.shared.get(_Z)
    return float(height) if isinstance(height, float) else 0.0


def _space_out(base: float, spacing: object, planes: int) -> tuple[float, ...]:
    """Return the heights of focal planes, each a Spacing Between Slices (mm) above the other."""
    step = _MICROMETERS * spacing if isinstance(spacing, float) and spacing > 0 else 1.0
    heights = tuple(round(base + step * plane, _DECIMALS) for plane in range(planes))
    if len(set(heights)) < planes:  # closer than heights are told apart: in their order
        return tuple(map(float, range(planes)))
    return heights


def _pack_sparse(
    image: SlideImage, table: dict[str, NDArray[np.generic]], z: NDArray[np.float64]
) -> bytes:
    """Return tiles that are where their frames say."""
    column = table[_COLUMN.name].astype(np.int64) - 1
    row = table[_ROW.name].astype(np.int64) - 1
    off_grid = (column % image.tile_width + row % image.tile_height) != 0
    column, row = column // image.tile_width, row // image.tile_height
    outside = (column < 0) | (row < 0) | (column >= image.columns) | (row >= image.rows)
    wrong = np.flatnonzero(off_grid | outside)
    if len(wrong):
        raise FormatError(f"the tile of frame index {wrong[0]} lies off the grid")
    heights, plane = np.unique(np.round(z, _DECIMALS), return_inverse=True)
    paths, optical = image.optical_paths, np.zeros(len(column), np.int64)
    if _PATH.name in table:
        found, inverse = np.unique(table[_PATH.name].astype(str), return_inverse=True)
        used = set(found.tolist())
        known = dict.fromkeys(name for name in paths if name in used)
        paths = tuple(dict.fromkeys((*known, *found.tolist())))
        places = {name: at for at, name in enumerate(paths)}
        optical = np.array([places[name] for name in found.tolist()])[inverse]
    image = replace(image, heights=tuple(heights.tolist()), optical_paths=paths)
    keys = ((optical * len(heights) + plane) * image.rows + row) * image.columns + column
    return pack_positions(image, keys)
