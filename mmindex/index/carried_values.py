"""Values of attributes that a packed record carries, from the scan to the index.

Behind the end of the record: those of its study, those of its series, the length of each (u4, u4,
little-endian); bit 7 of the record's flags says so. No index has such a record.
"""

from __future__ import annotations

import struct

_LENGTHS = struct.Struct("<II")
_CARRIES = 128  # flag of a packed record
_FLAGS = 3  # their offset

CarriedValues = tuple[bytes, bytes]  # packed values of the study, of the series


def carry_values(packed: bytes, carried: CarriedValues) -> bytes:
    """Return a packed record with values behind its end."""
    of_study, of_series = carried
    flags = bytes([packed[_FLAGS] | _CARRIES])
    lengths = _LENGTHS.pack(len(of_study), len(of_series))
    return b"".join((packed[:_FLAGS], flags, packed[_FLAGS + 1 :], of_study, of_series, lengths))


def take_values(packed: bytes) -> tuple[bytes, CarriedValues | None]:
    """Return a packed record as an index has it, and the values that it carries."""
    if not packed[_FLAGS] & _CARRIES:
        return packed, None
    of_study, of_series = _LENGTHS.unpack_from(packed, len(packed) - _LENGTHS.size)
    end = len(packed) - _LENGTHS.size - of_series
    start = end - of_study
    record = packed[:_FLAGS] + bytes([packed[_FLAGS] & ~_CARRIES]) + packed[_FLAGS + 1 : start]
    return record, (packed[start:end], packed[end : end + of_series])
