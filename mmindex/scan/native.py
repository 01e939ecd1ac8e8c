"""Native pixel data: frames follow each other without gaps, padding or headers (PS3.5 8.1, 8.2)."""

from __future__ import annotations

from mmindex.errors import AmbiguousFramesError, FormatError
from mmindex.model import Anomaly, FrameTable, ImagePixel, Layout
from mmindex.scan.elements import Element

_BITS_OF_FLOATS = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}
# Two pixels share one pair of chrominance samples: 2 samples a pixel (PS3.3 C.7.6.3.1.2).
_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422")


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
        An attribute that gives the length of a frame is absent or zero.
    """
    bits = find_frame_bits(image, pixel_data.element_offset)
    if image.photometric_interpretation in _SUBSAMPLED and image.samples_per_pixel == 3:
        subsampled = bits // 3 * 2
        if _is_subsampled(pixel_data, subsampled, bits, number_of_frames):
            bits = subsampled
        else:
            anomalies.append(Anomaly("photometric-length", pixel_data.element_offset))
    expected = (bits * number_of_frames + 7) // 8
    excess = available - expected
    if excess < 0:
        anomalies.append(Anomaly("pixel-data-short", pixel_data.element_offset))
    elif excess * 8 >= bits and excess > expected % 2:  # more than the padding byte
        anomalies.append(Anomaly("pixel-data-excess", pixel_data.element_offset))
    return FrameTable(
        layout=Layout.NATIVE,
        number_of_frames=number_of_frames,
        frames_located=min(number_of_frames, available * 8 // bits),
        number_of_fragments=0,
        value_offset=pixel_data.value_offset,
        frame_bits=bits,
    )


def _is_subsampled(pixel_data: Element, subsampled: int, full: int, number_of_frames: int) -> bool:
    """Return whether two samples a pixel are stored, going by the length of the value.

    Raises
    ------
    AmbiguousFramesError
        It has more or fewer frames than there should be, of either kind.
    """
    length = pixel_data.length

    def is_frames(bits: int, count: int) -> bool:
        exact = (bits * count + 7) // 8
        return length in (exact, exact + exact % 2)

    if not length or is_frames(subsampled, number_of_frames):
        return True
    if is_frames(full, number_of_frames):
        return False
    as_full = is_frames(full, length * 8 // full)
    if as_full and is_frames(subsampled, length * 8 // subsampled):
        raise AmbiguousFramesError(
            f"{length} bytes of YBR_FULL_422 are whole frames of two and of three samples a pixel, "
            f"but not {number_of_frames} of them",
            offset=pixel_data.element_offset,
        )
    return not as_full


def find_frame_bits(image: ImagePixel, element_offset: int) -> int:
    """Return the length of a frame with all its samples, in bits.

    Raises
    ------
    FormatError
        An attribute is absent or zero.
    """
    bits_allocated = _BITS_OF_FLOATS.get(image.pixel_keyword, image.bits_allocated)
    bits = 1
    for keyword, value in (
        ("Rows", image.rows),
        ("Columns", image.columns),
        ("Samples per Pixel", image.samples_per_pixel),
        ("Bits Allocated", bits_allocated),
    ):
        if not value:
            raise FormatError(
                f"{keyword} is {'absent or no number' if value is None else 'zero'}: "
                "native frames cannot be told apart without it",
                offset=element_offset,
            )
        bits *= value
    return bits
