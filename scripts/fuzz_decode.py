"""Decode damaged frames of every codec: an array of the right shape, or an MMIndexError.

    python scripts/fuzz_decode.py [--minutes N] [FRAMES [FIRST_SEED]]

Seeded and plain. Frames are decoded by processes of their own, since a decoder in C may end its
process, which says the seed of every frame beforehand. Prints what came out, and ends with 1 where
a process died or hung, took too much memory, or another exception escaped.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import select
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from codec_examples import EXAMPLES
from dicom_bytes import deflate

from mmindex.decode.frame import decode_frame
from mmindex.decode.registry import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED
from mmindex.decode.stream import array_dtype, array_shape
from mmindex.errors import MMIndexError
from mmindex.model import ImagePixel

_LONGEST = 20.0  # seconds without a sign of a process
_ROUND = 2000  # frames of a process
_MOST_MEMORY = 1 << 30  # bytes that frames of a few kB may take
_ROWS, _COLUMNS = 33, 47
_HTJ2K, _BASELINE, _EXTENDED = (f"1.2.840.10008.1.2.4.{last}" for last in ("203", "50", "51"))


class Frame(NamedTuple):
    """A frame as it was encoded, and its attributes."""

    name: str
    transfer_syntax_uid: str
    image: ImagePixel
    data: bytes


def _make_pixels(kind: str) -> Any:
    shape = (_ROWS, _COLUMNS, 3) if kind == "rgb" else (_ROWS, _COLUMNS)
    dtype = np.dtype("u1" if kind == "rgb" else kind)
    ramp = np.add(*np.mgrid[:_ROWS, :_COLUMNS]) * (1 << 8 * dtype.itemsize) // 100
    noise = np.random.default_rng(1).integers(0, 1 << 4 * dtype.itemsize, shape)
    return (ramp.reshape(_ROWS, _COLUMNS, *[1] * (len(shape) - 2)) + noise).astype(dtype)


def _describe(pixels: Any, **others: Any) -> ImagePixel:
    bits = 8 * pixels.itemsize
    image = ImagePixel(
        rows=_ROWS,
        columns=_COLUMNS,
        samples_per_pixel=3 if pixels.ndim == 3 else 1,
        bits_allocated=bits,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=0,
        planar_configuration=0 if pixels.ndim == 3 else None,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
    )
    return image._replace(**others)


@cache
def list_frames() -> tuple[Frame, ...]:
    """Return a frame of every codec and kind of samples."""
    codecs = import_module("imagecodecs")
    frames = []
    for name, examples in EXAMPLES.items():
        for example in examples:
            for kind in example.kinds:
                pixels = _make_pixels(kind)
                uid, data = example.transfer_syntax_uid, example.encode(pixels)
                frames.append(Frame(name, uid, _describe(pixels), data))
    gray, colours, deep = map(_make_pixels, ("u1", "rgb", "u2"))
    twelve = deep >> 4
    ybr = {"photometric_interpretation": "YBR_FULL_422"}
    kinds: list[tuple[str, str, Any, bytes, dict[str, Any]]] = [
        ("JPEG gray", _BASELINE, gray, codecs.jpeg8_encode(gray), {}),
        ("JPEG colours", _BASELINE, colours, codecs.jpeg8_encode(colours), ybr),
        ("JPEG 12 bits", _EXTENDED, twelve, codecs.jpeg8_encode(twelve, bitspersample=12), {}),
        ("uncompressed", ENCAPSULATED_UNCOMPRESSED, deep, deep.tobytes(), {}),
        ("deflated", DEFLATED_IMAGE_FRAME, deep, deflate(deep.tobytes()), {}),
    ]
    if hasattr(codecs, "htj2k_encode"):  # not in old releases
        kinds.append(("HTJ2K", _HTJ2K, deep, codecs.htj2k_encode(deep), {}))
    for name, uid, pixels, data, others in kinds:
        frames.append(Frame(name, uid, _describe(pixels, **others), bytes(data)))
    return tuple(frames)


def _flip(data: bytearray, generator: random.Random) -> None:
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)


def _overwrite(data: bytearray, generator: random.Random) -> None:
    length = generator.choice((1, 2, 4, 8, 40))
    at = generator.randrange(len(data))
    fills = (
        bytes(length),
        b"\xff" * length,
        generator.randbytes(length),
        b"\x7f" + bytes(length - 1),
    )
    data[at : at + length] = generator.choice(fills)


def _cut(data: bytearray, generator: random.Random) -> None:
    del data[generator.randrange(len(data)) :]


def _remove(data: bytearray, generator: random.Random) -> None:
    at = generator.randrange(len(data))
    del data[at : at + generator.randrange(1, 64)]


def _repeat(data: bytearray, generator: random.Random) -> None:
    at, to = generator.randrange(len(data)), generator.randrange(len(data))
    data[to:to] = data[at : at + generator.randrange(1, 256)]


def _splice(data: bytearray, generator: random.Random) -> None:
    other = generator.choice(list_frames()).data
    at = generator.randrange(len(other))
    data[generator.randrange(len(data)) :] = other[at:]


_DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(_flip, _flip, _overwrite, _overwrite, _overwrite),
    *(_cut, _remove, _repeat, _splice),
)
_ATTRIBUTES: dict[str, tuple[Any, ...]] = {
    "rows": (0, 1, 32, 34, 65535, None),
    "columns": (0, 1, 46, 48, 65535, None),
    "samples_per_pixel": (0, 1, 3, 4, None),
    "bits_allocated": (0, 1, 8, 12, 16, 32, 64, None),
    "bits_stored": (0, 1, 7, 8, 12, 16, 32, 99, None),
    "pixel_representation": (0, 1, 2, None),
    "planar_configuration": (0, 1, 2, None),
    "photometric_interpretation": (
        "",
        "YBR_FULL",
        "YBR_RCT",
        "RGB",
        "PALETTE COLOR",
        "MONOCHROME1",
    ),
}


def make_case(seed: int) -> tuple[Frame, bool]:
    """Return a damaged frame, and whether its colours are to stay as they are stored."""
    generator = random.Random(seed)
    frame = generator.choice(list_frames())
    # Headers are short, and decide most: half of the damage is there.
    head = generator.choice((len(frame.data), 64))
    data, rest = bytearray(frame.data[:head]), frame.data[head:]
    for _ in range(generator.choice((0, 1, 1, 1, 2, 5))):
        if data:
            generator.choice(_DAMAGES)(data, generator)
    image = frame.image
    if generator.random() < 0.2:
        name = generator.choice(list(_ATTRIBUTES))
        image = image._replace(**{name: generator.choice(_ATTRIBUTES[name])})
    uid = frame.transfer_syntax_uid
    if generator.random() < 0.1:
        uid = generator.choice(list_frames()).transfer_syntax_uid
    return Frame(frame.name, uid, image, bytes(data) + rest), generator.random() < 0.3


def decode_case(seed: int) -> str:
    """Decode a damaged frame; return what came out.

    Raises
    ------
    AssertionError
        The array has not the shape and dtype that the attributes promise.
    """
    frame, raw = make_case(seed)
    try:
        pixels = decode_frame(frame.data, frame.image, frame.transfer_syntax_uid, raw=raw)
    except MMIndexError as error:
        return type(error).__name__
    expected = array_shape(frame.image), array_dtype(frame.image).newbyteorder("=")
    if (pixels.shape, pixels.dtype) != expected:
        raise AssertionError(f"{pixels.shape} of {pixels.dtype}, expected {expected}")
    return "array"


def decode_range(first: int, last: int) -> None:
    """Decode frames, with the seed of each on standard output before."""
    for seed in range(first, last):
        os.write(1, b"%d\n" % seed)
        try:
            outcome = decode_case(seed)
        except Exception:  # whatever escapes is what is looked for
            print(f"seed {seed}, {make_case(seed)[0].name}:", file=sys.stderr)
            traceback.print_exc()
            outcome = "escaped"
        os.write(1, f"{outcome}\n".encode())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if memory > _MOST_MEMORY:
        os.write(1, b"too much memory\n")


def watch_range(first: int, last: int, counts: Counter[str]) -> int:
    """Have a process decode frames; return the seed to go on with after it."""
    command = [sys.executable, __file__, "--child", str(first), str(last)]
    seed, unread, data = first, b"", b"-"
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        while data and select.select([child.stdout], [], [], _LONGEST)[0]:
            data = os.read(child.stdout.fileno(), 1 << 16)
            *lines, unread = (unread + data).split(b"\n")
            for line in lines:
                if line.isdigit():
                    seed = int(line)
                else:
                    counts[line.decode()] += 1
        if data:
            child.kill()
    if not child.returncode:
        return last
    counts["hung" if data else "died"] += 1
    name = make_case(seed)[0].name
    print(f"seed {seed}, {name}: the process ended with {child.returncode}", file=sys.stderr)
    return seed + 1


def main() -> int:
    """Decode frames until enough are, or the time is over; return whether something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("numbers", metavar="FRAMES FIRST_SEED", type=int, nargs="*")
    arguments = parser.parse_args()
    if arguments.child:
        decode_range(*arguments.numbers)
        return 0
    frames, first = [*arguments.numbers, *(20_000, 0)[len(arguments.numbers) :]][:2]
    end = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    counts: Counter[str] = Counter()
    seed = first
    while seed < first + frames if end is None else time.monotonic() < end:
        last = seed + _ROUND if end is not None else min(seed + _ROUND, first + frames)
        seed = watch_range(seed, last, counts)
    print(f"{seed - first} frames from seed {first}: {dict(counts)}")
    return any(counts[what] for what in ("escaped", "died", "hung", "too much memory"))


if __name__ == "__main__":
    sys.exit(main())
