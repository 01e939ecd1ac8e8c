"""Studies and series as an index has them: what their records add up to. Opens no file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmindex.model import InstanceRecord
from mmindex.read.kept_attributes import read_named

if TYPE_CHECKING:
    from mmindex.index.reader import Reader


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


def count_study(store: Reader, uid: str) -> Study | None:
    """Return what the files of a study add up to; None where there are none."""
    tally = _Tally()
    for record in store.iterate_uid("studies", uid):
        tally.add(record)
    if not tally.instances:  # a build may have taken the last one away
        return None
    return Study(
        study_instance_uid=uid,
        modalities=tuple(sorted(tally.modalities - {""})),
        number_of_series=len(tally.series - {""}),
        number_of_instances=tally.instances,
        number_of_frames=tally.frames,
        bytes=tally.bytes,
        attributes=read_named(store, "studies", uid),
    )


def count_series(store: Reader, records: Iterator[InstanceRecord]) -> Iterator[Series]:
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
