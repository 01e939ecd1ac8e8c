"""`mmindex merge`: indexes that were built apart, joined."""

from __future__ import annotations

import click

import mmindex
from mmindex.cli.printing import counted, plain, print_index, print_message, quote
from mmindex.cli.progress import showing_files


@click.command("merge", short_help="Join indexes that were built apart.")
@click.argument("out", type=click.Path())
@click.argument("indexes", metavar="INDEX...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--root",
    metavar="PATH",
    type=click.Path(),
    help="Archive root of a new OUT; default: the folder that all archives share.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Name each index with its root and files.")
def command(
    out: str, indexes: tuple[str, ...], root: str | None, quiet: bool, verbose: bool
) -> None:
    """Join indexes to one, OUT, which is created or extended. No file is scanned.

    Each INDEX is an index file, or the folder that has it, and stays as it is: the jobs of an
    array build one a folder, then a last one joins them.

    \b
    mmindex build /data/archive/2024 --index /fast/2024.mmindex
    mmindex build /data/archive/2025 --index /fast/2025.mmindex
    mmindex merge /fast/all.mmindex /fast/2024.mmindex /fast/2025.mmindex
    """  # noqa: D301
    if verbose:
        for index in indexes:
            print_index(index)
    with showing_files(quiet=quiet) as show:
        report = mmindex.merge(out, indexes, root=root, progress=show)
    if report.dropped_attributes:
        print_message(
            "the indexes keep different attributes: none are kept, not "
            f"{', '.join(report.dropped_attributes)}; `mmindex build {quote(report.root)} "
            f"--index {quote(report.index)} --attributes ...` reads them again"
        )
    if quiet:
        return
    files = counted(report.files, "file", grouped=True)
    click.echo(f"Index: {plain(report.index)} of {plain(report.root)}")
    click.echo(f"{files} merged")
