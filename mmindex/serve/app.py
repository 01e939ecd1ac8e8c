"""The ASGI application: routes of DICOMweb (PS3.18 10) and of the page, over one Shelf."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mmindex.errors import MissingDependencyError

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send
except ImportError:
    raise MissingDependencyError(
        "serving needs Starlette and uvicorn: pip install 'mmindex[serve]'"
    ) from None

from mmindex.errors import MMIndexError
from mmindex.serve.accept import NotAcceptableError, UnsatisfiableRangeError
from mmindex.serve.catalogue import Catalogue
from mmindex.serve.current import answering_again
from mmindex.serve.errors import RequestError, explain
from mmindex.serve.frames import FrameService
from mmindex.serve.headers import HeaderCache
from mmindex.serve.held import Uids
from mmindex.serve.limits import Limits
from mmindex.serve.multipart import Multipart
from mmindex.serve.ohif import ohif_routes
from mmindex.serve.page import page_routes
from mmindex.serve.pictures import Pictures
from mmindex.serve.qido import QueryService
from mmindex.serve.responses import TEXT, Answer, find_at_once, route_path, send_body
from mmindex.serve.routes import Routes
from mmindex.serve.security import HARDENING, LOOPBACK, Guard, Hardened
from mmindex.serve.services import Services
from mmindex.serve.shelf import Shelf
from mmindex.serve.wado import RetrieveService

if TYPE_CHECKING:
    from mmindex import Archive


def application(
    archive_or_path: Archive | str | os.PathLike[str],
    *,
    archive_root: str | os.PathLike[str] | None = None,
    prefix: str = "/dicom-web",
    token: str | None = None,
    allow_origins: Collection[str] = (),
    allowed_hosts: Collection[str] = LOOPBACK,
    page: bool = True,
    ohif: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    revalidate_after: float = 1.0,
) -> ASGIApp:
    """Return an ASGI application that serves an archive: DICOMweb (PS3.18) and a viewer page.

    Only reading is served: QIDO-RS, WADO-RS with frames as stored, bulk data, metadata and
    pictures. A build or update under a running application shows at once; files that changed or
    are gone since they were indexed get status 410.

    Parameters
    ----------
    archive_or_path : Archive, path or URL
        An open archive, its folder, bucket or index; or one DICOM file, which is scanned. An index
        file that another one takes the place of is followed where a path or URL is given.
    archive_root : path or URL, optional
        Where the files of the index are, if not where they were indexed.
    prefix : str
        The path where DICOMweb begins.
    token : str, optional
        The token that clients send as `Authorization: Bearer`; none is asked for unless given.
    allow_origins : collection of str
        Origins such as `https://viewer.example.org` whose pages may read (CORS); none unless
        given.
    allowed_hosts : collection of str
        Names that the Host header may have, `[*]` for any IP address, `*` for any; those of this
        machine unless given.
    page : bool
        Whether the viewer page is at `/` (at `/mmindex/` where `ohif` is).
    ohif : path, optional
        The folder of an unpacked OHIF Viewer (`@ohif/app`), which is served at `/`. OHIF sends no
        token: it goes without one.
    limits : Limits, optional
        What requests may take of the server.
    revalidate_after : float
        Seconds after which the index and files are checked again.

    Returns
    -------
    ASGI application
        To be run by an ASGI server such as uvicorn, or mounted in an application.

    Raises
    ------
    MissingFileError, IndexFormatError, NotDicomError, RemoteReadError
        There is no index or file at the path or URL, or none that can be read.
    MissingDependencyError
        Starlette is not installed.
    ValueError
        `prefix` is not a path such as `/dicom-web`; `ohif` and `token` are both given.
    """
    if ohif is not None and token is not None:
        raise ValueError("the OHIF Viewer sends no token: give ohif or token, not both")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix):
        raise ValueError(f"expected a prefix such as '/dicom-web', found {prefix!r}")
    limits = limits or Limits()
    shelf = Shelf(
        archive_or_path,
        archive_root=archive_root,
        most_open=limits.open_instances,
        revalidate_after=revalidate_after,
    )
    service = _Service(shelf, prefix, limits, revalidate_after)
    routes: list[BaseRoute] = service.routes.make(prefix)
    if ohif is not None:
        page_at = "/mmindex"
        routes += page_routes(page_at, prefix) if page else []
        routes += ohif_routes(os.fspath(ohif), prefix)
    elif page:
        routes += page_routes("", prefix)
    app: ASGIApp = Hardened(_make_starlette(routes))  # those of frames are so by themselves
    app = _FastFrames(app, service.frames, prefix)
    if token is not None:
        app = Guard(app, allowed_hosts=["*"], token=token, prefix=prefix)
    if allow_origins:
        app = _Cors(
            app,
            allow_origins=list(allow_origins),
            allow_methods=["GET", "HEAD"],
            allow_headers=["Authorization", "Accept", "Range", "If-None-Match", "If-Range"],
            expose_headers=["ETag", "Content-Range", "Warning"],
        )
    return Guard(app, allowed_hosts=allowed_hosts, token=None, prefix=prefix)


class _Service:
    """The state that all routes share."""

    def __init__(self, shelf: Shelf, prefix: str, limits: Limits, revalidate_after: float) -> None:
        multipart = Multipart()
        headers = HeaderCache()
        catalogue = Catalogue(shelf, revalidate_after)
        readers = ThreadPoolExecutor(limits.readers, "mmindex-read")
        renderers = ThreadPoolExecutor(limits.renders, "mmindex-render")
        self.frames = FrameService(shelf, multipart, readers, limits)
        services = Services(
            prefix=prefix,
            shelf=shelf,
            frames=self.frames,
            queries=QueryService(shelf, catalogue, headers),
            retrieval=RetrieveService(shelf, catalogue, headers, multipart),
            multipart=multipart,
            readers=readers,
        )
        pictures = Pictures(
            services,
            renderers,
            turns=asyncio.Semaphore(limits.renders),
            waiting=asyncio.Semaphore(limits.waiting_renders),
            most_frames=limits.rendered_frames,
        )
        self.routes = Routes(services, pictures)


class _Cors(CORSMiddleware):
    """Starlette's headers for pages of other origins."""

    def answer_at_once(self, scope: Scope) -> Answer | None:
        """Return the application's answer to a request without Origin; its Vary names that."""
        if any(name == b"origin" for name, _ in scope["headers"]):
            return None
        return find_at_once(self.app)(scope)


class _FastFrames:
    """Answers requests for frames before any router sees them: half of the cost of one."""

    def __init__(self, app: ASGIApp, frames: FrameService, prefix: str) -> None:
        self._app = app
        self._frames = frames
        self._answer = answering_again(frames.respond)
        self._match = re.compile(
            re.escape(prefix) + r"/studies/([^/]+)/series/([^/]+)"
            r"/instances/([^/]+)/frames/([0-9,]+)"
        ).fullmatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            match = self._match(route_path(scope))
            if match is not None:
                await self._respond(scope, send, match)
                return
        await self._app(scope, receive, send)

    def answer_at_once(self, scope: Scope) -> Answer | None:
        """Return the answer to a request for a frame in memory; None for the call to answer."""
        match = self._match(route_path(scope))
        if match is None:
            return None
        *uids, numbers = match.groups()
        try:
            return self._frames.answer_at_once(scope, Uids(*uids), numbers)
        except Exception:  # comes again in the call, which answers or reports the error
            return None

    async def _respond(self, scope: Scope, send: Send, match: re.Match[str]) -> None:
        *uids, numbers = match.groups()
        try:
            await self._answer(scope, send, Uids(*uids), numbers)
        except Exception as error:
            known = explain(error)
            if known is None:
                raise
            headers = [TEXT, *HARDENING, *known.headers]
            await send_body(send, known.message.encode(), headers, status=known.status)


def _make_starlette(routes: list[BaseRoute]) -> Starlette:
    own = RequestError, NotAcceptableError, UnsatisfiableRangeError
    errors: tuple[type[Exception], ...] = (*own, MMIndexError, ValueError, OSError)
    handlers = dict.fromkeys(errors, _answer_error)
    return Starlette(
        routes=routes, exception_handlers={**handlers, HTTPException: _answer_http_error}
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    known = explain(error)
    if known is None:
        raise error
    headers = {name.decode(): value.decode() for name, value in known.headers}
    return PlainTextResponse(known.message, known.status, headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    why = {
        404: "there is nothing at this path",
        405: "only GET and HEAD: this server stores and changes nothing",
    }.get(status, getattr(error, "detail", ""))
    return PlainTextResponse(why, status, getattr(error, "headers", None))
