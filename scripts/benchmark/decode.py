"""Pixels: every codec of mmindex beside the codec called by hand, and beside other readers.

Frames are encoded on the spot from one image: a smooth gradient with noise, as in a CT or a slide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import mmindex
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.elements import SECONDARY_CAPTURE_STORAGE, pack_encapsulated, pack_file_meta
from scripts.benchmark.measure import Bench, Contender, attempt
from scripts.benchmark.model import MMINDEX
from tests.dicom_bytes import (
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    RLE_LOSSLESS,
    element,
    image_attributes,
)

BY_HAND = "imagecodecs by hand"
_FRAMES = 8
_JPEG_XL = "1.2.840.10008.1.2.4.110"


def _make_image(depth: int, samples: int) -> Any:
    """Return an image of 512 x 512 pixels of so many bits."""
    import numpy as np

    rows, columns = np.mgrid[0:512, 0:512]
    noise = np.random.default_rng(1).normal(0, 1 << max(0, depth - 7), (512, 512, samples))
    ramp = (rows + columns)[..., None] * (1 << depth) / 1024 + noise
    image = ramp.clip(0, (1 << depth) - 1).astype("u1" if depth <= 8 else "u2")
    return image[..., 0] if samples == 1 else image


def _encode_rle(image: Any) -> bytes:
    from pydicom.pixels.encoders.base import EncodeRunner  # type: ignore[attr-defined]
    from pydicom.pixels.encoders.native import _encode_frame  # type: ignore[attr-defined]
    from pydicom.uid import RLELossless

    runner = EncodeRunner(RLELossless)
    runner.set_options(
        rows=512,
        columns=512,
        samples_per_pixel=1,
        bits_allocated=8 * image.itemsize,
        bits_stored=8 * image.itemsize,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )
    return bytes(_encode_frame(image.tobytes(), runner))


def _list_frames() -> Iterator[tuple[str, str, Any, bytes, Callable[[bytes], Any]]]:
    """Yield title, transfer syntax, image, frame and the codec called by hand."""
    import imagecodecs as codecs

    deep, shallow, colours = _make_image(16, 1), _make_image(8, 1), _make_image(8, 3)
    by_turbo = partial(codecs.jpeg8_decode, colorspace="YCBCR", outcolorspace="RGB")
    openjpeg = partial(codecs.jpeg2k_decode, numthreads=1)
    yield "JPEG to RGB", JPEG_BASELINE, colours, codecs.jpeg8_encode(colours, level=90), by_turbo
    lossless = codecs.jpeg8_encode(deep, lossless=True)
    yield "JPEG lossless", "1.2.840.10008.1.2.4.70", deep, lossless, codecs.jpeg8_decode
    frame = codecs.jpegls_encode(deep)
    yield "JPEG-LS", JPEG_LS, deep, frame, codecs.jpegls_decode
    frame = codecs.jpeg2k_encode(deep, reversible=True, level=0, codecformat="j2k")
    yield "JPEG 2000", JPEG_2000, deep, frame, openjpeg
    frame = codecs.htj2k_encode(deep)
    yield "HTJ2K", "1.2.840.10008.1.2.4.201", deep, frame, openjpeg
    frame = codecs.jpegxl_encode(deep, lossless=True)
    by_jxl = partial(codecs.jpegxl_decode, numthreads=1)
    yield "JPEG XL", _JPEG_XL, deep, frame, by_jxl
    for image, dtype in ((shallow, "u1"), (deep, "<u2")):
        by_hand = _by_hand_rle(codecs, dtype)
        title = f"RLE {8 * image.itemsize} bits"
        yield title, RLE_LOSSLESS, image, _encode_rle(image), by_hand


def _by_hand_rle(codecs: Any, dtype: str) -> Callable[[bytes], Any]:
    return lambda frame: codecs.dicomrle_decode(frame, dtype)


def _write_file(path: Path, uid: str, image: Any, frame: bytes) -> None:
    """Write a file of some frames, all the same."""
    if uid == _JPEG_XL:  # which the peers do not know; the frame says for itself what it is
        uid = JPEG_2000
    photometric = "MONOCHROME2"
    if image.ndim == 3:
        photometric = "YBR_FULL_422" if uid == JPEG_BASELINE else "RGB"
    attributes = image_attributes(
        rows=512,
        columns=512,
        samples=3 if image.ndim == 3 else 1,
        bits=8 * image.itemsize,
        number_of_frames=_FRAMES,
        photometric=photometric,
    )
    uids = element(0x00080016, "UI", SECONDARY_CAPTURE_STORAGE) + element(0x00080018, "UI", "1.2.3")
    padded = frame + bytes(len(frame) % 2)
    pixels = pack_encapsulated([padded] * _FRAMES)
    meta = pack_file_meta(uid, SECONDARY_CAPTURE_STORAGE, "1.2.3")
    path.write_bytes(meta + uids + attributes + pixels)


def _make_pydicom(path: Path) -> Contender:
    import pydicom
    from pydicom.pixels import pixel_array

    data_set = pydicom.dcmread(path)
    return Contender("pydicom", lambda at: pixel_array(data_set, index=at), [(0,), (3,)])


def _make_highdicom(path: Path, stack: ExitStack) -> Contender:
    from highdicom.io import ImageFileReader

    reader = stack.enter_context(ImageFileReader(path))
    return Contender("highdicom", reader.read_frame, [(0,), (3,)])


def _make_dicomsdl(path: Path) -> Contender:
    import dicomsdl

    data_set = dicomsdl.open(str(path))
    return Contender("dicomsdl", lambda at: data_set.toNumpy(at), [(0,), (3,)])


def list_decode(bench: Bench) -> Iterator[Setup]:
    """Decode a frame of every codec; stack frames with one and with two threads."""
    for title, uid, image, encoded, by_hand in _list_frames():
        yield title, partial(_list_cases, title, uid, image, bytes(encoded), by_hand)


def _list_cases(
    title: str,
    uid: str,
    image: Any,
    frame: bytes,
    by_hand: Callable[[bytes], Any],
    site: Site,
) -> Iterator[Case]:
    path = site.folder / "file.dcm"
    _write_file(path, uid, image, frame)
    instance = site.stack.enter_context(mmindex.open_file(path))
    yield Case(
        f"a frame of {title}",
        [
            Contender(MMINDEX, instance.array, [(0,), (3,)]),
            Contender(BY_HAND, by_hand, [(frame,)]),
            attempt("pydicom", partial(_make_pydicom, path)),
            attempt("highdicom", partial(_make_highdicom, path, site.stack)),
            attempt("dicomsdl", partial(_make_dicomsdl, path)),
        ],
        limit=BY_HAND,
        bound=1.1,
    )
    out = instance.arrays()
    yield Case(
        f"{_FRAMES} frames of {title} by two threads",
        [
            Contender(MMINDEX, partial(instance.arrays, out=out, threads=2)),
            Contender("one thread", partial(instance.arrays, out=out)),
        ],
        shown=False,
    )
