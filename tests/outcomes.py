"""What a scan makes of a file's bytes: frames or the errors in their place, and anomalies."""

from __future__ import annotations

import io

import mmindex
from mmindex.errors import MMIndexError


def read_frames(data: bytes) -> list[bytes | type]:
    """Return every frame, or the class of the error that stands in its place."""
    frames: list[bytes | type] = []
    with mmindex.open_file(io.BytesIO(data)) as instance:
        for frame_index in range(len(instance)):
            try:
                frames.append(instance.frame(frame_index))
            except MMIndexError as error:
                frames.append(type(error))
    return frames


def anomaly_codes(data: bytes, *, force: bool = False) -> list[str]:
    """Return the codes of the file's anomalies, in the order of their offsets."""
    return [anomaly.code for anomaly in mmindex.scan(data, force=force).anomalies]
