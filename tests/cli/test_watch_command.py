"""`mmindex watch`: what it prints; what it does is in tests/update/test_watch.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PATIENCE = 30.0  # seconds in which a busy machine does anything


def test_a_quiet_log_has_what_went_wrong_and_a_verbose_one_names_it(tmp_path: Path) -> None:
    """In text, a line each; each begins with the time."""
    root, index = tmp_path / "root", tmp_path / "index"
    root.mkdir()
    (root / "broken").symlink_to("nowhere")
    for options, expected in ((["-q"], ["build"]), (["-v"], ["build", "problem", "stopped"])):
        command = [sys.executable, "-m", "mmindex", "watch", str(root), "--index", str(index)]
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        others = process.stdout.read()
        assert process.wait(PATIENCE) == 0
        process.stdout.close()
        kinds = [line.split()[1].rstrip(":") for line in [first, *others.splitlines()]]
        assert kinds == expected
        assert ("broken: cannot access it" in others) == (options == ["-v"])
