"""The part of `Archive` that says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from mmindex.index.build_notes import BuildNote
    from mmindex.index.counters import Counters
    from mmindex.index.reader import Reader
    from mmindex.read.archive import Archive
    from mmindex.read.listings import Progress
    from mmindex.read.problems import Problem


class Checked:
    """The part of `Archive` that lists problems."""

    _store: Reader

    def problems(
        self,
        *,
        kinds: Collection[str] | None = None,
        exclude: Sequence[str] = (),
        follow_links: bool = True,
        one_file_system: bool = False,
        min_age: float = 0.0,
        progress: Progress | None = None,
    ) -> Iterator[Problem]:
        """Yield every problem of the archive's files, as it is found; opens no file.

        Of all kinds: checks the status of each file, walks the archive for files that the index
        does not know, and checks the whole index first. No problem is yielded before the index is
        known to be whole. A large index is checked in a second process, where this one has one
        thread.

        Parameters
        ----------
        kinds : collection of str, optional
            Only problems of these kinds; see `Problem`. Only what they need is examined.
        exclude, follow_links, one_file_system
            As for `build`: files that are left out are not new.
        min_age : float
            Seconds since its last change after which a file of a folder may be new, stale,
            unreadable or missing: as for `build`, which leaves younger ones for later. The age of
            a missing file is that of its folder's last change.
        progress : callable, optional
            As in `records`.

        Raises
        ------
        IndexFormatError
            The index is damaged.
        ValueError
            There is no such kind.
        """
        from mmindex.read.problems import walk_problems
        from mmindex.sources.base import WalkRules

        rules = WalkRules(tuple(exclude), follow_links, one_file_system)
        archive = cast("Archive", self)
        return walk_problems(
            archive, self._store, progress, kinds=kinds, rules=rules, min_age=min_age
        )

    def accept(self, problems: Iterable[Problem], *, wait: float = 10.0) -> None:
        """Accept these problems in the index, in place of those accepted before.

        A problem stays accepted until a build or an update finds the problem gone, or changed.

        Parameters
        ----------
        problems : iterable of Problem
            Such as those of `problems()`.
        wait : float
            Seconds to wait while a build or an update writes the index.

        Raises
        ------
        IndexWriteError
            The index cannot be written, or a build was at work all the time.
        """
        from mmindex.read.problems import note_of
        from mmindex.update.problems import accept_problems

        store = self._store
        accept_problems(store.path, os.fsencode(store.root), map(note_of, problems), wait)

    def last_build(self) -> BuildNote | None:
        """Return when the last build ended and how long it took; None where none has ended."""
        return self._store.read_build()

    def count(self) -> Counters:
        """Return how many files, instances, frames and bytes the index has, in constant time."""
        return self._store.read_counters()
