"""Every codec, a row each: what its frames begin with, which module decodes them.

The stream decides, not the transfer syntax: files that say JPEG Lossless and hold JPEG Baseline are
real. Only frames without a header of their own go by the UID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mmindex.decode.jpeg_header import SOF_JPEG_LS, SOI, parse_jpeg_header
from mmindex.decode.rle import is_rle
from mmindex.errors import DecodeError
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES, Codec

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels, Stream
    from mmindex.model import ImagePixel

    Frame = bytes | memoryview

ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
DEFLATED_IMAGE_FRAME = "1.2.840.10008.1.2.8.1"
SAMPLES_IN_FRAGMENTS = (ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME)
_UNDECODED = {  # why frames of these have no arrays, by the end of their UID
    **{f".4.{number}": "hierarchical" for number in range(59, 67)},
    ".4.52": "arithmetic coding",
    ".4.54": "arithmetic coding",
    ".4.56": "arithmetic coding",
    ".4.58": "arithmetic coding",
    ".4.92": "multi-component transforms",
    ".4.93": "multi-component transforms",
}


class CodecModule(Protocol):
    """The interface of a codec's module."""

    CODECS: tuple[str, ...]  # classes of imagecodecs that it calls; () where it needs none

    def parse_stream(self, frame: Frame, image: ImagePixel) -> Stream:
        """Return the header of a frame."""
        ...

    def decode_stream(
        self, stream: Stream, image: ImagePixel, raw: bool, out: Pixels | None
    ) -> Pixels:
        """Return the samples of a frame; in `out` where it fits."""
        ...


@dataclass(frozen=True, slots=True)
class Decoder:
    """One codec.

    Attributes
    ----------
    name : str
        The value of its `Codec` in scan/transfer_syntax.py.
    begins : callable
        Whether a frame is of this codec.
    module : str
        Its module in mmindex.decode.
    """

    name: str
    begins: Callable[[Frame], bool]
    module: str

    def load(self) -> CodecModule:
        """Return the codec's module, imported when first used."""
        return _load(self.module)


@cache  # to find a module that is loaded takes as long as to parse a header
def _load(name: str) -> CodecModule:
    found: CodecModule = import_module(f"mmindex.decode.{name}")
    return found


def _is_jpeg_ls(frame: Frame) -> bool:
    # parsed twice, which takes less time than a search for the marker
    return bytes(frame[:2]) == SOI and parse_jpeg_header(frame).process == SOF_JPEG_LS


def _begins_like(codec: Codec) -> Callable[[Frame], bool]:
    markers = codec.start_markers
    longest = max(map(len, markers))
    return lambda frame: bytes(frame[:longest]).startswith(markers)


DECODERS = (  # the first whose marker a frame begins with
    Decoder("JPEG-LS", _is_jpeg_ls, "jpeg_ls"),
    Decoder("JPEG", _begins_like(Codec.JPEG), "jpeg"),
    Decoder("JPEG 2000", _begins_like(Codec.JPEG_2000), "jpeg_2000"),
    Decoder("JPEG XL", _begins_like(Codec.JPEG_XL), "jpeg_xl"),
    Decoder("RLE", is_rle, "rle"),
)


def find_decoder(frame: Frame) -> Decoder:
    """Return the codec that a frame begins like.

    Raises
    ------
    DecodeError
        It begins like none.
    """
    for decoder in DECODERS:
        if decoder.begins(frame):
            return decoder
    *names, last = (decoder.name for decoder in DECODERS)
    raise DecodeError(
        f"cannot decode the frame: expected the start of a {', '.join(names)} or {last} "
        f"frame, found {bytes(frame[:4]).hex(' ') or 'no bytes'}"
    )


class Support(NamedTuple):
    """The decoder of a transfer syntax, if there is one.

    Attributes
    ----------
    decoder : str
        "native", "imagecodecs", "zlib", the module of a codec that needs neither, or "" where
        frames have no arrays.
    remark : str
        Why they have none.
    """

    uid: str
    name: str
    decoder: str
    remark: str


def list_transfer_syntaxes() -> Iterator[Support]:
    """Yield every transfer syntax of PS3.6 Annex A, in the order of its list."""
    by_name = {decoder.name: decoder for decoder in DECODERS}
    for uid, syntax in TRANSFER_SYNTAXES.items():
        remark = _UNDECODED.get(uid.removeprefix("1.2.840.10008.1.2"), "")
        if syntax.codec is Codec.VIDEO:
            remark = "one video stream"
        elif syntax.codec is Codec.NO_PIXEL_DATA:
            remark = "pixels are elsewhere"
        row = by_name.get(syntax.codec.value)
        decoder = "imagecodecs" if row is None or row.load().CODECS else row.module
        if syntax.codec is Codec.NATIVE or uid == ENCAPSULATED_UNCOMPRESSED:
            decoder = "native"
        elif uid == DEFLATED_IMAGE_FRAME:
            decoder = "zlib"
        yield Support(uid, syntax.name, "" if remark else decoder, remark)


def check_known(syntax_uid: str) -> None:
    """Raise DecodeError where a transfer syntax is private: nothing is guessed of its frames."""
    if syntax_uid not in TRANSFER_SYNTAXES:
        raise DecodeError(
            f"mmindex decodes no frames of unknown transfer syntax {syntax_uid or '(none)'}: the "
            "samples of a private transfer syntax are not known"
        )
