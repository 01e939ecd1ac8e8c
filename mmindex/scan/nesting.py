"""Values of undefined length: sequences and their items (PS3.5 7.5), skipped by structure.

Only what the standard allows is read here. What breaks its rules is left to irregular.py.
"""

from __future__ import annotations

from mmindex.model import Buffer
from mmindex.scan.encoding import LOWEST_VR_AS_LENGTH, UNDEFINED_LENGTH, Encoding

MAX_NESTING = 64


class IrregularError(Exception):
    """Structure that breaks the standard: `scan_irregular` reads the data set instead."""


def skip_undefined_length(buffer: Buffer, value_offset: int, end: int, encoding: Encoding) -> int:
    """Return the offset after the delimiter that ends a value of undefined length.

    The value is a sequence of items (or the fragments of nested pixel data, which look the same).
    Items and sequences of defined length are skipped in one step, so that nothing inside them can
    lead out of them (PS3.5 7.5).

    Raises
    ------
    IrregularError
        Something else than the structure that the standard asks for, the end of the data,
        or more than MAX_NESTING levels.
    """
    position = value_offset
    last_header = end - 8
    enclosing: list[Encoding] = []  # the items of undefined length around the current sequence
    in_item = False
    while True:
        unpack, unpack_length = encoding.header.unpack_from, encoding.length.unpack_from
        item, item_end, sequence_end = encoding.item, encoding.item_end, encoding.sequence_end
        short_vrs, vr_names, implicit = encoding.short_vrs, encoding.vr_names, encoding.implicit
        vr_shift, length_shift = encoding.vr_shift, encoding.length_shift
        while position <= last_header:
            tag, vr, length = unpack(buffer, position)
            if in_item and tag != item_end:
                if tag == item or tag == sequence_end:
                    raise IrregularError
                if implicit:
                    length = vr << vr_shift | length << length_shift
                    if not tag or (length >= LOWEST_VR_AS_LENGTH and vr in vr_names):
                        raise IrregularError
                    position += 8
                elif vr in short_vrs:
                    position += 8 + length
                    continue
                else:
                    if (vr not in vr_names and not encoding.is_vr(vr)) or position + 12 > end:
                        raise IrregularError
                    (length,) = unpack_length(buffer, position + 8)
                    position += 12
                if length != UNDEFINED_LENGTH:
                    position += length
                    continue
                enclosing.append(encoding)
                if len(enclosing) >= MAX_NESTING:
                    raise IrregularError
                in_item = False
                inside = encoding.inside(vr)
                if inside is not encoding:
                    encoding = inside
                    break
            elif in_item:
                in_item = False
                position += 8
            elif tag == item:
                length = vr << vr_shift | length << length_shift
                position += 8
                if length == UNDEFINED_LENGTH:
                    in_item = True
                else:
                    position += length
            elif tag == sequence_end:
                position += 8
                if not enclosing:
                    return position
                in_item = True
                outer = enclosing.pop()
                if outer is not encoding:
                    encoding = outer
                    break
            else:
                raise IrregularError
        if position > last_header:
            raise IrregularError
