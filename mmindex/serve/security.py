"""Refuses requests by Host, token and size of headers; adds the headers of every answer.

A page of another site that has its name point to 127.0.0.1 (DNS rebinding) is known by its Host
header. Nothing is logged but method, path without query, status and time; queries hold names.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import re
from collections.abc import Collection
from time import perf_counter
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmindex.serve.responses import TEXT, Answer, find_at_once, route_path, send_body

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANY_ADDRESS = "[*]"  # any IP address: only a name can be rebound
LOG = logging.getLogger("mmindex.serve")

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_MOST_HEADER_BYTES = 16 << 10
_LONGEST_TARGET = 8 << 10
_MOST_HOSTS, _LONGEST_HOST = 1000, 300  # that are remembered
_SCHEME = b"Bearer "
_COOKIE = b"mmindex-token"  # set by the page for a moment, for one file, to this site alone
_EVERYWHERE = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox")
HARDENING = (*_EVERYWHERE, _POLICY)  # of answers with data


class Guard:
    """Lets through requests with a host that is allowed, headers of a bounded size, and the token.

    Parameters
    ----------
    app : ASGI application
        What answers the requests that are let through.
    allowed_hosts : collection of str
        Names that the Host header may have, without port; `[*]` allows any IP address, `*` all.
    token : str or None
        What `Authorization: Bearer` has to be below `prefix`, or the cookie with which the page
        has a file saved.
    prefix : str
        Where the service with the data begins; the page's own files need no token.
    """

    def __init__(
        self, app: ASGIApp, *, allowed_hosts: Collection[str], token: str | None, prefix: str
    ) -> None:
        self._app = app
        self._app_at_once = find_at_once(app)
        self._hosts = frozenset(
            host.lower().strip("[]") for host in {*allowed_hosts} - {"*", ANY_ADDRESS}
        )
        self._any_host = "*" in allowed_hosts
        self._any_address = ANY_ADDRESS in allowed_hosts
        self._token = None if token is None else f"Bearer {token}".encode()
        self._prefix = prefix
        self._known_hosts: dict[bytes, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refuse(scope)
        if self._logs():
            send = _log_to(scope, send)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, why = refusal
        headers = [TEXT, *_EVERYWHERE]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send_body(send, why.encode(), headers, status=status)

    def answer_at_once(self, scope: Scope) -> Answer | None:
        """Return the answer to a request that is let through, where nothing is waited for."""
        if self._refuse(scope) is not None:
            return None
        start = perf_counter()
        answer = self._app_at_once(scope)
        if answer is not None and self._logs():
            _log(scope, answer.status, start)
        return answer

    def _logs(self) -> bool:
        """Return whether requests are logged here: by the outer one of two."""
        return self._token is None and LOG.isEnabledFor(logging.INFO)

    def _refuse(self, scope: Scope) -> tuple[int, str] | None:
        host = authorization = None
        cookies = b""
        length = 0
        for name, value in scope["headers"]:
            length += len(name) + len(value)
            if name == b"host":
                if host is not None:
                    return 400, "a request has one Host header"
                host = value
            elif name == b"authorization":
                authorization = value
            elif name == b"cookie":
                cookies = value
        if length > _MOST_HEADER_BYTES:
            return 431, f"the headers of a request have at most {_MOST_HEADER_BYTES} bytes"
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _LONGEST_TARGET:
            return 414, f"path and query have at most {_LONGEST_TARGET} bytes"
        if not _is_text(scope["query_string"]):
            return 400, "the query is not UTF-8"
        if host is None or not self._is_allowed(host):
            return 421, "the Host header names no host of this server"
        if self._token is not None and self._needs_token(scope):
            if authorization is None:
                authorization = _read_cookies(cookies)
            if authorization is None:
                return 401, "this server needs a token: Authorization: Bearer TOKEN"
            if authorization[: len(_SCHEME)].lower() == _SCHEME.lower():
                authorization = _SCHEME + authorization[len(_SCHEME) :]
            if not hmac.compare_digest(authorization, self._token):
                return 401, "the token is not the one of this server"
        return None

    def _is_allowed(self, host: bytes) -> bool:
        known = self._known_hosts.get(host)
        if known is None:
            match = _HOST.fullmatch(host.decode("latin-1"))
            name = match[1].strip("[]").lower().rstrip(".") if match else ""
            known = bool(match) and (
                self._any_host or name in self._hosts or (self._any_address and _is_address(name))
            )
            if len(self._known_hosts) < _MOST_HOSTS and len(host) < _LONGEST_HOST:
                self._known_hosts[host] = known
        return known

    def _needs_token(self, scope: Scope) -> bool:
        """Return whether a path is one of the service; preflights of CORS have no token."""
        path = route_path(scope)
        return path == self._prefix or path.startswith(self._prefix + "/")


def _read_cookies(cookies: bytes) -> bytes | None:
    """Return what Authorization would be: a browser that saves a file sends a cookie at most."""
    for cookie in cookies.split(b";"):
        name, _, value = cookie.strip().partition(b"=")
        if name == _COOKIE:
            return _SCHEME + unquote_to_bytes(value)
    return None


def _is_text(query: bytes) -> bool:
    """Return whether a query is UTF-8: some clients send such characters as they are."""
    if query.isascii():
        return True
    try:
        query.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Hardened:
    """Adds the headers that every answer has to those of an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with these headers."""

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *_EVERYWHERE]
                if _POLICY[0] not in names:
                    message["headers"].append(_POLICY)
            await send(message)

        await self._app(scope, receive, send_hardened)


def printable(text: str) -> str:
    """Return text with control characters and other unprintable ones escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _log_to(scope: Scope, send: Send) -> Send:
    """Return a `send` that logs a line when the answer begins."""
    start = perf_counter()

    async def send_logged(message: Message) -> None:
        if message["type"] == "http.response.start":
            _log(scope, message["status"], start)
        await send(message)

    return send_logged


def _log(scope: Scope, status: int, start: float) -> None:
    """Log a line about an answer that begins; the request began at `start`, by `perf_counter`."""
    LOG.info(
        "%s %s %d %.1f ms",
        printable(scope["method"]),
        printable(scope["path"]),
        status,
        1000 * (perf_counter() - start),
    )


def is_loopback(host: str) -> bool:
    """Return whether a host is reached from this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
