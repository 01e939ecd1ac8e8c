"""`mmindex update`: bring an index up to date for single files and folders."""

from __future__ import annotations

import sys
from typing import Any

import click

import mmindex
from mmindex.cli.build_options import (
    concurrency_option,
    index_option,
    log_option,
    print_report,
    prove_option,
    refuse_empty_root,
    refuse_for_url,
    refuse_no_folder,
    wait_option,
    walk_options,
)
from mmindex.cli.log import Log, logging_errors
from mmindex.cli.printing import FAILED
from mmindex.cli.requests_shown import telling_requests


@click.command("update", short_help="Update an index for these files only.")
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
@wait_option
@concurrency_option
@prove_option
@click.option("--force", is_flag=True, help="Accept files without preamble and file meta.")
@walk_options
@log_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print problems only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every problem, not the first 20.")
def command(
    root: str,
    paths: tuple[str, ...],
    files_from: str | None,
    null: bool,
    index: str | None,
    log_format: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> None:
    """Look at these files and folders alone: scan new and changed ones, drop those that are gone.

    PATHs are absolute, or relative to the working directory. Of a URL they are keys below it; that
    of a web server (http, https) cannot be built, but updated.

    \b
    mmindex update /data/archive /data/archive/ab/cd/new.dcm
    mmindex update https://server/archive --index my.mmindex --files-from names
    find . -type f -cnewer stamp -print0 | mmindex update . --files-from - -0
    """  # noqa: D301
    refuse_no_folder(root)
    refuse_for_url(root, index, **options)
    if null and files_from is None:
        raise click.UsageError("-0 has no meaning without --files-from")
    if not paths and files_from is None:
        raise click.UsageError("no PATH is given; `mmindex build` looks at the whole archive")
    if "" in paths:
        raise click.UsageError("a PATH is empty")
    listed = [] if files_from is None else _read_paths(files_from, b"\0" if null else b"\n")
    log = Log() if log_format == "json" else None
    with logging_errors(log), telling_requests(is_told=verbose and log is None):
        refuse_empty_root(root, index, options["max_removed"])
        report = mmindex.update(root, [*paths, *listed], index, check_pages=False, **options)
    print_report(report, as_json=as_json, quiet=quiet, verbose=verbose, log=log)
    if report.unknown_paths and not listed:  # what a program lists may be gone again
        click.get_current_context().exit(FAILED)


def _read_paths(source: str, end: bytes) -> list[bytes]:
    if source == "-":
        content = sys.stdin.buffer.read()
    else:
        with open(source, "rb") as file:
            content = file.read()
    return [path for path in content.split(end) if path]
