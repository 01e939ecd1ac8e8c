"""The command line: one module a command, imported when that command is asked for.

A command's module holds it as `command`; its name here makes it known. The exit codes are
0 done, 1 failed or problems found, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
from itertools import zip_longest
from typing import Any

import click

import mmindex
from mmindex.cli.endings import ends_quietly
from mmindex.cli.untranslated import UntranslatedHelp

COMMANDS = (  # in the order of --help
    *("build", "update", "watch", "ls", "info", "frame", "sheet", "ranges"),
    *("check", "verify", "stats", "export", "merge", "compact", "serve"),
)
_MOST_LINES = 16  # commands of --help that fit a screen of 24 lines
_CELL = 39  # columns of a command and its short help, where two stand on a line


class _LazyGroup(UntranslatedHelp, click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands alone: with -h and --version, they would not fit a screen."""
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line a command; of more than a screen has lines for, two beside each other."""
        if len(COMMANDS) <= _MOST_LINES:
            super().format_commands(ctx, formatter)
            return
        from textwrap import shorten

        longest = max(map(len, COMMANDS))
        cells = []
        for name in COMMANDS:
            command = self.get_command(ctx, name)
            says = shorten(command.get_short_help_str() if command else "", _CELL - longest - 4)
            cells.append(f"  {name:<{longest}}  {says}".ljust(_CELL))
        half = (len(cells) + 1) // 2
        with formatter.section("Commands"):
            for left, right in zip_longest(cells[:half], cells[half:], fillvalue=""):
                formatter.write(f"{left} {right}".rstrip() + "\n")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"mmindex.cli.commands.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(_explain_unknown_command(name))
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with ends_quietly():  # --help and --version print before a command is known
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with ends_quietly():
            try:
                return super().invoke(ctx)
            except click.NoSuchOption as error:  # of a command that takes an index as its archive
                if error.option_name != "--index":
                    raise
                instead = "no such option: --index; name the index file in place of the archive"
                raise click.UsageError(instead, error.ctx) from None


def _explain_unknown_command(name: str) -> str:
    from difflib import get_close_matches

    near = " or ".join(get_close_matches(name.lower(), COMMANDS))
    hint = f"did you mean {near}?" if near else f"there are {', '.join(COMMANDS)}"
    return f"no such command: {name}; {hint}"


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{ctx.find_root().info_name} {mmindex.__version__}", color=ctx.color)
        ctx.exit()


_FIRST_COMMANDS = """\
Usage: mmindex [OPTIONS] COMMAND [ARGS]...

  Read any frame of a DICOM file without reading the others.

  mmindex build /data/archive              build the index, or update it
  mmindex ls /data/archive                 list what is in it
  mmindex info cine.dcm                    print what is known of a file
  mmindex frame cine.dcm 42 -o frame.jpg   write frame 42 as it is stored
  mmindex sheet cine.dcm -o sheet.png      draw its frames side by side

  `mmindex --help` lists all commands; `mmindex COMMAND --help` explains one.
"""


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    help="Show the version and exit.",
    callback=_show_version,
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Read any frame of a DICOM file without reading the others. Exit codes: 0 done, 1 failed or
    problems found, 2 wrong usage, 130 interrupted.

    \b
    mmindex build /data/archive             build or update its index
    """  # noqa: D205, D301
    if ctx.invoked_subcommand is None:
        click.echo(_FIRST_COMMANDS, err=True, nl=False)
        ctx.exit(2)
