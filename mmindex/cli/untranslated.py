"""A help option and a type of paths whose texts are not looked up in catalogs of translations.

click has no catalogs, but imports `locale` to look for them: a tenth of the time in which
`mmindex frame` starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class PathType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A path, be it there or not; as click.Path()."""

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete files and folders."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


PATH = PathType()


class UntranslatedHelp(click.Command):
    """A command with such a help option."""

    _own_help: click.Option | None = None

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option, the same one each time: click compares options."""
        names = self.get_help_option_names(ctx)
        if self._own_help is None and names and self.add_help_option:
            self._own_help = click.Option(
                list(names),
                is_flag=True,
                expose_value=False,
                is_eager=True,
                help="Show this message and exit.",
                callback=_show_help,
            )
        return self._own_help


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()
