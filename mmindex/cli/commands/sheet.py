"""`mmindex sheet`: the frames of an instance at a glance, in one picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

import click

from mmindex.cli.binary_output import check_output, check_terminal, write_output
from mmindex.cli.frame_numbers import (
    FrameCommand,
    Span,
    check_located,
    find_numbers,
    numbers_argument,
    spread,
)
from mmindex.cli.picture import (
    MOST_FRAMES_SAMPLED,
    check_picture,
    encode_png,
    find_window,
    render,
)
from mmindex.cli.printing import FAILED, counted, join_lines, print_message
from mmindex.cli.source_argument import (
    Opened,
    force_option,
    instance_option,
    open_source,
    source_argument,
)
from mmindex.decode.window import Window
from mmindex.errors import DecodeError, FormatError, MMIndexError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from mmindex import ImagePixel

_MOST_FRAMES = 100
_SIZES = click.IntRange(16, 512)
_SHAPE = 4 / 3  # width to height, of a sheet whose columns are not given
_GAP = 6  # pixels
_PAPER, _INK, _MARK = (40, 40, 40), (230, 230, 230), (230, 120, 80)  # RGB
_UNREADABLE = (DecodeError, FormatError)


class Cells(NamedTuple):
    """How a sheet is divided, in pixels but for `columns`: frames with their labels below.

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


@click.command("sheet", cls=FrameCommand, short_help="Draw frames at a glance, as one PNG.")
@source_argument
@numbers_argument(required=False)
@instance_option
@click.option("-o", "--output", metavar="PATH", type=click.Path(), help="The PNG file.")
@click.option(
    "--columns",
    metavar="N",
    type=click.IntRange(min=1),
    help="Frames beside each other; what makes a sheet of 4:3 unless given.",
)
@click.option(
    "--size",
    metavar="PIXELS",
    type=_SIZES,
    default=128,
    show_default=True,
    help="Longer side of a frame.",
)
@force_option
def command(
    source: str,
    spans: tuple[Span, ...],
    instance_uid: str | None,
    output: str | None,
    columns: int | None,
    size: int,
    force: bool,
) -> None:
    """Draw frames side by side: all, or by NUMBER or range such as 1-10,50 or 90-.

    SOURCE is a DICOM file, or with --instance an archive's folder or an index. Each frame has its
    number below. Of more than 100 frames, 100 at even steps are drawn, first and last included.
    Exits with 1 if a frame cannot be read; its cell is crossed out. Samples over 8 bits are in
    one window for all frames, by their values: the file's own is not used.

    \b
    mmindex sheet cine.dcm -o sheet.png
    mmindex sheet cine.dcm 1-30 --columns 6 -o sheet.png
    """  # noqa: D301
    check_output(output)
    with open_source(source, instance_uid, force=force) as opened:
        asked = find_numbers(opened, spans or (Span(1, None),))
        check_picture(opened)
        output = check_terminal(output)
        numbers = spread(asked, _MOST_FRAMES)
        sheet, failures = _draw_sheet(opened, numbers, columns, size)
        write_output([encode_png(sheet)], output, opened.instance.path)
        count = sum(map(len, asked))
        if count > len(numbers):
            print_message(f"{len(numbers)} of {counted(count, 'frame', grouped=True)}")
        for number, error in failures:
            print_message(f"{opened.path}: frame {number}: {join_lines(error.message)}")
    if failures:
        click.get_current_context().exit(FAILED)


def _draw_sheet(
    opened: Opened, numbers: list[int], columns: int | None, size: int
) -> tuple[Image.Image, list[tuple[int, MMIndexError]]]:
    """Return the sheet, and the frames that cannot be read with why; one is decoded at a time.

    Raises
    ------
    DecodeError, FormatError
        No frame can be read.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    label = ceil(font.getlength(str(max(numbers)))), ceil(font.getbbox("0123456789")[3]) + 2
    cells = _divide(opened.instance.record.image_pixel, len(numbers), columns, size, label)
    sheet = Image.new("RGB", cells.sheet_size(len(numbers)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    window = _find_window(opened, numbers)
    failures: list[tuple[int, MMIndexError]] = []
    for at, number in enumerate(numbers):
        left, top = cells.place(at)
        ink = _INK
        try:
            thumbnail = _draw_thumbnail(opened, number, window, cells)
        except _UNREADABLE as error:
            failures.append((number, error))
            ink = _MARK
            _cross_out(draw, left, top, cells)
        else:
            sheet.paste(thumbnail, (left, top))
        label_left = left + (cells.width - font.getlength(str(number))) / 2
        draw.text((label_left, top + cells.height + 1), str(number), fill=ink, font=font)
    if len(failures) == len(numbers):
        raise failures[0][1]
    return sheet, failures


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


def _find_window(opened: Opened, numbers: list[int]) -> Window | None:
    """Return one window for all frames that can be read."""
    sampled = spread([range(number, number + 1) for number in numbers], MOST_FRAMES_SAMPLED)

    def walk_readable() -> Iterator[NDArray[np.generic]]:
        for number in sampled:
            with suppress(*_UNREADABLE):  # told when it is drawn
                yield _decode(opened, number)

    return find_window(walk_readable(), len(sampled))


def _decode(opened: Opened, number: int) -> NDArray[np.generic]:
    check_located(opened, [range(number, number + 1)])
    return opened.instance.array(number - 1)


def _draw_thumbnail(
    opened: Opened, number: int, window: Window | None, cells: Cells
) -> Image.Image:
    from PIL import Image

    pixels = render(_decode(opened, number), opened.instance.record.image_pixel, window)
    frame = Image.fromarray(pixels)
    size = _fit(frame.width, frame.height, cells.width, cells.height)
    return frame.resize(size, Image.Resampling.BOX)  # means of pixels, or larger pixels


def _cross_out(draw: ImageDraw.ImageDraw, left: int, top: int, cells: Cells) -> None:
    right, bottom = left + cells.width - 1, top + cells.height - 1
    draw.rectangle((left, top, right, bottom), outline=_MARK)
    draw.line((left, top, right, bottom), fill=_MARK)
    draw.line((left, bottom, right, top), fill=_MARK)
