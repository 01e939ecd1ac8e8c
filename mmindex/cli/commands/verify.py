"""`mmindex verify`: decode every frame of an archive."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO

import click

from mmindex.cli.amounts import MOST_FRAMES, Count
from mmindex.cli.endings import may_lose_reader
from mmindex.cli.printing import FAILED, counted, join_lines, plain, print_json_lines, print_message
from mmindex.cli.problem_table import walk_failures
from mmindex.cli.progress import showing_files
from mmindex.cli.requests_shown import print_requests
from mmindex.cli.source_argument import open_archive, root_option
from mmindex.cli.terminal import color_option, note_no_color, print_paged

if TYPE_CHECKING:
    from mmindex import InstanceRecord
    from mmindex.read.verify import Verified


@click.command("verify", short_help="Decode every frame of an archive; list those that cannot be.")
@click.argument("root", type=click.Path())
@root_option
@click.option(
    "--sample",
    metavar="N",
    type=Count(MOST_FRAMES),
    help="Decode at most N frames a file, evenly spaced.",
)
@click.option(
    "-j",
    "--threads",
    metavar="N",
    type=Count(),
    help="Threads; default: one a core.",
)
@click.option(
    "--state",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="Record finished files; skip them later.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option(
    *("-v", "--verbose"),
    is_flag=True,
    callback=print_requests,
    help="Print problems whole, and what is read of URLs.",
)
@color_option
def command(
    root: str,
    archive_root: str | None,
    sample: int | None,
    threads: int | None,
    state: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Decode every frame of an archive with all cores; list those that fail.

    ROOT is the archive's folder, or the index file. With --state, a run that was interrupted goes
    on where it ended. Exits with 1 if a frame cannot be decoded.

    \b
    mmindex verify /data/archive
    mmindex verify /data/archive --sample 3 --state verified.jsonl
    """  # noqa: D301
    from mmindex.read.verify import verify_archive  # needs numpy

    with ExitStack() as stack:
        stack.enter_context(may_lose_reader())
        archive = stack.enter_context(open_archive(root, archive_root))
        known = _read_state(state)
        notes = stack.enter_context(open(state, "a", encoding="utf-8")) if state else None
        if notes is not None and known:
            notes.write("\n")  # the last line may have been cut
        records, found = [], []
        for record in archive.instances():
            failed = next((known[key] for key in _keys(record, sample) if key in known), None)
            if failed is None:
                records.append(record)
            else:
                found += failed
        versions = {record.location: _keys(record, sample)[-1] for record in records}
        files = frames = 0

        def walk() -> Iterator[dict[str, object]]:
            nonlocal files, frames
            yield from found
            with showing_files(quiet=quiet) as show:
                for verified in verify_archive(archive, records, sample=sample, threads=threads):
                    files += 1
                    frames += verified.frames
                    failures = list(_describe(verified))
                    _note(notes, versions[verified.path], failures)
                    found.extend(failures)
                    yield from failures
                    if show is not None:
                        show(files, len(records))

        if as_json:
            print_json_lines(walk())
        elif sys.stdout.isatty():
            _print_table(map(_row, walk()), verbose=verbose)
        else:
            for failure in walk():
                click.echo("\t".join(_row(failure)))
            note_no_color()
    if not quiet:
        print_message(
            f"{counted(frames, 'frame', grouped=True)} tried in "
            f"{counted(files, 'file', grouped=True)}, {len(found)} failed"
        )
    if found:
        click.get_current_context().exit(FAILED)


def _row(failure: dict[str, object]) -> tuple[str, str, str]:
    frame = "-" if failure["frame"] is None else failure["frame"]
    return str(failure["path"]), str(frame), str(failure["error"])


def _print_table(rows: Iterable[tuple[str, str, str]], *, verbose: bool) -> None:
    listed = list(rows)
    if listed:
        print_paged(walk_failures(listed, whole=verbose))


def _keys(record: InstanceRecord, sample: int | None) -> list[str]:
    """Return what a state file may know a file by: its path, and that it is unchanged.

    The last one is that of this run. Of a sample, all frames suffice; of all, no sample does.
    """
    fingerprint = record.fingerprint
    assert fingerprint is not None
    path = os.fsdecode(record.location)
    whole = f"{path}\0{fingerprint.size}\0{fingerprint.mtime_ns}"
    if sample is None or sample >= record.number_of_frames:
        return [whole]
    return [whole, f"{whole}\0{sample}"]


def _describe(verified: Verified) -> Iterator[dict[str, object]]:
    for frame_index, why in verified.failures:
        yield {
            "path": plain(os.fsdecode(verified.path)),
            "frame": frame_index + 1 if frame_index >= 0 else None,
            "error": join_lines(why),
        }


def _note(notes: TextIO | None, key: str, failures: list[dict[str, object]]) -> None:
    if notes is not None:
        notes.write(json.dumps([key, failures]) + "\n")
        notes.flush()


def _read_state(state: str | None) -> dict[str, list[dict[str, object]]]:
    """Return the failures of each file that is done; what is no line of a state is left out."""
    known: dict[str, list[dict[str, object]]] = {}
    if state is None or not os.path.exists(state):
        return known
    with open(state, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                noted = json.loads(line)
            except ValueError:
                continue
            match noted:
                case [str(key), list(failures)] if all(map(_is_failure, failures)):
                    known[key] = failures
    return known


def _is_failure(noted: object) -> bool:
    return isinstance(noted, dict) and noted.keys() == {"path", "frame", "error"}
