"""A study, series or instance that may match a query, of which only what is asked is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mmindex.attributes import Json

# Tags that the index keeps, and what returns their values: None where they are not known.
Kept = Sequence[tuple[frozenset[str], Callable[[], Json | None]]]


class Candidate:
    """A study, series or instance that may match.

    Parameters
    ----------
    known_tags : frozenset of str
        What `describe` returns, or may return.
    describe : callable
        Returns what the records know.
    kept : Kept
        What the index keeps.
    read : callable
        Returns the header of an instance, without its long values.
    """

    __slots__ = ("_describe", "_kept", "_known", "_known_tags", "_read", "_summary", "_values")

    def __init__(
        self,
        known_tags: frozenset[str],
        describe: Callable[[], Json],
        kept: Kept,
        read: Callable[[], Json],
    ) -> None:
        self._known_tags = known_tags
        self._describe = describe
        self._kept = kept
        self._read = read
        self._known: Json | None = None
        self._values: dict[int, Json | None] = {}
        self._summary: Json | None = None

    @property
    def known(self) -> Json:
        """The values that the records have."""
        if self._known is None:
            self._known = self._describe()
        return self._known

    @property
    def summary(self) -> Json:
        """The header of an instance, without its long values."""
        if self._summary is None:
            self._summary = self._read()
        return self._summary

    def find(self, tag: str) -> Json:
        """Return a data set that has this attribute if the candidate does."""
        if tag in self._known_tags:
            return self.known
        for at, (tags, read) in enumerate(self._kept):
            if tag in tags:
                if at not in self._values:
                    self._values[at] = read()
                values = self._values[at]
                if values is not None:
                    return values
        return self.summary
