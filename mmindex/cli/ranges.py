"""`mmindex ranges`: where in the file the bytes of frames are."""

from __future__ import annotations

import click

from mmindex.cli.output import print_json
from mmindex.cli.source import (
    FrameCommand,
    check_numbers,
    instance_option,
    numbers_argument,
    open_source,
    source_argument,
)


@click.command(
    "ranges", cls=FrameCommand, short_help="Print where the bytes of frames are, as JSON."
)
@source_argument
@numbers_argument
@instance_option
def command(source: str, numbers: tuple[int, ...], instance_uid: str | None) -> None:
    """Print where the bytes of frames are, as JSON; their numbers start at 1.

    SOURCE is a DICOM file, or with --instance an archive's folder or an index. A frame has a
    range for each of its fragments, offset and length in bytes.

    \b
    mmindex ranges cine.dcm 42
    {"path": "cine.dcm",
     "frames": [{"number": 42, "ranges": [{"offset": 1206448, "length": 29144}]}]}
    """  # noqa: D301
    with open_source(source, instance_uid) as opened:
        check_numbers(opened, numbers)
        frames = [
            {
                "number": number,
                "ranges": [piece._asdict() for piece in opened.instance.byte_ranges(number - 1)],
            }
            for number in numbers
        ]
        print_json({"path": opened.path, "frames": frames})
