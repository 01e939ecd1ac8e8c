"""`mmindex stats`: what an archive holds."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator, Sequence

import click

from mmindex.cli.kept_attributes import Kept
from mmindex.cli.log import describe_time, show_time
from mmindex.cli.printing import cut_middle, plain, print_json, size_for_reader
from mmindex.cli.progress import showing_files
from mmindex.cli.requests_shown import verbose_option
from mmindex.cli.source_argument import open_archive, root_option

_LEAST_PATH = 16
_WIDEST_NAME = len("  no-pixel-data")


@click.command("stats", short_help="Count files, instances, frames and bytes of an archive.")
@click.argument("root", type=click.Path())
@root_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--prometheus", is_flag=True, help="Print metrics in the text format of Prometheus.")
@verbose_option
def command(root: str, archive_root: str | None, as_json: bool, prometheus: bool) -> None:
    """Count what an archive holds: files by status, instances, frames, bytes, the index itself.

    ROOT is the archive's folder, or the index file. No other file is opened.

    \b
    mmindex stats /data/archive
    mmindex stats /data/archive --prometheus > /var/lib/node_exporter/mmindex.prom
    """  # noqa: D301
    if prometheus:
        if as_json:
            raise click.UsageError("--prometheus has no meaning with --json")
        _print_metrics(root, archive_root)
        return
    with open_archive(root, archive_root) as archive, showing_files() as show:
        statistics = archive.statistics(progress=show)
        note = archive.last_build()
        kept = Kept(archive)
    if as_json:
        described = dataclasses.asdict(statistics)
        described["index_bytes_a_frame"] = statistics.index_bytes_a_frame
        described["last_build"] = note and describe_time(note.ended_ns / 1e9)
        described["attributes"] = list(kept.names)
        print_json(described)
        return
    index = size_for_reader(statistics.index_bytes)
    if statistics.frames:
        index += f", {statistics.index_bytes_a_frame:.1f} bytes a frame"
    largest = [(_number(count), path) for path, count in statistics.largest]
    slowest = [(f"{seconds:.3f} s", path) for path, seconds in statistics.slowest]
    rows = [
        ("Files", f"{_number(statistics.files)}, {size_for_reader(statistics.file_bytes)}"),
        *((f"  {status}", _number(count)) for status, count in sorted(statistics.statuses.items())),
        ("Instances", _number(statistics.instances)),
        ("Frames", _number(statistics.frames)),
        ("Index", index),
        *([("Last build", show_time(note.ended_ns / 1e9))] if note else []),
        *kept.walk_lines(),
        *_walk_ranks("Most frames", largest),
        *_walk_ranks("Slowest", slowest),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")


def _print_metrics(root: str, archive_root: str | None) -> None:
    from mmindex.cli.prometheus import measure_archive, walk_lines

    with open_archive(root, archive_root) as archive:
        for line in walk_lines(measure_archive(archive)):
            click.echo(line)


def _shown(path: str, taken: int) -> str:
    """Return a path; on a terminal as much of its ends as fits beside what is taken."""
    if not sys.stdout.isatty():
        return plain(path)
    return cut_middle(plain(path), max(_LEAST_PATH, shutil.get_terminal_size().columns - taken))


def _number(count: int) -> str:
    return f"{count:,}" if sys.stdout.isatty() else str(count)


def _walk_ranks(name: str, ranks: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each rank: what was measured, and the path, below each other."""
    width = max((len(measured) for measured, _ in ranks), default=0)
    for rank, (measured, path) in enumerate(ranks, 1):
        heading = f"{name} {rank}"
        path = _shown(path, max(len(heading), _WIDEST_NAME) + width + 4)
        yield heading, f"{measured:{width}}  {path}"
