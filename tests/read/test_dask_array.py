"""An instance as a Dask array has the pixels of its frames."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_bytes import native_file

import mmindex
from mmindex.errors import TruncatedFrameError

dask_array = pytest.importorskip("dask.array")
PIXELS = np.arange(5 * 2 * 3, dtype="<u2").reshape(5, 2, 3)


def open_pixels(data: bytes) -> mmindex.Instance:
    file = native_file(data, rows=2, columns=3, bits=16, number_of_frames=5, length=60)
    return mmindex.open_file(file)


def test_a_dask_array_has_a_chunk_a_frame():
    """Whole and in slices, computed by threads."""
    with open_pixels(PIXELS.tobytes()) as instance:
        array = instance.to_dask()
        assert isinstance(array, dask_array.Array)
        assert array.chunks == ((1,) * 5, (2,), (3,))
        assert array.dtype == PIXELS.dtype
        assert np.array_equal(array.compute(scheduler="threads"), PIXELS)
        part = array[1:4, 1, ::2].compute(scheduler="synchronous")
        assert np.array_equal(part, PIXELS[1:4, 1, ::2])
        chosen = array[[4, 0], :, 1].compute(scheduler="synchronous")
        assert np.array_equal(chosen, PIXELS[[4, 0], :, 1])


def test_a_frame_that_is_cut_raises_when_it_is_computed():
    """The others stay readable."""
    with open_pixels(PIXELS.tobytes()[:-2]) as instance:
        array = instance.to_dask()
        assert np.array_equal(array[:4].compute(scheduler="synchronous"), PIXELS[:4])
        with pytest.raises(TruncatedFrameError):
            array[4].compute(scheduler="synchronous")
