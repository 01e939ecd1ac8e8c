"""Decimal Strings of many frames as numbers, side by side (PS3.5 6.2).

Digits, one point and a sign alone; whatever else there is, such as an exponent, is left to `float`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]
    Bytes = NDArray[np.uint8]

_BACKSLASH, _POINT, _PLUS, _MINUS, _ZERO, _SPACE = b"\\.+-0 "
_MOST_DIGITS = 15  # with which a whole number is exact, and so is the power of ten below


def parse_columns(
    data: Bytes, offsets: Positions, lengths: Positions, width: int
) -> NDArray[np.float64] | None:
    """Return the numbers of texts, (texts, width), as `float` does; None where it has to.

    Parameters
    ----------
    data : ndarray of uint8
        What the texts are in.
    offsets, lengths : ndarray of int64
        Of each text, in bytes; one character at the end may be padding.
    width : int
        Numbers in each text.
    """
    last = data[offsets + lengths - 1]
    ends = offsets + lengths - ((last == _SPACE) | (last == 0))
    starts = offsets
    numbers = np.empty((len(offsets), width))
    for number in range(width):
        until = ends
        if number < width - 1:
            found = _find_backslashes(data, starts, ends)
            if found is None:
                return None
            until = found
        values = _parse(data, starts, until)
        if values is None:
            return None
        numbers[:, number] = values
        starts = until + 1
    return numbers


def _find_backslashes(data: Bytes, starts: Positions, ends: Positions) -> Positions | None:
    """Return where the first backslash of each text is, None unless it comes soon in all."""
    found = np.zeros(len(starts), np.int64)
    for step in range(_MOST_DIGITS + 3):
        at = starts + step
        is_here = (data[np.minimum(at, len(data) - 1)] == _BACKSLASH) & (at < ends) & (found == 0)
        found += at * is_here
        if found.all():
            return found
    return None


def _parse(data: Bytes, starts: Positions, ends: Positions) -> NDArray[np.float64] | None:
    """Return the number between start and end of each text; the last characters are aligned."""
    lengths = ends - starts
    longest = int(lengths.max())
    if not 0 < longest <= _MOST_DIGITS + 2 or int(lengths.min()) < 1:
        return None
    steps = np.arange(longest, 0, -1)[:, None]
    chars = data[np.maximum(ends - steps, 0)]
    chars[steps > lengths] = _SPACE
    if (chars == chars[:, :1]).all():
        chars, lengths = chars[:, :1], lengths[:1]
    digits = chars - np.uint8(_ZERO)
    is_digit, is_point = digits <= 9, chars == _POINT
    is_minus = chars == _MINUS
    is_sign = is_minus | (chars == _PLUS)
    is_sign &= steps == lengths  # the first character
    digit_counts, points = is_digit.sum(axis=0, dtype=np.int8), is_point.sum(axis=0, dtype=np.int8)
    counted = digit_counts + points + is_sign.sum(axis=0, dtype=np.int8)
    is_plain = (counted == lengths) & (points <= 1)
    is_plain &= (digit_counts > 0) & (digit_counts <= _MOST_DIGITS)
    if not is_plain.all():
        return None
    digits[~is_digit] = 0
    decimals = np.where(points > 0, longest - 1 - is_point.argmax(axis=0), -1)
    values = np.empty(chars.shape[1])
    for point in np.unique(decimals).tolist():
        # From the right: units or fractions, the point itself, and what is left of it.
        weights = [10.0 ** (at - (0 <= point < at)) * (at != point) for at in range(longest)]
        chosen = decimals == point
        whole = np.array(weights[::-1]) @ digits[:, chosen].astype(np.float64)
        values[chosen] = whole / 10.0 ** max(point, 0)
    values[is_minus.any(axis=0)] *= -1
    return values
