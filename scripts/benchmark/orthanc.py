"""Orthanc as a peer of `mmindex serve`: frames of one file over its DICOMweb plugin.

Orthanc 1.10 listens on all addresses whatever its configuration says. So it runs only in a network
namespace of its own (`unshare -n`), which has nothing but a loopback device; this module is the
program that runs in there: it starts Orthanc, stores the file, asks for frames, and prints the
server's CPU seconds a frame, a line for each number of connections.

ORTHANC names the program where `Orthanc` is not in PATH, ORTHANC_DICOMWEB the plugin.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from scripts.benchmark.model import NOT_THERE, Image
from scripts.benchmark.server_load import CONNECTIONS, measure_load, path_of

_PLUGINS = (
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    "/usr/lib/orthanc/libOrthancDicomWeb.so",
)
_PORT = 8042  # of the namespace, where nobody else is
_LONGEST_START = 60  # seconds
_ACCEPT = 'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50'


class NoOrthancError(Exception):
    """Orthanc cannot be measured here; says why."""


def measure_orthanc(image: Image, requests: int) -> dict[int, float]:
    """Return CPU seconds a frame by number of connections, measured in a network namespace.

    Raises
    ------
    NoOrthancError
        Orthanc, its plugin or network namespaces are not there.
    """
    program = os.environ.get("ORTHANC") or shutil.which("Orthanc")
    plugin = os.environ.get("ORTHANC_DICOMWEB") or next(filter(os.path.exists, _PLUGINS), None)
    if program is None or plugin is None:
        raise NoOrthancError(NOT_THERE)
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        raise NoOrthancError("no network namespace to run it in")
    settings = json.dumps([program, plugin, list(image), requests])
    command = [*unshare, sys.executable, "-m", "scripts.benchmark.orthanc", settings]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    return {int(key): value for key, value in json.loads(done.stdout).items()}


def main() -> None:
    """Measure within the namespace, and print the figures."""
    program, plugin, place, requests = json.loads(sys.argv[1])
    image = Image(*place)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="orthanc-") as folder:
        configuration = Path(folder) / "orthanc.json"
        settings = {
            "StorageDirectory": folder,
            "IndexDirectory": folder,
            "Plugins": [plugin],
            "HttpPort": _PORT,
            "KeepAlive": True,
            "DicomServerEnabled": False,
            "AuthenticationEnabled": False,
            "DicomWeb": {"Enable": True},
        }
        configuration.write_text(json.dumps(settings))
        command, nowhere = [program, str(configuration)], subprocess.DEVNULL
        with subprocess.Popen(command, stdout=nowhere, stderr=nowhere) as server:
            try:
                _store(image)
                connect = partial(_Connection, image)
                found = {
                    connections: measure_load(server.pid, connect, connections, requests)
                    for connections in CONNECTIONS
                }
            finally:
                server.terminate()
    print(json.dumps(found))


def _store(image: Image) -> None:
    """Send the file to Orthanc once it answers."""
    latest = time.monotonic() + _LONGEST_START
    data = Path(image.path).read_bytes()
    while True:
        try:
            connection = _Connection(image)
            connection.request("POST", "/instances", data)
            if connection.getresponse().status == 200:
                return
        except OSError:
            if time.monotonic() > latest:
                raise
        time.sleep(0.2)


class _Connection(http.client.HTTPConnection):
    """A connection to Orthanc, whose answers are multipart."""

    def __init__(self, image: Image) -> None:
        super().__init__("127.0.0.1", _PORT, timeout=60)
        self._frames = f"{path_of(image)}/frames"

    def get(self, frame_index: int) -> bytes:
        """Return the frame in an answer.

        Raises
        ------
        ValueError
            The answer is an error.
        """
        self.request("GET", f"{self._frames}/{frame_index + 1}", headers={"Accept": _ACCEPT})
        answer = self.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {body[:200]!r}")
        return body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]


if __name__ == "__main__":
    main()
