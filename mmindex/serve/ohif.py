"""The OHIF Viewer from a folder: an unpacked `@ohif/app` of npm, with a configuration for here."""

from __future__ import annotations

import json
import os

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from mmindex.errors import MissingFileError
from mmindex.serve.responses import mount_of

_HEADERS = {
    "content-security-policy": (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}


def find_dist(folder: str) -> str:
    """Return the folder with OHIF's index.html: this one, or `dist` or `package/dist` in it.

    Raises
    ------
    MissingFileError
        There is none.
    """
    for below in ("", "dist", os.path.join("package", "dist")):
        found = os.path.join(folder, below)
        if os.path.isfile(os.path.join(found, "index.html")):
            return os.path.abspath(found)
    raise MissingFileError(
        "expected an unpacked OHIF Viewer with index.html (npm pack @ohif/app, then unpack it)",
        path=folder,
    )


def make_config(prefix: str, root: str = "") -> str:
    """Return the text of app-config.js for a DICOMweb service of the same host.

    Parameters
    ----------
    prefix : str
        The path where DICOMweb begins.
    root : str
        Where the application is mounted.
    """
    prefix = root + prefix
    source = {
        "friendlyName": "mmindex",
        "name": "mmindex",
        "wadoUriRoot": prefix,
        "qidoRoot": prefix,
        "wadoRoot": prefix,
        "qidoSupportsIncludeField": True,
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "enableStudyLazyLoad": True,
        "supportsFuzzyMatching": False,
        "supportsWildcard": True,
        "dicomUploadEnabled": False,
        "omitQuotationForMultipartRequest": True,
        "bulkDataURI": {"enabled": True},
    }
    config = {
        "routerBasename": root or None,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 3,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "defaultDataSourceName": "mmindex",
        "dataSources": [
            {
                "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
                "sourceName": "mmindex",
                "configuration": source,
            }
        ],
    }
    return f"window.config = {json.dumps(config, indent=1)};\n"


class _Viewer(StaticFiles):
    """OHIF's files; a path of its router that is no file gets index.html."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            if error.status_code != 404 or "." in os.path.basename(path):
                raise
            response = await super().get_response("index.html", scope)
        response.headers.update(_HEADERS)
        return response


def ohif_routes(folder: str, prefix: str) -> list[BaseRoute]:
    """Return the routes of the OHIF Viewer.

    Raises
    ------
    MissingFileError
        There is none in the folder.
    """
    dist = find_dist(folder)

    async def send_config(request: Request) -> Response:
        config = make_config(prefix, mount_of(request.scope))
        return Response(config, media_type="text/javascript", headers={"cache-control": "no-cache"})

    async def send_index(request: Request) -> Response:
        return FileResponse(os.path.join(dist, "index.html"), headers=_HEADERS)

    return [
        Route("/app-config.js", send_config),
        Route("/", send_index),
        Mount("/", _Viewer(directory=dist)),
    ]
