"""What `scripts/fuzz` runs: targets for atheris, and the seeds that they begin with."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mmindex"]):
    import mmindex
    from mmindex.errors import MMIndexError
    from mmindex.index.record import pack_record, unpack_record
    from mmindex.scan import boundaries, encapsulated  # imported here to be instrumented
    from mmindex.scan.instance import scan, scan_frames, scan_header
    from mmindex.scan.known_runs import KnownRuns

assert boundaries
assert encapsulated


def fuzz_scan(data: bytes) -> None:
    """Scan; what is found has to pack, unpack to itself, and give ranges or an MMIndexError."""
    for force in (False, True):
        try:
            record = scan(data, force=force)
        except MMIndexError:
            continue
        read_frames(data, force)
        if unpack_record(pack_record(record)) != record:
            raise AssertionError("the record does not come back from its packed form")
        read_ranges(record)


def fuzz_record(data: bytes) -> None:
    """Unpack a record; what comes out has to pack again, and give ranges or an error."""
    try:
        record = unpack_record(data)
    except MMIndexError:
        return
    unpack_record(pack_record(record))
    read_ranges(record)


def fuzz_runs(data: bytes) -> None:
    """Scan after another file, which was scanned up to three times: it has to be as it is alone.

    The first byte names that file, and how often.
    """
    known_runs = KnownRuns()
    first = data[0] if data else 0
    for _ in range(1 + first % 3):
        scan_or_error(SEEDS[first // 3 % len(SEEDS)], known_runs)
    if scan_or_error(data[1:], known_runs) != scan_or_error(data[1:], None):
        raise AssertionError("what is known of another file changes what is found")


def scan_or_error(data: bytes, known_runs: KnownRuns | None) -> object:
    """Return the record, or what the error says."""
    try:
        return scan_frames(scan_header(data, known_runs=known_runs))
    except MMIndexError as error:
        return f"{type(error).__name__} {error}"


def read_frames(data: bytes, force: bool) -> None:
    """Read the first and last frames of a file, in each way, and its stream."""
    with mmindex.open_file(io.BytesIO(data), force=force) as instance:
        ways = (instance.frame, instance.view, instance.fragments, instance.byte_ranges)
        for frame_index in {0, 1, len(instance) - 1}:
            for way in ways:
                with contextlib.suppress(MMIndexError):
                    way(frame_index)
        with contextlib.suppress(MMIndexError):
            list(instance.stream())


def read_ranges(record: mmindex.InstanceRecord) -> None:
    """Ask for the first and last frames of a record."""
    if record.frames is None:
        return
    count = record.frames.number_of_frames
    for frame_index in {0, 1, count // 2, count - 1, count}:
        try:
            record.frames.contiguous_range(frame_index)
            record.frames.fragment_ranges(frame_index)
        except MMIndexError:
            continue


def fuzz_requests(data: bytes) -> None:
    """Answer a request; a failure of the server ends the run."""
    if not _REQUESTS:
        with atheris.instrument_imports(include=["mmindex.serve"]):
            from scripts.fuzz_requests import RequestTarget
        _REQUESTS.append(RequestTarget())
    _REQUESTS[0](data)


def load_seeds() -> list[bytes]:
    """Return small DICOM files."""
    import pydicom.data

    files = Path(pydicom.data.__file__).parent / "test_files"
    found = (path.read_bytes() for path in sorted(files.glob("*.dcm")))
    return [data for data in found if len(data) < 1 << 16]


def make_seeds(folder: Path) -> None:
    """Write what the targets begin with: small DICOM files, and their packed records."""
    for target in TARGETS:
        (folder / target).mkdir(exist_ok=True)
    for number, data in enumerate(SEEDS):
        (folder / "scan" / f"{number}").write_bytes(data)
        (folder / "runs" / f"{number}").write_bytes(bytes([3 * number + 2]) + data)
        with contextlib.suppress(MMIndexError):
            packed = pack_record(scan(data, force=True))
            (folder / "record" / f"{number}").write_bytes(packed)
    from scripts.fuzz_requests import SEEDS as REQUESTS

    for number, data in enumerate(REQUESTS):
        (folder / "requests" / f"{number}").write_bytes(data)


def main() -> None:
    """Run one target until its time is over, or write the seeds."""
    if sys.argv[1] == "seed":
        make_seeds(Path(sys.argv[2]))
        return
    if sys.argv[1] != "requests":  # anyio has warnings of its own
        warnings.simplefilter("error")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


TARGETS = {
    "scan": fuzz_scan,
    "runs": fuzz_runs,
    "record": fuzz_record,
    "requests": fuzz_requests,
}
_REQUESTS: list[Callable[[bytes], None]] = []  # the server of `fuzz_requests`, once it is asked
SEEDS = load_seeds()

if __name__ == "__main__":
    main()
