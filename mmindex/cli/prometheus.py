"""Statistics of an archive in the text format of Prometheus, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmindex import Archive

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Metric(NamedTuple):
    """A gauge: its name, what it says, and samples, each of labels and value."""

    name: str
    meaning: str
    samples: list[tuple[Mapping[str, str], float]]


def walk_lines(metrics: list[Metric]) -> Iterator[str]:
    """Yield the lines of metrics in the text format."""
    for name, meaning, samples in metrics:
        yield f"# HELP {name} {meaning}"
        yield f"# TYPE {name} gauge"
        for labels, value in samples:
            inside = ",".join(
                f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items()
            )
            yield f"{name}{{{inside}}} {value!r}"


def measure_archive(archive: Archive) -> list[Metric]:
    """Return the metrics of an archive, from its index alone."""
    from mmindex.read.statistics import count_problems

    root = {"root": archive.root.encode("utf-8", "replace").decode()}
    totals = archive.count()
    metrics = [
        Metric(
            "mmindex_files",
            "Files of the index by status.",
            [
                ({**root, "status": status.value}, count)
                for status, count in totals.statuses.items()
            ],
        ),
        Metric("mmindex_instances", "SOP Instance UIDs with frames.", [(root, totals.instances)]),
        Metric("mmindex_frames", "Frames of all instances.", [(root, totals.frames)]),
        Metric("mmindex_file_bytes", "Size of all files.", [(root, totals.file_bytes)]),
        Metric(
            "mmindex_index_bytes", "Size of the pages of the index.", [(root, archive.used_bytes())]
        ),
        Metric(
            "mmindex_problems",
            "Problems that the index knows, by kind, accepted or not.",
            [
                ({**root, "kind": kind, "accepted": str(accepted).lower()}, count)
                for (kind, accepted), count in count_problems(archive).items()
            ],
        ),
    ]
    note = archive.last_build()
    if note is not None:
        ended, lasted = note.ended_ns / 1e9, note.milliseconds / 1000
        metrics += [
            Metric(
                "mmindex_last_build_timestamp_seconds",
                "When the last build ended, in seconds since 1970.",
                [(root, ended)],
            ),
            Metric("mmindex_last_build_duration_seconds", "How long it took.", [(root, lasted)]),
        ]
    return metrics
