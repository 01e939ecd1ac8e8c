"""What came out: the machine, a Markdown table, where mmindex is not first, JSON."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from scripts.benchmark.model import MMINDEX, NOT_THERE, Measurement, Result

PACKAGES = (
    *("mmindex", "pydicom", "highdicom", "wsidicom", "dicomweb-client", "dicomsdl"),
    *("openslide-python", "openslide-bin", "pyarrow", "numpy", "lmdb"),
)


def describe_machine() -> dict[str, str]:
    """Return the machine, the system and the versions that were measured."""
    return {
        "processor": _read_processor(),
        "cores": str(os.cpu_count()),
        "memory": _read_memory(),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{package: _find_version(package) for package in PACKAGES},
    }


def _find_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return NOT_THERE


def _read_processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read_memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "unknown"
    return f"{total / 1e9:.0f} GB"


def format_amount(amount: float, unit: str) -> str:
    """Return seconds or bytes with at most three digits and the prefix that suits them.

    A part, of unit "1", has no prefix.
    """
    if unit == "1":
        return format_number(amount)
    steps = (
        (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
        if unit in ("s", "CPU")
        else (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))
    )
    fits = (step for step in steps if amount >= 0.9995 * step[1])  # 999.6 kB is 1.00 MB
    name, size = next(fits, steps[-1])
    return f"{format_number(amount / size)} {name}"


def format_number(number: float) -> str:
    """Return a number with three digits, or all that are before the point."""
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def format_ratio(amount: float, base: float) -> str:
    """Return how many times `base` an amount is, with at most three digits that are not zero."""
    if not base:
        return "-"
    ratio = amount / base
    if ratio >= 999.5:
        return f"{float(f'{ratio:.3g}'):,.0f}x"
    return f"{ratio:.0f}x" if ratio >= 9.95 else f"{ratio:.2g}x" if ratio < 1 else f"{ratio:.1f}x"


def make_table(results: Sequence[Result]) -> str:
    """Return a Markdown table: a row a case, the peers as ratios to mmindex."""
    rows = [
        "| case | mmindex | limit | peers, as times of mmindex |",
        "|---|---|---|---|",
    ]
    rows += [_make_row(result) for result in results if result.shown]
    return "\n".join(rows)


def _make_row(result: Result) -> str:
    mmindex, limit, times = result.find(MMINDEX), result.find(result.limit), result.times_of_limit
    ours, bounds = "-", []
    if mmindex is not None:
        ours = format_amount(mmindex.median, result.unit)
        if len(mmindex.samples) > 1 and mmindex.median:
            ours += f" ± {mmindex.spread / mmindex.median:.0%}"
    if limit is not None:
        ratio = "" if times is None else f": {format_ratio(times, 1)}"
        bounds.append(f"{result.limit} {format_amount(limit.median, result.unit)}{ratio}")
    if result.aim is not None:
        bounds.append(_describe_aim(result))
    peers = ", ".join(_describe_peer(each, mmindex) for each in result.peers)
    return f"| {result.title} | {ours} | {'; '.join(bounds) or '-'} | {peers or '-'} |"


def _describe_peer(peer: Measurement, mmindex: Measurement | None) -> str:
    if not peer.samples or mmindex is None:
        return f"{peer.contender} {peer.note or '-'}"
    ratio = format_ratio(peer.median, mmindex.median)
    text = f"{peer.contender} {ratio} ({peer.note})" if peer.note else f"{peer.contender} {ratio}"
    return f"**{text}**" if peer.counts and peer.median < mmindex.median else text


def say_where_not_first(results: Sequence[Result], what: str) -> str:
    """Return a line on each case where a peer is before mmindex, or a bound or an aim is passed.

    `what` are these results: "rows", "cases".
    """
    lines = [line for result in results if (line := _say_what_is_amiss(result))]
    has_aims = any(result.aim is not None for result in results)
    if not lines:
        within = "within twice the limit and the aim" if has_aims else "within twice the limit"
        return f"In these {what} mmindex is first, and {within} where that is asked."
    above = "**above twice the limit** or **the aim**" if has_aims else "**above twice the limit**"
    heading = f"mmindex is **not first**, or {above} where that is asked, here:"
    return "\n".join((heading, "", *lines))


def _say_what_is_amiss(result: Result) -> str:
    """Return a line on a case; "" where mmindex is first and within the bound and the aim."""
    mmindex = result.find(MMINDEX)
    if mmindex is None:
        return f"- {result.title}: mmindex was not measured"
    told = [
        f"{peer.contender} {format_amount(peer.median, result.unit)}"
        for peer in sorted(result.faster_peers, key=lambda each: each.median)
    ]
    times = result.times_of_limit
    if times is not None and result.bound is not None and times > result.bound:
        told.append(f"{format_ratio(times, 1)} of {result.limit}")
    if result.aim is not None and mmindex.median > result.aim:
        told.append(_describe_aim(result))
    if not told:
        return ""
    ours = format_amount(mmindex.median, result.unit)
    return f"- {result.title}: {', '.join(told)}; mmindex {ours}"


def _describe_aim(result: Result) -> str:
    assert result.aim is not None
    return f"aim {format_amount(result.aim, result.unit)}"


def make_readme(results: Sequence[Result], machine: dict[str, str], *, quick: bool) -> str:
    """Return what fits a README: machine, legend, table, and where a row is not to our credit."""
    kind = "quick run, small sizes" if quick else "full run"
    described = ", ".join(f"{name} {version}" for name, version in machine.items())
    return "\n".join(
        (
            f"Measured ({kind}) on: {described}.",
            "",
            "Medians ± half of what lies between the quartiles; all ran in turn in this run.",
            "The limit is what this machine does at best in Python: a bare walk of the mapped",
            "items, `os.pread` of known bytes, `os.scandir` and `stat`; with it stands how many",
            "times the limit mmindex's figure is. Beside a peer stands how many times mmindex's",
            "figure its own is; **in bold** where it is less.",
            "",
            make_table(results),
            "",
            say_where_not_first([result for result in results if result.shown], "rows"),
            "",
        )
    )


def make_report(results: Sequence[Result], machine: dict[str, str], *, quick: bool) -> str:
    """Return the whole report in Markdown: what fits a README, then every case at every size."""
    return "\n".join(
        (
            make_readme(results, machine, quick=quick),
            f"All {len(results)} cases, also those at sizes that have no row:",
            "",
            say_where_not_first(results, "cases"),
            "",
        )
    )


def write_json(path: Path, results: Sequence[Result], machine: dict[str, str]) -> None:
    """Write machine, versions and every sample."""
    told = {"machine": machine, "results": [dataclasses.asdict(result) for result in results]}
    path.write_text(json.dumps(told, indent=1) + "\n")
