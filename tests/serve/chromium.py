"""A headless Chromium of the system, for tests of pages and of viewers that npm has."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmindex

CHROMIUM = os.environ.get("MMINDEX_CHROMIUM") or shutil.which("chromium")
NO_CHROMIUM = "no Chromium: install it, or set MMINDEX_CHROMIUM"
PATIENCE = 90_000  # milliseconds
_FLAGS = (
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--force-color-profile=srgb"),
)


@contextmanager
def running_chromium() -> Iterator[Any]:
    """Yield a browser, for a `with` statement."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield launched
        launched.close()


def unpack_from_npm(package: str, folder: Path) -> Path:
    """Return a folder with the files of a package; skip the test where npm has none."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip(f"no npm to fetch {package} with")
    command = [npm, "pack", "--silent", package]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot fetch {package}: {error}")
    (packed,) = folder.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    packed.unlink()
    return folder


@contextmanager
def watched_page(browser: Any) -> Iterator[Any]:
    """Open a page; no script of it may fail, and no request be answered with an error."""
    opened = browser.new_page(viewport={"width": 1100, "height": 760})
    opened.errors, opened.frames_sent = [], {}
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.on("response", lambda response: _note(opened, response))
    yield opened
    assert opened.errors == []
    opened.close()


def _note(page: Any, response: Any) -> None:
    if response.status >= 400:
        page.errors.append(f"{response.status} {response.url}")
    if "/frames/" in response.url and response.request.method == "GET":
        uid = response.url.split("/instances/")[1].split("/")[0]
        number = int(response.url.rsplit("/", 1)[1])
        page.frames_sent[uid, number - 1] = response


def _likeness(page: Any, selector: str, expected: np.ndarray) -> float:
    """Return how a picture correlates with what an element shows of it, fitted and centred."""
    from PIL import Image

    box = page.locator(selector).first.bounding_box()
    shot = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("L")
    wide = Image.fromarray(expected).convert("L")
    scale = min(shot.width / wide.width, shot.height / wide.height)
    size = round(wide.width * scale), round(wide.height * scale)
    left, top = (shot.width - size[0]) // 2, (shot.height - size[1]) // 2
    shown = shot.crop((left, top, left + size[0], top + size[1])).resize((32, 32))
    wanted = wide.resize((32, 32))
    return float(np.corrcoef(np.ravel(shown), np.ravel(wanted))[0, 1])


def wait_alike(page: Any, selector: str, pictures: list[np.ndarray]) -> None:
    """Wait until an element shows one of some pictures."""
    latest = time.monotonic() + PATIENCE / 1000
    found: list[float] = []
    while time.monotonic() < latest:
        found = [_likeness(page, selector, picture) for picture in pictures]
        if max(found) > 0.95:
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"the viewer shows something else: {found}")


def check_frames(page: Any, archive: mmindex.Archive) -> None:
    """Hold that bodies of answers are frames, apart from the heads of their parts."""
    assert page.frames_sent
    for (uid, index), response in page.frames_sent.items():
        body = response.body()
        if response.headers["content-type"].startswith("multipart"):
            body = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
        assert body == archive.frame(uid, index)
