"""`python -m mmindex`: the command line, where its script is not on the PATH."""

from __future__ import annotations

from mmindex.cli import main

main(prog_name="python -m mmindex")
