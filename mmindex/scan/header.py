"""The header of one file, up to its pixel data: identifiers and image attributes (PS3.10 7).

Puts together the beginning of the file, its File Meta Information and its data set. A data set that
is deflated as a whole is inflated once, within bounds; its offsets are then those in the inflated
bytes. Frames are not looked for here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from mmindex.errors import FormatError
from mmindex.model import Anomaly, Buffer, Fingerprint
from mmindex.scan import tags
from mmindex.scan.element import Element
from mmindex.scan.elements import DataSet, scan_elements
from mmindex.scan.encoding import Encoding, encoding_of
from mmindex.scan.file_format import (
    detect_encoding,
    detect_vr,
    find_start,
    scan_file_meta,
    unwrap_deflated,
)
from mmindex.scan.frame_count import FrameCount
from mmindex.scan.irregular import scan_irregular
from mmindex.scan.known_runs import KnownRuns
from mmindex.scan.nesting import IrregularError
from mmindex.scan.transfer_syntax import TransferSyntax, find_transfer_syntax

_SHORT_NUMBERS = ("US", "", "SS", "UN")  # "" in Implicit VR
_US = ("US", "")
_LONG_NUMBERS = ("UL", "SL")
_LONGEST_TEXT = 256  # bytes; a UID has at most 64, a code string 16 (PS3.5 6.2)
_ABSENT = Element(0, "", 0, 0, 0)
_NOTHING = DataSet({})  # of a header whose data set was not read yet
_BLANK = " \0\t\r\n"
_PADDING = _BLANK.encode()
_MOST_DIGITS = 12  # of an Integer String (PS3.5 6.2)
_WHOLE_NUMBER = re.compile(rb"(\+?[0-9]{1,12})(?:\.0*)?")
_BINARY_NUMBERS = {  # struct's letters of the binary VRs (PS3.5 6.2)
    "US": "H",
    "SS": "h",
    "UL": "I",
    "SL": "i",
    "UV": "Q",
    "SV": "q",
    "FL": "f",
    "FD": "d",
}
_BINARY_OF_UNKNOWN_VR = {2: "H", 4: "I"}  # by length, in Implicit VR or UN


@dataclass(slots=True)
class Header:
    """The header of one instance, up to its pixel data, and the anomalies seen so far.

    Attributes
    ----------
    buffer : Buffer
        The bytes that offsets refer to: the inflated data set, where it was deflated.
    inflated : bool
        Whether `buffer` is an inflated data set.
    carried_values : tuple of bytes or None
        What the record carries of its attributes, set by a build that keeps them.
    version : Fingerprint or None
        The version of the file, set where it is known before the record is made.
    start : int
        Where the data set begins in `buffer`.
    """

    buffer: Buffer
    transfer_syntax: TransferSyntax
    encoding: Encoding
    data_set: DataSet
    anomalies: list[Anomaly] = field(default_factory=list)
    inflated: bool = False
    carried_values: tuple[bytes, bytes] | None = None
    version: Fingerprint | None = None
    start: int = 0

    def text(self, tag: int) -> str:
        """Return the value of an element as text without padding.

        The text is empty where the element is absent, or longer than any text of its kind may be.
        """
        element = self.data_set.elements.get(tag)
        if element is None:
            return ""
        _, _, _, value_offset, length = element
        if length > _LONGEST_TEXT:
            return ""
        return str(self.buffer[value_offset : value_offset + length], "latin-1").strip(_BLANK)

    def texts(self, wanted: tuple[int, ...]) -> list[str]:
        """Return the texts of several elements, as `text` does."""
        buffer, get = self.buffer, self.data_set.elements.get
        texts = []
        for tag in wanted:
            _, _, _, start, length = get(tag) or _ABSENT
            value = (
                str(buffer[start : start + length], "latin-1") if length <= _LONGEST_TEXT else ""
            )
            texts.append(value.strip(_BLANK))
        return texts

    def numbers(self, wanted: tuple[int, ...]) -> list[int | None]:
        """Return the values of several elements, as `number` does."""
        buffer, get = self.buffer, self.data_set.elements.get
        unpack_from = self.encoding.number.unpack_from
        numbers: list[int | None] = []
        for tag in wanted:
            element = get(tag)
            if element is None:
                numbers.append(None)
            elif element[4] == 2 and element[1] in _US:  # most are
                numbers.append(unpack_from(buffer, element[3])[0])
            else:
                numbers.append(self.number(tag))
        return numbers

    def number(self, tag: int) -> int | None:
        """Return the value of a US element; None where it is absent or is no such number."""
        element = self.data_set.elements.get(tag)
        if element is None:
            return None
        _, vr, _, value_offset, length = element
        if length >= 2 and vr in _SHORT_NUMBERS:
            number: int = self.encoding.number.unpack_from(self.buffer, value_offset)[0]
            return number
        if length >= 4 and vr in _LONG_NUMBERS:
            number = self.encoding.length.unpack_from(self.buffer, value_offset)[0]
            return number if number <= 0xFFFF else None
        return None

    def number_of_frames(self) -> FrameCount:
        """Return Number of Frames (0028,0008), and whether its value is clean."""
        element = self.data_set.elements.get(tags.NUMBER_OF_FRAMES)
        if element is None:
            return FrameCount(None)
        _, vr, _, start, length = element
        value = bytes(self.buffer[start : start + length]) if length <= _LONGEST_TEXT else b""
        layout = _BINARY_NUMBERS.get(vr)
        if layout is None:
            text = value.strip(b" \0")
            digits = text.removeprefix(b"+")
            if digits.isdigit() and len(digits) <= _MOST_DIGITS:
                number = int(digits)
                return FrameCount(number or None, number > 0)
            first = _WHOLE_NUMBER.fullmatch(text.partition(b"\\")[0].strip(_PADDING))
            if first:
                return FrameCount(int(first[1]) or None, False)
            if vr in ("", "UN"):
                layout = _BINARY_OF_UNKNOWN_VR.get(len(value))
        if layout is None or len(value) < struct.calcsize("=" + layout):
            return FrameCount(None, False)
        (number,) = struct.unpack_from(self.encoding.byte_order + layout, value)
        is_count = 1 <= number < 1e12 and number % 1 == 0
        return FrameCount(int(number) if is_count else None, False)


def scan_header(
    buffer: Buffer,
    *,
    force: bool = False,
    known_runs: KnownRuns | None = None,
    also: frozenset[int] = frozenset(),
    begin_long: Callable[[], object] = lambda: None,
) -> Header:
    """Read what stands before the pixel data.

    Parameters
    ----------
    known_runs : KnownRuns, optional
        What is known from files scanned before, which are likely alike; it learns from the first.
    also : set of int
        Tags of elements that are noted besides those that every scan needs.
    begin_long : callable
        Called once before a deflated data set takes more memory than `LONG_INFLATED`.

    Raises
    ------
    NotDicomError, FormatError
        As `scan`.
    """
    return _add_data_set(*_scan_beginning(buffer, force, begin_long), known_runs, also)


def scan_up_to_value(buffer: Buffer) -> Header:
    """Read what stands before the value of the pixel data, where `buffer` ends.

    Elements are not walked, and so none but the pixel data is in `data_set`, unless the header
    breaks the rules of structure or is deflated.

    Raises
    ------
    NotDicomError, FormatError
        As `scan_header` with force.
    """
    header, start, second_uid = _scan_beginning(buffer, True)
    encoding = header.encoding
    if not header.inflated and len(buffer) >= start + 12:
        offset = len(buffer) - (8 if encoding.implicit else 12)
        raw_tag, vr, length = encoding.header.unpack_from(buffer, max(offset, 0))
        tag = encoding.tag_of(raw_tag)
        if tag in tags.PIXEL_KEYWORDS:
            name = "" if encoding.implicit else encoding.vr_of(vr)
            header.data_set = DataSet({}, Element(tag, name, offset, len(buffer), length))
            return header
    return _add_data_set(header, start, second_uid)


def _scan_beginning(
    buffer: Buffer, force: bool, begin_long: Callable[[], object] = lambda: None
) -> tuple[Header, int, str]:
    """Return a header without data set, where that begins, and the second transfer syntax."""
    if isinstance(buffer, memoryview) and (buffer.format != "B" or buffer.ndim != 1):
        buffer = buffer.cast("B")
    anomalies: list[Anomaly] = []
    start = find_start(buffer, force, anomalies)
    meta = scan_file_meta(buffer, start, force, anomalies)
    start = meta.data_set_offset
    syntax = find_transfer_syntax(meta.transfer_syntax_uid)
    inflated = False
    if syntax.deflated:
        unwrapped = unwrap_deflated(buffer, start, anomalies, begin_long)
        if unwrapped is not None:
            buffer, start, inflated = unwrapped, 0, True
    if syntax.uid:
        declared = encoding_of(implicit=syntax.implicit, big_endian=syntax.big_endian)
        encoding = detect_vr(buffer, start, declared)
        if encoding is not declared:
            anomalies.append(Anomaly("vr-mismatch", start))
    else:
        encoding = detect_encoding(buffer, start)
        anomalies.append(Anomaly("no-transfer-syntax", start))
    header = Header(buffer, syntax, encoding, _NOTHING, anomalies, inflated, start=start)
    return header, start, meta.second_transfer_syntax_uid


def _add_data_set(
    header: Header,
    start: int,
    second_uid: str,
    known_runs: KnownRuns | None = None,
    also: frozenset[int] = frozenset(),
) -> Header:
    """Return a header with its data set, which begins at `start`."""
    syntax, anomalies = header.transfer_syntax, header.anomalies
    try:
        header.data_set = _scan_data_set(
            header.buffer, start, header.encoding.wanting(also), known_runs, also
        )
    except FormatError as error:
        if second_uid in ("", syntax.uid):
            raise
        second = find_transfer_syntax(second_uid)
        raise FormatError(
            f"{error.message}; the File Meta Information stands twice, first with {syntax.name}, "
            f"then with {second.name} ({second.uid}), which may be the right one",
            offset=error.offset,
        ) from error
    if header.data_set.anomalies:
        header.anomalies = _merge(anomalies, header.data_set.anomalies)
    return header


def _scan_data_set(
    buffer: Buffer,
    start: int,
    encoding: Encoding,
    known_runs: KnownRuns | None,
    also: frozenset[int],
) -> DataSet:
    try:
        data_set = scan_elements(buffer, start, len(buffer), encoding, known_runs)
    except IrregularError:
        return scan_irregular(buffer, start, len(buffer), encoding, tags.WANTED | also)
    if known_runs is not None and known_runs.encoding is None:
        end = data_set.pixel_data.element_offset if data_set.pixel_data else len(buffer)
        known_runs.learn(buffer, start, end, encoding)
    return data_set


def _merge(anomalies: list[Anomaly], more: tuple[Anomaly, ...]) -> list[Anomaly]:
    """Return both lists as one, with one anomaly a code."""
    merged = {anomaly.code: anomaly for anomaly in anomalies}
    for anomaly in more:
        seen = merged.get(anomaly.code)
        if seen is not None:
            anomaly = seen._replace(count=seen.count + anomaly.count)
        merged[anomaly.code] = anomaly
    return list(merged.values())
