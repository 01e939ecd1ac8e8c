"""`--fail-on` of check and build: the kinds of problems that wake somebody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mmindex.cli.suggestions import find_near_word

Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULT = "unreadable,stale,missing"


def _parse_kinds(ctx: click.Context, param: click.Parameter, value: str) -> frozenset[str]:
    from mmindex.read.problems import KINDS  # `--help` needs none

    kinds = frozenset(filter(None, (kind.strip() for kind in value.split(","))))
    if unknown := sorted(kinds.difference(KINDS)):
        near = find_near_word(unknown[0], KINDS)
        hint = f": did you mean {near}?" if near else ""
        raise click.BadParameter(
            f"expected some of {','.join(KINDS)}, found {','.join(unknown)}{hint}"
        )
    return kinds


def fail_on_option(command: Command) -> Command:
    """Add `--fail-on`, whose value is a frozenset of kinds of problems."""
    return click.option(
        "--fail-on",
        metavar="KINDS",
        default=_DEFAULT,
        callback=_parse_kinds,
        help=f"Kinds that fail; default: {_DEFAULT}.",
    )(command)
