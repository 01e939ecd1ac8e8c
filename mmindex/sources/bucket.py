"""An archive in a bucket: the listing of its objects, and its objects, opened by their paths.

obstore lists no page in which a key has an empty part, or "." or ".." as a part. Then folder by
folder is listed, and only the folder that holds such a key is left out, with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from mmindex.errors import MissingFileError, RemoteReadError
from mmindex.model import Fingerprint
from mmindex.sources.base import FoundFile, Root, Skipped, WalkRules
from mmindex.sources.folder import match_excluded, match_index_name
from mmindex.sources.object_store import ObjectSource
from mmindex.sources.object_version import version_of
from mmindex.sources.requests import claim_process, report_request
from mmindex.sources.stores import (
    check_key,
    describe_error,
    find_store,
    join_url,
    key_of,
    load_obstore,
    plain_url,
)

_PAGE = 1000  # objects of a listing's page
_UNLISTED = ("http", "https")  # schemes of servers that list nothing
_SLASH = re.compile(b"/")


class Bucket(Root):
    """Objects below a URL.

    Parameters
    ----------
    url : str
        s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, memory://name/prefix; of a
        web server (http, https), `open` and `find` alone.
    store : obstore store, optional
        Where the objects are; then the path of `url` is that in the store, and its host only a
        name.
    revalidate_after : float
        Seconds after which `check_if_due` asks the store again.

    Raises
    ------
    ValueError
        The URL has a query or a fragment, or an empty part.
    """

    __slots__ = ("_prefix", "_revalidate_after", "_store", "_url", "name")

    def __init__(self, url: str, *, store: Any = None, revalidate_after: float = 1.0) -> None:
        self.name = plain_url(url)
        self._url = url
        self._store = store
        self._prefix = key_of(self.name)
        self._revalidate_after = revalidate_after

    def walk(
        self, start: bytes = b"", rules: WalkRules | None = None, index: bytes | None = None
    ) -> Iterator[FoundFile | Skipped]:
        """Yield every object with its version, as the listing has them; see `Root.walk`.

        Links and file systems, of which rules speak, are not known to a bucket; an index of
        another name does not lie in one.

        Raises
        ------
        RemoteReadError
            The store gives no listing.
        """
        is_left_out = match_left_out(rules.exclude if rules is not None else ())
        for found in self._walk_all(start):
            if isinstance(found, Skipped) or not is_left_out(found.path):
                yield found

    def _walk_all(self, start: bytes) -> Iterator[FoundFile | Skipped]:
        """Yield every object below a prefix."""
        claim_process()
        obstore = load_obstore()
        if not self.has_listing:
            raise RemoteReadError(
                "no listing: a web server lists no objects; name them: mmindex update URL "
                "--files-from FILE (mmindex.update)",
                path=self.name,
            )
        prefix = self._key(start).rstrip("/")
        last, is_ascending = b"", True
        try:
            try:
                for file in self._walk_pages(prefix):
                    is_ascending = is_ascending and file.path > last
                    last = file.path
                    yield file
            except obstore.exceptions.InvalidPathError:
                for found in self._walk_folders(prefix):
                    if isinstance(found, Skipped) or not is_ascending or found.path > last:
                        yield found  # others were yielded before
        except (obstore.exceptions.BaseError, OSError) as error:
            raise RemoteReadError(f"no listing: {describe_error(error)}", path=self.name) from None

    @property
    def has_listing(self) -> bool:
        """Whether the store lists objects; a web server does not."""
        return self.name.partition("://")[0] not in _UNLISTED

    def _walk_pages(self, prefix: str) -> Iterator[FoundFile]:
        """Yield the objects below a prefix, a page a request.

        An empty object whose name those after it have as a folder marks that folder.
        """
        obstore = load_obstore()
        marker: FoundFile | None = None
        for page in obstore.list(self._open_store(), prefix or None, chunk_size=_PAGE):
            report_request(self.name)
            for meta in page:
                file = self._found(meta)
                if marker is not None and not file.path.startswith(marker.path + b"/"):
                    yield marker
                marker = None
                if file.fingerprint.size:
                    yield file
                elif file.path:  # else the marker of the prefix itself
                    marker = file
        if marker is not None:
            yield marker

    def _walk_folders(self, prefix: str) -> Iterator[FoundFile | Skipped]:
        """Yield the objects below a prefix, a folder a request or some."""
        obstore = load_obstore()
        folders = [prefix]
        while folders:
            folder = folders.pop()
            try:
                listed = obstore.list_with_delimiter(self._open_store(), folder or None)
            except obstore.exceptions.InvalidPathError as error:
                reason = f"obstore lists no folder with such a key: {describe_error(error)}"
                yield Skipped(self._relative(folder), reason, True)
                continue
            report_request(self.name)
            markers = {folder, *listed["common_prefixes"]}
            for meta in listed["objects"]:
                if meta["size"] or meta["path"] not in markers:
                    yield self._found(meta)
            for below in listed["common_prefixes"]:
                if below.startswith(f"{folder}/" if folder else "") and len(below) > len(folder):
                    folders.append(below)
                else:
                    reason = "keys that begin with a slash, or hold two, are not read"
                    yield Skipped(self._relative(folder), reason, True)

    def open(self, path: bytes, version: Fingerprint | None = None) -> ObjectSource:
        """Return the object at `path`; see `Root.open`. With a version, nothing is requested."""
        name = join_url(self.name, path)
        try:
            key = self._key(path)
        except UnicodeDecodeError:
            raise MissingFileError("no object has a path that is no UTF-8", path=name) from None
        check_key(key, name)
        return ObjectSource(self._open_store(), key, name, version, self._revalidate_after)

    def find(self, path: bytes) -> FoundFile | None:
        """Return the object at `path` as it is now; None where there is none.

        Raises
        ------
        RemoteReadError
            The store does not answer.
        """
        try:
            version = self.open(path).version
        except MissingFileError:
            return None
        return FoundFile(path, version)

    def is_empty(self, index: str) -> bool:
        """Return whether the listing has no object but an index; of a web server nobody knows."""
        return self.has_listing and next(self.walk(), None) is None

    def is_object(self) -> bool:
        """Return whether the URL is that of an object."""
        try:
            return bool(self._prefix and ObjectSource(self._open_store(), self._prefix, self.name))
        except MissingFileError:
            return False

    def _open_store(self) -> Any:
        if self._store is None:
            self._store = find_store(self._url)
        return self._store

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the URL and the store that was given, if one was."""
        return _restore, (self._url, self._store, self._revalidate_after)

    def _found(self, meta: Any) -> FoundFile:
        return FoundFile(self._relative(meta["path"]), version_of(meta))

    def _relative(self, key: str) -> bytes:
        return key[len(self._prefix) :].lstrip("/").encode()

    def _key(self, path: bytes) -> str:
        key = path.decode()
        return f"{self._prefix}/{key}" if self._prefix else key


def match_left_out(exclude: tuple[str, ...]) -> Callable[[bytes], bool]:
    """Return what reports whether an object is of an index, or excluded itself or by a folder.

    Many threads may ask.
    """
    is_excluded = match_excluded(exclude)
    last: list[tuple[bytes, bool]] = [(b"", False)]  # the folder before: listings are sorted

    def is_folder_left_out(folder: bytes) -> bool:
        known = last[0]
        if known[0] != folder:
            parents = (match.start() for match in _SLASH.finditer(folder))
            is_out = any(is_excluded(folder[:end]) for end in (*parents, len(folder)))
            known = last[0] = folder, is_out
        return known[1]

    def is_left_out(path: bytes) -> bool:
        folder, _, name = path.rpartition(b"/")
        return bool(match_index_name(name) or is_excluded(path)) or is_folder_left_out(folder)

    return is_left_out


def _restore(url: str, store: Any, revalidate_after: float) -> Bucket:
    return Bucket(url, store=store, revalidate_after=revalidate_after)
