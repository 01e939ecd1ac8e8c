"""Runs the application with uvicorn: one process or several that share a socket and page cache."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp

from mmindex.errors import MissingDependencyError

_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 chooses a free one.

    Raises
    ------
    OSError
        The port is in use, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening


def run(
    make_application: Callable[[], ASGIApp],
    listening: socket.socket,
    *,
    workers: int = 1,
    log_requests: bool = False,
) -> None:
    """Serve until a signal ends it.

    Parameters
    ----------
    make_application : callable
        Makes the application, in each process for itself.
    listening : socket
        Where connections come in; all processes accept from it.
    workers : int
        How many processes.
    log_requests : bool
        Whether a line a request goes to standard error.

    Raises
    ------
    MissingDependencyError
        uvicorn is not installed.
    """
    raise_open_files()
    if workers < 2 or not hasattr(os, "fork"):
        _serve(make_application(), listening, log_requests=log_requests)
        return
    children = []
    for _ in range(workers):
        child = os.fork()
        if not child:
            status = 1
            try:
                _serve(make_application(), listening, log_requests=log_requests)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    _wait(children)


def _wait(children: Sequence[int]) -> None:
    """Wait for worker processes; the end of one, or of this one, is that of all."""

    def stop(number: int, frame: object) -> None:
        for child in children:
            try:
                os.kill(child, signal.SIGTERM)
            except ProcessLookupError:
                continue

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.wait()
    stop(signal.SIGTERM, None)
    for _ in children[1:]:
        os.wait()


def _serve(app: ASGIApp, listening: socket.socket, *, log_requests: bool) -> None:
    try:
        import uvicorn

        from mmindex.serve.protocol import BoundedProtocol
    except ImportError:
        raise MissingDependencyError(
            "serving needs uvicorn with httptools: pip install 'mmindex[serve]'"
        ) from None
    set_up_logging(log_requests=log_requests)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        access_log=False,  # it would write queries, which hold patients' names
        log_config=None,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening])


def set_up_logging(*, log_requests: bool) -> None:
    """Send log lines to standard error; none holds a value of a file."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mmindex: %(message)s"))
    for name, level in (
        ("mmindex.serve", logging.INFO if log_requests else logging.WARNING),
        ("uvicorn.error", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote values
    warnings.filterwarnings("ignore", module="pydicom")


def raise_open_files() -> None:
    """Raise the limit of open files as far as the system lets this process."""
    try:
        import resource
    except ImportError:  # not POSIX
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if most != resource.RLIM_INFINITY else 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
