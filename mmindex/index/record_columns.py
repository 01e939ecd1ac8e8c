"""RecordColumns: what an export needs of many records, as columns, without an object a record.

Much faster than whole records where an archive has many files of few frames. The format of a
record is described in `record.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmindex.errors import IndexFormatError, naming
from mmindex.frame_table import Layout
from mmindex.index.checksum import DamageError, unseal
from mmindex.index.databases import FILE_ID
from mmindex.index.frame_rows import FrameRows, Numbers, TableColumns, Words, list_rows
from mmindex.index.index_file import damaged
from mmindex.index.lmdb.transaction import Transaction
from mmindex.index.reader import Reader
from mmindex.index.record import MOST_FRAMES
from mmindex.index.record_parts import (
    APART,
    HAS_VERSION,
    HEADER,
    LENGTH,
    STATUS_NUMBERS,
    TRIMMED,
    WIDE_ENTRIES,
    Header,
    check_path,
)
from mmindex.model import InstanceRecord, Status

_TYPES = (
    *(*["u1"] * 4, "<u4", "u1", "<u8", "<i8", *["<u8"] * 8),
    *(*["<u2"] * 8, "u1", "u1", "S2", "<u2", "<u4", "<u2"),
)
HEADER_DTYPE = np.dtype(list(zip(Header._fields, _TYPES, strict=True)))  # that of `HEADER`
_INDEXED = STATUS_NUMBERS[Status.INDEXED]
_KEPT = [STATUS_NUMBERS[each] for each in (Status.INDEXED, Status.DEFLATED, Status.STREAM)]
_TEXTS = 0, 1, 3, 5, 7  # those of a record that are columns
_BATCH = 1 << 12  # records in the same columns
_MOST_BYTES = 1 << 23  # of these records
_FEW = 1 << 8  # frames of a file that is listed together with others
_MOST_FRAGMENTS = 1 << 16  # of such a file
_END = 1 << 51  # bits and bytes with which no sum of such a file leaves 63 bits


class RecordColumns(NamedTuple):
    """The values of files with frames that exports need: a value a file in each column.

    Attributes
    ----------
    header : ndarray
        The fixed part of the records; fields as in `mmindex.index.record_parts.Header`.
    path, transfer_syntax_uid, sop_instance_uid, series_instance_uid, photometric_interpretation :
        list of str
    rows : FrameRows
        Where the frames of most indexed files are; `table` counts files in the columns.
    others : list of (int, InstanceRecord)
        The indexed files whose frames are not among the rows, with their whole records.
    """

    header: NDArray[Any]
    path: list[str]
    transfer_syntax_uid: list[str]
    sop_instance_uid: list[str]
    series_instance_uid: list[str]
    photometric_interpretation: list[str]
    rows: FrameRows
    others: list[tuple[int, InstanceRecord]]


def walk_columns(index: Reader) -> Iterator[RecordColumns]:
    """Yield the indexed, deflated and stream files of an index, some thousand together.

    Raises
    ------
    IndexFormatError
        The index is damaged.
    """
    batch, length = [], 0
    for file_id, packed in index.iterate(_take):
        batch.append((file_id, packed))
        length += len(packed)
        if len(batch) == _BATCH or length > _MOST_BYTES:
            yield _make_columns(index, batch)
            batch, length = [], 0
    if batch:
        yield _make_columns(index, batch)


def _take(_: Transaction, file_id: int, sealed: memoryview) -> tuple[int, bytes]:
    return file_id, bytes(unseal(FILE_ID.pack(file_id), sealed))


def _make_columns(index: Reader, batch: list[tuple[int, bytes]]) -> RecordColumns:
    try:
        with naming(index.path):
            return _parse(index, batch)
    except DamageError as error:
        raise damaged(index.path, error) from error


def _parse(index: Reader, batch: list[tuple[int, bytes]]) -> RecordColumns:
    ends = np.array([len(packed) for _, packed in batch], np.int64).cumsum()
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
    if (ends - starts < HEADER.size).any():
        raise IndexFormatError("damaged record: it has no fixed part; rebuild the index")
    words = Words([packed for _, packed in batch])
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(words.data, "B"), HEADER.size)
    header = windows[starts].view(HEADER_DTYPE)[:, 0]
    status = header["status"]
    kept = np.isin(status, _KEPT) & ((status != _INDEXED) | (header["layout"] > 0))
    if not kept.all():
        batch = [batch[at] for at in np.flatnonzero(kept).tolist()]
        starts, ends, header = starts[kept], ends[kept], header[kept]
    texts, is_whole = _slice_texts(words, starts, ends)
    is_indexed = header["status"] == _INDEXED
    is_simple = is_whole & (~is_indexed | _are_simple(header, ends - starts))
    unpacked = {at: index.unpack(*batch[at]) for at in np.flatnonzero(~is_simple).tolist()}
    rows = _list_rows(header, words, starts, is_indexed & is_simple)
    if rows is None:  # the entries of a record are damaged: its frames report that
        unpacked |= {
            at: index.unpack(*batch[at]) for at in np.flatnonzero(is_indexed & is_simple).tolist()
        }
        rows = _list_rows(header, words, starts, np.zeros_like(is_indexed))
        assert rows is not None
    path, syntax, instance, series, photometric = texts
    return RecordColumns(
        header,
        _decode_paths(path),
        _decode_all(syntax, _from_latin_1),
        _decode_all(instance, _from_latin_1),
        _decode_all(series, _from_latin_1),
        _decode_all(photometric, _from_latin_1),
        rows,
        sorted(unpacked.items()),
    )


def _slice_texts(
    words: Words, starts: Numbers, ends: Numbers
) -> tuple[list[list[bytes]], NDArray[np.bool_]]:
    """Return the texts that are columns, and which records have them whole."""
    texts = []
    position = starts + HEADER.size
    is_whole = np.ones(len(starts), np.bool_)
    for number in range(_TEXTS[-1] + 1):
        begin = np.minimum(position + LENGTH.size, ends)
        position = begin + words.take(begin - LENGTH.size, LENGTH.size)
        is_whole &= position <= ends
        if number in _TEXTS:
            spans = zip(begin.tolist(), position.tolist(), strict=True)
            texts.append([words.data[start:stop] for start, stop in spans])
    return texts, is_whole


def _are_simple(header: NDArray[Any], lengths: Numbers) -> NDArray[np.bool_]:
    """Return which records have a frame table without contradictions, and of few frames."""
    flags = header["flags"]
    native = header["layout"] == Layout.NATIVE
    fragments, located = header["fragments"], header["frames_located"]
    is_simple = flags & (HAS_VERSION | APART) == HAS_VERSION
    is_simple &= (located <= header["table_frames"]) & (header["table_frames"] <= MOST_FRAMES)
    is_simple &= header["number_of_frames"] <= MOST_FRAMES
    is_simple &= (located <= _FEW) & (fragments <= _MOST_FRAGMENTS)
    for name in ("value_offset", "frame_bits", "stride_bits"):
        is_simple &= header[name] <= _END
    bits, stride = header["frame_bits"], header["stride_bits"]
    is_simple &= np.where(native, (bits > 0) & (bits <= stride), (bits == 0) & (stride == 0))
    several = header["layout"] == Layout.FRAGMENTS
    is_simple &= native | several | (header["layout"] == Layout.FRAGMENT_A_FRAME)
    is_simple &= ~several | (flags & TRIMMED == 0)
    is_simple &= native | several | (located <= fragments)
    size = np.where(flags & WIDE_ENTRIES, 8, 4)
    count = np.where(several, located + fragments + 2, fragments + 1).astype(np.int64)
    trimmed = (flags & TRIMMED > 0) * (located.astype(np.int64) + 7 >> 3)
    expected = np.where(native, 0, count * size + trimmed)
    simple: NDArray[np.bool_] = is_simple & (lengths - header["entries_offset"] == expected)
    return simple


def _list_rows(
    header: NDArray[Any], words: Words, starts: Numbers, wanted: NDArray[np.bool_]
) -> FrameRows | None:
    """Return the rows of the files that are wanted, None where entries are damaged."""
    tables = TableColumns(
        layout=header["layout"].astype(np.int64),
        frames_located=np.where(wanted, header["frames_located"], 0).astype(np.int64),
        number_of_fragments=header["fragments"].astype(np.int64),
        value_offset=header["value_offset"].astype(np.int64),
        frame_bits=header["frame_bits"].astype(np.int64),
        stride_bits=header["stride_bits"].astype(np.int64),
        entry_size=np.where(header["flags"] & WIDE_ENTRIES, 8, 4),
        entries_at=starts + header["entries_offset"],
        trimmed=header["flags"] & TRIMMED > 0,
    )
    return list_rows(tables, words)


def _decode_all(texts: list[bytes], decode: Callable[[bytes], str]) -> list[str]:
    """Return texts decoded, all at once where that can be."""
    joined = b"\0".join(texts)
    if joined.count(b"\0") == len(texts) - 1:
        return decode(joined).split("\0")
    return [decode(text) for text in texts]


def _from_latin_1(text: bytes) -> str:
    return text.decode("latin-1")


def _decode_paths(paths: list[bytes]) -> list[str]:
    joined = b"\0" + b"\0".join(paths)
    if joined.count(b"\0") != len(paths) or b"\0/" in joined or b".." in joined:
        try:
            for path in paths:
                check_path(path)
        except ValueError as error:
            raise IndexFormatError(f"damaged record: {error}; rebuild the index") from error
    return _decode_all(paths, os.fsdecode)
