"""Names, keys and fixed-size values of the databases; `store.py` says what leads where."""

from __future__ import annotations

import struct
from typing import Literal

from mmindex.index.checksum import digest
from mmindex.index.record import RecordKeys
from mmindex.model import Status

DATABASES = {  # and whether a key has several, sorted, values
    "meta": False,
    "files": False,
    "entries": False,
    "positions": False,
    "paths": False,
    "folders": False,
    "unscanned": False,
    "instances": True,
    "others": True,
    "studies": True,
    "series": True,
    "members": True,
    "attributes": False,
    "problems": False,
}
OLDEST = {  # those that indexes of all formats have
    name: several
    for name, several in DATABASES.items()
    if name not in ("entries", "positions", "folders", "members", "attributes", "problems")
}
UidKind = Literal["instances", "others", "studies", "series"]
Way = Literal["instances", "others", "studies", "series", "members"]
AttributesKind = Literal["studies", "series"]
UID_FIELDS: dict[UidKind, str] = {  # of a record, by the database that leads to it
    "instances": "sop_instance_uid",
    "others": "sop_instance_uid",
    "studies": "study_instance_uid",
    "series": "series_instance_uid",
}

UNSCANNED = Status.NOT_DICOM, Status.UNREADABLE, Status.CONTAINER

FILE_ID = struct.Struct(">Q")
CHUNK_KEY = struct.Struct(">QI")  # file id, number of the chunk
# Bytes of entries in a value: with the header of LMDB's page (16) and the checksum (4), 4 pages.
CHUNK_LENGTH = (1 << 14) - 24
LONG_RECORD = 1 << 16  # bytes over which a record's entries are kept apart from it
PATH_VALUE = struct.Struct("<QQqQB")
FORMAT = struct.Struct("<7sI")
MAX_UID_LENGTH = 500  # a UID has at most 64 characters; LMDB takes 511 bytes as a key


path_key = digest
"""Returns the key of a path, which may be longer than any key; of a member, of its `locate`."""


def uid_key(uid: str) -> bytes:
    """Return the key of a UID; a zero byte, which no UID has, where the text cannot be one."""
    try:
        key = uid.encode("latin-1")
    except UnicodeEncodeError:
        return b"\0"
    return key if 0 < len(key) <= MAX_UID_LENGTH else b"\0"


def attributes_key(kind: AttributesKind, uid: str | bytes) -> bytes:
    """Return the key of the attributes of a study or series."""
    key = uid_key(uid) if isinstance(uid, str) else uid
    return (b"T" if kind == "studies" else b"E") + key


def list_ways(keys: RecordKeys) -> list[tuple[Way, bytes]]:
    """Return the databases that lead to a record by UID or by its container, and its keys there."""
    sop, study, series = keys.sop_instance_uid, keys.study_instance_uid, keys.series_instance_uid
    ways: list[tuple[Way, bytes]] = [
        ("instances" if keys.status.has_frames else "others", sop),
        ("studies", study),
        ("series", series),
    ]
    if not (sop and study and series) or max(len(sop), len(study), len(series)) > MAX_UID_LENGTH:
        ways = [way for way in ways if 0 < len(way[1]) <= MAX_UID_LENGTH]
    if keys.member:
        ways.append(("members", path_key(keys.path)))
    return ways
