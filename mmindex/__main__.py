"""The program: what the script `mmindex` and `python -m mmindex` run.

A command lives for a tenth of a second, a fifth of which the garbage collector would spend on
looking at modules: on their way in, and once more at the end. They are no garbage.
"""

from __future__ import annotations

import gc

_OBJECTS = 50_000  # made between two looks for garbage; Python's own choice is 700
_INTERRUPTED = 130


def run(prog_name: str | None = None) -> None:
    """Run the command line with this process's arguments; ends by SystemExit."""
    gc.set_threshold(_OBJECTS)
    try:
        from mmindex.cli import main

        main(prog_name=prog_name)
    except KeyboardInterrupt:  # while modules are imported; later ones end within the command
        raise SystemExit(_INTERRUPTED) from None
    finally:
        gc.freeze()


if __name__ == "__main__":
    run("python -m mmindex")
