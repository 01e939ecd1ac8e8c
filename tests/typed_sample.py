"""A program that uses all of the public API: test_typing.py checks its types and runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import mmindex
from mmindex import (
    Anomaly,
    Archive,
    BuildReport,
    ByteRange,
    Concatenation,
    FrameDataset,
    FrameTable,
    ImagePixel,
    Instance,
    InstanceRecord,
    Level,
    MergeReport,
    MMIndexError,
    Problem,
    Series,
    Slide,
    Statistics,
    Status,
    Study,
    errors,
)


def build_index(root: Path, executor: Executor) -> BuildReport:
    def show(report: BuildReport) -> None:
        assert report.scanned <= report.found

    in_processes = mmindex.build(root, root / ".mmindex", workers=1, progress=show, full=True)
    assert_type(in_processes, BuildReport)
    report: BuildReport = mmindex.build(str(root), executor=executor, prove=True, force=False)
    updated = mmindex.update(root, [root / "a.dcm"], wait=1.0, exclude=["*.tmp"], max_removed="5%")
    assert_type(updated, BuildReport)
    assert_type(report.statuses, dict[str, int])
    assert_type(report.problems, list[tuple[str, str]])
    assert_type(report.seconds, float)
    return report


def read_instance(instance: Instance) -> int:
    assert_type(instance.path, str | None)
    assert_type(instance.number_of_frames, int)
    assert_type(instance.frame(0), bytes)
    assert_type(instance[0], bytes)
    assert_type(instance[:1], list[bytes])
    assert_type(list(instance), list[bytes])
    assert_type(instance.frames([0]), list[bytes])
    assert_type(instance.view(0), memoryview)
    assert_type(instance.fragments(0), tuple[memoryview, ...])
    assert_type(instance.all_fragments(), Iterator[memoryview])
    assert_type(instance.byte_ranges(0), tuple[ByteRange, ...])
    assert_type(instance.array(0, raw=True, copy=True), NDArray[np.generic])
    with ThreadPoolExecutor(1) as executor:
        assert_type(instance.arrays([0], executor=executor), NDArray[np.generic])
    first: ByteRange = instance.byte_ranges(0)[0]
    offset, length = first
    assert_type(offset, int)
    assert_type(length, int)
    return describe_record(instance.record)


def describe_record(record: InstanceRecord) -> int:
    assert_type(record.status, Status)
    assert_type(record.status.has_frames, bool)
    assert_type(record.path, bytes)
    assert_type(record.sop_instance_uid, str)
    assert_type(record.frames, FrameTable | None)
    assert_type(record.anomalies, tuple[Anomaly, ...])
    image: ImagePixel = record.image_pixel
    assert_type(image.rows, int | None)
    for anomaly in record.anomalies:
        code: str = anomaly.code
        print(code, anomaly.offset + anomaly.count)
    table = record.frames
    if table is None:
        return 0
    assert_type(table.contiguous_range(0), tuple[int, int] | None)
    assert_type(table.fragment_ranges(0), tuple[ByteRange, ...])
    return table.number_of_frames


def read_archive(archive: Archive) -> list[bytes]:
    uids: list[str] = list(archive)
    uid = uids[0]
    assert_type(uid in archive, bool)
    assert_type(len(archive), int)
    assert_type(archive.root, str)
    assert_type(archive.path, str)
    with archive[uid] as instance:
        read_instance(instance)
    for record in archive.instances(study_instance_uid=None, series_instance_uid=None):
        with archive.file(record.path) as instance:
            assert_type(instance, Instance)
    assert_type(archive.records(), Iterator[InstanceRecord])
    assert_type(archive.duplicates(), Iterator[tuple[str, list[InstanceRecord]]])
    archive.check_index()
    assert_type(archive.record(uid), InstanceRecord)
    assert_type(archive.records_of(uid), list[InstanceRecord])
    list_archive(archive)
    assert_type(archive.array(uid, 0), NDArray[np.generic])
    assert_type(archive.arrays([(uid, 0)]), NDArray[np.generic])
    stack, failures = archive.arrays([(uid, 0)], threads=2, on_error="skip")
    assert_type(stack, NDArray[np.generic])
    assert_type(failures, dict[int, MMIndexError])
    assert_type(FrameDataset(archive).arrays([0], out=stack), NDArray[np.generic])
    frames: list[bytes] = archive.frames([(uid, 0)])
    return [archive.frame(uid, 0), *frames]


def list_archive(archive: Archive) -> None:
    def show(done: int, total: int) -> None:
        assert done <= total

    assert_type(archive.studies(), Iterator[Study])
    for study in archive.studies():
        assert_type(study.modalities, tuple[str, ...])
        series: list[Series] = list(archive.series(study.study_instance_uid))
        assert sum(each.number_of_instances for each in series) == study.number_of_instances
    problems: list[Problem] = list(archive.problems(progress=show))
    assert problems == []
    statistics: Statistics = archive.statistics(progress=show)
    assert_type(statistics.largest, list[tuple[str, int]])


def join_indexes(root: Path) -> int:
    report: MergeReport = mmindex.merge(root / "all", [root], root=root)
    assert_type(report.files, int)
    assert_type(mmindex.compact(report.index), tuple[int, int])
    return report.files


def scan_fragments() -> int:
    fragment = b"\xfe\xff\x00\xe0\x02\0\0\0\xff\xd8"
    table: FrameTable = mmindex.scan_value(b"\xfe\xff\x00\xe0\0\0\0\0" + fragment, 1)
    return table.number_of_frames


def read_concatenation(archive: Archive) -> None:
    try:
        frames: Concatenation = archive.concatenation("1.2.3")
    except errors.InstanceNotFoundError:
        return  # no sample is part of one
    assert_type(frames[0], bytes)


def read_slide(folder: Path) -> None:
    try:
        slide: Slide = mmindex.open_slide(folder)
    except errors.FormatError:
        return  # no slide is among the samples
    level: Level = slide.levels[0]
    assert_type(slide.tile(0, 0, 0), bytes)
    assert slide.thumbnail(64).shape[1] <= level.width


def read_dataset(archive: Archive) -> int:
    dataset = FrameDataset(archive, sop_instance_uids=list(archive)[:1], decoded=False)
    assert_type(dataset.locate(0), tuple[str, int])
    item: NDArray[np.generic] | bytes = dataset[0]
    return len(item)


def catch(path: Path) -> str | None:
    try:
        with mmindex.open_file(path) as instance:
            assert_type(instance, Instance)
    except errors.MissingFileError as error:
        assert_type(error.path, str | None)
        assert_type(error.offset, int | None)
        base: MMIndexError = error
        return base.message
    return None


def main(root: Path) -> None:
    with ThreadPoolExecutor(2) as executor:
        build_index(root, executor)
    with mmindex.open(root, revalidate_after=0.5, max_open_files=4) as archive:
        assert_type(archive, Archive)
        read_archive(archive)
        read_dataset(archive)
        read_concatenation(archive)
    assert join_indexes(root) == 2
    assert scan_fragments() == 1
    read_slide(root)
    for path in root.glob("*.dcm"):
        assert_type(mmindex.scan(path.read_bytes(), force=False), InstanceRecord)
        with path.open("rb") as file:
            instance = mmindex.open_file(file, force=True, prove=True)
        with instance:
            read_instance(instance)
    assert catch(root / "none.dcm")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
