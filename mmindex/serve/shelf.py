"""Shelf: what is served, an archive or one file, with instances kept open between requests.

UIDs lead to records and records to files; nothing of a request is ever part of a path.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from time import monotonic

import mmindex
from mmindex import Archive, Instance, InstanceRecord
from mmindex.attributes import Json
from mmindex.errors import InstanceNotFoundError, MissingFileError, MMIndexError, StaleIndexError
from mmindex.index.databases import AttributesKind
from mmindex.index.instance_names import UidWithin
from mmindex.model import INDEX_NAME, is_url
from mmindex.read.files_root import find_index_url
from mmindex.serve.current import CurrentArchive, reading_again
from mmindex.serve.held import Held, Uids
from mmindex.serve.one_file import OneFile, is_dicom_file, is_member, open_object

Version = tuple[int, int, int]


class Shelf:
    """The archive or the file that is served.

    Parameters
    ----------
    source : Archive, path or URL
        An archive, its folder, bucket or index; or one DICOM file, which is scanned.
    archive_root : path or URL, optional
        Where the files of an index are, as for `mmindex.open`.
    most_open : int
        How many instances are kept open.
    revalidate_after : float
        Seconds after which the index and a file are looked at again.

    Raises
    ------
    MissingFileError, IndexFormatError, FormatError, RemoteReadError
        There is nothing at the source that can be read.
    """

    def __init__(
        self,
        source: Archive | str | os.PathLike[str],
        *,
        archive_root: str | os.PathLike[str] | None = None,
        most_open: int = 256,
        revalidate_after: float = 1.0,
    ) -> None:
        self._given: Archive | None = None
        self._current: CurrentArchive | None = None
        self._file: OneFile | None = None
        if isinstance(source, Archive):
            self._given = source
        else:
            opened = _open(source, archive_root, revalidate_after)
            if isinstance(opened, OneFile):
                self._file = opened
            else:
                self._current = CurrentArchive(opened, find_index_url(source))
        self._most_open = most_open
        self._revalidate_after = revalidate_after
        self._held: OrderedDict[Uids, Held] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def _archive(self) -> Archive:
        """The archive that was given, or that of the index at the path now."""
        if self._current is not None:
            return self._current.get()
        assert self._given is not None
        return self._given

    def held(self, uids: Uids) -> Held | None:
        """Return an instance that is open and was looked at lately; waits for nothing."""
        held = self._held.get(uids)
        if held is None or monotonic() >= held.due:
            return None
        return held if self._current is None or held.archive is self._current.latest else None

    def open(self, uids: Uids) -> Held:
        """Return the instance of these UIDs as the index has it now, open.

        Of several files with these UIDs, the one that changed last is opened. A file with the same
        SOP Instance UID in another study or series is another instance, maybe of another patient.

        Raises
        ------
        InstanceNotFoundError
            There is none in this study and series.
        StaleIndexError, MissingFileError, FormatError
            The file changed after it was indexed, is gone, or cannot be read.
        """
        held = self.held(uids)
        if held is not None:
            return held
        due = monotonic() + self._revalidate_after
        try:
            archive, instance = self._open_instance(uids)
        except (MMIndexError, OSError):
            with self._lock:
                self._held.pop(uids, None)
            raise
        kept = self._held.get(uids)
        if (
            kept is not None
            and kept.archive is archive
            and (kept.record, kept.version) == (instance.record, instance.file_version)
        ):
            kept.due = due
            return kept
        held = Held(instance, due, archive)
        with self._lock:
            self._held[uids] = held
            self._held.move_to_end(uids)
            while len(self._held) > self._most_open:
                self._held.popitem(last=False)
        return held

    @reading_again
    def _open_instance(self, uids: Uids) -> tuple[Archive | None, Instance]:
        if self._file is not None:
            instance = self._file.get()
            if Uids.of(instance.record) == uids:
                return None, instance
            raise _not_found(uids)
        archive = self._archive
        # One look-up: between two, a build may put another patient's file at the path.
        return archive, archive[UidWithin(uids.instance, uids.study, uids.series)]

    @reading_again
    def study_uids(self) -> list[str]:
        """Return the Study Instance UIDs in the order in which they are listed."""
        if self._file is not None:
            return [self._file.get().record.study_instance_uid]
        return list(self._archive.study_uids())

    def walk_study(self, uid: str) -> Iterator[InstanceRecord]:
        """Yield the record of every instance of a study."""
        if self._file is not None:
            record = self._file.get().record
            found = iter((record,) if record.study_instance_uid == uid else ())
        else:
            found = self._archive.records(study_instance_uid=uid)
        for record in found:
            if record.status.is_instance and record.sop_instance_uid:
                yield record

    @reading_again
    def state(self, uid: str) -> tuple[int, ...]:
        """Return what changes when a file of a study does."""
        if self._file is not None:
            fingerprint = self._file.get().record.fingerprint
            return () if fingerprint is None else fingerprint
        number = 0 if self._current is None else self._current.number  # ids are those of an index
        return number, *self._archive.file_ids(uid)

    @reading_again
    def attributes(self, kind: AttributesKind, uid: str) -> Json | None:
        """Return what the index keeps of a study or series; None where that is not known."""
        return None if self._file is not None else self._archive.attributes_json(kind, uid)

    @reading_again
    def kept_tags(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the tags that the index keeps of studies and of series, as DICOM JSON has them."""
        kept = None if self._file is not None else self._archive.kept_attributes()
        of_studies, of_series = ((), ()) if kept is None else kept.levels
        return frozenset(map("{:08X}".format, of_studies)), frozenset(
            map("{:08X}".format, of_series)
        )

    def version(self) -> Version:
        """Return what changes when a build commits.

        That costs two `stat`; now and then a question to the server of an index at a URL.
        """
        if self._file is not None:
            fingerprint = self._file.get().record.fingerprint
            return (0, 0, 0) if fingerprint is None else fingerprint[:3]
        try:
            status = os.stat(self._archive.path)
        except FileNotFoundError:
            raise StaleIndexError("the index is gone; rebuild the archive") from None
        return status.st_size, status.st_mtime_ns, status.st_ino

    def close(self) -> None:
        """Let go of the instances that are kept open."""
        with self._lock:
            self._held.clear()


def _open(
    source: str | os.PathLike[str],
    archive_root: str | os.PathLike[str] | None,
    revalidate_after: float,
) -> Archive | OneFile:
    is_object = isinstance(source, str) and is_url(source) and not source.endswith(INDEX_NAME)
    if isinstance(source, str) and is_object and source.lower().endswith((".dcm", ".dicom")):
        return OneFile(source)
    if not is_url(source) and (is_dicom_file(source) or is_member(source)):
        return OneFile(os.path.abspath(source))
    try:
        return mmindex.open(source, archive_root=archive_root, revalidate_after=revalidate_after)
    except MissingFileError:
        if not isinstance(source, str) or not is_object or archive_root is not None:
            raise
    return open_object(source)


def _not_found(uids: Uids) -> InstanceNotFoundError:
    return InstanceNotFoundError(f"the study and series have no SOP Instance UID {uids.instance!r}")
