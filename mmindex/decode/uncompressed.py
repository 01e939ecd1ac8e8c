"""Frames that are native samples: as they are, or deflated one by one (PS3.5 A.4.11, A.4.12)."""

from __future__ import annotations

import zlib

from mmindex.errors import DecodeError


def inflate_frame(frame: bytes | memoryview, length: int) -> bytes:
    """Return a frame of `length` bytes out of its Deflated Image Frame; bounded by that length.

    Raises
    ------
    DecodeError
        It is not deflated, or of another length; one byte of padding may follow.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        native = inflater.decompress(frame, length + 2)
    except zlib.error as error:
        raise DecodeError(f"cannot decode the frame: it cannot be inflated ({error})") from None
    return cut_padding(native, length)


def cut_padding(native: bytes, length: int) -> bytes:
    """Return native samples without the byte that makes their length even.

    Raises
    ------
    DecodeError
        They are not `length` bytes.
    """
    if len(native) not in (length, length + length % 2):
        raise DecodeError(
            f"cannot decode the frame: expected {length} bytes of samples, found "
            f"{len(native) if len(native) <= length else 'more'}"
        )
    return native[:length]
