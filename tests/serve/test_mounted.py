"""The application mounted in another one: every link leads below the place of the mount."""

from __future__ import annotations

import re

import pytest
from serve.asgi_client import ask
from served_archive import CINE, LONG, Served
from starlette.applications import Starlette
from starlette.routing import Mount

from mmindex.serve import application


@pytest.fixture(params=["/viewer", "/a/b", '/"><script>'])
def mount(request, served):
    return request.param, Starlette(routes=[Mount(request.param, application(served.folder))])


def test_the_page_asks_below_its_mount(mount):
    """Style, scripts and data are asked for where they are, whatever the name of the place."""
    at, app = mount
    text = ask(app, at + "/").text
    assert "<script>" not in text
    for link in re.findall(r'(?:href|src)="(/[^"]*)"', text):
        found = link.replace("&quot;", '"').replace("&gt;", ">").replace("&lt;", "<")
        assert ask(app, found).status_code == 200
    prefix = re.search(r'data-prefix="([^"]*)"', text)[1]
    found = prefix.replace("&quot;", '"').replace("&gt;", ">").replace("&lt;", "<")
    assert found == at + "/dicom-web"
    assert ask(app, "/style.css").status_code == 404


def test_links_in_answers_lead_below_the_mount(mount):
    """Retrieve URLs and BulkDataURIs are those of the mounted service."""
    at, app = mount
    place = Served(None, "").instance(CINE)
    (found,) = ask(app, f"{at}{place}/metadata").json()
    uri = found["00291001"]["BulkDataURI"]
    assert uri.startswith("http://127.0.0.1/")
    assert ask(app, uri, accept="application/octet-stream").content == LONG
    assert ask(app, f"{at}{place}/frames/1", accept="image/jpeg").status_code == 200
    assert ask(app, f"{place}/frames/1", accept="image/jpeg").status_code == 404


def test_a_mounted_service_still_needs_its_token(served):
    """No spelling of the path gets around the token."""
    token = "correct-horse-battery"
    app = Starlette(routes=[Mount("/viewer", application(served.folder, token=token))])
    for path in ("/viewer/dicom-web/studies", f"/viewer{served.instance(CINE)}/frames/1"):
        assert ask(app, path).status_code == 401
        assert ask(app, path, authorization=f"bearer {token}").status_code == 200
    for path in ("/viewerdicom-web/studies", "/viewer/viewer/dicom-web/studies"):
        assert ask(app, path).status_code == 404


def test_the_configuration_of_ohif_names_the_mount(served, tmp_path):
    """app-config.js has the roots of the mounted service; /mmindex leads to the page."""
    (tmp_path / "index.html").write_text("<html></html>")
    inner = application(served.folder, ohif=tmp_path)
    app = Starlette(routes=[Mount("/viewer", inner)])
    assert '"wadoRoot": "/viewer/dicom-web"' in ask(app, "/viewer/app-config.js").text
    assert '"wadoRoot": "/dicom-web"' in ask(inner, "/app-config.js").text
    assert ask(app, "/viewer/mmindex").headers["location"] == "/viewer/mmindex/"
    assert 'data-prefix="/viewer/dicom-web"' in ask(app, "/viewer/mmindex/").text
