"""Checksums of what an index holds, since a bit that flips in an offset would move a frame.

UIDs and the ids that they lead to have none: a record says itself which UIDs are its own. Nor has
the list of files that could not be scanned, which leads to no frame.
"""

from __future__ import annotations

import struct
from typing import TypeVar
from zlib import crc32

_CHECKSUM = struct.Struct("<I")
_RESIDUE = 0x2144_DF1C  # CRC-32 of any bytes that their own CRC-32, little-endian, follows

Sealed = TypeVar("Sealed", bytes, memoryview)


class DamageError(Exception):
    """What was read is not what was written."""


def seal(key: bytes, value: bytes) -> bytes:
    """Return a value with the CRC-32 of its key and itself at its end."""
    return value + _CHECKSUM.pack(crc32(value, crc32(key)))


def unseal(key: bytes, sealed: Sealed) -> Sealed:
    """Return the value that was sealed under this key.

    Raises
    ------
    DamageError
        The value or its key is not the one that was sealed.
    """
    if crc32(sealed, crc32(key)) != _RESIDUE:
        raise DamageError(f"the checksum of {len(sealed[: -_CHECKSUM.size])} bytes is wrong")
    return sealed[: -_CHECKSUM.size]
