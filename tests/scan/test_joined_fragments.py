"""Frames in several fragments: read at once, into the bytes that are returned."""

from __future__ import annotations

import io
import os
import tracemalloc
from pathlib import Path

import pytest
from dicom_bytes import dicom_file, encapsulate, image_attributes
from outcomes import open_proved

from mmindex.errors import StaleIndexError, TruncatedFrameError

JPEG = "1.2.840.10008.1.2.4.50"


def file_of(fragments: list[bytes], bot: list[int], number_of_frames: int) -> bytes:
    """Return a file of these fragments, with a Basic Offset Table."""
    data_set = image_attributes(number_of_frames=number_of_frames)
    return dicom_file(data_set + encapsulate(fragments, bot=bot), JPEG)


@pytest.mark.parametrize("count", [2, 3, 499, 500, 501, 1200])
def test_a_frame_has_all_its_fragments_however_many(tmp_path: Path, count: int) -> None:
    """Of one system call or of many, empty fragments included, the bytes are those written."""
    first = [b"%03d%d" % (at % 1000, at % 7) * (at % 5) for at in range(1, count + 1)]
    second = [b"second", b"frame!"]
    start = sum(8 + len(fragment) for fragment in first)
    (tmp_path / "a.dcm").write_bytes(file_of([*first, *second], [0, start], 2))
    with open_proved(tmp_path / "a.dcm") as instance:
        assert instance.frame(0) == b"".join(first)
        assert instance.frame(1) == b"secondframe!"
        assert type(instance.frame(1)) is bytes
    with open_proved(io.BytesIO((tmp_path / "a.dcm").read_bytes())) as instance:
        assert list(instance) == [b"".join(first), b"secondframe!"]


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="no os.preadv here")
def test_a_frame_is_read_with_one_call_into_one_allocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame of 4 MB in two fragments takes 4 MB, and a page of scrap."""
    half = bytes(range(256)) * 8192
    (tmp_path / "a.dcm").write_bytes(file_of([half, half, b"next"], [0, 2 * len(half) + 16], 2))
    calls = []
    preadv = os.preadv

    def note(number: int, buffers: list[memoryview], offset: int) -> int:
        calls.append(offset)
        return preadv(number, buffers, offset)

    with open_proved(tmp_path / "a.dcm") as instance:
        assert instance.frame(0) == half + half
        monkeypatch.setattr(os, "preadv", note)
        tracemalloc.start()
        try:
            frame = instance.frame(0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(calls) == 1
    assert len(frame) <= peak < len(frame) + 100_000


def test_a_file_that_became_shorter_is_told(tmp_path: Path) -> None:
    """Within the interval, when nothing has looked at the file yet: never short data."""
    path = tmp_path / "a.dcm"
    path.write_bytes(file_of([b"aaaa", b"bbbb", b"cccc", b"dddd"], [0, 24], 2))
    with open_proved(path) as instance:
        assert instance.frame(1) == b"ccccdddd"
        os.truncate(path, instance.byte_ranges(1)[1].offset + 2)
        with pytest.raises((StaleIndexError, TruncatedFrameError), match=r"a\.dcm"):
            instance.frame(1)
