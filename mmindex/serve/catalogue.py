"""Catalogue: the studies, series and instances of a shelf, as its records say; opens no file.

A study is listed when a request asks for it, and again when one of its files changed: an archive of
any size costs the memory of the studies used last. Of two files of a series with one SOP Instance
UID, the one with frames that was changed last is listed, as `Shelf` opens it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from itertools import islice
from sys import intern
from time import monotonic
from typing import NamedTuple

from mmindex import InstanceRecord
from mmindex.serve.current import reading_again
from mmindex.serve.recent import Recent
from mmindex.serve.shelf import Shelf, Version

_MOST_SERIES = 100_000  # of the studies that are kept
_MOST_ROWS = 20_000  # of those whose instances are kept, too
_FIRST = 3


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
    modality: str
    rank: tuple[bool, int, bytes]  # of two files with one UID, the higher one is listed


class Series(NamedTuple):
    """A series of a study.

    Attributes
    ----------
    number_of_instances : int
        Different SOP Instance UIDs.
    sop_class_uids : tuple of str
        Of its instances, sorted, each once.
    first : tuple of str
        The SOP Instance UIDs of the first few: the header of one stands for the series.
    """

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    number_of_instances: int
    sop_class_uids: tuple[str, ...]
    first: tuple[str, ...]


class Study(NamedTuple):
    """A study and its series by Series Instance UID."""

    study_instance_uid: str
    series: dict[str, Series]

    @property
    def modalities(self) -> list[str]:
        """(0008,0061) Modalities in Study."""
        return sorted({series.modality for series in self.series.values() if series.modality})

    @property
    def number_of_instances(self) -> int:
        """(0020,1208) Number of Study Related Instances."""
        return sum(series.number_of_instances for series in self.series.values())


Rows = dict[str, dict[str, Row]]  # of a study: by Series, then by SOP Instance UID


class _Listed(NamedTuple):
    """A study as it was listed.

    Attributes
    ----------
    state : int
        What changes when a file of it does.
    version : Version
        The index for which this was looked at.
    """

    study: Study
    state: int
    version: Version


class Catalogue:
    """The studies of a shelf, looked at again when the index changed; threads call its methods."""

    def __init__(self, shelf: Shelf, revalidate_after: float = 1.0) -> None:
        self._shelf = shelf
        self._revalidate_after = revalidate_after
        self._version: Version | None = None
        self._due = 0.0
        self._uids: Sequence[str] = ()
        self._listed: Recent[_Listed] = Recent(_MOST_SERIES)
        self._rows: Recent[tuple[int, Rows]] = Recent(_MOST_ROWS)
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
        state = hash(self._shelf.state(uid))
        if known is None or known.state != state:
            known = self._list(uid, state, version)
            if not known.study.series:
                return None
        self._listed.keep(uid, known._replace(version=version), len(known.study.series))
        return known.study

    def rows(self, uid: str) -> Rows:
        """Return the instances of a study, not to be changed; raises as `study_uids`."""
        listed = self._listed.get(uid) if self.study(uid) is not None else None
        found = self._rows.get(uid)
        if found is not None and listed is not None and found[0] == listed.state:
            return found[1]
        return self._read_rows(uid, hash(self._shelf.state(uid)))

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
                    self._version = version
                self._due = monotonic() + self._revalidate_after
            assert self._version is not None
            return self._version

    def _list(self, uid: str, state: int, version: Version) -> _Listed:
        series = {}
        for of_series, rows in self._read_rows(uid, state).items():
            modalities = (row.modality for row in rows.values() if row.modality)
            series[of_series] = Series(
                uid,
                of_series,
                next(modalities, ""),
                len(rows),
                tuple(sorted({row.sop_class_uid for row in rows.values()})),
                tuple(islice(rows, _FIRST)),
            )
        return _Listed(Study(uid, series), state, version)

    @reading_again
    def _read_rows(self, uid: str, state: int) -> Rows:
        found: Rows = {}
        for record in self._shelf.walk_study(uid):
            rows = found.setdefault(record.series_instance_uid, {})
            row = _make_row(record)
            known = rows.get(row.sop_instance_uid)
            if known is None or known.rank < row.rank:
                rows[row.sop_instance_uid] = row
        if found:  # what a client invents is not remembered
            self._rows.keep(uid, (state, found), sum(map(len, found.values())))
        return found


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
        intern(record.modality),
        (record.status.has_frames, *record.newness),
    )
