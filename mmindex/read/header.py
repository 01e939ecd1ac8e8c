"""The header of an instance as a pydicom Dataset: what stands before the pixel data."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import TYPE_CHECKING

from mmindex.errors import FormatError

if TYPE_CHECKING:
    from pydicom import Dataset

    from mmindex.read.instance import Instance

_PIXEL_DATA_GROUP = 0x7FE0


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
    try:
        data_set = pydicom.dcmread(io.BytesIO(header), stop_before_pixels=True, force=True)
        for tag in [tag for tag in data_set.keys() if tag >> 16 == _PIXEL_DATA_GROUP]:  # noqa: SIM118
            del data_set[tag]
    except header_errors() as error:
        raise FormatError(f"pydicom cannot read the header: {error}") from error
    return data_set
