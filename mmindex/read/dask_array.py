"""Frames as a Dask array, a chunk a frame (package dask, extra `dask`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from mmindex.errors import MissingDependencyError, naming
from mmindex.read.declared_frames import check_declared_frames

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmindex.read.instance import Instance


class Stack(Protocol):
    """Frames of one shape and type, by index."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, index: int, /) -> NDArray[np.generic]:
        """Return the pixels of a frame."""


class _InstanceStack:
    """The frames of an open instance."""

    def __init__(self, instance: Instance) -> None:
        with naming(instance.path):
            check_declared_frames(instance.record)
        first = instance.array(0)
        self.shape: tuple[int, ...] = (instance.number_of_frames, *first.shape)
        self.dtype: np.dtype[Any] = first.dtype
        self.read = instance.array


class _Frames:
    """The array that Dask slices: its frames are decoded when a slice is taken."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.shape, self.dtype = stack.shape, stack.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[np.generic]:
        import numpy as np

        # Dask joins a chunk's slice and an index within.
        wanted: int | range = range(self.shape[0])[key[0]]
        if isinstance(wanted, int):
            frame: NDArray[np.generic] = self._stack.read(wanted)[key[1:]]
            return frame
        if not wanted:
            return np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *key[1:])]
        frames = np.stack([self._stack.read(index) for index in wanted])
        stack: NDArray[np.generic] = frames[(slice(None), *key[1:])]
        return stack


def make_instance_array(instance: Instance) -> Any:
    """Return the frames; see `Instance.to_dask`."""
    return make_dask_array(_InstanceStack(instance))


def make_dask_array(stack: Stack) -> Any:
    """Return frames as a Dask array.

    Raises
    ------
    MissingDependencyError
        Dask is not installed.
    """
    try:
        import dask.array
    except ImportError:
        raise MissingDependencyError("Dask is missing: pip install 'mmindex[dask]'") from None
    frames = _Frames(stack)
    chunks = (1, *frames.shape[1:])
    return dask.array.from_array(frames, chunks=chunks, name=False, asarray=False)
