"""Pixels: every codec of mmindex beside the codec called by hand, and beside other readers.

Frames are encoded on the spot from one image: a smooth gradient with noise, as in a CT or a slide.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import mmindex
from scripts.benchmark.measure import Bench, Contender, attempt, tell
from scripts.benchmark.model import MMINDEX, Result

BY_HAND = "imagecodecs by hand"
_FRAMES = 8
_LOSSY, _JPEG_XL = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.110"


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


def _list_cases() -> Iterator[tuple[str, str, Any, bytes, Callable[[bytes], Any]]]:
    """Yield title, transfer syntax, image, frame and the codec called by hand."""
    import imagecodecs as codecs

    deep, shallow, colours = _make_image(16, 1), _make_image(8, 1), _make_image(8, 3)
    by_turbo = partial(codecs.jpeg8_decode, colorspace="YCBCR", outcolorspace="RGB")
    openjpeg = partial(codecs.jpeg2k_decode, numthreads=1)
    yield "JPEG to RGB", _LOSSY, colours, codecs.jpeg8_encode(colours, level=90), by_turbo
    lossless = codecs.jpeg8_encode(deep, lossless=True)
    yield "JPEG lossless", "1.2.840.10008.1.2.4.70", deep, lossless, codecs.jpeg8_decode
    frame = codecs.jpegls_encode(deep)
    yield "JPEG-LS", "1.2.840.10008.1.2.4.80", deep, frame, codecs.jpegls_decode
    frame = codecs.jpeg2k_encode(deep, reversible=True, level=0, codecformat="j2k")
    yield "JPEG 2000", "1.2.840.10008.1.2.4.90", deep, frame, openjpeg
    frame = codecs.htj2k_encode(deep)
    yield "HTJ2K", "1.2.840.10008.1.2.4.201", deep, frame, openjpeg
    frame = codecs.jpegxl_encode(deep, lossless=True)
    by_jxl = partial(codecs.jpegxl_decode, numthreads=1)
    yield "JPEG XL", _JPEG_XL, deep, frame, by_jxl
    for image, dtype in ((shallow, "u1"), (deep, "<u2")):
        by_hand = _by_hand_rle(codecs, dtype)
        title = f"RLE {8 * image.itemsize} bits"
        yield title, "1.2.840.10008.1.2.5", image, _encode_rle(image), by_hand


def _by_hand_rle(codecs: Any, dtype: str) -> Callable[[bytes], Any]:
    return lambda frame: codecs.dicomrle_decode(frame, dtype)


def _write_file(path: Path, uid: str, image: Any, frame: bytes) -> None:
    """Write a file of some frames, all the same."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    if uid == _JPEG_XL:  # which pydicom does not write; the frame says for itself what it is
        uid = "1.2.840.10008.1.2.4.90"
    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = uid
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.2", "1.2.3"
    data_set.Rows, data_set.Columns = 512, 512
    data_set.SamplesPerPixel = 3 if image.ndim == 3 else 1
    data_set.PhotometricInterpretation = "MONOCHROME2"
    if image.ndim == 3:
        data_set.PlanarConfiguration = 0
        data_set.PhotometricInterpretation = "YBR_FULL_422" if uid == _LOSSY else "RGB"
    data_set.BitsAllocated = data_set.BitsStored = 8 * image.itemsize
    data_set.HighBit, data_set.PixelRepresentation = data_set.BitsStored - 1, 0
    data_set.NumberOfFrames = _FRAMES
    data_set.PixelData = encapsulate([frame] * _FRAMES)
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    data_set.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())


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


def run_decode(bench: Bench) -> Iterator[Result]:
    """Decode a frame of every codec; stack frames with one and with two threads."""
    tell("decode")
    with bench.make_folder("decode") as folder:
        for title, uid, image, encoded, by_hand in _list_cases():
            frame = bytes(encoded)
            path = folder / f"{uid}-{image.itemsize}.dcm"
            _write_file(path, uid, image, frame)
            with ExitStack() as stack:
                instance = stack.enter_context(mmindex.open_file(path))
                contenders = [
                    Contender(MMINDEX, instance.array, [(0,), (3,)]),
                    Contender(BY_HAND, by_hand, [(frame,)]),
                    attempt("pydicom", partial(_make_pydicom, path)),
                    attempt("highdicom", partial(_make_highdicom, path, stack)),
                    attempt("dicomsdl", partial(_make_dicomsdl, path)),
                ]
                measured = bench.measure(contenders)
                yield Result("decode", f"a frame of {title}", "s", measured, BY_HAND, 1.1)
                out = instance.arrays()
                threads = [
                    Contender(MMINDEX, partial(instance.arrays, out=out, threads=2)),
                    Contender("one thread", partial(instance.arrays, out=out)),
                ]
                title = f"{_FRAMES} frames of {title} by two threads"
                yield Result("decode", title, "s", bench.measure(threads), shown=False)
