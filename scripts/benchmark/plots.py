"""Plots of the results, as PNG: the cost against the number of frames, and the ratios by case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmark.data import LAYOUTS
from scripts.benchmark.model import MMINDEX, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS = 75  # an inch
_PANELS = ("first frame", "first frame from an index", "random frame")


def plot_frames(path: Path, results: Sequence[Result], layout: str = LAYOUTS[0]) -> bool:
    """Plot opening and a random frame against the number of frames, on logarithmic axes.

    Returns
    -------
    bool
        Whether there was anything to plot.
    """
    curves = [result for result in results if result.curve.endswith(f", {layout}")]
    if not curves:
        return False
    colours = _choose_colours(curves)
    figure, axes = _make_figure(len(_PANELS), 4.2 * len(_PANELS), 4.2)
    for panel, axis in zip(_PANELS, axes, strict=True):
        points = [result for result in curves if result.curve == f"{panel}, {layout}"]
        names = dict.fromkeys(each.contender for result in points for each in result.measurements)
        for name in names:
            line = [
                (result.number_of_frames, found.median)
                for result in points
                if (found := result.find(name)) is not None and found.counts
            ]
            if not line:
                continue
            limit = any(result.limit == name for result in points)
            axis.plot(
                *zip(*line, strict=True),
                marker="o",
                markersize=3,
                label=name,
                linewidth=2.5 if name == MMINDEX else 1,
                color="black" if limit else colours[name],
                linestyle=":" if limit else "-",
            )
        axis.set(xscale="log", yscale="log", xlabel="frames", ylabel="seconds")
        axis.set_title(f"{panel}, {layout}", fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=_DOTS)
    return True


def _choose_colours(results: Sequence[Result]) -> dict[str, str]:
    """Return a colour of each contender, the same in every panel."""
    names = dict.fromkeys(each.contender for result in results for each in result.measurements)
    return {name: f"C{number}" for number, name in enumerate(names)}


def plot_ratios(path: Path, results: Sequence[Result]) -> bool:
    """Plot each case's contenders as times of mmindex, on a logarithmic axis."""
    rows = [result for result in results if result.shown and result.find(MMINDEX) is not None]
    if not rows:
        return False
    figure, (axis,) = _make_figure(1, 10, 0.8 + 0.24 * len(rows))
    names = dict.fromkeys(each.contender for result in rows for each in result.peers if each.counts)
    for number, name in enumerate(names):
        points = []
        for row, result in enumerate(rows):
            ours, theirs = result.find(MMINDEX), result.find(name)
            if ours is not None and theirs is not None and theirs.counts and ours.median:
                points.append((theirs.median / ours.median, row))
        if points:
            marker = "osD^v<>ph*Xd"[number % 12]
            axis.plot(*zip(*points, strict=True), marker, label=name, markersize=5)
    axis.axvline(1, color="black", linewidth=1)
    axis.set(xscale="log", xlabel="times of mmindex (right of the line: mmindex is before it)")
    axis.set_yticks(range(len(rows)), [result.title for result in rows], fontsize=6)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=6)
    figure.savefig(path, dpi=_DOTS)
    return True


def _make_figure(panels: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, panels, squeeze=False)[0]
    return figure, axes
