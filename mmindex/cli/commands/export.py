"""`mmindex export`: where every frame is, for other tools."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from mmindex.cli.binary_output import STDOUT, write_output
from mmindex.cli.left_out import FilesLeftOut
from mmindex.cli.printing import counted, print_message
from mmindex.cli.progress import showing_files
from mmindex.cli.requests_shown import print_requests
from mmindex.cli.source_argument import open_archive, root_option
from mmindex.cli.suggestions import NearChoice
from mmindex.index.names import is_of_index

if TYPE_CHECKING:
    from mmindex import Archive
    from mmindex.export.rows import LeftOut
    from mmindex.read.listings import Progress


@click.command("export", short_help="Write where every frame is: JSON lines, Parquet, kerchunk.")
@click.argument("root", type=click.Path())
@root_option
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
    help="Write URLs: this, then the path.",
)
@click.option("-o", "--output", metavar="PATH", default=STDOUT, help="A file instead of stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option(
    *("-v", "--verbose"),
    is_flag=True,
    callback=print_requests,
    help="Name all files left out; print URL ranges.",
)
def command(
    root: str,
    archive_root: str | None,
    form: str,
    url_prefix: str,
    output: str,
    quiet: bool,
    verbose: bool,
) -> None:
    """Write where every frame of an archive is, a row a fragment.

    ROOT is an archive's folder or an index. Deflated files and video streams are left out.
    kerchunk has native and gray compressed frames only; its chunks keep bits above Bits Stored.

    \b
    mmindex export /data/archive --format parquet -o frames.parquet
    mmindex export /data/archive --url-prefix s3://bucket/archive/
    """  # noqa: D301
    left_out = FilesLeftOut(verbose=verbose)
    with open_archive(root, archive_root) as archive:
        _check_output(archive, output)
        hides = quiet or (output == STDOUT and sys.stdout.isatty())
        with showing_files(quiet=hides) as progress:
            rows = _write(archive, form, url_prefix, output, left_out.take, progress)
    if quiet:
        return
    left_out.print()
    if rows is not None:
        print_message(f"{counted(rows, 'row', grouped=True)} written to {output}")


def _write(
    archive: Archive,
    form: str,
    url_prefix: str,
    output: str,
    left_out: LeftOut,
    progress: Progress | None,
) -> int | None:
    """Write the rows; return their number where it is to be printed."""
    if form == "parquet":
        from mmindex.export.parquet import write_parquet

        if output == STDOUT:
            raise click.UsageError(f"Parquet goes to a file: give -o {shlex.quote('PATH')}")
        return write_parquet(archive, output, url_prefix, left_out, progress)
    if form == "kerchunk":
        from mmindex.export.kerchunk import walk_references as walk
    else:
        from mmindex.export.jsonl import walk_lines as walk
    write_output(walk(archive, url_prefix, left_out, progress), output, None, listing=True)
    return None


def _check_output(archive: Archive, output: str) -> None:
    """Raise UsageError where the output is an index, or a file of the archive."""
    if output == STDOUT:
        return
    if is_of_index(output):
        raise click.UsageError(f"{output} is an index, or a file of one: give another path")
    inside = os.path.relpath(os.path.realpath(output), archive.root)
    if os.path.exists(output) and archive.has_file(inside):
        raise click.UsageError(f"{output} is a file of the archive: give another path")
