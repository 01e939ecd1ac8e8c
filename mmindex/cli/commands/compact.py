"""`mmindex compact`: an index without unused pages."""

from __future__ import annotations

import click

import mmindex
from mmindex.cli.printing import print_index, size_for_reader
from mmindex.cli.progress import showing_files


@click.command("compact", short_help="Rewrite an index without unused pages.")
@click.argument("root", type=click.Path())
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Name the index, its root and its files, too.")
def command(root: str, quiet: bool, verbose: bool) -> None:
    """Rewrite an index without the pages that changes left unused, if that makes it smaller.

    ROOT is the archive's folder, or the index file. No program may have it open.

    \b
    mmindex compact /data/archive
    """  # noqa: D301
    if verbose:
        print_index(root)
    with showing_files(quiet=quiet, noun="value") as show:
        before, after = mmindex.compact(root, progress=show)
    if quiet:
        return
    kept = "" if after < before else ": it stays as it is"
    click.echo(f"{size_for_reader(before)} before, {size_for_reader(after)} after{kept}")
