"""Catalogue: the studies, series and instances of a shelf, as its records say; opens no file.

A study is listed when a request asks for it, and again when one of its files changed: an archive of
any size costs the memory of the studies used last. Of two files with one SOP Instance UID, the one
that was changed last is listed, as `Archive` reads it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from sys import intern
from time import monotonic
from typing import NamedTuple

from mmindex import InstanceRecord
from mmindex.serve.shelf import Shelf, Version

_MOST_ROWS = 50_000  # of the studies that are kept


class Row(NamedTuple):
    """One instance of a list."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    number_of_frames: int
    instance_number: int | None
    changed: int


@dataclass(slots=True)
class Series:
    """A series and its instances by SOP Instance UID."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str = ""
    rows: dict[str, Row] = field(default_factory=dict)


@dataclass(slots=True)
class Study:
    """A study and its series by Series Instance UID."""

    study_instance_uid: str
    series: dict[str, Series] = field(default_factory=dict)

    @property
    def modalities(self) -> list[str]:
        """(0008,0061) Modalities in Study."""
        return sorted({series.modality for series in self.series.values() if series.modality})

    @property
    def number_of_instances(self) -> int:
        """(0020,1208) Number of Study Related Instances."""
        return sum(len(series.rows) for series in self.series.values())


class _Listed(NamedTuple):
    """A study as it was listed.

    Attributes
    ----------
    state : tuple of int
        What changes when a file of it does.
    version : Version
        The index for which this was looked at.
    """

    study: Study
    state: tuple[int, ...]
    version: Version


class _Counted(NamedTuple):
    """How many instances a study had when it was listed."""

    number_of_instances: int
    state_hash: int
    version: Version


class Catalogue:
    """The studies of a shelf, looked at again when the index changed; threads call its methods."""

    def __init__(self, shelf: Shelf, revalidate_after: float = 1.0) -> None:
        self._shelf = shelf
        self._revalidate_after = revalidate_after
        self._version: Version | None = None
        self._due = 0.0
        self._uids: Sequence[str] = ()
        self._listed: OrderedDict[str, _Listed] = OrderedDict()
        self._rows = 0
        self._counts: dict[str, _Counted] = {}
        self._lock = threading.Lock()

    def study_uids(self) -> Sequence[str]:
        """Return the Study Instance UIDs in their order, not to be changed.

        Raises
        ------
        StaleIndexError, IndexFormatError
            The index is gone, or damaged.
        """
        self._look()
        return self._uids

    def study(self, uid: str) -> Study | None:
        """Return a study, not to be changed; None where there is none. Raises as `study_uids`."""
        version = self._look()
        known = self._listed.get(uid)
        if known is not None and known.version == version:
            return known.study
        state = self._shelf.state(uid)
        if known is None or known.state != state:
            study = self._list(uid)
            if not study.series:
                return None
            known = _Listed(study, state, version)
        self._keep(uid, known._replace(version=version))
        return known.study

    def count(self, uid: str) -> int:
        """Return the number of instances of a study: fast where it was listed before."""
        version = self._look()
        known = self._counts.get(uid)
        if known is not None and known.version != version:
            known = known._replace(version=version)
            if known.state_hash == hash(self._shelf.state(uid)):
                self._counts[uid] = known
            else:
                known = None
        if known is not None:
            return known.number_of_instances
        study = self.study(uid)
        return 0 if study is None else study.number_of_instances

    def _look(self) -> Version:
        """Return the version of the index, whose studies are then listed."""
        version = self._version
        if version is not None and monotonic() < self._due:
            return version
        with self._lock:
            if self._version is None or monotonic() >= self._due:
                version = self._shelf.version()
                if version != self._version:
                    self._uids = self._shelf.study_uids()
                    there = set(self._uids)
                    for uid in [uid for uid in self._counts if uid not in there]:
                        del self._counts[uid]
                    self._version = version
                self._due = monotonic() + self._revalidate_after
            assert self._version is not None
            return self._version

    def _keep(self, uid: str, listed: _Listed) -> None:
        with self._lock:
            before = self._listed.pop(uid, None)
            if before is not None:
                self._rows -= before.study.number_of_instances
            self._listed[uid] = listed
            number = listed.study.number_of_instances
            self._counts[uid] = _Counted(number, hash(listed.state), listed.version)
            self._rows += number
            while self._rows > _MOST_ROWS and len(self._listed) > 1:
                _, oldest = self._listed.popitem(last=False)
                self._rows -= oldest.study.number_of_instances

    def _list(self, uid: str) -> Study:
        study = Study(uid)
        for record in self._shelf.walk_study(uid):
            if record.study_instance_uid != uid:
                continue
            of_series = record.series_instance_uid
            series = study.series.get(of_series)
            if series is None:
                series = study.series[of_series] = Series(uid, of_series)
            series.modality = series.modality or record.modality
            row = _make_row(record)
            known = series.rows.get(row.sop_instance_uid)
            if known is None or known.changed <= row.changed:
                series.rows[row.sop_instance_uid] = row
        return study


def _make_row(record: InstanceRecord) -> Row:
    pixel = record.image_pixel
    return Row(
        record.sop_instance_uid,
        intern(record.sop_class_uid),
        intern(record.transfer_syntax_uid),
        pixel.rows,
        pixel.columns,
        pixel.bits_allocated,
        record.number_of_frames,
        record.image_numbers.instance_number,
        record.fingerprint.mtime_ns if record.fingerprint else 0,
    )
