"""Queries: QIDO-RS `/studies`, `/series` and `/instances` (PS3.18 10.6).

What the records know (UIDs, counts, modalities, image size) is answered without opening a file, and
so is what the index keeps of studies and series. Other attributes come from the header of one
instance a study or series, and only those are read that the answer or the query needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice

from mmindex.dicom_json import Element, Json
from mmindex.errors import MMIndexError
from mmindex.serve.candidate import Candidate, Kept
from mmindex.serve.catalogue import Catalogue, Row, Series, Study
from mmindex.serve.errors import RequestError
from mmindex.serve.headers import BASE, HeaderCache, uri_of
from mmindex.serve.held import Uids
from mmindex.serve.matching import Path, matches, split_list, vr_of
from mmindex.serve.query import Query
from mmindex.serve.shelf import Shelf

_STUDY_TAGS = (  # PS3.18 table 10.6.3-3, and what study lists show
    *("00080005", "00080020", "00080030", "00080050", "00080090", "00080201", "00081030"),
    *("00100010", "00100020", "00100030", "00100040", "00200010"),
)
_SERIES_TAGS = (  # table 10.6.3-4
    *("00080021", "00080031", "0008103E", "00200011"),
    *("00400244", "00400245", "00400275"),
)
_ALL_STUDY_TAGS = (  # added by includefield=all
    *("00080080", "00080081", "00081010", "00081032", "00081048", "00081060", "00081070"),
    *("00081080", "00100021", "00100032", "00101010", "00101020", "00101030", "00102160"),
    *("001021B0", "00104000", "00321032", "00324000"),
)
_ALL_SERIES_TAGS = (
    *("00080070", "00080022", "00080032", "00081040", "00081050", "00081090", "00180015"),
    *("00181000", "00181020", "00181030", "00185100", "00200052", "00200060", "00201040"),
)
# What series and instances of a study have, each its own: matched, and empty in an answer.
_BELOW_SERIES = frozenset({"00080018", "00080016"})
_BELOW_STUDY = _BELOW_SERIES | {"0020000E"}
_STUDY_COUNTS = frozenset({"00080061", "00201206", "00201208"})
_STUDY_KNOWN = _STUDY_COUNTS | _BELOW_STUDY | {"0020000D", "00080056", "00080062", "00081190"}
_SERIES_KNOWN = _BELOW_SERIES | frozenset(
    {"00080060", "0020000D", "0020000E", "00080056", "00081190", "00201209"}
)
_INSTANCE_KNOWN = frozenset(  # table 10.6.3-5
    (
        *("00080016", "00080018", "00080056", "00080060", "00081190", "00083002"),
        *("0020000D", "0020000E", "00200013"),
    )
)
_IMAGE_KNOWN = frozenset({"00280008", "00280010", "00280011", "00280100"})
_TOGETHER = 500  # results in a piece of an answer


class QueryService:
    """Answers queries, a result at a time; its methods run in threads."""

    def __init__(self, shelf: Shelf, catalogue: Catalogue, headers: HeaderCache) -> None:
        self._shelf = shelf
        self._catalogue = catalogue
        self._headers = headers

    def search(self, level: str, query: Query, place: Mapping[str, str]) -> Iterator[bytes]:
        """Return the pieces of a JSON array of results; its bracket alone is the last one.

        Parameters
        ----------
        level : {"studies", "series", "instances"}
            What is searched.
        place : mapping of str to str
            The UIDs in the path: "study", "series".

        Raises
        ------
        RequestError
            There is no such study or series: status 404.
        """
        if level == "studies":
            return _walk_array(self.studies(query))
        if level == "series":
            return _walk_array(self.series(query, place.get("study")))
        return _walk_array(self.instances(query, place.get("study"), place.get("series")))

    def studies(self, query: Query) -> Iterator[Json]:
        """Yield the studies that match (PS3.18 10.6.1.1)."""
        kept_tags, _ = self._shelf.kept_tags()
        split = [one for one in query.filters if one[0][0] in _BELOW_STUDY]
        rest = [one for one in query.filters if one not in split]
        candidates = (
            self._study_candidate(uid, kept_tags)
            for uid in self._select_uids(query)
            if not split or self._has_below(uid, split)
        )
        tags = _STUDY_TAGS + _ALL_STUDY_TAGS * query.everything
        return _answer(candidates, query, rest, tags)

    def series(self, query: Query, study: str | None = None) -> Iterator[Json]:
        """Return the series that match, of one study or of all.

        Raises
        ------
        RequestError
            There is no such study: status 404.
        """
        kept_tags = self._shelf.kept_tags()
        split = [one for one in query.filters if one[0][0] in _BELOW_SERIES]
        rest = [one for one in query.filters if one not in split]
        candidates = (
            self._series_candidate(one, kept_tags, within=study is not None)
            for one in self._walk_series(query, study, None)
            if not split or self._has_instance(one, split)
        )
        tags = _SERIES_TAGS + _ALL_SERIES_TAGS * query.everything
        if study is None:
            tags += _STUDY_TAGS + _ALL_STUDY_TAGS * query.everything
        return _answer(candidates, query, rest, tags)

    def instances(
        self, query: Query, study: str | None = None, series: str | None = None
    ) -> Iterator[Json]:
        """Return the instances that match, of one series, one study or all.

        Raises
        ------
        RequestError
            There is no such study or series: status 404.
        """
        kept_tags = self._shelf.kept_tags()
        uids, query = self._skip_studies(query) if study is None else (None, query)
        candidates = (
            self._instance_candidate(one, row, kept, above)
            for one in self._walk_series(query, study, series, uids)
            for kept in (self._keep(one, kept_tags),)
            for above in ({} if series else self._describe_above(one, within=study is not None),)
            for row in self._walk_rows(one)
        )
        tags: tuple[str, ...] = ()
        if series is None:
            tags += _SERIES_TAGS + _ALL_SERIES_TAGS * query.everything
        if study is None:
            tags += _STUDY_TAGS + _ALL_STUDY_TAGS * query.everything
        return _answer(candidates, query, query.filters, tags, whole=query.everything)

    def _select_uids(self, query: Query) -> Iterable[str]:
        """Return the UIDs of the studies that a query may be about."""
        wanted = [value for path, value in query.filters if path == ("0020000D",)]
        if not wanted or wanted[0] in ("", "*"):
            return self._catalogue.study_uids()
        return sorted({uid for uid in split_list(wanted[0]) if self._catalogue.study(uid)})

    def _skip_studies(self, query: Query) -> tuple[Iterable[str], Query]:
        """Return the studies on which a page begins or that come after, and what is left of it."""
        if query.filters:
            return self._select_uids(query), query
        uids, offset = self._catalogue.study_uids(), query.offset
        for at, uid in enumerate(uids):
            owner = self._catalogue.study(uid)
            number = 0 if owner is None else owner.number_of_instances
            if number > offset:
                return islice(uids, at, None), replace(query, offset=offset)
            offset -= number
        return (), query

    def _walk_series(
        self,
        query: Query,
        study: str | None,
        series: str | None,
        uids: Iterable[str] | None = None,
    ) -> Iterator[Series]:
        if study is None:
            found = self._select_uids(query) if uids is None else uids
        else:
            found = [study]
            owner = self._catalogue.study(study)
            if owner is None:
                raise RequestError(404, "there is no such study")
            if series is not None and series not in owner.series:
                raise RequestError(404, "there is no such series")
        return (
            one
            for uid in found
            if (owner := self._catalogue.study(uid)) is not None
            for one in owner.series.values()
            if series in (None, one.series_instance_uid)
        )

    def _study_candidate(self, uid: str, kept_tags: frozenset[str]) -> Candidate:
        def read() -> Json:
            study = self._catalogue.study(uid)
            first = None if study is None else next(iter(study.series.values()), None)
            return self._read_summary(first)

        kept = (kept_tags, partial(self._shelf.attributes, "studies", uid))
        return Candidate(_STUDY_KNOWN, lambda: self._describe_study(uid), [kept], read)

    def _series_candidate(
        self, series: Series, kept_tags: tuple[frozenset[str], frozenset[str]], *, within: bool
    ) -> Candidate:
        return Candidate(
            _SERIES_KNOWN if within else _SERIES_KNOWN | _STUDY_COUNTS,
            lambda: self._describe_series(series, within=within),
            self._keep(series, kept_tags),
            lambda: self._read_summary(series),
        )

    def _instance_candidate(self, series: Series, row: Row, kept: Kept, above: Json) -> Candidate:
        known_tags = _INSTANCE_KNOWN | (_IMAGE_KNOWN if row.number_of_frames else frozenset())
        return Candidate(
            known_tags | above.keys(),
            lambda: self._describe_instance(series, row) | above,
            kept,
            lambda: self._read_summary(series, row),
        )

    def _keep(self, series: Series, kept_tags: tuple[frozenset[str], frozenset[str]]) -> Kept:
        """Return what the index keeps for the instances of a series, each value read once."""
        of_studies, of_series = kept_tags
        read, study, uid = (
            self._shelf.attributes,
            series.study_instance_uid,
            series.series_instance_uid,
        )
        return (
            (of_studies, cache(lambda: read("studies", study))),
            (of_series, cache(lambda: read("series", uid))),
        )

    def _read_summary(self, series: Series | None, row: Row | None = None) -> Json:
        """Return the header of a row, or of the first instance of a series that has one."""
        if series is None:
            return {}
        above = series.study_instance_uid, series.series_instance_uid
        for uid in series.first if row is None else (row.sop_instance_uid,):
            try:
                return self._headers.summary(self._shelf.open(Uids(*above, uid)))
            except (MMIndexError, OSError):  # gone or broken: what the record knows is answered
                continue
        return {}

    def _has_below(self, uid: str, filters: Sequence[tuple[Path, str]]) -> bool:
        """Return whether one instance of a study has UIDs of its own."""
        study = self._catalogue.study(uid)
        series = () if study is None else study.series.values()
        return any(self._has_instance(one, filters) for one in series)

    def _has_instance(self, series: Series, filters: Sequence[tuple[Path, str]]) -> bool:
        """Return whether one instance of a series has UIDs of its own."""
        found = [self._describe_classes(series)]
        if any(path[0] == "00080018" for path, _ in filters):
            found = [self._describe_instance(series, row) for row in self._walk_rows(series)]
        return any(all(matches(one, path, wanted) for path, wanted in filters) for one in found)

    def _walk_rows(self, series: Series) -> Iterable[Row]:
        rows = self._catalogue.rows(series.study_instance_uid)
        return rows.get(series.series_instance_uid, {}).values()

    def _describe_classes(self, series: Series) -> Json:
        return {
            "0020000E": _element("UI", series.series_instance_uid),
            "00080016": _element("UI", *series.sop_class_uids),
        }

    def _describe_study(self, uid: str) -> Json:
        study = self._catalogue.study(uid) or Study(uid, {})
        classes = {name for one in study.series.values() for name in one.sop_class_uids}
        return {
            "0020000D": _element("UI", uid),
            "00080056": _element("CS", "ONLINE"),
            "00080061": _element("CS", *study.modalities),
            "00080062": _element("UI", *sorted(classes)),
            "00081190": _element("UR", BASE + uri_of(uid)),
            "00201206": _element("IS", len(study.series)),
            "00201208": _element("IS", study.number_of_instances),
        }

    def _describe_series(self, series: Series, *, within: bool = False) -> Json:
        uri = BASE + uri_of(series.study_instance_uid, series.series_instance_uid)
        described = {
            "00080060": _element("CS", series.modality),
            "0020000D": _element("UI", series.study_instance_uid),
            "0020000E": _element("UI", series.series_instance_uid),
            "00080056": _element("CS", "ONLINE"),
            "00081190": _element("UR", uri),
        }
        return described | self._describe_above(series, within=within)

    def _describe_above(self, series: Series, *, within: bool) -> Json:
        """Return what is counted of a series and, unless the query is `within` it, of its study."""
        study = None if within else self._catalogue.study(series.study_instance_uid)
        described = {"00201209": _element("IS", series.number_of_instances)}
        if study is not None:
            described["00080061"] = _element("CS", *study.modalities)
            described["00201206"] = _element("IS", len(study.series))
            described["00201208"] = _element("IS", study.number_of_instances)
        return described

    def _describe_instance(self, series: Series, row: Row) -> Json:
        above = series.study_instance_uid, series.series_instance_uid
        uri = BASE + uri_of(*above, row.sop_instance_uid)
        described = {
            "00080016": _element("UI", row.sop_class_uid),
            "00080018": _element("UI", row.sop_instance_uid),
            "00080056": _element("CS", "ONLINE"),
            "00080060": _element("CS", series.modality),
            "00081190": _element("UR", uri),
            "00083002": _element("UI", row.transfer_syntax_uid),
            "0020000D": _element("UI", series.study_instance_uid),
            "0020000E": _element("UI", series.series_instance_uid),
            "00200013": _element("IS", row.instance_number),
        }
        if row.number_of_frames:
            described["00280008"] = _element("IS", row.number_of_frames)
            described["00280010"] = _element("US", row.rows)
            described["00280011"] = _element("US", row.columns)
            described["00280100"] = _element("US", row.bits_allocated)
        return described


def _element(vr: str, *values: str | int | None) -> Element:
    """Return an element; one without values has none (PS3.18 F.2.5)."""
    kept = [value for value in values if value not in (None, "")]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def _walk_array(found: Iterator[Json]) -> Iterator[bytes]:
    before = b"["
    while batch := list(islice(found, _TOGETHER)):
        yield before + json.dumps(batch, separators=(",", ":"))[1:-1].encode()
        before = b","
    yield b"[]" if before == b"[" else b"]"


def _answer(
    candidates: Iterable[Candidate],
    query: Query,
    filters: Iterable[tuple[Path, str]],
    tags: Iterable[str],
    *,
    whole: bool = False,
) -> Iterator[Json]:
    """Yield what matches, from the query's offset on."""
    wanted = list(filters)
    matching = (
        one
        for one in candidates
        if all(matches(one.find(path[0]), path, value) for path, value in wanted)
    )
    end = None if query.limit is None else query.offset + query.limit
    page = islice(matching, query.offset, end)
    listed = sorted({*tags, *query.fields})
    return (_describe(one, listed, whole=whole) for one in page)


def _describe(candidate: Candidate, tags: Iterable[str], *, whole: bool) -> Json:
    found = dict(candidate.summary) if whole else {}
    for tag in tags:
        found[tag] = candidate.find(tag).get(tag) or {"vr": vr_of(tag)}
    found.update(candidate.known)
    return dict(sorted(found.items()))
