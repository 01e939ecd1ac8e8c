"""The limits that keep one client from taking what the server has."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the requests to a server.

    Attributes
    ----------
    frames : int
        Frames of a request.
    response_bytes : int
        Bytes of frames that one response holds in memory.
    all_response_bytes : int
        Bytes that the long ones of all such responses hold; further ones get status 503.
    rendered_frames : int
        Pictures of a request.
    renders : int
        Pictures that are made at the same time.
    waiting_renders : int
        Requests for pictures at the same time; further ones get status 503.
    readers : int
        Threads that read from disks.
    open_instances : int
        Instances that are kept open.
    """

    frames: int = 1000
    response_bytes: int = 256 << 20
    all_response_bytes: int = 1 << 30
    rendered_frames: int = 100
    renders: int = max(1, os.cpu_count() or 1)
    waiting_renders: int = 200
    readers: int = 16
    open_instances: int = 256
