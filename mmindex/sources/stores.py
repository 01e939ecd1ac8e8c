"""Stores of URLs, made by obstore (extra `remote`), one for all objects of a host.

Local archives import this module for the names of URLs alone: what few URLs need, and takes long to
load, is imported where it is used.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from mmindex.errors import MissingDependencyError, MissingFileError, RemoteReadError

_MOST_RETRIES, _RETRYING = 5, 120  # seconds
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5  # seconds
_QUERY = re.compile(r"(\b[a-z]+://[^\s?\"'()]*)\?[^\s\"'()]*")
_PASSWORD = re.compile(r"(\b[a-z]+://)[^\s/@]*@")
_SIGNED = re.compile(
    r"\?(?=.*(?:x-amz-|x-goog-|signature=|sig=|token=))", re.IGNORECASE | re.DOTALL
)
_CLIENT = {  # an answer that goes on over a slow link has time; one that stands still is retried
    "timeout": "30m",
    "connect_timeout": "5s",
    "read_timeout": "30s",
}
_WEB = ("http", "https")
_ODD_PARTS = ("", ".", "..")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CREDENTIALS = ("AWS_", "GOOGLE_", "AZURE_")
_OF_STORES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_OF_CLIENTS = (  # what variables may set, too: obstore itself drops them where it gets a client
    *("allow_http", "allow_invalid_certificates", "root_certificate"),
    *("proxy_url", "proxy_ca_certificate", "proxy_excludes"),
    *("timeout", "connect_timeout", "read_timeout"),
)
_STATUS = re.compile("Error performing .*? status code: ([0-9]{3})", re.DOTALL)
_MOST_TEXT = 1 << 14  # characters of an error that are looked at: it may hold a page
_LONGEST_LINE = 300  # characters of an error, which may hold what a server sent


def find_store(url: str) -> Any:
    """Return the store of a URL: of a web server with the URL's user and query.

    Raises
    ------
    RemoteReadError
        obstore makes no store of the URL and the environment.
    MissingDependencyError
        obstore is not installed.
    """
    load_obstore()
    scheme, host, _, query = _split(url)
    user, _, host = host.rpartition("@")
    more: tuple[Any, ...] = ()
    if scheme in _WEB and (user or query):
        more = _unquote(user), query
    elif scheme not in (*_WEB, "memory"):
        found = (each for each in os.environ.items() if each[0].upper().startswith(_CREDENTIALS))
        more = "", "", tuple(sorted(found))
    try:
        return make_store(scheme, host, *more)
    except Exception as error:  # whatever obstore makes of a host and of the environment
        raise RemoteReadError(f"no store: {describe_error(error)}", path=name_url(url)) from None


def find_key(url: str) -> str:
    """Return the path that the object at a URL has in its store.

    Raises
    ------
    MissingFileError
        No object can be read by such a URL: obstore would read another one, or none.
    """
    key = key_of(url)
    scheme, _, path, query = _split(url)
    if scheme not in _WEB and query:
        raise MissingFileError(
            "expected the key of an object, found a signed query after it: credentials are given "
            "by the environment or a store",
            path=name_url(url),
        )
    if scheme in _WEB and "%2f" in path.lower():
        raise MissingFileError(
            "objects whose keys have a quoted slash (%2F) cannot be read", path=name_url(url)
        )
    check_key(key, name_url(url))
    return key


def check_key(key: str, name: str) -> None:
    """Raise MissingFileError if a key has parts or characters that obstore drops, or refuses."""
    if any(part in _ODD_PARTS for part in key.split("/")) or _CONTROL.search(key):
        raise MissingFileError(
            "expected the key of an object without empty parts, '.' and '..', and "
            f"without control characters, found {key!r}: such objects cannot be read",
            path=name,
        )


def key_of(url: str) -> str:
    """Return the path that a URL has in its store."""
    scheme, _, path, _ = _split(url)
    return _unquote(path[1:], errors="surrogateescape") if scheme in _WEB else path[1:]


def _unquote(text: str, errors: str = "replace") -> str:
    from urllib.parse import unquote

    return unquote(text, errors=errors)


def has_query(url: str) -> bool:
    """Return whether the URL of a web server has a query, as a signed one has."""
    scheme, _, _, query = _split(url)
    return scheme in _WEB and bool(query)


def name_url(url: str) -> str:
    """Return a URL as errors, output and the index have it: without credentials.

    Left out are a user's name and password; the query and the fragment of a web server's URL; the
    query of another one if the query holds a signature.
    """
    scheme, host, path, _ = _split(url)
    return f"{scheme}://{host.rpartition('@')[2]}{path}"


def add_user(url: str, source: str) -> str:
    """Return a URL with the user's name and password that another URL has."""
    scheme, host, path, _ = _split(url)
    user, at, _ = _split(source)[1].rpartition("@")
    return f"{scheme}://{user}{at}{host.rpartition('@')[2]}{path}"


def _split(url: str) -> tuple[str, str, str, str]:
    """Return scheme, host, path from its slash on, and query; without a fragment.

    A key in a bucket may hold "?" and "#", but for a query that holds a signature.
    """
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme in _WEB:
        rest, _, query = rest.partition("#")[0].partition("?")
    else:
        found = _SIGNED.search(rest)
        rest, query = (rest[: found.start()], rest[found.end() :]) if found else (rest, "")
    host, slash, path = rest.partition("/")
    return scheme, host, slash + path, query


def plain_url(url: str) -> str:
    """Return the URL of a bucket, or a folder of one, without a user's name and password.

    Raises
    ------
    ValueError
        The URL has a query or a fragment, in which signatures and tokens are given; or an empty
        part.
    """
    if "?" in url or "#" in url:
        place = name_url(url[: min(at for at in (url.find("?"), url.find("#")) if at >= 0)])
        raise ValueError(
            f"expected a URL without a query or fragment, found more after {place!r}: give "
            "credentials by the environment or a store"
        )
    plain = name_url(url)
    if not plain.endswith("://"):
        plain = plain.removesuffix("/")
    key = key_of(plain)
    if key and any(part in _ODD_PARTS for part in key.split("/")):
        raise ValueError(
            f"expected a prefix without empty parts, '.' and '..', found {key!r} in {plain!r}"
        )
    return plain


def join_url(root: str, path: bytes) -> str:
    """Return the URL of the object at a path below a root's: quoted for web servers alone."""
    if root.partition("://")[0].lower() not in _WEB:
        return f"{root}/{path.decode(errors='backslashreplace')}"
    from urllib.parse import quote

    return f"{root}/{quote(path)}"


def find_status(error: Exception) -> int:
    """Return the status of HTTP that an error of a store is about; 0 where it is about none."""
    found = _STATUS.search(str(error)[:_MOST_TEXT])
    return int(found[1]) if found else 0


def describe_error(error: Exception) -> str:
    """Return the first line of an error of a store, without queries and passwords of its URLs.

    These may be signatures, and the index keeps why an object could not be read. The line may end
    in what a server sent: it is cut, and has no control characters.
    """
    line = str(error)[:_MOST_TEXT].partition("\n")[0]
    line = _PASSWORD.sub(r"\1", _QUERY.sub(r"\1", line))
    line = "".join([each if each.isprintable() else "\ufffd" for each in line])
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."


@lru_cache(maxsize=64)
def make_store(
    scheme: str,
    host: str,
    user: str = "",
    query: str = "",
    environment: tuple[tuple[str, str], ...] = (),
) -> Any:
    """Return the store of a scheme and host; its connections serve all objects of it.

    Parameters
    ----------
    user : str
        Name and password for a web server, with a colon between them (RFC 7617).
    query : str
        What a web server's URLs end in.
    environment : tuple of (str, str)
        The variables that hold credentials: others give another store.
    """
    from base64 import b64encode
    from datetime import timedelta

    from obstore import store as stores

    client: dict[str, Any] = dict(_CLIENT)
    retries = {
        "max_retries": _MOST_RETRIES,
        "retry_timeout": timedelta(seconds=_RETRYING),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_BACKOFF),
            "max_backoff": timedelta(seconds=_LONGEST_BACKOFF),
            "base": 2,
        },
    }
    options: Any = {"client_options": client, "retry_config": retries}
    if scheme == "memory":
        return stores.MemoryStore()
    if scheme in _WEB:
        if scheme == "http":
            client["allow_http"] = True
        if user:
            token = b64encode(user.encode()).decode()
            client["default_headers"] = {"authorization": f"Basic {token}"}
        return stores.HTTPStore(f"{scheme}://{host}" + (f"/?{query}" if query else ""), **options)
    prefix = _OF_STORES[scheme]
    settings = {name.upper(): value for name, value in environment}
    for option in _OF_CLIENTS:
        if value := settings.get(prefix + option.upper()):
            client[option] = value
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
