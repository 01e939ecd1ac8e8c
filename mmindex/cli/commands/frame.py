"""`mmindex frame`: frames as they are stored, as arrays, or as pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import click

from mmindex.cli.binary_output import (
    STDOUT,
    TEMPLATE,
    check_output,
    check_terminal,
    fill_in,
    has_number,
    write_output,
)
from mmindex.cli.frame_numbers import (
    FrameCommand,
    Span,
    check_located,
    count_asked,
    find_numbers,
    numbers_argument,
)
from mmindex.cli.requests_shown import verbose_option
from mmindex.cli.slide_source import Tile, TileType, open_tile
from mmindex.cli.source_argument import (
    Opened,
    force_option,
    instance_option,
    open_source,
    root_option,
    source_argument,
)
from mmindex.cli.suggestions import NearChoice
from mmindex.cli.untranslated import PATH
from mmindex.cli.window_option import window_option
from mmindex.errors import NotAddressableError
from mmindex.model import Boundaries

if TYPE_CHECKING:
    from mmindex import Instance
    from mmindex.read.pictures import WindowChoice

_PICTURES = {"png": "PNG", "jpg": "JPEG"}
_DECODED = ("npy", *_PICTURES)
_ENDINGS = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "j2c": "j2k", "jpc": "j2k"}
_NAMED = _PICTURES | {  # by what a file's name ends with; any other end names no format
    "npy": "npy",
    "jls": "JPEG-LS",
    "j2k": "JPEG 2000",
    "jxl": "JPEG XL",
    "rle": "RLE",
    "tif": "TIFF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "webp": "WebP",
}


@click.command(
    "frame", cls=FrameCommand, short_help="Write frames as stored, as arrays or pictures."
)
@source_argument
@numbers_argument(required=False)
@instance_option
@root_option
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=PATH,
    help="Output path; {number} and {ext} are replaced.",
)
@click.option(
    "--format",
    "format_name",
    type=NearChoice(["raw", "npy", "png", "jpg"]),
    help="Stored bytes, or decoded; raw, unless -o ends with .npy or .png.",
)
@window_option
@click.option(
    "--tile",
    metavar="LEVEL,COLUMN,ROW",
    type=TileType(),
    help="A tile of a slide; SOURCE may be a folder.",
)
@click.option("--stream", is_flag=True, help="The whole bit stream of a video; no NUMBER.")
@force_option
@verbose_option
def command(
    source: str,
    spans: tuple[Span, ...],
    instance_uid: str | None,
    archive_root: str | None,
    output: str | None,
    format_name: str | None,
    window: WindowChoice | None,
    tile: Tile | None,
    stream: bool,
    force: bool,
) -> None:
    """Write frames, by NUMBER or range such as 1-10,50 or 90-, a tile, or a video.

    SOURCE is a DICOM file, or with --instance an archive's folder or an index. Raw frames on
    standard output follow each other, arrays are stacked.

    \b
    mmindex frame cine.dcm 42 -o frame.jpg
    mmindex frame cine.dcm 1- -o 'frames/{number:06d}.{ext}' --format png
    mmindex frame /data/archive 42 --instance 1.2.840.113619.2 -o frame.jpg
    """  # noqa: D301
    format_name = format_name or _find_format(output)
    if window is not None and format_name not in _PICTURES:
        raise click.UsageError("--window is of pictures: add --format png or jpg")
    _check_what(spans, format_name, stream, tile)
    check_output(output)
    if tile is not None:
        with open_tile(source, instance_uid, archive_root, tile, force=force) as (opened, span):
            _write_frames(opened, [span], output, format_name, window)
        return
    if not stream:
        _check_several(spans, output or STDOUT, format_name)
    with open_source(source, instance_uid, archive_root, force=force) as opened:
        if stream:
            _write_stream(opened, output)
            return
        _write_frames(opened, spans, output, format_name, window)


def _write_frames(
    opened: Opened,
    spans: Sequence[Span],
    output: str | None,
    format_name: str,
    window: WindowChoice | None,
) -> None:
    ranges = find_numbers(opened, spans)
    check_located(opened, ranges)
    output = check_terminal(output)
    _check_ending(output, format_name, opened.instance)
    for path, content in _walk_outputs(opened, ranges, output, format_name, window or "file"):
        write_output([content], path, opened.instance.path)


def _find_format(output: str | None) -> str:
    """Return the format that the output's name asks for; that of .jpg may be the stored frame's."""
    end = (output or "").lower()
    return next((name for name in ("npy", "png") if end.endswith(f".{name}")), "raw")


def _find_extension(instance: Instance, format_name: str) -> str:
    """Return the extension of a frame in this format, or of a frame or stream as it is stored."""
    if format_name != "raw":
        return format_name
    if instance.record.boundaries is Boundaries.NATIVE:
        return "raw"
    from mmindex.scan.transfer_syntax import find_transfer_syntax  # not of standard output

    return find_transfer_syntax(instance.record.transfer_syntax_uid).extension


def _is_format_known(instance: Instance) -> bool:
    """Return whether the transfer syntax says what is stored; a private or wrong one does not."""
    from mmindex.scan.transfer_syntax import Codec, find_transfer_syntax

    codec = find_transfer_syntax(instance.record.transfer_syntax_uid).codec
    is_native = instance.record.boundaries is Boundaries.NATIVE
    return is_native or codec not in (Codec.NATIVE, Codec.UNKNOWN)


def _check_ending(output: str, format_name: str, instance: Instance) -> None:
    """Raise UsageError where the output's name is that of another format than what is written."""
    ending = os.path.splitext(output)[1].lower().removeprefix(".")
    ending = _ENDINGS.get(ending, ending)
    if ending not in _NAMED or (format_name == "raw" and not _is_format_known(instance)):
        return
    extension = _find_extension(instance, format_name)
    if ending == extension:
        return
    remedy = f"name the output x.{extension}"
    if format_name != "raw":
        raise click.UsageError(f"--format {format_name} is not {_NAMED[ending]}: {remedy}")
    if ending in _DECODED:
        remedy = f"add --format {ending}"
    stored = _NAMED.get(extension, extension)
    raise click.UsageError(f"the frame is stored as {stored}, not {_NAMED[ending]}: {remedy}")


def _check_what(spans: Sequence[Span], format_name: str, stream: bool, tile: Tile | None) -> None:
    """Raise UsageError unless frames, a tile or the stream are asked for."""
    if tile is not None:
        if stream or spans:
            raise click.UsageError("--tile names one tile: leave out NUMBER and --stream")
        return
    if not stream and not spans:
        raise click.UsageError("say which frames by NUMBER, or --stream for those of a video")
    if stream and spans:
        raise click.UsageError("--stream writes a video as a whole: leave out NUMBER")
    if stream and format_name != "raw":
        raise click.UsageError("--stream writes a video as it is stored: leave out --format")


def _check_several(spans: Sequence[Span], output: str, format_name: str) -> None:
    """Raise UsageError where several frames would go to one output, or a template is wrong."""
    count = count_asked(spans)
    several_fit = format_name == "npy" or (format_name == "raw" and output == STDOUT)
    if not has_number(output) and count != 1 and not several_fit:
        raise click.UsageError(
            f"{count or 'several'} frames need an output each, such as -o 'frames/{TEMPLATE}'"
        )


def _walk_outputs(
    opened: Opened,
    ranges: Sequence[range],
    output: str,
    format_name: str,
    window: WindowChoice,
) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each output."""
    instance = opened.instance
    extension = "" if output == STDOUT else _find_extension(instance, format_name)
    numbers = chain.from_iterable(ranges)
    if format_name == "npy" and not has_number(output):
        path = fill_in(output, number=ranges[0][0], ext=extension)
        yield path, _encode_npy(instance, list(numbers))
        return
    if format_name in _PICTURES:
        from mmindex.render.png import walk_pictures  # a raw frame does not wait for this

        spans = [range(each[0] - 1, each[-1]) for each in ranges]
        file_format = _PICTURES[format_name]
        contents = walk_pictures(instance, spans, window=window, file_format=file_format)
    elif format_name == "npy":
        contents = (_encode_npy(instance, [number]) for number in chain.from_iterable(ranges))
    else:
        indices = [number - 1 for each in ranges for number in each]
        contents = _walk_frames(instance, indices)
    for number, content in zip(numbers, contents, strict=True):
        yield fill_in(output, number=number, ext=extension), content


def _walk_frames(instance: Instance, indices: Sequence[int]) -> Iterator[bytes]:
    if len(indices) == 1:
        return map(instance.frame, indices)
    from mmindex.read.ahead import walk_frames  # of several, which a store sends together

    return walk_frames(instance, indices)


def _encode_npy(instance: Instance, numbers: Sequence[int]) -> bytes:
    """Return an .npy file: (rows, columns[, samples]), of several frames (frames, rows, ...)."""
    import numpy as np

    indices = [number - 1 for number in numbers]
    buffer = io.BytesIO()
    np.save(buffer, instance.array(indices[0]) if len(indices) == 1 else instance.arrays(indices))
    return buffer.getvalue()


def _write_stream(opened: Opened, output: str | None) -> None:
    """Write the fragments of a video one after the other: its bit stream (PS3.5 8.2.5)."""
    instance = opened.instance
    if instance.record.status.has_frames:
        raise NotAddressableError(
            "the instance is no video: ask for its frames by NUMBER", path=opened.path
        )
    output = check_terminal(output)
    fragments = instance.stream()
    extension = _find_extension(instance, "raw")
    write_output(fragments, fill_in(output, ext=extension), instance.path)
