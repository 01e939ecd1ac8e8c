"""`mmindex update`: bring an index up to date for single files and folders."""

from __future__ import annotations

import sys
from typing import Any

import click

import mmindex
from mmindex.cli.build_options import index_option, print_report, refuse_no_folder, walk_options


@click.command("update", short_help="Look at these files alone, whatever the archive's size.")
@click.argument("root", type=click.Path())
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "--files-from",
    metavar="FILE|-",
    type=click.Path(allow_dash=True),
    help="Read paths, one a line; - is standard input.",
)
@click.option(
    "-0", "--null", is_flag=True, help="A zero byte ends each path, as by `find -print0`."
)
@index_option
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Wait for another build or update.",
)
@click.option("--force", is_flag=True, help="Accept files without preamble and file meta.")
@walk_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    root: str,
    paths: tuple[str, ...],
    files_from: str | None,
    null: bool,
    index: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Look at these files and folders alone: scan new and changed ones, drop those that are gone.

    PATHs are absolute, or relative to the working directory.

    \b
    mmindex update /data/archive /data/archive/ab/cd/new.dcm
    find . -newer stamp -print0 | mmindex update . --files-from - -0
    """  # noqa: D301
    refuse_no_folder(root)
    if null and files_from is None:
        raise click.UsageError("-0 has no meaning without --files-from")
    if not paths and files_from is None:
        raise click.UsageError("no PATH is given; `mmindex build` looks at the whole archive")
    if "" in paths:
        raise click.UsageError("a PATH is empty")
    listed = [] if files_from is None else _read_paths(files_from, b"\0" if null else b"\n")
    report = mmindex.update(root, [*paths, *listed], index, check_pages=False, **options)
    print_report(report, as_json=as_json)


def _read_paths(source: str, end: bytes) -> list[bytes]:
    if source == "-":
        content = sys.stdin.buffer.read()
    else:
        with open(source, "rb") as file:
            content = file.read()
    return [path for path in content.split(end) if path]
