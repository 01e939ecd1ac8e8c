"""Checksums of records and entries: a bit that flips on a disk never moves a frame."""

from __future__ import annotations

import struct
from typing import TypeVar
from zlib import crc32

_CHECKSUM = struct.Struct("<I")

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
        It is another, or was sealed under another key.
    """
    value = sealed[: -_CHECKSUM.size]
    if sealed[-_CHECKSUM.size :] != _CHECKSUM.pack(crc32(value, crc32(key))):
        raise DamageError(f"the checksum of {len(value)} bytes is wrong")
    return value
