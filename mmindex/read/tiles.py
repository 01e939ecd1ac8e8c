"""Finds the frame of the tile at a column and row of a slide's level (PS3.3 C.7.6.17).

TILED_FULL by arithmetic; every other organization by the positions of its frames, which the index
has, or else the file's header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmindex.errors import FormatError
from mmindex.read.frame_values import read_scanned_header
from mmindex.scan.slide import scan_tile_positions
from mmindex.tile_positions import SlideImage, TilePositions

if TYPE_CHECKING:
    from mmindex.read.instance import Instance

Plane = tuple[str, float]  # Optical Path Identifier, height


@dataclass(frozen=True, slots=True)
class Part:
    """An instance of a slide, and where its tiles are."""

    instance: Instance
    tiles: TilePositions

    @property
    def image(self) -> SlideImage:
        """The slide parameters in the instance's file."""
        return self.tiles.image

    def find(self, column: int, row: int, plane: Plane) -> int | None:
        """Return the frame index of a tile that has a position, None where there is none."""
        path, height = plane
        image = self.image
        if path not in image.optical_paths or height not in image.heights:
            return None
        at = image.heights.index(height), image.optical_paths.index(path)
        return self.tiles.find(column, row, *at)


def read_part(instance: Instance) -> Part:
    """Return an instance of a slide with where its tiles are: from the index, or its header.

    Raises
    ------
    FormatError
        Rows or Columns are absent; tiles lie off the grid, twice at a place, or nowhere.
    """
    positions = instance.record.positions
    if positions is None:
        pixel = instance.record.image_pixel
        count = instance.number_of_frames
        try:
            positions = scan_tile_positions(
                read_scanned_header(instance), count, pixel.columns or 0, pixel.rows or 0
            )
        except FormatError as error:
            raise error.at(instance.path) from None
    return Part(instance, TilePositions(positions))


@dataclass(frozen=True, slots=True)
class TiledImage:
    """One image of a level: an instance, or the instances of a concatenation in order."""

    parts: tuple[Part, ...]

    @property
    def planes(self) -> dict[Plane, None]:
        """The optical paths and focal planes that the image has."""
        return {
            (path, height): None
            for part in self.parts
            for path in part.image.optical_paths
            for height in part.image.heights
        }

    def find(self, column: int, row: int, plane: Plane) -> tuple[Instance, int] | None:
        """Return the instance and frame index of a tile, None where the image has no such tile.

        Raises
        ------
        FormatError
            Two instances have the tile.
        """
        first = self.parts[0].image
        if not self.parts[0].tiles.number_of_tiles:
            path, height = plane
            at = first.heights.index(height), first.optical_paths.index(path)
            frame = first.key(column, row, *at)
            for part in self.parts:
                if 0 <= frame - part.image.first_frame < part.instance.number_of_frames:
                    return part.instance, frame - part.image.first_frame
            return None
        places = [
            (part.instance, index)
            for part in self.parts
            if (index := part.find(column, row, plane)) is not None
        ]
        if len(places) > 1:
            raise FormatError(
                f"the tile in column {column} and row {row} is in {len(places)} instances",
                path=places[1][0].path,
            )
        return places[0] if places else None


def make_image(parts: list[Part]) -> TiledImage:
    """Return one image, which a concatenation may spread over several instances.

    Raises
    ------
    FormatError
        Parts overlap or leave a gap, are of different kinds, or have too few tiles.
    """
    parts = sorted(parts, key=lambda part: part.image.first_frame)
    image, path = parts[0].image, parts[0].instance.path
    check_sequence([(part.image.first_frame, part.instance) for part in parts])
    if len({bool(part.tiles.number_of_tiles) for part in parts}) > 1:
        raise FormatError("only some parts of the concatenation have positions", path=path)
    if parts[0].tiles.number_of_tiles:
        return TiledImage(tuple(parts))
    count = sum(part.instance.number_of_frames for part in parts)
    planes, paths = len(image.heights), len(image.optical_paths)
    expected = image.columns * image.rows * planes * paths
    if count != expected:
        raise FormatError(
            f"expected {expected} tiles of a full slide, {image.columns} x {image.rows} in "
            f"{planes} focal planes and {paths} optical paths, found {count}",
            path=path,
        )
    return TiledImage(tuple(parts))


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


@dataclass(frozen=True, slots=True)
class LevelTiles:
    """The images of one level: each optical path and focal plane is in one of them."""

    parts: tuple[Part, ...]
    planes: dict[str, list[tuple[float, TiledImage]]]  # by optical path, from the glass up

    @property
    def focal_planes(self) -> int:
        """Focal planes of the optical path that has most."""
        return max(map(len, self.planes.values()))


def make_level(parts: list[Part]) -> LevelTiles:
    """Return the tiles of one level.

    Raises
    ------
    FormatError
        Two images have the same optical path at the same height, or differ in tiles.
    """
    groups: dict[str, list[Part]] = {}
    for number, part in enumerate(parts):
        groups.setdefault(part.image.concatenation_uid or f" {number}", []).append(part)
    images = sorted(map(make_image, groups.values()), key=lambda image: min(image.planes))
    first = parts[0].image
    planes: dict[str, dict[float, TiledImage]] = {}
    for image in images:
        path = image.parts[0].instance.path
        size = f"{first.width} x {first.height} pixels"
        for part in image.parts:
            tile = part.image.tile_width, part.image.tile_height
            if tile != (first.tile_width, first.tile_height):
                raise FormatError(f"two images of {size} have other tiles", path=path)
        for name, height in image.planes:
            known = planes.setdefault(name, {})
            if height in known:
                raise FormatError(
                    f"two images of {size} have optical path {name!r} at the height {height:g}",
                    path=path,
                )
            known[height] = image
    return LevelTiles(
        tuple(part for image in images for part in image.parts),
        {name: sorted(known.items(), key=lambda each: each[0]) for name, known in planes.items()},
    )
