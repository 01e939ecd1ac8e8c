"""The instances that are read as one series: of one study, as a series has to be (PS3.3 A.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmindex.errors import FormatError

if TYPE_CHECKING:
    from mmindex.model import InstanceRecord
    from mmindex.read.archive import Archive

_NAMED = 3  # studies or series that an error names


def list_series(archive: Archive, series_instance_uid: str) -> list[InstanceRecord]:
    """Return the records of a series.

    Raises
    ------
    InstanceNotFoundError
        There is no such series.
    FormatError
        Files of several studies have this Series Instance UID: of two patients, maybe.
    """
    records = list(archive.instances(series_instance_uid=series_instance_uid))
    refuse_several(
        archive,
        f"series {series_instance_uid}",
        "studies",
        (record.study_instance_uid for record in records),
        "FrameDataset takes the study, too",
    )
    return records


def refuse_several(
    archive: Archive, what: str, kind: str, uids: Iterable[str], remedy: str
) -> None:
    """Raise FormatError where instances that belong together name several studies or series."""
    found = sorted({uid for uid in uids if uid})
    if len(found) > 1:
        named = ", ".join(found[:_NAMED]) + ", ..." * (len(found) > _NAMED)
        raise FormatError(
            f"expected {what} in one of the {kind}, found it in {len(found)}: {named}; {remedy}",
            path=archive.path,
        )
