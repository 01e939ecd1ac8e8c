"""The viewer page: files of this package; index.html names the place where it is served."""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from mmindex.serve.responses import mount_of

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "player.js": "text/javascript; charset=utf-8",
    "slide.js": "text/javascript; charset=utf-8",
    "dicomweb.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def page_routes(at: str, prefix: str) -> list[BaseRoute]:
    """Return the routes of the page below `at`, whose data are below `prefix`."""
    folder = files(__name__)
    routes: list[BaseRoute] = []
    for name, media_type in _FILES.items():
        text = folder.joinpath(name).read_text(encoding="utf-8")
        paths = [f"{at}/", f"{at}/index.html"] if name == "index.html" else [f"{at}/{name}"]
        routes += [Route(path, _sender(text, media_type, at, prefix)) for path in paths]
    if at:
        routes.append(Route(at, lambda request: RedirectResponse(_below(request, f"{at}/"))))
    return routes


def _below(request: Request, path: str) -> str:
    """Return a path as a browser asks for it, where the application is mounted in another one."""
    return mount_of(request.scope) + path


def _sender(
    text: str, media_type: str, at: str, prefix: str
) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        filled = text
        if media_type.startswith("text/html"):
            for name, path in (("{{prefix}}", prefix), ("{{base}}", f"{at}/")):
                filled = filled.replace(name, html.escape(_below(request, path)))
        headers = {
            "content-security-policy": PAGE_POLICY,
            "content-type": media_type,
            "cache-control": "no-cache",
        }
        return Response(filled, headers=headers)

    return send
