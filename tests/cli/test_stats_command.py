"""`mmindex stats` off and at a terminal."""

from __future__ import annotations

from cli_runner import (
    print_on_terminal,
    run,
)
from sample_archive import NAMES

import mmindex


def test_stats_without_frames_has_no_bytes_a_frame(tmp_path):
    """Nothing is divided by nothing."""
    (tmp_path / "note.txt").write_text("x")
    mmindex.build(tmp_path, workers=1)
    printed = run("stats", tmp_path).stdout
    assert "a frame" not in printed
    assert "1, 1 byte\n" in printed


def test_stats_has_the_paths_of_its_ranks_below_each_other(archive):
    """What was measured is as wide as its longest."""
    lines = run("stats", archive).stdout.splitlines()
    ranks = [line for line in lines if line.startswith("Most frames")]
    assert [line.split()[3] for line in ranks] == ["30", "15", "1", "1"]
    assert len({line.index(line.split()[4]) for line in ranks}) == 1


def test_stats_on_a_terminal_rounds_the_size_of_the_files(archive, terminal):
    """Off a terminal it is exact."""
    size = sum((archive / name).stat().st_size for name in NAMES)
    first, *_ = print_on_terminal(terminal, "stats", archive)
    assert first.split(None, 1)[1] == f"{len(NAMES)}, {size / 1000:.1f} kB"
