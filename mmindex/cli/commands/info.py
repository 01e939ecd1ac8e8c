"""`mmindex info`: what is known of one instance."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

import mmindex
from mmindex.cli.build_options import prove_option
from mmindex.cli.kept_attributes import Kept
from mmindex.cli.log import describe_time, show_time
from mmindex.cli.printing import counted, explain_anomaly, plain, print_json, rounded_size, wrap
from mmindex.cli.requests_shown import verbose_option
from mmindex.cli.source_argument import (
    Opened,
    force_option,
    instance_option,
    open_source,
    root_option,
    source_argument,
)
from mmindex.frame_table import FrameTable, Layout
from mmindex.model import Boundaries, Status, is_url
from mmindex.read.statistics import measure_frames
from mmindex.scan.transfer_syntax import find_transfer_syntax
from mmindex.sources.member import STORED

if TYPE_CHECKING:
    from mmindex import ImagePixel, InstanceRecord


_BOUNDARIES = {
    Boundaries.NONE: "none: there are no single frames",
    Boundaries.NATIVE: "native: computed from the image's size",
    Boundaries.BASIC_OFFSET_TABLE: "the Basic Offset Table, as the fragments confirm",
    Boundaries.EXTENDED_OFFSET_TABLE: "the Extended Offset Table, as the fragments confirm",
    Boundaries.ONE_FRAGMENT_A_FRAME: "one fragment a frame",
    Boundaries.ALL_FRAGMENTS: "one frame of all fragments",
    Boundaries.START_MARKERS: "the start markers of the codec in the fragments",
}


@click.command("info", short_help="Print what is known of an instance.")
@source_argument
@instance_option
@root_option
@force_option
@prove_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@verbose_option
def command(
    source: str,
    instance_uid: str | None,
    archive_root: str | None,
    force: bool,
    prove: bool | None,
    as_json: bool,
) -> None:
    """Print what is known of an instance: attributes, frames, anomalies.

    SOURCE is a DICOM file, or with --instance an archive's folder or an index. A file is served
    from an index in its folder or one above where that is up to date, else it is scanned.

    \b
    mmindex info cine.dcm
    mmindex info /data/archive --instance 1.2.840.113619.2 --json
    """  # noqa: D301
    prove = not is_url(source) if prove is None else prove
    with open_source(source, instance_uid, archive_root, force=force, prove=prove) as opened:
        if as_json:
            print_json(_describe(opened))
            return
        lines = [line for line in _walk_lines(opened) if line[1]]
    width = max(len(name) for name, _ in lines)
    room = shutil.get_terminal_size().columns - width - 2
    for name, value in lines:
        is_text = not name and sys.stdout.isatty()  # values stay on their line, to be copied
        for line in wrap(value, room) if is_text else [plain(value)]:
            click.echo(f"{name:{width}}  {line}")


def _walk_lines(opened: Opened) -> Iterator[tuple[str, str]]:
    """Yield name and value, empty where there is nothing to be said."""
    record = opened.instance.record
    uid = record.transfer_syntax_uid
    yield "Path", opened.path
    scanned = "the file, scanned now"
    if opened.stale_index:
        scanned += f": it is not as the index {opened.stale_index} has it"
    yield "Served from", f"the index {opened.index_path}" if opened.index_path else scanned
    yield "Last build", _last_build(opened, show_time) or ""
    if opened.index_file is not None:
        with mmindex.open(opened.index_file) as archive:
            kept = Kept(archive)
        yield from kept.walk_lines()
    yield "Status", record.status.value
    if record.member is not None:
        how = "stored" if record.member.method == STORED else "deflated"
        yield "Container", f"{opened.instance.file_path}, {how} from @0x{record.member.offset:x} on"
    yield "File size", _bytes(record.size) if record.fingerprint else ""
    yield "Transfer syntax", f"{_syntax_name(uid)} ({uid})" if uid else "none given"
    yield "SOP Class UID", record.sop_class_uid
    yield "SOP Instance UID", record.sop_instance_uid
    yield "Study Instance UID", record.study_instance_uid
    yield "Series Instance UID", record.series_instance_uid
    yield "Modality", record.modality
    if record.frames is not None:
        yield from _walk_image_lines(record.image_pixel)
        if record.status is Status.STREAM:
            yield "Video", _describe_stream(opened, record.frames)
        else:
            yield from _walk_frame_lines(record, record.frames)
    yield "Anomalies", "" if record.anomalies else "none"
    for anomaly in record.anomalies:
        times = f", {anomaly.count} times" if anomaly.count > 1 else ""
        within = "" if "file-meta" in anomaly.code else _within(record)
        yield "Anomaly", f"{anomaly.code} @0x{anomaly.offset:x}{within}{times}"
        yield "", explain_anomaly(anomaly.code)


def _last_build(opened: Opened, describe: Callable[[float], str]) -> str | None:
    """Return when the last build of the index ended."""
    if opened.index_file is None:
        return None
    with mmindex.open(opened.index_file) as archive:
        note = archive.last_build()
    return note and describe(note.ended_ns / 1e9)


def _kept_attributes(opened: Opened) -> list[str]:
    """Return the keywords of what the index keeps of studies and series."""
    if opened.index_file is None:
        return []
    with mmindex.open(opened.index_file) as archive:
        return list(Kept(archive).names)


def _walk_image_lines(image: ImagePixel) -> Iterator[tuple[str, str]]:
    yield "Rows x columns", f"{_known(image.rows)} x {_known(image.columns)}"
    planes = {0: ", by pixel", 1: ", by plane"}.get(image.planar_configuration or 0, "")
    samples = f"{_known(image.samples_per_pixel)} a pixel"
    yield "Samples", samples + (planes if image.planar_configuration is not None else "")
    kind = {0: "unsigned", 1: "signed"}.get(image.pixel_representation or 0, "unknown")
    if image.pixel_keyword != "PixelData":
        kind = "floating point"
    stored = f", {image.bits_stored} stored" if image.bits_stored is not None else ""
    high = f", high bit {image.high_bit}" if image.high_bit is not None else ""
    yield "Bits", f"{_known(image.bits_allocated)} allocated{stored}{high}, {kind}"
    yield "Photometric", image.photometric_interpretation


def _describe_stream(opened: Opened, frames: FrameTable) -> str:
    number_of_frames = opened.instance.record.number_of_frames  # 1 also where it is absent
    length = f", with {number_of_frames} frames by (0028,0008)" if number_of_frames > 1 else ""
    return (
        f"one bit stream of {_bytes(opened.instance.stream_length)} in "
        f"{counted(frames.number_of_fragments, 'fragment')} from @0x{frames.value_offset:x} on"
        f"{length}"
    )


def _walk_frame_lines(record: InstanceRecord, frames: FrameTable) -> Iterator[tuple[str, str]]:
    lost = record.number_of_frames - frames.frames_located
    last = "the last" if lost == 1 else f"the last {lost}"
    cut = f", {last} of them lost with the end of the file" if lost else ""
    yield "Frames", f"{record.number_of_frames}{cut}"
    boundaries = _BOUNDARIES[record.boundaries]
    layout = counted(frames.number_of_fragments, "fragment")
    if frames.layout is Layout.NATIVE:
        layout = "native,"
    elif frames.layout is Layout.TRUSTED:
        boundaries = boundaries.replace("the fragments confirm", "some of its entries confirm")
        layout = "fragments, not counted,"
    yield "Frame boundaries", boundaries
    yield "Layout", f"{layout} from @0x{frames.value_offset:x}{_within(record)} on"
    lengths = measure_frames(frames) if record.status.has_frames else None
    if lengths is not None and lengths.min == lengths.max:
        yield "Frame length", _bytes(lengths.min)
    elif lengths is not None:
        least, median, greatest = lengths
        yield "Frame length", f"{least} to {greatest} bytes, median {median}"


def _within(record: InstanceRecord) -> str:
    """Return what an offset needs to be said with it where it is none in the file."""
    if record.member is not None and record.member.method != STORED:
        return " in the inflated file"
    if record.status is Status.DEFLATED:
        return " in the inflated data set"
    return "" if record.member is None else " in the container"


def _describe_member(record: InstanceRecord) -> dict[str, object] | None:
    """Return where a file is in its container; None of a file of its own."""
    member = record.member
    if member is None:
        return None
    return {
        "name": os.fsdecode(member.name),
        "offset": member.offset,
        "length": member.length,
        "compressed_length": member.compressed_length,
        "method": "stored" if member.method == STORED else "deflated",
    }


def _syntax_name(uid: str) -> str:
    return find_transfer_syntax(uid).name if uid else ""


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _bytes(length: int) -> str:
    """Return a length: on a terminal with its digits in groups, rounded beside it."""
    if not sys.stdout.isatty():
        return counted(length, "byte")
    rounded = f"{rounded_size(length)}, " if length >= 1000 else ""
    return rounded + counted(length, "byte", grouped=True)


def _describe(opened: Opened) -> dict[str, object]:
    """Return all that is known of an instance, under names that stay the same."""
    record = opened.instance.record
    frames = record.frames
    has_frames = frames is not None and record.status.has_frames
    is_stream = record.status is Status.STREAM
    layout = "stream" if is_stream else None
    if frames and not is_stream:
        layout = frames.layout.name.lower().replace("_", "-")
    number_of_fragments: int | None = frames.number_of_fragments if frames else 0
    if frames and frames.layout is Layout.TRUSTED:
        number_of_fragments = None
    lengths = measure_frames(frames) if frames and has_frames else None
    return {
        "path": opened.path,
        "index": opened.index_path,
        "last_build": _last_build(opened, describe_time),
        "kept_attributes": _kept_attributes(opened),
        "status": record.status.value,
        "file_size": record.size if record.fingerprint else None,
        "member": _describe_member(record),
        "transfer_syntax_uid": record.transfer_syntax_uid,
        "transfer_syntax_name": _syntax_name(record.transfer_syntax_uid),
        "sop_class_uid": record.sop_class_uid,
        "sop_instance_uid": record.sop_instance_uid,
        "study_instance_uid": record.study_instance_uid,
        "series_instance_uid": record.series_instance_uid,
        "modality": record.modality,
        "image_pixel": record.image_pixel._asdict() if frames else None,
        "number_of_frames": record.number_of_frames,
        "frames_located": None if is_stream else frames.frames_located if frames else 0,
        "boundaries": (Boundaries.NONE if is_stream else record.boundaries).value,
        "layout": layout,
        "number_of_fragments": number_of_fragments,
        "value_offset": frames.value_offset if frames else None,
        "frame_length": lengths._asdict() if lengths is not None else None,
        "stream_length": opened.instance.stream_length if is_stream else None,
        "anomalies": [anomaly._asdict() for anomaly in record.anomalies],
    }
