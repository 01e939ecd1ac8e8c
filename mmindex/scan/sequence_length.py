"""Finds the end of a sequence whose length is wrong: where its elements end (PS3.5 7.5).

A wrong length leads off the next element. The items inside, walked one by one, then show the end:
a place where an element follows, when no other place near it has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from mmindex.errors import FormatError
from mmindex.model import Buffer
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.element_headers import (
    chain_follows,
    delimiter_at,
    read_explicit,
    read_implicit,
)
from mmindex.scan.encoding import KNOWN_VRS, UNDEFINED_LENGTH, Encoding, forms_of
from mmindex.scan.nesting import IrregularError, skip_undefined_length

_NEAR = 16  # bytes around an end that must have no other
_MOST_ELEMENTS = 1 << 14  # that are walked inside a sequence


def find_sequence_end(
    buffer: Buffer, sequence: Element, end: int, encoding: Encoding, *, in_item: bool
) -> int:
    """Return where a sequence of defined length ends whose length leads to no element.

    Parameters
    ----------
    sequence : Element
        The sequence; its value begins with an item.
    encoding : Encoding
        What is declared for the elements around it.
    in_item : bool
        Whether the sequence is in an item of undefined length.

    Raises
    ------
    FormatError
        The elements inside show no end, or several.
    """

    def goes_on(position: int) -> bool:
        if position + 8 <= end:
            kind = delimiter_at(buffer, position, encoding)
            if kind is not None and not (in_item and kind == tags.ITEM_DELIMITATION):
                return False
        return chain_follows(buffer, position, end, encoding, sequence.tag, in_item=in_item)

    def shows_vr(position: int) -> bool:
        # The VR and the 4-byte length of a long header look like a header in Implicit VR.
        if encoding.implicit or position + 8 > end:
            return True
        explicit = read_explicit(buffer, position, end, encoding)
        return explicit is not None and explicit.vr in KNOWN_VRS

    declared = sequence.value_offset + sequence.length
    walked = set()
    proved = set()  # where an item's length and the elements inside agree
    for place, agrees in _walk_ends(buffer, sequence.value_offset, end, encoding):
        walked.add(place)
        if agrees and place != declared and goes_on(place):
            proved.add(place)
    ends = proved or {
        place
        for place in walked
        if place != declared and abs(place - declared) <= _NEAR and goes_on(place)
    }
    if len(ends) == 1:
        (found,) = ends
        near = set(range(max(found - _NEAR, sequence.value_offset), min(found + _NEAR, end) + 1))
        near.discard(found)
        if proved:
            near -= walked
        if not any(shows_vr(place) and goes_on(place) for place in near):
            return found
    raise FormatError(
        f"sequence {tags.format_tag(sequence.tag)} has a wrong length: expected an element after "
        f"its {sequence.length} bytes, found none, and its items "
        + ("show several ends" if ends else "do not show where it ends"),
        offset=sequence.element_offset,
    )


def _walk_ends(
    buffer: Buffer, position: int, end: int, encoding: Encoding
) -> Iterator[tuple[int, bool]]:
    """Yield the offset after each element of each item, and whether its item's length agrees."""
    count = 0
    while position + 8 <= end and delimiter_at(buffer, position, encoding) == tags.ITEM:
        (length,) = encoding.length.unpack_from(buffer, position + 4)
        position += 8
        item_end = position + length if length != UNDEFINED_LENGTH else end
        if not length:
            yield position, True
        for after, closes in _walk_elements(buffer, position, min(item_end + _NEAR, end), encoding):
            count += 1
            if closes:
                item_end = after
            yield after, after == item_end
        position = item_end
        count += 1
        if count > _MOST_ELEMENTS:
            return


def _walk_elements(
    buffer: Buffer, position: int, end: int, encoding: Encoding
) -> Iterator[tuple[int, bool]]:
    """Yield the offset after each element of an item, and whether it is the item's delimiter."""
    explicit_form, implicit_form = forms_of(encoding)
    last_tag = 0
    while position + 8 <= end:
        kind = delimiter_at(buffer, position, encoding)
        if kind is not None:
            if kind == tags.ITEM_DELIMITATION:
                yield position + 8, True
            return
        element = read_explicit(buffer, position, end, explicit_form)
        form = explicit_form
        if element is None or element.vr not in KNOWN_VRS:
            element, form = read_implicit(buffer, position, implicit_form), implicit_form
        if element.tag <= last_tag:
            return
        last_tag = element.tag
        position = element.value_offset + element.length
        if element.length == UNDEFINED_LENGTH:
            try:
                position = skip_undefined_length(buffer, element.value_offset, end, form)
            except IrregularError:
                return
        if position <= end:
            yield position, False
