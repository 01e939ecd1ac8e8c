"""`mmindex serve`: an archive in a browser and in DICOMweb clients."""

from __future__ import annotations

import atexit
import html
import os
import shlex
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import click

import mmindex
from mmindex.cli.printing import print_message
from mmindex.cli.source_argument import check_root, root_option
from mmindex.errors import MissingFileError
from mmindex.model import INDEX_NAME, SEPARATOR, is_url

_PAGE_SECONDS = 60.0  # after which the file that leads to the page is removed
_SHORTEST_TOKEN = 16  # characters


@click.command("serve", short_help="Serve an archive to browsers and DICOMweb clients.")
@click.argument("source", type=click.Path())
@root_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Listen here."
)
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=8042,
    show_default=True,
    help="0 for a free one.",
)
@click.option(
    *("-j", "--workers"),
    metavar="N",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes.",
)
@click.option(
    "--token-file",
    type=click.Path(),
    metavar="PATH",
    help="File with the token of clients.",
)
@click.option(
    "--allow-origin",
    "allow_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Site whose pages may read; repeatable.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Host name of this server; repeatable.",
)
@click.option("--insecure", is_flag=True, help="Serve other machines without a token.")
@click.option("--ohif", type=click.Path(), metavar="FOLDER", help="Serve this OHIF Viewer, too.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@click.option("--log-requests", is_flag=True, help="Print a line a request, without queries.")
def command(
    source: str,
    archive_root: str | None,
    host: str,
    port: int,
    workers: int,
    token_file: str | None,
    allow_origins: tuple[str, ...],
    allow_hosts: tuple[str, ...],
    insecure: bool,
    ohif: str | None,
    open_browser: bool,
    log_requests: bool,
) -> None:
    """Serve SOURCE (folder, bucket, index, DICOM file) read-only: DICOMweb, and a page at /.

    Only this machine is served unless --host is given, with --token-file or --insecure.

    \b
    mmindex serve /data/archive --open
    mmindex serve /data/archive --host 0.0.0.0 --token-file token.txt --workers 4
    """  # noqa: D301
    from mmindex.serve import application
    from mmindex.serve.security import is_loopback
    from mmindex.serve.server import bind, check_in_child, run

    token = None if token_file is None else _read_token(token_file)
    if not is_loopback(host) and token is None and not insecure:
        raise click.UsageError(
            f"--host {host} can be reached from other machines: give --token-file PATH, or "
            "--insecure to let everybody read who can reach it"
        )
    if ohif is not None and token is not None:
        raise click.UsageError(
            "the OHIF Viewer sends no token: leave out --token-file, and have a proxy ask for one"
        )
    if not is_url(source):
        _check_source(source)
        source = os.path.abspath(source)
    check_root(archive_root)
    make = partial(
        application,
        source,
        archive_root=archive_root,
        token=token,
        allow_origins=allow_origins,
        allowed_hosts=_list_hosts(host, allow_hosts),
        ohif=ohif,
    )
    if workers > 1 and hasattr(os, "fork"):
        check_in_child(make)  # says now what is wrong
    else:
        make()
    listening = bind(host, port)
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}/"
    if token is None and not is_loopback(host):
        print_message(f"{url} can be read by everybody who can reach it: there is no token")
    print_message(f"serving {source} at {url} (DICOMweb: {url}dicom-web); Ctrl-C stops it")
    if open_browser:
        _open_page(url, token)
    sys.exit(run(make, listening, workers=workers, log_requests=log_requests))


def _list_hosts(host: str, allowed: Sequence[str]) -> list[str]:
    """Return the names that the Host header may have: any IP address where others may connect.

    A page of another site can have its own name point here (DNS rebinding), but no address.
    """
    from mmindex.serve.security import ANY_ADDRESS, LOOPBACK, is_loopback

    hosts = [*LOOPBACK, host, *allowed]
    if not is_loopback(host):
        hosts += [ANY_ADDRESS, socket.gethostname(), socket.getfqdn()]
    return hosts


def _open_page(url: str, token: str | None) -> None:
    """Open the page in a browser; a token reaches it by a file that only this user can read.

    The arguments of a process can be read by all users of a machine.
    """
    if token is None:
        click.launch(url)
        return
    number, path = tempfile.mkstemp(prefix="mmindex-", suffix=".html")  # of mode 0600
    with os.fdopen(number, "w", encoding="utf-8") as file:
        target = html.escape(f"{url}#token={quote(token, safe='')}")
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={target}">')
    atexit.register(_remove, path)
    timer = threading.Timer(_PAGE_SECONDS, _remove, (path,))
    timer.daemon = True
    timer.start()
    click.launch(path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _read_token(path: str) -> str:
    """Return the first line of a token file.

    Raises
    ------
    click.UsageError
        It is too short, or cannot stand in a header.
    OSError
        The file cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        token = file.readline(4096).strip()
    if len(token) < _SHORTEST_TOKEN or not (token.isascii() and token.isprintable()):
        raise click.UsageError(
            f"the first line of {path} has to be a token of {_SHORTEST_TOKEN} or more characters, "
            "such as `openssl rand -hex 32` prints"
        )
    return token


def _check_source(source: str) -> None:
    """Offer to build the index of a folder that has none.

    Raises
    ------
    MissingFileError
        There is no such file or folder; or no index, and none is wanted.
    """
    if source == "-":
        raise click.UsageError("serve cannot read standard input: name a file, folder or index")
    if not os.path.exists(source):
        if SEPARATOR in source:  # a file in a container, which is opened when it is served
            return
        raise MissingFileError("there is no such file, folder or index", path=source)
    if not os.path.isdir(source) or os.path.exists(os.path.join(source, INDEX_NAME)):
        return
    how = f"`mmindex build {shlex.quote(source)}`"
    if not sys.stdin.isatty():
        raise MissingFileError(f"the folder has no index: create one with {how}", path=source)
    if not click.confirm(f"{source} has no index. Build it now?", default=True, err=True):
        raise MissingFileError(f"the folder has no index: create one with {how}", path=source)
    mmindex.build(source)
    print_message("the index is built")
