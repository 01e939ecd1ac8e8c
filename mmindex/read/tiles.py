"""Finds the frame of the tile at a column and row of a slide's level (PS3.3 C.7.6.17).

TILED_FULL by arithmetic; every other organization by the positions of its frames, which the record
has. A file that breaks the rules of a slide has none: its header is read to say which rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import FormatError, naming
from mmindex.read.frame_values import read_scanned_header
from mmindex.scan.functional_groups import read_groups
from mmindex.scan.group_columns import Column
from mmindex.scan.slide import scan_tile_positions
from mmindex.tile_positions import SlideImage, TilePositions

if TYPE_CHECKING:
    from mmindex.read.instance import Instance

_TOTAL = Column("in_concatenation_total_number", "unsigned")
Found = tuple["Instance", int]  # and frame index


class Part(NamedTuple):
    """An instance of a slide, where its tiles are, and the slide parameters in its file."""

    instance: Instance
    tiles: TilePositions
    image: SlideImage


def read_part(instance: Instance) -> Part:
    """Return an instance of a slide with where its tiles are: from its record, or its header.

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
    tiles = TilePositions(positions)
    return Part(instance, tiles, tiles.image)


def says_where(part: Part) -> bool:
    """Return whether an instance says where in the whole image its frames are."""
    image = part.image
    is_one = image.columns == image.rows == part.instance.number_of_frames == 1
    return is_one or image.organization == "TILED_FULL" or part.tiles.number_of_tiles > 0


class Plane(ABC):
    """The tiles of one focal plane of an optical path."""

    __slots__ = ()

    @abstractmethod
    def find(self, column: int, row: int) -> Found | None:
        """Return the instance and frame index of a tile, None of a tile that is not stored.

        Raises
        ------
        FormatError
            Two instances have the tile.
        """

    @abstractmethod
    def walk(self) -> Iterator[tuple[int, int, Found]]:
        """Yield column and row, instance and frame index of the tiles that are stored.

        Raises
        ------
        FormatError
            Two instances have one tile.
        """


class FullPlane(Plane):
    """A plane whose tiles are in the order of frames, all of them.

    Parameters
    ----------
    parts : list of Part
        The image's instances, in order.
    number : int
        How many planes are before this one.
    """

    __slots__ = ("_columns", "_first", "_parts", "_rows", "_starts")

    def __init__(self, parts: list[Part], starts: list[int], number: int) -> None:
        image = parts[0].image
        self._columns, self._rows = image.columns, image.rows
        self._first = number * self._columns * self._rows
        self._parts, self._starts = parts, starts

    def find(self, column: int, row: int) -> Found:
        """Return the instance and frame index of a tile."""
        frame = self._first + row * self._columns + column
        at = bisect_right(self._starts, frame) - 1
        return self._parts[at].instance, frame - self._starts[at]

    def walk(self) -> Iterator[tuple[int, int, Found]]:
        """Yield all tiles; see `Plane.walk`."""
        for row in range(self._rows):
            for column in range(self._columns):
                yield column, row, self.find(column, row)


class SparsePlane(Plane):
    """A plane whose tiles are where their frames say.

    Parameters
    ----------
    columns : int
        Tiles in a row.
    """

    __slots__ = ("_columns", "_parts")

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._parts: list[tuple[Part, int, int]] = []  # and numbers of focal plane, optical path

    def add(self, part: Part, focal_plane: int, optical_path: int) -> None:
        """Add the tiles of an instance, by its own numbers of the plane."""
        self._parts.append((part, focal_plane, optical_path))

    def find(self, column: int, row: int) -> Found | None:
        """Return the instance and frame index of a tile; see `Plane.find`."""
        found = [
            (part.instance, frame_index)
            for part, *plane in self._parts
            if (frame_index := part.tiles.find(column, row, *plane)) is not None
        ]
        if len(found) > 1:
            raise _double(column, row, [instance for instance, _ in found])
        return found[0] if found else None

    def walk(self) -> Iterator[tuple[int, int, Found]]:
        """Yield the tiles that are stored, in order; see `Plane.walk`."""
        last, before = -1, 0
        for place, at, frame_index in merge(*map(self._walk_part, range(len(self._parts)))):
            row, column = divmod(place, self._columns)
            instance = self._parts[at][0].instance
            if place == last:
                raise _double(column, row, [self._parts[before][0].instance, instance])
            last, before = place, at
            yield column, row, (instance, frame_index)

    def _walk_part(self, at: int) -> Iterator[tuple[int, int, int]]:
        """Yield the tiles of an instance: place in the plane, `at`, frame index."""
        part, *plane = self._parts[at]
        for place, frame_index in part.tiles.walk(*plane):
            yield place, at, frame_index


def _double(column: int, row: int, instances: Sequence[Instance]) -> FormatError:
    return FormatError(
        f"the tile in column {column} and row {row} is in {len(instances)} instances",
        path=instances[1].path,
    )


@dataclass(frozen=True, slots=True)
class TiledImage:
    """One image of a level: an instance, or the instances of a concatenation in order."""

    parts: list[Part]
    planes: Mapping[tuple[str, float], Plane]  # by Optical Path Identifier and height


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
        return TiledImage(parts, _list_sparse_planes(parts))
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
    return TiledImage(parts, _list_full_planes(parts))


def _list_full_planes(parts: list[Part]) -> dict[tuple[str, float], Plane]:
    """Return the planes of an image whose order of frames says where tiles are."""
    image = parts[0].image
    starts = [part.image.first_frame for part in parts]
    planes: dict[tuple[str, float], Plane] = {}
    for number, plane in enumerate(product(image.optical_paths, image.heights)):
        planes.setdefault(plane, FullPlane(parts, starts, number))
    return planes


def _list_sparse_planes(parts: list[Part]) -> dict[tuple[str, float], Plane]:
    """Return the planes of an image whose frames say where tiles are."""
    planes: dict[tuple[str, float], SparsePlane] = {}
    for part in parts:
        image = part.image
        for at, path in enumerate(image.optical_paths):
            for focal_plane, height in enumerate(image.heights):
                plane = planes.setdefault((path, height), SparsePlane(image.columns))
                plane.add(part, focal_plane, at)
    return {**planes}


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
    planes: dict[str, list[Plane]]  # by optical path, from the glass up

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
    known: dict[str, dict[float, TiledImage]] = {}
    for image in images:
        path = image.parts[0].instance.path
        size = f"{first.width} x {first.height} pixels"
        for part in image.parts:
            tile = part.image.tile_width, part.image.tile_height
            if tile != (first.tile_width, first.tile_height):
                raise FormatError(f"two images of {size} have other tiles", path=path)
        for name, height in image.planes:
            by_height = known.setdefault(name, {})
            if height in by_height:
                other = by_height[height].parts[0].instance.path
                raise FormatError(
                    f"two images of {size} have optical path {name!r} at the height {height:g}, the"
                    f" other in {other!r}: name the files of one slide, each image once",
                    path=path,
                )
            by_height[height] = image
    return LevelTiles(
        tuple(part for image in images for part in image.parts),
        {
            name: [by_height[height].planes[name, height] for height in sorted(by_height)]
            for name, by_height in known.items()
        },
    )
