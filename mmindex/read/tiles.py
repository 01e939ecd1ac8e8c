"""Finds the frame of the tile at a column and row of a slide's level (PS3.3 C.7.6.17).

TILED_FULL by arithmetic; every other organization by the positions of its frames, which the index
has, or else the file's header.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING

from mmindex.errors import FormatError, naming
from mmindex.read.frame_values import read_scanned_header
from mmindex.scan.functional_groups import read_groups
from mmindex.scan.group_columns import Column
from mmindex.scan.slide import scan_tile_positions
from mmindex.tile_positions import SlideImage, TilePositions

if TYPE_CHECKING:
    from mmindex.read.instance import Instance

_TOTAL = Column("in_concatenation_total_number", "unsigned")
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

    def walk(self, plane: Plane, number: int) -> Iterator[tuple[int, int, int]]:
        """Yield the tiles of a plane that have a position: place in the plane, `number`, frame."""
        path, height = plane
        image = self.image
        if path in image.optical_paths and height in image.heights:
            at = image.heights.index(height), image.optical_paths.index(path)
            for place, frame_index in self.tiles.walk(*at):
                yield place, number, frame_index


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


def says_where(part: Part) -> bool:
    """Return whether an instance says where in the whole image its frames are."""
    image = part.image
    is_one = image.columns == image.rows == part.instance.number_of_frames == 1
    return is_one or image.organization == "TILED_FULL" or part.tiles.number_of_tiles > 0


@dataclass(frozen=True, slots=True)
class TiledImage:
    """One image of a level: an instance, or the instances of a concatenation in order."""

    parts: tuple[Part, ...]

    @property
    def planes(self) -> dict[Plane, None]:
        """The optical paths and focal planes that the image has."""
        parts = self.parts if self._has_positions else self.parts[:1]
        return {
            (path, height): None
            for part in parts
            for path in part.image.optical_paths
            for height in part.image.heights
        }

    @property
    def _has_positions(self) -> bool:
        return self.parts[0].tiles.number_of_tiles > 0

    def find(self, column: int, row: int, plane: Plane) -> tuple[Instance, int] | None:
        """Return the instance and frame index of a tile, None where the image has no such tile.

        Raises
        ------
        FormatError
            Two instances have the tile.
        """
        if not self._has_positions:
            frame = self.parts[0].image.key(column, row, *self._number(plane))
            return next(self._walk_full(frame, frame + 1), None)
        places = [
            (part.instance, index)
            for part in self.parts
            if (index := part.find(column, row, plane)) is not None
        ]
        if len(places) > 1:
            raise _double(column, row, [instance for instance, _ in places])
        return places[0] if places else None

    def walk(self, plane: Plane) -> Iterator[tuple[int, int, tuple[Instance, int]]]:
        """Yield column and row, instance and frame index of the tiles of a plane that are stored.

        Raises
        ------
        FormatError
            Two instances have one tile.
        """
        image = self.parts[0].image
        if not self._has_positions:
            first = image.key(0, 0, *self._number(plane))
            located = self._walk_full(first, first + image.columns * image.rows)
            for number, found in enumerate(located):
                row, column = divmod(number, image.columns)
                yield column, row, found
            return
        last, before = -1, 0
        tiles = [part.walk(plane, at) for at, part in enumerate(self.parts)]
        for key, at, frame_index in merge(*tiles):
            row, column = divmod(key, image.columns)
            if key == last:
                both = self.parts[before].instance, self.parts[at].instance
                raise _double(column, row, both)
            last, before = key, at
            yield column, row, (self.parts[at].instance, frame_index)

    def _number(self, plane: Plane) -> tuple[int, int]:
        path, height = plane
        image = self.parts[0].image
        return image.heights.index(height), image.optical_paths.index(path)

    def _walk_full(self, start: int, end: int) -> Iterator[tuple[Instance, int]]:
        """Yield instance and frame index of frames [start, end) of a full image."""
        for part in self.parts:
            first = part.image.first_frame
            last = min(end, first + part.instance.number_of_frames)
            for frame in range(max(start, first), last):
                yield part.instance, frame - first


def _double(column: int, row: int, instances: Sequence[Instance]) -> FormatError:
    return FormatError(
        f"the tile in column {column} and row {row} is in {len(instances)} instances",
        path=instances[1].path,
    )


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
        if image.concatenation_uid:
            check_number_of_parts([part.instance for part in parts])
        return TiledImage(tuple(parts))
    for part in parts:  # their order of frames is one; heights are those of the first frame
        own = part.image
        if own.optical_paths != image.optical_paths or len(own.heights) != len(image.heights):
            raise FormatError(
                "the parts of the concatenation have other optical paths or focal planes",
                path=part.instance.path,
            )
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


def check_number_of_parts(instances: Sequence[Instance]) -> None:
    """Raise FormatError where a part knows of more or fewer parts, if the part says so.

    Parameters
    ----------
    instances : sequence of Instance
        In order. A missing last part leaves no gap that the others show, and In-concatenation Total
        Number may be in any of them (PS3.3 C.7.6.16.2.2.4).
    """
    for instance in instances:
        with naming(instance.path):
            groups = read_groups(read_scanned_header(instance), {0x0020_9163: _TOTAL}, 0)
        total = groups.top.get(_TOTAL)
        if isinstance(total, int) and total and total != len(instances):
            raise FormatError(
                f"expected a concatenation of {total} instances, found {len(instances)}",
                path=instance.path,
            )


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
                other = known[height].parts[0].instance.path
                raise FormatError(
                    f"two images of {size} have optical path {name!r} at the height {height:g}, the"
                    f" other in {other!r}: name the files of one slide, each image once",
                    path=path,
                )
            known[height] = image
    return LevelTiles(
        tuple(part for image in images for part in image.parts),
        {name: sorted(known.items(), key=lambda each: each[0]) for name, known in planes.items()},
    )
