"""Selection: which instances of an archive a FrameDataset has, and how that pickles small.

What an archive can list again is not pickled: a selection is the words of its listing, and where in
the list the instances are, if they are not all.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mmindex.errors import InstanceNotFoundError
from mmindex.index.instance_names import InstanceName, UidWithin
from mmindex.read.order import (
    Duplicates,
    Order,
    check_one_series,
    order_records,
    overtaken,
    select_newest,
)

if TYPE_CHECKING:
    from mmindex.model import InstanceRecord
    from mmindex.read.archive import Archive

_WIDTH = 4  # bytes of a place


@dataclass(frozen=True)
class Selection:
    """Instances with frames, in an order.

    Attributes
    ----------
    study_instance_uid, series_instance_uid, order, duplicates
        As of `FrameDataset`: they list instances.
    places : array of int or None
        Where in that list the selected instances are, in their order; None of all.
    """

    study_instance_uid: str | None
    series_instance_uid: str | None
    order: Order
    duplicates: Duplicates
    places: array[int] | None = None

    def list_records(self, archive: Archive) -> list[InstanceRecord]:
        """Return the records of the instances, in order.

        Raises
        ------
        InstanceNotFoundError
            Several files have a UID, and `duplicates` is "raise".
        StaleIndexError
            The archive has fewer instances than when they were selected.
        """
        records = archive.instances(
            study_instance_uid=self.study_instance_uid,
            series_instance_uid=self.series_instance_uid,
        )
        chosen = select_newest(records, self.duplicates, archive.path)
        ordered = order_records(chosen, self.order)
        if self.places is None:
            return ordered
        if self.places and max(self.places) >= len(ordered):
            raise overtaken(archive.path)
        return [ordered[place] for place in self.places]

    def name(self, sop_instance_uid: str) -> InstanceName:
        """Return the name of a selected instance, which leads to no file outside the selection."""
        study, series = self.study_instance_uid, self.series_instance_uid
        if study is None and series is None:
            return sop_instance_uid
        return UidWithin(sop_instance_uid, study, series)

    def choose(self, archive: Archive, uids: Sequence[str]) -> Selection:
        """Return the selection of the instances with these UIDs, in the order given.

        Raises
        ------
        InstanceNotFoundError
            One of them is not selected.
        """
        by_uid: dict[str, list[int]] = {}
        for place, record in enumerate(self.list_records(archive)):
            by_uid.setdefault(record.sop_instance_uid, []).append(place)
        places: list[int] = []
        for uid in uids:
            if uid not in by_uid:
                raise InstanceNotFoundError(
                    f"no instance {uid!r} with frames in the selection", path=archive.path
                )
            places += by_uid[uid]
        return self.narrow(places)

    def narrow(self, positions: Iterable[int]) -> Selection:
        """Return the selection of the instances at these positions of this one."""
        if self.places is not None:
            known = self.places
            positions = (known[position] for position in positions)
        return replace(self, places=array("i", positions))

    def __reduce__(self) -> tuple[object, ...]:
        places = None if self.places is None else _pack_places(self.places)
        words = self.study_instance_uid, self.series_instance_uid, self.order, self.duplicates
        return _unpack_selection, (*words, places)


def select_series(archive: Archive, series_instance_uid: str) -> list[InstanceRecord]:
    """Return the records of a series with frames, of each SOP Instance UID the newest.

    Raises
    ------
    InstanceNotFoundError
        The archive has no such series.
    FormatError
        They are of several studies, so that they may be of several patients.
    """
    records = archive.instances(series_instance_uid=series_instance_uid)
    newest = select_newest(records, "newest", archive.path)
    remedy = "FrameDataset has the frames of each: give it the study, too"
    check_one_series(newest, f"series {series_instance_uid}", remedy, archive.path)
    return newest


def _unpack_selection(
    study_instance_uid: str | None,
    series_instance_uid: str | None,
    order: Order,
    duplicates: Duplicates,
    places: bytes | None,
) -> Selection:
    unpacked = None if places is None else _unpack_places(places)
    return Selection(study_instance_uid, series_instance_uid, order, duplicates, unpacked)


def _pack_places(places: array[int]) -> bytes:
    """Return places as the compressed bytes of their steps, the lowest bytes of all first.

    Steps over few instances, as of a part of a split, take a bit or two each; those of a shuffled
    list as many bits as the number of instances has.
    """
    steps, last = array("i"), -1
    for place in places:
        steps.append(place - last - 1)
        last = place
    data = steps.tobytes()
    return zlib.compress(b"".join(data[at::_WIDTH] for at in range(_WIDTH)), 9)


def _unpack_places(packed: bytes) -> array[int]:
    planes = zlib.decompress(packed)
    count = len(planes) // _WIDTH
    data = bytearray(len(planes))
    for at in range(_WIDTH):
        data[at::_WIDTH] = planes[at * count : (at + 1) * count]
    places = array("i", bytes(data))
    last = -1
    for at, step in enumerate(places):
        last = places[at] = last + 1 + step
    return places
