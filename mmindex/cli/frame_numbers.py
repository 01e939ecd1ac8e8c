"""NUMBER on the command line -> frames: `5`, `1-10`, `1-10,50`, and `90-` for up to the last.

Numbers start at 1, as in DICOM. What is asked for stays a few ranges, however many frames they
have, and is held against the instance before any of its frames is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mmindex.cli.printing import counted
from mmindex.cli.untranslated import UntranslatedHelp
from mmindex.errors import FrameIndexError, NotAddressableError, TruncatedFrameError
from mmindex.model import Status

if TYPE_CHECKING:
    from mmindex.cli.source_argument import Opened

_SPAN = re.compile(r"([0-9]{1,18})(-([0-9]{1,18})?)?")  # what has more digits is no frame's number


class Span(NamedTuple):
    """Frames as they were asked for: from `first` to `last`, None for the instance's last."""

    first: int
    last: int | None


class FrameCommand(UntranslatedHelp):
    """A command that takes frame numbers: -1 is a wrong one, not an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name.lstrip("-").isdigit():
                message = f"frame numbers start at 1, found {error.option_name}"
                raise click.UsageError(message, ctx) from None
            raise


def numbers_argument(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator that adds NUMBER..., the frames that are asked for."""
    return click.argument(
        "spans",
        metavar="NUMBER..." if required else "[NUMBER...]",
        nargs=-1,
        required=required,
        callback=_parse_spans,
    )


def _parse_spans(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[Span, ...]:
    return tuple(
        _parse_span(text, ctx, param) for value in values for text in str(value).split(",")
    )


def _parse_span(text: str, ctx: click.Context, param: click.Parameter) -> Span:
    found = _SPAN.fullmatch(text)
    if found is None:
        expected = "a frame number or range such as 5, 1-10 or 90-"
        raise click.BadParameter(f"expected {expected}, found {text!r}", ctx, param)
    first = int(found[1])
    last = first if found[2] is None else int(found[3]) if found[3] else None
    if first < 1:
        raise click.BadParameter(f"frame numbers start at 1, found {text}", ctx, param)
    if last is not None and last < first:
        raise click.BadParameter(f"expected a range that goes up, found {text}", ctx, param)
    return Span(first, last)


def count_asked(spans: Sequence[Span]) -> int | None:
    """Return how many frames are asked for; None where only the instance knows."""
    count = 0
    for first, last in spans:
        if last is None:
            return None
        count += last - first + 1
    return count


def find_numbers(opened: Opened, spans: Sequence[Span]) -> list[range]:
    """Return the numbers that are asked for, each of a frame that the instance has.

    Raises
    ------
    FrameIndexError, TruncatedFrameError, NotAddressableError, NoPixelDataError
        There is no such frame, the file ends before it, it is part of a video, or there is no
        pixel data.
    """
    record = opened.instance.record
    if record.status is Status.STREAM:
        raise NotAddressableError(
            "the frames of a video are one bit stream: use `mmindex frame --stream`, which writes "
            "the whole of it",
            path=opened.path,
        )
    if not record.status.has_frames:
        opened.instance.frame(0)  # raises why there is none
    count = record.number_of_frames
    ranges = []
    for first, last in spans:
        if first > count or (last is not None and last > count):
            frames = f"frames 1 to {count}" if count > 1 else counted(count, "frame")
            raise FrameIndexError(
                f"there is no frame {first if first > count else last}: the instance has {frames}",
                path=opened.path,
            )
        ranges.append(range(first, (last or count) + 1))
    return ranges


def check_located(opened: Opened, numbers: Sequence[range]) -> None:
    """Raise TruncatedFrameError where the file ends before one of these frames."""
    frames = opened.instance.record.frames
    located = frames.frames_located if frames is not None else 0
    lost = [max(located + 1, each[0]) for each in numbers if each[-1] > located]
    if lost:
        raise TruncatedFrameError(
            f"frame {lost[0]} is missing: the pixel data ends after {located} of "
            f"{counted(opened.instance.number_of_frames, 'frame')}",
            path=opened.path,
        )
