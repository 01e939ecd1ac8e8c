"""FrameDataset: the frames of many instances as one sequence, for training loops and Dask."""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mmindex.errors import FrameIndexError, InstanceNotFoundError
from mmindex.model import InstanceRecord
from mmindex.read.archive import Archive, is_newer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FrameDataset(Sequence["NDArray[np.generic] | bytes"]):
    """Every frame of an archive, or of some of its instances, by one running number.

    A plain sequence: what `torch.utils.data.DataLoader` asks of a map-style dataset, without
    torch. Item i costs the same whatever the number of instances. It pickles as the archive's
    path and the selection, and survives forks.

    Parameters
    ----------
    archive : Archive
        An open archive.
    study_instance_uid, series_instance_uid : str, optional
        Only instances of this study, of this series.
    sop_instance_uids : iterable of str, optional
        These instances, in this order; else all, in the order of their UIDs.
    decoded : bool
        Whether items are arrays, each its own and writable (as `Instance.array` gives them), or
        bytes as stored.
    raw : bool
        As in `Instance.array`.

    Raises
    ------
    InstanceNotFoundError
        The archive has no instance with frames of one of the given UIDs.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        study_instance_uid: str | None = None,
        series_instance_uid: str | None = None,
        sop_instance_uids: Iterable[str] | None = None,
        decoded: bool = True,
        raw: bool = False,
    ) -> None:
        self.archive = archive
        self.decoded = decoded
        self.raw = raw
        newest: dict[
            str, InstanceRecord
        ] = {}  # of several files with a UID, the one that is served
        for record in archive.instances(
            study_instance_uid=study_instance_uid, series_instance_uid=series_instance_uid
        ):
            uid = record.sop_instance_uid
            if uid and (uid not in newest or not is_newer(newest[uid], record)):
                newest[uid] = record
        counts = {uid: record.number_of_frames for uid, record in newest.items()}
        selected = sorted(counts) if sop_instance_uids is None else list(sop_instance_uids)
        self._uids: list[str] = []
        self._ends = array("q")  # running number after each instance's last frame
        end = 0
        for uid in selected:
            if uid not in counts:
                raise InstanceNotFoundError(
                    f"no instance {uid!r} with frames in the selection", path=archive.path
                )
            end += counts[uid]
            self._uids.append(uid)
            self._ends.append(end)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[NDArray[np.generic] | bytes]:
        return (self[index] for index in range(len(self)))

    def locate(self, index: int) -> tuple[str, int]:
        """Return SOP Instance UID and frame index of an item.

        Raises
        ------
        FrameIndexError
            There is no such item; a negative index does not count from the end.
        """
        index = operator.index(index)  # numpy 1 makes a float of uint64 and int
        if not 0 <= index < len(self):
            raise FrameIndexError(f"item {index} is out of range: there are {len(self)} frames")
        at = bisect_right(self._ends, index)
        return self._uids[at], index - (self._ends[at - 1] if at else 0)

    def __getitem__(self, index: int) -> NDArray[np.generic] | bytes:  # type: ignore[override]
        """Return a frame; raises what `Archive.array` and `Archive.frame` raise."""
        uid, frame_index = self.locate(index)
        if self.decoded:
            return self.archive.array(uid, frame_index, raw=self.raw, copy=True)
        return self.archive.frame(uid, frame_index)
