"""Services: what the routes stand on, and how they find what a URL names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from starlette.requests import Request

from mmindex.serve.frames import FrameService
from mmindex.serve.held import Held, Uids
from mmindex.serve.multipart import Multipart
from mmindex.serve.qido import QueryService
from mmindex.serve.responses import mount_of
from mmindex.serve.security import is_loopback
from mmindex.serve.shelf import Shelf
from mmindex.serve.wado import RetrieveService

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Services:
    """The services and executors that routes call."""

    prefix: str
    shelf: Shelf
    frames: FrameService
    queries: QueryService
    retrieval: RetrieveService
    multipart: Multipart
    readers: Executor

    async def find(self, request: Request) -> Held:
        """Return the instance that a URL names, open; raises as `Shelf.open`."""
        names = request.path_params
        return await self.frames.find(Uids(names["study"], names["series"], names["instance"]))

    async def uids(self, request: Request) -> list[Uids]:
        """Return the UIDs of the study or series that a URL names; status 404 without one."""
        names = request.path_params
        return await self.read(self.retrieval.uids, names["study"], names.get("series"))

    async def read(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Run what may wait for a disk or a server in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.readers, work, *arguments)

    def base(self, request: Request) -> bytes:
        """Return the service's URL as the client knows it, from its Host header.

        Some clients leave the port out there. That of this server is added for names of this
        machine; another name may be that of a proxy with a port of its own.
        """
        root = quote(mount_of(request.scope))
        url = request.url.replace(path=root, query="", fragment="")
        server = request.scope.get("server")
        if url.port is None and server and is_loopback(url.hostname or ""):
            default = 443 if url.scheme == "https" else 80
            url = url.replace(port=server[1]) if server[1] not in (None, default) else url
        return (str(url).rstrip("/") + self.prefix).encode()
