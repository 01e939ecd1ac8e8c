"""Run the benchmark: `scripts/bench` starts this in an environment that has the peers."""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.benchmark import (
    command_line,
    containers,
    decode,
    footprint,
    frames,
    many_files,
    meaning,
    remote,
    serve,
    slide,
    small_files,
    stores,
)
from scripts.benchmark.cases import family, sized
from scripts.benchmark.measure import FULL, QUICK, Bench, tell
from scripts.benchmark.model import Result
from scripts.benchmark.plots import plot_frames, plot_ratios
from scripts.benchmark.report import describe_machine, make_readme, make_report, write_json

FAMILIES: dict[str, Callable[[Bench], Iterator[Result]]] = {
    name: family(name, list_setups)
    for name, list_setups in {
        "frames": frames.list_frames,
        "header": frames.list_headers,
        "small-files": sized(1_000, 10_000, "{:,} files", small_files.list_small_files),
        "containers": containers.list_containers,
        "store": sized(100_000, 1_000_000, "{:,} instances", stores.list_look_ups),
        "update": sized(100_000, 1_000_000, "{:,} instances", stores.list_updates),
        "listing": sized(20_000, 200_000, "{:,} files", command_line.list_listings),
        "training": many_files.list_training,
        "one-frame-files": sized(5_000, 100_000, "{:,} files", many_files.list_one_frame_files),
        "meaning": sized(5_000, 50_000, "{:,} per-frame items", meaning.list_cases),
        "slide": sized(16, 64, "{0} x {0} tiles", slide.list_slide),
        "decode": decode.list_decode,
        "memory": sized(10_000, 100_000, "{:,} frames", footprint.list_memory),
        "size": sized(10_000, 100_000, "{:,} frames", footprint.list_sizes),
        "command-line": sized(1_000, 10_000, "{:,} frames", command_line.list_command_line),
        "cold": frames.list_cold,
        "serve": serve.list_serve,
        "remote": remote.list_remote,
    }.items()
}


def main() -> None:
    """Measure the cases asked for, write what came out, print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes: four minutes, not thirty",
    )
    parser.add_argument("--case", choices=FAMILIES, action="append", help="only this; repeatable")
    parser.add_argument(
        "--output", type=Path, default=command_line.ROOT / ".bench", help="folder of the results"
    )
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)

    start = time.monotonic()
    machine = describe_machine()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="mmindex-bench-") as folder:
        bench = Bench(Path(folder), QUICK if arguments.quick else FULL, arguments.quick)
        for name in arguments.case or FAMILIES:
            results += FAMILIES[name](bench)
            tell(f"{name}: done after {time.monotonic() - start:.0f} s")
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    report = make_report(results, machine, quick=arguments.quick)
    write_json(output / "results.json", results, machine)
    (output / "table.md").write_text(report)
    (output / "readme.md").write_text(make_readme(results, machine, quick=arguments.quick))
    plot_frames(output / "frames.png", results)
    plot_ratios(output / "ratios.png", results)
    print(report)
    tell(f"{output}: results.json, table.md, readme.md and plots; {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
