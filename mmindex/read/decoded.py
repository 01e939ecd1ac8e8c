"""The part of Instance above bytes: arrays, its header as a Dataset, pictures.

The methods are thin; what they need is imported when they are called, since numpy and codecs take
longer to import than a thousand frames to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from mmindex.errors import MMIndexError, naming

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray
    from pydicom import Dataset

    from mmindex.read.instance import Instance

_MOST_LOST = 10_000  # frames that are named: Number of Frames of a damaged header may be any


class Decoded:
    """The part of `Instance` above its bytes."""

    __slots__ = ()

    def _instance(self) -> Instance:
        return cast("Instance", self)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype of `array`: as wide as Bits Allocated, or the next word.

        Raises
        ------
        DecodeError
            The attributes of the image contradict each other.
        """
        from mmindex.decode.stream import array_dtype

        instance = self._instance()
        return array_dtype(instance.record.image_pixel, big_endian=instance.record.big_endian)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """The shape of `array`: (rows, columns), or (rows, columns, samples)."""
        from mmindex.decode.stream import array_shape

        return array_shape(self._instance().record.image_pixel)

    @overload
    def arrays(
        self,
        frame_indices: Iterable[int] | None = None,
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
        frame_indices: Iterable[int] | None = None,
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
        frame_indices: Iterable[int] | None = None,
        *,
        raw: bool = False,
        rescale: bool = False,
        executor: Executor | None = None,
        threads: int | None = None,
        out: NDArray[np.generic] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> NDArray[np.generic] | tuple[NDArray[np.generic], dict[int, MMIndexError]]:
        """Return the decoded pixels of frames, stacked: of these frames, or of all.

        Parameters
        ----------
        raw, rescale : bool
            As in `array`.
        executor : concurrent.futures.Executor, optional
            Threads that decode at the same time.
        threads : int, optional
            How many threads decode where no executor is given, the calling one among them. Codecs
            of imagecodecs run beside each other; pydicom's plugins do not.
        out : ndarray, optional
            Where the pixels go: shape (n or more, rows, columns[, samples]), dtype as of `array`.
        on_error : {"raise", "skip"}
            Whether a frame that cannot be decoded raises, or is left out.

        Returns
        -------
        ndarray
            Shape (n, rows, columns[, samples]), in the order asked; its own, writable, or the
            beginning of `out`.
        dict
            With on_error="skip" only: frame indices that were left out, and why. Of the frames
            that the end of a file lost, at most the first 10,000 are listed.

        Raises
        ------
        DecodeError
            As `array`; or the frames asked for are none, all fail, or do not fit in `out`.
        ValueError
            `out` is read-only, or `on_error` has no meaning.
        """
        from mmindex.read.ahead import read_ahead
        from mmindex.read.order import check_choice
        from mmindex.read.pixels import read_array, stack_arrays

        check_choice("on_error", on_error, ("raise", "skip"))

        instance = self._instance()
        skip = on_error == "skip"
        lost: dict[int, MMIndexError] = {}
        if skip and frame_indices is None:
            indices, lost = _list_located(instance)
        else:
            indices = instance.list_indices(frame_indices)
        ahead = read_ahead([(instance, index) for index in indices])

        def decode(position: int, place: NDArray[np.generic] | None) -> NDArray[np.generic]:
            copy = place is None
            if ahead is not None:
                return ahead.array(position, raw=raw, rescale=rescale, copy=copy, out=place)
            index = indices[position]
            return read_array(instance, index, raw=raw, rescale=rescale, copy=copy, out=place)

        with naming(instance.path):
            stack, failures = stack_arrays(
                decode, len(indices), executor=executor, threads=threads, out=out, skip=skip
            )
        if skip:
            return stack, {indices[at]: error for at, error in failures.items()} | lost
        return stack

    def array(
        self,
        frame_index: int,
        *,
        raw: bool = False,
        copy: bool = False,
        rescale: bool = False,
    ) -> NDArray[np.generic]:
        """Return the decoded pixels of a frame, as `pydicom.pixels.pixel_array` does.

        Parameters
        ----------
        raw : bool
            Keep YBR_FULL and YBR_FULL_422; else they are converted to RGB.
        copy : bool
            Return a copy that can be written to.
        rescale : bool
            Return values in units, such as Hounsfield units: Modality LUT or rescale slope and
            intercept applied, the frame's own where it has some (PS3.3 C.11.1, C.7.6.16.2.9).

        Returns
        -------
        ndarray
            Shape (rows, columns), or (rows, columns, samples) of several samples a pixel;
            (u)int8 to (u)int64 as Bits Allocated and Pixel Representation say, uint8 for Bits
            Allocated 1, the next wider word for other bits, float32 or float64 for float pixel
            data; float32 if `rescale`. Native frames that need no conversion, those of Encapsulated
            Uncompressed too, are read-only and zero-copy; what `view` says of mapped memory holds.

        Raises
        ------
        DecodeError
            The frame cannot be decoded.
        MissingDependencyError
            No decoder for the transfer syntax is installed.
        FrameIndexError, TruncatedFrameError, StaleIndexError, MissingFileError, NoPixelDataError,
        NotAddressableError
            As `frame`.
        """
        from mmindex.read.pixels import read_array

        return read_array(self._instance(), frame_index, raw=raw, rescale=rescale, copy=copy)

    def dataset(self) -> Dataset:
        """Return the header: every element before the pixel data (a pydicom Dataset).

        Each call reads the bytes before the pixel data: keep a Dataset that is needed twice.

        Raises
        ------
        FormatError
            pydicom cannot read the header.
        StaleIndexError, MissingFileError
            As `frame`.
        """
        from mmindex.read.header import read_header

        instance = self._instance()
        with naming(instance.path):
            return read_header(instance)

    def to_dask(self) -> Any:
        """Return the decoded frames as a Dask array (n, rows, columns[, samples]), a chunk a frame.

        The instance must stay open until the array is computed, by threads of this process.

        Raises
        ------
        MissingDependencyError
            Dask is not installed.
        DecodeError
            The first frame cannot be decoded; of others, when the array is computed.
        """
        from mmindex.read.dask_array import make_instance_array

        return make_instance_array(self._instance())

    def frame_table(self) -> Mapping[str, NDArray[np.generic]]:
        """Return what each frame is, by name: one array a value, one row a frame, read-only.

        The values of Per-frame and Shared Functional Groups (PS3.3 C.7.6.16) and of the top level,
        as far as one frame has them: image_position_patient (n, 3) and image_orientation_patient
        (n, 6), segment_number, dimension_index_values, temporal_position_index, window_center,
        rescale_slope, real_world_value_slope, column_position_in_total_image_pixel_matrix and
        others, and `position` along the slice normal, in mm. Frames of a TILED_FULL image have
        tile, focal_plane, and segment or optical path by their order (C.7.6.17.3), as far as the
        groups have none. float64 with NaN, int64 with -2147483648, or str with "" where a frame has
        none. The header is read and walked once.

        Raises
        ------
        FormatError
            The functional groups break the rules of structure, are not one a frame, or have a
            value of another form; a TILED_FULL image has not as many frames as tiles; more than
            1,048,576 frames are declared and not all of them are in the file.
        StaleIndexError, MissingFileError
            As `frame`.
        """
        from mmindex.read.frame_values import keep_frame_table

        return keep_frame_table(self._instance())

    def find(self, *, tolerance: float = 1e-3, **wanted: object) -> NDArray[np.intp]:
        """Return the indices of the frames that have all of these values, in order.

        `instance.find(segment=3, position=-120.5)`: names are those of `frame_table`, or `segment`.

        Parameters
        ----------
        tolerance : float
            Largest difference of a decimal value, in its own unit.
        **wanted
            The values; a tuple where a frame has several.

        Raises
        ------
        ValueError
            No frame has a value of that name.
        FormatError, StaleIndexError, MissingFileError
            As `frame_table`.
        """
        from mmindex.read.frame_values import find_frames

        return find_frames(self.frame_table(), wanted, tolerance)

    def picture(
        self,
        frame_index: int,
        window: Literal["file", "auto"] | tuple[float, float] = "file",
        *,
        apply_palette: bool = True,
    ) -> NDArray[np.uint8]:
        """Return a frame as a viewer shows it: 8-bit gray, or RGB.

        Modality LUT or rescale, then VOI LUT or window (PS3.3 C.11.1, C.11.2); palettes, segmented
        ones, too (C.7.9); MONOCHROME1 inverted; a frame's own functional groups go first.

        Parameters
        ----------
        window : {"file", "auto"} or (center, width)
            The file's VOI LUT or first window, or "auto" where it has none, or one without a width
            above 0; a window by the values of the frame; or one in the units of the modality.
        apply_palette : bool
            Return colours of PALETTE COLOR; else indices, as gray.

        Returns
        -------
        ndarray of uint8
            Shape (rows, columns), or (rows, columns, 3).

        Raises
        ------
        DecodeError
            As `array`; or the samples are neither gray nor RGB, or a table is damaged.
        ValueError
            `window` is none of these.
        """
        from mmindex.read.pictures import read_picture

        instance = self._instance()
        with naming(instance.path):
            return read_picture(instance, frame_index, window, apply_palette=apply_palette)


def _list_located(instance: Instance) -> tuple[list[int], dict[int, MMIndexError]]:
    """Return the indices of the frames that a file has, and why it lacks others.

    Raises
    ------
    TruncatedFrameError
        The file has no frame at all.
    """
    frames = instance.record.frames
    located = frames.frames_located if len(instance) and frames is not None else 0
    if frames is None or not located:
        return instance.list_indices(None), {}  # or raises
    lost: dict[int, MMIndexError] = {}
    for frame_index in range(located, min(len(instance), located + _MOST_LOST)):
        try:
            frames.check_index(frame_index)
        except MMIndexError as error:
            lost[frame_index] = error.at(instance.path)
    return list(range(located)), lost
