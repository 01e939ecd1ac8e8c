"""What `scripts/fuzz` runs: targets for atheris, and the seeds that they begin with."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mmindex"]):
    import mmindex
    from mmindex.errors import MMIndexError
    from mmindex.index.record import pack_record, unpack_record
    from mmindex.scan import boundaries, encapsulated  # imported here to be instrumented
    from mmindex.scan.instance import scan

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


def make_seeds(folder: Path) -> None:
    """Write small DICOM files, and their packed records, for the targets to begin with."""
    import pydicom.data

    files = Path(pydicom.data.__file__).parent / "test_files"
    for name in ("scan", "record"):
        (folder / name).mkdir(exist_ok=True)
    for path in sorted(files.glob("*.dcm")):
        data = path.read_bytes()
        if len(data) > 1 << 16:
            continue
        (folder / "scan" / path.name).write_bytes(data)
        try:
            record = scan(data, force=True)
        except MMIndexError:
            continue
        (folder / "record" / path.name).write_bytes(pack_record(record))


def main() -> None:
    """Run one target until its time is over, or write the seeds."""
    if sys.argv[1] == "seed":
        make_seeds(Path(sys.argv[2]))
        return
    warnings.simplefilter("error")
    target = {"scan": fuzz_scan, "record": fuzz_record}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
