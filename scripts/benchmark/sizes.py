"""Case: bytes a frame of an index, against the same ranges in formats that are at hand."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from scripts.benchmark.data import write_image
from scripts.benchmark.measure import Bench, tell
from scripts.benchmark.model import MMINDEX, Measurement, Result, describe_failure
from scripts.benchmark.openers import BUILDERS, size_of_index

Ranges = Sequence[tuple[int, int]]


def run_sizes(bench: Bench) -> Iterator[Result]:
    """Write the ranges of one instance in each format."""
    number_of_frames = 10_000 if bench.quick else 100_000
    tell(f"size: {number_of_frames:,} frames")
    with bench.make_folder("size") as folder:
        written = write_image(folder / "files", number_of_frames)
        ranges = written.ranges
        writers: dict[str, Callable[[], int]] = {
            **{name: partial(_build, name, written.image.root) for name in BUILDERS},
            "JSON": partial(write_json, folder / "ranges.json", ranges),
            "SQLite": partial(write_sqlite, folder / "ranges.db", ranges),
            "Parquet": partial(write_parquet, folder / "ranges.parquet", ranges),
            "Parquet with deltas and zstd": partial(
                write_parquet, folder / "deltas.parquet", ranges, deltas=True
            ),
        }
        measured = []
        for name, write in writers.items():
            try:
                measured.append(Measurement(name, (write() / number_of_frames,)))
            except Exception as error:  # whatever a peer raises is its result
                if name == MMINDEX:
                    raise
                measured.append(Measurement(name, note=describe_failure(error)))
        title = f"index of one instance of {number_of_frames:,} frames: bytes a frame"
        yield Result("size", title, "B", tuple(measured))


def _build(name: str, root: str) -> int:
    BUILDERS[name](root)
    return size_of_index(name, root)


def write_json(path: Path, ranges: Ranges) -> int:
    """Write [[offset, length], ...] without spaces."""
    path.write_text(json.dumps(ranges, separators=(",", ":")))
    return path.stat().st_size


def write_sqlite(path: Path, ranges: Ranges) -> int:
    """Write rows of instance, frame, offset and length, keyed by the first two."""
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE frames (instance INTEGER, frame INTEGER, offset INTEGER, length INTEGER, "
        "PRIMARY KEY (instance, frame)) WITHOUT ROWID"
    )
    rows = ((1, frame_index, *place) for frame_index, place in enumerate(ranges))
    connection.executemany("INSERT INTO frames VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return path.stat().st_size


def write_parquet(path: Path, ranges: Ranges, *, deltas: bool = False) -> int:
    """Write columns of instance, frame, offset and length, as pyarrow does by default.

    With `deltas`, numbers are stored as differences and pages compressed with zstd: smaller, and
    a page is decoded for each frame that is looked up.
    """
    import pyarrow
    from pyarrow import parquet

    columns = {
        "instance": pyarrow.array([1] * len(ranges), pyarrow.int32()),
        "frame": pyarrow.array(range(len(ranges)), pyarrow.int32()),
        "offset": pyarrow.array([offset for offset, _ in ranges], pyarrow.int64()),
        "length": pyarrow.array([length for _, length in ranges], pyarrow.int32()),
    }
    options: dict[str, object] = {}
    if deltas:
        encoding = dict.fromkeys(columns, "DELTA_BINARY_PACKED")
        options = {"use_dictionary": False, "column_encoding": encoding, "compression": "zstd"}
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path.stat().st_size
