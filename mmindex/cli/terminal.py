"""Output for people at a terminal only: colour, and a pager for long lists."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

import click

from mmindex.cli.printing import print_message
from mmindex.cli.suggestions import NearChoice

_WHEN = {"always": True, "never": False}


def _set_color(ctx: click.Context, param: click.Parameter, when: str) -> None:
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    ctx.color = _WHEN.get(when, False if is_plain else None)


def note_no_color() -> None:
    """Say on standard error that lines with tabs have no colour, where --color asks for it."""
    if click.get_current_context().color:
        print_message("tab-separated output has no colour")


def color_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --color to a command; by itself, a terminal gets colour without NO_COLOR or TERM=dumb."""
    return click.option(
        "--color",
        type=NearChoice(["auto", "always", "never"]),
        default="auto",
        expose_value=False,
        callback=_set_color,
        help="Colour of tables; default: auto, on a terminal without NO_COLOR.",
    )(command)


def print_paged(lines: Iterable[str]) -> None:
    """Print lines to a terminal: in its pager where they are more than it has."""
    lines = iter(lines)
    first = list(islice(lines, shutil.get_terminal_size().lines))
    if len(first) < shutil.get_terminal_size().lines:
        for line in first:
            click.echo(line)
        return
    os.environ.setdefault("LESS", "FRX")  # as git: colours, and what was shown stays on the screen
    color = click.get_current_context().color is not False
    click.echo_via_pager((f"{line}\n" for line in chain(first, lines)), color=color)
