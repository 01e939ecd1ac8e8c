"""The files of scripts/deploy are what systemd and cron take, and call commands as they are."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from mmindex.cli import main

DEPLOY = Path(__file__).resolve().parents[2] / "scripts" / "deploy"
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])
PROGRAM = "/opt/mmindex/bin/mmindex"


def parse_unit(path: Path) -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(path.read_text())
    return unit


def called_commands() -> list[list[str]]:
    """Return the arguments with which the files call mmindex."""
    calls = []
    for path in sorted(DEPLOY.iterdir()):
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                found = re.findall(rf"{PROGRAM} ([^&|)]*)", line)
                calls += [shlex.split(call.replace("2>", "")) for call in found]
    return calls


def test_all_kinds_of_files_are_there() -> None:
    """A nightly build by systemd or cron, and a watch."""
    names = {path.name for path in DEPLOY.iterdir()}
    expected = {"mmindex-build.service", "mmindex-build.timer", "mmindex-watch.service"}
    assert names == expected | {"mmindex.cron"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_units_have_their_sections(path: Path) -> None:
    """Each says what it is and, a service, what it runs."""
    unit = parse_unit(path)
    assert unit["Unit"]["Description"]
    assert ("Timer" if path.suffix == ".timer" else "Service") in unit


def test_units_are_valid(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing to complain of, once the program is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    for path in UNITS:
        text = path.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / path.name) for path in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "mmindex" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.parametrize("arguments", called_commands(), ids=" ".join)
def test_commands_are_called_as_they_are(arguments: list[str]) -> None:
    """No option that a command does not have."""
    command = main.get_command(click.Context(main), arguments[0])
    assert command is not None
    command.make_context(arguments[0], [each for each in arguments[1:] if each != "1"])


def test_cron_line_has_the_fields_of_cron_d() -> None:
    """Five fields of time, a user, a command; no percent sign, which ends a line."""
    lines = (DEPLOY / "mmindex.cron").read_text().splitlines()
    jobs = [line for line in lines if line[:1].isdigit()]
    assert len(jobs) == 1
    assert re.match(r"\d+ \d+ \* \* \*  \w+  \S", jobs[0])
    assert "%" not in jobs[0]
