"""Values of chosen elements of a header as they are stored: bytes, not interpreted (PS3.5 7.1)."""

from __future__ import annotations

from mmindex.scan.encoding import IMPLICIT_LITTLE, UNDEFINED_LENGTH
from mmindex.scan.header import Header
from mmindex.scan.nesting import IrregularError, skip_undefined_length


def read_values(header: Header, tags: frozenset[int], most: int) -> dict[int, tuple[str, bytes]]:
    """Return the value representation and the bytes of elements, by tag.

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
    dict
        The value representation is empty in Implicit VR. Elements that the header does not have
        are left out, and so are values that are longer or cut off. A sequence of undefined length
        comes with its delimiter.
    """
    buffer, found = header.buffer, header.data_set.elements
    values = {}
    for tag in sorted(tags & found.keys()):
        _, vr, _, start, length = found[tag]
        if length == UNDEFINED_LENGTH:
            inside = IMPLICIT_LITTLE if vr == "UN" else header.encoding
            try:
                end = min(len(buffer), start + most)
                length = skip_undefined_length(buffer, start, end, inside) - start
            except IrregularError:
                continue
        value = bytes(buffer[start : start + length]) if length <= most else b""
        if len(value) == length:
            values[tag] = vr, value
    return values
