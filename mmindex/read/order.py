"""The order of instances, and the choice among several files with one UID."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from mmindex.errors import FormatError, InstanceNotFoundError, StaleIndexError
from mmindex.model import InstanceRecord

Order = Literal["position", "instance-number", "uid"]
Duplicates = Literal["newest", "all", "raise"]
ORDERS = ("position", "instance-number", "uid")
DUPLICATES = ("newest", "all", "raise")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise ValueError for the value of a parameter that is none of its choices."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: expected one of {known}, found {value!r}")


def select_newest(
    records: Iterable[InstanceRecord], duplicates: Duplicates, path: str
) -> list[InstanceRecord]:
    """Return records of which each SOP Instance UID has one, or all where all are asked for.

    Raises
    ------
    InstanceNotFoundError
        Several files have a UID, and `duplicates` is "raise".
    """
    if duplicates == "all":
        return [record for record in records if record.sop_instance_uid]
    newest: dict[str, InstanceRecord] = {}
    for record in records:
        uid = record.sop_instance_uid
        if uid in newest and duplicates == "raise":
            raise InstanceNotFoundError(f"several files have the SOP Instance UID {uid}", path=path)
        if uid and (uid not in newest or newest[uid].newness < record.newness):
            newest[uid] = record
    return list(newest.values())


def check_one_series(
    records: Iterable[InstanceRecord], what: str, remedy: str, path: str | None
) -> None:
    """Raise FormatError for records of several series or studies, which may be of two patients."""
    series = {(record.study_instance_uid, record.series_instance_uid) for record in records}
    if len(series) <= 1:
        return
    for at, kind, kinds in ((1, "series", "series"), (0, "study", "studies")):
        uids = sorted({uids[at] for uids in series} - {""})  # a file may name none
        if len(uids) > 1:
            found = ", ".join(uids[:3]) + ", ..." * (len(uids) > 3)
            raise FormatError(
                f"expected {what} in one {kind}, found {kinds} {found}: {remedy}", path=path
            )


def overtaken(path: str) -> StaleIndexError:
    """Return the error of instances that are no longer those that were selected."""
    return StaleIndexError(
        "the index was rebuilt since the instances were selected: select them again", path=path
    )


def order_records(records: list[InstanceRecord], order: Order) -> list[InstanceRecord]:
    """Return records in order; where a number is absent from one, by the next criterion.

    Positions are compared along the normal of the slices (PS3.3 C.7.6.2.1.1), then Instance
    Numbers, then UIDs.
    """
    by_uid = sorted(records, key=lambda record: record.sop_instance_uid)
    if order == "uid":
        return by_uid
    numbers = [record.image_numbers.instance_number for record in by_uid]
    if None not in numbers:
        by_uid.sort(key=lambda record: record.image_numbers.instance_number or 0)
    if order == "position":
        positions = [record.image_numbers.slice_position for record in by_uid]
        if None not in positions:
            by_uid.sort(key=lambda record: record.image_numbers.slice_position or 0.0)
    return by_uid
