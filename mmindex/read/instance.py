"""Instance: the frames of one file as bytes, views, ranges and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmindex.errors import (
    MMIndexError,
    NoPixelDataError,
    NotAddressableError,
    NotContiguousError,
    TruncatedFrameError,
    naming,
)
from mmindex.frame_table import ByteRange, FrameTable, Layout
from mmindex.model import InstanceRecord, Status
from mmindex.read.decoded import Decoded
from mmindex.read.frame_sequence import FrameSequence
from mmindex.read.instance_file import CLOSED, InstanceFile, names_path
from mmindex.read.place import Place, find_place, read_trusted, walk_fragments
from mmindex.sources.base import ByteSource


class Instance(InstanceFile, Decoded, FrameSequence):
    """One SOP instance, open: a sequence of its frames as stored.

    `instance[i]` is `instance.frame(i)`; a negative or too large index raises FrameIndexError.
    Frame indices are 0-based. An instance serves many threads at once.

    Attributes
    ----------
    record : InstanceRecord
        What was found when the file was scanned.
    path : str or None
        The file; None where a file object had no name.
    """

    def __init__(self, record: InstanceRecord, source: ByteSource) -> None:
        if not record.status.is_instance:
            from mmindex.read.recorded_error import recorded_error

            raise recorded_error(record, source.name)
        self.record = record
        self.path = source.name
        self._file = source
        self._source: ByteSource | None = None if record.status is Status.DEFLATED else source
        self._frames = record.frames if record.status.has_frames else None

    def close(self) -> None:
        """Release the file. Views that are still in use keep it mapped."""
        self._source = None
        self._frames = None
        self._file = CLOSED

    @property
    def number_of_frames(self) -> int:
        """(0028,0008) Number of Frames, checked against the bytes (PS3.3 C.7.6.6)."""
        return self.record.number_of_frames

    def __len__(self) -> int:
        return self.record.number_of_frames if self.record.status.has_frames else 0

    def __repr__(self) -> str:
        record = self.record
        image, count = record.image_pixel, record.number_of_frames
        has = record.status.value
        if record.status.has_frames:
            frames = "1 frame" if count == 1 else f"{count} frames"
            has = f"{frames} of {image.rows} x {image.columns}"
        return f"<Instance {record.sop_instance_uid or 'without UID'} in {self.path!r}: {has}>"

    def frame(self, frame_index: int) -> bytes:
        """Return a frame as stored: an encapsulated one's fragments joined, a native one's bytes.

        A native frame that does not begin on a byte (Bits Allocated 1, PS3.5 8.2) is shifted to
        begin at bit 0 of the first byte; the bits after its last one are zero.

        Raises
        ------
        FrameIndexError
            There is no such frame.
        TruncatedFrameError
            The frame runs past the end of the file.
        StaleIndexError, MissingFileError
            The file or its record changed, or the file is gone.
        NoPixelDataError, NotAddressableError
            The instance has no pixel data, or one video stream for all frames.
        """
        frames, source = self._frames, self._source
        if frames is None or source is None:
            frames, source = self._require_frames(), self._require_source()
        try:
            layout = frames.layout
            if layout is _TRUSTED:
                return read_trusted(self.record, frames, source, frame_index)
            if layout is _FRAGMENTS:
                return source.read_joined(frames.fragment_ranges(frame_index))
            contiguous = frames.contiguous_range(frame_index)
            if contiguous is not None:  # most frames need no Place, which takes time to make
                offset, length = contiguous
                return source.read(offset, length)
            return find_place(self.record, frames, frame_index).read(source)
        except MMIndexError as error:  # `naming` takes a third of the time of a short frame
            error.at(self.path)
            raise

    @names_path
    def frames(self, frame_indices: Iterable[int] | None = None) -> list[bytes]:
        """Return frames as stored, in the order asked: these, or all.

        Frames are read in the order of the file, neighbours at once.

        Raises
        ------
        FrameIndexError, TruncatedFrameError, StaleIndexError, MissingFileError, NoPixelDataError,
        NotAddressableError
            As `frame`.
        """
        table, source = self._require_frames(), self._require_source()
        indices = self.list_indices(frame_indices)
        ranges: list[tuple[int, int]] = []
        places: dict[int, Place] = {}  # of the frames that are no run of bytes
        for wanted, frame_index in enumerate(indices):
            contiguous = None
            if table.layout is not _FRAGMENTS:
                contiguous = table.contiguous_range(frame_index)
            if contiguous is None:
                places[wanted] = place = find_place(self.record, table, frame_index)
                contiguous = place.offset, place.length
            ranges.append(contiguous)
        found = source.read_many(ranges)
        for wanted, place in places.items():
            found[wanted] = place.join(found[wanted])
        return found

    def view(self, frame_index: int) -> memoryview:
        """Return a frame as a read-only view of the mapped file (uint8, one dimension), zero-copy.

        The file is checked when it is mapped, and again when `revalidate_after` seconds have
        passed. A view is memory that the file backs: if the file is cut short, touching the lost
        part of a view kills the process (SIGBUS). Where files may change, use `frame`.

        Raises
        ------
        NotContiguousError
            The frame lies in several pieces or off byte boundaries.
        FrameIndexError, TruncatedFrameError, StaleIndexError, MissingFileError, NoPixelDataError,
        NotAddressableError
            As `frame`.
        """
        frames, source = self._frames, self._source
        if frames is None or source is None:
            frames, source = self._require_frames(), self._require_source()
        try:
            contiguous = frames.contiguous_range(frame_index)
            if contiguous is None:
                place = find_place(self.record, frames, frame_index)
                source = place.hold(source)
                contiguous = place.find_contiguous(source)
            if contiguous is not None:
                return source.view(*contiguous)
        except MMIndexError as error:
            error.at(self.path)
            raise
        why = "off byte boundaries" if frames.frame_bits else "in several fragments"
        raise NotContiguousError(
            f"frame index {frame_index} lies {why}: use frame() or fragments()", path=self.path
        )

    @names_path
    def fragments(self, frame_index: int) -> tuple[memoryview, ...]:
        """Return the fragments of a frame as views (uint8), zero-copy; a native frame is one.

        Raises
        ------
        NotContiguousError
            The frame is native and lies off byte boundaries.
        FrameIndexError, TruncatedFrameError, StaleIndexError, MissingFileError, NoPixelDataError,
        NotAddressableError
            As `frame`. What `view` says of mapped memory holds here.
        """
        frames = self._require_frames()
        if frames.frame_bits:
            return (self.view(frame_index),)
        place = find_place(self.record, frames, frame_index)
        source = place.hold(self._require_source())
        return tuple(source.view(*piece) for piece in place.find_ranges(source))

    def all_fragments(self) -> Iterator[memoryview]:
        """Yield every fragment of the pixel data (uint8), zero-copy, whatever frame it belongs to.

        Includes those of a video stream; of native pixel data, the frames.

        Raises
        ------
        NoPixelDataError, NotContiguousError, TruncatedFrameError, StaleIndexError, MissingFileError
            As `view`. What that says of mapped memory holds here.
        """
        table = self.record.frames
        if table is None or table.frame_bits:
            yield from map(self.view, range(self._require_frames().number_of_frames))
            return
        source = self._require_source()
        with naming(self.path):
            if source.at_once > 1:
                from mmindex.read.ahead import walk_far_fragments

                yield from walk_far_fragments(self, table)
                return
            yield from (source.view(*piece) for piece in walk_fragments(self.record, table, source))

    @names_path
    def byte_ranges(self, frame_index: int) -> tuple[ByteRange, ...]:
        """Return where a frame's bytes are in the file: one range a fragment.

        Ranges of a member of a tar or zip container count in the container, which is `file_path`.
        A native frame off byte boundaries gives the bytes that cover its bits (PS3.5 8.2).

        Raises
        ------
        NotAddressableError
            The data set is deflated, or the file is in its container: the frame has no bytes of
            its own in the file.
        TruncatedFrameError
            The frame runs past the end of the file.
        FrameIndexError, NoPixelDataError
            As `frame`.
        """
        frames = self._require_frames()
        if self.record.status is Status.DEFLATED:
            what = "data set" if self.record.member is None else "file in the container"
            raise NotAddressableError(
                f"the {what} is deflated as a whole: frames have no byte ranges in the file",
                path=self.path,
            )
        place = find_place(self.record, frames, frame_index)
        ranges = place.find_ranges(self._require_source())
        size = self._file.first + self._file.size
        end = ranges[-1].offset + ranges[-1].length
        if end > size:
            raise TruncatedFrameError(
                f"the frame runs past the end of the file: expected {end} bytes, found {size}",
                path=self.path,
                offset=ranges[0].offset,
            )
        return ranges

    @property
    def stream_length(self) -> int:
        """Length of a video stream, in bytes (status "stream").

        Raises
        ------
        NotAddressableError
            The instance has no video stream.
        """
        return sum(piece.length for piece in self._stream_ranges())

    def stream(self) -> Iterator[bytes]:
        """Yield the fragments of a video stream; joined, they are the bit stream (PS3.5 8.2.5).

        Raises
        ------
        NotAddressableError
            The instance has no video stream.
        TruncatedFrameError, StaleIndexError, MissingFileError
            As `frame`.
        """
        ranges, source = self._stream_ranges(), self._require_source()
        if source.at_once == 1:
            return (source.read(*piece) for piece in ranges)
        from mmindex.read.ahead import walk_pieces

        return walk_pieces(source, ranges)

    def _walk(self, frame_indices: range) -> Iterator[bytes]:
        """Yield frames one after the other, those of a store in batches."""
        if self._source is None or self._source.at_once == 1:
            return super()._walk(frame_indices)
        from mmindex.read.ahead import walk_frames

        return walk_frames(self, frame_indices)

    def _stream_ranges(self) -> tuple[ByteRange, ...]:
        if self.record.status is not Status.STREAM or self.record.frames is None:
            raise NotAddressableError("the instance has no video stream", path=self.path)
        return self.record.frames.fragment_ranges(0)

    def list_indices(self, frame_indices: Iterable[int] | None) -> list[int]:
        """Return frame indices as a list: those given or, for None, all frames.

        Raises
        ------
        TruncatedFrameError
            All frames are meant, and the last one runs past the end of the file.
        """
        if frame_indices is not None:
            return list(frame_indices)
        if count := len(self):
            self._require_frames().check_index(count - 1)
        return list(range(count))

    def _require_frames(self) -> FrameTable:
        """Return the frame table, or raise why there is none."""
        if self._frames is not None:
            return self._frames
        if self._file is CLOSED:
            raise ValueError("the instance is closed")
        if self.record.status is Status.STREAM:
            raise NotAddressableError(
                "the frames are one video stream, which instance.stream() gives", path=self.path
            )
        raise NoPixelDataError("the instance has no pixel data", path=self.path)

    @property
    def source(self) -> ByteSource:
        """The bytes in which the offsets of the frame table count."""
        return self._require_source()

    def _require_source(self) -> ByteSource:
        """Return what offsets count from; a deflated data set is inflated once."""
        if self._source is None:
            if self._file is CLOSED:
                raise ValueError("the instance is closed")
            from mmindex.scan.transfer_syntax import find_transfer_syntax
            from mmindex.sources.inflated import inflate_source  # few files are deflated

            syntax = find_transfer_syntax(self.record.transfer_syntax_uid)
            file = self._file  # one that its container inflates is no deflated data set, too
            self._source = inflate_source(file) if syntax.deflated else file
        return self._source


_FRAGMENTS, _TRUSTED = Layout.FRAGMENTS, Layout.TRUSTED
