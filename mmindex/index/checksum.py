"""Checksums of what an index holds, since a bit that flips in an offset would move a frame.

UIDs and the ids that they lead to have none: a record says itself which UIDs are its own. Nor has
the list of files that could not be scanned, which leads to no frame. And the digests that are keys.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, TypeVar
from zlib import crc32

if TYPE_CHECKING:
    from hashlib import blake2b

_CHECKSUM, _LENGTH = struct.Struct("<I"), 4
_RESIDUE = 0x2144DF1C  # CRC-32 of any bytes with their own CRC-32 at their end

Sealed = TypeVar("Sealed", bytes, memoryview)


class DamageError(Exception):
    """Bytes that were read are not those that were written."""


def digest(content: bytes) -> bytes:
    """Return the 16-byte blake2b digest of what may be too long for a key."""
    begun = _begin_digest().copy()  # in less time than another one is begun
    begun.update(content)
    return begun.digest()


@cache
def _begin_digest() -> blake2b:
    from hashlib import blake2b  # loads OpenSSL, which a look-up by UID does not need

    return blake2b(digest_size=16)


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
    if len(sealed) < _LENGTH or crc32(sealed, crc32(key)) != _RESIDUE:
        raise DamageError(f"the checksum of {max(len(sealed) - _LENGTH, 0)} bytes is wrong")
    return sealed[:-_LENGTH]
