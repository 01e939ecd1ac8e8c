"""`mmindex ls`: the instances of an archive, from its index alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING

import click

from mmindex.cli.output import plain, print_array, print_message, print_table
from mmindex.cli.source import open_archive
from mmindex.model import Status
from mmindex.scan.transfer_syntax import find_transfer_syntax

if TYPE_CHECKING:
    from mmindex import Archive, InstanceRecord

_COLUMNS = (
    "Path",
    "SOP Instance UID",
    "Modality",
    "Transfer syntax",
    "Frames",
    "Size",
    "Status",
)


@click.command("ls", short_help="List the DICOM files of an archive.")
@click.argument("root", type=click.Path())
@click.option("--study", metavar="UID", help="Only this study's instances with frames.")
@click.option("--series", metavar="UID", help="Only this series' instances with frames.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, in no order.")
def command(root: str, study: str | None, series: str | None, as_json: bool) -> None:
    """List the DICOM files of an archive by path: instance, modality, frames, size, status.

    ROOT is the archive's folder, or the index file. No other file is opened. Columns are
    aligned on a terminal, and names of transfer syntaxes shortened to fit; else columns are
    separated by tabs, without a heading.

    \b
    mmindex ls /data/archive
    mmindex ls /data/archive --series 1.2.840.113619.2 | cut -f 2
    """  # noqa: D301
    with open_archive(root) as archive:
        records = _walk_records(archive, study, series)
        first = list(islice(records, 1))
        if not first and (study is not None or series is not None):
            _say_that_none_is_of(study=study, series=series)
        records = chain(first, records)
        if as_json:
            print_array(_describe(record) for record in records)
            return
        rows = sorted((_row(record) for record in records), key=itemgetter(0))
    if sys.stdout.isatty():
        print_table(_COLUMNS, rows, to_the_right=("Frames", "Size"), shortened="Transfer syntax")
    else:
        for row in rows:
            click.echo("\t".join(row))


def _say_that_none_is_of(**uids: str | None) -> None:
    named = [f"{name} {uid}" for name, uid in uids.items() if uid is not None]
    print_message(f"no instance of {' and '.join(named)} with frames in the index")


def _walk_records(
    archive: Archive, study: str | None, series: str | None
) -> Iterator[InstanceRecord]:
    if study is not None or series is not None:
        return archive.instances(study_instance_uid=study, series_instance_uid=series)
    return (record for record in archive.records() if record.status is not Status.NOT_DICOM)


def _row(record: InstanceRecord) -> tuple[str, ...]:
    return (
        plain(os.fsdecode(record.path)),
        plain(record.sop_instance_uid),
        plain(record.modality),
        _syntax_name(record),
        str(record.number_of_frames),
        str(_size(record)),
        record.status.value,
    )


def _describe(record: InstanceRecord) -> dict[str, object]:
    return {
        "path": os.fsdecode(record.path),
        "sop_instance_uid": record.sop_instance_uid,
        "study_instance_uid": record.study_instance_uid,
        "series_instance_uid": record.series_instance_uid,
        "modality": record.modality,
        "transfer_syntax_uid": record.transfer_syntax_uid,
        "transfer_syntax_name": _syntax_name(record),
        "number_of_frames": record.number_of_frames,
        "file_size": _size(record),
        "status": record.status.value,
        "reason": record.reason,
    }


def _syntax_name(record: InstanceRecord) -> str:
    uid = record.transfer_syntax_uid
    return find_transfer_syntax(uid).name if uid else ""


def _size(record: InstanceRecord) -> int:
    return record.fingerprint.size if record.fingerprint is not None else 0
