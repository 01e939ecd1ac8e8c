"""One compressed frame's bytes -> array: the registry's codec by imagecodecs, else pydicom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmindex.decode.by_pydicom import convert_ybr, decode_by_pydicom
from mmindex.decode.native import decode_native, native_frame_bits
from mmindex.decode.registry import (
    DEFLATED_IMAGE_FRAME,
    SAMPLES_IN_FRAGMENTS,
    CodecModule,
    Decoder,
    check_known,
    find_decoder,
)
from mmindex.decode.stream import (
    Form,
    Stream,
    check_stream,
    count_bits,
    find_form,
    fit_samples,
    keep_low_bits,
)
from mmindex.decode.uncompressed import cut_padding, inflate_frame
from mmindex.errors import DecodeError

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels
    from mmindex.model import ImagePixel

_CODEC_ERRORS = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def decode_frame(
    frame: bytes | memoryview,
    image: ImagePixel,
    transfer_syntax_uid: str,
    *,
    raw: bool = False,
    out: Pixels | None = None,
) -> Pixels:
    """Return the pixels of an encapsulated frame.

    Parameters
    ----------
    frame : bytes-like
        Its fragments, joined.
    image : ImagePixel
        Its attributes.
    transfer_syntax_uid : str
        What the frames are said to be. What the frame itself begins with goes before.
    raw : bool
        Leave YBR_FULL and YBR_FULL_422 as they are.
    out : ndarray, optional
        Where the pixels go, if it has their shape and dtype.

    Returns
    -------
    ndarray
        `out`, or an array of shape (rows, columns[, samples]), as wide as Bits Allocated and in
        native byte order, which may be read-only.

    Raises
    ------
    DecodeError
        The frame is damaged, contradicts the attributes, or its codec is not known.
    MissingDependencyError
        No decoder is installed.
    """
    check_known(transfer_syntax_uid)
    if transfer_syntax_uid in SAMPLES_IN_FRAGMENTS:
        pixels = _decode_samples(frame, image, transfer_syntax_uid, raw)
    else:
        form = find_form(image)
        decoder = find_decoder(frame)
        module = decoder.load()
        stream = module.parse_stream(frame, image)
        check_stream(stream, image)
        given = out
        if out is not None and (out.shape, out.dtype) != form:
            given = None
        try:
            pixels = _decode_stream(decoder, module, stream, image, form, raw, given)
        except ImportError:
            if has_codecs(module):
                raise
            pixels = decode_by_pydicom(bytes(frame), transfer_syntax_uid, image, raw=raw)
    return put(pixels, out)


def put(pixels: Pixels, out: Pixels | None) -> Pixels:
    """Copy pixels to `out` and return that; return them as they are where they do not fit it."""
    if out is None or pixels is out or (pixels.shape, pixels.dtype) != (out.shape, out.dtype):
        return pixels
    np.copyto(out, pixels)
    return out


def has_codecs(module: CodecModule) -> bool:
    """Return whether imagecodecs is installed and has what a codec's module needs of it."""
    if not module.CODECS:
        return True
    try:
        import imagecodecs
    except ImportError:
        return False
    return all(getattr(imagecodecs, name).available for name in module.CODECS)


def _decode_samples(
    frame: bytes | memoryview, image: ImagePixel, syntax_uid: str, raw: bool
) -> Pixels:
    """Return the pixels of native samples in a fragment, deflated or not."""
    bits = native_frame_bits(image)
    length = (bits + 7) // 8
    if syntax_uid == DEFLATED_IMAGE_FRAME:
        native = inflate_frame(frame, length)
    else:
        native = cut_padding(bytes(frame), length)
    return decode_native(native, image, frame_bits=bits, raw=raw)


def _decode_stream(
    decoder: Decoder,
    module: CodecModule,
    stream: Stream,
    image: ImagePixel,
    form: Form,
    raw: bool,
    out: Pixels | None,
) -> Pixels:
    """Return the pixels of a stream by imagecodecs, with width, sign and colours put right."""
    try:
        samples = module.decode_stream(stream, image, raw, out)
    except _CODEC_ERRORS as error:
        raise DecodeError(f"cannot decode the frame: {decoder.name}: {error}") from error
    pixels = keep_low_bits(fit_samples(samples, form, out), count_bits(stream, image))
    if stream.is_ybr and stream.samples > 1 and not stream.converts and not raw:
        return convert_ybr(pixels)
    return pixels
