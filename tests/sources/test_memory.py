"""MemorySource: buffers of the caller, and inflated data sets with their origin."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_bytes import deflated_file
from sources.source_conformance import CONTENT, SourceConformance, open_source, replace_file

from mmindex.errors import FormatError
from mmindex.sources.base import ByteSource
from mmindex.sources.inflated import inflate_source
from mmindex.sources.memory import MemorySource


class TestMemorySource(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        return MemorySource(CONTENT, "content")


class TestBytearray(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        return MemorySource(bytearray(CONTENT))


class TestInflatedSource(SourceConformance):
    """The file that was inflated is watched as if it were read."""

    is_inflated = True

    def make(self, folder: Path) -> ByteSource:
        (folder / "a").write_bytes(deflated_file(CONTENT))
        return inflate_source(open_source(folder / "a"))

    def change(self, source: ByteSource, folder: Path) -> None:
        replace_file(folder / "a", deflated_file(CONTENT[::-1]))

    def remove(self, source: ByteSource, folder: Path) -> None:
        (folder / "a").unlink()


def test_a_view_is_the_callers_memory() -> None:
    """Nothing is copied, and nothing can be written through it."""
    buffer = bytearray(CONTENT)
    view = MemorySource(buffer).view(5, 5)
    buffer[5] ^= 255
    assert view[0] == buffer[5]
    with pytest.raises(TypeError):
        view[0] = 0


def test_R7_a_broken_deflated_data_set_raises_with_the_files_name(tmp_path: Path) -> None:
    """The error says which file it was."""
    (tmp_path / "a").write_bytes(deflated_file(CONTENT)[:-9])
    with pytest.raises(FormatError, match=r"a @0x[0-9a-f]+: the deflated data set ends too early"):
        inflate_source(open_source(tmp_path / "a"))
