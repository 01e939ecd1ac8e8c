"""Objects of S3, GCS, Azure and plain web servers, read by ranges over obstore (extra `remote`).

A frame is one GET. Every response says which object its bytes are of: an ETag, size or time other
than those of the version raises, whatever the store makes of If-Match, which caches may ignore (RFC
9110, 13.1.1). So nothing is read by obstore's `get_range` and `get_ranges`, which show no ETag.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic, sleep, time
from typing import Any, NoReturn

from mmindex.errors import (
    MissingFileError,
    MMIndexError,
    RemoteReadError,
    StaleIndexError,
)
from mmindex.frame_table import ByteRange
from mmindex.model import Fingerprint
from mmindex.sources.base import ByteSource, outside
from mmindex.sources.coalesce import choose_gap, group_pieces
from mmindex.sources.object_version import (
    describe_version,
    digest_e_tag,
    strip_e_tag,
    strong_e_tag,
    version_of,
)
from mmindex.sources.requests import AT_ONCE, claim_process, report_request, run_at_once, watchers
from mmindex.sources.stores import (
    describe_error,
    find_key,
    find_status,
    find_store,
    has_query,
    load_obstore,
    name_url,
)

_WASTE = 0.04  # of the bytes wanted that may be read between them
_WEB = ("http://", "https://")
_CLOCKS_DIFFER = 60.0  # seconds between this clock and that of a server, at most
_A_SECOND = 1.1  # and what the clocks of file systems lag behind
_NEAR = 1 << 16  # bytes between the fragments of a frame that are read over
_NOT_ALLOWED, _GONE, _NO_BYTES, _NOT_IMPLEMENTED = 405, 410, 416, 501  # status of HTTP
_NO_LENGTH = "Content-Length Header missing"
# What obstore's MemoryStore and its LocalStore say of a range that begins behind the end of an
# object.
_NO_SUCH_RANGE = re.compile("Wanted range starting at|Requested range was invalid")


class ObjectSource(ByteSource):
    """An object as it was when its version was taken.

    Parameters
    ----------
    store : obstore store
        Where the object is.
    key : str
        Its path in the store.
    name : str
        Its URL, for errors.
    version : Fingerprint, optional
        What the object has to be: size, time in ns and digest of the ETag. Unless given, what it
        is now, by a request for that alone; of a web server's that changed just now, a second
        passes, in which another one would have the same time.
    revalidate_after : float
        Seconds after which `check_if_due` asks the store again.
    asks_by_get : bool
        Ask for the version by a GET of one byte: a signed URL is signed for GET alone.
    """

    __slots__ = (
        "__weakref__",  # members of a container share it while one of them is in use
        *("_asks_by_get", "_due", "_e_tag", "_key", "_revalidate_after", "_store"),
        *("name", "size", "version"),
    )

    gap = 1 << 20
    together = 16 << 20
    at_once = AT_ONCE

    def __init__(
        self,
        store: Any,
        key: str,
        name: str,
        version: Fingerprint | None = None,
        revalidate_after: float = 1.0,
        *,
        asks_by_get: bool = False,
    ) -> None:
        self.name = name
        self._store = store
        self._asks_by_get = asks_by_get
        self._key = key
        self._e_tag: str | None = None  # of the last answer that was compared, to ask for
        self._revalidate_after = revalidate_after
        self._due = monotonic() + revalidate_after
        if version is None:
            meta = self._ask()
            version = version_of(meta)
            self._require_version(version)
            self._remember(meta)
            if name.startswith(_WEB) and abs(time() - version.mtime_ns / 1e9) < _CLOCKS_DIFFER:
                # Web servers count in seconds, in ETags, too: a later one shows a later change.
                sleep(_A_SECOND)
        self.version: Fingerprint = version
        self.size = version.size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`.

        Raises
        ------
        TruncatedFrameError, StaleIndexError, MissingFileError
            As `ByteSource.read`.
        RemoteReadError
            The store did not answer as it should, after retries; or the server knows no ranges.
        """
        self._require_open()
        if not 0 <= offset <= offset + length <= self.size:
            self.check()
            raise outside(self.name, offset, length, self.size)
        if not length:
            self.check_if_due()
            return b""
        return self._get(offset, length)

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of each range; see `ByteSource.read_many`.

        Neighbours are read at once as long as the bytes between them add little, and requests run
        at the same time.
        """
        self._require_open()
        found = [b""] * len(ranges)
        pieces = sorted((*piece, at) for at, piece in enumerate(ranges))
        for offset, length, _ in pieces:
            if not 0 <= offset <= offset + length <= self.size:
                self.check()
                raise outside(self.name, offset, length, self.size)
        gap = choose_gap(pieces, self.gap, _WASTE)
        groups = list(group_pieces([piece for piece in pieces if piece[1]], gap, self.together))

        def read(group: tuple[int, int, list[tuple[int, int, int]]]) -> None:
            start, end, members = group
            data = self._get(start, end - start)
            for offset, length, wanted in members:
                found[wanted] = data[offset - start : offset - start + length]

        run_at_once(read, groups)
        return found

    def read_joined(self, ranges: Sequence[ByteRange]) -> bytes:
        """Return the bytes of ascending ranges, joined: by one request where they lie together."""
        if len(ranges) > 1:
            start, end = ranges[0].offset, ranges[-1].offset + ranges[-1].length
            wanted = sum(piece.length for piece in ranges)
            if wanted <= end - start <= min(2 * wanted + _NEAR, self.together):
                data = self.read(start, end - start)
                return b"".join(
                    [data[offset - start : offset - start + length] for offset, length in ranges]
                )
        return super().read_joined(ranges)

    def check(self) -> None:
        """Ask the store for the object's version; see `ByteSource.check`."""
        self._require_open()
        self._compare(self._ask())

    def check_if_due(self) -> None:
        """Call `check` if `revalidate_after` seconds have passed since the last answer."""
        if monotonic() >= self._due:
            self.check()

    def close(self) -> None:
        """Forget the store."""
        self._store = None

    def _require_open(self) -> None:
        if self._store is None:
            raise ValueError("the source is closed")

    def _ask(self) -> Any:
        claim_process()
        obstore = load_obstore()
        try:
            found = self._ask_by_get(obstore) if self._asks_by_get else self._ask_by_head(obstore)
        except Exception as error:
            self._raise(error, None)
        report_request(self.name)
        return found

    def _ask_by_head(self, obstore: Any) -> Any:
        """Ask by HEAD; by GET from then on of a server that answers HEAD with nothing of use."""
        try:
            return obstore.head(self._store, self._key)
        except Exception as error:
            is_refused = find_status(error) in (_NOT_ALLOWED, _NOT_IMPLEMENTED)
            if not is_refused and _NO_LENGTH not in describe_error(error):
                raise
        found = self._ask_by_get(obstore)
        self._asks_by_get = True
        return found

    def _ask_by_get(self, obstore: Any) -> Any:
        """Ask by a GET of one byte; by one of everything where an object may have none."""
        try:
            return obstore.get(self._store, self._key, options={"range": (0, 1)}).meta
        except Exception as error:
            if not _has_no_range(error):
                raise
            found = obstore.get(self._store, self._key).meta  # of the answer's head alone
            if found["size"]:
                raise
            return found

    def _get(self, offset: int, length: int) -> bytes:
        """Return bytes that are within the object, by one GET."""
        claim_process()
        end = offset + length
        options: dict[str, Any] = {"range": (offset, end)}
        if self._e_tag is not None:
            options["if_match"] = self._e_tag
        try:
            result = load_obstore().get(self._store, self._key, options=options)
            meta = result.meta
            if meta["size"] == self.size and meta["e_tag"] == self._e_tag is not None:
                self._due = monotonic() + self._revalidate_after  # most answers end here
            else:
                self._compare(meta)
            # All of a right body, and not much of one that never ends.
            data = bytes(next(iter(result.stream(min_chunk_size=length + 1)), b""))
        except MMIndexError:
            raise
        except Exception as error:
            self._raise(error, offset)
        if len(data) != length or result.range != (offset, end):
            raise RemoteReadError(
                f"expected bytes {offset} to {end}, found {len(data)} bytes from "
                f"{result.range[0]} on",
                path=self.name,
                offset=offset,
            )
        if watchers:
            report_request(self.name, offset, length)
        return data

    def _compare(self, meta: Any) -> None:
        """Raise StaleIndexError unless a response is of the object that the version says.

        The object's time counts where one of the two has no ETag, or the response has a weak one.
        """
        found, expected = version_of(meta), self.version
        has_tags = bool(found.inode and expected.inode)
        same = found.inode == expected.inode if has_tags else found.mtime_ns == expected.mtime_ns
        if not same and has_tags and strong_e_tag(meta["e_tag"]) is None:
            # A proxy weakens the ETag of a response, while that of a listing stays strong.
            is_of_listing = digest_e_tag(strip_e_tag(meta["e_tag"])) == expected.inode
            same = is_of_listing and found.mtime_ns == expected.mtime_ns
        same = same and found.size == expected.size
        if not same:
            self._due = 0.0
            raise StaleIndexError(
                f"the object changed: expected {describe_version(expected)}, found "
                f"{describe_version(found)}; rebuild the index",
                path=self.name,
            )
        self._require_version(found)
        self._remember(meta)

    def _remember(self, meta: Any) -> None:
        """Keep what the next response is compared with first."""
        self._e_tag = strong_e_tag(meta["e_tag"])
        self._due = monotonic() + self._revalidate_after

    def _require_version(self, version: Fingerprint) -> None:
        """Raise RemoteReadError where nothing but the size would show a change."""
        if not (version.inode or version.mtime_ns):
            raise RemoteReadError(
                "the server gives neither ETag nor Last-Modified: nobody could tell whether the "
                "object is the one that was indexed; frames need a server that gives one of them",
                path=self.name,
            )

    def _raise(self, error: Exception, offset: int | None) -> NoReturn:
        """Raise an error of the store as one of this package."""
        from obstore import exceptions

        message, status = describe_error(error), find_status(error)
        is_missing = isinstance(error, FileNotFoundError | exceptions.NotFoundError)
        if (is_missing and status != _NOT_ALLOWED) or status == _GONE:
            raise MissingFileError(
                "the object is gone, or was never there", path=self.name
            ) from None
        if offset is not None and isinstance(error, exceptions.PreconditionError):
            with suppress(RemoteReadError):
                self.check()  # Azure says the same of an object that is gone
            raise StaleIndexError(
                "the object changed: the store has another ETag; rebuild the index",
                path=self.name,
            ) from None
        if isinstance(error, ValueError):  # of a key that is no UTF-8, or holds a line break
            raise MissingFileError(
                f"no object with such a key can be read: {message}", path=self.name
            ) from None
        if not isinstance(error, exceptions.BaseError | OSError):
            raise error
        if offset is not None and _has_no_range(error):
            self.check()  # another object is there, if a range of the indexed one has no bytes
        if isinstance(error, exceptions.NotSupportedError):
            message = (
                "the server answers a request for a range with the whole object, which is not "
                "downloaded: frames need a server that serves byte ranges"
            )
        raise RemoteReadError(message, path=self.name, offset=offset) from None


def _has_no_range(error: Exception) -> bool:
    """Return whether a store said that there is no such range, or answered with everything."""
    from obstore.exceptions import NotSupportedError

    if isinstance(error, NotSupportedError) or find_status(error) == _NO_BYTES:
        return True
    return bool(_NO_SUCH_RANGE.search(describe_error(error)))


def open_url(url: str, *, store: Any = None, revalidate_after: float = 1.0) -> ObjectSource:
    """Return the object at a URL, as it is now.

    Its name has no credentials: neither user and password nor the query of a signed URL.

    Parameters
    ----------
    store : obstore store, optional
        Where the object is; then the URL's path is that in the store.

    Raises
    ------
    MissingFileError
        There is no such object, or its key cannot be read.
    RemoteReadError
        The store did not answer as it should.
    MissingDependencyError
        obstore is not installed.
    """
    key, name = find_key(url), name_url(url)
    if store is not None:
        return ObjectSource(store, key, name, None, revalidate_after)
    return ObjectSource(
        find_store(url), key, name, None, revalidate_after, asks_by_get=has_query(url)
    )
