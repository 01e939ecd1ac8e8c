"""What the memory case starts: open an image with one contender, read frames, print its memory.

    python -m scripts.benchmark.resident JSON

Prints the private bytes of the process: anonymous memory, not the page cache.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from scripts.benchmark.model import BARE, Image
from scripts.benchmark.openers import INDEXED, OPENERS


def count_private_bytes() -> int:
    """Return RssAnon of this process, as Linux counts it.

    Raises
    ------
    OSError
        The system has no /proc.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


def main() -> None:
    """Do what the JSON argument says, and print what it took."""
    told = json.loads(sys.argv[1])
    image = Image(*told["image"])
    if told["contender"] == BARE:
        descriptor = os.open(image.path, os.O_RDONLY)
        for offset, length in told["ranges"]:
            os.pread(descriptor, length, offset)
        print(count_private_bytes())
        return
    openers = INDEXED if told["indexed"] else OPENERS
    with openers[told["contender"]](image) as read:
        for frame_index in told["frame_indices"]:
            read(frame_index)
        print(count_private_bytes())


if __name__ == "__main__":
    main()
