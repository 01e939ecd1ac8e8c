"""FrameDataset: the frames of many instances as one sequence, for training loops and Dask."""

from __future__ import annotations

import hashlib
import operator
import random
import warnings
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mmindex.errors import (
    FormatError,
    FrameIndexError,
    InstanceNotFoundError,
    MMIndexError,
    StaleIndexError,
)
from mmindex.model import InstanceRecord
from mmindex.read.archive import Archive
from mmindex.read.order import (
    DUPLICATES,
    ORDERS,
    Duplicates,
    Order,
    check_choice,
    order_records,
    select_newest,
)
from mmindex.read.patients import Group, Known, group_by_patient

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PICKLED_WHOLE = 1000  # instances whose UIDs are pickled; of more, how they were selected


class FrameDataset(Sequence[Any]):
    """Every frame of an archive, or of some of its instances, by one running number.

    A plain sequence: what `torch.utils.data.DataLoader` asks of a map-style dataset, without
    torch. Item i costs the same whatever the number of instances. A dataset pickles as
    the archive's path and the selection, and survives forks.

    Parameters
    ----------
    archive : Archive
        An open archive.
    study_instance_uid, series_instance_uid : str, optional
        Only instances of this study, of this series.
    sop_instance_uids : str or iterable of str, optional
        These instances, in this order.
    order : {"position", "instance-number", "uid"}, optional
        Order of the instances: along the normal of their slices, by Instance Number (both end in
        the UID where numbers are absent), or by UID. Default: "position" of a series, else "uid".
    duplicates : {"newest", "all", "raise"}
        What is done where several files have a SOP Instance UID: the one that the archive serves,
        each of them, or InstanceNotFoundError.
    decoded : bool
        Whether items are arrays, each its own and writable (as `Instance.array` gives them), or
        bytes as stored.
    raw, rescale : bool
        As in `Instance.array`.
    native_byte_order : bool
        Whether arrays are in this machine's byte order, as torch needs; else as stored.
    transform : callable, optional
        From an array (or bytes) to the item.
    with_ids : bool
        Whether items are tuples (frame, SOP Instance UID, frame index).
    on_error : {"raise", "skip"}
        Whether a frame that cannot be read or decoded raises, or the next one that can be takes
        its place, with a RuntimeWarning and an entry in `skipped`.

    Attributes
    ----------
    skipped : dict
        Items that were skipped in this process, and why.

    Raises
    ------
    InstanceNotFoundError
        The archive has no instance with frames of one of the given UIDs.
    ValueError
        `order`, `duplicates` or `on_error` has no meaning.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        sop_instance_uids: str | Iterable[str] | None = None,
        order: Order | None = None,
        duplicates: Duplicates = "newest",
        decoded: bool = True,
        raw: bool = False,
        rescale: bool = False,
        native_byte_order: bool = True,
        transform: Callable[[Any], Any] | None = None,
        with_ids: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        check_choice("order", order, (*ORDERS, None))
        check_choice("duplicates", duplicates, DUPLICATES)
        check_choice("on_error", on_error, ("raise", "skip"))
        if isinstance(sop_instance_uids, str):
            sop_instance_uids = [sop_instance_uids]
        self.archive = archive
        self.decoded = decoded
        self.raw = raw
        self.rescale = rescale
        self.native_byte_order = native_byte_order
        self.transform = transform
        self.with_ids = with_ids
        self.on_error = on_error
        self.skipped: dict[int, MMIndexError] = {}
        self._selection: dict[str, Any] = {
            "study_instance_uid": study_instance_uid,
            "series_instance_uid": series_instance_uid,
            "sop_instance_uids": None if sop_instance_uids is None else list(sop_instance_uids),
            "order": order or ("uid" if series_instance_uid is None else "position"),
            "duplicates": duplicates,
        }
        self._mask: bytes | None = None  # of a split: one byte an instance of the selection
        self._take(select_records(archive, **self._selection))

    def _take(self, records: Iterable[InstanceRecord]) -> None:
        """Keep what finding an item needs of the records."""
        self._uids: list[str] = []
        self._paths: dict[int, bytes] = {}  # of files that are not served by their UID
        self._ends = array("q")  # running number after each instance's last frame
        end = 0
        for at, record in enumerate(records):
            end += record.number_of_frames
            self._uids.append(record.sop_instance_uid)
            self._ends.append(end)
            if self._selection["duplicates"] == "all":
                self._paths[at] = record.key

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __repr__(self) -> str:
        kind = "arrays" if self.decoded else "bytes"
        frames, instances = len(self), len(self._uids)
        return (
            f"<FrameDataset: {frames} frames of {instances} instances as {kind}, {self.archive!r}>"
        )

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def locate(self, index: int) -> tuple[str, int]:
        """Return SOP Instance UID and frame index of an item.

        Raises
        ------
        FrameIndexError
            There is no such item; a negative index does not count from the end.
        """
        at, frame_index = self._find(index)
        return self._uids[at], frame_index

    def _find(self, index: int) -> tuple[int, int]:
        index = operator.index(index)  # numpy 1 makes a float of uint64 and int
        if not 0 <= index < len(self):
            raise FrameIndexError(f"item {index} is out of range: there are {len(self)} frames")
        at = bisect_right(self._ends, index)
        return at, index - (self._ends[at - 1] if at else 0)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        """Return an item; raises what `Archive.array` and `Archive.frame` raise."""
        if self.on_error == "raise":
            return self._read(index)
        self._find(index)
        for step in range(len(self)):
            at = (operator.index(index) + step) % len(self)
            if at in self.skipped:
                continue
            try:
                return self._read(at)
            except MMIndexError as error:
                self.skipped[at] = error
                warnings.warn(f"item {at} is skipped: {error}", RuntimeWarning, stacklevel=2)
        raise FormatError("no frame of the dataset can be read", path=self.archive.path)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items of a batch, as a DataLoader asks; of a bucket, frames are read at once.

        Raises what `__getitem__` raises.
        """
        ahead = self.archive.read_ahead([self.locate(index) for index in indices])
        if ahead is None or self._paths:
            return [self[index] for index in indices]
        items = []
        for position, index in enumerate(indices):
            try:
                if self.decoded:
                    frame: NDArray[np.generic] | bytes = self._order_bytes(
                        ahead.array(position, raw=self.raw, rescale=self.rescale, copy=True)
                    )
                else:
                    frame = ahead.frame(position)
            except MMIndexError:  # as `on_error` says
                items.append(self[index])
            else:
                items.append(self._finish(frame, index))
        return items

    def _read(self, index: int) -> Any:
        return self._finish(self._read_frame(*self._find(index)), index)

    def _finish(self, frame: NDArray[np.generic] | bytes, index: int) -> Any:
        """Return the item that a frame becomes."""
        at, frame_index = self._find(index)
        uid = self._uids[at]
        item: Any = frame
        if self.transform is not None:
            item = self.transform(frame)
        return (item, uid, frame_index) if self.with_ids else item

    def _read_frame(self, at: int, frame_index: int) -> NDArray[np.generic] | bytes:
        uid = self._uids[at]
        if self._paths:
            with self.archive.file(self._paths[at]) as instance:
                if not self.decoded:
                    return instance.frame(frame_index)
                return self._order_bytes(
                    instance.array(frame_index, raw=self.raw, copy=True, rescale=self.rescale)
                )
        if not self.decoded:
            return self.archive.frame(uid, frame_index)
        return self._order_bytes(
            self.archive.array(uid, frame_index, raw=self.raw, copy=True, rescale=self.rescale)
        )

    def _order_bytes(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        if self.native_byte_order and not pixels.dtype.isnative:
            return pixels.astype(pixels.dtype.newbyteorder("="))
        return pixels

    def split(
        self,
        fractions: Sequence[float],
        *,
        by: Literal["patient", "study"] = "patient",
        seed: int = 0,
    ) -> list[FrameDataset]:
        """Return datasets that share no patient, or no study.

        Parameters
        ----------
        fractions : sequence of float
            Part of the patients or studies that each dataset gets, such as (0.8, 0.1, 0.1).
        by : {"patient", "study"}
            What is not divided. Patients differ in (0010,0020) Patient ID and, where all studies
            with an ID name one, in (0010,0021) Issuer of Patient ID; a study without an ID is a
            patient. No header is read where the index keeps PatientID, else one a study.
        seed : int
            The same seed gives the same split of the same archive.

        Raises
        ------
        ValueError
            A fraction is negative, they are more than 1 together, or `by` has no meaning.
        """
        check_choice("by", by, ("patient", "study"))
        if not fractions or min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
            raise ValueError(f"fractions are at least 0 and at most 1 together, not {fractions}")
        records = [record for record, kept in self._walk_selection() if kept]
        groups: list[Group] = [(record.study_instance_uid,) for record in records]
        if by == "patient":
            known: Known = self.__dict__.setdefault("_patients", {})
            groups = group_by_patient(self.archive, records, known)
        names = sorted(set(groups))
        random.Random(seed).shuffle(names)
        parts: list[FrameDataset] = []
        start, total = 0, 0.0
        for fraction in fractions:
            total += fraction
            end = min(len(names), round(total * len(names)))
            chosen = set(names[start:end])
            parts.append(self._restrict([name in chosen for name in groups]))
            start = end
        return parts

    def _walk_selection(self) -> Iterator[tuple[InstanceRecord, bool]]:
        """Yield each record of the selection, and whether it is in this part of it."""
        for at, record in enumerate(select_records(self.archive, **self._selection)):
            yield record, self._mask is None or bool(self._mask[at])

    def _restrict(self, kept: list[bool]) -> FrameDataset:
        """Return a dataset of some of the instances."""
        part = object.__new__(FrameDataset)
        part.__dict__.update(self.__dict__)
        part.skipped = {}
        chosen = iter(kept)
        mask = bytes(is_in and next(chosen) for _, is_in in self._walk_selection())
        part._mask = mask
        part._take(record for record, is_in in part._walk_selection() if is_in)
        return part

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_patients", None)
        if len(self._uids) > _PICKLED_WHOLE and self._selection["sop_instance_uids"] is None:
            for name in ("_uids", "_ends", "_paths"):
                state.pop(name)
            state["_mask"] = None if self._mask is None else _pack_mask(self._mask)
            state["_digest"] = self._digest_uids()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        digest = state.pop("_digest", None)
        self.__dict__.update(state)
        if digest is None:
            return
        if self._mask is not None:
            self._mask = _unpack_mask(self._mask)
        self._take(record for record, is_in in self._walk_selection() if is_in)
        if self._digest_uids() != digest:
            raise StaleIndexError(
                "the index was rebuilt while the dataset was on its way to another process",
                path=self.archive.path,
            )

    def _digest_uids(self) -> bytes:
        digest = hashlib.sha256(self._ends.tobytes())
        digest.update("\0".join(self._uids).encode())
        return digest.digest()


def _pack_mask(mask: bytes) -> bytes:
    """Return a mask of one byte an instance as its length and one bit each."""
    packed = bytearray((len(mask) + 7) // 8)
    for at, kept in enumerate(mask):
        packed[at // 8] |= kept << at % 8
    return len(mask).to_bytes(8, "little") + packed


def _unpack_mask(packed: bytes) -> bytes:
    count = int.from_bytes(packed[:8], "little")
    return bytes(packed[8 + at // 8] >> at % 8 & 1 for at in range(count))


def select_records(
    archive: Archive,
    *,
    study_instance_uid: str | None,
    series_instance_uid: str | None,
    sop_instance_uids: list[str] | None,
    order: Order,
    duplicates: Duplicates,
) -> list[InstanceRecord]:
    """Return records of instances with frames, in the order that a FrameDataset has them."""
    records = list(
        archive.instances(
            study_instance_uid=study_instance_uid, series_instance_uid=series_instance_uid
        )
    )
    chosen = select_newest(records, duplicates, archive.path)
    if sop_instance_uids is None:
        return order_records(chosen, order)
    by_uid: dict[str, list[InstanceRecord]] = {}
    for record in chosen:
        by_uid.setdefault(record.sop_instance_uid, []).append(record)
    found: list[InstanceRecord] = []
    for uid in sop_instance_uids:
        if uid not in by_uid:
            raise InstanceNotFoundError(
                f"no instance {uid!r} with frames in the selection", path=archive.path
            )
        found += by_uid[uid]
    return found
