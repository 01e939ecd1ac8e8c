"""Workers scan objects of a bucket by ranges, and return packed records.

An object is scanned as the listing has it, or as it is by now where it changed since. What a store
did not answer is no record of the object: it has the version of none, so that the next build looks
again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from time import perf_counter_ns

from mmindex.errors import (
    FormatError,
    MissingFileError,
    MMIndexError,
    RemoteReadError,
    StaleIndexError,
)
from mmindex.index.record import pack_record
from mmindex.model import InstanceRecord, Member
from mmindex.scan.known_runs import KnownRuns
from mmindex.sources.base import ByteSource, FoundFile
from mmindex.sources.bucket import Bucket
from mmindex.sources.container import place_in_container
from mmindex.sources.member import STORED, check_lengths, inflate_head
from mmindex.sources.remote_scan import Scan
from mmindex.sources.requests import claim_process
from mmindex.sources.tar import BLOCK
from mmindex.update.scan_buffer import ScanOptions, explain_failure, unreadable
from mmindex.update.scan_file import SCANNED_TOGETHER, UNKNOWN, Target, scan_content
from mmindex.update.scan_members import (
    HEAD,
    MemberTarget,
    is_other_file,
    pack_refused,
    scan_inflated,
    scan_member_content,
)
from mmindex.update.scan_ranges import scan_by_ranges

_SHORT = 1 << 18  # deflated bytes that are read without a look at their beginning


def scan_objects(
    bucket: Bucket, targets: Sequence[Target], options: ScanOptions, threads: int
) -> list[bytes]:
    """Return the packed records of objects and of files in containers, by at most `threads`.

    Raises
    ------
    RemoteReadError
        This process was forked from one that uses obstore, and can read nothing.
    """
    claim_process()
    if len(targets) <= SCANNED_TOGETHER:
        return _scan_some(bucket, options, targets)
    groups = [
        targets[at : at + SCANNED_TOGETHER] for at in range(0, len(targets), SCANNED_TOGETHER)
    ]
    with ThreadPoolExecutor(min(threads, len(groups))) as pool:
        return list(chain.from_iterable(pool.map(partial(_scan_some, bucket, options), groups)))


def _scan_some(bucket: Bucket, options: ScanOptions, targets: Sequence[Target]) -> list[bytes]:
    known_runs = KnownRuns()
    return [_scan(bucket, target, options, known_runs) for target in targets]


def _scan(bucket: Bucket, target: Target, options: ScanOptions, known_runs: KnownRuns) -> bytes:
    """Return the packed record of a target; one that can't be read has its reason in it."""
    started = perf_counter_ns()
    if isinstance(target, MemberTarget):
        if target.member.reason:
            return pack_refused(target)
        path, version, member = target.container, target.fingerprint, target.member.as_member()
    elif isinstance(target, FoundFile):
        path, version, member = target.path, target.fingerprint, None
    else:
        raise TypeError(f"expected an object and its version, found {target!r}")
    try:
        source: ByteSource = bucket.open(path, version)
        if member is not None:
            record = _scan_member(source, member, options, known_runs)
        else:
            try:
                record = _scan_object(source, options, known_runs)
            except (StaleIndexError, RemoteReadError):
                listed, source = version, bucket.open(path)
                version = source.version or version
                if version.is_same(listed):
                    raise
                record = _scan_object(source, options, known_runs)
    except Exception as error:  # the line around one object
        record, version = _explain(error), UNKNOWN
    if member is not None:
        record = place_in_container(record, member)
    return pack_record(record, path, version, (perf_counter_ns() - started) // 1000)


def _scan_object(source: ByteSource, options: ScanOptions, known_runs: KnownRuns) -> InstanceRecord:
    scan = partial(scan_content, options=options, known_runs=known_runs)
    return scan_by_ranges(source, scan, options)


def _scan_member(
    source: ByteSource, member: Member, options: ScanOptions, known_runs: KnownRuns
) -> InstanceRecord:
    """Return the record of a file in a container, whose offsets count in that file."""
    scan = partial(scan_member_content, options=options, known_runs=known_runs)
    try:
        if member.method == STORED:
            return scan_by_ranges(source, partial(scan, at=member.offset), options, member)
        return _scan_deflated(source, member, options, partial(scan, at=0))
    except FormatError as error:
        return unreadable(type(error).__name__, str(error))


def _scan_deflated(
    source: ByteSource, member: Member, options: ScanOptions, scan: Scan
) -> InstanceRecord:
    check_lengths(member)
    if member.compressed_length > _SHORT:
        head = inflate_head(source.read(member.offset, HEAD), BLOCK)
        if is_other_file(head, options):
            return scan(head)
    return scan_inflated(member, source.read, scan)


def _explain(error: Exception) -> InstanceRecord:
    """Return the record of an object that could not be scanned.

    One that is missing may be there all the same: a key that begins with a slash is listed without.
    """
    if isinstance(error, MissingFileError):
        return unreadable("RemoteReadError", "the object is gone, or has a key that is not read")
    if isinstance(error, MMIndexError):
        error.path = None  # the record has it
        return unreadable(type(error).__name__, str(error))
    return explain_failure(error, "object")
