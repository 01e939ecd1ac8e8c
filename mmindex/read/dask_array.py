"""The frames of an instance as a Dask array, a chunk a frame (package dask, extra `dask`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmindex.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance


class _Frames:
    """What Dask slices: the frames, decoded when a slice is taken."""

    def __init__(self, instance: Instance) -> None:
        first = instance.array(0)
        self._instance = instance
        self.shape = (instance.number_of_frames, *first.shape)
        self.dtype = first.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.generic]:
        wanted: int | range = range(self.shape[0])[
            key[0]
        ]  # Dask joins a chunk's slice and an index within
        if isinstance(wanted, int):
            frame: NDArray[np.generic] = self._instance.array(wanted)[key[1:]]
            return frame
        stack: NDArray[np.generic] = self._instance.arrays(wanted)[(slice(None), *key[1:])]
        return stack


def make_dask_array(instance: Instance) -> Any:
    """Return the frames; see `Instance.to_dask`."""
    try:
        import dask.array
    except ImportError:
        raise MissingDependencyError("Dask is missing: pip install 'mmindex[dask]'") from None
    frames = _Frames(instance)
    chunks = (1, *frames.shape[1:])
    return dask.array.from_array(frames, chunks=chunks, name=False, asarray=False)
