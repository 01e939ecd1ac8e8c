"""One DICOM file: what its header says, and where its frames are (PS3.10 section 7).

Puts the parts of the scan together.
"""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter

from mmindex.frame_table import FrameTable
from mmindex.model import (
    WHOLE_SLIDE_IMAGE,
    Anomaly,
    Boundaries,
    Buffer,
    Fingerprint,
    ImagePixel,
    InstanceRecord,
    Status,
)
from mmindex.scan import tags
from mmindex.scan.header import Header, scan_header
from mmindex.scan.image_numbers import read_image_numbers
from mmindex.scan.pixel_data import scan_pixel_data
from mmindex.scan.read_ahead import will_need
from mmindex.scan.transfer_syntax import Codec

_HEAD = 1 << 18  # bytes that hold the header of most slides
_IDENTIFIERS = (
    tags.SOP_CLASS_UID,
    tags.SOP_INSTANCE_UID,
    tags.STUDY_INSTANCE_UID,
    tags.SERIES_INSTANCE_UID,
    tags.MODALITY,
)
_IMAGE_NUMBERS = (  # in the order of the fields of ImagePixel
    tags.ROWS,
    tags.COLUMNS,
    tags.SAMPLES_PER_PIXEL,
    tags.BITS_ALLOCATED,
    tags.BITS_STORED,
    tags.HIGH_BIT,
    tags.PIXEL_REPRESENTATION,
    tags.PLANAR_CONFIGURATION,
)
_NO_PIXELS = ImagePixel()
_make_image_pixel = lru_cache(64)(ImagePixel)  # which the images of a series share


def scan(
    buffer: Buffer,
    *,
    force: bool = False,
    prove: bool = True,
    version: Fingerprint | None = None,
) -> InstanceRecord:
    """Scan a DICOM file: what the file holds and where its frames are.

    Parameters
    ----------
    buffer : bytes, memoryview or mmap
        The whole file.
    force : bool
        Accept a file without preamble and File Meta Information (PS3.10 7.1).
    prove : bool
        Check every entry of an offset table. False checks the first, the last and some between;
        a frame's fragments are then found when the frame is read.
    version : Fingerprint, optional
        The version of the file that the buffer is of.

    Returns
    -------
    InstanceRecord
        Without path, which a buffer does not have.

    Raises
    ------
    NotDicomError
        The buffer holds no DICOM file.
    FormatError
        The file is broken; AmbiguousFramesError where several readings of its frames fit.
    """
    return scan_frames(_begin(buffer, force, prove, version), prove=prove)


def scan_slide(
    buffer: Buffer,
    *,
    force: bool = False,
    prove: bool = True,
    version: Fingerprint | None = None,
) -> InstanceRecord:
    """Scan a file as `scan` does, and where the tiles of a whole slide image are."""
    header = _begin(buffer, force, prove, version)
    return scan_frames(header, prove=prove, with_positions=True)


def _begin(buffer: Buffer, force: bool, prove: bool, version: Fingerprint | None) -> Header:
    """Return the header of a file whose frames are looked for next; arguments as of `scan`."""
    if not prove:  # else all of the file is read soon
        will_need(buffer, [(0, _HEAD)])
    header = scan_header(buffer, force=force)
    header.version = version
    return header


def scan_frames(
    header: Header, *, prove: bool = True, with_positions: bool = False
) -> InstanceRecord:
    """Find the frames of the instance whose header this is.

    Parameters
    ----------
    prove : bool
        As in `scan`.
    with_positions : bool
        Find where the tiles of a whole slide image are, too. A file that breaks the rules of a
        slide has none, which opening the slide reports.

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
        frames, boundaries, number_of_frames = scan_pixel_data(
            header, pixel_data, image, prove=prove
        )
        status = Status.DEFLATED if header.inflated else Status.INDEXED
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
        with_positions=with_positions,
    )


def make_record(
    header: Header,
    status: Status,
    *,
    number_of_frames: int = 0,
    boundaries: Boundaries = Boundaries.NONE,
    image_pixel: ImagePixel | None = None,
    frames: FrameTable | None = None,
    reason: str = "",
    error: str = "",
    with_positions: bool = False,
) -> InstanceRecord:
    """Return the record of an instance with the identifiers and numbers that its header has."""
    sop_class, sop, study, series, modality = header.texts(_IDENTIFIERS)
    anomalies = header.anomalies
    positions = None
    if with_positions and sop_class == WHOLE_SLIDE_IMAGE and status.has_frames:
        from mmindex.scan.slide import find_tile_positions  # numpy, which other files do not need

        positions = find_tile_positions(header, number_of_frames, image_pixel or _NO_PIXELS)
    fields = (  # in their order
        status,
        b"",
        header.version,
        reason,
        error,
        header.transfer_syntax.uid,
        sop_class,
        sop,
        study,
        series,
        modality,
        header.encoding.big_endian,
        number_of_frames,
        boundaries,
        image_pixel or _NO_PIXELS,
        read_image_numbers(header),
        frames,
        tuple(sorted(anomalies, key=attrgetter("offset"))) if anomalies else (),
        0,
        None,
        positions,
        header.carried_values,
    )
    # As `InstanceRecord(...)`, which takes a thirtieth of a file's scan to fit names to fields.
    return tuple.__new__(InstanceRecord, fields)


def _read_image_pixel(header: Header) -> ImagePixel:
    pixel_data = header.data_set.pixel_data
    return _make_image_pixel(
        *header.numbers(_IMAGE_NUMBERS),
        header.text(tags.PHOTOMETRIC_INTERPRETATION),
        tags.PIXEL_KEYWORDS[pixel_data.tag] if pixel_data else "PixelData",
        pixel_data.vr if pixel_data else "",
    )
