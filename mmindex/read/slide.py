"""Slide: a whole slide image by level, column and row (PS3.3 C.8.12.4, C.7.6.17)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmindex.closing import Closing
from mmindex.errors import FormatError, FrameIndexError, NotDicomError, naming
from mmindex.read.instance import Instance
from mmindex.read.open_file import open_file
from mmindex.read.tiles import Part, TileMap, make_tile_maps, read_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.read.archive import Archive

_WHOLE_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
_BAND = 512  # rows of a level that a thumbnail holds at once


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a slide.

    Attributes
    ----------
    width, height : int
        Size of the whole image, in pixels.
    tile_width, tile_height : int
        Size of a tile, in pixels; edge tiles are stored at this size, too.
    downsample : float
        Width of the first level by the width of this one.
    columns, rows : int
        Tiles in a row and in a column.
    focal_planes : int
        Focal planes of each optical path.
    optical_paths : tuple of str
        Optical Path Identifiers, in order.
    instances : tuple of Instance
        The instances that the tiles are in, in order.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    downsample: float
    columns: int
    rows: int
    focal_planes: int
    optical_paths: tuple[str, ...]
    instances: tuple[Instance, ...]


class Slide(Closing):
    """The levels of a whole slide image; see `mmindex.open_slide` and `Archive.slide`.

    Columns and rows of tiles, and pixels, count from 0 at the top left. A focal plane is its
    number from the glass up; an optical path its identifier, the first one unless given.

    Attributes
    ----------
    levels : tuple of Level
        The largest first.
    """

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._instances = list(instances)
        self._label: Instance | None = None
        self._macro: Instance | None = None
        parts: dict[tuple[int, int], list[Part]] = {}
        for instance in self._instances:
            if instance.record.sop_class_uid != _WHOLE_SLIDE_IMAGE or not len(instance):
                continue
            part = read_part(instance)
            flavor = (*part.image.image_type, "", "", "")[2]
            size = part.image.total_pixel_matrix_columns, part.image.total_pixel_matrix_rows
            if flavor == "LABEL":
                self._label = self._label or instance
            elif flavor == "OVERVIEW":
                self._macro = self._macro or instance
            elif min(size) > 0:
                parts.setdefault(size, []).append(part)
        if not parts:
            raise FormatError("no whole slide image is among the instances")
        self._maps: list[list[TileMap]] = []
        levels = []
        widest = max(parts)[0]
        for (width, height), found in sorted(parts.items(), reverse=True):
            maps = make_tile_maps(found)
            self._maps.append(maps)
            first = found[0]
            levels.append(
                Level(
                    width,
                    height,
                    first.columns,
                    first.rows,
                    widest / width,
                    maps[0].columns,
                    maps[0].rows,
                    maps[0].focal_planes,
                    tuple(path for each in maps for path in each.optical_paths),
                    tuple(part.instance for each in maps for part in each.parts),
                )
            )
        self.levels = tuple(levels)

    def close(self) -> None:
        """Close the slide's files."""
        for instance in self._instances:
            instance.close()

    def locate(
        self,
        level: int,
        column: int,
        row: int,
        *,
        focal_plane: int = 0,
        optical_path: str | None = None,
    ) -> tuple[Instance, int] | None:
        """Return the instance and the frame index of a tile, None of a tile that is not stored.

        Raises
        ------
        FrameIndexError
            There is no such level, column, row, focal plane or optical path.
        """
        if not 0 <= level < len(self.levels):
            raise FrameIndexError(f"there are levels 0 to {len(self.levels) - 1}, no {level}")
        size = self.levels[level]
        path = size.optical_paths[0] if optical_path is None else optical_path
        for tiles in self._maps[level]:
            if path in tiles.optical_paths:
                if (
                    0 <= column < tiles.columns
                    and 0 <= row < tiles.rows
                    and 0 <= focal_plane < tiles.focal_planes
                ):
                    return tiles.find(column, row, focal_plane, tiles.optical_paths.index(path))
                raise FrameIndexError(
                    f"level {level} has {tiles.columns} x {tiles.rows} tiles in "
                    f"{tiles.focal_planes} focal planes, no column {column}, row {row}, focal "
                    f"plane {focal_plane}"
                )
        raise FrameIndexError(f"level {level} has no optical path {path!r}: {size.optical_paths}")

    def tile(
        self,
        level: int,
        column: int,
        row: int,
        *,
        focal_plane: int = 0,
        optical_path: str | None = None,
    ) -> bytes:
        """Return a tile as stored; see `Instance.frame`.

        Raises
        ------
        FrameIndexError
            There is no such tile, or a sparse slide does not store the tile.
        """
        found = self.locate(level, column, row, focal_plane=focal_plane, optical_path=optical_path)
        if found is None:
            raise FrameIndexError(
                f"the tile in column {column} and row {row} of level {level} is not stored"
            )
        return found[0].frame(found[1])

    def tile_array(
        self,
        level: int,
        column: int,
        row: int,
        *,
        focal_plane: int = 0,
        optical_path: str | None = None,
    ) -> NDArray[np.generic]:
        """Return the pixels of a tile: (rows, columns[, samples]), cropped to the image.

        A tile that is not stored is background: white of colors, 0 of monochrome. `locate` returns
        None for it.

        Raises
        ------
        FrameIndexError
            There is no such tile.
        DecodeError
            The tile cannot be decoded.
        """
        found = self.locate(level, column, row, focal_plane=focal_plane, optical_path=optical_path)
        size = self.levels[level]
        rows = min(size.tile_height, size.height - row * size.tile_height)
        columns = min(size.tile_width, size.width - column * size.tile_width)
        if found is None:
            return self._make_background(level, rows, columns)
        return found[0].array(found[1])[:rows, :columns]

    def read_region(
        self,
        level: int,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        focal_plane: int = 0,
        optical_path: str | None = None,
    ) -> NDArray[np.generic]:
        """Return the pixels of a region: shape (height, width[, samples]).

        Parameters
        ----------
        level : int
            Number of the level.
        x, y : int
            Top left pixel of the region, in pixels of the level.
        width, height : int
            Size of the region, in pixels. What lies outside the image, and tiles that are not
            stored, are background as in `tile_array`.

        Raises
        ------
        ValueError
            Width or height is less than 1.
        FrameIndexError, DecodeError
            As `tile_array`.
        """
        if width < 1 or height < 1:
            raise ValueError(f"a region is at least 1 x 1 pixels, not {width} x {height}")
        self.locate(level, 0, 0, focal_plane=focal_plane, optical_path=optical_path)
        size = self.levels[level]
        region = self._make_background(level, height, width)
        tall, wide = size.tile_height, size.tile_width
        left, top = max(0, x), max(0, y)
        right, bottom = min(size.width, x + width), min(size.height, y + height)
        for row in range(top // tall, -(-bottom // tall) if bottom > top else 0):
            for column in range(left // wide, -(-right // wide) if right > left else 0):
                tile = self.tile_array(
                    level, column, row, focal_plane=focal_plane, optical_path=optical_path
                )
                first_x, first_y = max(left, column * wide), max(top, row * tall)
                last_x, last_y = min(right, (column + 1) * wide), min(bottom, (row + 1) * tall)
                region[first_y - y : last_y - y, first_x - x : last_x - x] = tile[
                    first_y - row * tall : last_y - row * tall,
                    first_x - column * wide : last_x - column * wide,
                ]
        return region

    def thumbnail(self, size: int = 512) -> NDArray[np.generic]:
        """Return the slide at most `size` pixels wide and high: means of whole blocks of pixels.

        Made of the smallest level that is at least that large, else of the largest.

        Raises
        ------
        ValueError
            The size is less than 1.
        DecodeError
            A tile cannot be decoded.
        """
        if size < 1:
            raise ValueError(f"a thumbnail is at least 1 pixel wide, not {size}")
        chosen = 0
        for number, level in enumerate(self.levels):
            if max(level.width, level.height) >= size:
                chosen = number
        level = self.levels[chosen]
        step = max(1, -(-max(level.width, level.height) // size))
        height = step * max(1, _BAND // step)
        bands = []
        for y in range(0, level.height, height):
            rows = min(height, level.height - y)
            band = self.read_region(chosen, 0, y, level.width, rows)
            bands.append(_shrink(band, step))
        return np.concatenate(bands)

    @property
    def label(self) -> NDArray[np.generic] | None:
        """The picture of the slide's label, (rows, columns[, samples]); None without one."""
        return None if self._label is None else self._label.array(0)

    @property
    def macro(self) -> NDArray[np.generic] | None:
        """The overview picture of the slide, (rows, columns[, samples]); None without one."""
        return None if self._macro is None else self._macro.array(0)

    def _make_background(self, level: int, rows: int, columns: int) -> NDArray[np.generic]:
        instance = self.levels[level].instances[0]
        image = instance.record.image_pixel
        bits, samples = image.bits_allocated or 8, image.samples_per_pixel or 1
        dtype = np.dtype(np.uint8 if bits <= 8 else np.uint16)
        if samples == 1:
            return np.zeros((rows, columns), dtype)
        white = (1 << min(image.bits_stored or bits, bits)) - 1
        return np.full((rows, columns, samples), white, dtype)


def open_slide(source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Slide:
    """Open a slide: a folder of its files, or the files.

    Parameters
    ----------
    source : path, or iterable of paths
        A folder (not the folders in it), one file, or several. Files of a folder that are not DICOM
        are left out.

    Raises
    ------
    FormatError
        A file is broken, or no whole slide image is among them; two files are the same level; a
        concatenation has a gap; tiles lie off the grid.
    MissingFileError
        There is no such file.
    """
    is_folder = isinstance(source, (str, os.PathLike)) and os.path.isdir(source)
    paths: list[str | os.PathLike[str]]
    if isinstance(source, (str, os.PathLike)):
        paths = [source]
        if is_folder:
            names = sorted(os.listdir(source))
            paths = [each for name in names if os.path.isfile(each := os.path.join(source, name))]
    else:
        paths = list(source)
    with ExitStack() as stack:
        instances = []
        for path in paths:
            try:
                instances.append(stack.enter_context(open_file(path)))
            except NotDicomError:
                if not is_folder:
                    raise
        slide = Slide(instances)
        stack.pop_all()
    return slide


def open_series(archive: Archive, series_instance_uid: str) -> Slide:
    """Return the slide of a series; see `Archive.slide`."""
    with naming(archive.path), ExitStack() as stack:
        records = archive.instances(series_instance_uid=series_instance_uid)
        uids = dict.fromkeys(
            record.sop_instance_uid for record in records if record.status.has_frames
        )
        slide = Slide([stack.enter_context(archive[uid]) for uid in uids])
        stack.pop_all()
    return slide


def _shrink(pixels: NDArray[np.generic], step: int) -> NDArray[np.generic]:
    """Return the means of blocks of step x step pixels; blocks at the edge may be smaller."""
    rows, columns = np.arange(0, pixels.shape[0], step), np.arange(0, pixels.shape[1], step)
    sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.int64), rows, axis=0), columns, axis=1)
    tall = np.diff(np.append(rows, pixels.shape[0]))
    wide = np.diff(np.append(columns, pixels.shape[1]))
    counts = np.outer(tall, wide).reshape(len(rows), len(columns), *(1,) * (pixels.ndim - 2))
    return np.asarray((sums + counts // 2) // counts).astype(pixels.dtype)
