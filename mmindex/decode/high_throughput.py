"""Lossless High-Throughput JPEG 2000 by OpenJPH, where that shows as much damage as OpenJPEG.

OpenJPH takes half the time, but imagecodecs (2026.3.6) loses the errors of its second half, and
OpenJPH itself passes over what OpenJPEG refuses. So OpenJPH decodes a frame only if

* its main header is plain: reversible, one tile, one quality layer, nothing that differs between
  components (ITU-T T.800 Annex A, T.814 Annex A);
* its one tile-part ends with the frame and holds no marker: in packets, no byte above 0x8F follows
  0xFF;
* the sides of all its code-blocks are even, as are those of an image whose sides are multiples of
  2 to the power of its levels and one: in others OpenJPEG finds samples that lie outside;
* its last row is not zero, as are the rows that imagecodecs has not filled after an error.

OpenJPEG decodes all others, and all that OpenJPH refuses: lossy frames, other sizes, tiles and
tile-parts, quality layers, precincts and packet lengths. Two kinds of damage in packet headers are
left that OpenJPEG alone refuses: a code-block without bit-planes, or without bytes. They were 31 of
400,000 small damaged images that OpenJPH decoded.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mmindex.decode.stream import Pixels, Stream

_MOST_HEADER = 1 << 12
_SIZ, _CAP, _COD, _QCD, _TLM, _COM = 0xFF51, 0xFF50, 0xFF52, 0xFF5C, 0xFF55, 0xFF64
_ONCE = (_SIZ, _CAP, _COD, _QCD)
_SEGMENT = struct.Struct(">HH")
_SOT, _SOD, _EOC = b"\xff\x90\x00\x0a", b"\xff\x93", b"\xff\xd9"
_ENDS = (_EOC, _EOC + b"\0")
_SIZES = struct.Struct(">2x8I")  # after Rsiz: size and offset of the image, then of tiles
_FIRST_SSIZ = 42  # bytes from the codestream's start to the sign and width of component 0
_STYLE = struct.Struct(">BBHBBxxBB")  # Scod, SGcod and SPcod, without precincts
_TILE_PART = struct.Struct(">4sHIBB2s")  # SOT and its length, Isot, Psot, TPsot, TNsot, SOD
_PSOT = 6  # bytes from SOT to the length of the tile-part
_PAD = b"\xff" * 63 + b"\xf0"  # a code-block that runs on ends with a length that is none
_HT_ONLY = b"\x00\x02\x00\x00\x00"  # Pcap of part 15, Ccap15 without the bound of its magnitudes
_HT, _REVERSIBLE = 0x40, 1
_LAST_ORDER, _MOST_BOUND, _MOST_PRECISION = 4, 0x1F, 16


def decode_by_openjph(stream: Stream, target: Pixels | None) -> Pixels | None:
    """Return samples of (rows, columns[, samples]), or None where OpenJPEG decides.

    Unsigned samples are decoded as signed ones, so that black rows are not zero.
    """
    head, _, _ = bytes(stream.body[:_MOST_HEADER]).partition(_SOT)
    if stream.precision > _MOST_PRECISION or not _is_plain_header(head):
        return None
    start = len(head)
    end = _find_end(stream.body, start)
    if not end:
        return None
    import imagecodecs

    if not getattr(getattr(imagecodecs, "HTJ2K", None), "available", False):
        return None
    width = 1 if stream.precision <= 8 else 2
    shape = (stream.rows, stream.columns, stream.samples)[: 2 if stream.samples == 1 else 3]
    if target is None or target.shape != shape:
        target = np.empty(shape, f"{'i' if stream.is_signed else 'u'}{width}")
    target[-1] = 0
    first = bytearray(stream.body[: start + _TILE_PART.size])
    for at in range(stream.samples):
        first[_FIRST_SSIZ + 3 * at] |= 0x80
    first[start + _PSOT : start + _PSOT + 4] = (end - start + len(_PAD)).to_bytes(4, "big")
    body = b"".join((first, memoryview(stream.body)[len(first) : end], _PAD, _EOC))
    try:
        imagecodecs.htj2k_decode(body, planar=False, out=target.view(f"i{width}"))
    except RuntimeError:
        return None
    if not target.reshape(stream.rows, -1, stream.samples)[-1, :, -1].any():
        return None
    if not stream.is_signed:
        np.add(target, 1 << (stream.precision - 1), out=target, casting="unsafe")
    return target


@lru_cache(maxsize=64)  # the frames of an instance have one header
def _is_plain_header(head: bytes) -> bool:
    """Return whether a main header leaves everything to defaults that both decoders share."""
    found = dict.fromkeys(_ONCE, b"")
    at = 2
    while at < len(head):
        if at + _SEGMENT.size > len(head):
            return False
        marker, length = _SEGMENT.unpack_from(head, at)
        if found.get(marker, marker not in (_TLM, _COM)) or length < 2:
            return False
        if marker in found:
            found[marker] = head[at + _SEGMENT.size : at + 2 + length]
        at += 2 + length
    siz, cap, cod, qcd = found.values()
    if at != len(head) or len(siz) < _SIZES.size or len(cod) != _STYLE.size or not qcd:
        return False
    scod, order, layers, mixed, levels, style, wavelet = _STYLE.unpack(cod)
    if (scod, layers, style, wavelet) != (0, 1, _HT, _REVERSIBLE):
        return False
    if order > _LAST_ORDER or mixed > 1 or cap[:-1] != _HT_ONLY or cap[-1] > _MOST_BOUND:
        return False
    width, height, left, top, across, down, first, second = _SIZES.unpack_from(siz)
    if left or top or first or second or across < width or down < height:
        return False
    if width % (2 << levels) or height % (2 << levels):
        return False
    return _is_plain_scale(qcd, levels)


def _is_plain_scale(segment: bytes, levels: int) -> bool:
    """Return whether exponents are those of a reversible transform (T.800 A.6.4, E.1.1).

    Two bands of each level are alike, and the third is as large or one more: the gains of the 5/3
    wavelet.
    """
    guard, *exponents = segment
    if guard & 0x1F or not guard or len(exponents) != 3 * levels + 1:
        return False
    if any(exponent & 7 for exponent in exponents):
        return False
    low, *bands = (exponent >> 3 for exponent in exponents)
    return all(
        across == down and diagonal - down in (0, 1)
        for across, down, diagonal in zip(bands[::3], bands[1::3], bands[2::3], strict=True)
    ) and (not bands or bands[0] - low in (0, 1))


def _find_end(body: bytes | memoryview, start: int) -> int:
    """Return where the tile-part at `start` ends; 0 where it is cut, or not alone and unmarked."""
    if len(body) < start + _TILE_PART.size:
        return 0
    sot, tile, length, part, parts, sod = _TILE_PART.unpack_from(body, start)
    end: int = start + length
    if (sot, tile, part, parts, sod) != (_SOT, 0, 0, 1, _SOD) or body[end:] not in _ENDS:
        return 0
    data = np.frombuffer(body, np.uint8)[start + _TILE_PART.size : end + 1]  # to 0xFF of EOC
    markers = data[1:] > 0x8F
    markers &= data[:-1] == 0xFF
    return 0 if markers.any() else end
