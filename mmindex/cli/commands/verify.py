"""`mmindex verify`: decode every frame of an archive."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TextIO

import click

from mmindex.cli.endings import may_lose_reader
from mmindex.cli.printing import FAILED, counted, join_lines, plain, print_json_lines, print_message
from mmindex.cli.problem_table import walk_failures
from mmindex.cli.progress import showing_files
from mmindex.cli.source_argument import open_archive
from mmindex.cli.terminal import color_option, print_paged

if TYPE_CHECKING:
    from mmindex import InstanceRecord
    from mmindex.read.verify import Verified


@click.command("verify", short_help="Decode every frame of an archive; list those that cannot be.")
@click.argument("root", type=click.Path())
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(min=1),
    help="Frames of a file at most, at even steps.",
)
@click.option(
    "-j",
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="Threads that decode; one a core unless given.",
)
@click.option(
    "--state",
    metavar="PATH",
    type=click.Path(dir_okay=False),
    help="Note files that are done here, and leave out unchanged ones that are.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option("-v", "--verbose", is_flag=True, help="Print long problems whole on a terminal.")
@color_option
def command(
    root: str,
    sample: int | None,
    threads: int | None,
    state: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Decode every frame of an archive, with all cores, and list those that cannot be decoded.

    ROOT is the archive's folder, or the index file. With --state, a run that was interrupted goes
    on where it ended. Exits with 1 if a frame cannot be decoded.

    \b
    mmindex verify /data/archive
    mmindex verify /data/archive --sample 3 --state verified.jsonl
    """  # noqa: D301
    from mmindex.read.verify import verify_archive  # needs numpy

    with ExitStack() as stack:
        stack.enter_context(may_lose_reader())
        archive = stack.enter_context(open_archive(root))
        known = _read_state(state)
        notes = stack.enter_context(open(state, "a", encoding="utf-8")) if state else None
        if notes is not None and known:
            notes.write("\n")  # the last line may have been cut
        records = [record for record in archive.instances() if _key(record) not in known]
        versions = {record.location: _key(record) for record in records}
        found = [failure for failures in known.values() for failure in failures]
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
    if not quiet:
        print_message(
            f"{counted(frames, 'frame', grouped=True)} decoded in "
            f"{counted(files, 'file', grouped=True)}, {len(found)} failed"
        )
    if found:
        click.get_current_context().exit(FAILED)


def _row(failure: dict[str, object]) -> tuple[str, str, str]:
    return str(failure["path"]), str(failure["frame"]), str(failure["error"])


def _print_table(rows: Iterable[tuple[str, str, str]], *, verbose: bool) -> None:
    listed = list(rows)
    if listed:
        print_paged(walk_failures(listed, whole=verbose))


def _key(record: InstanceRecord) -> str:
    """Return what a state file knows a file by: its path, and that it is unchanged."""
    fingerprint = record.fingerprint
    assert fingerprint is not None
    path = os.fsdecode(record.location)
    return f"{path}\0{fingerprint.size}\0{fingerprint.mtime_ns}"


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
    """Return the failures of each file that is done; a last line that was cut is left out."""
    known: dict[str, list[dict[str, object]]] = {}
    if state is None or not os.path.exists(state):
        return known
    with open(state, encoding="utf-8") as lines:
        for line in lines:
            try:
                key, failures = json.loads(line)
            except ValueError:
                continue
            known[key] = failures
    return known
