"""Lists the files, instances, series and studies of an index. Opens no file of the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mmindex.errors import InstanceNotFoundError
from mmindex.index.databases import UidKind
from mmindex.model import InstanceRecord
from mmindex.read.kept_attributes import KeptAttributes

if TYPE_CHECKING:
    from mmindex.index.listing import ListedFile
    from mmindex.read.statistics import Statistics
    from mmindex.read.studies import Series, Study

Progress = Callable[[int, int], None]  # of the number of files done and of all files

_NAMES: dict[UidKind, str] = {"studies": "Study", "series": "Series"}


class Listings(KeptAttributes):
    """The listings of an index, which `Archive` has as its own."""

    def __len__(self) -> int:
        return self._store.count_uids("instances")

    def __iter__(self) -> Iterator[str]:
        return self._store.iterate_uids("instances")

    def __contains__(self, sop_instance_uid: object) -> bool:
        return isinstance(sop_instance_uid, str) and bool(
            self._store.find_uid("instances", sop_instance_uid)
        )

    def records(
        self, *, study_instance_uid: str | None = None, progress: Progress | None = None
    ) -> Iterator[InstanceRecord]:
        """Return the record of every file, with its status and anomalies; opens no file.

        Parameters
        ----------
        study_instance_uid : str, optional
            Only files of this study, in the order of `file_ids`; none where there is no such study.
        progress : callable, optional
            Called after each record with the number of files done and of all files.
        """
        if study_instance_uid is not None:
            return self._walk("studies", study_instance_uid)
        records = self._store.iterate_records()
        return records if progress is None else self._walk_reporting(records, progress)

    def listed(self) -> Iterator[ListedFile]:
        """Yield what `mmindex ls` lists of every file, a part of its record.

        A `ListedFile` has the record's attributes of the same names. Opens no file.
        """
        return self._store.iterate_listed()

    def study_uids(self) -> Iterator[str]:
        """Yield the Study Instance UIDs of the archive, in the order of their bytes."""
        return self._store.iterate_uids("studies")

    def file_ids(self, study_instance_uid: str) -> list[int]:
        """Return the ids of a study's files, ascending: others where a file changed.

        A file that is indexed again has a new id, and an id's record never changes.
        """
        return self._store.find_uid("studies", study_instance_uid)

    def records_of(self, sop_instance_uid: str) -> list[InstanceRecord]:
        """Return the record of each file with this UID: more than one where it has duplicates.

        Raises
        ------
        InstanceNotFoundError
            No file of the archive has this SOP Instance UID.
        """
        kinds: tuple[UidKind, ...] = ("instances", "others")
        records = [
            record
            for kind in kinds
            for _, record in self._store.read_records(kind, sop_instance_uid)
        ]
        if not records:
            raise InstanceNotFoundError(
                f"the index has no SOP Instance UID {sop_instance_uid!r}", path=self._store.path
            )
        return records

    def instances(
        self, *, study_instance_uid: str | None = None, series_instance_uid: str | None = None
    ) -> Iterator[InstanceRecord]:
        """Return the records of instances with frames: of a study, of a series, of all.

        A series that is in another study than the one given has no instances. Opens no file.

        Raises
        ------
        InstanceNotFoundError
            No file of the archive has this Study or Series Instance UID.
        """
        records = self.records()
        if study_instance_uid is not None:
            self._require("studies", study_instance_uid)
            records = self._walk("studies", study_instance_uid)
        if series_instance_uid is not None:
            self._require("series", series_instance_uid)
            records = self._walk("series", series_instance_uid)
        return (
            record
            for record in records
            if record.status.has_frames and study_instance_uid in (None, record.study_instance_uid)
        )

    def studies(self) -> Iterator[Study]:
        """Yield the studies in the order of their UIDs; each costs a look at its records.

        Files without a Study Instance UID are in no study. Opens no file.
        """
        from mmindex.read.studies import count_study

        for uid in self._store.iterate_uids("studies"):
            if (study := count_study(self._store, uid)) is not None:
                yield study

    def series(self, study_instance_uid: str | None = None) -> Iterator[Series]:
        """Return the series in the order of their UIDs: of a study, or of all.

        Files without a Series Instance UID are in no series. A series that is in several studies
        comes once for each. Opens no file.

        Raises
        ------
        InstanceNotFoundError
            No file of the archive has this Study Instance UID.
        """
        if study_instance_uid is None:
            return self._walk_all_series()
        self._require("studies", study_instance_uid)
        from mmindex.read.studies import count_series

        return count_series(self._store, self._walk("studies", study_instance_uid))

    def duplicates(self) -> Iterator[tuple[str, list[InstanceRecord]]]:
        """Yield each SOP Instance UID that several files have, with their records."""
        return self._store.iterate_duplicates("instances")

    def check_index(self) -> None:
        """Read all of the index; raise IndexFormatError where it is damaged or not whole.

        Other threads of the process wait meanwhile: about a second for 100,000 files.
        """
        self._store.check()

    def statistics(self, *, progress: Progress | None = None) -> Statistics:
        """Count what the archive holds, from its index alone; opens no file.

        Parameters
        ----------
        progress : callable, optional
            Called now and then with the number of files done and of all files.
        """
        from mmindex.read.statistics import count_archive

        return count_archive(self._store, progress)

    def _walk_reporting(
        self, records: Iterator[InstanceRecord], progress: Progress
    ) -> Iterator[InstanceRecord]:
        total = self._store.count_files()
        for done, record in enumerate(records, 1):
            yield record
            progress(done, total)

    def used_bytes(self) -> int:
        """Return the length of the pages of the index in bytes, without the room after them."""
        return self._store.used_bytes()

    def _walk_all_series(self) -> Iterator[Series]:
        from mmindex.read.studies import count_series

        for uid in self._store.iterate_uids("series"):
            yield from count_series(self._store, self._walk("series", uid))

    def _walk(self, kind: UidKind, uid: str) -> Iterator[InstanceRecord]:
        return self._store.iterate_uid(kind, uid)

    def _require(self, kind: UidKind, uid: str) -> None:
        """Raise InstanceNotFoundError unless a file has this UID of a study or series."""
        if not self._store.read_records(kind, uid, most=1):
            raise InstanceNotFoundError(
                f"the index has no {_NAMES[kind]} Instance UID {uid!r}", path=self._store.path
            )
