"""Every row of the table of codecs: recognised, loaded, and decoded to what was encoded."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from mmindex.decode import registry
from mmindex.decode.frame import decode_frame, has_codecs
from mmindex.decode.registry import DECODERS, Decoder, find_decoder
from mmindex.decode.stream import Stream, check_stream
from mmindex.errors import DecodeError
from mmindex.model import ImagePixel
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES, Codec

imagecodecs = pytest.importorskip("imagecodecs")

Pixels = NDArray[np.generic]


class Example(NamedTuple):
    """How frames of a codec are made, by an encoder that is not ours."""

    transfer_syntax_uid: str
    encode: Callable[[Pixels], bytes]
    kinds: Sequence[str]  # of what KINDS has


def encode_rle(pixels: Pixels) -> bytes:
    """Return an RLE frame of literal runs, byte planes from the most significant (PS3.5 G)."""
    planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[np.newaxis]
    width = pixels.itemsize
    segments = []
    for plane in planes:
        data = plane.astype(f">u{width}").tobytes()
        for at in range(width):
            part = data[at::width]
            runs = [part[start : start + 128] for start in range(0, len(part), 128)]
            packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
            segments.append(packed + bytes(len(packed) % 2))
    offsets = [64 + sum(map(len, segments[:at])) for at in range(len(segments))]
    header = struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments)))
    return header + b"".join(segments)


EXAMPLES = {  # by the name of the row: a codec that is added needs one
    "JPEG-LS": [Example("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode, ("u1", "u2", "rgb"))],
    "JPEG": [
        Example(
            "1.2.840.10008.1.2.4.70",
            partial(imagecodecs.jpeg8_encode, lossless=True),
            ("u1", "u2"),
        )
    ],
    "JPEG 2000": [
        Example(
            "1.2.840.10008.1.2.4.90",
            partial(imagecodecs.jpeg2k_encode, reversible=True, level=0, codecformat=form),
            ("u1", "u2", "rgb"),
        )
        for form in ("j2k", "jp2")
    ],
    "JPEG XL": [
        Example(
            "1.2.840.10008.1.2.4.110",
            partial(imagecodecs.jpegxl_encode, lossless=True, usecontainer=container),
            ("u1", "u2", "rgb"),
        )
        for container in (False, True)
    ],
    "RLE": [Example("1.2.840.10008.1.2.5", encode_rle, ("u1", "u2", "u4", "rgb"))],
}
ROWS = [
    pytest.param(decoder, example, kind, id=f"{decoder.name} {number} {kind}")
    for decoder in DECODERS
    for number, example in enumerate(EXAMPLES.get(decoder.name, []))
    for kind in example.kinds
]


def make_pixels(kind: str) -> Pixels:
    """Return random samples of an odd size."""
    shape = (19, 23, 3) if kind == "rgb" else (19, 23)
    dtype = np.dtype("u1" if kind == "rgb" else kind)
    top = 1 << 8 * dtype.itemsize
    return np.random.default_rng(2).integers(0, top, shape).astype(dtype)


def describe(pixels: Pixels) -> ImagePixel:
    """Return the attributes of an array."""
    bits = 8 * pixels.itemsize
    return ImagePixel(
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=3 if pixels.ndim == 3 else 1,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        planar_configuration=0 if pixels.ndim == 3 else None,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
    )


@pytest.mark.parametrize("decoder", DECODERS, ids=[decoder.name for decoder in DECODERS])
def test_every_row_has_an_example_and_a_module_with_the_functions(decoder: Decoder) -> None:
    """A codec that is added to the table is added to EXAMPLES, and its module loads."""
    assert EXAMPLES.get(decoder.name), f"add frames of {decoder.name} to EXAMPLES"
    module = decoder.load()
    assert module.__name__ == f"mmindex.decode.{decoder.module}"  # type: ignore[attr-defined]
    assert isinstance(module.CODECS, tuple)
    assert callable(module.parse_stream)
    assert callable(module.decode_stream)
    assert has_codecs(module)


def test_no_example_is_left_over() -> None:
    """Names are those of the rows, each once."""
    names = [decoder.name for decoder in DECODERS]
    assert len(names) == len(set(names))
    assert set(EXAMPLES) == set(names)


@pytest.mark.parametrize(("decoder", "example", "kind"), ROWS)
def test_a_frame_is_recognised_and_decoded_to_what_was_encoded(
    decoder: Decoder, example: Example, kind: str
) -> None:
    """By this row alone; as bytes and as a view, in an array of its own and in the caller's."""
    pixels = make_pixels(kind)
    image, frame = describe(pixels), bytes(example.encode(pixels))
    assert TRANSFER_SYNTAXES[example.transfer_syntax_uid].codec is not Codec.NATIVE
    for given in (frame, memoryview(frame)):
        assert next(row.name for row in DECODERS if row.begins(given)) == decoder.name
        assert find_decoder(given) is decoder
        stream = decoder.load().parse_stream(given, image)
        check_stream(stream, image)
        assert bytes(stream.body) in frame
        for out in (None, np.zeros_like(pixels)):
            found = decode_frame(given, image, example.transfer_syntax_uid, out=out)
            assert found.dtype == pixels.dtype
            assert found.tolist() == pixels.tolist()
            assert out is None or found is out


@pytest.mark.parametrize(("decoder", "example", "kind"), ROWS)
def test_a_frame_that_is_cut_or_of_another_image_is_an_error(
    decoder: Decoder, example: Example, kind: str
) -> None:
    """Whatever the codec, pixels that are not there are not returned."""
    pixels = make_pixels(kind)
    image, frame = describe(pixels), bytes(example.encode(pixels))
    other = describe(make_pixels("u1")[:7])
    for length in (4, len(frame) // 3, len(frame) // 2):
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            decode_frame(frame[:length], image, example.transfer_syntax_uid)
    with pytest.raises(DecodeError, match="cannot decode the frame"):
        decode_frame(frame, other, example.transfer_syntax_uid)


def test_every_row_has_the_name_of_a_codec_and_every_codec_of_pixels_a_row() -> None:
    """The scan's list of codecs and the table of decoders name the same."""
    without_rows = {Codec.NATIVE, Codec.ONE_FRAGMENT, Codec.VIDEO, Codec.NO_PIXEL_DATA}
    codecs = set(Codec) - without_rows - {Codec.UNKNOWN}
    assert {decoder.name for decoder in DECODERS} == {codec.value for codec in codecs}


def test_a_codec_that_needs_no_imagecodecs_is_decoded_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A module whose CODECS are none decodes in any installation, and the table says so."""
    module = ModuleType("mmindex.decode.inverted")
    module.CODECS = ()  # type: ignore[attr-defined]
    module.parse_stream = lambda frame, image: Stream(2, 3, 1, 8, frame)  # type: ignore[attr-defined]
    module.decode_stream = lambda stream, image, raw, out: (
        ~np.frombuffer(  # type: ignore[attr-defined]
            stream.body, "u1", offset=4
        ).reshape(2, 3)
    )
    inverted = Decoder("RLE", lambda frame: bytes(frame[:4]) == b"INV!", "inverted")
    monkeypatch.setitem(sys.modules, "mmindex.decode.inverted", module)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr(registry, "DECODERS", (inverted, *DECODERS[:-1]))
    pixels = np.arange(6, dtype="u1").reshape(2, 3)
    frame = b"INV!" + (~pixels).tobytes()
    found = decode_frame(frame, describe(pixels), "1.2.840.10008.1.2.5")
    assert found.tolist() == pixels.tolist()
    by_uid = {row.uid: row.decoder for row in registry.list_transfer_syntaxes()}
    assert by_uid["1.2.840.10008.1.2.5"] == "inverted"
    assert by_uid["1.2.840.10008.1.2.4.80"] == "imagecodecs"


@pytest.mark.parametrize("frame", [b"", b"\0", b"\xff", b"no stream at all", b"\0" * 64])
def test_what_no_row_begins_like_names_every_codec(frame: bytes) -> None:
    """The error lists what is known, and what was found."""
    with pytest.raises(DecodeError, match="expected the start of a") as caught:
        find_decoder(frame)
    assert all(decoder.name in str(caught.value) for decoder in DECODERS)
