"""Data sets that break the rules of structure, read where their bytes leave one reading.

The plain walk of elements.py hands over what the standard does not allow (PS3.5 7.1, 7.5): parts in
the other VR form, items and delimiters where none belong, sequences whose length is wrong. A length
that leads to an element, or exactly to the end, decides between two readings. Where both fit, or
none does, a FormatError says what stands there. This walk looks closer and is slower.
"""

from __future__ import annotations

from mmindex.errors import FormatError
from mmindex.model import Anomaly, Buffer
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.element_headers import (
    chain_follows,
    delimiter_at,
    ends_here,
    read_explicit,
    read_implicit,
    read_with_blank_vr,
    tag_at,
)
from mmindex.scan.elements import DataSet, begins_with_zeros, note_zeros
from mmindex.scan.encoding import (
    IMPLICIT_LITTLE,
    KNOWN_VRS,
    LOWEST_VR_AS_LENGTH,
    UNDEFINED_LENGTH,
    Encoding,
    forms_of,
)
from mmindex.scan.nesting import MAX_NESTING, IrregularError, skip_undefined_length
from mmindex.scan.open_sequence import OpenSequence
from mmindex.scan.sequence_length import find_sequence_end

_MOST_LOOKS = 1 << 19  # at what follows, in one file: bounds the time
_MOST_WRONG_LENGTHS = 256  # of sequences in one file: each costs a walk through its items
_DAMAGED_UNDEFINED_LENGTH = 0x3F3F_3F3F  # where each byte over 7F became 3F
_NAMES = {
    tags.ITEM: "an item",
    tags.ITEM_DELIMITATION: "an item's end",
    tags.SEQUENCE_DELIMITATION: "a sequence's end",
    None: "an element",
}


def scan_irregular(
    buffer: Buffer,
    element_offset: int,
    end: int,
    encoding: Encoding,
    wanted: frozenset[int] = tags.WANTED,
) -> DataSet:
    """Walk the top-level elements of a data set that `scan_elements` did not read.

    Parameters
    ----------
    element_offset, end : int
        Where the data set is, in bytes.
    wanted : set of int
        Tags of the elements that are noted.

    Raises
    ------
    FormatError
        An element runs past the end, has no value representation, or nests too deeply; something
        stands where it does not belong.
    """
    walk = _Walk(buffer, end)
    found: dict[int, Element] = {}
    position = element_offset
    while position + 8 <= end:
        if delimiter_at(buffer, position, encoding) is not None:
            position = walk.step_over(position, encoding)
            continue
        if not any(buffer[position : position + 8]):
            break  # zeros after the last element
        element, form = walk.read_element(position, encoding, in_item=False)
        if element.tag in tags.PIXEL_KEYWORDS:
            return DataSet(found, element, walk.list_anomalies(), regular=False)
        if element.tag in wanted:
            found.setdefault(element.tag, element)
        position = walk.find_next(element, form, encoding, in_item=False)
    if not begins_with_zeros(buffer, position, end):
        raise FormatError(
            f"expected an element or the end, found {end - position} bytes of something else",
            offset=position,
        )
    anomalies = walk.list_anomalies() + note_zeros(position, end)
    return DataSet(found, anomalies=anomalies, regular=False)


class _Walk:
    """The state of a walk through one data set: its anomalies, and its number of second looks."""

    def __init__(self, buffer: Buffer, end: int) -> None:
        self._buffer = buffer
        self._end = end
        self._anomalies: dict[str, Anomaly] = {}
        self._looks = 0
        self._item_is_open = False  # whether a stray item of undefined length had no end

    def list_anomalies(self) -> tuple[Anomaly, ...]:
        """Return one anomaly a code, with where it was first seen and how often."""
        return tuple(self._anomalies.values())

    def step_over(self, position: int, encoding: Encoding) -> int:
        """Return the offset after an item or a delimiter at the top level.

        Raises
        ------
        FormatError
            Neither after the item nor after its header the data set goes on.
        """
        self._note("stray-item", position)
        kind = delimiter_at(self._buffer, position, encoding)
        inside = position + 8
        if kind != tags.ITEM:
            return inside
        length = self._item_length(position, encoding)
        places = [inside + length, inside]
        if length == UNDEFINED_LENGTH:
            places = [inside]
            if not self._item_is_open:
                item = OpenSequence(0, encoding, encoding, encoding, in_item=True)
                try:
                    return self._skip(inside, [item], end_with_item=True)
                except FormatError:
                    self._item_is_open = True
        for place in places:
            if self._goes_on(place, encoding) or ends_here(self._buffer, place, self._end):
                return place
        raise FormatError(
            f"expected an element, found an item of {length} bytes, after which none follows",
            offset=position,
        )

    def read_element(
        self, position: int, encoding: Encoding, *, in_item: bool
    ) -> tuple[Element, Encoding]:
        """Return the element whose header is at `position`, and the encoding that it is in.

        Raises
        ------
        FormatError
            The header has no value representation and fits no other form, or fits two.
        """
        buffer, end = self._buffer, self._end
        explicit_form, implicit_form = forms_of(encoding)
        explicit = read_explicit(buffer, position, end, explicit_form)
        implicit = read_implicit(buffer, position, implicit_form)
        known = explicit is not None and explicit.vr in KNOWN_VRS
        if encoding.implicit:
            if not known or implicit.length < LOWEST_VR_AS_LENGTH:
                return implicit, encoding
        elif explicit is not None and not self._may_be_length(explicit, encoding):
            return explicit, encoding
        blank = read_with_blank_vr(buffer, position, implicit_form)
        fitting: dict[int, Element] = {}  # by where the next element would be
        for reading in (explicit, implicit, blank):
            if reading is not None and self._fits(reading, encoding, in_item=in_item):
                fitting.setdefault(reading.value_offset + reading.length, reading)
        name = tags.format_tag(tag_at(buffer, position, encoding))
        if len(fitting) > 1:
            raise FormatError(
                f"{name} can be read in both VR forms, and an element follows in either",
                offset=position,
            )
        for element in fitting.values():
            form = explicit_form if element.vr else implicit_form
            if form is not encoding:
                self._note("vr-mismatch", position)
            return element, form
        if encoding.implicit:
            return implicit, encoding
        if explicit is not None:
            return explicit, encoding
        vr = bytes(buffer[position + 4 : position + 6]).decode("latin-1")
        raise FormatError(
            f"expected a value representation in {name}, found {vr!r}, and a length that leads "
            "to no element in Implicit VR either",
            offset=position,
        )

    def find_next(
        self, element: Element, form: Encoding, encoding: Encoding, *, in_item: bool
    ) -> int:
        """Return the offset after an element.

        Parameters
        ----------
        form, encoding : Encoding
            What the element is in, and what is declared for those around it.

        Raises
        ------
        FormatError
            The element runs past the end, or its sequence breaks off.
        """
        if element.length == UNDEFINED_LENGTH:
            return self._skip_undefined_length(element, form)
        position = element.value_offset + element.length
        is_sequence = element.length >= 8 and self._kind_at(element.value_offset, form) == tags.ITEM
        if is_sequence and not self._leads_on(position, encoding, in_item=in_item):
            found = find_sequence_end(self._buffer, element, self._end, encoding, in_item=in_item)
            self._note("sequence-length", element.element_offset)
            if self._anomalies["sequence-length"].count > _MOST_WRONG_LENGTHS:
                raise FormatError(
                    f"over {_MOST_WRONG_LENGTHS} sequences have a wrong length",
                    offset=element.element_offset,
                )
            return found
        if position > self._end:
            raise FormatError(
                f"element {tags.format_tag(element.tag)} runs past the end: "
                f"expected {position - element.element_offset} bytes, "
                f"found {self._end - element.element_offset}",
                offset=element.element_offset,
            )
        return position

    def _skip_undefined_length(self, element: Element, form: Encoding) -> int:
        inside = IMPLICIT_LITTLE if element.vr == "UN" else form
        try:
            return skip_undefined_length(self._buffer, element.value_offset, self._end, inside)
        except IrregularError:
            sequence = OpenSequence(element.tag, inside, form, inside)
            return self._skip(element.value_offset, [sequence])

    def _skip(
        self, position: int, stack: list[OpenSequence], *, end_with_item: bool = False
    ) -> int:
        """Return the offset after the outermost sequence of `stack`, or after its item."""
        outermost = stack[0]
        while stack:
            if position + 8 > self._end:
                raise FormatError(
                    f"expected the delimiter of {stack[-1].name} of undefined length, "
                    "found the end",
                    offset=min(position, self._end),
                )
            if stack[-1].in_item:
                position = self._walk_item(position, stack)
            else:
                position = self._walk_sequence(position, stack)
            if end_with_item and not outermost.in_item:
                break
        return position

    def _walk_sequence(self, position: int, stack: list[OpenSequence]) -> int:
        """Return the offset after what stands at `position`, where an item is expected."""
        sequence = stack[-1]
        for encoding in (sequence.declared, sequence.outer):
            kind = delimiter_at(self._buffer, position, encoding)
            if kind is not None:
                break
        after = position + 8
        if kind is None:
            raise self._unexpected(position, None, f"an item or the end of {sequence.name}")
        self._note_damage(position, encoding)
        if kind == tags.ITEM:
            if encoding.big_endian is not sequence.declared.big_endian:
                self._note("vr-mismatch", position)
            length = self._item_length(position, encoding)
            if length != UNDEFINED_LENGTH:
                return after + length
            sequence.encoding, sequence.in_item, sequence.last_tag = encoding, True, -1
        elif kind == tags.SEQUENCE_DELIMITATION:
            stack.pop()
        else:
            self._note("stray-item", position)
            next_kind = self._kind_at(after, encoding)
            stays = next_kind in (tags.ITEM, tags.SEQUENCE_DELIMITATION)
            self._decide(position, stack, kind, stays=stays)
        return after

    def _walk_item(self, position: int, stack: list[OpenSequence]) -> int:
        """Return the offset after what stands at `position`, where an element is expected."""
        sequence = stack[-1]
        kind = delimiter_at(self._buffer, position, sequence.encoding)
        after = position + 8
        if kind == tags.ITEM:
            raise self._unexpected(position, kind, sequence.describe_item())
        if kind is not None:
            self._note_damage(position, sequence.encoding)
        if kind == tags.ITEM_DELIMITATION:
            sequence.in_item = False
            return after
        if kind == tags.SEQUENCE_DELIMITATION:
            self._note("stray-item", position)
            last_tag = sequence.last_tag
            stays = self._goes_on(after, sequence.encoding, last_tag, in_item=True)
            self._decide(position, stack, kind, stays=stays)
            return after
        if not any(self._buffer[position : position + 4]):
            raise self._unexpected(position, kind, sequence.describe_item())
        element, form = self.read_element(position, sequence.encoding, in_item=True)
        if sequence.last_tag < 0:
            sequence.encoding = form  # the whole item is likely in the form of its first element
        sequence.last_tag = element.tag
        if element.length != UNDEFINED_LENGTH:
            return self.find_next(element, form, sequence.encoding, in_item=True)
        if len(stack) >= MAX_NESTING:
            raise FormatError(f"sequences nest over {MAX_NESTING} levels deep", offset=position)
        inside = IMPLICIT_LITTLE if element.vr == "UN" else form
        stack.append(OpenSequence(element.tag, inside, form, inside))
        return element.value_offset

    def _decide(self, position: int, stack: list[OpenSequence], kind: int, *, stays: bool) -> None:
        """Leave the sequence that a foreign delimiter ends, or stay where it is stray.

        Raises
        ------
        FormatError
            The data goes on after the delimiter in both readings, or in none.
        """
        sequence = stack[-1]
        nested = len(stack) > 1
        around = stack[-2].encoding if nested else sequence.outer
        ends = self._goes_on(position + 8, around, sequence.tag, in_item=nested)
        if stays == ends:
            expected = (
                sequence.describe_item() if sequence.in_item else f"an item of {sequence.name}"
            )
            raise self._unexpected(position, kind, expected)
        if ends:
            stack.pop()

    def _fits(self, element: Element, encoding: Encoding, *, in_item: bool) -> bool:
        """Return whether an element's value stays inside, and what follows is an element."""
        if element.length == UNDEFINED_LENGTH:
            kinds = {
                self._kind_at(element.value_offset, form) for form in (encoding, IMPLICIT_LITTLE)
            }
            return not kinds.isdisjoint((tags.ITEM, tags.SEQUENCE_DELIMITATION))
        after = element.value_offset + element.length
        return self._goes_on(after, encoding, element.tag, in_item=in_item)

    def _goes_on(
        self, position: int, encoding: Encoding, last_tag: int = 0, *, in_item: bool = False
    ) -> bool:
        """Return whether an element, a delimiter or the end is at `position`."""
        self._look()
        return chain_follows(self._buffer, position, self._end, encoding, last_tag, in_item=in_item)

    def _may_be_length(self, explicit: Element, encoding: Encoding) -> bool:
        """Return whether a value representation may be the low bytes of an even length."""
        even = not encoding.big_endian and ord(explicit.vr[0]) % 2 == 0
        return even and "vr-mismatch" in self._anomalies

    def _leads_on(self, position: int, encoding: Encoding, *, in_item: bool) -> bool:
        """Return whether any element, delimiter or end is at `position`, in order or not."""
        if self._kind_at(position, encoding) is not None:
            return True
        if not encoding.implicit and position + 8 <= self._end:
            for place in (position, position - 4):  # there, VR and length look like Implicit VR
                explicit = read_explicit(self._buffer, place, self._end, encoding)
                if explicit is not None and explicit.vr in KNOWN_VRS:
                    return place == position
        if not in_item and ends_here(self._buffer, position, self._end):
            return True
        return self._goes_on(position, encoding, in_item=in_item)

    def _kind_at(self, position: int, encoding: Encoding) -> int | None:
        if position + 8 > self._end:
            return None
        return delimiter_at(self._buffer, position, encoding)

    def _item_length(self, position: int, encoding: Encoding) -> int:
        length: int = encoding.length.unpack_from(self._buffer, position + 4)[0]
        damaged = tag_at(self._buffer, position, encoding) >> 16 == 0x3F3F
        if damaged and length == _DAMAGED_UNDEFINED_LENGTH:
            return UNDEFINED_LENGTH
        return length

    def _unexpected(self, position: int, kind: int | None, expected: str) -> FormatError:
        found = _NAMES[kind]
        if kind is None and not any(self._buffer[position : position + 4]):
            found = "zeros"
        return FormatError(f"expected {expected}, found {found}", offset=position)

    def _note_damage(self, position: int, encoding: Encoding) -> None:
        if tag_at(self._buffer, position, encoding) >> 16 == 0x3F3F:
            self._note("stray-item", position)

    def _note(self, code: str, offset: int) -> None:
        self._look()
        seen = self._anomalies.get(code)
        first, count = (seen.offset, seen.count) if seen else (offset, 0)
        self._anomalies[code] = Anomaly(code, first, count + 1)

    def _look(self) -> None:
        self._looks += 1
        if self._looks > _MOST_LOOKS:
            raise FormatError(f"the data set breaks the standard in over {_MOST_LOOKS} places")
