"""A small archive, written byte by byte, and a server for it."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from cli_runner import PROGRAM, ROOT
from dicom_bytes import (
    JPEG_BASELINE,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    item,
    sequence,
)

_LONGEST_START = 30  # seconds

CINE, CT, SR, OTHER = "1.2.9.1", "1.2.9.2", "1.2.9.3", "1.2.9.4"
STUDY, SERIES = "1.2.3", "1.2.3.1"
FRAMES = [b"\xff\xd8" + bytes([number]) * (40 + 2 * number) + b"\xff\xd9" for number in range(9)]
LONG = bytes(range(256)) * 8  # a private value that is bulk data


def header(uid: str, study: str, series: str, modality: str, name: bytes, date: str) -> bytes:
    """Return the elements before the Image Pixel Module, in tag order."""
    return b"".join(
        (
            element(0x00080005, "CS", "ISO_IR 100"),
            element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7"),
            element(0x00080018, "UI", uid),
            element(0x00080020, "DA", date),
            element(0x00080050, "SH"),
            element(0x00080060, "CS", modality),
            element(0x00081030, "LO", f"{modality} of {date}"),
            sequence(0x00081140, [item(element(0x00081155, "UI", "1.2.77"))]),
            element(0x00100010, "PN", name + b" " * (len(name) % 2)),
            element(0x00100020, "LO", f"ID-{study}"),
            element(0x00181063, "DS", "40"),
            element(0x0020000D, "UI", study),
            element(0x0020000E, "UI", series),
            element(0x00200013, "IS", "1"),
        )
    )


def private() -> bytes:
    return element(0x00290010, "LO", "TEST") + element(0x00291001, "OB", LONG)


@dataclass(frozen=True)
class Served:
    """An archive of four instances of two studies, and where it is served."""

    folder: Path
    url: str

    def instance(self, uid: str) -> str:
        study, series = (STUDY, SERIES) if uid != OTHER else ("1.2.4", "1.2.4.1")
        series = "1.2.3.2" if uid in (CT, SR) else series
        return f"/dicom-web/studies/{study}/series/{series}/instances/{uid}"


def write_archive(folder: Path) -> None:
    cine = header(CINE, STUDY, SERIES, "US", b"M\xfcller^Anna", "20200102")
    cine += image_attributes(number_of_frames=len(FRAMES)) + private() + encapsulate(FRAMES)
    (folder / "cine.dcm").write_bytes(dicom_file(cine, JPEG_BASELINE))
    pixels = bytes(range(48)) * 2
    ct = header(CT, STUDY, "1.2.3.2", "CT", b"M\xfcller^Anna", "20200102")
    ct += image_attributes(rows=4, columns=6, bits=16, number_of_frames=2)
    (folder / "ct.dcm").write_bytes(dicom_file(ct + element(0x7FE00010, "OW", pixels)))
    report = header(SR, STUDY, "1.2.3.2", "SR", b"M\xfcller^Anna", "20200102")
    (folder / "report.dcm").write_bytes(dicom_file(report))
    other = header(OTHER, "1.2.4", "1.2.4.1", "OT", b"Smith^John", "20210305")
    other += image_attributes(rows=2, columns=2) + element(0x7FE00010, "OW", b"\1\2\3\4")
    (folder / "other.dcm").write_bytes(dicom_file(other))


class Server:
    """uvicorn in a thread of this process, on a free port."""

    def __init__(self, app: object, http: type | None = None, **options: object) -> None:
        import uvicorn

        from mmindex.serve.protocol import BoundedProtocol
        from mmindex.serve.server import bind

        self.socket = bind("127.0.0.1", 0)
        settings = {"ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
        http = http or BoundedProtocol
        config = uvicorn.Config(app, http=http, **{**settings, **options})
        self.server = uvicorn.Server(config)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )
        self.thread.start()
        latest = time.monotonic() + _LONGEST_START
        while not self.server.started:
            if time.monotonic() > latest:
                raise RuntimeError(f"the server has not started in {_LONGEST_START} s")
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        self.socket.close()


class Process:
    """`mmindex serve` in a process of its own."""

    def __init__(self, folder: Path, log: Path, *options: str) -> None:
        self.log = log
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with open(log, "wb") as stream:
            self.process = subprocess.Popen(
                [*PROGRAM, "serve", str(folder), "--port", "0", *options],
                stderr=stream,
                env=environment,
            )
        latest = time.monotonic() + 60
        while not (match := re.search(r" at http://127\.0\.0\.1:(\d+)", self.log.read_text())):
            if time.monotonic() > latest or self.process.poll() is not None:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)
        self.port = int(match[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def measure(self) -> dict[str, int]:
        """Return resident memory that is no file's, descriptors and threads."""
        folder = Path(f"/proc/{self.process.pid}")
        status = (folder / "status").read_text()
        return {
            "memory": 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1]),
            "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),
            "descriptors": len(os.listdir(folder / "fd")),
        }

    def stop(self) -> str:
        """End the server and return what was logged."""
        self.process.terminate()
        self.process.wait(20)
        return self.log.read_text()
