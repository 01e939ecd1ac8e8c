"""Read files with one witness of their frames damaged: the true frame, or an error.

    python scripts/fuzz_frames.py [FILES [FIRST_SEED]]

Seeded and plain: no more than the project and its tests' models are needed. Prints what was read,
and ends with 1 where a frame was wrong.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from frame_model import find_wrong_frame, make_case, read_case
from native_model import find_wrong_native_frame, make_native_case


def main() -> int:
    """Read every file with and without proof; return how many frames were wrong."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    counts: Counter[str] = Counter()
    wrong = 0
    for seed in range(first, first + files):
        case = make_case(seed)
        outcome = read_case(case)
        counts["frames"] += outcome.frames
        counts["errors"] += outcome.errors
        counts[case.undetectable or "detectable"] += 1
        native = make_native_case(seed)
        counts[native.undetectable or "detectable, native"] += 1
        for found in (
            find_wrong_frame(case),
            find_wrong_frame(case, prove=False),
            find_wrong_native_frame(native),
        ):
            if found:
                wrong += 1
                print(f"seed {seed}: {found}", file=sys.stderr)
    print(f"{files} files from seed {first}, {wrong} wrong frames, {dict(counts)}")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
