"""The value of --window: what becomes black and white."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from mmindex.cli.suggestions import find_near_word

if TYPE_CHECKING:
    from mmindex.read.pictures import WindowChoice


class WindowType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """`file`, `auto`, or center and width in the units of the modality: `40,400`."""

    name = "file|auto|CENTER,WIDTH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> WindowChoice:
        """Return the window that a text names; raises BadParameter for another text."""
        if value == "file" or value == "auto":
            return value
        center, comma, width = str(value).partition(",")
        try:
            window = float(center), float(width)
        except ValueError:
            window = math.nan, math.nan
        if not comma or not math.isfinite(window[0]) or not 0 < window[1] < math.inf:
            near = find_near_word(str(value), ("file", "auto"))
            hint = f": did you mean {near}?" if near else ""
            self.fail(f"expected file, auto or CENTER,WIDTH such as 40,400, found {value!r}{hint}")
        return window


window_option = click.option(
    "--window",
    metavar="WINDOW",
    type=WindowType(),
    help="For pictures: file (default), auto (by values) or CENTER,WIDTH.",
)
