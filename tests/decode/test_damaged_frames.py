"""Damaged frames of every codec, decoded by processes that may die of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("imagecodecs")

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fuzz_decode.py"


def test_damaged_frames_are_arrays_of_the_right_shape_or_errors():
    """No other exception, no crash, no hang, no gigabyte: see the script, which tries more."""
    done = subprocess.run(
        [sys.executable, SCRIPT, "1500", "7000"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1500 frames from seed 7000" in done.stdout
