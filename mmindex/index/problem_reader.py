"""Reads the problems that an index keeps: paths that were skipped, and problems accepted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mmindex.index.index_file import OpenIndex, reading
from mmindex.index.lmdb.transaction import Transaction

if TYPE_CHECKING:
    from mmindex.index.problem_notes import AcceptedProblem, Looked, ProblemNote

_BATCH = 256  # notes a transaction while all are read


class ProblemReader(OpenIndex):
    """The part of `Reader` that reads problems; most readings of an index need none.

    Parameters and exceptions are those of `Store`.
    """

    def iterate_problem_notes(self) -> Iterator[ProblemNote]:
        """Yield the paths that were skipped and the problems that were accepted, in no order."""
        start = b""
        while batch := self._read_problem_notes(start):
            yield from (note for _, note in batch)
            start = batch[-1][0] + b"\0"

    @reading
    def _read_problem_notes(
        self, txn: Transaction, start: bytes
    ) -> list[tuple[bytes, ProblemNote]]:
        from mmindex.index.problem_notes import walk_problem_notes

        return list(islice(walk_problem_notes(txn, start), _BATCH))

    @reading
    def has_problem_notes(self, txn: Transaction) -> bool:
        """Return whether any path is noted as skipped, or any problem as accepted."""
        return txn.count("problems") > 0

    @reading
    def read_notes_of(self, txn: Transaction, path: bytes) -> list[ProblemNote]:
        """Return what is noted of one path."""
        from mmindex.index.problem_notes import walk_notes_of

        return [note for _, note in walk_notes_of(txn, path)]

    @reading
    def find_skipped(self, txn: Transaction, path: bytes) -> str | None:
        """Return why a path could not be looked at; None where nothing is noted of it."""
        from mmindex.index.problem_notes import SkippedPath, walk_notes_of

        notes = [note for _, note in walk_notes_of(txn, path) if isinstance(note, SkippedPath)]
        return notes[0].reason if notes else None

    @reading
    def is_accepted(self, txn: Transaction, problem: AcceptedProblem) -> bool:
        """Return whether a problem was accepted."""
        from mmindex.index.problem_notes import problem_key

        return txn.get("problems", problem_key(problem)) is not None

    @reading
    def has_skipped(self, txn: Transaction, looked: Looked) -> bool:
        """Return whether paths that were looked at are noted as skipped."""
        if not txn.count("problems"):
            return False
        from mmindex.index.problem_notes import SkippedPath, walk_notes_in

        return any(isinstance(note, SkippedPath) for _, note in walk_notes_in(txn, looked))
