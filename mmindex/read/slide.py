"""Slide: a whole slide image by level, column and row (PS3.3 C.8.12.4, C.7.6.17)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from mmindex.closing import Closing
from mmindex.errors import DecodeError, FormatError, FrameIndexError, naming
from mmindex.model import WHOLE_SLIDE_IMAGE
from mmindex.read.ahead import FramesAhead, read_ahead
from mmindex.read.instance import Instance
from mmindex.read.pixels import read_array
from mmindex.read.shrink import shrink
from mmindex.read.tiles import LevelTiles, Part, make_level, read_part

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        Focal planes of the optical path that has most.
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
        sizes: dict[tuple[int, int], list[Part]] = {}
        thumbnails: dict[tuple[int, int], list[Part]] = {}
        for instance in self._instances:
            if instance.record.sop_class_uid != WHOLE_SLIDE_IMAGE or not len(instance):
                continue
            part = read_part(instance)
            flavor = (*part.image.image_type, "", "", "")[2]
            size = part.image.width, part.image.height
            if flavor == "LABEL":
                self._label = self._label or instance
            elif flavor == "OVERVIEW":
                self._macro = self._macro or instance
            elif min(size) > 0:
                found = thumbnails if flavor == "THUMBNAIL" else sizes
                found.setdefault(size, []).append(part)
        sizes = sizes or thumbnails
        if not sizes:
            raise FormatError("no whole slide image is among the instances")
        self._tiles: list[LevelTiles] = []
        levels = []
        widest = max(sizes)[0]
        for (width, height), parts in sorted(sizes.items(), reverse=True):
            tiles = make_level(parts)
            self._tiles.append(tiles)
            image = tiles.parts[0].image
            levels.append(
                Level(
                    *(width, height, image.tile_width, image.tile_height, widest / width),
                    *(image.columns, image.rows, tiles.focal_planes, tuple(tiles.planes)),
                    tuple(part.instance for part in tiles.parts),
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
        planes = self._tiles[level].planes.get(path)
        if planes is None:
            raise FrameIndexError(
                f"level {level} has no optical path {path!r}: {size.optical_paths}"
            )
        if not (
            0 <= column < size.columns and 0 <= row < size.rows and 0 <= focal_plane < len(planes)
        ):
            raise FrameIndexError(
                f"level {level} has {size.columns} x {size.rows} tiles in {len(planes)} focal "
                f"planes, no column {column}, row {row}, focal plane {focal_plane}"
            )
        plane_height, image = planes[focal_plane]
        return image.find(column, row, (path, plane_height))

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
        tall, wide = size.tile_height, size.tile_width
        left, top = max(0, x), max(0, y)
        right, bottom = min(size.width, x + width), min(size.height, y + height)
        background = self._make_background(level, 1, 1)
        region = np.empty((height, width, *background.shape[2:]), background.dtype)
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            region[:] = background
        tile = np.empty((tall, wide, *background.shape[2:]), background.dtype)  # used again
        rows = range(top // tall, -(-bottom // tall) if bottom > top else 0)
        columns = range(left // wide, -(-right // wide) if right > left else 0)
        places = [(column, row) for row in rows for column in columns]
        for column, row, pixels in self._walk_tiles(level, places, tile, focal_plane, optical_path):
            first_x, first_y = max(left, column * wide), max(top, row * tall)
            last_x, last_y = min(right, (column + 1) * wide), min(bottom, (row + 1) * tall)
            part = region[first_y - y : last_y - y, first_x - x : last_x - x]
            if pixels is None:
                part[:] = background
                continue
            part[:] = pixels[
                first_y - row * tall : last_y - row * tall,
                first_x - column * wide : last_x - column * wide,
            ]
        return region

    def _walk_tiles(
        self,
        level: int,
        places: Sequence[tuple[int, int]],
        tile: NDArray[np.generic],
        focal_plane: int = 0,
        optical_path: str | None = None,
    ) -> Iterator[tuple[int, int, NDArray[np.generic] | None]]:
        """Yield column, row and pixels of tiles, in `tile`; None of one that is not stored."""
        located = [
            self.locate(level, column, row, focal_plane=focal_plane, optical_path=optical_path)
            for column, row in places
        ]
        stored = [found for found in located if found is not None]
        ahead = read_ahead(stored)
        positions = count()
        for (column, row), found in zip(places, located, strict=True):
            if found is None:
                yield column, row, None
            else:
                yield column, row, _decode(*found, tile, ahead, next(positions))

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
        chosen = choose_level(self.levels, size)
        level = self.levels[chosen]
        step = max(1, -(-max(level.width, level.height) // size))
        if level.tile_width % step == 0 and level.tile_height % step == 0:
            return self._shrink_tiles(chosen, step)
        height = step * max(1, _BAND // step)
        bands = []
        for y in range(0, level.height, height):
            rows = min(height, level.height - y)
            band = self.read_region(chosen, 0, y, level.width, rows)
            bands.append(shrink(band, step))
        return np.concatenate(bands)

    def _shrink_tiles(self, number: int, step: int) -> NDArray[np.generic]:
        """Return the means of a level whose tiles are whole blocks: one tile at a time."""
        level = self.levels[number]
        wide, tall = level.tile_width // step, level.tile_height // step
        means = self._make_background(number, -(-level.height // step), -(-level.width // step))
        tile = np.empty((level.tile_height, level.tile_width, *means.shape[2:]), means.dtype)
        places = [(column, row) for row in range(level.rows) for column in range(level.columns)]
        for column, row, pixels in self._walk_tiles(number, places, tile):
            if pixels is None:
                continue
            rows = level.height - row * level.tile_height
            columns = level.width - column * level.tile_width
            block = shrink(pixels[:rows, :columns], step)
            top, left = row * tall, column * wide
            means[top : top + block.shape[0], left : left + block.shape[1]] = block
        return means

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
        samples = image.samples_per_pixel or 1
        shape = (rows, columns, samples) if samples > 1 else (rows, columns)
        bits = image.bits_allocated or 8
        white = (1 << min(image.bits_stored or bits, bits)) - 1 if samples > 1 else 0
        return np.full(shape, white, instance.dtype)


def _decode(
    instance: Instance,
    frame_index: int,
    out: NDArray[np.generic],
    ahead: FramesAhead[Instance] | None,
    position: int,
) -> NDArray[np.generic]:
    """Return the pixels of a tile, in `out`; `ahead` has the tile at `position`.

    Raises
    ------
    DecodeError
        The tile cannot be decoded, or is of another shape or type.
    """
    with naming(instance.path):
        if ahead is None:
            pixels = read_array(instance, frame_index, raw=False, out=out)
        else:
            pixels = ahead.array(position, raw=False, out=out)
        if (pixels.shape, pixels.dtype) != (out.shape, out.dtype):
            raise DecodeError(
                f"expected a tile of {out.shape} as {out.dtype}, found {pixels.shape} as "
                f"{pixels.dtype} in frame index {frame_index}"
            )
    return pixels


def choose_level(levels: Sequence[Level], size: int) -> int:
    """Return the number of the smallest level that is at least `size` wide or high, else 0."""
    fitting = [at for at, level in enumerate(levels) if max(level.width, level.height) >= size]
    return fitting[-1] if fitting else 0
