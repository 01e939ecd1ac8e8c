"""Values of attributes that a packed record brings along, from the scan to the index.

Behind the end of the record: those of its study, those of its series, the length of each (u4, u4,
little-endian); bit 7 of the record's flags says so. No index has such a record.
"""

from __future__ import annotations

import struct

_LENGTHS = struct.Struct("<II")
_BROUGHT = 128  # flag of a packed record
_FLAGS = 3  # their offset

Brought = tuple[bytes, bytes]  # packed values of the study, of the series


def bring_values(packed: bytes, brought: Brought) -> bytes:
    """Return a packed record with values behind its end."""
    of_study, of_series = brought
    flags = bytes([packed[_FLAGS] | _BROUGHT])
    lengths = _LENGTHS.pack(len(of_study), len(of_series))
    return b"".join((packed[:_FLAGS], flags, packed[_FLAGS + 1 :], of_study, of_series, lengths))


def take_values(packed: bytes) -> tuple[bytes, Brought | None]:
    """Return a packed record as an index has it, and the values that it brings along."""
    if not packed[_FLAGS] & _BROUGHT:
        return packed, None
    of_study, of_series = _LENGTHS.unpack_from(packed, len(packed) - _LENGTHS.size)
    end = len(packed) - _LENGTHS.size - of_series
    start = end - of_study
    record = packed[:_FLAGS] + bytes([packed[_FLAGS] & ~_BROUGHT]) + packed[_FLAGS + 1 : start]
    return record, (packed[start:end], packed[end : end + of_series])
