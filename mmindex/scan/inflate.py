"""Deflate streams (RFC 1951) of which nobody knows what they inflate to.

The memory is bounded: by a limit in bytes, and by not much more than the inflated bytes take.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

MAX_INFLATED_LENGTH = 1 << 31  # bytes
LONG_INFLATED = 1 << 26  # bytes above which an inflated file is a burden
_TAKEN, _GIVEN = 1 << 16, 1 << 18  # bytes that are inflated at once, at most, and that they give


def inflate_up_to(
    decompressor: zlib._Decompress,
    deflated: memoryview,
    limit: int,
    begin_long: Callable[[], object] = lambda: None,
) -> bytes | memoryview:
    """Return what a stream inflates to, up to a limit; `decompressor.eof` says if that is all.

    Parameters
    ----------
    limit : int
        At least 1, in bytes.
    begin_long : callable
        Called once before the inflated bytes take more memory than `LONG_INFLATED`.

    Raises
    ------
    zlib.error
        The bytes are no such stream.
    """
    position = min(len(deflated), _TAKEN)
    inflated = decompressor.decompress(deflated[:position], min(limit, _GIVEN))
    if decompressor.eof:
        return inflated
    gathered = bytearray(inflated)
    is_long = False
    while not decompressor.eof and len(gathered) < limit:
        if not is_long and len(gathered) >= LONG_INFLATED:
            is_long = True
            begin_long()
        piece: bytes | memoryview = decompressor.unconsumed_tail
        if not piece:
            piece = deflated[position : position + _TAKEN]
            position += len(piece)
        more = decompressor.decompress(piece, min(limit - len(gathered), _GIVEN))
        if not (more or piece):
            break  # the stream is cut
        gathered += more
    return memoryview(gathered).toreadonly()
