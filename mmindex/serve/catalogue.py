"""Catalogue: the studies, series and instances of a shelf, as its records say; opens no file.

It is made anew when a build has committed. Of two files with one SOP Instance UID, the one that
was changed last is listed, as `Archive` reads it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import NamedTuple

from mmindex import InstanceRecord
from mmindex.serve.shelf import Shelf, Version


class Row(NamedTuple):
    """One instance of a list."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    number_of_frames: int
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


Studies = dict[str, Study]


class Catalogue:
    """The studies of a shelf, looked at again when the index changed."""

    def __init__(self, shelf: Shelf, revalidate_after: float = 1.0) -> None:
        self._shelf = shelf
        self._revalidate_after = revalidate_after
        self._version: Version | None = None
        self._due = 0.0
        self._studies: Studies = {}
        self._lock = threading.Lock()

    def studies(self) -> Studies:
        """Return the studies by UID, not to be changed; a thread calls this.

        Raises
        ------
        StaleIndexError, IndexFormatError
            The index is gone, or damaged.
        """
        if monotonic() < self._due:
            return self._studies
        with self._lock:
            if monotonic() < self._due:
                return self._studies
            version = self._shelf.version()
            if version != self._version:
                self._studies = self._list()
                self._version = version
            self._due = monotonic() + self._revalidate_after
            return self._studies

    def _list(self) -> Studies:
        studies: Studies = {}
        for record in self._shelf.walk():
            uid = record.study_instance_uid
            study = studies.get(uid)
            if study is None:
                study = studies[uid] = Study(uid)
            uid = record.series_instance_uid
            series = study.series.get(uid)
            if series is None:
                series = study.series[uid] = Series(study.study_instance_uid, uid)
            series.modality = series.modality or record.modality
            row = _make_row(record)
            known = series.rows.get(row.sop_instance_uid)
            if known is None or known.changed <= row.changed:
                series.rows[row.sop_instance_uid] = row
        return studies


def _make_row(record: InstanceRecord) -> Row:
    pixel = record.image_pixel
    return Row(
        record.sop_instance_uid,
        record.sop_class_uid,
        record.transfer_syntax_uid,
        pixel.rows,
        pixel.columns,
        pixel.bits_allocated,
        record.number_of_frames,
        record.fingerprint.mtime_ns if record.fingerprint else 0,
    )
