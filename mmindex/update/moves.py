"""An archive that was moved or copied: its index is taken over, and its records are renewed.

A file with the size and the modification time that the index knows is the same file. Its record
gets the version that the file has now; nothing is scanned: a file that changed under the size and
time that it had is not noticed. A copy that brought its index is found by the inode of that, and
by those of its files, all of which are others; some are scanned, to be sure.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from mmindex.errors import IndexWriteError, MissingFileError
from mmindex.index.carried_values import take_values
from mmindex.index.names import is_url_root
from mmindex.index.record import status_of_packed, unpack_keys, unpack_record, unpack_version
from mmindex.index.record_parts import replace_version
from mmindex.index.store import Store
from mmindex.model import Fingerprint, Status, VersionKind
from mmindex.sources.member import FoundMember
from mmindex.update.commits import Commits
from mmindex.update.met import Met, is_same_but_inode
from mmindex.update.report import BuildReport
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.scan_file import Target
from mmindex.update.scan_members import MemberTarget

if TYPE_CHECKING:
    from mmindex.update.archive_root import ArchiveRoot

_SAMPLE = 256  # known files that show whether a folder is where the archive was moved to
_SCANNED = 32  # of these, files that show whether a copy holds what the index knows
_SCAN_TIME = slice(111, 115)  # of a packed record; see record.py


def refuse_move_of_url(
    root: bytes, *, ignore_inode: bool | None, moved_from: str | os.PathLike[str] | None
) -> None:
    """Raise ValueError where the archive is a bucket, whose objects have no inodes."""
    if is_url_root(root) and (ignore_inode or moved_from is not None):
        raise ValueError("ignore_inode and moved_from are for a folder: the root is a URL")


def require_index(index: str, moved_from: str | os.PathLike[str] | None) -> None:
    """Raise MissingFileError where the index of an archive that was moved is not there."""
    if moved_from is not None and not os.path.exists(index):
        raise MissingFileError(
            f"there is no index of {os.fsdecode(moved_from)} to take over: copy the index here or "
            "name it with --index (index=...), or build without --moved-from (moved_from=...)",
            path=index,
        )


def check_move(store: Store, root: bytes, moved_from: str | os.PathLike[str]) -> None:
    """Raise IndexWriteError unless the index is that of the archive, and its files are in `root`.

    An index inside of its archive does not know where the archive was.
    """
    old = os.path.join(os.getcwdb(), os.fsencode(moved_from))
    is_known = store.root in (os.path.normpath(old), os.path.realpath(old))
    if (
        not is_known
        and not store.is_inside
        and os.path.realpath(store.root) != os.path.realpath(root)
    ):
        raise IndexWriteError(
            f"the index is that of {os.fsdecode(store.root)}, not of {os.fsdecode(old)}: give "
            "--moved-from (moved_from=...) that folder, or another index",
            path=store.path,
        )
    looked_at, present = _count_present(store, root)
    if 2 * present < looked_at:
        raise IndexWriteError(
            f"expected the files of {os.fsdecode(old)} in {os.fsdecode(root)}, with the sizes and "
            f"modification times that they had; found {present} of {looked_at} that were looked "
            "for: is it the right folder, mounted, and did the copy keep times, as cp -a and "
            "rsync -a do? A new index scans all: give another --index (index=...)",
            path=store.path,
        )


def _count_present(store: Store, root: bytes) -> tuple[int, int]:
    """Return how many known files were looked for, and how many are in a folder unchanged."""
    looked_at = present = 0
    for record in islice(store.iterate_records(), _SAMPLE):  # by digests of paths: from anywhere
        if record.fingerprint is None:
            continue
        looked_at += 1
        try:
            found = Fingerprint.of(os.stat(os.path.join(root, record.path)))
        except OSError:
            continue
        present += is_same_but_inode(record.fingerprint, found)
    return looked_at, present


def is_copy(store: Store, archive: ArchiveRoot, options: ScanOptions) -> bool:
    """Return whether an archive is a copy of the one that its index was built of.

    The index lies in it, and is another file than its last build wrote; no file has the inode that
    the index knows, and those that are scanned are what the index says. An archive that was
    rewritten in place, under the times it had, is none; nor is a copy of which an update, or a
    build that was interrupted, has renewed files.
    """
    if not (store.is_inside and store.is_copied()):
        return False
    targets: list[Target] = []
    known: list[bytes] = []
    for packed in islice(store.iterate_packed(), _SAMPLE):
        record = unpack_record(packed)
        if record.fingerprint is None or record.fingerprint.kind != VersionKind.LOCAL:
            return False
        found = archive.files.find(record.path)
        if found is None:
            continue
        version = found.fingerprint
        if version.inode == record.fingerprint.inode:
            return False
        is_same = is_same_but_inode(record.fingerprint, version) and record.status.is_instance
        if is_same and len(known) < _SCANNED:
            known.append(replace_version(packed, version))
            if record.member is None:
                targets.append(archive.target(found))
            else:
                targets.append(MemberTarget(found.path, version, FoundMember(*record.member)))
    return bool(known) and all(
        _is_known(store, one, other)
        for one, other in zip(known, archive.scan(targets, options), strict=True)
    )


def _is_known(store: Store, known: bytes, scanned: bytes) -> bool:
    """Return whether a file is what the index says, with the attributes that are kept of it."""
    scanned, carried = take_values(scanned)
    if _without_time(known) != _without_time(scanned):
        return False
    if carried is None:
        return True
    keys = unpack_keys(known)
    of_study = store.read_attributes("studies", keys.study_instance_uid.decode("latin-1"))
    of_series = store.read_attributes("series", keys.series_instance_uid.decode("latin-1"))
    return all(
        kept is None or kept.path != keys.location or kept.values == values
        for kept, values in zip((of_study, of_series), carried, strict=True)
    )


def _without_time(packed: bytes) -> bytes:
    return packed[: _SCAN_TIME.start] + packed[_SCAN_TIME.stop :]


class Renewal:
    """Gives records of unchanged files the versions that these have now.

    Parameters
    ----------
    store : Store
        The index, open to be written.
    report : BuildReport
        Counts the files in containers.
    commits : Commits
        Takes the records.
    met : Met, optional
        The known files that are met.
    """

    def __init__(
        self, store: Store, report: BuildReport, commits: Commits, met: Met | None = None
    ) -> None:
        self.met = met or Met()
        self._store = store
        self._report = report
        self._commits = commits

    def write(self) -> None:
        """Write the records that `met.renewed` has; those in a container before the container's.

        An interrupted renewal goes on in the next one.
        """
        renewed, self.met.renewed = self.met.renewed, []
        for file_id, version in renewed:
            packed = self._store.read_packed(file_id)
            if packed is None:
                continue
            if status_of_packed(packed) is Status.CONTAINER:
                self._renew_members(unpack_keys(packed).path, version)
            self._commits.renew(replace_version(packed, version))

    def _renew_members(self, container: bytes, version: Fingerprint) -> None:
        """Renew the files in a container, but for those of another container at its path."""
        for file_id in self._store.find_members(container):
            packed = self._store.read_packed(file_id)
            if packed is None or not is_same_but_inode(unpack_version(packed), version):
                continue
            if file_id < len(self.met.seen):
                self.met.seen[file_id] = 1
                self._report.found += 1
                self._report.unchanged += 1
            if unpack_version(packed) != version:
                self._commits.renew(replace_version(packed, version))
