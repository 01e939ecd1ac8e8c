"""The attributes that an index keeps: set by a build, followed by updates, filled from headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from mmindex.attributes import AttributeSet
from mmindex.errors import IndexWriteError
from mmindex.index.attributes import KeptValues
from mmindex.index.carried_values import take_values
from mmindex.index.databases import AttributesKind
from mmindex.index.record import unpack_version
from mmindex.index.store import Store
from mmindex.model import InstanceRecord
from mmindex.sources.base import FoundFile
from mmindex.sources.member import FoundMember
from mmindex.update.archive_root import ArchiveRoot
from mmindex.update.attribute_values import parse_attributes
from mmindex.update.scan_buffer import ScanOptions
from mmindex.update.scan_members import MemberTarget

_WRITTEN_TOGETHER = 1000


def find_attributes(
    store: Store, names: str | Iterable[str]
) -> tuple[AttributeSet | None, AttributeSet | None]:
    """Return which attributes the index keeps, and which it is to keep.

    An index without files keeps these at once, another one once its build has found that the
    archive is there: values of an archive that is away could not be read again.

    Parameters
    ----------
    names : str or iterable of str
        As for `build`; nothing for those that the index keeps.
    """
    kept = store.read_attribute_set()
    wanted = parse_attributes(names) if names else kept
    if wanted != kept and not store.count_files():
        store.write_attribute_set(wanted)
        return wanted, wanted
    return kept, wanted


def follow_attributes(store: Store, names: str | Iterable[str]) -> AttributeSet | None:
    """Return which attributes an update keeps: those of the index; of a new one as `names` say.

    Raises
    ------
    IndexWriteError
        The index keeps others: only a build changes them.
    """
    kept, wanted = find_attributes(store, names)
    if wanted != kept:
        raise IndexWriteError(
            "the index keeps other attributes: `mmindex build --attributes` changes them",
            path=store.path,
        )
    return kept


def fill_attributes(
    store: Store,
    archive: ArchiveRoot,
    options: ScanOptions,
    places: Iterable[tuple[AttributesKind, str]] | None = None,
    show: Callable[[], object] = lambda: None,
) -> None:
    """Read headers for the studies and series whose attributes are not known: one file of each.

    Parameters
    ----------
    store : Store
        The index, open to be written.
    archive : ArchiveRoot
        Where the files are.
    options : ScanOptions
        As the files were scanned, with the attributes that the index keeps from now on.
    places : iterable of (str, str), optional
        The studies and series, by kind and UID; all unless given.
    show : callable
        Called after each file.
    """
    if options.attributes != store.read_attribute_set():
        store.write_attribute_set(options.attributes)
    if options.attributes is None:
        return
    options = options._replace(header_only=True)
    pending = _walk_unknown(store) if places is None else iter(places)
    while batch := list(islice(pending, _WRITTEN_TOGETHER)):
        found: dict[AttributesKind, dict[str, KeptValues]] = {"studies": {}, "series": {}}
        for kind, uid in batch:
            newest = _find_newest(store, kind, uid)
            carried = None if newest is None else _read(archive, newest, options)
            if newest is not None and carried is not None:
                values = KeptValues(*newest.newness, carried[kind == "series"])
                found[kind][uid] = values
            show()
        for kind, by_uid in found.items():
            if by_uid:
                store.write_attributes(kind, by_uid)


def _walk_unknown(store: Store) -> Iterator[tuple[AttributesKind, str]]:
    kinds: tuple[AttributesKind, ...] = ("studies", "series")
    for kind in kinds:
        for uid in store.iterate_without_attributes(kind):
            yield kind, uid


def _find_newest(store: Store, kind: AttributesKind, uid: str) -> InstanceRecord | None:
    """Return the record of the file whose values count: see `mmindex.index.attributes`."""
    records = (record for record in store.iterate_uid(kind, uid) if record.status.is_instance)
    return max(records, key=lambda record: record.newness, default=None)


def _read(
    archive: ArchiveRoot, record: InstanceRecord, options: ScanOptions
) -> tuple[bytes, bytes] | None:
    """Return the values of a record's file; None where the file changed, or is gone."""
    version = record.fingerprint
    if version is None:
        return None
    target = archive.target(FoundFile(record.path, version))
    if record.member is not None:
        target = MemberTarget(record.path, version, FoundMember(*record.member))
    (packed,) = archive.scan([target], options)
    packed, carried = take_values(packed)
    return carried if unpack_version(packed)[:2] == version[:2] else None
