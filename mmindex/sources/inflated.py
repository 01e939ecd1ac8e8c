"""A data set that is deflated as a whole, inflated once (PS3.5 A.5)."""

from __future__ import annotations

from mmindex.errors import naming
from mmindex.scan.file_format import inflate_data_set
from mmindex.sources.base import ByteSource
from mmindex.sources.memory import MemorySource


def inflate_source(file: ByteSource) -> ByteSource:
    """Return the inflated data set of a deflated file, which is still watched for changes.

    Where its data set is not deflated at all, that is the file itself.

    Raises
    ------
    FormatError
        The data set is no deflate stream, ends too early, or inflates beyond all measure.
    StaleIndexError, MissingFileError
        As `ByteSource.read`.
    """
    deflated = file.read(file.first, file.size)
    with naming(file.name):
        inflated = inflate_data_set(deflated)
    return file if inflated is None else MemorySource(inflated, file.name, file)
