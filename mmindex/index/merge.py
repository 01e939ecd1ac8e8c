"""Indexes that were built apart, such as by the jobs of an array, joined to one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from mmindex.attributes import AttributeSet
from mmindex.errors import IndexWriteError
from mmindex.index.batch_writer import BatchWriter
from mmindex.index.create import create_index
from mmindex.index.databases import AttributesKind
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.names import find_index_file, is_url_root
from mmindex.index.record import pack_record, unpack_record
from mmindex.index.store import Store

_BATCH_FILES, _BATCH_BYTES = 10_000, 1 << 26
_BUCKET = 2  # parts of a URL before its bucket


@dataclass(frozen=True, slots=True)
class MergeReport:
    """The result of a merge.

    Attributes
    ----------
    index, root : str
        The index and its archive's root.
    files : int
        Number of files taken over.
    dropped_attributes : tuple of str
        Keywords of attributes that some of the indexes keep, or `out` kept before, and that `out`
        keeps no longer, since the indexes keep different ones.
    """

    index: str
    root: str
    files: int
    dropped_attributes: tuple[str, ...] = ()


def merge_indexes(
    out: str | os.PathLike[str],
    indexes: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> MergeReport:
    """Join the records of indexes in one, with paths relative to its root; no file is scanned.

    Parameters
    ----------
    out : path
        The index file to create or extend. The record of a file that it knows already is replaced.
    indexes : sequence of path
        Index files, or the folders that have them; they stay as they are.
    root : path, optional
        Archive root of a new `out`; the folder that the roots of all indexes share unless given.
        An `out` that exists keeps its own.
    progress : callable, optional
        Called after each batch with the number of files taken over and of all files.

    Raises
    ------
    MissingFileError, IndexFormatError
        One of the indexes does not exist, or is no index.
    IndexWriteError
        The archive of an index is not under the root, `out` is one of the indexes, or it cannot
        be written.

    What was merged before an error stays; the next merge continues there. Attributes of studies and
    series are taken over where all indexes, also an `out` that exists, keep the same ones; else
    `out` keeps none, and the report names those that are lost.
    """
    out = os.path.realpath(out)
    paths = list(map(find_index_file, indexes))
    roots = [_find_root(path, out) for path in paths]
    merged_root = _real_root(os.fsencode(root)) if root else _share_root(roots)
    if os.path.exists(out):
        merged_root = _find_root(out)
    if not merged_root:
        raise IndexWriteError("expected archives of one bucket, or of folders alone", path=out)
    for path, source_root in zip(paths, roots, strict=True):
        if _share_root([source_root, merged_root]) != merged_root:
            raise IndexWriteError(
                f"the archive of {path}, {os.fsdecode(source_root)}, is not under "
                f"{os.fsdecode(merged_root)}, the root of this index",
                path=out,
            )
    sets = _read_attribute_sets([*paths, *([out] if os.path.exists(out) else ())])
    kept = sets[0] if all(each == sets[0] for each in sets) else None
    create_index(out, merged_root)
    ignore_inode = any(map(_ignores_inode, [*paths, out]))
    files, total = 0, sum(map(_count_files, paths)) if progress else 0
    with only_writer(out), closing(Store(out, write=True)) as merged:
        if kept != merged.read_attribute_set():
            merged.write_attribute_set(kept)
        merged.begin_build(ignore_inode=ignore_inode)
        for path, source_root in zip(paths, roots, strict=True):
            prefix = source_root[len(merged_root) :].strip(b"/")
            with closing(Store(path)) as source:
                for copied in _copy(source, merged, prefix):
                    files += copied
                    if progress is not None:
                        progress(files, total)
    return MergeReport(out, os.fsdecode(merged_root), files, _name_dropped(sets, kept))


def _find_root(index: str, out: str | None = None) -> bytes:
    """Return the real path of an index's archive root."""
    if out is not None and os.path.realpath(index) == out:
        raise IndexWriteError("the index cannot be merged into itself", path=out)
    with closing(Store(index)) as store:
        return _real_root(store.root)


def _real_root(root: bytes) -> bytes:
    return root.rstrip(b"/") if is_url_root(root) else os.path.realpath(root)


def _share_root(roots: list[bytes]) -> bytes:
    """Return the folder, or the URL, that all of these lie below; empty where none is."""
    if not any(map(is_url_root, roots)):
        return os.path.commonpath(roots)
    shared: list[bytes] = []
    for parts in zip(*(root.split(b"/") for root in roots), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return b"/".join(shared) if len(shared) > _BUCKET else b""


def _read_attribute_sets(indexes: Sequence[str]) -> list[AttributeSet | None]:
    """Return the attributes that each index keeps."""
    sets = []
    for index in indexes:
        with closing(Store(index)) as store:
            sets.append(store.read_attribute_set())
    return sets


def _name_dropped(
    sets: Sequence[AttributeSet | None], kept: AttributeSet | None
) -> tuple[str, ...]:
    """Return the keywords of attributes that are in one of the sets and not kept, each once."""
    names = [name for each in sets if each is not None for name in each.names]
    left = () if kept is None else kept.names
    return tuple(dict.fromkeys(name for name in names if name not in left))


def _count_files(index: str) -> int:
    with closing(Store(index)) as store:
        return store.count_files()


def _ignores_inode(index: str) -> bool:
    with closing(Store(index)) as store:
        return store.ignores_inode()


def _copy(source: Store, merged: Store, prefix: bytes) -> Iterator[int]:
    """Copy all records, problems and attributes of an index, their paths extended by `prefix`.

    Yields 1 for each record.
    """
    writer = BatchWriter(merged, most_files=_BATCH_FILES, most_bytes=_BATCH_BYTES)
    for packed in source.iterate_packed():
        record = unpack_record(packed)
        writer.add([pack_record(record, os.path.join(prefix, record.path))])
        yield 1
    writer.commit()
    notes = (
        note._replace(path=os.path.join(prefix, note.path))
        for note in source.iterate_problem_notes()
    )
    while batch := list(islice(notes, _BATCH_FILES)):
        merged.add_problem_notes(batch)
    if merged.read_attribute_set() is not None:
        _copy_attributes(source, merged, prefix)


def _copy_attributes(source: Store, merged: Store, prefix: bytes) -> None:
    """Copy the attributes of an index, but for studies and series of which newer ones are there."""
    kinds: tuple[AttributesKind, ...] = ("studies", "series")
    for kind in kinds:
        uids = source.iterate_uids(kind)
        while batch := list(islice(uids, _BATCH_FILES)):
            newer = {}
            for uid in batch:
                values = source.read_attributes(kind, uid)
                if values is None:
                    continue
                values = values._replace(path=os.path.join(prefix, values.path))
                known = merged.read_attributes(kind, uid)
                if known is None or values.place >= known.place:
                    newer[uid] = values
            merged.write_attributes(kind, newer)
