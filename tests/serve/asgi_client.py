"""Requests to an ASGI application in this process, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx


def ask(
    app: Any, path: str = "/dicom-web/studies", method: str = "GET", **headers: str
) -> httpx.Response:
    """Return the answer to a request; underscores in names of headers stand for hyphens."""

    async def go() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=named)

    return asyncio.run(go())
