"""The program: what the script `mmindex` and `python -m mmindex` run.

A command lives for a tenth of a second, a fifth of which the garbage collector would spend on
looking at modules: on their way in, and once more at the end. They are no garbage.
"""

from __future__ import annotations

import gc

_OBJECTS = 50_000  # made between two looks for garbage; Python's own choice is 700


def run(prog_name: str | None = None) -> None:
    """Run the command line with this process's arguments; ends by SystemExit."""
    gc.set_threshold(_OBJECTS)
    from mmindex.cli import main

    try:
        main(prog_name=prog_name)
    finally:
        gc.freeze()


if __name__ == "__main__":
    run("python -m mmindex")
