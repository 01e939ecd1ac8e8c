"""What the viewer Slim is made of, as npm has it, over our server: two slides, from another origin.

Slim itself is in no package index: its core is dicom-microscopy-viewer, which asks with
dicomweb-client. The page that loads them is another server's, so that CORS is tried, too.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from serve.chromium import (
    CHROMIUM,
    NO_CHROMIUM,
    PATIENCE,
    check_frames,
    running_chromium,
    unpack_from_npm,
    wait_alike,
    watched_page,
)
from serve.test_clients import SLIDE_SERIES, SLIDE_STUDY, write_slide
from served_archive import Served, Server
from slide_files import SERIES, cut, draw, write_slide_file

import mmindex

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]
VIEWER, CLIENT = "dicom-microscopy-viewer@0.48.24", "dicomweb-client@0.11.3"
TOKEN = "a-token-of-many-characters"
# What the viewer's own README shows, apart from the token.
PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>Slide</title>
<link rel="icon" href="data:,">
<style>body { margin: 0 } #viewport { width: 900px; height: 600px }</style>
<div id="viewport"></div>
<script src="/client/dicomweb-client.js"></script>
<script src="/static/js/dicomMicroscopyViewer.min.js"></script>
<script type="module">
const viewers = dicomMicroscopyViewer;
const asked = new URLSearchParams(location.search);
const client = new DICOMwebClient.api.DICOMwebClient({
    url: asked.get("url"),
    headers: { Authorization: `Bearer ${asked.get("token")}` },
});
const metadata = await client.retrieveSeriesMetadata({
    studyInstanceUID: asked.get("study"),
    seriesInstanceUID: asked.get("series"),
});
const images = metadata
    .map((one) => new viewers.metadata.VLWholeSlideMicroscopyImage({ metadata: one }))
    .filter((image) => ["VOLUME", "THUMBNAIL"].includes(image.ImageType[2]));
const viewer = new viewers.viewer.VolumeImageViewer({ client, metadata: images });
viewer.render({ container: "viewport" });
</script>"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page and the packages, and return where."""
    folder = tmp_path_factory.mktemp("site")
    for name, package, part in (
        ("static/js", VIEWER, "package/dist/dynamic-import"),  # where its worker looks for itself
        ("client", CLIENT, "package/build"),
    ):
        unpacked = unpack_from_npm(package, tmp_path_factory.mktemp("package"))
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(unpacked / part)
    (folder / "index.html").write_text(PAGE)
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def served(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from mmindex.serve import application

    folder = tmp_path_factory.mktemp("slides")
    for number, size in enumerate(((300, 200), (150, 100)), 1):
        tiles = [pixels for _, _, pixels in cut(draw(*size))]
        slide = write_slide_file(number, size, tiles, downsample=number)
        (folder / f"native-{number}.dcm").write_bytes(slide)
    write_slide(folder)
    mmindex.build(folder, workers=1)
    server = Server(application(folder, token=TOKEN, allow_origins=[origin]))
    yield Served(folder, server.url)
    server.stop()


@pytest.fixture(scope="module")
def browser():
    with running_chromium() as launched:
        yield launched


@pytest.mark.parametrize(
    ("study", "series"),
    [
        pytest.param("1.2.3.4.1", SERIES, id="native"),
        pytest.param(SLIDE_STUDY, SLIDE_SERIES, id="JPEG"),
    ],
)
def test_a_slide_is_shown(browser, origin: str, served: Served, study: str, series: str) -> None:
    """The map of tiles, turned as its orientation says, and every tile sent is the archive's."""
    with watched_page(browser) as page, mmindex.open(served.folder) as archive:
        url = f"{origin}/?url={served.url}/dicom-web&study={study}&series={series}&token={TOKEN}"
        page.goto(url, timeout=PATIENCE)
        page.wait_for_selector("#viewport canvas", timeout=PATIENCE)
        page.add_style_tag(content=".ol-overviewmap, .ol-scale-line { display: none }")
        slide = archive.slide(series)
        whole = np.asarray(Image.fromarray(slide.read_region(0, 0, 0, 300, 200)))
        turned = [np.ascontiguousarray(np.rot90(whole, turns)) for turns in (0, 2)]
        wait_alike(page, "#viewport", turned)
        check_frames(page, archive)
