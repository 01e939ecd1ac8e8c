"""The header of an instance as a pydicom Dataset: what stands before the pixel data."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from mmindex.errors import FormatError
from mmindex.scan.file_format import find_start, scan_file_meta, unwrap_deflated

if TYPE_CHECKING:
    from pydicom import Dataset

    from mmindex.read.instance import Instance

_PIXEL_DATA_GROUP = 0x7FE0
_ZLIB_HEADER_LENGTH = 2  # bytes


@cache
def header_errors() -> tuple[type[Exception], ...]:
    """Return what pydicom raises when it reads a damaged header, or uses the values of one."""
    from pydicom.errors import BytesLengthException

    return (
        *(ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError),
        *(NotImplementedError, OSError, RecursionError, TypeError, ValueError),
        *(struct.error, zlib.error),
    )


def read_header(instance: Instance) -> Dataset:
    """Return every element before the pixel data; see `Instance.dataset`.

    Raises
    ------
    FormatError
        pydicom cannot read the header.
    """
    import pydicom

    header = instance.read_header()  # pydicom inflates; the scan has bounded what that makes
    if any(anomaly.code == "deflate-wrapper" for anomaly in instance.record.anomalies):
        header = _wrap_as_deflated(header)
    try:
        data_set = pydicom.dcmread(io.BytesIO(header), stop_before_pixels=True, force=True)
        for tag in [tag for tag in data_set.keys() if tag >> 16 == _PIXEL_DATA_GROUP]:  # noqa: SIM118
            del data_set[tag]
    except header_errors() as error:
        raise FormatError(f"pydicom cannot read the header: {error}") from error
    return data_set


def _wrap_as_deflated(header: bytes) -> bytes:
    """Return a header with its data set in a bare deflate stream (PS3.5 A.5), as pydicom wants it.

    The stream has a zlib header (RFC 1950), or the data set is not deflated at all.
    """
    meta = scan_file_meta(header, find_start(header, True, []), True, [])
    before, data_set = header[: meta.data_set_offset], header[meta.data_set_offset :]
    if unwrap_deflated(header, meta.data_set_offset, []) is not None:
        return before + data_set[_ZLIB_HEADER_LENGTH:]  # the checksum at the end harms nobody
    compressor = zlib.compressobj(0, zlib.DEFLATED, -zlib.MAX_WBITS)
    return before + compressor.compress(data_set) + compressor.flush()
