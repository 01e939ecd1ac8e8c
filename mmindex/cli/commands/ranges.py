"""`mmindex ranges`: where in the file the bytes of frames are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from mmindex.cli.frame_numbers import (
    FrameCommand,
    Span,
    check_located,
    find_numbers,
    numbers_argument,
)
from mmindex.cli.printing import print_array
from mmindex.cli.requests_shown import verbose_option
from mmindex.cli.source_argument import (
    force_option,
    instance_option,
    open_source,
    root_option,
    source_argument,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmindex import Instance


@click.command(
    "ranges", cls=FrameCommand, short_help="Print where the bytes of frames are, as JSON."
)
@source_argument
@numbers_argument(required=False)
@instance_option
@root_option
@force_option
@verbose_option
def command(
    source: str,
    spans: tuple[Span, ...],
    instance_uid: str | None,
    archive_root: str | None,
    force: bool,
) -> None:
    """Print where the bytes of frames are: all, or by NUMBER or range such as 1-10,50 or 90-.

    SOURCE is a DICOM file, or with --instance an archive's folder or an index. A frame has a
    range for each of its fragments, offset and length in bytes.

    \b
    mmindex ranges cine.dcm 42
    {"path": "cine.dcm", "frames": [
    {"number": 42, "ranges": [{"offset": 1206448, "length": 29144}]}
    ]}

    The range of a frame off byte boundaries (Bits Allocated 1) covers more than its bits: it has
    "bits" bits from "first_bit" on, 0 being the least significant bit of the first byte.
    """  # noqa: D301
    with open_source(source, instance_uid, archive_root, force=force) as opened:
        ranges = find_numbers(opened, spans or (Span(1, None),))
        check_located(opened, ranges)
        frames = (found for each in ranges for found in _walk(opened.instance, each))
        opening = f'{{"path": {json.dumps(opened.path)}, "frames": ['
        print_array(frames, opening=opening, closing="]}")


def _walk(instance: Instance, numbers: range) -> Iterator[dict[str, object]]:
    """Yield what is printed of each frame."""
    from mmindex.read.ahead import walk_ranges

    frames = instance.record.frames
    frame_bits = frames.frame_bits if frames else 0
    indices = range(numbers.start - 1, numbers.stop - 1, numbers.step)
    for index, pieces in walk_ranges(instance, indices):
        described: dict[str, object] = {
            "number": index + 1,
            "ranges": [piece._asdict() for piece in pieces],
        }
        first_bit = index * frames.stride_bits if frames else 0
        if first_bit % 8 or frame_bits % 8:
            described["first_bit"] = first_bit % 8
            described["bits"] = frame_bits
        yield described
