"""`mmindex frame`: frames as they are stored, as arrays, or as pictures."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from mmindex.cli.source import (
    FrameCommand,
    Opened,
    check_numbers,
    force_option,
    instance_option,
    numbers_argument,
    open_source,
    source_argument,
)
from mmindex.errors import NotAddressableError
from mmindex.scan.transfer_syntax import Codec, find_transfer_syntax

if TYPE_CHECKING:
    from mmindex import Instance

_STDOUT = "-"
_EXTENSIONS = {  # of a frame as it is stored
    Codec.JPEG: "jpg",
    Codec.JPEG_LS: "jls",
    Codec.JPEG_2000: "j2k",
    Codec.JPEG_XL: "jxl",
}
_STREAM_EXTENSIONS = {"MPEG2": "m2v", "H.264": "h264", "H.265": "h265"}  # by what names have


@click.command(
    "frame", cls=FrameCommand, short_help="Write frames as stored, as arrays or pictures."
)
@source_argument
@numbers_argument(required=False)
@instance_option
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Where to; {number} and {ext} in it are filled in.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["raw", "npy", "png"]),
    default="raw",
    show_default=True,
    help="Stored bytes, or decoded.",
)
@click.option("--stream", is_flag=True, help="The whole bit stream of a video; no NUMBER.")
@force_option
def command(
    source: str,
    numbers: tuple[int, ...],
    instance_uid: str | None,
    output: str | None,
    format_name: str,
    stream: bool,
    force: bool,
) -> None:
    """Write frames, whose numbers start at 1, or the bit stream of a video.

    SOURCE is a DICOM file, or with --instance an archive's folder or an index. An index at or
    above a file serves it while it is up to date.

    \b
    mmindex frame cine.dcm 42 > frame.jpg
    mmindex frame cine.dcm 1 2 3 --format png -o 'frames/{number:04d}.{ext}'
    mmindex frame /data/archive 42 --instance 1.2.840.113619.2 -o frame.jpg
    mmindex frame endoscopy.dcm --stream -o 'endoscopy.{ext}'

    Raw frames on standard output follow each other, arrays are stacked. PNG has samples of more
    than 8 bits windowed from the frame's least to its greatest.
    """  # noqa: D301
    _check_what(numbers, format_name, stream)
    _check_output(numbers, output, format_name)
    with open_source(source, instance_uid, force=force) as opened:
        if stream:
            _write_stream(opened, output or _STDOUT)
            return
        check_numbers(opened, numbers)
        for path, data in _walk_outputs(opened.instance, numbers, output or _STDOUT, format_name):
            _write([data], path, opened.instance)


def _check_what(numbers: Sequence[int], format_name: str, stream: bool) -> None:
    """Raise UsageError unless frames or the stream are asked for."""
    if not stream and not numbers:
        raise click.UsageError("say which frames by NUMBER, or --stream for those of a video")
    if stream and numbers:
        raise click.UsageError("--stream writes a video as a whole: leave out NUMBER")
    if stream and format_name != "raw":
        raise click.UsageError("--stream writes a video as it is stored: leave out --format")


def _check_output(numbers: Sequence[int], output: str | None, format_name: str) -> None:
    """Raise UsageError where the output can't take what is asked for."""
    if output is None and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(
            "frames are binary: give -o PATH, or -o - to have them on the terminal all the same"
        )
    to_stdout = output in (None, _STDOUT)
    several_fit = format_name == "npy" or (format_name == "raw" and to_stdout)
    if len(numbers) > 1 and not several_fit and not _has_number(output or _STDOUT):
        raise click.UsageError(
            f"{len(numbers)} frames need an output each: put {{number}} into -o PATH, "
            "such as -o 'frame-{number:04d}.{ext}'"
        )


def _has_number(output: str) -> bool:
    return "{number" in output


def _walk_outputs(
    instance: Instance, numbers: Sequence[int], output: str, format_name: str
) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each output."""
    codec = find_transfer_syntax(instance.record.transfer_syntax_uid).codec
    extension = _EXTENSIONS.get(codec, "raw") if format_name == "raw" else format_name
    if format_name == "npy" and not _has_number(output):
        yield _fill_in(output, number=numbers[0], ext=extension), _encode_npy(instance, numbers)
        return
    for number in numbers:
        path = _fill_in(output, number=number, ext=extension)
        if format_name == "npy":
            yield path, _encode_npy(instance, [number])
        elif format_name == "png":
            from mmindex.cli.picture import encode_png

            array = instance.array(number - 1)
            yield path, encode_png(array, instance.record.image_pixel)
        else:
            yield path, instance.frame(number - 1)


def _fill_in(output: str, **fields: object) -> str:
    """Return the output's path; one without fields is taken as it is, braces and all."""
    if not _has_number(output) and "{ext}" not in output:
        return output
    try:
        return output.format(**fields)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        known = " and ".join(f"{{{name}}}" for name in fields)
        hint = ", with a format such as {number:04d}" if "number" in fields else ""
        raise click.UsageError(
            f"cannot fill in {output!r}: {error}; only {known} can stand in it" + hint
        ) from None


def _encode_npy(instance: Instance, numbers: Sequence[int]) -> bytes:
    """Return an .npy file: (rows, columns[, samples]), of several frames (frames, rows, ...)."""
    import numpy as np

    arrays = [instance.array(number - 1) for number in numbers]
    buffer = io.BytesIO()
    np.save(buffer, arrays[0] if len(arrays) == 1 else np.stack(arrays))
    return buffer.getvalue()


def _write_stream(opened: Opened, output: str) -> None:
    """Write the fragments of a video one after the other: its bit stream (PS3.5 8.2.5)."""
    instance = opened.instance
    if instance.record.status.has_frames:
        raise NotAddressableError(
            "the instance is no video: ask for its frames by NUMBER", path=opened.path
        )
    fragments = instance.stream()
    syntax = find_transfer_syntax(instance.record.transfer_syntax_uid)
    extension = next(ext for name, ext in _STREAM_EXTENSIONS.items() if name in syntax.name)
    _write(fragments, _fill_in(output, ext=extension), instance)


def _write(pieces: Iterable[bytes], path: str, instance: Instance) -> None:
    if path == _STDOUT:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and instance.path and os.path.samefile(path, instance.path):
        raise click.UsageError(f"{path} is the file that the frames come from")
    os.makedirs(os.path.dirname(path) or os.curdir, exist_ok=True)
    with open(path, "wb") as file:
        file.writelines(pieces)
