"""An archive that threads read while it is closed, and while the process forks."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from child_process import exit_code, forks
from dicom_bytes import (
    JPEG_BASELINE,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    written,
)

import mmindex
from mmindex import MMIndexError


def make_archive(folder: Path, files: int = 12, frames: int = 20) -> None:
    for number in range(files):
        values = [b"\xff\xd8%06d\xff\xd9" % (number * 1000 + index) for index in range(frames)]
        data_set = element(0x00080018, "UI", f"1.2.{number}")
        data_set += image_attributes(number_of_frames=frames) + encapsulate(values)
        written(folder, dicom_file(data_set, JPEG_BASELINE), f"{number}.dcm")
    mmindex.build(folder, workers=1)


def read_frames(archive: mmindex.Archive, index: int) -> None:
    for number in range(12):
        expected = b"\xff\xd8%06d\xff\xd9" % (number * 1000 + index)
        assert archive.frame(f"1.2.{number}", index) == expected


def read_records(archive: mmindex.Archive, index: int) -> None:
    assert {record.number_of_frames for record in archive.records()} == {20}
    assert len(list(archive)) == len(archive) == 12


@forks
@pytest.mark.parametrize("read", [read_frames, read_records])
def test_an_archive_that_is_closed_under_readers_says_so(
    tmp_path: Path, read: Callable[[mmindex.Archive, int], None]
) -> None:
    """A thread that reads while another closes gets an error; LMDB's memory is not touched."""
    make_archive(tmp_path)

    def close_under_readers() -> None:
        sys.setswitchinterval(1e-6)
        for turn in range(150):
            archive = mmindex.open(tmp_path, revalidate_after=0)
            others: list[BaseException] = []
            reading = threading.Barrier(5)

            def run(
                archive: mmindex.Archive = archive,
                others: list[BaseException] = others,
                reading: threading.Barrier = reading,
            ) -> None:
                reading.wait()
                try:
                    for index in range(10_000):
                        read(archive, index % 20)
                except MMIndexError:
                    pass
                except BaseException as error:
                    if not (type(error) is ValueError and str(error) == "the index is closed"):
                        others.append(error)

            threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
            for thread in threads:
                thread.start()
            reading.wait()
            for index in range(turn % 4):
                read(archive, index)
            archive.close()
            for thread in threads:
                thread.join()
            assert others == []

    assert exit_code(close_under_readers) == 0


@forks
def test_a_fork_while_threads_read_gives_a_child_that_reads(tmp_path: Path) -> None:
    """No lock that a thread of the parent held is waited for in the child, nor in LMDB."""
    make_archive(tmp_path)

    def fork_under_readers() -> None:
        archive = mmindex.open(tmp_path, revalidate_after=0)
        stopped = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                while not stopped.is_set():
                    read_frames(archive, 5)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for index in range(30):
            assert exit_code(partial(read_frames, archive, index % 20)) == 0
            read_frames(archive, index % 20)
        stopped.set()
        for thread in threads:
            thread.join()
        assert failures == []

    assert exit_code(fork_under_readers) == 0
