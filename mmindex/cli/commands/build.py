"""`mmindex build`: make or update the index of an archive."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import mmindex
from mmindex.cli.alerts import fail_on_option
from mmindex.cli.amounts import Count
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
from mmindex.cli.printing import FAILED, counted, print_message
from mmindex.cli.progress import showing_progress
from mmindex.cli.requests_shown import telling_requests
from mmindex.errors import MissingDependencyError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mmindex import BuildReport

    Progress = Callable[[BuildReport], None]


_KINDS_OF_INDEX = frozenset({"unreadable", "duplicate", "anomaly"})  # left after a build
_FAILING_NAMED = 1000


def _complete_folders(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


@click.command("build", short_help="Build or update the index of an archive.")
@click.argument("root", type=click.Path(), shell_complete=_complete_folders)
@index_option
@click.option(
    "-j",
    "--workers",
    metavar="N",
    type=Count(),
    help="Processes; default: one a core.",
)
@concurrency_option
@click.option("--dask", metavar="ADDRESS", help="Scan on the Dask cluster with this scheduler.")
@click.option("--full", is_flag=True, help="Scan unchanged files, too.")
@prove_option
@click.option(
    "--force",
    is_flag=True,
    help="Accept files without preamble and file meta.",
)
@click.option(
    "--ignore-inode",
    type=bool,
    flag_value=True,
    default=None,
    help="Compare size and time, not inodes, from now on.",
)
@click.option(
    "--no-ignore-inode",
    "ignore_inode",
    type=bool,
    flag_value=False,
    default=None,
    help="Compare inodes, too, from now on.",
)
@click.option(
    "--moved-from",
    metavar="OLD",
    type=click.Path(),
    help="ROOT was at OLD: take over its index.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 on problems of --fail-on kinds.",
)
@fail_on_option
@wait_option
@walk_options
@log_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Print problems only.")
@click.option("-v", "--verbose", is_flag=True, help="Print every problem, not the first 20.")
def command(
    root: str,
    index: str | None,
    workers: int | None,
    concurrency: int | None,
    dask: str | None,
    full: bool,
    prove: bool | None,
    force: bool,
    strict: bool,
    fail_on: frozenset[str],
    log_format: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **rules: Any,
) -> None:
    """Build or update an archive's index: scan what changed, drop what is gone.

    ROOT is a folder, or the URL of a bucket: s3://, gs://, az://. With -v, the ranges that are read
    of objects are printed, too.

    \b
    mmindex build /data/archive --index /fast/archive.mmindex --workers 8
    mmindex build s3://bucket/prefix --index archive.mmindex
    """  # noqa: D301
    if dask is not None and workers is not None:
        raise click.UsageError("--workers has no meaning with --dask: the cluster has its own")
    refuse_no_folder(root)
    if strict and not fail_on & _KINDS_OF_INDEX:
        raise click.UsageError(
            f"after a build no file is {', '.join(sorted(fail_on)) or 'anything'}: expected some "
            f"of {','.join(sorted(_KINDS_OF_INDEX))} in --fail-on with --strict; the other kinds "
            "are those of `mmindex check`"
        )
    is_remote = refuse_for_url(root, index, concurrency=concurrency, **rules)
    if is_remote and workers is not None:
        raise click.UsageError("--workers is for a folder; of a URL, --concurrency objects at once")
    if os.path.isfile(root):
        folder = shlex.quote(os.path.dirname(root) or os.curdir)
        raise click.UsageError(
            f"{root} is a file: a folder is indexed, as by `mmindex build {folder}`"
        )
    log = Log() if log_format == "json" else None
    with (
        logging_errors(log),
        _executor(dask) as executor,
        showing_progress(quiet=quiet, log=log) as show,
        _telling_what_is_left(show) as show,
        telling_requests(is_told=verbose and log is None),
    ):
        refuse_empty_root(root, index, rules["max_removed"])
        report = mmindex.build(
            root,
            index,
            workers=workers,
            concurrency=concurrency,
            executor=executor,
            full=full,
            prove=prove,
            force=force,
            progress=show,
            **rules,
        )
    failing = _find_failing(report, fail_on) if strict else {}
    print_report(report, as_json=as_json, quiet=quiet, verbose=verbose, log=log, failing=failing)
    if _is_empty(report):
        if log is None:
            print_message(f"{report.root}: found no file, and the index has none: is it mounted?")
        if strict:
            click.get_current_context().exit(FAILED)
    if count := failing.get("failing_count"):
        if log is None:
            kinds = ",".join(sorted(fail_on & _KINDS_OF_INDEX))
            print_message(f"{count} of {kinds} not accepted: `mmindex check` lists them")
        click.get_current_context().exit(FAILED)


def _is_empty(report: BuildReport) -> bool:
    """Return whether nothing is there, as below the mount point of a disk that is not mounted."""
    totals = report.totals
    return totals is not None and not (totals.files or report.found or report.problem_count)


def _find_failing(report: BuildReport, fail_on: frozenset[str]) -> dict[str, object]:
    """Return the problems of the index that were not accepted, as JSON has them."""
    failing: list[dict[str, str]] = []
    count = 0
    with mmindex.open(report.index) as archive:
        for problem in archive.problems(kinds=fail_on & _KINDS_OF_INDEX):
            if not problem.accepted:
                count += 1
                if count <= _FAILING_NAMED:
                    failing.append(
                        {"path": problem.path, "kind": problem.kind, "detail": problem.detail}
                    )
    return {"failing": failing, "failing_count": count}


@contextmanager
def _telling_what_is_left(show: Progress) -> Iterator[Progress]:
    """Yield what shows reports and, where Ctrl-C ends the build, says what the last one had."""
    last: list[BuildReport] = []

    def remember(report: BuildReport) -> None:
        last[:] = [report]
        show(report)

    try:
        yield remember
    except KeyboardInterrupt:
        if not last:
            raise
        report = last[0]  # up to date: it is the build's own, which has committed what is finished
        found = counted(report.found, "file", grouped=True)
        so_far = " found so far" if report.listing else ""
        raise KeyboardInterrupt(
            f"interrupted: {report.scanned + report.unchanged:,} of {found}{so_far} are in the "
            "index; run the same command again to go on"
        ) from None


@contextmanager
def _executor(address: str | None) -> Iterator[Executor | None]:
    """Connect to a Dask cluster where one is given."""
    if address is None:
        yield None
        return
    try:
        from distributed import Client
    except ImportError:
        raise MissingDependencyError(
            "--dask needs distributed: pip install 'mmindex[dask]'"
        ) from None
    try:
        client = Client(address)
    except (ValueError, AssertionError) as error:  # of an address without a host, or a port
        raise click.BadParameter(f"{address!r}: {error}", param_hint="--dask") from None
    with client:
        yield client.get_executor()
