"""The version of an object: what the answers of a store say of it, and a listing says, too."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from mmindex.model import Fingerprint, VersionKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def version_of(meta: Any) -> Fingerprint:
    """Return the version of an object: size, time in whole seconds as ns, digest of its ETag.

    A listing has milliseconds that responses do not have. The digest is 0 where there is no ETag. A
    weak ETag says that two objects mean the same, and not that their bytes are the same (RFC 9110,
    8.8.1): its digest is one of the time, too.
    """
    seconds = int((meta["last_modified"] - _EPOCH).total_seconds())
    e_tag, digest = meta["e_tag"], 0
    if e_tag:
        digest = digest_e_tag(strip_e_tag(e_tag) if strong_e_tag(e_tag) else f"{e_tag} {seconds}")
    return Fingerprint(meta["size"], seconds * 1_000_000_000, digest, VersionKind.REMOTE)


def strip_e_tag(e_tag: str) -> str:
    """Return an ETag as some listings have it: without quotes and the mark of a weak one."""
    return e_tag.removeprefix("W/").strip('"')


def digest_e_tag(text: str) -> int:
    """Return a digest of 63 bits, never 0."""
    hashed = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "little") >> 1 or 1


def strong_e_tag(e_tag: str | None) -> str | None:
    """Return an ETag that If-Match may name: a weak one never matches (RFC 9110, 13.1.1)."""
    return None if not e_tag or e_tag.startswith("W/") else e_tag


def describe_version(version: Fingerprint) -> str:
    """Return a version as errors have it."""
    moment = datetime.fromtimestamp(version.mtime_ns // 1_000_000_000, UTC)
    return f"{version.size} bytes of {moment:%Y-%m-%d %H:%M:%S} UTC, ETag {version.inode:x}"
