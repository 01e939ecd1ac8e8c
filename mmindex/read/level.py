"""Level: one resolution of a slide, and the pixels of its tiles, regions and thumbnail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import DecodeError, FormatError, FrameIndexError, naming
from mmindex.read.ahead import FramesAhead, read_ahead
from mmindex.read.block_means import BlockMeans
from mmindex.read.instance import Instance
from mmindex.read.pixels import read_array
from mmindex.read.tiles import Found, LevelTiles, Plane

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOGETHER = 1024  # tiles that are located before they are read
_LARGEST_SPARE = 1 << 24  # bytes of a tile that decoders write to again and again
_MOST_PIXELS = 1 << 26  # of a picture beside the levels, unless its frames have that many
_MOST_BACKGROUND = 1000  # times the pixels of its frames

Place = tuple[int, int, "Found | None"]  # column, row, where the tile is stored


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


class LevelPixels:
    """The pixels of a level; `name` is how errors call the level."""

    def __init__(self, name: str, tiles: LevelTiles, widest: int) -> None:
        image = tiles.parts[0].image
        paths = tuple(tiles.planes)
        self._name = name
        self._planes, self._first_path = tiles.planes, paths[0]
        self.level = Level(
            *(image.width, image.height, image.tile_width, image.tile_height),
            widest / image.width,
            *(image.columns, image.rows, tiles.focal_planes, paths),
            tuple([part.instance for part in tiles.parts]),
        )

    @cached_property
    def _background(self) -> NDArray[np.generic]:
        """The pixel of a tile that is not stored.

        Raises
        ------
        DecodeError
            The attributes of the image contradict each other.
        """
        first = self.level.instances[0]
        with naming(first.path):
            pixel, dtype = first.record.image_pixel, first.dtype
        samples, bits = pixel.samples_per_pixel or 1, pixel.bits_allocated or 8
        white = 0
        if samples > 1 and dtype.kind in "iu":
            white = (1 << min(pixel.bits_stored or bits, bits)) - 1
            white = min(white, int(np.iinfo(dtype.str).max))
        return np.full((samples,) if samples > 1 else (), white, dtype)

    def _find_plane(self, focal_plane: int, optical_path: str | None) -> Plane:
        """Return a plane of tiles.

        Raises
        ------
        FrameIndexError
            There is no such focal plane or optical path.
        """
        path = self._first_path if optical_path is None else optical_path
        planes = self._planes.get(path)
        if planes is None:
            raise FrameIndexError(
                f"{self._name} has no optical path {path!r}: {self.level.optical_paths}"
            )
        if not 0 <= focal_plane < len(planes):
            raise FrameIndexError(
                f"{self._name} has focal planes 0 to {len(planes) - 1}, "
                f"no focal plane {focal_plane}"
            )
        return planes[focal_plane]

    def locate(
        self, column: int, row: int, focal_plane: int, optical_path: str | None
    ) -> Found | None:
        """Return the instance and frame index of a tile; see `Slide.locate`."""
        plane = self._find_plane(focal_plane, optical_path)
        level = self.level
        if not (0 <= column < level.columns and 0 <= row < level.rows):
            raise FrameIndexError(
                f"{self._name} has {level.columns} x {level.rows} tiles: no column {column}, "
                f"row {row}"
            )
        return plane.find(column, row)

    def tile_array(
        self, column: int, row: int, focal_plane: int, optical_path: str | None
    ) -> NDArray[np.generic]:
        """Return the pixels of a tile, cropped; see `Slide.tile_array`."""
        found = self.locate(column, row, focal_plane, optical_path)
        level = self.level
        rows = min(level.tile_height, level.height - row * level.tile_height)
        columns = min(level.tile_width, level.width - column * level.tile_width)
        if found is None:
            return np.broadcast_to(self._background, (rows, columns, *self._background.shape))
        return found[0].array(found[1])[:rows, :columns]

    def read_region(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        focal_plane: int = 0,
        optical_path: str | None = None,
    ) -> NDArray[np.generic]:
        """Return the pixels of a region; see `Slide.read_region`."""
        if width < 1 or height < 1:
            raise ValueError(
                f"expected a region of at least 1 x 1 pixels, found {width} x {height}"
            )
        plane = self._find_plane(focal_plane, optical_path)
        level = self.level
        tall, wide = level.tile_height, level.tile_width
        left, top = max(0, x), max(0, y)
        right, bottom = min(level.width, x + width), min(level.height, y + height)
        region = np.empty((height, width, *self._background.shape), self._background.dtype)
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            region[:] = self._background
        rows = range(top // tall, -(-bottom // tall) if bottom > top else 0)
        columns = range(left // wide, -(-right // wide) if right > left else 0)
        places = ((column, row, plane.find(column, row)) for row in rows for column in columns)
        for column, row, pixels in self._walk_tiles(places):
            first_x, first_y = max(left, column * wide), max(top, row * tall)
            last_x, last_y = min(right, (column + 1) * wide), min(bottom, (row + 1) * tall)
            part = region[first_y - y : last_y - y, first_x - x : last_x - x]
            if pixels is None:
                part[:] = self._background
                continue
            part[:] = pixels[
                first_y - row * tall : last_y - row * tall,
                first_x - column * wide : last_x - column * wide,
            ]
        return region

    def read_whole(self) -> NDArray[np.generic]:
        """Return the whole image, which is a picture beside the levels.

        Raises
        ------
        FormatError
            The image is very large, and hardly any of it is stored.
        DecodeError
            A tile cannot be decoded.
        """
        level = self.level
        pixels = level.width * level.height
        stored = sum(len(instance) for instance in level.instances)
        stored *= level.tile_width * level.tile_height
        if pixels > max(_MOST_PIXELS, _MOST_BACKGROUND * stored):
            raise FormatError(
                f"expected a picture of at most {_MOST_PIXELS} pixels, found {level.width} x "
                f"{level.height} of which {stored} are stored",
                path=level.instances[0].path,
            )
        return self.read_region(0, 0, level.width, level.height)

    def thumbnail(self, size: int) -> NDArray[np.generic]:
        """Return the level at most `size` pixels wide and high; see `Slide.thumbnail`."""
        level = self.level
        step = max(1, -(-max(level.width, level.height) // size))
        if step == 1:
            return self.read_region(0, 0, level.width, level.height)
        means = BlockMeans(level.height, level.width, step, self._background)
        plane = self._find_plane(0, None)
        for column, row, pixels in self._walk_tiles(plane.walk()):
            if pixels is not None:
                means.add(pixels, row * level.tile_height, column * level.tile_width)
        return means.means()

    def _walk_tiles(
        self, places: Iterable[Place]
    ) -> Iterator[tuple[int, int, NDArray[np.generic] | None]]:
        """Yield column, row and pixels of tiles; None of one that is not stored.

        The pixels are those of the tile until the next one is asked for.
        """
        level, rest, tile = self.level, iter(places), None
        shape = level.tile_height, level.tile_width, *self._background.shape
        dtype = self._background.dtype
        while some := list(islice(rest, _TOGETHER)):
            stored = [found for _, _, found in some if found is not None]
            if stored and tile is None and dtype.itemsize * prod(shape) <= _LARGEST_SPARE:
                tile = np.empty(shape, dtype)
            ahead = read_ahead(stored)
            positions = count()
            for column, row, found in some:
                if found is None:
                    yield column, row, None
                    continue
                pixels = _decode(*found, tile, ahead, next(positions))
                if (pixels.shape, pixels.dtype) != (shape, dtype):
                    raise DecodeError(
                        f"expected a tile of {shape} as {dtype}, found {pixels.shape} as "
                        f"{pixels.dtype} in frame index {found[1]}",
                        path=found[0].path,
                    )
                yield column, row, pixels


def _decode(
    instance: Instance,
    frame_index: int,
    out: NDArray[np.generic] | None,
    ahead: FramesAhead[Instance] | None,
    position: int,
) -> NDArray[np.generic]:
    """Return the pixels of a tile, in `out` if they fit it; `ahead` has the tile at `position`.

    Raises
    ------
    DecodeError
        The tile cannot be decoded.
    """
    with naming(instance.path):
        if ahead is None:
            return read_array(instance, frame_index, raw=False, out=out)
        return ahead.array(position, raw=False, out=out)


def choose_level(levels: Sequence[Level], size: int) -> int:
    """Return the number of the smallest level that is at least `size` wide or high, else 0."""
    fitting = [at for at, level in enumerate(levels) if max(level.width, level.height) >= size]
    return fitting[-1] if fitting else 0
