"""What every source of bytes must hold: a class of tests that each source's own tests inherit.

A test module of a source has one class: `class TestMySource(SourceConformance)` with `make`, and
with `change`, `shorten` and `remove` where the bytes can change under the source.
"""

from __future__ import annotations

import pickle
import random
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmindex.errors import MissingFileError, StaleIndexError, TruncatedFrameError
from mmindex.frame_table import ByteRange
from mmindex.model import Fingerprint
from mmindex.sources.base import ByteSource
from mmindex.sources.file import FileSource, open_descriptor

CONTENT = random.Random(5).randbytes(300_000)
SIZE = len(CONTENT)

INSIDE = [
    (0, 0),
    (0, 1),
    (0, SIZE),
    (SIZE - 1, 1),
    (SIZE, 0),
    (17, 4096),
    (65535, 2),
    (1000, 200_000),
]
OUTSIDE = [
    (SIZE, 1),
    (SIZE - 1, 2),
    (0, SIZE + 1),
    (SIZE + 1, 0),
    (1 << 62, 1),
    (0, 1 << 62),
    (5, 1 << 33),
    (-1, 1),
    (-5, 3),
    (5, -1),
    (-1, 0),
]


def cut(ranges: list[tuple[int, int]]) -> list[bytes]:
    """Return what a source must return, as slices of the content."""
    return [CONTENT[offset : offset + length] for offset, length in ranges]


def as_ranges(source: ByteSource, ranges: list[tuple[int, int]]) -> list[ByteRange]:
    """Return ranges of the content as the source counts them."""
    return [ByteRange(source.first + offset, length) for offset, length in ranges]


BATCHES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "one": [(10, 20)],
    "neighbours": [(0, 10), (10, 10), (20, 10)],
    "with gaps": [(0, 10), (100, 10), (5000, 10), (200_000, 10)],
    "descending": [(200_000, 10), (5000, 10), (100, 10), (0, 10)],
    "duplicates": [(7, 9), (7, 9), (7, 9)],
    "overlapping": [(0, 100), (50, 100), (10, 20), (0, 200), (149, 1)],
    "within one": [(0, 250_000), (5, 5), (100_000, 1)],
    "empty ranges": [(5, 0), (5, 5), (0, 0), (SIZE, 0), (10, 0)],
    "all": [(at, 1000) for at in range(0, SIZE, 1000)],
    "longer than what is read together": [(0, SIZE), (1, SIZE - 1), (0, SIZE)],
    "random": [
        (at, min(3000, SIZE - at)) for at in random.Random(6).choices(range(SIZE - 1), k=300)
    ],
}


def open_source(path: Path, *, by_path: bool = True) -> FileSource:
    """Return a file as it is now, which is looked at at every read."""
    version = Fingerprint.of(path.stat())
    return FileSource(open_descriptor(str(path)), str(path), version, 0.0, by_path=by_path)


def replace_file(path: Path, data: bytes) -> None:
    """Put another file in the place of this one."""
    other = path.with_name("other")
    other.write_bytes(data)
    other.replace(path)


class SourceConformance:
    """The tests; a class that inherits them says how its source is made."""

    is_inflated = False
    """Whether the content is stored in fewer bytes: the version is that of the file with those."""
    change: Callable[[ByteSource, Path], object] | None = None
    """Other bytes of the same length in the place of the content."""
    shorten: Callable[[ByteSource, Path], object] | None = None
    """The first 1,000 bytes of the content alone."""
    remove: Callable[[ByteSource, Path], object] | None = None
    """Nothing any more in the place of the content."""

    def make(self, folder: Path) -> ByteSource:
        """Return a source of CONTENT that looks for changes at every read."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> ByteSource:
        return self.make(tmp_path)

    def test_size_is_that_of_the_content(self, source: ByteSource) -> None:
        """A source knows its length; its version has that of the file that it is or lies in."""
        assert source.size == SIZE
        if source.version is not None and not self.is_inflated:
            end = source.first + SIZE
            assert source.version.size >= end if source.first else source.version.size == end

    @pytest.mark.parametrize(("offset", "length"), INSIDE)
    def test_read_returns_exactly_these_bytes(
        self, source: ByteSource, offset: int, length: int
    ) -> None:
        """From the first byte to the last, and none; always as bytes."""
        found = source.read(source.first + offset, length)
        assert type(found) is bytes
        assert found == CONTENT[offset : offset + length]

    @pytest.mark.parametrize(("offset", "length"), INSIDE)
    def test_read_into_fills_exactly_the_room(
        self, source: ByteSource, offset: int, length: int
    ) -> None:
        """The bytes on either side of the room stay."""
        around = bytearray(b"#" * (length + 2))
        source.read_into(source.first + offset, memoryview(around)[1:-1])
        assert around == b"#" + CONTENT[offset : offset + length] + b"#"

    @pytest.mark.parametrize(("offset", "length"), OUTSIDE)
    def test_read_into_outside_raises(self, source: ByteSource, offset: int, length: int) -> None:
        """Whatever the room; the error carries the name."""
        if not 0 <= length <= SIZE + 1:
            pytest.skip("no room has this length")
        with pytest.raises(TruncatedFrameError) as caught:
            source.read_into(source.first + offset, memoryview(bytearray(length)))
        assert caught.value.path == source.name

    @pytest.mark.parametrize(("offset", "length"), OUTSIDE)
    def test_read_outside_raises_and_takes_little_memory(
        self, source: ByteSource, offset: int, length: int
    ) -> None:
        """No short, no shifted and no huge answer: an error that carries the name."""
        for read in (
            source.read,
            source.view,
            lambda *piece: source.read_many([ByteRange(*piece)]),
            lambda *piece: source.read_joined([ByteRange(*piece)]),
        ):
            tracemalloc.start()
            try:
                with pytest.raises(TruncatedFrameError) as caught:
                    read(source.first + offset, length)
                assert tracemalloc.get_traced_memory()[1] < 2 * SIZE + (4 << 20)
            finally:
                tracemalloc.stop()
            assert caught.value.path == source.name

    @pytest.mark.parametrize("batch", BATCHES)
    def test_read_many_returns_bytes_in_the_order_asked(
        self, source: ByteSource, batch: str
    ) -> None:
        """Ranges may overlap, repeat, be empty and stand in any order."""
        ranges = BATCHES[batch]
        found = source.read_many(as_ranges(source, ranges))
        assert found == cut(ranges)
        assert all(type(piece) is bytes for piece in found)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_read_joined_returns_the_bytes_of_ascending_ranges(
        self, source: ByteSource, batch: str
    ) -> None:
        """Joined, they are what single reads are, joined."""
        apart: list[tuple[int, int]] = []
        for offset, length in sorted(BATCHES[batch]):
            if not apart or offset >= sum(apart[-1]):
                apart.append((offset, length))
        assert source.read_joined(as_ranges(source, apart)) == b"".join(cut(apart))

    def test_one_bad_range_of_many_raises_with_its_own_offset(self, source: ByteSource) -> None:
        """The error says which range of the batch is not there."""
        ranges = as_ranges(source, [(SIZE - 10, 5), (SIZE - 4, 8), (SIZE - 30, 10)])
        with pytest.raises(TruncatedFrameError) as caught:
            source.read_many(ranges)
        assert caught.value.offset == source.first + SIZE - 4

    def test_a_negative_length_among_many_raises(self, source: ByteSource) -> None:
        """Whatever was read before, and whatever is read with it."""
        source.read(source.first, 1000)
        for other in ([], [(0, 10)], [(6, 10)], [(0, 1000)]):
            ranges = [(source.first + offset, length) for offset, length in [*other, (5, -1)]]
            with pytest.raises(TruncatedFrameError):
                source.read_many(ranges)
        with pytest.raises(TruncatedFrameError):
            source.read(source.first + 5, -1)
        with pytest.raises(TruncatedFrameError):
            source.view(source.first + 5, -1)

    @pytest.mark.parametrize(("offset", "length"), INSIDE)
    def test_view_has_the_same_bytes_and_cannot_be_written(
        self, source: ByteSource, offset: int, length: int
    ) -> None:
        """A view is one dimension of unsigned bytes, read-only."""
        view = source.view(source.first + offset, length)
        assert view == CONTENT[offset : offset + length]
        assert (view.readonly, view.format, view.ndim) == (True, "B", 1)

    def test_threads_read_the_same_source(self, source: ByteSource) -> None:
        """Sixteen threads at once each get their own bytes."""
        pieces = BATCHES["random"]

        def read(at: int) -> bool:
            offset, length = pieces[at % len(pieces)]
            expected = CONTENT[offset : offset + length]
            batch = as_ranges(source, [(offset, length), (0, 10)])
            return source.read(source.first + offset, length) == expected and source.read_many(
                batch
            ) == [
                expected,
                CONTENT[:10],
            ]

        with ThreadPoolExecutor(16) as threads:
            assert all(threads.map(read, range(400)))

    def test_errors_pickle(self, source: ByteSource) -> None:
        """They cross processes with message, path and offset."""
        with pytest.raises(TruncatedFrameError) as caught:
            source.read(source.first + SIZE - 1, 2)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))
        assert (copy.path, copy.offset) == (source.name, source.first + SIZE - 1)

    def test_check_passes_while_nothing_changed(self, source: ByteSource) -> None:
        """However often it is called."""
        for _ in range(3):
            source.check()
            source.check_if_due()
        assert source.read(source.first + 3, 4) == CONTENT[3:7]

    def test_a_closed_source_raises_and_its_views_stay(self, source: ByteSource) -> None:
        """Closing twice is once; what was handed out before is not taken back."""
        view = source.view(source.first + 10, 10)
        source.close()
        source.close()
        for read in (source.read, source.view):
            with pytest.raises(ValueError, match="closed"):
                read(source.first, 1)
        with pytest.raises(ValueError, match="closed"):
            source.read_many([ByteRange(source.first, 1)])
        assert view == CONTENT[10:20]

    def _read_all_ways(self, source: ByteSource) -> list[Callable[[], object]]:
        return [
            lambda: source.read(source.first + 10, 10),
            lambda: source.read_many(as_ranges(source, [(0, 10), (5000, 10)])),
            lambda: source.read_joined(as_ranges(source, [(0, 10), (5000, 10)])),
            lambda: source.view(source.first + 10, 10),
            source.check,
        ]

    def test_changed_content_raises_stale_index_error(
        self, source: ByteSource, tmp_path: Path
    ) -> None:
        """Other bytes are never returned as if they were the ones that were indexed."""
        if self.change is None:
            pytest.skip("these bytes cannot change")
        self.change(source, tmp_path)
        for read in self._read_all_ways(source):
            with pytest.raises(StaleIndexError) as caught:
                read()
            assert caught.value.path == source.name

    def test_shortened_content_is_never_returned_short(
        self, source: ByteSource, tmp_path: Path
    ) -> None:
        """Where the end of the content is gone, reads raise."""
        if self.shorten is None:
            pytest.skip("these bytes cannot change")
        self.shorten(source, tmp_path)
        for read in (
            lambda: source.read(source.first + 500, 5000),
            lambda: source.read_many(as_ranges(source, [(0, 10), (900, 200)])),
            lambda: source.read(source.first, SIZE),
        ):
            with pytest.raises((StaleIndexError, TruncatedFrameError)):
                read()

    def test_removed_content_raises_missing_file_error(
        self, source: ByteSource, tmp_path: Path
    ) -> None:
        """The error is Python's own FileNotFoundError, too."""
        if self.remove is None:
            pytest.skip("these bytes cannot go away")
        self.remove(source, tmp_path)
        for read in self._read_all_ways(source):
            with pytest.raises(MissingFileError):
                read()
