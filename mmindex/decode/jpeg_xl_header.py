"""The headers of a JPEG XL codestream, as far as size and colours go (ISO/IEC 18181-1 D, E, F).

Fields are bits, the lowest first; most have a default that one bit stands for.
"""

from __future__ import annotations

from typing import NamedTuple

_SIGNATURE = 2  # bytes of a codestream before its size
HEAD = 64  # bytes that hold what is read here
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # columns to rows
_SIZE_BITS = (9, 13, 18, 30)


class Colours(NamedTuple):
    """The colours of a codestream: whether a decoder returns RGB, whatever the encoder was given.

    Attributes
    ----------
    is_known : bool
        Whether the headers were read as far as that; they are not where a colour profile, a
        preview or further channels come before.
    become_rgb : bool
        Whether samples are XYB, or YCbCr of a JPEG, which decoders convert.
    """

    is_known: bool
    become_rgb: bool


class _Bits:
    """Fields of a codestream in order; zeros after its end."""

    def __init__(self, head: bytes) -> None:
        self._bits = int.from_bytes(head, "little")
        self._at = 0

    def take(self, count: int = 1) -> int:
        value = self._bits >> self._at & (1 << count) - 1
        self._at += count
        return value

    def take_chosen(self, *choices: tuple[int, int]) -> int:
        """Return a U32: one of four constants, each with the value of so many bits added."""
        constant, count = choices[self.take(2)]
        return constant + self.take(count)

    def take_enum(self) -> int:
        return self.take_chosen((0, 0), (1, 0), (2, 4), (18, 6))

    def skip_to_byte(self) -> None:
        self._at += -self._at % 8


def parse_size(head: bytes) -> tuple[int, int]:
    """Return rows and columns of a codestream."""
    bits = _Bits(head[_SIGNATURE:])
    return _take_size(bits)


def parse_colours(head: bytes) -> Colours:
    """Return what a codestream says of its colours."""
    bits = _Bits(head[_SIGNATURE:])
    _take_size(bits)
    unknown = Colours(is_known=False, become_rgb=False)
    if bits.take():  # all of the image's metadata are the default: XYB
        return Colours(is_known=True, become_rgb=True)
    has_extra_fields = bits.take()
    if has_extra_fields:
        bits.take(3)  # orientation
        if bits.take() or bits.take() or bits.take():  # another size, a preview, an animation
            return unknown
    _skip_depth(bits)
    bits.take()  # 16 bits suffice
    if bits.take_chosen((0, 0), (1, 0), (2, 4), (1, 12)):
        return unknown  # channels beside the colours
    if bits.take():
        return Colours(is_known=True, become_rgb=True)
    if not _skip_colour_encoding(bits):
        return unknown
    if has_extra_fields and not bits.take():
        return unknown  # tone mapping
    if bits.take(2) or not bits.take():
        return unknown  # extensions, other weights of upsampling
    bits.skip_to_byte()
    if bits.take():
        return Colours(is_known=True, become_rgb=False)  # the default frame header
    bits.take(3)  # kind of frame, VarDCT or modular
    width = bits.take(2)
    if width == 3:
        return unknown
    bits.take(4 * width)  # flags
    return Colours(is_known=True, become_rgb=bool(bits.take()))


def _take_size(bits: _Bits) -> tuple[int, int]:
    is_small = bits.take()

    def take() -> int:
        if is_small:
            return (bits.take(5) + 1) * 8
        return bits.take(_SIZE_BITS[bits.take(2)]) + 1

    rows = take()
    ratio = bits.take(3)
    if ratio == 0:
        return rows, take()
    across, down = _RATIOS[ratio - 1]
    return rows, rows * across // down


def _skip_depth(bits: _Bits) -> None:
    if bits.take():  # floating point
        bits.take_chosen((32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        bits.take_chosen((8, 0), (10, 0), (12, 0), (1, 6))


def _skip_colour_encoding(bits: _Bits) -> bool:
    """Return whether the colours are described by numbers, which were skipped."""
    if bits.take():
        return True  # sRGB
    if bits.take():
        return False  # a profile follows the headers
    space = bits.take_enum()
    is_gray = space == 1
    if space != 2 and bits.take_enum() == 2:  # not XYB: a white point of its own
        _skip_point(bits)
    if not is_gray and space != 2 and bits.take_enum() == 2:  # primaries of their own
        for _ in range(3):
            _skip_point(bits)
    if bits.take():  # a gamma
        bits.take(24)
    else:
        bits.take_enum()
    bits.take_enum()  # rendering intent
    return True


def _skip_point(bits: _Bits) -> None:
    for _ in range(2):
        bits.take_chosen((0, 19), (524288, 19), (1048576, 20), (2097152, 21))
