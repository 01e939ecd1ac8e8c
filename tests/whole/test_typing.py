"""The types of the public API, as mypy shows them to a program that uses the installed package."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest
import typed_sample

import mmindex

SAMPLE = Path(__file__).resolve().parents[1] / "typed_sample.py"

WRONG = """
import mmindex

with mmindex.open_file("a.dcm") as instance:
    instance.frame("a")
    number: int = instance.frame(0)
"""


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs of mypy leave what they know of mmindex and numpy for each other."""
    return tmp_path_factory.mktemp("cache")


def run_mypy(program: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Check a program that lies elsewhere; mmindex is found as an installed package is."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache)]
    command += ["--config-file=", program.name]  # no configuration, whoever runs this
    # Not MYPYPATH: what is on the path of Python has no types without its py.typed.
    environment = {**os.environ, "PYTHONPATH": str(Path(mmindex.__file__).parent.parent)}
    return subprocess.run(
        command, cwd=program.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_program_that_uses_all_public_names_is_strictly_typed(
    tmp_path: Path, mypy_cache: Path
) -> None:
    """No error, and no Any, for one who uses mmindex as documented."""
    program = tmp_path / "program.py"
    shutil.copy(SAMPLE, program)
    checked = run_mypy(program, mypy_cache)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_wrong_uses_are_reported(tmp_path: Path, mypy_cache: Path) -> None:
    """A wrong argument and a wrong result are told, each on its line, and nothing else."""
    program = tmp_path / "program.py"
    program.write_text(WRONG)
    checked = run_mypy(program, mypy_cache)
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert [line.split(": ")[0] for line in errors] == ["program.py:5", "program.py:6"]
    assert "[arg-type]" in errors[0]
    assert "[assignment]" in errors[1]


def test_the_program_runs(tmp_path: Path) -> None:
    """What is typed so also works so."""
    for name in ("rtdose.dcm", "SC_rgb_rle_2frame.dcm"):
        shutil.copy(str(pydicom.data.get_testdata_file(name)), tmp_path)
    typed_sample.main(tmp_path)


def test_the_program_uses_every_public_name() -> None:
    """A name that is added to the API is added to the program."""
    tree = ast.walk(ast.parse(SAMPLE.read_text()))
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in tree
        if isinstance(node, (ast.Name, ast.Attribute))
    }
    assert set(mmindex.__all__) <= used
