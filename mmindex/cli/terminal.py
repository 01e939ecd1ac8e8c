"""Output for people at a terminal only: colour, and a pager for long lists."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Any

import click

from mmindex.cli.suggestions import NearChoice

_WHEN = {"always": True, "never": False}


def _set_color(ctx: click.Context, param: click.Parameter, when: str) -> None:
    ctx.color = _WHEN.get(when, False if os.environ.get("NO_COLOR") else None)


def color_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --color to a command; by itself, a terminal gets colour unless NO_COLOR is set."""
    return click.option(
        "--color",
        type=NearChoice(["auto", "always", "never"]),
        default="auto",
        expose_value=False,
        callback=_set_color,
        help="Colour; auto unless given: on a terminal, without NO_COLOR.",
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
