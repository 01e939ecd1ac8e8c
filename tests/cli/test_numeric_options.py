"""Numbers of the command line: none is endless, none is no number, whatever the option."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from cli_runner import run
from container_bytes import native

import mmindex
from mmindex.cli import main

NO_NUMBERS = ["nan", "-nan", "inf", "-inf", "infinity", "1e400", "-1", "9" * 30, "", "x", "0x10"]
NO_LIMITS = ["nan", "nan%", "inf", "inf%", "-1", "-1%", "101%", "1e2%", "%", "", "9" * 5000]


def walk_options() -> Iterator[tuple[str, click.Option]]:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                yield name, option


NUMERIC = [
    (name, option.opts[-1])
    for name, option in walk_options()
    if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
]


def arguments_of(name: str, root: Path) -> list[object]:
    """Return arguments that a command takes."""
    return [root, root / "a.dcm"] if name == "update" else [root]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    (root / "a.dcm").write_bytes(native("1.1"))
    mmindex.build(root, workers=1)
    return root


def test_the_numeric_options_are_found() -> None:
    """The list below is not empty, and has those of every kind."""
    assert {("build", "--min-age"), ("build", "--workers"), ("watch", "--rescan")} <= set(NUMERIC)
    assert {("serve", "--port"), ("verify", "--sample"), ("sheet", "--size")} <= set(NUMERIC)


@pytest.mark.parametrize(("name", "option"), NUMERIC)
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_number_out_of_range_is_wrong_usage(
    root: Path, name: str, option: str, value: str
) -> None:
    """NaN, infinite, negative or huge numbers: exit code 2, and the option is named."""
    done = run(name, *arguments_of(name, root), f"{option}={value}", code=2)
    assert option in done.stderr


@pytest.mark.parametrize("name", ["build", "update", "watch"])
@pytest.mark.parametrize("value", NO_LIMITS)
def test_a_limit_that_is_none_is_wrong_usage(root: Path, name: str, value: str) -> None:
    """`--max-removed` takes a number of files or a percentage up to 100."""
    done = run(name, *arguments_of(name, root), f"--max-removed={value}", code=2)
    assert "--max-removed" in done.stderr
