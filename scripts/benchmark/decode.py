"""Pixels: every codec of mmindex beside the codec called by hand, and beside other readers.

Frames are encoded on the spot from one image: a smooth gradient with noise, as in a CT or a slide.
By hand, a codec gets the bytes of one `os.pread`. Two threads are held against two threads by hand,
in time and in what they gain: the part of one thread's time that they take, each with its own one
thread, in turn. What can be gained is the codec's and the machine's. Of lossy HTJ2K, OpenJPEG is
the limit: OpenJPH wraps 255 to 0 in it. Of tiled HTJ2K, too: OpenJPH hides damage of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any, NamedTuple

from dicom_bytes import (
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    HTJ2K,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    JPEG_XL,
    RLE_LOSSLESS,
    deflate,
    element,
    encapsulate_frames,
    image_attributes,
)

import mmindex
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.elements import SECONDARY_CAPTURE_STORAGE, pack_file_meta
from scripts.benchmark.measure import Bench, Contender, attempt
from scripts.benchmark.model import MMINDEX, OTHER_PIXELS

BY_HAND = "imagecodecs by hand"
BY_TWO = "two threads by hand"
_FRAMES = 32
_TURNS = 5
_LEAST = 0.1  # seconds of a turn
_BOUND = 1.1
_LOSSY = 4  # levels by which the pixels of lossy decoders differ
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
_LOSSY_JPEG_2000 = "1.2.840.10008.1.2.4.91"


def _make_image(depth: int, samples: int) -> Any:
    """Return an image of 512 x 512 pixels of so many bits."""
    import numpy as np

    rows, columns = np.mgrid[0:512, 0:512]
    noise = np.random.default_rng(1).normal(0, 1 << max(0, depth - 7), (512, 512, samples))
    ramp = (rows + columns)[..., None] * (1 << depth) / 1024 + noise
    image = ramp.clip(0, (1 << depth) - 1).astype("u1" if depth <= 8 else "u2")
    return image[..., 0] if samples == 1 else image


def _encode_rle(image: Any) -> bytes:
    from pydicom.pixels.encoders import RLELosslessEncoder

    return RLELosslessEncoder.encode(
        image.tobytes(),
        encoding_plugin="pydicom",
        rows=512,
        columns=512,
        samples_per_pixel=1,
        bits_allocated=8 * image.itemsize,
        bits_stored=8 * image.itemsize,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2",
        number_of_frames=1,
    )


class _Codec(NamedTuple):
    """One frame of a codec, and who decodes it when called by hand."""

    title: str
    uid: str
    image: Any
    frame: bytes
    by_hand: Callable[[bytes], Any]
    tolerance: int = 0

    @property
    def expected(self) -> Any:
        """The pixels: those that were encoded, or of a lossy codec those decoded by hand."""
        return self.by_hand(self.frame) if self.tolerance else self.image

    def compare(self, answer: object, expected: object) -> str:
        """Return "" if decoded pixels are those expected, else what they are."""
        import numpy as np

        wanted = np.asarray(expected).astype("i4")
        found = np.asarray(answer).astype("i4").reshape(wanted.shape)
        return "" if abs(found - wanted).max() <= self.tolerance else OTHER_PIXELS


def _list_codecs() -> Iterator[_Codec]:
    """Yield a frame of every codec."""
    import imagecodecs as codecs

    deep, shallow, colours = _make_image(16, 1), _make_image(8, 1), _make_image(8, 3)
    by_turbo = partial(codecs.jpeg8_decode, colorspace="YCBCR", outcolorspace="RGB")
    openjpeg = partial(codecs.jpeg2k_decode, numthreads=1)
    by_jxl = partial(codecs.jpegxl_decode, numthreads=1)

    def by_numpy(frame: bytes) -> Any:
        import numpy as np

        return np.frombuffer(frame, "<u2").reshape(deep.shape)

    def by_zlib(frame: bytes) -> Any:
        import zlib

        return by_numpy(zlib.decompress(frame, -zlib.MAX_WBITS))

    def make(title: str, uid: str, image: Any, frame: Any, by_hand: Any, **rest: Any) -> _Codec:
        return _Codec(title, uid, image, bytes(frame), by_hand, **rest)

    frame = codecs.jpeg8_encode(colours, level=90)
    yield make("JPEG to RGB", JPEG_BASELINE, colours, frame, by_turbo, tolerance=_LOSSY)
    twelve = _make_image(12, 1)
    frame = codecs.jpeg8_encode(twelve, level=90, bitspersample=12)
    decode = codecs.jpeg8_decode
    yield make("JPEG 12 bits", _JPEG_EXTENDED, twelve, frame, decode, tolerance=_LOSSY)
    frame = codecs.jpeg8_encode(deep, lossless=True)
    yield make("JPEG lossless", _JPEG_LOSSLESS, deep, frame, decode)
    yield make("JPEG-LS", JPEG_LS, deep, codecs.jpegls_encode(deep), codecs.jpegls_decode)
    frame = codecs.jpeg2k_encode(deep, reversible=True, level=0, codecformat="j2k")
    yield make("JPEG 2000", JPEG_2000, deep, frame, openjpeg)
    yield make("HTJ2K", HTJ2K, deep, codecs.htj2k_encode(deep), codecs.htj2k_decode)
    yield make("HTJ2K to RGB", HTJ2K, colours, codecs.htj2k_encode(colours), codecs.htj2k_decode)
    frame = codecs.htj2k_encode(deep, tile=(256, 256))
    yield make("HTJ2K in tiles", HTJ2K, deep, frame, openjpeg)
    lossy: dict[str, Any] = {"reversible": False, "level": 40, "codecformat": "j2k"}
    frame = codecs.jpeg2k_encode(deep, **lossy)
    yield make("lossy JPEG 2000", _LOSSY_JPEG_2000, deep, frame, openjpeg, tolerance=_LOSSY)
    frame = codecs.htj2k_encode(deep, reversible=False, level=0.001)
    yield make("lossy HTJ2K", HTJ2K, deep, frame, openjpeg, tolerance=_LOSSY)
    yield make("JPEG XL", JPEG_XL, deep, codecs.jpegxl_encode(deep, lossless=True), by_jxl)
    for image, dtype in ((shallow, "u1"), (deep, "<u2")):
        title = f"RLE {8 * image.itemsize} bits"
        yield make(title, RLE_LOSSLESS, image, _encode_rle(image), _by_hand_rle(codecs, dtype))
    yield make("deflated frames", DEFLATED_IMAGE_FRAME, deep, deflate(deep.tobytes()), by_zlib)
    yield make(
        "uncompressed frames",
        ENCAPSULATED_UNCOMPRESSED,
        deep,
        deep.tobytes(),
        by_numpy,
    )


def _by_hand_rle(codecs: Any, dtype: str) -> Callable[[bytes], Any]:
    import numpy as np

    return lambda frame: np.frombuffer(codecs.dicomrle_decode(frame, dtype), dtype)


def _write_file(path: Path, uid: str, image: Any, frame: bytes) -> None:
    """Write a file of some frames, all the same."""
    if uid == JPEG_XL:  # which the peers do not know; the frame says for itself what it is
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
    pixels = encapsulate_frames([padded] * _FRAMES)
    meta = pack_file_meta(uid, SECONDARY_CAPTURE_STORAGE, "1.2.3")
    path.write_bytes(meta + uids + attributes + pixels)


def _list_peers(path: Path, stack: ExitStack) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each peer, and what makes the call that decodes a frame."""

    def make_pydicom() -> Any:
        import pydicom
        from pydicom.pixels import pixel_array

        data_set = pydicom.dcmread(path)
        return lambda at: pixel_array(data_set, index=at)

    def make_highdicom() -> Any:
        from highdicom.io import ImageFileReader

        reader = stack.enter_context(ImageFileReader(path))
        return partial(reader.read_frame, correct_color=False)

    def make_dicomsdl() -> Any:
        import dicomsdl

        data_set = dicomsdl.open(str(path))
        return lambda at: data_set.pixelData(index=at, storedvalue=True)

    yield "pydicom", make_pydicom
    yield "highdicom", make_highdicom
    yield "dicomsdl", make_dicomsdl


def list_decode(bench: Bench) -> Iterator[Setup]:
    """Read and decode a frame of every codec; stack frames with one and with two threads."""
    for codec in _list_codecs():
        yield codec.title, partial(_list_cases, codec)


def _list_cases(codec: _Codec, site: Site) -> Iterator[Case]:
    path = site.folder / "file.dcm"
    _write_file(path, codec.uid, codec.image, codec.frame)
    instance = site.stack.enter_context(mmindex.open_file(path, prove=True))  # as from an index
    descriptor = os.open(path, os.O_RDONLY)
    site.stack.callback(os.close, descriptor)
    places = [instance.byte_ranges(at)[0] for at in (0, 3)]
    expected = codec.expected

    def contend(name: str, call: Callable[..., Any], arguments: Any) -> Contender:
        return Contender(name, call, arguments, lambda *_: expected, compare=codec.compare)

    def by_hand(decode: Callable[[bytes], Any], offset: int, length: int) -> Any:
        return decode(os.pread(descriptor, length, offset))

    def make_peer(name: str, make: Callable[[], Any]) -> Contender:
        return contend(name, make(), [(0,), (3,)])

    yield Case(
        f"a frame of {codec.title}",
        [
            contend(MMINDEX, instance.array, [(0,), (3,)]),
            contend(BY_HAND, partial(by_hand, codec.by_hand), places),
            *(
                attempt(name, partial(make_peer, name, make))
                for name, make in _list_peers(path, site.stack)
            ),
        ],
        limit=BY_HAND,
        bound=_BOUND,
    )
    out = instance.arrays()
    ranges = [instance.byte_ranges(at)[0] for at in range(_FRAMES)]

    def stack_by_hand(threads: int) -> None:
        def work(first: int) -> None:
            for at in range(first, _FRAMES, threads):
                out[at] = by_hand(codec.by_hand, *ranges[at]).reshape(out.shape[1:])

        others = [Thread(target=work, args=(first,)) for first in range(1, threads)]
        for thread in others:
            thread.start()
        work(0)
        for thread in others:
            thread.join()

    yield Case(
        f"{_FRAMES} frames of {codec.title} by two threads",
        [
            Contender(MMINDEX, partial(instance.arrays, out=out, threads=2)),
            Contender(BY_TWO, partial(stack_by_hand, 2)),
        ],
        limit=BY_TWO,
        bound=_BOUND,
    )

    def stack(threads: int) -> None:
        instance.arrays(out=out, threads=threads)

    turns: list[tuple[object, ...]] = [()] * _TURNS
    yield Case(
        f"{_FRAMES} frames of {codec.title}: time of two threads, as part of one thread's",
        [
            Contender(MMINDEX, partial(_measure_part, stack), turns),
            Contender(BY_HAND, partial(_measure_part, stack_by_hand), turns),
        ],
        unit="1",
        limit=BY_HAND,
        bound=_BOUND,
    )


def _measure_part(stack: Callable[[int], None]) -> float:
    """Return the time that two threads take as a part of what one takes: 0.5 at best."""
    took = [0.0, 0.0]
    while sum(took) < _LEAST:
        for at in range(2):
            start = perf_counter()
            stack(at + 1)
            took[at] += perf_counter() - start
    return took[1] / took[0]
