"""FrameDataset: the frames of many instances as one sequence, for training loops and Dask."""

from __future__ import annotations

import operator
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from mmindex.errors import (
    FormatError,
    MissingFileError,
    MMIndexError,
    StaleIndexError,
    naming,
)
from mmindex.index.instance_names import InstanceName, means
from mmindex.read.archive import Archive
from mmindex.read.declared_frames import check_declared
from mmindex.read.items import Items
from mmindex.read.order import DUPLICATES, ORDERS, Duplicates, Order, check_choice, overtaken
from mmindex.read.patients import Group, Known, group_by_patient
from mmindex.read.selection import Selection

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance

_PICKLED_WHOLE = 256  # instances whose UIDs are pickled; of more, how they were selected


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
        Which of several files with one SOP Instance UID: the one that the archive serves, each of
        them, or InstanceNotFoundError.
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
        if order is None or sop_instance_uids is not None:
            order = "uid" if series_instance_uid is None else "position"
        selection = Selection(study_instance_uid, series_instance_uid, order, duplicates)
        if sop_instance_uids is not None:
            selection = selection.choose(archive, list(sop_instance_uids))
        self._select(selection)

    def _select(self, selection: Selection) -> None:
        """Keep a selection, and what finding an item needs of its records."""
        self._selection = selection
        records = selection.list_records(self.archive)
        self._items = Items(records, by_path=selection.duplicates == "all")

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        kind = "arrays" if self.decoded else "bytes"
        frames, instances = len(self), len(self._items.uids)
        return (
            f"<FrameDataset: {frames} frames of {instances} instances as {kind}, {self.archive!r}>"
        )

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def locate(self, index: int) -> tuple[str, int]:
        """Return SOP Instance UID and frame index of an item.

        Where files of several studies have this UID, the item is of the selected study or series;
        `Archive.frame` gives the frame of the file that changed last.

        Raises
        ------
        FrameIndexError
            There is no such item; a negative index does not count from the end.
        """
        at, frame_index = self._items.find(index)
        return self._items.uids[at], frame_index

    def _locate(self, index: int) -> tuple[InstanceName, int]:
        at, frame_index = self._items.find(index)
        return self._name(at), frame_index

    def _name(self, at: int) -> InstanceName:
        return self._selection.name(self._items.uids[at])

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        """Return an item; raises what `Archive.array` and `Archive.frame` raise."""
        if self.on_error == "raise":
            return self._read(index)
        self._items.find(index)
        at = first = operator.index(index)
        rounds = 0
        while rounds < 2 and not (rounds and at >= first):
            if at not in self.skipped:
                try:
                    return self._read(at)
                except MMIndexError as error:
                    self.skipped[at] = error.with_traceback(None)  # which holds what it passed
                    warnings.warn(f"item {at} is skipped: {error}", RuntimeWarning, stacklevel=2)
            following = self._items.next_after(at)
            rounds, at = rounds + (following <= at), following
        raise FormatError("no frame of the dataset can be read", path=self.archive.path)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items of a batch, as a DataLoader asks; of a bucket, frames are read at once.

        Raises what `__getitem__` raises.
        """
        ahead = self.archive.read_ahead([self._locate(index) for index in indices])
        if ahead is None or self._items.paths:
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

    def arrays(
        self,
        indices: Iterable[int] | None = None,
        *,
        executor: Executor | None = None,
        threads: int | None = None,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        """Return the decoded pixels of items, stacked: of these, or of all; of a series, a volume.

        `raw`, `rescale` and `native_byte_order` are those of the dataset; `decoded`, `transform`
        and `with_ids` have no effect. `Archive.volume` compares the places of slices, too.

        Parameters
        ----------
        indices : iterable of int, optional
            The items, in this order.
        executor, threads, out
            As in `Instance.arrays`.

        Returns
        -------
        ndarray
            Shape (n, rows, columns[, samples]); its own, writable, or the beginning of `out`. With
            on_error="skip" without the frames that failed, which get an entry in `skipped`.

        Raises
        ------
        FrameIndexError
            There is no such item.
        DecodeError
            A frame cannot be decoded, or differs from the first one in shape or dtype; or frames
            do not fit in `out`.
        FormatError
            All are asked for, and over 1,048,576 are declared that are not all there.
        MMIndexError
            As `Archive.frame`.
        """
        from mmindex.read.pixels import stack_arrays

        if indices is None:
            with naming(self.archive.path):
                check_declared(len(self), self._items.located)
        wanted = range(len(self)) if indices is None else list(indices)
        ahead = None
        if self.archive.is_remote and not self._items.paths:
            ahead = self.archive.read_ahead([self._locate(index) for index in wanted])

        def decode(position: int, place: NDArray[np.generic] | None) -> NDArray[np.generic]:
            if ahead is not None:
                with suppress(MissingFileError, StaleIndexError):  # it may have been replaced
                    return self._order_bytes(
                        ahead.array(position, raw=self.raw, rescale=self.rescale, out=place)
                    )
            return self._read_pixels(*self._items.find(wanted[position]), place)

        skip = self.on_error == "skip"
        stack, failures = stack_arrays(
            decode, len(wanted), executor=executor, threads=threads, out=out, skip=skip
        )
        self.skipped.update((wanted[at], error) for at, error in failures.items())
        return stack

    def _read(self, index: int) -> Any:
        return self._finish(self._read_frame(*self._items.find(index)), index)

    def _finish(self, frame: NDArray[np.generic] | bytes, index: int) -> Any:
        """Return the item that a frame becomes."""
        item: Any = frame if self.transform is None else self.transform(frame)
        return (item, *self.locate(index)) if self.with_ids else item

    def _read_frame(self, at: int, frame_index: int) -> NDArray[np.generic] | bytes:
        if self.decoded:
            return self._read_pixels(at, frame_index)
        if self._items.paths:
            with self._open_file(at) as instance:
                return instance.frame(frame_index)
        return self.archive.frame(self._name(at), frame_index)

    def _read_pixels(
        self, at: int, frame_index: int, out: NDArray[np.generic] | None = None
    ) -> NDArray[np.generic]:
        raw, rescale, copy = self.raw, self.rescale, out is None
        if self._items.paths:
            from mmindex.read.pixels import read_array

            with self._open_file(at) as instance:
                pixels = read_array(
                    instance, frame_index, raw=raw, rescale=rescale, copy=copy, out=out
                )
        else:
            pixels = self.archive.read_pixels(
                self._name(at), frame_index, raw=raw, rescale=rescale, copy=copy, out=out
            )
        return self._order_bytes(pixels)

    def _open_file(self, at: int) -> Instance:
        """Return the instance in the file that was selected; files may have changed their names."""
        instance = self.archive.file(self._items.paths[at])
        if not means(self._name(at), instance.record):
            instance.close()
            raise overtaken(self.archive.path)
        return instance

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
            Share of the patients or studies that each dataset gets, such as (0.8, 0.1, 0.1).
        by : {"patient", "study"}
            What stays whole. Patients differ in (0010,0020) Patient ID and, where all studies
            with an ID name one, in (0010,0021) Issuer of Patient ID; a study without an ID is a
            patient. No header is read where the index keeps PatientID, else one a study.
        seed : int
            The same seed gives the same split of the same archive.

        Raises
        ------
        StaleIndexError
            The archive's instances changed since they were selected.
        MMIndexError
            By patient, the header of a study's first file cannot be read, or is stale, whatever
            `on_error` says: a study of an unknown patient could be in two parts. An index that
            keeps PatientID needs no header.
        ValueError
            A fraction is negative, their sum is over 1, or `by` has no meaning.
        """
        check_choice("by", by, ("patient", "study"))
        if not fractions or min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
            raise ValueError(
                f"fractions: expected none below 0, their sum at most 1, found {fractions}"
            )
        records = self._selection.list_records(self.archive)
        if [record.sop_instance_uid for record in records] != self._items.uids:
            raise overtaken(self.archive.path)
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
            part = object.__new__(FrameDataset)
            part.__dict__.update(self.__dict__)
            part.skipped = {}
            kept = (at for at, name in enumerate(groups) if name in chosen)
            part._select(self._selection.narrow(kept))
            parts.append(part)
            start = end
        return parts

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_patients", None)
        state["skipped"] = {}
        if len(self._items.uids) > _PICKLED_WHOLE:
            state.pop("_items")
            state["_digest"] = self._items.digest()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        digest = state.pop("_digest", None)
        self.__dict__.update(state)
        if digest is None:
            return
        self._select(self._selection)
        if self._items.digest() != digest:
            raise overtaken(self.archive.path)
