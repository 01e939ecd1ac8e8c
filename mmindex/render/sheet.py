"""The frames of an instance at a glance: one picture, a cell a frame, its number below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import DecodeError, FormatError, MMIndexError
from mmindex.read.ahead import walk_held
from mmindex.render.png import draw_picture, encode_png, require_pillow
from mmindex.render.shared_window import find_shared_window

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

    from mmindex.decode.window import Window
    from mmindex.model import ImagePixel
    from mmindex.read.instance import Instance
    from mmindex.read.pictures import WindowChoice
    from mmindex.read.slide import Slide

_SHAPE = 4 / 3  # width to height, of a sheet whose columns are not given
_GAP = 6  # pixels
_PAPER, _INK, MARK = (40, 40, 40), (230, 230, 230), (230, 120, 80)  # RGB
_MOST_TILES = 4096  # that a thumbnail is made of
UNREADABLE = (DecodeError, FormatError)


class Sheet(NamedTuple):
    """A sheet that was drawn.

    Attributes
    ----------
    png : bytes
        The PNG file.
    failures : list of (int, MMIndexError)
        Frame indices whose cells are crossed out, and why these frames cannot be read.
    """

    png: bytes
    failures: list[tuple[int, MMIndexError]]


class Cells(NamedTuple):
    """The layout of a sheet, in pixels but for `columns`: frames with their labels below.

    A frame is in the middle of its cell, which may be wider: a label can be wider than a frame.
    """

    columns: int
    width: int
    height: int
    label_width: int
    label_height: int

    @property
    def cell_width(self) -> int:
        """Width of a cell, which is the next one's distance but for the gap."""
        return max(self.width, self.label_width)

    def sheet_size(self, count: int) -> tuple[int, int]:
        """Return width and height of a sheet of so many frames."""
        rows = -(-count // self.columns)
        width = _GAP + self.columns * (self.cell_width + _GAP)
        return width, _GAP + rows * (self.height + self.label_height + _GAP)

    def place(self, at: int) -> tuple[int, int]:
        """Return left and top of a frame."""
        row, column = divmod(at, self.columns)
        left = _GAP + column * (self.cell_width + _GAP) + (self.cell_width - self.width) // 2
        return left, _GAP + row * (self.height + self.label_height + _GAP)


def draw_sheet(
    instance: Instance,
    frame_indices: Sequence[int],
    *,
    columns: int | None = None,
    size: int = 128,
    window: WindowChoice = "file",
) -> Sheet:
    """Draw frames side by side, each with its number from 1 on below; decodes one at a time.

    Parameters
    ----------
    frame_indices : sequence of int
        One frame or more, counted from 0, in the order of the cells.
    columns : int, optional
        Cells in a row; as many as make a sheet of 4:3 unless given.
    size : int
        Longer side of a frame, in pixels.
    window : "file", "auto" or (center, width)
        As in `Instance.picture`; but frames whose window is by values share one.

    Raises
    ------
    DecodeError, FormatError
        No frame can be read.
    MissingDependencyError
        Pillow is not installed.
    """
    require_pillow()
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    label = ceil(font.getlength(str(max(frame_indices) + 1))), ceil(font.getbbox("0123456789")[3])
    cells = _divide(
        instance.record.image_pixel, len(frame_indices), columns, size, (label[0], label[1] + 2)
    )
    sheet = Image.new("RGB", cells.sheet_size(len(frame_indices)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    indices = [range(index, index + 1) for index in frame_indices]
    by_values = find_shared_window(instance, indices, window)
    failures: list[tuple[int, MMIndexError]] = []
    for at, (frame_index, take) in enumerate(walk_held(instance, frame_indices)):
        left, top = cells.place(at)
        ink = _INK
        try:
            thumbnail = _draw_thumbnail(instance, frame_index, window, by_values, cells, take)
        except UNREADABLE as error:
            failures.append((frame_index, error))
            ink = MARK
            _cross_out(draw, left, top, cells)
        else:
            sheet.paste(thumbnail, (left, top))
        number = str(frame_index + 1)
        label_left = left + (cells.width - font.getlength(number)) / 2
        draw.text((label_left, top + cells.height + 1), number, fill=ink, font=font)
    if len(failures) == len(frame_indices):
        raise failures[0][1]
    return Sheet(encode_png(sheet), failures)


def draw_slide(slide: Slide, size: int, window: WindowChoice = "file") -> bytes:
    """Return the thumbnail of a slide as a PNG, at most `size` pixels wide and high.

    Parameters
    ----------
    window : "file", "auto" or (center, width)
        As in `Instance.picture`, of the thumbnail's values; colors are shown as they are.

    Raises
    ------
    FormatError
        The slide lacks small levels: the thumbnail takes more than 4,096 tiles. Or its pixels are
        indices of a palette, which have no means.
    DecodeError
        A tile cannot be decoded.
    MissingDependencyError
        Pillow is not installed.
    """
    require_pillow()
    from PIL import Image

    from mmindex.read.level import choose_level
    from mmindex.read.pictures import check_window, show_pixels

    window = check_window(window)
    level = slide.levels[choose_level(slide.levels, size)]
    instance = level.instances[0]
    if instance.record.image_pixel.photometric_interpretation == "PALETTE COLOR":
        raise FormatError(
            "a thumbnail averages pixels, and averages of palette indices are no colors"
        )
    tiles = min(level.columns * level.rows, sum(map(len, level.instances)))
    if tiles > _MOST_TILES:
        raise FormatError(
            f"a thumbnail takes at most {_MOST_TILES} tiles, and the smallest level that is large "
            f"enough has {tiles}"
        )
    pixels = show_pixels(instance, 0, slide.thumbnail(size), window)
    return encode_png(Image.fromarray(pixels))


def _divide(
    image: ImagePixel, count: int, columns: int | None, size: int, label: tuple[int, int]
) -> Cells:
    """Return cells of the shape that the frames have."""
    width, height = _fit(image.columns or 1, image.rows or 1, size, size)
    if columns is None:
        columns = round(sqrt(count * _SHAPE * (height + label[1]) / max(width, label[0])))
    return Cells(max(1, min(columns, count)), width, height, *label)


def _fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Return width and height, as large as they fit, in the same proportion."""
    scale = min(most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _draw_thumbnail(
    instance: Instance,
    frame_index: int,
    window: WindowChoice,
    by_values: Window | None,
    cells: Cells,
    take: Callable[[], Instance],
) -> Image.Image:
    from PIL import Image

    frame = Image.fromarray(draw_picture(instance, frame_index, window, by_values, take))
    size = _fit(frame.width, frame.height, cells.width, cells.height)
    return frame.resize(size, Image.Resampling.BOX)  # means of pixels, or larger pixels


def _cross_out(draw: ImageDraw.ImageDraw, left: int, top: int, cells: Cells) -> None:
    right, bottom = left + cells.width - 1, top + cells.height - 1
    draw.rectangle((left, top, right, bottom), outline=MARK)
    draw.line((left, top, right, bottom), fill=MARK)
    draw.line((left, bottom, right, top), fill=MARK)
