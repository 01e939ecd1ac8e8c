"""TilePositions: which frame is the tile at a place of a whole slide image (PS3.3 C.7.6.17).

Packed as an index keeps them, so that a tile is found by two short reads. All integers are
little-endian, at any alignment.

    size     field
    4        length of the head, which ends where the fences begin
    8        tiles with a position; 0 where the order of frames says where each tile is
    4 x 4    Total Pixel Matrix Columns, Rows; Columns and Rows of a tile
    8        Concatenation Frame Offset Number
    4        focal planes, and as many f8: the height of each in micrometers, ascending
    2        texts, each a u2 length and that many bytes (utf-8): Image Type, Dimension Organization
             Type, Concatenation UID, then the Optical Path Identifiers
    8 each   fences: the key of every 256th tile
    12 each  tiles in the order of their keys: key (8), frame index (4). The key counts columns,
             then rows, then focal planes, then optical paths
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import FormatError, IndexFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmindex.frame_table import Entries

_HEAD = struct.Struct("<IQIIIIQI")
_LENGTH = struct.Struct("<H")
_TILE = struct.Struct("<QI")  # key, frame index
_FENCE_LENGTH = 8  # bytes
_STRETCH = 256  # tiles from one fence to the next
_MOST_KEYS = 1 << 62
_MOST_PLANES = 1 << 15  # optical paths, each in focal planes
_MOST_FRAMES = 1 << 32


@dataclass(frozen=True, slots=True)
class SlideImage:
    """The parameters of a whole slide image (PS3.3 C.8.12.4), or of a concatenation's part.

    Attributes
    ----------
    width, height : int
        Total Pixel Matrix Columns and Rows; 0 where absent.
    tile_width, tile_height : int
        Columns and Rows of a tile.
    image_type : tuple of str
        The values of (0008,0008).
    organization : str
        (0020,9311) Dimension Organization Type.
    concatenation_uid : str
        (0020,9161); empty where the instance is no part of a concatenation.
    first_frame : int
        (0020,9228) Concatenation Frame Offset Number.
    heights : tuple of float
        The focal planes, ascending, in micrometers from the reference plane.
    optical_paths : tuple of str
        Optical Path Identifiers, in order.
    columns, rows : int
        Tiles in a row and in a column.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    image_type: tuple[str, ...]
    organization: str
    concatenation_uid: str
    first_frame: int
    heights: tuple[float, ...]
    optical_paths: tuple[str, ...]
    columns: int = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", -(-self.width // self.tile_width))
        object.__setattr__(self, "rows", -(-self.height // self.tile_height))

    def key(self, column: int, row: int, focal_plane: int, optical_path: int) -> int:
        """Return the number of a tile; where a slide is full, the index of the tile's frame."""
        plane = optical_path * len(self.heights) + focal_plane
        return (plane * self.rows + row) * self.columns + column


class TilePositions:
    """The tiles of one instance, packed; `image` is what its file says of the slide.

    Raises
    ------
    IndexFormatError
        The bytes are no packed tiles.
    """

    __slots__ = ("_data", "_fences", "_head", "image", "number_of_tiles")

    def __init__(self, data: Entries) -> None:
        self._data = data
        try:
            self._head, self.number_of_tiles, self.image = _unpack_head(data)
        except (struct.error, ValueError) as error:
            raise IndexFormatError(
                f"damaged positions of tiles: {error}; rebuild the index"
            ) from error
        self._fences: tuple[int, ...] = ()

    def find(self, column: int, row: int, focal_plane: int, optical_path: int) -> int | None:
        """Return the frame index of a tile, None where the instance has no such tile."""
        if not self.number_of_tiles:
            return None
        key = self.image.key(column, row, focal_plane, optical_path)
        stretch = bisect_right(self._read_fences(), key) - 1
        if stretch < 0:
            return None
        tiles, unpack = self._read_tiles(stretch), _TILE.unpack_from
        start, end = 0, len(tiles) // _TILE.size
        while start < end:
            middle = (start + end) // 2
            found, frame_index = unpack(tiles, middle * _TILE.size)
            if found == key:
                return int(frame_index)
            if found < key:
                start = middle + 1
            else:
                end = middle
        return None

    def walk(self, focal_plane: int, optical_path: int) -> Iterator[tuple[int, int]]:
        """Yield place (row * columns + column) and frame index of each tile of a plane, in order.

        Raises
        ------
        IndexFormatError
            The tiles are not in the order of their keys.
        """
        first = self.image.key(0, 0, focal_plane, optical_path)
        end = first + self.image.columns * self.image.rows
        start = max(0, bisect_left(self._read_fences(), first) - 1)
        last = first - 1
        for stretch in range(start, -(-self.number_of_tiles // _STRETCH)):
            tiles = self._read_tiles(stretch)
            if _TILE.unpack_from(tiles)[0] >= end:
                return
            for key, frame_index in _TILE.iter_unpack(tiles):
                if first <= key < end:
                    if key <= last:
                        raise IndexFormatError("damaged positions of tiles; rebuild the index")
                    last = key
                    yield key - first, frame_index

    def _read_fences(self) -> tuple[int, ...]:
        if not self._fences:
            count = -(-self.number_of_tiles // _STRETCH)
            packed = self._data[self._head : self._head + _FENCE_LENGTH * count]
            self._fences = struct.unpack(f"<{count}Q", packed)
        return self._fences

    def _read_tiles(self, stretch: int) -> bytes:
        """Return the tiles from a fence to the next one, packed."""
        count, size = self.number_of_tiles, _TILE.size
        start = self._head + _FENCE_LENGTH * -(-count // _STRETCH)
        first, last = stretch * _STRETCH, min(count, (stretch + 1) * _STRETCH)
        return self._data[start + first * size : start + last * size]


def _unpack_head(data: Entries) -> tuple[int, int, SlideImage]:
    (length,) = struct.unpack("<I", data[:4])
    head = data[:length]
    _, count, width, height, tile_width, tile_height, first_frame, planes = _HEAD.unpack_from(head)
    position = _HEAD.size + 8 * planes
    heights = struct.unpack_from(f"<{planes}d", head, _HEAD.size)
    (number,) = _LENGTH.unpack_from(head, position)
    position += _LENGTH.size
    texts = []
    for _ in range(number):
        (size,) = _LENGTH.unpack_from(head, position)
        position += _LENGTH.size + size
        texts.append(head[position - size : position].decode())
    fences = -(-count // _STRETCH) * _FENCE_LENGTH
    if position != length or len(data) != length + fences + count * _TILE.size:
        raise ValueError(f"expected {count} tiles, found {len(data)} bytes")
    image_type, organization, concatenation_uid, *paths = texts
    if not tile_width or not tile_height or not 0 < len(heights) * len(paths) <= _MOST_PLANES:
        raise ValueError("no tiles, or too many focal planes")
    image = SlideImage(
        width,
        height,
        tile_width,
        tile_height,
        tuple(image_type.split("\\")),
        organization,
        concatenation_uid,
        first_frame,
        heights,
        tuple(paths),
    )
    return length, count, image


def pack_positions(image: SlideImage, keys: NDArray[np.int64] | None = None) -> bytes:
    """Return the tiles of an instance, packed.

    Parameters
    ----------
    keys : ndarray of int64, optional
        The key of each frame's tile; none where the order of frames says where each tile is.

    Raises
    ------
    FormatError
        Two frames are one tile, or there are more tiles or planes than can be numbered.
    """
    planes = len(image.heights) * len(image.optical_paths)
    if planes > _MOST_PLANES:
        raise FormatError(
            f"a slide has at most {_MOST_PLANES} focal planes in all optical paths, found {planes}"
        )
    if image.columns * image.rows * planes >= _MOST_KEYS:
        raise FormatError("the slide has more tiles than can be numbered")
    tiles = b"" if keys is None else _pack_tiles(keys)
    texts = ["\\".join(image.image_type), image.organization, image.concatenation_uid]
    encoded = [text.encode() for text in (*texts, *image.optical_paths)]
    packed = struct.pack(f"<{len(image.heights)}d", *image.heights) + _LENGTH.pack(len(encoded))
    packed += b"".join(_LENGTH.pack(len(text)) + text for text in encoded)
    head = _HEAD.pack(
        _HEAD.size + len(packed),
        0 if keys is None else len(keys),
        *(image.width, image.height, image.tile_width, image.tile_height),
        *(image.first_frame, len(image.heights)),
    )
    return head + packed + tiles


def _pack_tiles(keys: NDArray[np.int64]) -> bytes:
    """Return the fences and the tiles of frames that have these keys, packed.

    Raises
    ------
    FormatError
        Two frames are one tile, or there are more of them than can be numbered.
    """
    if len(keys) > _MOST_FRAMES:
        raise FormatError(f"a slide has at most {_MOST_FRAMES} frames, found {len(keys)}")
    tiles = np.empty(len(keys), [("key", "<u8"), ("frame", "<u4")])
    order = np.argsort(keys, kind="stable")
    tiles["key"], tiles["frame"] = keys[order], order
    double = np.flatnonzero(tiles["key"][1:] == tiles["key"][:-1])
    if len(double):
        frames = order[double[0]], order[double[0] + 1]
        raise FormatError(f"frame indices {frames[0]} and {frames[1]} are one tile")
    return tiles["key"][::_STRETCH].astype("<u8").tobytes() + tiles.tobytes()
