"""Slide: a whole slide image by level, column and row (PS3.3 C.8.12.4, C.7.6.17)."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index
from typing import TYPE_CHECKING

from mmindex.closing import Closing
from mmindex.errors import FormatError, FrameIndexError
from mmindex.model import WHOLE_SLIDE_IMAGE
from mmindex.read.instance import Instance
from mmindex.read.level import Level, LevelPixels, choose_level
from mmindex.read.order import check_one_series
from mmindex.read.tiles import Part, make_level, read_part, says_where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        self._beside: dict[str, list[Part]] = {"LABEL": [], "OVERVIEW": []}
        sizes: dict[tuple[int, int], list[Part]] = {}
        thumbnails: dict[tuple[int, int], list[Part]] = {}
        images = [each for each in self._instances if _is_of_slide(each)]
        if images:
            remedy = f"name the files of one, as {images[0].path!r}"
            records = (instance.record for instance in images)
            check_one_series(records, "the images of a slide", remedy, images[-1].path)
        for instance in images:
            part = read_part(instance)
            flavor = (*part.image.image_type, "", "", "")[2]
            size = part.image.width, part.image.height
            if flavor in self._beside:
                self._beside[flavor].append(part)
            elif min(size) > 0:
                found = thumbnails if flavor == "THUMBNAIL" else sizes
                found.setdefault(size, []).append(part)
        sizes = sizes or thumbnails
        if not sizes:
            raise FormatError("no whole slide image is among the instances")
        widest = max(sizes)[0]
        self._pixels = [
            LevelPixels(f"level {number}", make_level(sizes[size]), widest)
            for number, size in enumerate(sorted(sizes, reverse=True))
        ]
        self.levels: tuple[Level, ...] = tuple(each.level for each in self._pixels)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{each.width} x {each.height}" for each in self.levels)
        return f"<Slide of {len(self._instances)} files, levels of {sizes} pixels>"

    def close(self) -> None:
        """Close the slide's files."""
        for instance in self._instances:
            instance.close()

    def _of_level(self, level: int) -> LevelPixels:
        level = index(level)
        if not 0 <= level < len(self.levels):
            raise FrameIndexError(
                f"level {level} does not exist: the slide has levels 0 to {len(self.levels) - 1}"
            )
        return self._pixels[level]

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
        pixels = self._of_level(level)
        return pixels.locate(index(column), index(row), index(focal_plane), optical_path)

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
        pixels = self._of_level(level)
        found = pixels.locate(index(column), index(row), index(focal_plane), optical_path)
        if found is None:
            raise FrameIndexError(
                f"the tile in column {column} and row {row} of level {level} is not stored"
            )
        instance, frame_index = found
        return instance.frame(frame_index)

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

        A tile that is not stored is background, which cannot be written to: white of colors, 0 of
        monochrome. `locate` returns None for it.

        Raises
        ------
        FrameIndexError
            There is no such tile.
        DecodeError
            The tile cannot be decoded.
        """
        place = index(column), index(row), index(focal_plane)
        return self._of_level(level).tile_array(*place, optical_path)

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
        pixels = self._of_level(level)
        area = index(x), index(y), index(width), index(height)
        return pixels.read_region(*area, index(focal_plane), optical_path)

    def thumbnail(self, size: int = 512) -> NDArray[np.generic]:
        """Return the slide at most `size` pixels wide and high: means of whole blocks of pixels.

        The pixels come from the smallest level that is at least that large, else from the largest.
        Takes the time of the tiles that are stored, and the memory of the picture.

        Raises
        ------
        ValueError
            The size is less than 1.
        DecodeError
            A tile cannot be decoded.
        """
        size = index(size)
        if size < 1:
            raise ValueError(f"expected a thumbnail of at least 1 pixel, found {size}")
        return self._pixels[choose_level(self.levels, size)].thumbnail(size)

    @property
    def label(self) -> NDArray[np.generic] | None:
        """The picture of the slide's label, (rows, columns[, samples]); None without one.

        Tiles are put together and cropped as those of a level.

        Raises
        ------
        FormatError
            The file does not say where its frames are in the picture, or hardly any of a very large
            picture is stored.
        DecodeError
            A frame cannot be decoded.
        """
        return _read_beside("label", self._beside["LABEL"])

    @property
    def macro(self) -> NDArray[np.generic] | None:
        """The overview picture of the slide, (rows, columns[, samples]); None without one.

        Tiles and errors are those of `label`.
        """
        return _read_beside("macro", self._beside["OVERVIEW"])


def _is_of_slide(instance: Instance) -> bool:
    return instance.record.sop_class_uid == WHOLE_SLIDE_IMAGE and len(instance) > 0


def _read_beside(name: str, parts: list[Part]) -> NDArray[np.generic] | None:
    """Return the first picture of some parts: an instance, or a concatenation; None of none."""
    if not parts:
        return None
    first = parts[0]
    uid = first.image.concatenation_uid
    chosen = [part for part in parts if uid and part.image.concatenation_uid == uid] or [first]
    has_size = min(first.image.width, first.image.height) > 0
    if len(chosen) == 1 and first.instance.number_of_frames == 1 and not has_size:
        return first.instance.array(0)
    if not has_size or not all(map(says_where, chosen)):
        raise FormatError(
            f"the {name} has {first.instance.number_of_frames} frames, and no places for them in "
            "the picture: read them by number",
            path=first.instance.path,
        )
    return LevelPixels(f"the {name}", make_level(chosen), first.image.width).read_whole()
