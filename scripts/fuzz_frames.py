"""Read files with one witness of their frames damaged: the true frame, or an error.

    python scripts/fuzz_frames.py [FILES [FIRST_SEED]]

Seeded and plain: no more than the project and its tests' models are needed. Prints what was read,
then what `prove=False` did not show of files with many frames, and ends with 1 where a frame was
wrong.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from frame_model import FEW, MANY, find_wrong_frame, make_case, read_case
from native_model import find_wrong_native_frame, make_native_case

_MANY_EVERY = 10  # files of many frames take as much longer


def main() -> int:
    """Read every file with and without proof; return how many frames were wrong."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    counts: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    wrong = 0
    for seed in range(first, first + files):
        found = _read_case(seed, FEW, counts)
        if seed % _MANY_EVERY == 0:
            found += _read_case(seed, MANY, counts)
            missed += compare(seed)
        native = make_native_case(seed)
        counts[native.undetectable or "detectable, native"] += 1
        found.append(find_wrong_native_frame(native))
        for what in filter(None, found):
            wrong += 1
            print(f"seed {seed}: {what}", file=sys.stderr)
    print(f"{files} files from seed {first}, {wrong} wrong frames, {dict(counts)}")
    print(f"prove=False beside prove=True, files of {MANY} frames: {dict(missed)}")
    return wrong


def _read_case(seed: int, frames: tuple[int, ...], counts: Counter[str]) -> list[str]:
    """Read a file; return which frames are wrong, with proof and without."""
    case = make_case(seed, frames)
    outcome = read_case(case)
    counts["frames"] += outcome.frames
    counts["errors"] += outcome.errors
    counts[case.undetectable or "detectable"] += 1
    return [find_wrong_frame(case), find_wrong_frame(case, prove=False)]


def compare(seed: int) -> Counter[str]:
    """Return what reading a file of many frames without proof shows less, or loses."""
    case = make_case(seed, MANY)
    proved, trusted = read_case(case), read_case(case, prove=False)
    if not trusted.trusted:
        return Counter({"files whose table is not trusted: as with proof": 1})
    found = Counter({"files": 1, "frames": proved.frames})
    if case.damage != "nothing":
        found["damaged files"] += 1
    if proved.noted and not trusted.noted:
        found["damaged files that open without a sign"] += 1
    found["frames that raise, and do not with proof"] += max(0, trusted.errors - proved.errors)
    if trusted.wrong and not proved.wrong:
        found["files with a frame that is wrong, and is not with proof"] += 1
    if trusted.wrong and proved.wrong:
        found["files with a frame that is wrong with proof, too"] += 1
    return found


if __name__ == "__main__":
    sys.exit(bool(main()))
