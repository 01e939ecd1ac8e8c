"""A headless Chromium of the system, for tests of pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = os.environ.get("MMINDEX_CHROMIUM") or shutil.which("chromium")
NO_CHROMIUM = "no Chromium: install it, or set MMINDEX_CHROMIUM"
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
