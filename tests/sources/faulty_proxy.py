"""A proxy on loopback between a reader and one object, which breaks answers as a bad network does.

Written on sockets by hand, so that an answer can be wrong in ways that no server's library allows.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import threading
from contextlib import suppress

from mmindex.closing import Closing

FAULTS = (
    *("delay", "cut", "reset", "429", "500", "503", "504", "whole", "changed", "changed unnoticed"),
    *("other range", "wider range", "longer", "endless", "shorter", "gzip", "other size"),
    *("no length", "garbage"),
)
STALLS = ("silent", "stall", "half", "trickle")  # answers that stand still, or nearly
_TAG, _OTHER_TAG = '"first"', '"second"'
_MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
_STANDSTILL = 3.0  # seconds
_MOST_ENDLESS = 64 << 20  # bytes after which even an endless body ends


class FaultyProxy(Closing):
    """Serves one object at `url`; a share of the answers to GET has one of the faults."""

    def __init__(self, data: bytes, share: float = 0.0, faults: tuple[str, ...] = FAULTS) -> None:
        self.data = data
        self.other = data[::-1]
        self.share = share
        self.faults = faults
        self.gets = 0
        self.most_faults = 1 << 30  # after which answers are right
        self.endless_sent = 0
        self._random = random.Random(11)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/a.dcm"
        return self

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                if not await self._answer(request, writer):
                    break
        writer.close()

    async def _answer(self, request: str, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; return whether the connection goes on."""
        is_get = request.startswith("GET")
        fault = ""
        if is_get:
            self.gets += 1
            if self.most_faults and self._random.random() < self.share:
                fault = self._random.choice(self.faults)
                self.most_faults -= 1
        if fault == "delay":
            await asyncio.sleep(0.02)
        if fault == "reset":
            return False
        if fault == "silent":
            await asyncio.sleep(_STANDSTILL)
            return False
        if fault == "garbage":
            writer.write(b"\0\1\2 no HTTP\r\n\r\n")
            await writer.drain()
            return False
        if fault.isdecimal():
            writer.write(f"HTTP/1.1 {fault} Fault\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return True
        wanted = re.search(r"(?i)\r\nrange: bytes=(\d+)-(\d+)", request)
        match = re.search(r'(?i)\r\nif-match: (".*?")', request)
        changed = fault.startswith("changed")
        tag, data = (_OTHER_TAG, self.other) if changed else (_TAG, self.data)
        if match and match[1] != tag and fault != "changed unnoticed":
            writer.write(b"HTTP/1.1 412 Changed\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return True
        start, end = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, len(data))
        return await self._send(writer, fault, tag, data, (start, end), is_get and bool(wanted))

    async def _send(
        self,
        writer: asyncio.StreamWriter,
        fault: str,
        tag: str,
        data: bytes,
        span: tuple[int, int],
        ranged: bool,
    ) -> bool:
        start, end = span
        size = len(data) + 1000 if fault == "other size" else len(data)
        body = data[start:end]
        said = start, end
        if fault == "other range":
            shift = min(7, len(data) - end) or -min(7, start)
            said = start + shift, end + shift
            body = data[slice(*said)]
        elif fault == "wider range":
            said = max(0, start - 1), min(len(data), end + 1)
            body = data[slice(*said)]
        elif fault == "longer":
            body += b"more" * 50
        elif fault == "shorter":
            body = body[:-1]
        elif fault == "gzip":
            body = gzip.compress(body)
        length = len(body)
        lines = [f"ETag: {tag}", f"Last-Modified: {_MODIFIED}"]
        if not ranged:
            lines.insert(0, "HTTP/1.1 200 OK")
            length, body = len(data), b""
        elif fault == "whole":
            lines.insert(0, "HTTP/1.1 200 OK")
            length, body = len(data), data
        else:
            lines.insert(0, "HTTP/1.1 206 Partial")
            lines.append(f"Content-Range: bytes {said[0]}-{said[1] - 1}/{size}")
        if fault == "gzip":
            lines.append("Content-Encoding: gzip")
        if fault == "endless":
            length += _MOST_ENDLESS
        is_open_ended = fault in ("endless", "no length")
        lines.append(f"Content-Length: {length}" if fault != "no length" else "Connection: close")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if fault == "cut":
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return False
        if fault == "slow":
            for at in range(0, len(body), len(body) // 9 + 1):
                writer.write(body[at : at + len(body) // 9 + 1])
                await writer.drain()
                await asyncio.sleep(0.1)
            return True
        if fault in STALLS:
            writer.write(body[: len(body) // 2] if fault == "half" else b"")
            for at in range(30 if fault == "trickle" else 0):
                writer.write(body[at : at + 1])
                await writer.drain()
                await asyncio.sleep(_STANDSTILL / 30)
            await writer.drain()
            await asyncio.sleep(_STANDSTILL)
            return False
        writer.write(body)
        await writer.drain()
        if fault == "endless":
            for _ in range(_MOST_ENDLESS >> 16):
                writer.write(bytes(1 << 16))
                await writer.drain()
                self.endless_sent += 1 << 16
        return not is_open_ended and fault != "whole"
