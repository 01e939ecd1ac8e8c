"""The part of `Archive` that reads many frames: file by file, or from a bucket many at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar, overload

from mmindex.errors import MissingFileError, MMIndexError, StaleIndexError
from mmindex.index.instance_names import InstanceName
from mmindex.model import is_url
from mmindex.read.instance import Instance
from mmindex.read.order import check_choice

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray

    from mmindex.read.ahead import FramesAhead

Read = TypeVar("Read")
_FILES_AT_ONCE = 16  # of a bucket


class Batches:
    """The part of `Archive` that reads frames of many instances."""

    root: str
    _retry: Callable[[InstanceName, Callable[[Instance], Read]], Read]
    _keep_open: Callable[[InstanceName], Instance]
    _read_pixels_once: Callable[..., NDArray[np.generic] | None]

    @property
    def is_remote(self) -> bool:
        """Whether the archive's files are objects of a store or of a web server."""
        return is_url(self.root)

    def frames(self, pairs: Iterable[tuple[InstanceName, int]]) -> list[bytes]:
        """Return frames as stored, in the order of the (SOP Instance UID, frame index) pairs.

        Frames are read file by file and in the order of the file, neighbours at once; of a bucket,
        many files at the same time.

        Raises
        ------
        MMIndexError
            As `frame`, for one of the pairs that fail.
        """
        wanted = list(pairs)
        found: list[bytes] = [b""] * len(wanted)
        by_uid: dict[InstanceName, list[int]] = {}
        for at, (uid, _) in enumerate(wanted):
            by_uid.setdefault(uid, []).append(at)

        def read(uid: InstanceName) -> None:
            places = by_uid[uid]
            indices = [wanted[at][1] for at in places]
            frames = self._retry(uid, partial(Instance.frames, frame_indices=indices))
            for at, frame in zip(places, frames, strict=True):
                found[at] = frame

        if self.is_remote and len(by_uid) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(_FILES_AT_ONCE, len(by_uid))) as threads:
                list(threads.map(read, by_uid))
            return found
        for uid in by_uid:
            read(uid)
        return found

    @overload
    def arrays(
        self,
        pairs: Iterable[tuple[InstanceName, int]],
        *,
        raw: bool = ...,
        rescale: bool = ...,
        executor: Executor | None = ...,
        threads: int | None = ...,
        out: NDArray[np.generic] | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> NDArray[np.generic]: ...

    @overload
    def arrays(
        self,
        pairs: Iterable[tuple[InstanceName, int]],
        *,
        raw: bool = ...,
        rescale: bool = ...,
        executor: Executor | None = ...,
        threads: int | None = ...,
        out: NDArray[np.generic] | None = ...,
        on_error: Literal["skip"],
    ) -> tuple[NDArray[np.generic], dict[int, MMIndexError]]: ...

    def arrays(
        self,
        pairs: Iterable[tuple[InstanceName, int]],
        *,
        raw: bool = False,
        rescale: bool = False,
        executor: Executor | None = None,
        threads: int | None = None,
        out: NDArray[np.generic] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> NDArray[np.generic] | tuple[NDArray[np.generic], dict[int, MMIndexError]]:
        """Return the decoded pixels of frames of one shape, stacked, in the order of the pairs.

        Parameters
        ----------
        pairs : iterable of (str, int)
            SOP Instance UID and frame index.
        raw, rescale, executor, threads, out, on_error
            As in `Instance.arrays`.

        Returns
        -------
        ndarray
            Shape (n, rows, columns[, samples]); its own, writable, or the beginning of `out`.
        dict
            With on_error="skip" only: the positions of pairs that were left out, and why.

        Raises
        ------
        DecodeError
            A frame cannot be decoded, or differs from the first one in shape or dtype; or frames
            do not fit in `out`.
        MMIndexError
            As `frame`.
        ValueError
            `out` is read-only, or `on_error` has no meaning.
        """
        from mmindex.read.pixels import stack_arrays

        check_choice("on_error", on_error, ("raise", "skip"))
        wanted = list(pairs)
        ahead = self.read_ahead(wanted)

        def decode(position: int, place: NDArray[np.generic] | None) -> NDArray[np.generic]:
            copy = place is None
            if ahead is not None:
                try:
                    return ahead.array(position, raw=raw, rescale=rescale, copy=copy, out=place)
                except (StaleIndexError, MissingFileError):
                    pass  # the file may have been replaced and indexed again
            uid, frame_index = wanted[position]
            return self.read_pixels(
                uid, frame_index, raw=raw, rescale=rescale, copy=copy, out=place
            )

        skip = on_error == "skip"
        stack, failures = stack_arrays(
            decode, len(wanted), executor=executor, threads=threads, out=out, skip=skip
        )
        return (stack, failures) if skip else stack

    def read_pixels(
        self,
        sop_instance_uid: InstanceName,
        frame_index: int,
        *,
        raw: bool = False,
        rescale: bool = False,
        copy: bool = False,
        out: NDArray[np.generic] | None = None,
    ) -> NDArray[np.generic]:
        """Return a frame as `array` does, in `out` if it has that shape and dtype."""
        found = self._read_pixels_once(
            sop_instance_uid, frame_index, raw=raw, rescale=rescale, copy=copy, out=out
        )
        if found is not None:
            return found
        from mmindex.read.pixels import read_array

        return self._retry(
            sop_instance_uid,
            lambda instance: read_array(
                instance, frame_index, raw=raw, rescale=rescale, copy=copy, out=out
            ),
        )

    def read_ahead(
        self, pairs: Sequence[tuple[InstanceName, int]]
    ) -> FramesAhead[InstanceName] | None:
        """Return what reads these frames in batches, of a remote archive; None of a local one."""
        if not self.is_remote:
            return None
        from mmindex.read.ahead import FramesAhead

        return FramesAhead(pairs, self._keep_open)
