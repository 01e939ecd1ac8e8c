"""A source that a stranger writes: one class with `name`, `size`, `version` and `read`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from child_process import little_memory
from dicom_bytes import (
    PIXEL_DATA,
    deflated_file,
    element,
    encapsulated_file,
    image_attributes,
    native_file,
)
from pydicom_oracle import FOLDER, exact_array
from sources.source_conformance import CONTENT, SourceConformance

import mmindex
from mmindex.errors import (
    FormatError,
    NotDicomError,
    StaleIndexError,
    TruncatedFrameError,
)
from mmindex.model import Fingerprint
from mmindex.sources.base import ByteSource, cut, outside

BLOCK = 1000


class Blocks(ByteSource):
    """Bytes that lie in blocks, each compressed for itself: a source with a `read` alone."""

    def __init__(self, data: bytes, name: str | None = "toy") -> None:
        self.name = name
        self.size = len(data)
        self.version: Fingerprint | None = None
        self.blocks: list[bytes] | None = [
            zlib.compress(data[at : at + BLOCK]) for at in range(0, len(data), BLOCK)
        ]
        self.opened: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        if self.blocks is None:
            raise ValueError("the source is closed")
        if not 0 <= offset <= offset + length <= self.size:
            raise outside(self.name, offset, length, self.size)
        numbers = range(offset // BLOCK, (offset + length + BLOCK - 1) // BLOCK)
        self.opened.update(numbers)
        data = b"".join(zlib.decompress(self.blocks[number]) for number in numbers)
        found = data[offset % BLOCK :][:length]
        if len(found) != length:
            raise cut(self.name, offset, length, len(found))
        return found

    def close(self) -> None:
        """Release the blocks; see `ByteSource.close`."""
        self.blocks = None


class Within(Blocks):
    """A range of other bytes, whose offsets count in them."""

    first = 3 * BLOCK + 7

    def __init__(self, data: bytes) -> None:
        super().__init__(bytes(self.first) + data + b"what follows")
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        end = self.first + self.size
        if not self.first <= offset <= offset + length <= end:
            raise outside(self.name, offset, length, end)
        self.size, size = end, self.size
        try:
            return super().read(offset, length)
        finally:
            self.size = size


class Versioned(Blocks):
    """A source whose bytes may change: each read looks at `now`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.version = self.now = Fingerprint(len(data), 1, 2)

    def check(self) -> None:
        """Compare the version; see `ByteSource.check`."""
        if self.now != self.version:
            raise StaleIndexError("the blocks changed", path=self.name)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes; see `ByteSource.read`."""
        self.check()
        return super().read(offset, length)


class TestBlocks(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        return Blocks(CONTENT)


class TestVersioned(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        return Versioned(CONTENT)

    def change(self, source: ByteSource, folder: Path) -> None:
        source.now = Fingerprint(len(CONTENT), 9, 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", [Blocks, Within, Versioned])
@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "examples_ybr_color.dcm",
        "image_dfl.dcm",
    ],
)
def test_any_source_is_opened_scanned_and_read(
    make: Callable[[bytes], ByteSource], name: str
) -> None:
    """Bytes, ranges, pixels and the header are those of the file; pydicom is the oracle."""
    path = FOLDER / name
    source = make(path.read_bytes())
    with mmindex.open_file(source) as instance, mmindex.open_file(path) as file:
        assert (instance.path, instance.record.fingerprint) == ("toy", source.version)
        count = len(file)
        assert list(instance) == list(file)
        assert instance.frames(range(count)) == file.frames(range(count))
        assert [bytes(piece) for piece in instance.all_fragments()] == list(file.all_fragments())
        if file.record.status.value != "deflated":
            for piece in instance.byte_ranges(count - 1):
                assert source.read(*piece) in path.read_bytes()
        expected = exact_array(path, 0)
        assert abs(instance.array(0).astype(int) - expected).max() <= 1
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert instance.dataset().SOPInstanceUID == header.SOPInstanceUID
    assert source.read(source.first, 4) == path.read_bytes()[:4]
    source.close()


def test_a_source_is_read_where_the_scan_looks() -> None:
    """A large native value costs no read of all its blocks, unless all its frames are asked for."""
    value = bytes(range(250)) * 4000
    source = Blocks(native_file(value, rows=1000, columns=1000, number_of_frames=1))
    with mmindex.open_file(source) as instance:
        assert len(source.opened) < len(source.blocks or ()) // 5
        assert instance.frame(0) == value


def test_errors_name_a_source_and_count_in_it() -> None:
    """A scan's error has the source's name; an offset in a range of a container is that in it."""
    cut_off = native_file(bytes(4))[:-2]
    for make in (Blocks, Within):
        source = make(cut_off)
        with pytest.raises((FormatError, TruncatedFrameError)) as caught:
            mmindex.open_file(source).frame(0)
        assert caught.value.path == "toy"
        with pytest.raises(NotDicomError) as refused:
            mmindex.open_file(make(b"no DICOM" * 100))
        assert refused.value.path == "toy"
        with pytest.raises(NotDicomError):
            mmindex.open_file(make(b""))


@pytest.mark.parametrize("size", [1 << 62, 1 << 63, 1 << 70])
def test_a_source_that_claims_more_than_any_file_holds_is_an_error(size: int) -> None:
    """No OSError of the system's, and no memory."""
    source = Blocks(native_file(b"abcd"))
    source.size = size
    with little_memory(), pytest.raises(FormatError, match=f"toy: no file is as long as {size}"):
        mmindex.open_file(source)


def test_anomalies_and_ranges_of_a_range_count_in_the_whole() -> None:
    """What was found at an offset of the file is found at that offset of the source."""
    data = encapsulated_file([b"\xff\xd8ab", b"\xff\xd8cd"], 2, bot=[0, 4])
    plain, within = mmindex.open_file(data), mmindex.open_file(Within(data))
    assert plain.record.anomalies
    moved = [(anomaly.code, anomaly.offset - Within.first) for anomaly in within.record.anomalies]
    assert moved == [(anomaly.code, anomaly.offset) for anomaly in plain.record.anomalies]
    (ours,), (theirs,) = within.byte_ranges(1), plain.byte_ranges(1)
    assert (ours.offset - Within.first, ours.length) == theirs
    assert within.frame(1) == b"\xff\xd8cd"


def test_a_source_that_changed_gives_no_frame() -> None:
    """What `check` raises comes out of every read."""
    source = Versioned(native_file(b"abcd"))
    with mmindex.open_file(source) as instance:
        assert instance.frame(0) == b"abcd"
        source.now = Fingerprint(source.size, 2, 2)
        for read in (instance.frame, instance.view, instance.array, instance.fragments):
            with pytest.raises(StaleIndexError, match="toy: the blocks changed"):
                read(0)


def test_R7_a_deflated_data_set_of_any_source_is_inflated() -> None:
    """Its frames count in the inflated data set."""
    data_set = image_attributes() + element(PIXEL_DATA, "OB", b"abcd")
    for make in (Blocks, Within):
        source = make(deflated_file(data_set))
        with mmindex.open_file(source) as instance:
            assert instance.frame(0) == b"abcd"
