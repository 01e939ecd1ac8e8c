"""Case: one file into an index of a million instances, against one of a thousand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import mmindex
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.data import pack_small_file
from scripts.benchmark.elements import name_uid
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import MMINDEX, Image
from scripts.benchmark.stores import FEW, write_index

AIM = 0.01  # seconds
_LEAST_BUDGET = 4.0  # seconds: a commit waits for the disk


def list_cases(many: int, site: Site) -> Iterator[Case]:
    """Update an index for a file that was renamed into place, and commit."""
    few_name = f"the same in an index of {FEW:,}"
    contenders = []
    for name, count in ((MMINDEX, many), (few_name, FEW)):
        root = site.folder / f"archive of {count}"
        root.mkdir()
        write_index(root / ".mmindex", count, os.fsencode(root))
        site.stack.enter_context(mmindex.open(root))
        arrivals = Arrivals(root)
        arrivals.rename()
        arrivals.update()  # the first write of a process looks at all pages of the index
        contenders.append(
            Contender(name, arrivals.update, expected=lambda: 1, prepare=arrivals.rename)
        )
    title = f"update of one new file, commit included, index of {many:,} instances"
    yield Case(title, contenders, limit=few_name, bound=1.2, aim=AIM, least_budget=_LEAST_BUDGET)


class Arrivals:
    """New files of an archive, one after the other."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._numbers = itertools.count()
        self._path = root

    def rename(self) -> None:
        """Rename the next file into place."""
        uids = name_uid(1, 1, 0), name_uid(1, 2, 0), name_uid(1, 3, next(self._numbers))
        before, private, pixels = pack_small_file(Image(str(self._root), "new", 1, *uids))
        self._path = self._root / f"{uids[2]}.dcm"
        written = self._root / "new"
        written.write_bytes(before + b"".join(private) + pixels)
        written.rename(self._path)

    def update(self) -> int:
        """Bring the index up to date for it; return how many files were scanned."""
        return mmindex.update(self._root, [self._path]).scanned
