"""Data elements: headers, lengths, nesting (PS3.5 section 7).

Walks the top level of a data set up to its pixel data and notes where the wanted values lie.
Everything else is skipped by structure: a defined length in one step, an undefined one with an
explicit stack. Values are not interpreted here, what follows the pixel data is not looked at, and
what breaks the rules of structure is left to irregular.py.
"""

from __future__ import annotations

from typing import NamedTuple

from mmindex.model import Anomaly, Buffer
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.encoding import LOWEST_VR_AS_LENGTH, UNDEFINED_LENGTH, Encoding
from mmindex.scan.known_runs import KnownRuns
from mmindex.scan.nesting import IrregularError, skip_undefined_length

MOST_ZEROS = 1 << 16  # bytes of zeros that end a data set, whatever follows them


class DataSet(NamedTuple):
    """The wanted elements of a data set by tag, and its pixel data element, where it has one.

    Attributes
    ----------
    anomalies : tuple of Anomaly
        What breaks the rules of structure.
    regular : bool
        Whether the plain walk read all of it.
    """

    elements: dict[int, Element]
    pixel_data: Element | None = None
    anomalies: tuple[Anomaly, ...] = ()
    regular: bool = True


def scan_elements(
    buffer: Buffer,
    element_offset: int,
    end: int,
    encoding: Encoding,
    known_runs: KnownRuns | None = None,
) -> DataSet:
    """Walk the top-level elements in [element_offset, end), up to the pixel data.

    The first value of a tag counts.

    Parameters
    ----------
    known_runs : KnownRuns, optional
        Those of another data set, to skip by.

    Raises
    ------
    IrregularError
        The structure breaks the standard: `scan_irregular` reads it or says what is wrong.
    """
    unpack, unpack_length = encoding.header.unpack_from, encoding.length.unpack_from
    wanted, short_vrs, vr_names = encoding.wanted, encoding.short_vrs, encoding.vr_names
    implicit, vr_shift, length_shift = encoding.implicit, encoding.vr_shift, encoding.length_shift
    if known_runs is not None and known_runs.encoding is not encoding:
        known_runs = None
    stops, runs = encoding.stops, {}
    if known_runs is not None:
        stops, runs = known_runs.stops, known_runs.runs
    delimiters, lowest = encoding.delimiters, LOWEST_VR_AS_LENGTH
    new, pixel_keywords = tuple.__new__, tags.PIXEL_KEYWORDS
    found: dict[int, Element] = {}
    position = element_offset
    last_header = end - 8
    while position <= last_header:
        tag, vr, length = unpack(buffer, position)
        if tag in stops:
            if vr in short_vrs and not runs and tag in wanted:  # most of those that are wanted
                known_tag = wanted[tag]
                element = new(Element, (known_tag, vr_names[vr], position, position + 8, length))
                if known_tag in pixel_keywords:
                    return DataSet(found, element)
                if known_tag not in found:
                    found[known_tag] = element
                position += 8 + length
                continue
            if tag in delimiters:
                raise IrregularError
            if known_runs is not None and tag in runs:
                skipped = known_runs.skip(buffer, tag, position, end, found)
                if skipped > position:
                    position = skipped
                    continue
        elif vr in short_vrs:  # most elements end here
            position += 8 + length
            continue
        elif implicit:
            value_length = vr << vr_shift | length << length_shift
            if value_length < lowest and tag:  # or here
                position += 8 + value_length
                continue
        if vr in short_vrs:
            value_offset = position + 8
        elif implicit:
            value_offset = position + 8
            length = vr << vr_shift | length << length_shift
            if not tag and not length:
                break  # zeros after the last element
            if length >= lowest and vr in vr_names:
                raise IrregularError
        else:
            if vr not in vr_names:
                if not tag and not vr:
                    break  # zeros after the last element
                if not encoding.is_vr(vr):
                    raise IrregularError
            value_offset = position + 12
            if value_offset > end:
                raise IrregularError
            (length,) = unpack_length(buffer, position + 8)
        if tag in wanted:
            known_tag = wanted[tag]
            name = "" if implicit else vr_names.get(vr) or encoding.vr_of(vr)
            element = new(Element, (known_tag, name, position, value_offset, length))
            if known_tag in pixel_keywords:
                return DataSet(found, element)
            found.setdefault(known_tag, element)
        if length == UNDEFINED_LENGTH:
            position = skip_undefined_length(buffer, value_offset, end, encoding.inside(vr))
        else:
            position = value_offset + length
    if position > end or not begins_with_zeros(buffer, position, end):
        raise IrregularError
    return DataSet(found, anomalies=note_zeros(position, end))


def begins_with_zeros(buffer: Buffer, start: int, end: int) -> bool:
    """Return whether nothing but zeros is in the first MOST_ZEROS bytes of [start, end)."""
    piece = bytes(buffer[start : min(end, start + MOST_ZEROS)])
    return piece.count(0) == len(piece)


def note_zeros(start: int, end: int) -> tuple[Anomaly, ...]:
    """Return the anomaly of a data set that ended in more zeros than were looked at."""
    return (Anomaly("zeros-after-data-set", start),) if end - start > MOST_ZEROS else ()
