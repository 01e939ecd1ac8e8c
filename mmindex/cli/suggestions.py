"""A UID, path or word that there is not -> what may have been meant."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from operator import eq
from typing import TYPE_CHECKING, Any

import click

from mmindex.cli.printing import quote
from mmindex.errors import InstanceNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmindex import Archive

    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # which is generic since click 8.2 only

_MOST_LOOKED_AT = 100_000  # UIDs, less than a second's worth: an archive may have millions
MOST_RECORDS_LOOKED_AT = 50_000  # which are read for theirs
_MOST_COMPARED, _MOST_TOLD = 50, 3
_TELLING_LENGTH = 6  # a shorter piece of a UID is one of very many
_ALIKE = 0.8  # of 1, by difflib


class NearChoice(_Choice):
    """A choice of words, which says which one may have been meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word that was chosen."""
        near = find_near_word(str(value), self.choices)
        if value not in self.choices and near:
            known = ", ".join(self.choices)
            self.fail(f"{value!r}: did you mean {near}? There are {known}.", param, ctx)
        return super().convert(value, param, ctx)


def find_near_word(typed: str, words: Iterable[str]) -> str:
    """Return the one of these words that a mistyped one is like, or an empty text."""
    from difflib import get_close_matches

    return "".join(get_close_matches(typed.lower(), list(words), 1))


def explain_unknown_instance(archive: Archive, uid: str, source: str) -> str:
    """Return how to go on where no instance has this UID.

    Parameters
    ----------
    source : str
        The archive as it was asked for.
    """
    kind = find_kind(archive, uid)
    if kind is not None:
        listing = f"mmindex ls {quote(source)} --{kind} {quote(uid)}"
        return f"it is a {kind.title()} Instance UID, and `{listing}` lists its instances"
    near = find_near(archive, uid)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"`mmindex ls {quote(source)}` lists those it has"


def find_kind(archive: Archive, uid: str) -> str | None:
    """Return "study" or "series" where a UID is that of one which has instances with frames."""
    for kind in ("study", "series"):
        with suppress(InstanceNotFoundError):
            if any(True for _ in archive.instances(**{f"{kind}_instance_uid": uid})):
                return kind
    return None


def find_near(uids: Iterable[str], uid: str) -> list[str]:
    """Return up to three of these UIDs: that have this piece, or are much like it.

    Of very many, only the first 100,000 are looked at.
    """
    known = list(islice(uids, _MOST_LOOKED_AT))
    if len(uid) >= _TELLING_LENGTH:
        whole = list(islice((each for each in known if uid in each), _MOST_TOLD))
        if whole:
            return whole
    from difflib import get_close_matches

    # difflib alone would take minutes. A slip of the finger leaves both ends as they are.
    from heapq import nlargest

    candidates = nlargest(_MOST_COMPARED, known, key=lambda each: _count_shared(uid, each))
    return get_close_matches(uid, candidates, _MOST_TOLD, _ALIKE)


def hint_near_path(path: str) -> str:
    """Return a question after what was meant by a path that leads nowhere, or an empty text."""
    folder, name = os.path.split(path.rstrip("/"))
    try:
        with os.scandir(folder or ".") as entries:
            others = (entry.name for entry in entries if entry.name != name)  # a broken link
            near = find_near(others, name) if name else []
    except OSError:
        return ""
    found = [quote(os.path.join(folder, each)) for each in near]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _count_shared(uid: str, other: str) -> int:
    """Return the number of characters that two UIDs begin or end with alike."""
    shared = _count_equal(uid, other)
    return shared + _count_equal(uid[:shared:-1], other[:shared:-1])


def _count_equal(text: str, other: str) -> int:
    return [*map(eq, text, other), False].index(False)
