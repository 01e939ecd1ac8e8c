"""Native pixel data: which of the ways to store frames a value's length agrees with (PS3.5 8).

By the standard frames follow each other without gaps, in samples of Bits Allocated each. Writers
also pad each frame, or give each sample a word of its own. A value whose length agrees exactly
with one of these readings is read so, with an anomaly; where two agree, or none, frames are
ambiguous. The samples themselves are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mmindex.errors import AmbiguousFramesError, FormatError
from mmindex.frame_table import FrameTable, Layout
from mmindex.model import WORDS, Anomaly, ImagePixel
from mmindex.scan.element import Element

_BITS_OF_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
# Two pixels share one pair of chrominance samples: 2 samples a pixel (PS3.3 C.7.6.3.1.2).
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422")
_SEVERAL_SAMPLES = ("RGB", "YBR", "HSV", "ARGB", "CMYK")  # photometric interpretations begin so
_PADDED_TO = (8, 16, 32)  # bits to whose multiples writers pad a frame or a row


class Reading(NamedTuple):
    """A way to store frames: bits of a frame, bits from one to the next, anomalies to note."""

    frame_bits: int
    stride_bits: int
    codes: tuple[str, ...] = ()

    @classmethod
    def tight(cls, frame_bits: int, codes: tuple[str, ...]) -> Reading:
        """Return the reading of frames that follow each other without gaps."""
        return cls(frame_bits, frame_bits, codes)

    def length(self, number_of_frames: int) -> int:
        """Return the bytes that a value of these frames has, without a pad byte."""
        return (self.stride_bits * number_of_frames + 7) // 8

    def is_exact(self, length: int, number_of_frames: int) -> bool:
        """Return whether a value of `length` bytes, a pad byte included, is these frames."""
        exact = self.length(number_of_frames)
        return length in (exact, exact + exact % 2)


def scan_native(
    pixel_data: Element,
    available: int,
    image: ImagePixel,
    number_of_frames: int,
    anomalies: list[Anomaly],
) -> FrameTable:
    """Return where the frames of native pixel data lie, noting anomalies.

    Parameters
    ----------
    available : int
        Bytes of the value that the data holds; less than its length where a file was cut.

    Raises
    ------
    FormatError
        An attribute that gives the length of a frame is absent or zero; AmbiguousFramesError
        where the value's length agrees with several ways to store frames, or with none.
    """
    offset = pixel_data.element_offset
    reading = _find_reading(image, pixel_data.length, number_of_frames, offset)
    anomalies.extend(Anomaly(code, offset) for code in reading.codes)
    spare = available * 8 - reading.frame_bits
    located = spare // reading.stride_bits + 1 if spare >= 0 else 0
    if located < number_of_frames:
        anomalies.append(Anomaly("pixel-data-short", offset))
    return FrameTable(
        layout=Layout.NATIVE,
        number_of_frames=number_of_frames,
        frames_located=min(number_of_frames, located),
        number_of_fragments=0,
        value_offset=pixel_data.value_offset,
        frame_bits=reading.frame_bits,
        stride_bits=reading.stride_bits,
    )


def scan_plain(
    pixel_data: Element, available: int, image: ImagePixel, number_of_frames: int
) -> FrameTable | None:
    """Return where frames lie whose length fits the only way to store them, which is whole.

    Most files are like that. None says that `scan_native` has to look at the other ways.
    """
    samples, length = image.samples_per_pixel, pixel_data.length
    bits = _BITS_OF_FLOATS.get(image.pixel_keyword, image.bits_allocated)
    if not (samples and bits and image.rows and image.columns) or length > available:
        return None
    frame_bits = image.rows * image.columns * samples * bits
    exact = (frame_bits * number_of_frames + 7) // 8
    if length not in (exact, exact + exact % 2) or image.is_packed:
        return None
    if samples == 3 and image.photometric_interpretation in _SUBSAMPLED:
        return None
    return FrameTable(
        Layout.NATIVE,
        number_of_frames,
        number_of_frames,
        0,
        pixel_data.value_offset,
        frame_bits,
        frame_bits,
    )


def is_native_length(image: ImagePixel, length: int, number_of_frames: int) -> bool:
    """Return whether `length` bytes are exactly these frames, one after the other."""
    try:
        return any(each.is_exact(length, number_of_frames) for each in _list_readings(image, 0))
    except FormatError:
        return False


def find_wrapped_lengths(image: ImagePixel, length: int, number_of_frames: int) -> list[int]:
    """Return the lengths of 4 GiB and more that these frames may have, of which `length` is left.

    A length has 32 bits (PS3.5 7.1.2): a writer that overlooks it leaves the rest modulo 2**32.
    """
    try:
        readings = _list_readings(image, 0)
    except FormatError:
        return []
    exact = {each.length(number_of_frames) for each in readings}
    candidates = exact | {each + each % 2 for each in exact}
    return sorted(each for each in candidates if each >> 32 and each % (1 << 32) == length)


def _find_reading(
    image: ImagePixel, length: int, number_of_frames: int, element_offset: int
) -> Reading:
    """Return the one way to store frames that the length of a value agrees with.

    Raises
    ------
    FormatError
        As `scan_native`.
    """
    readings = _list_readings(image, element_offset)
    standard = readings[0]
    tight = [each for each in readings if each.is_exact(length, number_of_frames)]
    fitting = list(tight)
    if not tight:
        if image.samples_per_pixel is None:
            _require("Samples per Pixel", None, element_offset)
        expected = standard.length(number_of_frames)
        if not length or (len(readings) == 1 and length < expected):
            return standard
        if len(readings) == 1 and length == expected + 1:  # a pad byte, if of an odd length
            return standard._replace(codes=("pixel-data-excess",) * (standard.frame_bits <= 8))
        fitting += _walk_padded_rows(standard, image, length, number_of_frames)
        if len(readings) == 1:  # else the length has to decide between them (rule R54)
            fitting += _walk_other_counts(readings, length, number_of_frames)
    if standard not in tight:
        fitting += _walk_padded(readings, length, number_of_frames)
    if not fitting and len(readings) == 1 and number_of_frames == 1:
        fitting.append(standard._replace(codes=("pixel-data-excess",)))
    if len(fitting) == 1 and fitting[0].stride_bits:
        return fitting[0]
    raise _ambiguous(readings, length, number_of_frames, fitting, element_offset)


def _list_readings(image: ImagePixel, element_offset: int) -> list[Reading]:
    """Return the ways to store frames without padding; the standard's comes first.

    Raises
    ------
    FormatError
        An attribute is absent or zero.
    """
    bits_allocated = _BITS_OF_FLOATS.get(image.pixel_keyword, image.bits_allocated)
    photometric = image.photometric_interpretation
    samples = image.samples_per_pixel
    codes: tuple[str, ...] = ()
    if samples is None and not photometric.startswith(_SEVERAL_SAMPLES):
        samples, codes = 1, ("samples-per-pixel",)
    rows, columns, samples, bits = (
        _require(keyword, value, element_offset)
        for keyword, value in (
            ("Rows", image.rows),
            ("Columns", image.columns),
            ("Samples per Pixel", samples),
            ("Bits Allocated", bits_allocated),
        )
    )
    counts = [(samples, codes)]
    if photometric in _SUBSAMPLED and samples == 3:
        counts = [(2, codes), (3, (*codes, "photometric-length"))]
    readings = [Reading.tight(rows * columns * count * bits, codes) for count, codes in counts]
    if image.is_packed:
        readings += [
            Reading.tight(rows * columns * count * word, (*codes, "bits-in-words"))
            for word in WORDS
            if word > bits
            for count, codes in counts
        ]
    return readings


def _require(keyword: str, value: int | None, element_offset: int) -> int:
    if value:
        return value
    raise FormatError(
        f"{keyword} is {'absent or no number' if value is None else 'zero'}: "
        "native frames have no length without it",
        offset=element_offset,
    )


def _walk_padded(readings: list[Reading], length: int, number_of_frames: int) -> Iterator[Reading]:
    """Yield the readings of frames that are padded one by one and that the length agrees with."""
    if number_of_frames == 1:  # the one frame is the same, padded or not
        return
    for reading in readings:
        for stride in sorted({_round_up(reading.frame_bits, to) for to in _PADDED_TO}):
            padded = Reading(reading.frame_bits, stride, (*reading.codes, "frame-padding"))
            if stride > reading.frame_bits and padded.is_exact(length, number_of_frames):
                yield padded


def _walk_other_counts(
    readings: list[Reading], length: int, number_of_frames: int
) -> Iterator[Reading]:
    """Yield the readings of which the value is whole frames, but more or fewer than there are."""
    for bits, _, codes in readings:
        count = length * 8 // bits
        if Reading(bits, bits).is_exact(length, count):
            excess = ("pixel-data-excess",) if count > number_of_frames else ()
            yield Reading(bits, bits, (*codes, *excess))


def _walk_padded_rows(
    standard: Reading, image: ImagePixel, length: int, number_of_frames: int
) -> Iterator[Reading]:
    """Yield a reading of stride 0, which cannot be served, where rows or planes may be padded."""
    rows, planes = image.rows or 1, 1
    if image.planar_configuration == 1:
        planes = image.samples_per_pixel or 1
    for lines in {rows * planes, planes} - {1}:
        line_bits = standard.frame_bits // lines
        for padded_bits in {_round_up(line_bits, to) for to in _PADDED_TO} - {line_bits}:
            if Reading(0, padded_bits * lines).is_exact(length, number_of_frames):
                yield Reading(0, 0)


def _ambiguous(
    readings: list[Reading],
    length: int,
    number_of_frames: int,
    fitting: list[Reading],
    element_offset: int,
) -> AmbiguousFramesError:
    lengths = " or ".join(
        str(each) for each in sorted({reading.length(number_of_frames) for reading in readings})
    )
    ways = "no way to store them"
    if len(fitting) > 1:
        ways = "more than one way to store them"
    elif fitting:
        ways = "rows or planes that are padded"
    return AmbiguousFramesError(
        f"expected {lengths} bytes for {number_of_frames} native frames, found a value of {length} "
        f"bytes, which agrees with {ways}",
        offset=element_offset,
    )


def _round_up(bits: int, multiple: int) -> int:
    return -(-bits // multiple) * multiple
