"""Queries: QIDO-RS `/studies`, `/series` and `/instances` (PS3.18 10.6).

What the records know (UIDs, counts, modalities, image size) is answered without opening a file;
names, dates and descriptions come from the header of one instance a study or series, and only
those are read that the answer or the query needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from mmindex.errors import MMIndexError
from mmindex.serve.catalogue import Catalogue, Row, Series, Study
from mmindex.serve.dicom_json import Element, Json
from mmindex.serve.errors import RequestError
from mmindex.serve.headers import BASE, HeaderCache
from mmindex.serve.matching import Path, find_path, matches, vr_of
from mmindex.serve.shelf import Shelf

_STUDY_TAGS = (  # PS3.18 table 10.6.3-3, and what study lists show
    *("00080005", "00080020", "00080030", "00080050", "00080090", "00080201", "00081030"),
    *("00100010", "00100020", "00100030", "00100040", "00200010"),
)
_SERIES_TAGS = (  # table 10.6.3-4
    *("00080021", "00080031", "0008103E", "00200011"),
    *("00400244", "00400245", "00400275"),
)
_INSTANCE_TAGS = ("00200013",)  # table 10.6.3-5
_ALL_STUDY_TAGS = (  # added by includefield=all
    *("00080080", "00080081", "00081010", "00081032", "00081048", "00081060", "00081070"),
    *("00081080", "00100021", "00100032", "00101010", "00101020", "00101030", "00102160"),
    *("001021B0", "00104000", "00321032", "00324000"),
)
_ALL_SERIES_TAGS = (
    *("00080070", "00080022", "00080032", "00081040", "00081050", "00081090", "00180015"),
    *("00181000", "00181020", "00181030", "00185100", "00200052", "00200060", "00201040"),
)
_ALIASES = {"Modality": "ModalitiesInStudy", "00080060": "00080061"}  # of studies
_RESERVED = ("limit", "offset", "fuzzymatching", "includefield", "accept", "charset")
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
    """

    filters: tuple[tuple[Path, str], ...] = ()
    fields: frozenset[str] = frozenset()
    everything: bool = False
    limit: int | None = None
    offset: int = 0
    unknown: tuple[str, ...] = ()


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
    everything, limit, offset = False, None, 0
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
        elif name not in _RESERVED:
            path = find_path(_ALIASES.get(name, name) if of_studies else name)
            if path is None:
                unknown.append(name)
            else:
                filters.append((path, value))
    if len(filters) > _MOST_FILTERS:
        raise RequestError(400, f"a query has at most {_MOST_FILTERS} attributes")
    fields.update(path[0] for path, _ in filters)
    return Query(tuple(filters), frozenset(fields), everything, limit, offset, tuple(unknown))


def _parse_count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise RequestError(400, f"{name} is a number, 0 or more")
    return int(value)


class Candidate:
    """A study, series or instance that may match, with its header where one is needed."""

    __slots__ = ("_read", "_summary", "known")

    def __init__(self, known: Json, read: Callable[[], Json]) -> None:
        self.known = known
        self._read = read
        self._summary: Json | None = None

    @property
    def summary(self) -> Json:
        """The header of an instance, without its long values."""
        if self._summary is None:
            self._summary = self._read()
        return self._summary


class QueryService:
    """Answers queries; its methods run in threads."""

    def __init__(self, shelf: Shelf, catalogue: Catalogue, headers: HeaderCache) -> None:
        self._shelf = shelf
        self._catalogue = catalogue
        self._headers = headers

    def studies(self, query: Query) -> list[Json]:
        """Return the studies that match (PS3.18 10.6.1.1)."""
        candidates: Iterable[Candidate] = (
            self._candidate(self._describe_study(study), _first(study.series.values()))
            for study in self._catalogue.studies().values()
        )
        below = ("0020000E", "00080018", "00080016")  # one of a study's series or instances has it
        split = [one for one in query.filters if one[0][0] in below]
        if split:
            candidates = self._having(candidates, split)
        rest = tuple(one for one in query.filters if one not in split)
        tags = _STUDY_TAGS + _ALL_STUDY_TAGS * query.everything
        return _answer(candidates, query, rest, tags)

    def series(self, query: Query, study: str | None = None) -> list[Json]:
        """Return the series that match, of one study or of all.

        Raises
        ------
        RequestError
            There is no such study: status 404.
        """
        candidates = (
            self._candidate(self._describe_series(one, within=study is not None), one)
            for one in self._walk_series(study, None)
        )
        tags = _SERIES_TAGS + _ALL_SERIES_TAGS * query.everything
        if study is None:
            tags += _STUDY_TAGS + _ALL_STUDY_TAGS * query.everything
        return _answer(candidates, query, query.filters, tags)

    def instances(
        self, query: Query, study: str | None = None, series: str | None = None
    ) -> list[Json]:
        """Return the instances that match, of one series, one study or all.

        Raises
        ------
        RequestError
            There is no such study or series: status 404.
        """
        candidates = (
            self._candidate(self._describe_instance(one, row), one, row)
            for one in self._walk_series(study, series)
            for row in one.rows.values()
        )
        tags: tuple[str, ...] = _INSTANCE_TAGS
        if series is None:
            tags += _SERIES_TAGS + _ALL_SERIES_TAGS * query.everything
        if study is None:
            tags += _STUDY_TAGS + _ALL_STUDY_TAGS * query.everything
        return _answer(candidates, query, query.filters, tags, whole=query.everything)

    def _walk_series(self, study: str | None, series: str | None) -> Iterator[Series]:
        studies = self._catalogue.studies()
        if study is not None and study not in studies:
            raise RequestError(404, "there is no such study")
        found = [studies[study]] if study is not None else list(studies.values())
        if series is not None:
            found = [one for one in found if series in one.series]
            if not found:
                raise RequestError(404, "there is no such series")
        return (
            one
            for owner in found
            for one in owner.series.values()
            if series in (None, one.series_instance_uid)
        )

    def _candidate(self, known: Json, series: Series | None, row: Row | None = None) -> Candidate:
        def read() -> Json:
            return self._read_summary(series, row)

        return Candidate(known, read)

    def _read_summary(self, series: Series | None, row: Row | None) -> Json:
        """Return the header of a row, or of the first instance of a series that has one."""
        rows = [row] if row is not None else list(islice(series.rows.values(), 3) if series else ())
        for one in rows:
            try:
                return self._headers.summary(self._shelf.open(one.sop_instance_uid))
            except (MMIndexError, OSError):  # gone or broken: what the record knows is answered
                continue
        return {}

    def _having(
        self, candidates: Iterable[Candidate], filters: Iterable[tuple[Path, str]]
    ) -> Iterator[Candidate]:
        """Yield the studies of which one instance has UIDs of their own."""
        studies = self._catalogue.studies()
        for candidate in candidates:
            study = studies[candidate.known["0020000D"]["Value"][0]]
            for series in study.series.values():
                instances = (self._describe_instance(series, row) for row in series.rows.values())
                if any(
                    all(matches(one, path, wanted) for path, wanted in filters) for one in instances
                ):
                    yield candidate
                    break

    def _describe_study(self, study: Study) -> Json:
        uid = study.study_instance_uid
        classes = {row.sop_class_uid for one in study.series.values() for row in one.rows.values()}
        return {
            "0020000D": _element("UI", uid),
            "00080056": _element("CS", "ONLINE"),
            "00080061": _element("CS", *study.modalities),
            "00080062": _element("UI", *sorted(classes)),
            "00081190": _element("UR", f"{BASE}/studies/{uid}"),
            "00201206": _element("IS", len(study.series)),
            "00201208": _element("IS", study.number_of_instances),
        }

    def _describe_series(self, series: Series, *, within: bool = False) -> Json:
        study = self._catalogue.studies().get(series.study_instance_uid)
        uri = f"{BASE}/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"
        described = {
            "00080060": _element("CS", series.modality),
            "0020000D": _element("UI", series.study_instance_uid),
            "0020000E": _element("UI", series.series_instance_uid),
            "00080056": _element("CS", "ONLINE"),
            "00081190": _element("UR", uri),
            "00201209": _element("IS", len(series.rows)),
        }
        if not within and study is not None:
            described["00080061"] = _element("CS", *study.modalities)
            described["00201206"] = _element("IS", len(study.series))
            described["00201208"] = _element("IS", study.number_of_instances)
        return described

    def _describe_instance(self, series: Series, row: Row) -> Json:
        uri = (
            f"{BASE}/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"
            f"/instances/{row.sop_instance_uid}"
        )
        described = {
            "00080016": _element("UI", row.sop_class_uid),
            "00080018": _element("UI", row.sop_instance_uid),
            "00080056": _element("CS", "ONLINE"),
            "00080060": _element("CS", series.modality),
            "00081190": _element("UR", uri),
            "00083002": _element("UI", row.transfer_syntax_uid),
            "0020000D": _element("UI", series.study_instance_uid),
            "0020000E": _element("UI", series.series_instance_uid),
        }
        if row.number_of_frames:
            described["00280008"] = _element("IS", row.number_of_frames)
            described["00280010"] = _element("US", row.rows)
            described["00280011"] = _element("US", row.columns)
            described["00280100"] = _element("US", row.bits_allocated)
        return described


def _first(series: Iterable[Series]) -> Series | None:
    return next(iter(series), None)


def _element(vr: str, *values: str | int | None) -> Element:
    """Return an element; one without values has none (PS3.18 F.2.5)."""
    kept = [value for value in values if value not in (None, "")]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def _answer(
    candidates: Iterable[Candidate],
    query: Query,
    filters: Iterable[tuple[Path, str]],
    tags: Iterable[str],
    *,
    whole: bool = False,
) -> list[Json]:
    """Return what matches, from the query's offset on."""
    wanted = list(filters)
    matching = (one for one in candidates if all(_matches(one, *pair) for pair in wanted))
    end = None if query.limit is None else query.offset + query.limit
    page = islice(matching, query.offset, end)
    listed = sorted({*tags, *query.fields})
    return [_describe(one, listed, whole=whole) for one in page]


def _matches(candidate: Candidate, path: Path, wanted: str) -> bool:
    source: Mapping[str, Element] = candidate.known
    if path[0] not in source:
        source = candidate.summary
    return matches(dict(source), path, wanted)


def _describe(candidate: Candidate, tags: Iterable[str], *, whole: bool) -> Json:
    found = dict(candidate.summary) if whole else {}
    for tag in tags:
        found[tag] = candidate.summary.get(tag) or {"vr": vr_of(tag)}
    found.update(candidate.known)
    return dict(sorted(found.items()))
