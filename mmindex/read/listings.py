"""Lists the files, instances, series and studies of an index. Opens no file of the archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmindex.errors import InstanceNotFoundError
from mmindex.index.databases import UidKind
from mmindex.model import InstanceRecord
from mmindex.read.kept_attributes import KeptAttributes, read_named

if TYPE_CHECKING:
    from mmindex.index.listing import ListedFile
    from mmindex.index.store import Store
    from mmindex.read.statistics import Statistics

Progress = Callable[[int, int], None]  # of the number of files done and of all files

_NAMES: dict[UidKind, str] = {"studies": "Study", "series": "Series"}


@dataclass(frozen=True, slots=True)
class Study:
    """A study (PS3.3 A.1.2), counted from the index.

    Attributes
    ----------
    modalities : tuple of str
        (0008,0060) Modality of its series, sorted, each once.
    number_of_series, number_of_instances, number_of_frames : int
        Different Series and SOP Instance UIDs, with frames or without; and the frames that can be
        read. Of several files with one SOP Instance UID, the frames of the one that is served.
    bytes : int
        Size of all its files.
    attributes : dict of str to value
        What the index keeps of it, by keyword; see `Archive.attributes`. Empty where it keeps none.
    """

    study_instance_uid: str
    modalities: tuple[str, ...]
    number_of_series: int
    number_of_instances: int
    number_of_frames: int
    bytes: int
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Series:
    """A series (PS3.3 A.1.2), or the part of one that is in one study, counted from the index.

    Attributes
    ----------
    modality : str
        (0008,0060); of several, the first in the order of the alphabet.
    number_of_instances, number_of_frames, bytes : int
        As in `Study`.
    sop_class_uids : tuple of str
        The SOP Class UIDs of its instances, sorted, each once.
    attributes : dict of str to value
        As in `Study`.
    """

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    number_of_instances: int
    number_of_frames: int
    sop_class_uids: tuple[str, ...]
    bytes: int
    attributes: dict[str, Any] = field(default_factory=dict, hash=False)


class _Tally:
    """Counts of files that belong together, one record added after the other."""

    def __init__(self) -> None:
        self.series: set[str] = set()
        self.modalities: set[str] = set()
        self.sop_classes: set[str] = set()
        self.bytes = 0
        self._served: dict[str, tuple[tuple[bool, int, bytes], int]] = {}  # newness, frames
        self._without_uid = self._frames_without_uid = 0

    def add(self, record: InstanceRecord) -> None:
        self.series.add(record.series_instance_uid)
        self.modalities.add(record.modality)
        self.sop_classes.add(record.sop_class_uid)
        self.bytes += record.size
        has_frames = record.status.has_frames
        frames = record.number_of_frames if has_frames else 0
        uid = record.sop_instance_uid
        if not uid:
            self._without_uid += 1
            self._frames_without_uid += frames
            return
        served = self._served.get(uid)
        newness = has_frames, *record.newness
        if served is None or newness > served[0]:
            self._served[uid] = newness, frames

    @property
    def instances(self) -> int:
        return len(self._served) + self._without_uid

    @property
    def frames(self) -> int:
        return sum(served[1] for served in self._served.values()) + self._frames_without_uid


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
        records = [record for kind in kinds for record in self._walk(kind, sop_instance_uid)]
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
        for uid in self._store.iterate_uids("studies"):
            tally = _Tally()
            for record in self._walk("studies", uid):
                tally.add(record)
            if tally.instances:  # a build may have taken the last one away
                yield Study(
                    study_instance_uid=uid,
                    modalities=tuple(sorted(tally.modalities - {""})),
                    number_of_series=len(tally.series - {""}),
                    number_of_instances=tally.instances,
                    number_of_frames=tally.frames,
                    bytes=tally.bytes,
                    attributes=read_named(self._store, "studies", uid),
                )

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
        return _count_series(self._store, self._walk("studies", study_instance_uid))

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
        for uid in self._store.iterate_uids("series"):
            yield from _count_series(self._store, self._walk("series", uid))

    def _walk(self, kind: UidKind, uid: str) -> Iterator[InstanceRecord]:
        return self._store.iterate_uid(kind, uid)

    def _require(self, kind: UidKind, uid: str) -> None:
        """Raise InstanceNotFoundError unless a file has this UID of a study or series."""
        if not self._store.read_records(kind, uid, most=1):
            raise InstanceNotFoundError(
                f"the index has no {_NAMES[kind]} Instance UID {uid!r}", path=self._store.path
            )


def _count_series(store: Store, records: Iterator[InstanceRecord]) -> Iterator[Series]:
    """Yield the series that records are of, in the order of their UIDs, then of their studies."""
    tallies: dict[tuple[str, str], _Tally] = {}
    for record in records:
        key = record.series_instance_uid, record.study_instance_uid
        if record.series_instance_uid:
            tallies.setdefault(key, _Tally()).add(record)
    for (series, study), tally in sorted(tallies.items()):
        yield Series(
            study_instance_uid=study,
            series_instance_uid=series,
            modality=min(tally.modalities - {""}, default=""),
            number_of_instances=tally.instances,
            number_of_frames=tally.frames,
            sop_class_uids=tuple(sorted(tally.sop_classes - {""})),
            bytes=tally.bytes,
            attributes=read_named(store, "series", series),
        )
