"""pydicom's decoders: colours of native frames, and frames for which imagecodecs has no codec."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from mmindex.errors import DecodeError, MissingDependencyError
from mmindex.scan.transfer_syntax import find_transfer_syntax

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

_EMPTY_OFFSET_TABLE = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
_OPTIONS = (
    "rows",
    "columns",
    "samples_per_pixel",
    "bits_allocated",
    "bits_stored",
    "pixel_representation",
    "planar_configuration",
)


def decode_by_pydicom(frame: bytes, syntax_uid: str, image: ImagePixel, *, raw: bool) -> Pixels:
    """Return the pixels of one frame as pydicom decodes them.

    Raises
    ------
    DecodeError
        pydicom refuses the frame.
    MissingDependencyError
        No decoder for the transfer syntax is installed.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    syntax = find_transfer_syntax(syntax_uid)
    absent = MissingDependencyError(
        f"no decoder for {syntax.name} is installed: pip install 'mmindex[codecs]'"
    )
    try:
        decoder = get_decoder(syntax_uid)
    except NotImplementedError:
        raise absent from None
    if not decoder.is_available:
        raise absent
    options: dict[str, Any] = {
        "number_of_frames": 1,
        "photometric_interpretation": image.photometric_interpretation,
        "pixel_keyword": image.pixel_keyword,
        "pixel_vr": "OB",
    }
    for name in _OPTIONS:
        if getattr(image, name) is not None:
            options[name] = getattr(image, name)
    value = frame
    if UID(syntax_uid).is_encapsulated:
        value = _EMPTY_OFFSET_TABLE + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    try:
        array, _ = decoder.as_array(value, index=0, raw=raw, **options)
    except (AttributeError, MemoryError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DecodeError(f"cannot decode the frame: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of codecs written in Rust
            raise
        raise DecodeError(f"cannot decode the frame: {error}") from error
    return array


def convert_ybr(samples: Pixels) -> Pixels:
    """Return YBR_FULL as RGB (PS3.3 C.7.6.3.1.2).

    Raises
    ------
    DecodeError
        The samples are not three of 8 bits each, unsigned.
    """
    if samples.dtype.name != "uint8" or samples.ndim != 3 or samples.shape[2] != 3:
        raise DecodeError(
            "cannot convert the frame to RGB: expected three samples of uint8, found shape "
            f"{samples.shape} of {samples.dtype}; raw=True returns the samples as they are"
        )
    from pydicom.pixels.processing import convert_color_space

    converted: Pixels = convert_color_space(samples, "YBR_FULL", "RGB")
    return converted
