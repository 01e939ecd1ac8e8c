"""Frames asked of a server on many connections, and the CPU time that its process took for them.

The client is Python and costs more than the server; so what is measured is the server's process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
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
    failures: list[Exception] = []

    def ask(client: Client, first: int) -> None:
        try:
            for number in range(share):
                client.get((first + 7 * number) % NUMBER_OF_FRAMES)
        except (OSError, ValueError) as error:
            failures.append(error)

    _ask_all(ask, [(client, 0) for client in clients[:1]])  # opens what stays open
    before = read_cpu(process_id)
    _ask_all(ask, [(client, 31 * at) for at, client in enumerate(clients)])
    took = read_cpu(process_id) - before
    for client in clients:
        client.close()
    if failures:
        raise failures[0]
    return took / (share * connections)


def _ask_all(ask: Callable[[Client, int], None], arguments: list[tuple[Client, int]]) -> None:
    threads = [threading.Thread(target=ask, args=one) for one in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
