"""Values of chosen elements of a header as they are stored: bytes, not interpreted (PS3.5 7.1)."""

from __future__ import annotations

from mmindex.scan.encoding import IMPLICIT_LITTLE, UNDEFINED_LENGTH
from mmindex.scan.header import Header
from mmindex.scan.nesting import IrregularError, skip_undefined_length

StoredValue = tuple[int, str, bytes]  # tag, value representation (empty in Implicit VR), bytes


def read_values(header: Header, tags: frozenset[int], most: int) -> tuple[StoredValue, ...]:
    """Return tag, value representation and bytes of elements, in the order of the header.

    Parameters
    ----------
    header : Header
        That of a scan in which these elements were wanted.
    tags : frozenset of int
        The elements, at the top level and before the pixel data.
    most : int
        Bytes of a value, from which on it is left out.

    Returns
    -------
    tuple of (int, str, bytes)
        Elements that the header does not have are left out, and so are values that are longer or
        cut off. A sequence of undefined length comes with its delimiter.
    """
    buffer = header.buffer
    values = []
    for tag, (_, vr, _, start, length) in header.data_set.elements.items():
        if tag not in tags:
            continue
        if length == UNDEFINED_LENGTH:
            inside = IMPLICIT_LITTLE if vr == "UN" else header.encoding
            try:
                end = min(len(buffer), start + most)
                length = skip_undefined_length(buffer, start, end, inside) - start
            except IrregularError:
                continue
        value = bytes(buffer[start : start + length]) if length <= most else b""
        if len(value) == length:
            values.append((tag, vr, value))
    return tuple(values)
