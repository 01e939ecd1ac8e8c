"""`mmindex export`: where every frame is, for other tools."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from mmindex.cli.binary_output import STDOUT, write_output
from mmindex.cli.printing import counted, plain
from mmindex.cli.source_argument import open_archive
from mmindex.cli.suggestions import NearChoice
from mmindex.index.names import is_of_index

if TYPE_CHECKING:
    from mmindex import Archive


@click.command("export", short_help="Write where every frame is: JSON lines, Parquet, kerchunk.")
@click.argument("root", type=click.Path())
@click.option(
    "--format",
    "form",
    type=NearChoice(["jsonl", "parquet", "kerchunk"]),
    default="jsonl",
    show_default=True,
    help="JSON lines, a Parquet table, or references that zarr opens through fsspec.",
)
@click.option(
    "--url-prefix",
    metavar="URL",
    default="",
    help="Write URLs: this, then the path in the archive, quoted.",
)
@click.option("-o", "--output", metavar="PATH", default=STDOUT, help="A file instead of stdout.")
def command(root: str, form: str, url_prefix: str, output: str) -> None:
    """Write where every frame of an archive is, a row a fragment.

    ROOT is an archive's folder or an index. Deflated data sets and video streams, whose frames have
    no bytes of their own, are left out; of kerchunk, all but native frames, each with a warning.

    \b
    mmindex export /data/archive --format parquet -o frames.parquet
    mmindex export /data/archive --url-prefix s3://bucket/archive/
    """  # noqa: D301
    with open_archive(root) as archive:
        _check_output(archive, output)
        if form == "parquet":
            from mmindex.export.parquet import write_parquet

            if output == STDOUT:
                raise click.UsageError(f"Parquet goes to a file: give -o {shlex.quote('PATH')}")
            rows = write_parquet(archive, output, url_prefix)
            click.echo(f"{counted(rows, 'row', grouped=True)} written to {plain(output)}", err=True)
        elif form == "kerchunk":
            from mmindex.export.kerchunk import walk_references

            write_output(walk_references(archive, url_prefix, _warn), output, None, listing=True)
        else:
            from mmindex.export.jsonl import walk_lines

            write_output(walk_lines(archive, url_prefix), output, None, listing=True)


def _check_output(archive: Archive, output: str) -> None:
    """Raise UsageError where the output is an index, or a file of the archive."""
    if output == STDOUT:
        return
    if is_of_index(output):
        raise click.UsageError(f"{output} is an index, or a file of one: give another path")
    inside = os.path.relpath(os.path.realpath(output), archive.root)
    if os.path.exists(output) and archive.has_file(inside):
        raise click.UsageError(f"{output} is a file of the archive: give another path")


def _warn(location: str, reason: str) -> None:
    click.echo(f"left out: {plain(location)}: {reason}", err=True)
