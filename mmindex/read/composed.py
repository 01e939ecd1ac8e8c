"""Several instances of an Archive as one: slides, concatenations, volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from mmindex.read.archive import Archive
    from mmindex.read.concatenation import Concatenation
    from mmindex.read.slide import Slide
    from mmindex.read.volume import Volume


class Composed:
    """The part of `Archive` that joins instances."""

    __slots__ = ()

    def _archive(self) -> Archive:
        return cast("Archive", self)

    def slide(self, series_instance_uid: str) -> Slide:
        """Return the whole slide image of a series, open; see `Slide` and `mmindex.open_slide`.

        Raises
        ------
        InstanceNotFoundError
            The archive has no such series.
        FormatError
            As `mmindex.open_slide`; or the series is in several studies.
        """
        from mmindex.read.open_slide import open_series

        return open_series(self._archive(), series_instance_uid)

    def concatenation(
        self, concatenation_uid: str, *, series_instance_uid: str | None = None
    ) -> Concatenation:
        """Return the instances of a concatenation as one sequence of frames; see `Concatenation`.

        Looks at the records of all the archive unless the series is given.

        Raises
        ------
        InstanceNotFoundError
            The archive has no such concatenation, or no such series.
        FormatError
            A part is missing or overlaps another one; or parts are of several series, of
            which one may be given.
        StaleIndexError, MissingFileError
            As by UID.
        """
        from mmindex.read.concatenation import open_concatenation

        return open_concatenation(self._archive(), concatenation_uid, series_instance_uid)

    def to_dask(self, series_instance_uid: str) -> Any:
        """Return the frames of a series as a Dask array (n, rows, columns[, samples]).

        A chunk is a frame, in the order that a `FrameDataset` of the series has them: by position,
        then Instance Number. The archive must stay open until the array is computed; other
        processes open it for themselves.

        Raises
        ------
        MissingDependencyError
            Dask is not installed.
        InstanceNotFoundError
            The archive has no such series.
        FormatError
            The frames differ in rows, columns, samples or bits; the series is in several studies.
        DecodeError
            The first frame cannot be decoded; of others, when the array is computed.
        """
        from mmindex.read.dask_array import make_dask_array
        from mmindex.read.frame_stack import stack_series

        return make_dask_array(stack_series(self._archive(), series_instance_uid))

    def volume(
        self, series_instance_uid: str, *, rescale: bool = False, threads: int | None = None
    ) -> Volume:
        """Return the slices of a series as one array with its place in space; see `Volume`.

        Parameters
        ----------
        rescale : bool
            As in `Instance.array`.
        threads : int, optional
            As in `Instance.arrays`.

        Raises
        ------
        InstanceNotFoundError
            The archive has no such series.
        FormatError
            The slices make no volume: one is missing, double, or not parallel to the others, or
            gives no position; or the series is in several studies.
        """
        from mmindex.read.volume import read_volume

        return read_volume(self._archive(), series_instance_uid, rescale=rescale, threads=threads)
