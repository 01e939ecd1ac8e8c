"""Runs the command line: in this process, in one of its own, and at a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from mmindex.cli import main

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [*(sys.executable, "-c"), "from mmindex.cli import main; main(prog_name='mmindex')"]


def new_runner() -> CliRunner:
    """Return click's runner with standard error apart from standard output, in every version."""
    try:
        return CliRunner(mix_stderr=False)
    except TypeError:  # click 8.2 and later always keep them apart
        return CliRunner()


def run(*arguments: object, code: int = 0, **options: Any) -> Result:
    """Run a command in this process, and hold its exit code."""
    result = new_runner().invoke(
        main, [str(argument) for argument in arguments], prog_name="mmindex", **options
    )
    assert result.exit_code == code, result.output
    return result


def run_child(
    *arguments: object, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, without colour unless the environment asks for it."""
    command = [*PROGRAM, *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {"NO_COLOR": "1"})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, env=variables, text=True, check=False, **options)


def run_in_shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does that has its streams redirected."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *PROGRAM, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def read_terminal(ours: int, theirs: int) -> str:
    """Return all that was written to a terminal, of which `theirs` is the program's end."""
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 4096):
            pieces.append(piece)
    except OSError:  # how Linux says that the other end is closed
        pass
    return b"".join(pieces).decode()


def print_on_terminal(
    terminal: tuple[int, int], *arguments: object, code: int = 0, **options: Any
) -> list[str]:
    """Return the lines that a command prints to a terminal."""
    ours, theirs = terminal
    assert run_child(*arguments, stdout=theirs, **options).returncode == code
    return read_terminal(ours, theirs).splitlines()


def read_json_lines(*arguments: object, code: int = 0) -> list[dict[str, Any]]:
    """Return the objects that a command prints, one a line."""
    return [json.loads(line) for line in run(*arguments, "--json", code=code).stdout.splitlines()]


def describe(source: object, *arguments: object) -> dict[str, Any]:
    """Return what `mmindex info --json` says."""
    described: dict[str, Any] = json.loads(run("info", source, *arguments, "--json").stdout)
    return described


def info_values(path: Path) -> dict[str, str]:
    """Return what `mmindex info` says, by name."""
    lines = [line.split("  ", 1) for line in run("info", path).stdout.splitlines()]
    return {name: value.strip() for name, value in lines}
