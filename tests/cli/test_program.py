"""The program as a whole: its help, its version, what it imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_runner import (
    ROOT,
    run,
)
from sample_archive import CINE

import mmindex
from mmindex import cli
from mmindex.cli import COMMANDS


def test_version_is_the_package_s():
    """--version prints one line."""
    assert run("--version").stdout == f"mmindex {mmindex.__version__}\n"


def test_help_lists_every_command():
    """The commands are listed with what they do."""
    printed = run("--help").stdout
    for name in COMMANDS:
        assert re.search(rf"(^|  ){name}  +[A-Z]", printed, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_and_a_test_of_its_name(name):
    """Who looks for a command finds it, and what holds it, by its name."""
    word = name.replace("-", "_")
    assert (Path(cli.__file__).parent / "commands" / f"{word}.py").is_file()
    assert Path(__file__).with_name(f"test_{word}_command.py").is_file()


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32])
def test_help_fits_a_screen_however_many_commands_there_are(count, monkeypatch):
    """A line a command while these fit; then two on a line, each with the start of its help."""
    names = tuple(f"command{number}" for number in range(count))
    help_of = click.Command("toy", short_help="Do what no other command does, at length.")
    monkeypatch.setattr(cli, "COMMANDS", names)
    monkeypatch.setattr(type(cli.main), "get_command", lambda *_: help_of)
    lines = run("--help").stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    shown = re.findall(r"(?:^|  )(command\d+)  +Do what", "\n".join(lines), re.MULTILINE)
    assert sorted(shown) == sorted(names)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_screen_and_has_an_example(name):
    """--help is at most 24 lines of 80 columns, of commands that walk 36, and has an example."""
    lines = run(*name.split(), "--help").stdout.splitlines()
    assert any(line.startswith(f"  mmindex {name or 'build'} ") for line in lines)
    assert len(lines) <= (36 if name in ("build", "update", "check") else 24)
    assert max(map(len, lines)) <= 80


def modules_loaded(*arguments: object) -> set[str]:
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
        "from mmindex.cli import main\n"
        "if sys.argv[1:]: main(prog_name='mmindex')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    return {line.partition(".")[0] for line in done.stderr.decode().splitlines()}


def test_the_command_line_starts_light(folder):
    """A raw frame waits neither for numpy and pydicom nor, by its UID, for what others need."""
    heavy = {"numpy", "pydicom", "PIL", "distributed"}
    assert modules_loaded().isdisjoint(heavy)
    assert modules_loaded("--help").isdisjoint({*heavy, "lmdb"})
    assert modules_loaded("frame", folder / "rtdose.dcm", 1).isdisjoint({*heavy, "lmdb"})
    mmindex.build(folder, workers=1)
    assert modules_loaded("frame", folder / CINE, 1).isdisjoint(heavy)
    with mmindex.open(folder) as archive:
        uid = archive.file(CINE).record.sop_instance_uid
    unneeded = {"hashlib", "json", "shutil", "shlex", "string", "heapq", "difflib"}
    loaded = modules_loaded("frame", folder, 1, "--instance", uid)
    assert loaded.isdisjoint(heavy | unneeded)


def test_python_runs_the_package_as_the_command(tmp_path: Path) -> None:
    """`python -m mmindex` is `mmindex`."""
    ran = subprocess.run(
        [sys.executable, "-m", "mmindex", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"python -m mmindex {mmindex.__version__}\n"


def test_without_arguments_five_commands_are_shown():
    """They are what a newcomer needs; the exit code is that of wrong usage."""
    result = run(code=2)
    assert result.stdout == ""
    lines = [line.split() for line in result.stderr.splitlines() if line.startswith("  mmindex ")]
    assert [line[1] for line in lines] == ["build", "ls", "info", "frame", "sheet"]
    assert max(map(len, result.stderr.splitlines())) <= 80
