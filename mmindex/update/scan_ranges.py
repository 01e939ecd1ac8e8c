"""The scan of a long file, or of an object, by ranges: only what the scan looks at is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mmindex.model import Fingerprint, InstanceRecord, Member
from mmindex.sources.base import ByteSource
from mmindex.sources.container import is_plain_container
from mmindex.sources.file import Descriptor, FileSource
from mmindex.update.scan_buffer import ScanOptions

if TYPE_CHECKING:
    from mmindex.sources.remote_scan import Scan


def scan_by_ranges(
    source: ByteSource, scan: Scan, options: ScanOptions, member: Member | None = None
) -> InstanceRecord:
    """Return the record that `scan` makes of a source, or of a stored member of a container.

    Raises
    ------
    MMIndexError
        As `scan_remote`.
    """
    from mmindex.sources.remote_scan import scan_remote  # numpy, which short files do not need

    return scan_remote(
        source,
        scan,
        force=options.force,
        prove=options.prove,
        within=None if member is None else (member.offset, member.length),
        is_enough=is_plain_container,
    )


def open_descriptor(number: int, version: Fingerprint) -> FileSource:
    """Return the bytes of an open file, which the source keeps open for itself."""
    return FileSource(Descriptor(os.dup(number)), None, version, 0.0, by_path=False)
