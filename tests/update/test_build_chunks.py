"""How a build cuts its work into chunks."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

import mmindex
from mmindex.update import met as met_module


class Recorder(Executor):
    """Scans at once, and notes how many files each chunk has."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def submit(self, scan: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        self.sizes.append(len(arguments[0]))
        future: Future[Any] = Future()
        future.set_result(scan(*arguments, **options))
        return future


@pytest.mark.parametrize(("length", "expected"), [(1, [256, 4]), (1 << 20, [32] * 8 + [4])])
def test_chunks_keep_within_their_files_and_bytes_to_the_last(
    tmp_path: Path, length: int, expected: list[int]
) -> None:
    """Small files come 256 at once; of files of 1 MiB, 32, in a small archive, too."""
    assert (met_module._CHUNK_FILES, met_module._CHUNK_BYTES) == (256, 32 << 20)
    for number in range(260):
        with (tmp_path / f"{number}").open("wb") as file:
            file.truncate(length)
    recorder = Recorder()
    assert mmindex.build(tmp_path, executor=recorder).found == 260
    assert recorder.sizes == expected
