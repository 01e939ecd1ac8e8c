"""The beginnings of the frames of encapsulated pixel data (PS3.5 A.4; rules R18, R19, R45, R51).

Three witnesses can speak, and each may be wrong: Number of Frames, an offset table whose entries
all lead to items, and start markers. `decide` weighs what they say. Nothing here reads a file or
looks for a pattern in a fragment.

What rules.md leaves open is decided like this:

* The number of fragments is no vote of its own. A damaged count that happens to be the number of
  fragments would have two votes, and so would a marker that happens to stand in each
  fragment. The number decides where nothing else speaks (R18), and bears out an unclean Number
  of Frames (R46).
* Number of Frames that is absent is silent where a table passes (R21), else means 1, as the
  standard has it (PS3.3 C.7.6.6). So fragments that all begin with a marker raise where the count
  and the tables are absent: one frame and several both fit.
* Where Number of Frames agrees with the table and with the markers, and these differ, the markers
  decide: an entry leads into the middle of a frame.
* Markers that leave the first fragment to no frame speak against everything, and make no frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmindex.errors import AmbiguousFramesError, FormatError, TruncatedFrameError
from mmindex.model import Boundaries
from mmindex.scan.items import Ending, Items
from mmindex.scan.transfer_syntax import Codec

if TYPE_CHECKING:
    from mmindex.scan.items import Flags, Offsets


@dataclass(frozen=True, slots=True)
class Reading:
    """The frame boundaries by one witness: a table or the start markers.

    Attributes
    ----------
    source : Boundaries
        Who says it.
    begins : ndarray of int64
        Where located frames begin, as positions among the fragments that are not empty.
    count : int
        Frames, those included that were lost with the end of the file.
    """

    source: Boundaries
    begins: Offsets
    count: int

    @property
    def makes_frames(self) -> bool:
        """Whether every fragment belongs to a frame."""
        return len(self.begins) > 0 and int(self.begins[0]) == 0

    def agrees(self, other: Reading) -> bool:
        """Return whether another reading has the same frames."""
        return self is other or np.array_equal(self.begins, other.begins)


def decide(number_of_frames: int | None, readings: list[Reading]) -> Reading | None:
    """Return the reading that the witnesses decide for, None where they do not (rule R51).

    `readings` are those of the offset tables and then that of the start markers, as far as they
    speak. A reading is right where nobody stands against it, or one where two bear it out:

    | Number of Frames | table | markers | right |
    |---|---|---|---|
    | n | n | the same | both |
    | n, or silent | n | silent | the table |
    | n | silent | n | the markers |
    | other than n | n | the same | both |
    | n | n | other than n | the table |
    | n | other than n | n | the markers |
    | n | n | n, but elsewhere | the markers |
    | other than n | n | silent | none |
    | other than n | silent | n | none |
    | n | other than n | other again | none |
    | silent | n | other | none |

    A second table is one more row of its kind.
    """
    right = []
    for reading in readings:
        agreeing = sum(reading.agrees(other) for other in readings)
        contrary = len(readings) - agreeing
        if number_of_frames is not None:
            agreeing += reading.count == number_of_frames
            contrary += reading.count != number_of_frames
        if reading.makes_frames and (contrary == 0 or (contrary == 1 and agreeing >= 2)):
            right.append(reading)
    if not right:
        return None
    return right[0] if all(right[0].agrees(other) for other in right) else right[-1]


def read_markers(
    begins: Flags, items: Items, number_of_frames: int | None
) -> tuple[Reading | None, Offsets]:
    """Return what start markers say, None where no fragment begins with one, and which are filled.

    Where the file was cut and every fragment begins a frame, the others were lost with its end.
    """
    filled = np.flatnonzero(items.lengths > 0)
    found = np.flatnonzero(begins if len(filled) == len(begins) else begins[filled])
    count = len(found)
    if not items.closed and count == len(filled):
        count = max(count, number_of_frames or 1)
    return (Reading(Boundaries.START_MARKERS, found, count) if len(found) else None), filled


def name_boundaries(reading: Reading, filled: Offsets) -> Boundaries:
    """Return where frame boundaries came from: of markers, what the counts alone say, too."""
    if reading.source is not Boundaries.START_MARKERS:
        return reading.source
    if len(reading.begins) == len(filled) and reading.count > 1:
        return Boundaries.ONE_FRAGMENT_A_FRAME
    return Boundaries.ALL_FRAGMENTS if reading.count == 1 else Boundaries.START_MARKERS


def count_fragments(items: Items, number_of_frames: int, filled: Offsets, codec: Codec) -> Reading:
    """Return what the number of fragments says, where nothing else speaks (rules R18, R19).

    Raises
    ------
    FormatError
        There are fewer fragments than frames; AmbiguousFramesError where there are more,
        TruncatedFrameError where the file ends too early to tell.
    """
    found, count = len(filled), number_of_frames
    one_each = Reading(Boundaries.ONE_FRAGMENT_A_FRAME, np.arange(found), count)
    if not found:
        raise FormatError(f"expected fragments of {count} frames, found none", offset=items.origin)
    if count == 1:
        return Reading(Boundaries.ALL_FRAGMENTS, np.zeros(1, np.int64), 1)
    if found == count and (items.closed or codec.one_fragment):
        return one_each
    if found < count and items.closed:
        raise FormatError(
            f"expected at least {count} fragments, one a frame, found {found}", offset=items.origin
        )
    if found < count and codec.one_fragment:
        return one_each
    if found < count:
        raise TruncatedFrameError(
            f"expected fragments of {count} frames, found {found} fragments "
            "and the end of the data, which leave open where frames begin",
            offset=items.origin,
        )
    raise AmbiguousFramesError(
        f"expected {count} frames, found {found} fragments, none with a start marker, and no "
        "usable offset table",
        offset=items.origin,
    )


def explain(number_of_frames: int | None, readings: list[Reading], items: Items) -> str:
    """Return why the witnesses leave the frames open, as a message."""
    said = [] if number_of_frames is None else [f"Number of Frames says {number_of_frames}"]
    for reading in readings:
        if reading.source is Boundaries.START_MARKERS:
            said.append(f"start markers begin {len(reading.begins)}")
        else:
            said.append(f"the {reading.source.value.replace('-', ' ')} has {reading.count}")
    fragments = int((items.lengths > 0).sum())
    return f"expected one number of frames in {fragments} fragments, found that {', '.join(said)}"


def last_is_whole(
    items: Items,
    first_fragments: Offsets,
    codec: Codec,
    begins: Flags,
    next_start: int | None,
    lost: bool,
) -> bool:
    """Return whether the last located frame has its end (rules R12, R14, R52).

    What follows the last item decides, then the table's entry of the next frame (`next_start`),
    then the codec's end marker. Where none of these speaks, bytes that no reading explains show a
    damaged length, and frames of several fragments may have lost some; a frame of one fragment is
    whole.
    """
    if items.truncated or items.closed:
        return items.closed
    if next_start is not None:
        return next_start == items.end
    first, last = int(first_fragments[-1]), len(items.starts) - 1
    filled = first + np.flatnonzero(items.lengths[first:])
    if codec.end_marker and len(filled) and begins[filled[0]]:
        return items.ends_frame(first, last, codec)
    if items.ending in (Ending.CUT_HEADER, Ending.UNEXPLAINED):
        return False
    if lost and not codec.one_fragment:
        return False
    return items.ending is Ending.FOREIGN or int((items.lengths > 0).sum()) == len(first_fragments)
