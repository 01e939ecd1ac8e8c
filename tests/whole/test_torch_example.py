"""The README's example of a DataLoader, run with a torch that the test installs for itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A version, so that a build for CPUs alone that an index offers is taken; the packages that such a
# build imports, without the many of one for GPUs.
PACKAGES = ("torch==2.13.0", "filelock", "jinja2", "markupsafe", "mpmath", "networkx", "sympy")


@pytest.mark.long
def test_the_data_loader_of_the_readme_works_as_printed(tmp_path: Path) -> None:
    """Frames of workers, stacked to tensors: the page's test, in a process that has torch."""
    environment = {**os.environ}
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", tmp_path]
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode:
        done = subprocess.run([*install, *PACKAGES], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"torch cannot be installed: {done.stderr[-300:]}")
        environment["PYTHONPATH"] = str(tmp_path)
    found = subprocess.run([sys.executable, "-c", "import torch"], env=environment)
    if found.returncode:
        pytest.skip("this torch needs libraries of GPUs")
    wanted = "tests/whole/test_readme.py::test_the_blocks_of_a_page_work_as_printed"
    for page in ("README.md", "README.zh-CN.md"):
        command = [sys.executable, "-m", "pytest", "-q", f"{wanted}[{page}]"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert "1 passed" in done.stdout, done.stdout[-3000:]
