"""Headers of single elements, in any VR form, and whether data goes on in a place (PS3.5 7.1).

Only a data set that breaks the rules of structure raises such questions.
"""

from __future__ import annotations

from mmindex.model import Buffer
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.elements import begins_with_zeros
from mmindex.scan.encoding import KNOWN_VRS, UNDEFINED_LENGTH, Encoding, forms_of

_CHAIN = 3  # elements that must follow each other to count as no accident
_PADDING_GROUPS = (0xFFFA, 0xFFFC)  # Digital Signatures Sequence, Data Set Trailing Padding


def tag_at(buffer: Buffer, position: int, encoding: Encoding) -> int:
    """Return the tag at `position`."""
    raw_tag: int = encoding.length.unpack_from(buffer, position)[0]
    return encoding.tag_of(raw_tag)


def delimiter_at(buffer: Buffer, position: int, encoding: Encoding) -> int | None:
    """Return the tag of the item or delimiter at `position`, as it was before any damage."""
    return tags.DELIMITERS.get(tag_at(buffer, position, encoding))


def read_explicit(buffer: Buffer, position: int, end: int, form: Encoding) -> Element | None:
    """Return the element at `position` in Explicit VR, None where it has no such header."""
    raw_tag, vr, length = form.header.unpack_from(buffer, position)
    if not form.is_vr(vr):
        return None
    value_offset = position + 8
    if vr not in form.short_vrs:
        value_offset += 4
        if value_offset > end:
            return None
        (length,) = form.length.unpack_from(buffer, position + 8)
    return Element(form.tag_of(raw_tag), form.vr_of(vr), position, value_offset, length)


def read_implicit(buffer: Buffer, position: int, form: Encoding) -> Element:
    """Return the element at `position` in Implicit VR."""
    (length,) = form.length.unpack_from(buffer, position + 4)
    return Element(tag_at(buffer, position, form), "", position, position + 8, length)


def read_with_blank_vr(buffer: Buffer, position: int, form: Encoding) -> Element | None:
    """Return the element at `position`, with blanks or zeros for its VR and a 2-byte length."""
    raw_tag, vr, length = form.header.unpack_from(buffer, position)
    if vr not in (0, 0x2020):
        return None
    return Element(form.tag_of(raw_tag), "", position, position + 8, length)


def chain_follows(
    buffer: Buffer,
    position: int,
    end: int,
    encoding: Encoding,
    last_tag: int = 0,
    *,
    in_item: bool = False,
) -> bool:
    """Return whether elements follow each other from `position` on, or the data ends there.

    Tags must increase. Pixel data, a delimiter and a value of undefined length end the chain.

    Parameters
    ----------
    last_tag : int
        The tag before `position`.
    in_item : bool
        Whether an item's delimiter must follow in the end, and the data set's end may not.
    """
    for length_of_chain in range(_CHAIN):
        if position == end or (length_of_chain and ends_here(buffer, position, end)):
            return not in_item
        if position + 8 > end:
            return False
        kind = delimiter_at(buffer, position, encoding)
        if kind is not None:
            (length,) = encoding.length.unpack_from(buffer, position + 4)
            if kind == tags.ITEM:
                return not in_item and position + 8 + length <= end
            return length == 0 and not (in_item and kind == tags.SEQUENCE_DELIMITATION)
        element = _read_likely(buffer, position, end, encoding)
        if element is None or element.tag <= last_tag:
            return False
        if element.tag in tags.PIXEL_KEYWORDS or element.length == UNDEFINED_LENGTH:
            return True
        last_tag = element.tag
        position = element.value_offset + element.length
    return True


def _read_likely(buffer: Buffer, position: int, end: int, encoding: Encoding) -> Element | None:
    """Return the element at `position` in the form that shows, None where none is likely."""
    explicit_form, implicit_form = forms_of(encoding)
    group = tag_at(buffer, position, encoding) >> 16
    if not group or (group > tags.PIXEL_DATA >> 16 and group not in _PADDING_GROUPS):
        return None
    explicit = read_explicit(buffer, position, end, explicit_form)
    if explicit is not None and explicit.vr in KNOWN_VRS:
        if explicit.tag in tags.PIXEL_KEYWORDS and explicit.vr[0] in "OU":
            return explicit  # a file that was cut in its pixel data ends before its value does
        if _stays_inside(buffer, explicit, end, encoding):
            return explicit
    implicit = read_implicit(buffer, position, implicit_form)
    return implicit if _stays_inside(buffer, implicit, end, encoding) else None


def _stays_inside(buffer: Buffer, element: Element, end: int, encoding: Encoding) -> bool:
    if element.length != UNDEFINED_LENGTH:
        return element.value_offset + element.length <= end
    if element.value_offset + 8 > end:
        return False
    kind = delimiter_at(buffer, element.value_offset, encoding)
    return kind in (tags.ITEM, tags.SEQUENCE_DELIMITATION)


def ends_here(buffer: Buffer, position: int, end: int) -> bool:
    """Return whether nothing, or nothing but zeros, is from `position` on."""
    return position <= end and begins_with_zeros(buffer, position, end)
