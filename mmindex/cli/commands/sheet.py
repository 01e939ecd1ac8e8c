"""`mmindex sheet`: the frames of an instance at a glance, in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import mmindex
from mmindex.cli.amounts import Count
from mmindex.cli.binary_output import check_output, check_terminal, write_output
from mmindex.cli.frame_numbers import (
    FrameCommand,
    Span,
    check_located,
    find_numbers,
    numbers_argument,
)
from mmindex.cli.printing import FAILED, counted, join_lines, print_message
from mmindex.cli.requests_shown import verbose_option
from mmindex.cli.slide_source import is_slide_folder, open_slide_source
from mmindex.cli.source_argument import (
    Opened,
    force_option,
    instance_option,
    open_source,
    root_option,
    source_argument,
)
from mmindex.cli.window_option import window_option
from mmindex.errors import MMIndexError, TruncatedFrameError
from mmindex.model import WHOLE_SLIDE_IMAGE
from mmindex.render.png import require_pillow
from mmindex.render.shared_window import spread
from mmindex.render.sheet import UNREADABLE, draw_sheet, draw_slide

if TYPE_CHECKING:
    from mmindex.read.pictures import WindowChoice

_MOST_FRAMES = 100
_SLIDE = 8  # times the size of a frame
_SIZES = click.IntRange(16, 512)


@click.command("sheet", cls=FrameCommand, short_help="Draw frames at a glance, as one PNG.")
@source_argument
@numbers_argument(required=False)
@instance_option
@root_option
@click.option("-o", "--output", metavar="PATH", type=click.Path(), help="The PNG file.")
@click.option(
    "--columns",
    metavar="N",
    type=Count(),
    help="Frames in a row; default: a 4:3 sheet.",
)
@click.option(
    "--size",
    metavar="PIXELS",
    type=_SIZES,
    default=128,
    show_default=True,
    help="Longer side of a frame.",
)
@window_option
@force_option
@verbose_option
def command(
    source: str,
    spans: tuple[Span, ...],
    instance_uid: str | None,
    archive_root: str | None,
    output: str | None,
    columns: int | None,
    size: int,
    window: WindowChoice | None,
    force: bool,
) -> None:
    """Draw frames side by side: all, or by NUMBER or range such as 1-10,50 or 90-.

    Of a slide, draw its thumbnail, at most 8 times --size wide and high, unless NUMBER or --columns
    asks for frames. SOURCE is a DICOM file, a slide's folder, or with --instance an archive's
    folder or an index. Of more than 100 frames, 100 at even steps are drawn. Exits with 1 if a
    frame cannot be read.

    \b
    mmindex sheet cine.dcm -o sheet.png
    mmindex sheet cine.dcm 1-30 --columns 6 -o sheet.png
    """  # noqa: D301
    check_output(output)
    shown = window or "file"
    is_whole = not spans and columns is None
    if is_whole and instance_uid is None and archive_root is None and is_slide_folder(source):
        require_pillow()
        with open_slide_source(source, None) as slide:
            png = draw_slide(slide, _SLIDE * size, shown)
        write_output([png], check_terminal(output), None)
        return
    with open_source(source, instance_uid, archive_root, force=force) as opened:
        if is_whole and (
            picture := _draw_slide(opened, source, instance_uid, archive_root, size, shown)
        ):
            write_output([picture], check_terminal(output), opened.instance.path)
            return
        asked = find_numbers(opened, spans or (Span(1, None),))
        require_pillow()
        output = check_terminal(output)
        numbers = spread(asked, _MOST_FRAMES)
        try:
            indices = [number - 1 for number in numbers]
            sheet = draw_sheet(opened.instance, indices, columns=columns, size=size, window=shown)
        except UNREADABLE:
            check_located(opened, [range(numbers[0], numbers[0] + 1)])  # its number is from 1 on
            raise
        write_output([sheet.png], output, opened.instance.path)
        count = sum(map(len, asked))
        if count > len(numbers):
            print_message(f"{len(numbers)} of {counted(count, 'frame', grouped=True)}")
        for frame_index, error in sheet.failures:
            why = _explain(opened, frame_index + 1, error)
            print_message(f"{opened.path}: frame {frame_index + 1}: {join_lines(why.message)}")
    if sheet.failures:
        click.get_current_context().exit(FAILED)


def _draw_slide(
    opened: Opened,
    source: str,
    instance_uid: str | None,
    archive_root: str | None,
    size: int,
    window: WindowChoice,
) -> bytes | None:
    """Return the thumbnail of the slide that an instance is of; None of what is no whole slide.

    A slide that has no thumbnail, such as one part of several, has frames all the same: None, too,
    and a message that says why.
    """
    instance = opened.instance
    if instance.record.sop_class_uid != WHOLE_SLIDE_IMAGE or len(instance) < 1:
        return None
    require_pillow()
    try:
        if instance_uid is None:
            return draw_slide(mmindex.Slide([instance]), _SLIDE * size, window)
        with open_slide_source(source, instance_uid, archive_root) as slide:
            return draw_slide(slide, _SLIDE * size, window)
    except MMIndexError as error:
        if len(instance) > 1:  # a sheet of one frame is its picture
            reason = join_lines(str(error))
            print_message(f"{opened.path}: no thumbnail, frames are drawn instead: {reason}")
        return None


def _explain(opened: Opened, number: int, error: MMIndexError) -> MMIndexError:
    """Return why a frame cannot be read; of one that is cut off, by its number from 1 on."""
    try:
        check_located(opened, [range(number, number + 1)])
    except TruncatedFrameError as lost:
        return lost
    return error
