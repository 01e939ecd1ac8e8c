"""Frames asked of a server on many connections, and the CPU time that its process took for them.

The client is Python and costs more than the server; so what is measured is the server's process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from scripts.benchmark.model import Image

CONNECTIONS = (1, 16)
NUMBER_OF_FRAMES = 500
_TICKS = os.sysconf("SC_CLK_TCK")


class Client(Protocol):
    """A connection that is kept open."""

    def get(self, frame_index: int) -> bytes:
        """Return a frame."""

    def close(self) -> None:
        """End the connection."""


def path_of(image: Image) -> str:
    """Return the path of an instance below a DICOMweb server's host."""
    return (
        f"/dicom-web/studies/{image.study_instance_uid}/series/{image.series_instance_uid}"
        f"/instances/{image.sop_instance_uid}"
    )


def measure_load(
    process_id: int, connect: Callable[[], Client], connections: int, requests: int
) -> float:
    """Return the server's CPU seconds a request; each connection asks for its share of them."""
    clients = [connect() for _ in range(connections)]
    share = requests // connections

    def ask(client: Client, first: int) -> None:
        for number in range(share):
            client.get((first + 7 * number) % NUMBER_OF_FRAMES)

    with ThreadPoolExecutor(connections) as pool:
        ask(clients[0], 0)  # opens what stays open
        before = read_cpu(process_id)
        list(pool.map(ask, clients, range(0, 31 * connections, 31)))
        took = read_cpu(process_id) - before
    for client in clients:
        client.close()
    return took / (share * connections)


def read_cpu(process_id: int) -> float:
    """Return the CPU seconds of a process so far; on Linux.

    Raises
    ------
    OSError
        There is no /proc.
    """
    text = Path(f"/proc/{process_id}/stat").read_text()
    fields = text.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
