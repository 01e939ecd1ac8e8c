"""Plots of the results, as PNG: the cost against the number of frames, and the ratios by case."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmark.data import LAYOUTS
from scripts.benchmark.model import MMINDEX, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DOTS = 100  # an inch
_PANELS = ("first frame", "first frame from an index", "random frame")
_TITLES = (
    "Open, read a frame",
    "Open an index, read a frame",
    "Read a random frame of an open file",
)
_MARKERS = "osD^v<>ph*XdP8H"


def plot_frames(path: Path, results: Sequence[Result], layout: str = LAYOUTS[0]) -> None:
    """Plot opening and a random frame against the number of frames, on logarithmic axes."""
    curves = [result for result in results if result.curve.endswith(f", {layout}")]
    if not curves:
        return
    figure, axes = _make_figure(len(_PANELS), 4 * len(_PANELS), 4.2)
    colours = _choose_colours(results)
    limits = {result.limit for result in curves}
    for panel, title, axis in zip(_PANELS, _TITLES, axes, strict=True):
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
            axis.plot(
                *zip(*line, strict=True),
                marker="o",
                markersize=4,
                label=f"limit: {name}" if name in limits else name,
                linewidth=3 if name == MMINDEX else 1.5,
                color="black" if name in limits else colours[name],
                linestyle=":" if name in limits else "-",
            )
        axis.set(xscale="log", yscale="log", xlabel="frames of the file")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper left")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low, high * 30)  # room for the legends
    axes[0].set_ylabel("seconds")
    figure.suptitle(
        f"Encapsulated frames, {layout}: seconds, less is better "
        "(frames of 4 to 16 kB; of 100 to 200 bytes in files of more than 100,000)",
        fontsize=10,
    )
    _save(figure, path)


def plot_ratios(path: Path, results: Sequence[Result]) -> None:
    """Plot each case's contenders as times of mmindex, on a logarithmic axis."""
    rows = [
        result
        for result in results
        if result.shown
        and result.find(MMINDEX) is not None
        and any(each.counts for each in result.peers)
    ]
    if not rows:
        return
    figure, (axis,) = _make_figure(1, 11, 1.8 + 0.24 * len(rows))
    colours = _choose_colours(results)
    names = dict.fromkeys(each.contender for result in rows for each in result.peers if each.counts)
    for number, name in enumerate(names):
        points = []
        for row, result in enumerate(rows):
            ours, theirs = result.find(MMINDEX), result.find(name)
            if ours is not None and theirs is not None and theirs.counts and ours.median:
                points.append((theirs.median / ours.median, row))
        if points:
            marker = _MARKERS[number % len(_MARKERS)]
            axis.plot(
                *zip(*points, strict=True), marker, label=name, markersize=6, color=colours[name]
            )
    axis.axvline(1, color=colours[MMINDEX], linewidth=2)
    axis.set(xscale="log", xlabel="times of mmindex (right of the line: mmindex is before it)")
    axis.set_yticks(range(len(rows)), [result.title for result in rows], fontsize=8)
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    _save(figure, path)


def _choose_colours(results: Sequence[Result]) -> dict[str, tuple[float, ...]]:
    """Return a colour of each contender that is no limit, the same in every plot of a run."""
    from matplotlib import colormaps

    names = [MMINDEX]
    for result in results:
        names += [each.contender for each in result.peers]
    palette = [*colormaps["tab10"].colors, *colormaps["Dark2"].colors]
    return {
        name: palette[number % len(palette)] for number, name in enumerate(dict.fromkeys(names))
    }


def _make_figure(panels: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG of few colours, which is a third of the size."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DOTS, format="png")
    with Image.open(buffer) as picture:
        few = picture.convert("RGB").quantize(method=Image.Quantize.MAXCOVERAGE)
        few.save(path, optimize=True)
