"""Cases of bytes: the private memory of a process, and those of an index for each frame."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from scripts.benchmark.cases import Case, Site
from scripts.benchmark.command_line import run
from scripts.benchmark.data import LAYOUTS, Written, write_image
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import BARE, CannotReadError
from scripts.benchmark.openers import BUILDERS, INDEXED, OPENERS, measure_index, try_to_build

READS = 100
Ranges = Sequence[tuple[int, int]]


def list_memory(number_of_frames: int, site: Site) -> Iterator[Case]:
    """Open one large instance in a fresh process, read frames, ask what memory is its own.

    That is the interpreter, what was imported and what was made; not the page cache.
    """
    if not Path("/proc/self/status").exists():
        raise CannotReadError("the system does not report private memory")
    written = write_image(site.folder / "files", number_of_frames, LAYOUTS[1])
    rounds = 1 if site.bench.quick else 3
    for what, openers in (("no index", OPENERS), ("from an index", INDEXED)):
        indexed = openers is INDEXED
        notes = {name: try_to_build(name, written.image.root) for name in INDEXED if indexed}
        count = partial(_count_private_bytes, written, indexed)
        yield Case(
            f"private memory of a process: {number_of_frames:,} frames open, {READS} read, {what}",
            [
                Contender(name, count, [(name,)] * rounds, note=notes.get(name, ""))
                for name in (*openers, BARE)
            ],
            limit=BARE,
            unit="B",
        )


def _count_private_bytes(written: Written, indexed: bool, name: str) -> float:
    """Return the private bytes of a process that read frames."""
    frame_indices = written.pick(READS)
    told = {
        "contender": name,
        "indexed": indexed,
        "image": written.image,
        "frame_indices": frame_indices,
        "ranges": [written.ranges[index] for index in frame_indices],
    }
    return float(run([sys.executable, "-m", "scripts.benchmark.resident", json.dumps(told)]))


def list_sizes(number_of_frames: int, site: Site) -> Iterator[Case]:
    """Write the ranges of one instance in each format."""
    written = write_image(site.folder / "files", number_of_frames)
    place = site.folder / "ranges"
    formats: dict[str, Callable[[Path, Ranges], int]] = {
        "JSON": write_json,
        "SQLite": write_sqlite,
        "Parquet": write_parquet,
        "Parquet with deltas and zstd": partial(write_parquet, deltas=True),
    }

    def count_bytes(name: str) -> float:
        return formats[name](place.with_suffix(f".{name}"), written.ranges) / number_of_frames

    indexes = [
        Contender(name, measure_index, [(name, written.image.root, number_of_frames)])
        for name in BUILDERS
    ]
    yield Case(
        f"index of one instance of {number_of_frames:,} frames: bytes a frame",
        [*indexes, *(Contender(name, count_bytes, [(name,)]) for name in formats)],
        unit="B",
    )


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
