"""`mmindex stats`: what an archive holds."""

from __future__ import annotations

import dataclasses

import click

from mmindex.cli.output import plain, print_json
from mmindex.cli.source import open_archive


@click.command("stats", short_help="Count files, instances, frames and bytes of an archive.")
@click.argument("root", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: str, as_json: bool) -> None:
    """Count what an archive holds: files by status, instances, frames, bytes, the index itself.

    ROOT is the archive's folder, or the index file. No other file is opened.

    \b
    mmindex stats /data/archive
    """  # noqa: D301
    from mmindex.read.statistics import count_archive  # loads the index

    with open_archive(root) as archive:
        statistics = count_archive(archive)
    if as_json:
        described = dataclasses.asdict(statistics)
        described["index_bytes_a_frame"] = statistics.index_bytes_a_frame
        print_json(described)
        return
    rows = [
        ("Files", f"{statistics.files}, {statistics.file_bytes} bytes"),
        *((f"  {status}", str(count)) for status, count in sorted(statistics.statuses.items())),
        ("Instances", str(statistics.instances)),
        ("Frames", str(statistics.frames)),
        (
            "Index",
            f"{statistics.index_bytes} bytes, {statistics.index_bytes_a_frame:.1f} a frame",
        ),
        *((f"Most frames {at}", f"{count}  {plain(path)}")
          for at, (path, count) in enumerate(statistics.largest, 1)),
        *((f"Slowest {at}", f"{seconds:.3f} s  {plain(path)}")
          for at, (path, seconds) in enumerate(statistics.slowest, 1)),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")
