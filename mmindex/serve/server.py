"""Runs the application with uvicorn: one process or several that share a socket and page cache."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import pickle
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from time import monotonic

from starlette.types import ASGIApp

from mmindex.errors import MissingDependencyError
from mmindex.serve.security import LOG

_BACKLOG = 2048
_SHORTEST_LIFE = 5.0  # seconds that a worker lives which is worth a replacement
_ARENA_MAX, _HEAPS = -8, 2  # M_ARENA_MAX of glibc's malloc.h
_STOPPED_BY = (signal.SIGTERM, signal.SIGINT)


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
    except OSError as error:
        listening.close()
        error.filename = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            error.strerror = "the port is in use: give another one, or 0 for a free one (--port)"
        raise
    listening.setblocking(False)
    return listening


def run(
    make_application: Callable[[], ASGIApp],
    listening: socket.socket,
    *,
    workers: int = 1,
    log_requests: bool = False,
) -> int:
    """Serve until a signal ends it, and return the exit status.

    Parameters
    ----------
    make_application : callable
        Makes the application, in each process for itself: what reads from a server is not shared
        by a fork.
    listening : socket
        Where connections come in; all processes accept from it.
    workers : int
        How many processes. One that dies is replaced; if one dies at once, all end with status 1.
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
        return 0

    def work() -> None:
        for number in _STOPPED_BY:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED_BY)
        _serve(make_application(), listening, log_requests=log_requests)

    return _Workers(work, workers).wait()


class _Workers:
    """Worker processes, replaced when they die, until a signal stops this one."""

    def __init__(self, work: Callable[[], None], number: int) -> None:
        self._work = work
        self._stopping = self._failed = False
        self._started: dict[int, float] = {}  # by process id
        for number_of_signal in _STOPPED_BY:
            signal.signal(number_of_signal, self._stop)
        for _ in range(number):
            self._start()

    def _start(self) -> None:
        """Start a worker, unless all are to end; where none can be started, they are."""
        try:
            self._fork()
        except OSError as error:  # the others would go on without this process
            LOG.error("no worker can be started: %s", error.strerror)
            self._fail()

    def _fail(self) -> None:
        self._failed = True
        self._stop(signal.SIGTERM, None)

    def _fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPED_BY)  # until it is known, or its own
        child = -1
        try:
            if self._stopping:
                return
            child = os.fork()
            if child:
                self._started[child] = monotonic()
                return
        finally:
            if child:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPED_BY)
        status = 1
        try:
            self._work()
            status = 0
        except Exception as error:  # a process of its own has nobody else to report to
            LOG.error("a worker ended: %s", type(error).__name__)
        finally:
            sys.stderr.flush()
            os._exit(status)

    def wait(self) -> int:
        """Wait for all workers, and return the exit status."""
        while self._started:
            child, status = os.wait()
            started = self._started.pop(child, None)
            if started is None or self._stopping:
                continue
            if monotonic() - started < _SHORTEST_LIFE:  # and would die again
                self._fail()
                continue
            LOG.warning("worker %d ended with status %d and is replaced", child, status)
            self._start()
        return int(self._failed)

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True
        for child in list(self._started):
            try:
                os.kill(child, signal.SIGTERM)
            except ProcessLookupError:
                continue


def check_in_child(make_application: Callable[[], ASGIApp]) -> None:
    """Make the application in a process of its own, and raise what it raises.

    So a URL is read before any worker starts, and this process stays one that may fork.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _report(make_application, writing)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    error = pickle.loads(found) if found else RuntimeError("the application cannot be made")
    if error is not None:
        raise error


def _report(make_application: Callable[[], ASGIApp], writing: int) -> None:
    error: Exception | None = None
    try:
        make_application()
    except Exception as raised:  # the process that waits raises it
        error = raised
    with os.fdopen(writing, "wb") as pipe:
        pickle.dump(error, pipe)


def _serve(app: ASGIApp, listening: socket.socket, *, log_requests: bool) -> None:
    try:
        import uvicorn

        from mmindex.serve.protocol import BoundedProtocol
    except ImportError:
        raise MissingDependencyError(
            "serving needs uvicorn with httptools: pip install 'mmindex[serve]'"
        ) from None
    set_up_logging(log_requests=log_requests)
    share_heaps()
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


def share_heaps() -> None:
    """Have all threads take memory from few heaps, where the C library is glibc.

    It gives most threads a heap of their own, each of which keeps what its longest answers took.
    """
    try:
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _HEAPS)
    except (AttributeError, OSError, TypeError):  # another C library
        return


def raise_open_files() -> None:
    """Raise the limit of open files as far as the system lets this process."""
    try:
        import resource
    except ImportError:  # not POSIX
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if most != resource.RLIM_INFINITY else 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
