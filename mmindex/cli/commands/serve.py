"""`mmindex serve`: an archive in a browser and in DICOMweb clients."""

from __future__ import annotations

import os
import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

import mmindex
from mmindex.cli.printing import print_message
from mmindex.cli.source_argument import open_archive, root_option
from mmindex.errors import MissingFileError
from mmindex.model import INDEX_NAME, SEPARATOR

if TYPE_CHECKING:
    from mmindex import Archive

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
    """Serve SOURCE (folder, index, DICOM file) read-only: DICOMweb at /dicom-web, a page at /.

    Only this machine is served unless --host is given, with --token-file or --insecure.

    \b
    mmindex serve /data/archive --open
    mmindex serve /data/archive --host 0.0.0.0 --token-file token.txt --workers 4
    """  # noqa: D301
    from mmindex.serve import application
    from mmindex.serve.security import LOOPBACK, is_loopback
    from mmindex.serve.server import bind, run

    token = None if token_file is None else _read_token(token_file)
    if not is_loopback(host) and token is None and not insecure:
        raise click.UsageError(
            f"--host {host} can be reached from other machines: give --token-file PATH, or "
            "--insecure to let everybody read who can reach it"
        )
    _check_source(source)
    served: Archive | str = os.path.abspath(source)
    if archive_root is not None:
        served = open_archive(source, archive_root)
    hosts: list[str] = [*LOOPBACK, host, *allow_hosts]
    if not is_loopback(host) and not allow_hosts:
        hosts = ["*"]  # a page that rebinds its name has no token
    make = partial(
        application,
        served,
        token=token,
        allow_origins=allow_origins,
        allowed_hosts=hosts,
        ohif=ohif,
    )
    make()  # says now what is wrong
    listening = bind(host, port)
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}/"
    if token is None and not is_loopback(host):
        print_message(f"{url} can be read by everybody who can reach it: there is no token")
    print_message(f"serving {source} at {url} (DICOMweb: {url}dicom-web); Ctrl-C stops it")
    if open_browser:
        click.launch(url + (f"#token={token}" if token else ""))
    run(make, listening, workers=workers, log_requests=log_requests)


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
