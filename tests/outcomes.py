"""What a scan makes of a file's bytes: frames or the errors in their place, and anomalies."""

from __future__ import annotations

import io
from functools import partial

import mmindex
from mmindex.errors import MMIndexError

Outcome = bytes | type[MMIndexError]
open_proved = partial(mmindex.open_file, prove=True)


def read_frames(data: bytes, *, force: bool = False) -> list[Outcome]:
    """Return every frame, or the class of the error that stands in its place.

    With every entry of an offset table proved; of tables that are not, each frame has to be the
    same one, or an error.
    """
    with open_proved(io.BytesIO(data), force=force) as instance:
        frames = [read_frame(instance, index) for index in range(min(len(instance), 2000))]
    with mmindex.open_file(io.BytesIO(data), force=force, prove=False) as instance:
        trusted = [read_frame(instance, index) for index in range(min(len(instance), 2000))]
    check_trusted(trusted, frames)
    return frames


def read_frame(instance: mmindex.Instance, frame_index: int) -> Outcome:
    """Return a frame or the class of its error."""
    try:
        return instance.frame(frame_index)
    except MMIndexError as error:
        return type(error)


def check_trusted(trusted: list[Outcome], proved: list[Outcome]) -> None:
    """Check that frames of a table that was not proved are those of the proof, or errors."""
    assert len(trusted) == len(proved)
    for frame, expected in zip(trusted, proved, strict=True):
        assert frame == expected or isinstance(frame, type)


def anomaly_codes(data: bytes, *, force: bool = False) -> list[str]:
    """Return the codes of the file's anomalies, in the order of their offsets."""
    return [anomaly.code for anomaly in mmindex.scan(data, force=force).anomalies]
