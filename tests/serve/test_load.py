"""Mixed load on a server of its own process: no error, and nothing grows."""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

import httpx
import numpy as np
import pytest
from cli_runner import run_child
from dicom_bytes import dicom_file, element, image_attributes
from served_archive import CINE, CT, FRAMES, Process, Served, header, write_archive

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc of Linux is read"),
]
SECONDS = float(os.environ.get("MMINDEX_LOAD_SECONDS", "40"))
WARM_UP = 10.0  # seconds, or a quarter: caches and pools fill meanwhile
BIG = "1.2.9.90"
GONE = "1.2.9.91"
MOST_GROWTH = 6 << 20  # bytes in the second half, however long: a leak has no end, a heap has
MOST_THREADS = 2 + 16 + (os.cpu_count() or 1) + 40  # readers, renderers, anyio's for streams
ACCEPT = {"accept": "image/jpeg, application/octet-stream, */*;q=0.1"}


def write_image(path: Path, uid: str, series: str, count: int, side: int) -> bytes:
    """Write a native cine and return its pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, count * side * side, np.uint8).tobytes()
    data = header(uid, "1.2.3", series, "US", b"Load^A", "20200102")
    data += image_attributes(rows=side, columns=side, number_of_frames=count)
    path.write_bytes(dicom_file(data + element(0x7FE00010, "OW", pixels)))
    return pixels


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[tuple[Process, Served, bytes]]:
    folder = tmp_path / "archive"
    folder.mkdir()
    write_archive(folder)
    pixels = write_image(folder / "big.dcm", BIG, "1.2.3.8", 40, 256)
    assert run_child("build", folder).returncode == 0
    server = Process(folder, tmp_path / "server.log")
    yield server, Served(folder, server.url), pixels
    if server.process.poll() is None:
        server.stop()


class Load:
    """Clients that run until the time is over; what was answered is counted."""

    def __init__(self, server: Process, served: Served, pixels: bytes) -> None:
        self.server, self.served, self.pixels = server, served, pixels
        self.over = threading.Event()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.failures: list[str] = []

    def start(self, *clients: Callable[[random.Random], None]) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=self._repeat, args=(client, random.Random(number)))
            for number, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _repeat(self, client: Callable[[random.Random], None], generator: random.Random) -> None:
        while not self.over.is_set():
            try:
                client(generator)
            except Exception as error:  # any failure of a client ends the test with its name
                self.failures.append(f"{client.__name__}: {error!r}")
                return

    def expect(self, name: str, response: httpx.Response, *statuses: int) -> None:
        self.answers[name, response.status_code] += 1
        if response.status_code not in statuses:
            raise AssertionError(f"{response.status_code} {response.url}: {response.text[:200]}")

    def read_frames(self, generator: random.Random) -> None:
        """One connection, many frames at random, each compared."""
        with httpx.Client(base_url=self.server.url, headers=ACCEPT, timeout=30) as client:
            for _ in range(200):
                number = generator.randrange(40)
                response = client.get(f"{self.big}/frames/{number + 1}")
                self.expect("frame", response, 200)
                if response.content != self.pixels[number << 16 : (number + 1) << 16]:
                    raise AssertionError(f"frame {number} is wrong")
                number = generator.randrange(len(FRAMES))
                response = client.get(f"{self.served.instance(CINE)}/frames/{number + 1}")
                self.expect("frame", response, 200)
                if response.content != FRAMES[number]:
                    raise AssertionError(f"frame {number} of the cine is wrong")

    @property
    def big(self) -> str:
        return f"/dicom-web/studies/1.2.3/series/1.2.3.8/instances/{BIG}"

    def ask_for_all_kinds(self, generator: random.Random) -> None:
        """Queries, metadata, pictures and files, each on a connection of its own."""
        paths = (
            "/dicom-web/studies?PatientName=*a*",
            "/dicom-web/instances?includefield=all",
            f"{self.big}/rendered?window={generator.randrange(1, 200)},50",
            f"{self.big}/frames/{generator.randrange(1, 41)}/thumbnail",
            f"{self.big}/metadata",
            "/dicom-web/studies/1.2.3",
            f"{self.served.instance(CT)}/bulkdata/7FE00010",
            "/",
        )
        for path in paths:
            try:
                # 206: a file of the study was just removed
                self.expect("other", httpx.get(self.server.url + path, timeout=30), 200, 206)
            except httpx.RemoteProtocolError:  # it was removed while the study was being sent
                if path != "/dicom-web/studies/1.2.3":
                    raise
                self.answers["cut", 200] += 1

    def break_off(self, generator: random.Random) -> None:
        """A client that asks for a whole study and dies, and one that sends half a request."""
        for data in (
            f"GET {self.big}/bulkdata/7FE00010 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode(),
            b"GET /dicom-web/studies/1.2.3 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 12",
        ):
            with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
                connection.sendall(data)
                if generator.random() < 0.5:
                    connection.recv(4096)
                linger = b"\1\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def read_slowly(self, generator: random.Random) -> None:
        """A client that takes a file a little at a time, for two seconds."""
        with socket.create_connection(("127.0.0.1", self.server.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = f"GET {self.big} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            connection.sendall(request.encode())
            for _ in range(20):
                connection.recv(1024)
                self.over.wait(0.1)

    def change_the_archive(self, generator: random.Random) -> None:
        """Files come, change and go; builds, updates of single files, a new index."""
        folder = self.served.folder
        extra, uid = folder / "extra.dcm", GONE
        url = f"{self.server.url}/dicom-web/studies/1.2.3/series/1.2.3.7/instances/{uid}/frames/1"
        write_image(extra, uid, "1.2.3.7", 1, 16 + 2 * generator.randrange(8))
        command = generator.choice((("build", folder), ("update", folder, extra)))
        self.run(*command)
        if self.over.wait(1.2):
            return
        self.expect("extra", httpx.get(url, headers=ACCEPT, timeout=30), 200)
        extra.unlink()
        if self.over.wait(1.2):
            return
        self.expect("extra", httpx.get(url, headers=ACCEPT, timeout=30), 410)
        self.run("build", folder)
        if generator.random() < 0.3:
            self.run("build", folder, "--index", folder.parent / "new")
            os.replace(folder.parent / "new", folder / ".mmindex")
        if self.over.wait(1.2):
            return
        self.expect("extra", httpx.get(url, headers=ACCEPT, timeout=30), 404)

    def run(self, *command: object) -> None:
        done = run_child(*command)
        if done.returncode:
            raise AssertionError(done.stderr)


def test_mixed_load_leaves_no_error_and_no_growth(archive) -> None:
    """Rebuilds, removed files, pictures, slow and killed clients: all else is answered right."""
    server, served, pixels = archive
    load = Load(server, served, pixels)
    many = load.start(
        *(load.read_frames, load.read_frames, load.ask_for_all_kinds, load.ask_for_all_kinds),
        *(load.break_off, load.read_slowly, load.change_the_archive),
    )
    load.over.wait(max(WARM_UP, SECONDS / 4))
    before = server.measure()
    samples = []
    for _ in range(10):
        load.over.wait(SECONDS / 10)
        samples.append(server.measure())
    after = samples[-1]
    middle, end = (mean(one["memory"] for one in some) for some in (samples[4:7], samples[7:]))
    load.over.set()
    for thread in many:
        thread.join(60)
    assert load.failures == []
    assert load.answers["frame", 200] > 10 * SECONDS
    assert load.answers["extra", 410] > 0
    assert 2 * (end - middle) < MOST_GROWTH, samples
    assert after["threads"] <= MOST_THREADS, (before, after)
    assert after["descriptors"] <= before["descriptors"] + 16, (before, after)
    log = server.stop()
    assert "Traceback" not in log, log
    print(before, *samples, dict(load.answers), sep="\n")
