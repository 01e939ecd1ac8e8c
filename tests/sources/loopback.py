"""HTTP servers on loopback for tests, and the options of clients that retry soon."""

from __future__ import annotations

import http.server
import threading
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, Self

from mmindex.closing import Closing


class LoopbackServer(Closing, ABC):
    """A server that answers from `with` on, in threads of its own, at a port of its own."""

    def __enter__(self) -> Self:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.make_handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    @abstractmethod
    def make_handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        """Return what answers requests."""

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


def patient(retries: int = 8, *, timeout: str = "5s", read_timeout: str = "5s") -> dict[str, Any]:
    """Return options of a store of obstore that retries within milliseconds."""
    return {
        "client_options": {"allow_http": True, "timeout": timeout, "read_timeout": read_timeout},
        "retry_config": {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=20),
            "backoff": {
                "init_backoff": timedelta(milliseconds=1),
                "max_backoff": timedelta(milliseconds=10),
                "base": 2,
            },
        },
    }
