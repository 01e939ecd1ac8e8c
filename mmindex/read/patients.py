"""Groups instances by patient: Patient ID and its issuer (PS3.3 C.7.1.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mmindex.model import InstanceRecord

if TYPE_CHECKING:
    from mmindex.read.archive import Archive

Patient = tuple[str, str]  # Patient ID, Issuer of Patient ID; both empty where the ID is
Known = dict[tuple[str, bytes], Patient]  # by study, or by file where that names no study
Group = tuple[str, ...]


def group_by_patient(
    archive: Archive, records: Iterable[InstanceRecord], known: Known
) -> list[Group]:
    """Return a name of the patient of each record: equal names, one patient.

    An ID that two issuers gave stands for two patients; where one of its studies names no issuer,
    all studies with the ID count as one patient's. A study without an ID is a patient. A file
    without a study is looked at by itself.

    Parameters
    ----------
    archive : Archive
        Values are those that its index keeps, else those in the header of one file a study.
    known : dict
        The patients that are known; grows.

    Raises
    ------
    MMIndexError
        A header cannot be read.
    """
    kept = archive.kept_attributes()
    is_kept = kept is not None and "PatientID" in kept.studies
    keys = []
    for record in records:
        key = record.study_instance_uid, b"" if record.study_instance_uid else record.key
        if key not in known:
            known[key] = _find_patient(archive, record, is_kept)
        keys.append(key)
    without_issuer = {known[key][0] for key in keys if not known[key][1]}
    groups: list[Group] = []
    for key in keys:
        patient, issuer = known[key]
        if not patient:
            groups.append(("study", key[0], key[1].hex()))
        else:
            groups.append(("patient", patient, "" if patient in without_issuer else issuer))
    return groups


def _find_patient(archive: Archive, record: InstanceRecord, is_kept: bool) -> Patient:
    values: Any = {}
    if is_kept and record.study_instance_uid:
        values = archive.attributes(record.study_instance_uid)
    if not values:
        with archive.file(record.key) as instance:
            values = instance.dataset()
    patient, issuer = (str(values.get(word) or "").strip(" \0") for word in _WORDS)
    return (patient, issuer) if patient else ("", "")


_WORDS = ("PatientID", "IssuerOfPatientID")
