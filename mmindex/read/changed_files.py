"""Files of an archive beside its index: gone, changed, new, or not to be looked at now.

One walk of the folders, which has the status of each file at hand; known files that the walk does
not meet are looked at one by one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from mmindex.model import Fingerprint, InstanceRecord
from mmindex.sources.base import FoundFile, Skipped, WalkRules
from mmindex.sources.folder import walk_archive

if TYPE_CHECKING:
    from mmindex.index.reader import Reader

_LOOKED_UP = 512  # files looked up in one transaction


class Compared(NamedTuple):
    """A difference between an archive and its index.

    Attributes
    ----------
    record : InstanceRecord or None
        Of a file that is gone or another one than the index knows.
    found : FoundFile, Skipped or None
        A file that the index does not know, or a path that the walk could not look at.
    """

    record: InstanceRecord | None
    found: FoundFile | Skipped | None = None


def compare_archive(
    store: Reader,
    root: bytes,
    rules: WalkRules,
    *,
    ignores_inode: bool,
    count: Callable[[int], None],
) -> Iterator[Compared]:
    """Yield where an archive differs from its index; files in containers are left to these.

    Paths that the index has noted as skipped are left out.

    Parameters
    ----------
    ignores_inode : bool
        Whether files may have other inodes than the index has.
    count : callable
        Called with the number of known files that were compared, often.
    """
    seen = mark_members(store)
    count(sum(seen))
    found = walk_archive(root, os.fsencode(store.path), rules) if os.path.isdir(root) else iter(())
    while batch := list(islice(found, _LOOKED_UP)):
        met = 0
        for each, known in zip(batch, store.find_paths([each.path for each in batch]), strict=True):
            if isinstance(each, Skipped):
                if store.find_skipped(each.path) is None:
                    yield Compared(None, each)
            elif known is None:
                yield Compared(None, each)
            elif known[0] < len(seen) and not seen[known[0]]:
                met += 1
                seen[known[0]] = 1
                if known[1] != each.fingerprint and _differs(
                    Fingerprint(*known[1]), each.fingerprint, ignores_inode=ignores_inode
                ):
                    yield from _read(store, known[0])
        count(met)
    for file_id in store.find_unseen(seen):
        yield from _read(store, file_id)
        count(1)


def mark_members(store: Reader) -> bytearray:
    """Return a byte for each file id, set for files in containers: a walk does not meet these."""
    members = store.find_all_members()
    seen = bytearray(store.next_file_id())  # after the members: builds only add greater ids
    for file_id in members:
        seen[file_id] = 1
    return seen


def _differs(known: Fingerprint, found: Fingerprint, *, ignores_inode: bool) -> bool:
    return not (known.without_inode() if ignores_inode else known).matches(found)


def _read(store: Reader, file_id: int) -> Iterator[Compared]:
    record = store.read_record(file_id)
    if record is not None:  # else a build has replaced it meanwhile
        yield Compared(record)
