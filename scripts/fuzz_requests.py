"""The server as a target of `scripts/fuzz`: bytes are a request, whose answer is no failure."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import mmindex
from mmindex.serve import application

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from served_archive import CINE, CT, SR, STUDY, write_archive

INSTANCES = [
    f"/dicom-web/studies/{STUDY}/series/{series}/instances/{uid}"
    for series, uid in (("1.2.3.1", CINE), ("1.2.3.2", CT), ("1.2.3.2", SR))
]
SEEDS = [
    b"GET\n/dicom-web/studies\nPatientName=*a*&StudyDate=20200101-&limit=1\naccept: */*",
    b"GET\n/dicom-web/instances\nincludefield=all&00081140.00081155=1.2\nif-none-match: *",
    *(
        f"GET\n{instance}{path}\n{query}\naccept: {accept}\nrange: bytes=0-9".encode()
        for instance in INSTANCES
        for path, query, accept in (
            ("/frames/1,2", "accept=image/jpeg", 'multipart/related; type="image/jpeg"; q=0.5'),
            ("/frames/2/rendered", "window=1,2,linear&viewport=9,9,1,1,2,2&quality=5", "image/png"),
            ("/bulkdata/00081140/1/00081155", "", "application/octet-stream"),
            ("/metadata", "", "application/dicom+json"),
            ("", "", 'multipart/related; type="application/dicom"; transfer-syntax=*'),
        )
    ),
]


class RequestTarget:
    """An application over a small archive, asked without a network."""

    def __init__(self) -> None:
        logging.disable(logging.CRITICAL)
        self._folder = tempfile.TemporaryDirectory(prefix="mmindex-fuzz-")
        write_archive(Path(self._folder.name))
        mmindex.build(self._folder.name, workers=1)
        self._app = application(self._folder.name, revalidate_after=3600.0)
        self._loop = asyncio.new_event_loop()

    def __call__(self, data: bytes) -> None:
        """Ask for what the bytes say; an answer of 500 or above, but for 501, is a failure."""
        method, path, query, *lines = [*data.split(b"\n"), b"", b"", b""][: data.count(b"\n") + 4]
        text = path.decode("utf-8", "replace")
        headers = [tuple(map(bytes.strip, line.partition(b":")[::2])) for line in lines[:8]]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method.decode("latin-1") or "GET",
            "scheme": "http",
            "root_path": "",
            "path": text if text.startswith("/") else f"/{text}",
            "raw_path": path,
            "query_string": query,
            "client": None,
            "server": ("127.0.0.1", 80),
            "headers": [(b"host", b"127.0.0.1"), *((n.lower(), v) for n, v in headers if n)],
        }
        statuses: list[int] = []

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()  # the client neither sends a body nor leaves
            raise AssertionError("never reached")

        self._loop.run_until_complete(self._app(scope, receive, send))
        if len(statuses) != 1 or (statuses[0] >= 500 and statuses[0] != 501):
            raise AssertionError(f"statuses of the answer: {statuses}")
