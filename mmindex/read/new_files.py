"""Files of an archive that its index does not know, and paths that cannot be looked at now.

A walk of the folders, which holds the paths of a few hundred files at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mmindex.sources.base import FoundFile, Skipped
from mmindex.sources.folder import WalkRules, walk_archive

if TYPE_CHECKING:
    from mmindex.index.store import Store

_LOOKED_UP = 512  # files looked up in one transaction


def walk_new_files(store: Store, root: bytes, rules: WalkRules) -> Iterator[FoundFile | Skipped]:
    """Yield the files that the index does not know, and what the walk could not look at.

    Paths that the index has noted as skipped are left out.
    """
    if not os.path.isdir(root):
        return
    found = walk_archive(root, os.fsencode(store.path), rules)
    while batch := list(islice(found, _LOOKED_UP)):
        known = store.find_paths([each.path for each in batch])
        for each, place in zip(batch, known, strict=True):
            if isinstance(each, Skipped):
                if store.find_skipped(each.path) is None:
                    yield each
            elif place is None:
                yield each
