"""Frame boundaries where no offset table tells them (PS3.5 A.4; rules R18, R19).

Counts decide where they leave one reading, the codec's start markers where they agree with
the number of frames; everything else raises. A file that was cut makes counts unreliable:
what a sequence delimiter does not vouch for has to be vouched for by markers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import AmbiguousFramesError, FormatError, TruncatedFrameError
from mmindex.model import Boundaries, Buffer
from mmindex.scan.items import Items
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from mmindex.scan.items import Offsets


def find_first_fragments(
    buffer: Buffer, items: Items, number_of_frames: int, codec: Codec
) -> tuple[Offsets, Boundaries]:
    """Return the number of each located frame's first fragment, and how that was told.

    Raises
    ------
    FormatError
        There are fewer fragments than frames.
    AmbiguousFramesError
        There are more, and start markers do not tell the frames.
    TruncatedFrameError
        The file ends too early to tell.
    """
    filled = np.flatnonzero(items.lengths > 0)
    if not len(filled):
        raise FormatError(
            f"expected fragments of {number_of_frames} frames, found none",
            offset=items.origin,
        )
    if number_of_frames == 1 and codec is not Codec.ONE_FRAGMENT:
        return np.zeros(1, np.int64), Boundaries.ALL_FRAGMENTS
    one_each = _first_of_each(filled)
    if len(filled) == number_of_frames and (
        items.closed or codec is Codec.ONE_FRAGMENT or _agree(buffer, items, filled, codec)
    ):
        return one_each, Boundaries.ONE_FRAGMENT_A_FRAME
    if codec is Codec.ONE_FRAGMENT:
        if len(filled) < number_of_frames and not items.closed:
            return one_each, Boundaries.ONE_FRAGMENT_A_FRAME
        raise AmbiguousFramesError(
            f"expected one fragment a frame, found {len(filled)} fragments "
            f"for {number_of_frames} frames",
            offset=items.origin,
        )
    if items.closed and len(filled) < number_of_frames:
        raise FormatError(
            f"expected at least {number_of_frames} fragments, one a frame, found {len(filled)}",
            offset=items.origin,
        )
    return _split_on_markers(buffer, items, filled, number_of_frames, codec)


def last_frame_is_cut(buffer: Buffer, items: Items, first_fragments: Offsets, codec: Codec) -> bool:
    """Return whether the last frame lacks its end, where nothing says that its items are all there.

    A frame that begins like the codec's has to end like them, but for padding.
    """
    if not codec.end_marker:
        return False
    first, last = int(first_fragments[-1]), len(items.starts) - 1
    filled = first + np.flatnonzero(items.lengths[first:])
    begins = len(filled) and items.find_beginnings(buffer, codec)[filled[0]]
    return bool(begins) and not items.ends_frame(buffer, first, last, codec)


def _first_of_each(filled: Offsets) -> Offsets:
    """Return first fragments of frames of one filled fragment each; leading empty ones join."""
    first = filled.copy()
    first[0] = 0
    return first


def _agree(buffer: Buffer, items: Items, filled: Offsets, codec: Codec) -> bool:
    """Return whether no fragment looks like the continuation of the one before it."""
    if not codec.start_markers:
        return False
    begins = items.find_beginnings(buffer, codec)[filled]
    return not begins[0] or bool(begins.all())  # not the codec's bytes at all: the counts stand


def _split_on_markers(
    buffer: Buffer, items: Items, filled: Offsets, number_of_frames: int, codec: Codec
) -> tuple[Offsets, Boundaries]:
    """Return the fragments that begin with a start marker, if that makes the number of frames."""
    begins = filled[items.find_beginnings(buffer, codec)[filled]]
    starts_first = len(begins) and begins[0] == filled[0]
    found = _first_of_each(begins) if starts_first else filled[:0]
    if len(found) == number_of_frames:
        return found, Boundaries.START_MARKERS
    if not items.closed and len(found) == len(filled) < number_of_frames:
        return found, Boundaries.ONE_FRAGMENT_A_FRAME
    if not items.closed and len(filled) < number_of_frames:
        raise TruncatedFrameError(
            f"expected fragments of {number_of_frames} frames, found {len(filled)} fragments "
            "and the end of the data, which leave open where frames begin",
            offset=items.origin,
        )
    raise AmbiguousFramesError(
        f"expected {number_of_frames} fragments that begin with a start marker of {codec.value}, "
        f"found {len(begins)} of {len(filled)}, and no usable offset table",
        offset=items.origin,
    )
