"""The scan of one file's bytes, whatever they are, to a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mmindex.attributes import AttributeSet
from mmindex.errors import MMIndexError, NotDicomError, is_missing
from mmindex.model import (
    Buffer,
    Fingerprint,
    InstanceRecord,
    Status,
    is_url,
)
from mmindex.scan.header import scan_header
from mmindex.scan.instance import make_record, scan_frames
from mmindex.scan.known_runs import KnownRuns
from mmindex.sources.base import FoundFile
from mmindex.sources.file import READ_WHOLE
from mmindex.update.attribute_values import decode_attributes, wanted_tags
from mmindex.update.long_inflations import taking_turns

READ_HERE = 1 << 25  # bytes up to which a file is read whole where none may be mapped
READ_HEADER = 1 << 20  # those up to which it is read whole for its header


class ScanOptions(NamedTuple):
    """The options that a build passes to every scan.

    `may_map` is for processes that only scan: a file that is cut while its map is read ends the
    process.
    """

    force: bool = False
    prove: bool = True
    containers: bool = True
    ignore_inode: bool = False
    attributes: AttributeSet | None = None
    header_only: bool = False
    may_map: bool = False

    @property
    def read_whole(self) -> int:
        """Bytes up to which a file is read whole."""
        if self.may_map:
            return READ_WHOLE
        return READ_HEADER if self.header_only else READ_HERE

    def version(self, fingerprint: Fingerprint) -> Fingerprint:
        """Return what the index keeps of a file's fingerprint."""
        return fingerprint.without_inode() if self.ignore_inode else fingerprint

    def versions(self, files: Iterable[FoundFile]) -> list[Fingerprint]:
        """Return what the index keeps of the fingerprints of files."""
        found = [file.fingerprint for file in files]
        return [each.without_inode() for each in found] if self.ignore_inode else found


def decide_prove(prove: bool | None, root: object) -> bool:
    """Return whether to look at every entry of offset tables; None is for a folder's files.

    To prove the table of an object costs all of its bytes.
    """
    return not is_url(root) if prove is None else prove


def scan_buffer(
    buffer: Buffer, options: ScanOptions, known_runs: KnownRuns, at: int = 0
) -> InstanceRecord:
    """Return the record of a file; one that cannot be read has its reason in it.

    Parameters
    ----------
    at : int
        Offset of the buffer in what errors name, in bytes.
    """
    with taking_turns() as begin_long:
        return _scan_buffer(buffer, options, known_runs, at, begin_long)


def _scan_buffer(
    buffer: Buffer,
    options: ScanOptions,
    known_runs: KnownRuns,
    at: int,
    begin_long: Callable[[], object],
) -> InstanceRecord:
    try:
        header = scan_header(
            buffer,
            force=options.force,
            known_runs=known_runs,
            also=wanted_tags(options.attributes),
            begin_long=begin_long,
        )
    except NotDicomError as error:
        reason = _describe(error, at)
        return InstanceRecord(Status.NOT_DICOM, reason=reason, error=type(error).__name__)
    except MMIndexError as error:
        return unreadable(type(error).__name__, _describe(error, at))
    if options.attributes is not None:
        header.carried_values = decode_attributes(header, options.attributes)
    try:
        if options.header_only:
            return make_record(header, Status.NO_PIXEL_DATA)
        return scan_frames(header, prove=options.prove, with_positions=True)
    except MMIndexError as error:
        reason = _describe(error, at)
        return make_record(header, Status.UNREADABLE, reason=reason, error=type(error).__name__)


def unreadable(error: str, reason: str) -> InstanceRecord:
    """Return the record of a file of which nothing else is known."""
    return InstanceRecord(Status.UNREADABLE, reason=reason, error=error)


def explain_failure(error: Exception, what: str) -> InstanceRecord:
    """Return the record of a file whose scan failed: the line that a build draws around one file.

    Parameters
    ----------
    error : Exception
        What ended the scan: a bug, too, costs that file alone, and is reported.
    what : str
        What was read: "file" or "container".
    """
    if not isinstance(error, OSError):
        return unreadable("FormatError", f"{type(error).__name__}: {error}")
    if is_missing(error):
        return unreadable("MissingFileError", f"the {what} is gone")
    return unreadable("FormatError", f"cannot read the {what}: {error.strerror}")


def _describe(error: MMIndexError, at: int) -> str:
    if error.offset is not None:
        error.offset += at
    return str(error)
