"""The header of an instance as a pydicom Dataset: what stands before the pixel data."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mmindex.errors import FormatError, NoPixelDataError
from mmindex.frame_table import ByteRange
from mmindex.model import Status
from mmindex.scan.transfer_syntax import find_transfer_syntax

if TYPE_CHECKING:
    from pydicom import Dataset

    from mmindex.read.instance import Instance

_PIXEL_DATA_GROUP = 0x7FE0


def find_header(instance: Instance) -> ByteRange:
    """Return where in the file the header is: all before the pixel data, of a deflated one all."""
    record = instance.record
    first, size = instance.file_range
    syntax = find_transfer_syntax(record.transfer_syntax_uid)
    is_deflated = record.status is Status.DEFLATED and syntax.deflated
    if record.frames is None or is_deflated:
        return ByteRange(first, size)
    return ByteRange(first, max(0, min(size, record.frames.value_offset - first)))


def read_header(instance: Instance) -> Dataset:
    """Return every element before the pixel data; see `Instance.dataset`.

    Raises
    ------
    FormatError
        pydicom cannot read the header.
    """
    import pydicom

    try:
        header = instance.read_file(*find_header(instance))  # pydicom inflates for itself
        data_set = pydicom.dcmread(io.BytesIO(header), stop_before_pixels=True, force=True)
        for tag in [tag for tag in data_set.keys() if tag >> 16 == _PIXEL_DATA_GROUP]:  # noqa: SIM118
            del data_set[tag]
    except (
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        if isinstance(error, (FormatError, NoPixelDataError)):
            raise
        raise FormatError(f"pydicom cannot read the header: {error}") from error
    return data_set
