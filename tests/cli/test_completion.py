"""Shell completion, as click gives it: the scripts, and what they are answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmindex.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(tmp_path: Path) -> dict[str, str]:
    """An environment in which `mmindex` is a program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mmindex").write_text(
        f"#!{sys.executable}\nfrom mmindex.cli import main\nmain(prog_name='mmindex')\n"
    )
    (folder / "mmindex").chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def ask(program: dict[str, str], *arguments: str, **variables: str) -> str:
    return subprocess.run(
        arguments, env={**program, **variables}, capture_output=True, text=True, check=True
    ).stdout


def complete(program: dict[str, str], typed: str) -> list[tuple[str, str]]:
    """Return type and value of each completion of the last word."""
    words = typed.split(" ")
    printed = ask(
        program,
        "mmindex",
        _MMINDEX_COMPLETE="bash_complete",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(words) - 1),
    )
    pairs = [line.partition(",") for line in printed.splitlines()]
    return [(kind, value) for kind, _, value in pairs]


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o nosort -F _mmindex_completion mmindex"),
        ("zsh", "#compdef mmindex"),
        ("fish", "complete --no-files --command mmindex"),
    ],
)
def test_every_shell_has_its_script(program, shell, line):
    """It is printed where the environment asks for it."""
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("no bash, whose version click looks at")
    assert line in ask(program, "mmindex", _MMINDEX_COMPLETE=f"{shell}_source")


def test_commands_are_completed(program):
    """All of them, and those that begin as typed."""
    assert complete(program, "mmindex ") == [("plain", name) for name in COMMANDS]
    for start in ("st", "c", "ls"):
        begun = [("plain", name) for name in COMMANDS if name.startswith(start)]
        assert complete(program, f"mmindex {start}") == begun


def test_zsh_is_told_what_the_commands_do(program):
    """The short help stands beside the name."""
    printed = ask(
        program,
        "mmindex",
        _MMINDEX_COMPLETE="zsh_complete",
        COMP_WORDS="mmindex check",
        COMP_CWORD="1",
    )
    assert printed.splitlines() == [
        "plain",
        "check",
        "List what is wrong with the files of an archive.",
    ]


def test_options_and_their_choices_are_completed(program):
    """Also after frame numbers, of which none is looked at."""
    assert complete(program, "mmindex frame a.dcm 1-3,5 --st") == [("plain", "--stream")]
    formats = [("plain", name) for name in ("raw", "npy", "png", "jpg")]
    assert complete(program, "mmindex frame a.dcm 1 --format ") == formats


@pytest.mark.parametrize(
    "typed",
    [
        *("mmindex frame arch", "mmindex sheet arch", "mmindex ranges arch", "mmindex info arch"),
        *("mmindex ls arch", "mmindex check arch", "mmindex stats arch", "mmindex compact arch"),
        *("mmindex frame a.dcm 1 -o out", "mmindex sheet a.dcm -o out", "mmindex merge out in"),
        *("mmindex build archive --index in", "mmindex merge out in --root arch"),
    ],
)
def test_paths_are_left_to_the_shell_to_complete(program, typed):
    """An argument or option that is a path says so."""
    assert complete(program, typed) == [("file", typed.split()[-1])]


def test_only_folders_are_offered_to_build(program):
    """A file cannot be built."""
    assert complete(program, "mmindex build arch") == [("dir", "arch")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_with_the_script(program):
    """What README says to put into a profile works, from the script to the words."""
    script = (
        'eval "$(_MMINDEX_COMPLETE=bash_source mmindex)"\n'
        "compopt() { echo compopt $*; }\n"
        "try() { COMP_WORDS=($1 $2 $3); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n"
        "  _mmindex_completion mmindex; echo ${COMPREPLY[*]}; }\n"
        "try mmindex co; try mmindex ls --s; try mmindex ls a\n"
    )
    printed = ask(program, "bash", "--norc", "-c", script)
    commands = [name for name in COMMANDS if name.startswith("co")]
    assert printed.split() == [*commands, "--study", "--series", "compopt", "-o", "default"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_takes_the_script(program):
    """It is read without a complaint, and registers its function."""
    script = (
        "autoload -Uz compinit && compinit -u -D\n"
        'eval "$(_MMINDEX_COMPLETE=zsh_source mmindex)"\n'
        "print $_comps[mmindex]\n"
    )
    assert ask(program, "zsh", "-f", "-c", script).strip() == "_mmindex_completion"
