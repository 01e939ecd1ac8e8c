"""HeldSource: what was read before is served from memory, the rest from the source."""

from __future__ import annotations

from pathlib import Path

import pytest
from sources.source_conformance import (
    CONTENT,
    SIZE,
    SourceConformance,
    open_source,
    replace_file,
)
from sources.test_any_source import Within

from mmindex.errors import StaleIndexError
from mmindex.sources.base import ByteSource
from mmindex.sources.held import HeldSource


class TestHeld(SourceConformance):
    """Held bytes are not compared with the source again, so they cannot change."""

    def make(self, folder: Path) -> ByteSource:
        (folder / "content").write_bytes(CONTENT)
        ranges = [(0, 1000), (500, 5000), (500, 5), (100_000, 50_000), (SIZE - 10, 10)]
        return HeldSource(open_source(folder / "content"), ranges)


class TestHeldWithin(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        source = Within(CONTENT)
        return HeldSource(source, [(source.first + 10, 10_000), (source.first, 5)])


class TestNothingHeld(SourceConformance):
    """Bytes that are not held are those of the source, which looks at its file."""

    def make(self, folder: Path) -> ByteSource:
        (folder / "content").write_bytes(CONTENT)
        return HeldSource(open_source(folder / "content"), [])

    def change(self, source: ByteSource, folder: Path) -> None:
        replace_file(folder / "content", bytes(SIZE))

    def shorten(self, source: ByteSource, folder: Path) -> None:
        (folder / "content").write_bytes(CONTENT[:1000])

    def remove(self, source: ByteSource, folder: Path) -> None:
        (folder / "content").unlink()


def test_held_bytes_outlive_a_change_and_others_do_not(tmp_path: Path) -> None:
    """Those that were read at once are of one version; later ones are compared with it."""
    (tmp_path / "content").write_bytes(CONTENT)
    source = HeldSource(open_source(tmp_path / "content"), [(10, 100)])
    replace_file(tmp_path / "content", bytes(SIZE))
    assert source.read(20, 90) == CONTENT[20:110]
    with pytest.raises(StaleIndexError):
        source.read(20, 91)
    with pytest.raises(StaleIndexError):
        source.check()
