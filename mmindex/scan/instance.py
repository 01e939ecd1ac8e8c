"""One DICOM file: preamble, File Meta Information, data set, pixel data (PS3.10 section 7).

Puts the parts of the scan together. A data set that is deflated as a whole is inflated once,
within bounds, and scanned like any other; its offsets are then those in the inflated bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from mmindex.errors import FormatError
from mmindex.model import (
    Anomaly,
    Boundaries,
    Buffer,
    FrameTable,
    ImagePixel,
    InstanceRecord,
    Status,
)
from mmindex.scan import tags
from mmindex.scan.elements import (
    UNDEFINED_LENGTH,
    DataSet,
    Element,
    Encoding,
    read_value,
    scan_elements,
)
from mmindex.scan.file_format import (
    detect_encoding,
    detect_vr,
    encoding_of,
    find_start,
    inflate,
    scan_file_meta,
)
from mmindex.scan.native import scan_native
from mmindex.scan.transfer_syntax import Codec, TransferSyntax, find_transfer_syntax

if TYPE_CHECKING:
    from mmindex.scan.offset_tables import OffsetTable
    from mmindex.scan.runs import KnownRuns

_SHORT_NUMBERS = ("US", "", "SS", "UN")  # "" in Implicit VR
_LONG_NUMBERS = ("UL", "SL")
_LONGEST_TEXT = 256  # bytes; a UID has at most 64, a code string 16 (PS3.5 6.2)
_INTEGER_STRING = re.compile(rb"\+?[0-9]{1,12}")  # PS3.5 6.2, IS


@dataclass(slots=True)
class Header:
    """What stands before the pixel data of one instance, and the anomalies seen so far."""

    buffer: Buffer  # that offsets refer to: the inflated data set, where it was deflated
    transfer_syntax: TransferSyntax
    encoding: Encoding
    data_set: DataSet
    anomalies: list[Anomaly] = field(default_factory=list)

    def text(self, tag: int) -> str:
        """Return the value of an element as text without padding.

        It is empty where the element is absent, or longer than any text of its kind may be.
        """
        element = self.data_set.elements.get(tag)
        if element is None:
            return ""
        _, _, _, value_offset, length = element
        if length > _LONGEST_TEXT:
            return ""
        value = bytes(self.buffer[value_offset : value_offset + length])
        return value.strip(b" \0").decode("latin-1")

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


def scan(
    buffer: Buffer, *, force: bool = False, trust_offset_tables: bool = False
) -> InstanceRecord:
    """Find out what a DICOM file holds and where its frames are.

    Parameters
    ----------
    buffer : bytes, memoryview or mmap
        The whole file.
    force : bool
        Accept a file without preamble and File Meta Information (PS3.10 7.1).
    trust_offset_tables : bool
        Take an offset table's entries after a look at the first, the last and some between; a
        frame's fragments are then found when it is read.

    Returns
    -------
    InstanceRecord
        Without path and fingerprint, which a buffer does not have.

    Raises
    ------
    NotDicomError
        The buffer holds no DICOM file.
    FormatError
        The file is broken; AmbiguousFramesError where its frame boundaries cannot be told.
    """
    header = scan_header(buffer, force=force)
    return scan_frames(header, trust_offset_tables=trust_offset_tables)


def scan_header(
    buffer: Buffer, *, force: bool = False, known_runs: KnownRuns | None = None
) -> Header:
    """Read what stands before the pixel data.

    Parameters
    ----------
    known_runs : KnownRuns, optional
        What is known from files scanned before, which are likely alike; it learns from the first.

    Raises
    ------
    NotDicomError, FormatError
        As `scan`.
    """
    if isinstance(buffer, memoryview) and (buffer.format != "B" or buffer.ndim != 1):
        buffer = buffer.cast("B")
    anomalies: list[Anomaly] = []
    start = find_start(buffer, force, anomalies)
    uid, start = scan_file_meta(buffer, start, force, anomalies)
    syntax = find_transfer_syntax(uid)
    if syntax.deflated:
        buffer, start = inflate(buffer, start), 0
    if uid:
        declared = encoding_of(implicit=syntax.implicit, big_endian=syntax.big_endian)
        encoding = detect_vr(buffer, start, declared)
        if encoding is not declared:
            anomalies.append(Anomaly("vr-mismatch", start))
    else:
        encoding = detect_encoding(buffer, start)
        anomalies.append(Anomaly("no-transfer-syntax", start))
    data_set = scan_elements(buffer, start, len(buffer), encoding, known_runs)
    if known_runs is not None and known_runs.encoding is None:
        end = data_set.pixel_data.element_offset if data_set.pixel_data else len(buffer)
        known_runs.learn(buffer, start, end, encoding)
    return Header(buffer, syntax, encoding, data_set, anomalies)


def scan_frames(header: Header, *, trust_offset_tables: bool = False) -> InstanceRecord:
    """Find the frames of the instance whose header this is.

    Parameters
    ----------
    trust_offset_tables : bool
        As in `scan`.

    Raises
    ------
    FormatError
        As `scan`.
    """
    pixel_data = header.data_set.pixel_data
    image = _read_image_pixel(header)
    frames, boundaries = None, Boundaries.NONE
    number_of_frames = 0
    status = Status.NO_PIXEL_DATA
    if pixel_data is not None:
        frames, boundaries, number_of_frames = _scan_pixel_data(
            header, pixel_data, image, trust_offset_tables
        )
        status = Status.DEFLATED if header.transfer_syntax.deflated else Status.INDEXED
        if header.transfer_syntax.codec is Codec.VIDEO:
            status = Status.STREAM
    elif (
        image.rows
        and image.bits_allocated
        and (header.transfer_syntax.codec is not Codec.NO_PIXEL_DATA)
    ):
        header.anomalies.append(Anomaly("pixel-data-missing", len(header.buffer)))
    return make_record(
        header,
        status,
        number_of_frames=number_of_frames,
        boundaries=boundaries,
        image_pixel=image,
        frames=frames,
    )


def make_record(header: Header, status: Status, **known: object) -> InstanceRecord:
    """Return the record of an instance with the identifiers that its header has."""
    return InstanceRecord(
        status=status,
        transfer_syntax_uid=header.transfer_syntax.uid,
        big_endian=header.encoding.big_endian,
        sop_class_uid=header.text(tags.SOP_CLASS_UID),
        sop_instance_uid=header.text(tags.SOP_INSTANCE_UID),
        study_instance_uid=header.text(tags.STUDY_INSTANCE_UID),
        series_instance_uid=header.text(tags.SERIES_INSTANCE_UID),
        modality=header.text(tags.MODALITY),
        anomalies=tuple(sorted(header.anomalies, key=attrgetter("offset"))),
        **known,  # type: ignore[arg-type]
    )


def _scan_pixel_data(
    header: Header, pixel_data: Element, image: ImagePixel, trust_offset_tables: bool
) -> tuple[FrameTable, Boundaries, int]:
    """Return the frame table, where the boundaries came from, and the number of frames."""
    number_of_frames = _read_number_of_frames(header)
    codec = header.transfer_syntax.codec
    size = len(header.buffer)
    available = min(pixel_data.length, size - pixel_data.value_offset)
    undefined = pixel_data.length == UNDEFINED_LENGTH
    expected = header.transfer_syntax.encapsulated
    if not undefined and not expected:
        count = number_of_frames or 1
        frames = scan_native(pixel_data, available, image, count, header.anomalies)
        return frames, Boundaries.NATIVE, count
    if undefined and codec is Codec.NATIVE:
        header.anomalies.append(Anomaly("encapsulated-under-native", pixel_data.element_offset))
    if not undefined:
        _check_begins_with_item(header, pixel_data)
        header.anomalies.append(Anomaly("defined-length-encapsulated", pixel_data.element_offset))
    from mmindex.scan.encapsulated import scan_encapsulated  # these two need numpy
    from mmindex.scan.items import PixelDataValue

    frames, boundaries = scan_encapsulated(
        header.buffer,
        PixelDataValue(
            pixel_data.value_offset,
            size if undefined else pixel_data.value_offset + available,
            not undefined and available == pixel_data.length,
            header.encoding.byte_order,
        ),
        codec,
        number_of_frames,
        _read_extended_offset_table(header),
        header.anomalies,
        trust_offset_tables=trust_offset_tables,
    )
    count = frames.number_of_frames
    if codec is Codec.VIDEO:
        return frames, boundaries, number_of_frames or 1
    if (
        number_of_frames is None
        and count > 1
        and (tags.NUMBER_OF_FRAMES not in header.data_set.elements)
    ):
        header.anomalies.append(Anomaly("number-of-frames", pixel_data.element_offset))
    return frames, boundaries, count


def _check_begins_with_item(header: Header, pixel_data: Element) -> None:
    item = header.encoding.length.pack(header.encoding.item)
    start = pixel_data.value_offset
    found = bytes(header.buffer[start : min(start + 4, start + pixel_data.length)])
    if found != item:
        raise FormatError(
            f"expected fragments under {header.transfer_syntax.name}, found a value of "
            f"{pixel_data.length} bytes that begins with {found.hex() or 'nothing'}",
            offset=pixel_data.element_offset,
        )


def _read_number_of_frames(header: Header) -> int | None:
    """Return (0028,0008), None where it is absent; noting one that is unusable."""
    element = header.data_set.elements.get(tags.NUMBER_OF_FRAMES)
    if element is None:
        return None
    text = read_value(header.buffer, header.data_set, tags.NUMBER_OF_FRAMES).strip(b" \0")
    if _INTEGER_STRING.fullmatch(text) and int(text):
        return int(text)
    header.anomalies.append(Anomaly("number-of-frames", element.element_offset))
    return None


def _read_extended_offset_table(header: Header) -> OffsetTable | None:
    element = header.data_set.elements.get(tags.EXTENDED_OFFSET_TABLE)
    if element is None or not element.length:
        return None
    lengths = None
    if tags.EXTENDED_OFFSET_TABLE_LENGTHS in header.data_set.elements:
        lengths = read_value(header.buffer, header.data_set, tags.EXTENDED_OFFSET_TABLE_LENGTHS)
    value = read_value(header.buffer, header.data_set, tags.EXTENDED_OFFSET_TABLE)
    from mmindex.scan.offset_tables import parse_extended_offset_table  # needs numpy

    return parse_extended_offset_table(
        element.element_offset, value, lengths, header.encoding.byte_order
    )


def _read_image_pixel(header: Header) -> ImagePixel:
    pixel_data = header.data_set.pixel_data
    return ImagePixel(
        rows=header.number(tags.ROWS),
        columns=header.number(tags.COLUMNS),
        samples_per_pixel=header.number(tags.SAMPLES_PER_PIXEL),
        bits_allocated=header.number(tags.BITS_ALLOCATED),
        bits_stored=header.number(tags.BITS_STORED),
        high_bit=header.number(tags.HIGH_BIT),
        pixel_representation=header.number(tags.PIXEL_REPRESENTATION),
        planar_configuration=header.number(tags.PLANAR_CONFIGURATION),
        photometric_interpretation=header.text(tags.PHOTOMETRIC_INTERPRETATION),
        pixel_keyword=tags.PIXEL_KEYWORDS[pixel_data.tag] if pixel_data else "PixelData",
        pixel_vr=pixel_data.vr if pixel_data else "",
    )
