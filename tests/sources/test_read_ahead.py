"""ReadAhead: more bytes are read than are asked for, and no wrong ones returned."""

from __future__ import annotations

from pathlib import Path

from sources.source_conformance import (
    CONTENT,
    SIZE,
    SourceConformance,
    open_source,
    replace_file,
)
from sources.test_any_source import Blocks, Within

from mmindex.sources.base import ByteSource
from mmindex.sources.read_ahead import ReadAhead


class Counted(Blocks):
    """Blocks that note which ranges are asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        self.asked.append((offset, length))
        return super().read(offset, length)


class TestReadAhead(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        (folder / "content").write_bytes(CONTENT)
        return ReadAhead(open_source(folder / "content"))

    def change(self, source: ByteSource, folder: Path) -> None:
        source.read(0, 100)
        replace_file(folder / "content", bytes(SIZE))

    def shorten(self, source: ByteSource, folder: Path) -> None:
        (folder / "content").write_bytes(CONTENT[:1000])

    def remove(self, source: ByteSource, folder: Path) -> None:
        source.read(0, 100)
        (folder / "content").unlink()


class TestReadAheadWithin(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        return ReadAhead(Within(CONTENT))


def test_short_reads_one_after_the_other_are_few_reads() -> None:
    """As a walk of the headers of small members does them; all are the bytes asked for."""
    blocks = Counted(CONTENT)
    source = ReadAhead(blocks)
    for offset in range(0, SIZE, 1000):
        assert source.read(offset, 512) == CONTENT[offset : offset + 512]
    assert len(blocks.asked) < 30


def test_far_reads_take_little_more_than_what_is_asked_for() -> None:
    """Headers of long members have a whole file between them."""
    blocks = Counted(CONTENT)
    source = ReadAhead(blocks)
    for offset in range(0, SIZE, 100_000):
        assert source.read(offset, 512) == CONTENT[offset : offset + 512]
    assert sum(length for _, length in blocks.asked) <= 3 * (1 << 18)


def test_nothing_is_read_behind_the_end() -> None:
    """The last read ends with the source, also where offsets count from another place."""
    for make in (Counted, Within):
        inner = make(CONTENT)
        source = ReadAhead(inner)
        end = inner.first + SIZE
        assert source.read(end - 10, 10) == CONTENT[-10:]
        assert source.read(end - 5, 5) == CONTENT[-5:]
