"""The parameters of a QIDO-RS URL as a query (PS3.18 8.3.4, 10.6.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmindex.serve.errors import RequestError
from mmindex.serve.matching import Path, find_path

_ALIASES = {"Modality": "ModalitiesInStudy", "00080060": "00080061"}  # of studies
_RESERVED = ("accept", "charset")
_MOST_FILTERS = 100


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: filters, fields, limit and offset.

    Attributes
    ----------
    filters : tuple of (path, value)
        Attributes and the values that they must have.
    fields : frozenset of str
        Tags to be returned besides those that always are.
    everything : bool
        Whether all attributes of the level are to be returned.
    limit : int or None
        Most results.
    offset : int
        Results to leave out.
    unknown : tuple of str
        Parameters that name no attribute, which are ignored (PS3.18 8.3.1).
    fuzzy : bool
        Whether fuzzy matching is asked for, which is not done (PS3.18 8.3.4.2).
    """

    filters: tuple[tuple[Path, str], ...] = ()
    fields: frozenset[str] = frozenset()
    everything: bool = False
    limit: int | None = None
    offset: int = 0
    unknown: tuple[str, ...] = ()
    fuzzy: bool = False


def parse_query(parameters: Iterable[tuple[str, str]], *, of_studies: bool = False) -> Query:
    """Return the query that a URL's parameters make.

    Raises
    ------
    RequestError
        A number is none, or there are too many parameters: status 400.
    """
    filters: list[tuple[Path, str]] = []
    fields: set[str] = set()
    unknown: list[str] = []
    everything, fuzzy, limit, offset = False, False, None, 0
    for name, value in parameters:
        if name == "limit":
            limit = _parse_count(name, value)
        elif name == "offset":
            offset = _parse_count(name, value)
        elif name == "includefield":
            names = value.split(",")
            everything = everything or "all" in names
            paths = [find_path(one.strip()) for one in names if one not in ("all", "")]
            fields.update(path[0] for path in paths if path)
            unknown += ["includefield"] if None in paths else []
        elif name == "fuzzymatching":
            fuzzy = value.lower() == "true"
        elif name not in _RESERVED:
            path = find_path(_ALIASES.get(name, name) if of_studies else name)
            if path is None:
                unknown.append(name)
            else:
                filters.append((path, value))
    if len(filters) > _MOST_FILTERS:
        raise RequestError(400, f"a query has at most {_MOST_FILTERS} attributes")
    fields.update(path[0] for path, _ in filters)
    return Query(
        tuple(filters), frozenset(fields), everything, limit, offset, tuple(unknown), fuzzy
    )


def _parse_count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise RequestError(400, f"{name} is a number, 0 or more")
    return int(value)
