"""Every row of the table of codecs: recognised, loaded, and decoded to what was encoded."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from codec_examples import EXAMPLES, Example, describe_pixels
from numpy.typing import NDArray

from mmindex.decode import registry
from mmindex.decode.frame import decode_frame, has_codecs
from mmindex.decode.registry import DECODERS, Decoder, find_decoder
from mmindex.decode.stream import Stream, check_stream
from mmindex.errors import DecodeError
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES, Codec

pytest.importorskip("imagecodecs")

Pixels = NDArray[np.generic]


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


@pytest.mark.parametrize("decoder", DECODERS, ids=[decoder.name for decoder in DECODERS])
def test_every_row_has_an_example_and_a_module_with_the_functions(decoder: Decoder) -> None:
    """A codec that is added to the table is added to EXAMPLES, and its module loads."""
    assert EXAMPLES.get(decoder.name), f"add frames of {decoder.name} to tests/codec_examples.py"
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
    image, frame = describe_pixels(pixels), bytes(example.encode(pixels))
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
    image, frame = describe_pixels(pixels), bytes(example.encode(pixels))
    other = describe_pixels(make_pixels("u1")[:7])
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
    module = ModuleType("mmindex.decode.toy")
    module.CODECS = ()  # type: ignore[attr-defined]
    module.parse_stream = lambda frame, image: Stream(2, 3, 1, 8, frame)  # type: ignore[attr-defined]
    module.decode_stream = lambda stream, image, raw, out: (
        ~np.frombuffer(  # type: ignore[attr-defined]
            stream.body, "u1", offset=4
        ).reshape(2, 3)
    )
    inverted = Decoder("RLE", lambda frame: bytes(frame[:4]) == b"not!", "toy")
    others = [decoder for decoder in DECODERS if decoder.name != inverted.name]
    monkeypatch.setitem(sys.modules, "mmindex.decode.toy", module)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr(registry, "DECODERS", (inverted, *others))
    pixels = np.arange(6, dtype="u1").reshape(2, 3)
    frame = b"not!" + (~pixels).tobytes()
    found = decode_frame(frame, describe_pixels(pixels), "1.2.840.10008.1.2.5")
    assert found.tolist() == pixels.tolist()
    by_uid = {row.uid: row.decoder for row in registry.list_transfer_syntaxes()}
    assert by_uid["1.2.840.10008.1.2.5"] == "toy"
    assert by_uid["1.2.840.10008.1.2.4.80"] == "imagecodecs"


@pytest.mark.parametrize("frame", [b"", b"\0", b"\xff", b"no stream at all", b"\0" * 64])
def test_what_no_row_begins_like_names_every_codec(frame: bytes) -> None:
    """The error lists what is known, and what was found."""
    with pytest.raises(DecodeError, match="expected the start of a") as caught:
        find_decoder(frame)
    assert all(decoder.name in str(caught.value) for decoder in DECODERS)
