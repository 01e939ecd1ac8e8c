"""Stores of URLs, made by obstore (extra `remote`), one for all objects of a host."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from mmindex.errors import MissingDependencyError

_RETRIES = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
_QUERY = re.compile(r"(\b[a-z]+://[^\s?\"'()]*)\?[^\s\"'()]*")
_PASSWORD = re.compile(r"(\b[a-z]+://)[^\s/@]*@")
_CLIENT = {"timeout": "60s", "connect_timeout": "5s"}


def split_url(url: str) -> tuple[Any, str]:
    """Return the store of a URL and the path in it."""
    parts = urlsplit(url)
    if parts.scheme.lower() in ("http", "https") and parts.query:
        raise ValueError(f"expected a URL without a query, found {url!r}: give a store")
    return make_store(parts.scheme.lower(), parts.netloc), key_of(url)


def key_of(url: str) -> str:
    """Return the path that a URL has in its store."""
    parts = urlsplit(url)
    if parts.scheme.lower() in ("http", "https"):
        return unquote(parts.path).lstrip("/")
    return url.partition("://")[2].partition("/")[2]


def plain_url(url: str) -> str:
    """Return the URL of a bucket, or a folder of one, without a user's name and password.

    Raises
    ------
    ValueError
        The URL has a query or a fragment, in which signatures and tokens are given.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        place = url[: min(at for at in (url.find("?"), url.find("#")) if at >= 0)]
        raise ValueError(
            f"expected a URL without a query or fragment, found more after {place!r}: give "
            "credentials by the environment or a store"
        )
    rest = f"{host.rpartition('@')[2]}{slash}{path}".rstrip("/")
    return f"{scheme.lower()}://{rest}"


def join_url(root: str, path: bytes) -> str:
    """Return the URL of the object at a path below a root's: quoted for web servers alone."""
    key = path.decode(errors="backslashreplace")
    is_web = root.partition("://")[0].lower() in ("http", "https")
    return f"{root}/{quote(path) if is_web else key}"


def describe_error(error: Exception) -> str:
    """Return the first line of an error of a store, without queries and passwords of its URLs.

    These may be signatures, and the index keeps why an object could not be read.
    """
    line = str(error).partition("\n")[0]
    return _PASSWORD.sub(r"\1", _QUERY.sub(r"\1", line))


@lru_cache(maxsize=64)
def make_store(scheme: str, host: str) -> Any:
    """Return the store of a scheme and host; its connections serve all objects of it."""
    load_obstore()
    from obstore import store as stores

    options: Any = {"client_options": _CLIENT, "retry_config": _RETRIES}
    if scheme == "memory":
        return stores.MemoryStore()
    if scheme in ("http", "https"):
        plain = {"allow_http": True} if scheme == "http" else {}
        options["client_options"] = {**_CLIENT, **plain}
        return stores.HTTPStore(f"{scheme}://{host}", **options)
    if os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true"):  # which options overrule
        options["client_options"] = {**_CLIENT, "allow_http": True}
    return stores.from_url(f"{scheme}://{host}", **options)


@lru_cache(maxsize=1)
def load_obstore() -> Any:
    """Return obstore.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import obstore
    except ImportError:
        raise MissingDependencyError("URLs need obstore: pip install 'mmindex[remote]'") from None
    return obstore
