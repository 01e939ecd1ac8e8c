"""`mmindex ls`: the instances of an archive, from its index alone."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import click

from mmindex.cli.kept_attributes import Kept
from mmindex.cli.log import show_time
from mmindex.cli.printing import (
    align,
    count_columns,
    cut_end,
    cut_middle,
    measure_columns,
    plain,
    print_json_lines,
    print_lines,
    print_message,
    rounded_size,
)
from mmindex.cli.requests_shown import verbose_option
from mmindex.cli.source_argument import open_archive, root_option
from mmindex.cli.suggestions import MOST_RECORDS_LOOKED_AT, find_kind, find_near
from mmindex.cli.terminal import color_option, note_no_color, print_paged
from mmindex.errors import InstanceNotFoundError
from mmindex.model import Status
from mmindex.scan.transfer_syntax import find_transfer_syntax

if TYPE_CHECKING:
    from mmindex import Archive, InstanceRecord
    from mmindex.index.listing import ListedFile

_COLUMNS = ("Path", "Frames", "Size", "Boundaries", "Status")  # on a terminal
_FEWER_COLUMNS = ("Path", "Frames", "Size", "Status")  # on a narrow one
_NUMBERS = ("Frames", "Size")
_LEAST_PATH, _NARROW_PATH = 24, 16
_TOGETHER = 1000  # lines printed at once
_UNUSUAL = Status.UNREADABLE, Status.STREAM, Status.DEFLATED


class Row(NamedTuple):
    """A row of the list on a terminal."""

    path: str
    sop_instance_uid: str
    modality: str
    syntax_name: str
    number_of_frames: int
    size: int
    status: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    boundaries: str
    anomalies: str


@click.command("ls", short_help="List the DICOM files of an archive.")
@click.argument("root", type=click.Path())
@root_option
@click.option("--study", metavar="UID", help="Only this study's instances with frames.")
@click.option("--series", metavar="UID", help="Only this series' instances with frames.")
@color_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line, in no order.")
@verbose_option
def command(
    root: str, archive_root: str | None, study: str | None, series: str | None, as_json: bool
) -> None:
    """List the DICOM files of an archive: by study and series on a terminal, else by path.

    ROOT is the archive's folder, or the index file; no other file is opened. Off a terminal there
    are 12 columns with tabs between: path, SOP Instance UID, modality, transfer syntax, frames,
    bytes, status, Study and Series Instance UID, transfer syntax UID, where the frame boundaries
    are from, anomalies.

    \b
    mmindex ls /data/archive
    mmindex ls /data/archive --series 1.2.840.113619.2 | cut -f 2
    """  # noqa: D301
    with open_archive(root, archive_root) as archive:
        try:
            records = _walk_records(archive, study, series)
        except InstanceNotFoundError as error:
            error.message += _hint(archive, study=study, series=series)
            raise
        if as_json:
            kept = Kept(archive)
            print_json_lines(_describe(record, kept) for record in records)
            return
        if not sys.stdout.isatty():  # a tab comes before all that a path is printed with
            lines = sorted(map(_line, records))
            print_lines("\n".join(some) for some in _walk_slices(lines))
            note_no_color()
            if not lines and (study is not None or series is not None):
                print_message("no instances with frames")
            return
        rows = [_row(record) for record in records]
        heads = _summarize(Kept(archive), rows)
        note = archive.last_build()
    if rows:
        print_paged(_walk_lines(rows, heads))
        if note is not None:
            print_message(f"last build {show_time(note.ended_ns / 1e9)}")
    elif study is not None or series is not None:
        print_message("no instances with frames")
    else:
        print_message("no DICOM files")


def _hint(archive: Archive, **uids: str | None) -> str:
    """Return what may have been meant by UIDs, one of which the index does not have."""
    for name, uid in uids.items():
        if uid is not None and (hint := _hint_for(archive, name, uid)):
            return hint
    return ""


def _hint_for(archive: Archive, name: str, uid: str) -> str:
    kind = find_kind(archive, uid)
    if kind is not None:
        return "" if kind == name else f"; {uid} is a {kind}: use --{kind}"
    records = islice(archive.instances(), MOST_RECORDS_LOOKED_AT)
    near = find_near(sorted({getattr(record, f"{name}_instance_uid") for record in records}), uid)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _walk_records(
    archive: Archive, study: str | None, series: str | None
) -> Iterator[InstanceRecord | ListedFile]:
    if study is not None or series is not None:
        return archive.instances(study_instance_uid=study, series_instance_uid=series)
    others = (Status.NOT_DICOM, Status.CONTAINER)
    return (listed for listed in archive.listed() if listed.status not in others)


def _summarize(kept: Kept, rows: list[Row]) -> dict[str, str]:
    """Return what is kept of the studies and series of rows, by UID, in a line each."""
    studies = {row.study_instance_uid for row in rows if kept.names}
    series = {row.series_instance_uid for row in rows if kept.names}
    return {uid: kept.summarize(uid, of_study=True) for uid in studies} | {
        uid: kept.summarize(uid, of_study=False) for uid in series
    }


def _walk_lines(rows: list[Row], heads: dict[str, str]) -> Iterator[str]:
    """Yield rows under their study and series, each with its UID below: most are 50 and longer."""
    group = attrgetter("study_instance_uid", "series_instance_uid", "modality", "syntax_name")
    rows.sort(key=lambda row: (*group(row), row.path))
    columns, widths = _measure(rows)
    yield click.style("  " + align(columns, columns, widths, _NUMBERS), bold=True)
    before = None
    for (study, series, modality, syntax_name), members in groupby(rows, group):
        if (study, series) != before:
            if before is None or study != before[0]:
                yield ""
                yield click.style(f"Study  {study or 'unknown'}", fg="cyan")
                yield from _indent(heads.get(study))
            yield click.style(f"Series {series or 'unknown'}", fg="cyan")
            yield from _indent(heads.get(series))
            before = study, series
        kind = f"{modality or 'unknown modality'}, {syntax_name or 'no transfer syntax'}"
        yield cut_end(kind, shutil.get_terminal_size().columns)
        for row in members:
            line = "  " + align(_cells(row, columns, widths[0]), columns, widths, _NUMBERS)
            unusual = row.anomalies or row.status in _UNUSUAL
            yield click.style(line, fg="yellow") if unusual else line
            if row.sop_instance_uid:
                yield click.style("    " + row.sop_instance_uid, dim=True)


def _indent(line: str | None) -> Iterator[str]:
    if line:
        yield f"  {line}"


def _measure(rows: list[Row]) -> tuple[tuple[str, ...], list[int]]:
    """Return the columns that a terminal has room for, and their widths.

    Paths give way first, down to 24 columns; then the boundaries, which `info` prints, too.
    """
    longest = max(count_columns(row.path) for row in rows)
    columns: tuple[str, ...] = _COLUMNS
    widths = measure_columns(columns, [_cells(row, columns) for row in rows], "Path", margin=2)
    if widths[0] < min(_LEAST_PATH, longest):
        columns = _FEWER_COLUMNS
        widths = measure_columns(columns, [_cells(row, columns) for row in rows], "Path", margin=2)
        widths[0] = max(widths[0], min(_NARROW_PATH, longest))
    return columns, widths


def _cells(row: Row, columns: tuple[str, ...], width: int | None = None) -> tuple[str, ...]:
    count = row.anomalies.count(",") + 1 if row.anomalies else 0
    anomalies = "" if not count else ", 1 anomaly" if count == 1 else f", {count} anomalies"
    return (
        row.path if width is None else cut_middle(row.path, width),
        f"{row.number_of_frames:,}",
        rounded_size(row.size),
        *((row.boundaries,) if columns is _COLUMNS else ()),
        row.status + anomalies,
    )


def _row(record: InstanceRecord | ListedFile) -> Row:
    return Row(
        plain(os.fsdecode(record.location)),
        plain(record.sop_instance_uid),
        plain(record.modality),
        _syntax_name(record.transfer_syntax_uid),
        record.number_of_frames,
        record.size,
        record.status.value,
        plain(record.study_instance_uid),
        plain(record.series_instance_uid),
        plain(record.transfer_syntax_uid),
        record.boundaries.value,
        ",".join(anomaly.code for anomaly in record.anomalies),
    )


def _walk_slices(lines: list[str]) -> Iterator[list[str]]:
    return (lines[at : at + _TOGETHER] for at in range(0, len(lines), _TOGETHER))


def _line(record: InstanceRecord | ListedFile) -> str:
    """Return the columns that programs get, which are only ever added to, with tabs between."""
    anomalies = record.anomalies
    cells = (
        os.fsdecode(record.location),
        record.sop_instance_uid,
        record.modality,
        _syntax_name(record.transfer_syntax_uid),
        str(record.number_of_frames),
        str(record.size),
        record.status,  # a str, as the boundaries are
        record.study_instance_uid,
        record.series_instance_uid,
        record.transfer_syntax_uid,
        record.boundaries,
        ",".join([anomaly.code for anomaly in anomalies]) if anomalies else "",
    )
    is_plain = "".join(cells).isprintable()
    return "\t".join(cells if is_plain else map(plain, cells))


def _describe(record: InstanceRecord | ListedFile, kept: Kept) -> dict[str, object]:
    return {
        "path": os.fsdecode(record.location),
        "sop_instance_uid": record.sop_instance_uid,
        "study_instance_uid": record.study_instance_uid,
        "series_instance_uid": record.series_instance_uid,
        "modality": record.modality,
        "transfer_syntax_uid": record.transfer_syntax_uid,
        "transfer_syntax_name": _syntax_name(record.transfer_syntax_uid),
        "number_of_frames": record.number_of_frames,
        "boundaries": record.boundaries.value,
        "file_size": record.size,
        "status": record.status.value,
        "reason": record.reason,
        "anomalies": [anomaly._asdict() for anomaly in record.anomalies],
        "attributes": kept.describe(record.study_instance_uid, record.series_instance_uid),
    }


@lru_cache(1 << 10)  # an archive has few, but a hostile one as many as files
def _syntax_name(uid: str) -> str:
    return find_transfer_syntax(uid).name if uid else ""
