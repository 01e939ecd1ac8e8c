"""Where frames end: items that run past their value, streams, fragments of private codecs."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from dicom_bytes import (
    HEVC,
    JPEG_BASELINE,
    PIXEL_DATA,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulated_file,
    image_attributes,
    item,
    pack_tag,
    written,
)
from outcomes import open_proved

import mmindex
from mmindex.errors import AmbiguousFramesError, TruncatedFrameError

UID = element(0x00080018, "UI", "1.2.3")


FRAME = b"\xff\xd8AAAA\xff\xd9"


OTHERS = b"not the frame's bytes, but another's"


def overlong(
    syntax: str, number_of_frames: int, *, bot: bool = False, excess: int = 28, vr: str = "OB"
) -> bytes:
    """Return a file whose last item is `excess` longer than what is left of its value."""
    value = item(struct.pack(f"<{number_of_frames}I", *range(0, 16 * number_of_frames, 16)))
    if not bot:
        value = item()
    value += item(FRAME) * (number_of_frames - 1)
    value += pack_tag(0xFFFEE000) + struct.pack("<I", len(FRAME) + excess) + FRAME
    data_set = image_attributes(number_of_frames=number_of_frames) + element(PIXEL_DATA, vr, value)
    return dicom_file(UID + data_set + element(0xFFFCFFFC, "OB", OTHERS), syntax)


OVERLONG = {
    "no table": (JPEG_BASELINE, 3, False),
    "one frame": (JPEG_BASELINE, 1, False),
    "table": (JPEG_BASELINE, 3, True),
    "one frame, table": (JPEG_BASELINE, 1, True),
    "RLE": (RLE_LOSSLESS, 3, False),
    "one frame of RLE": (RLE_LOSSLESS, 1, False),
    "RLE, table": (RLE_LOSSLESS, 3, True),
}


@pytest.mark.parametrize("excess", [2, 12, 28, 28 + 20])
@pytest.mark.parametrize(("syntax", "frames", "bot"), OVERLONG.values(), ids=OVERLONG)
def test_R14_an_item_that_runs_past_its_value_serves_nothing_behind_it(
    tmp_path: Path, syntax: str, frames: int, bot: bool, excess: int
) -> None:
    """The elements behind a value of defined length are there in the file, but not the frame's."""
    path = written(tmp_path, overlong(syntax, frames, bot=bot, excess=excess))
    with open_proved(path) as instance:
        assert "truncated-fragment" in [a.code for a in instance.record.anomalies]
        assert len(instance) == frames
        last = frames - 1
        assert instance.frames(range(last)) == [FRAME] * last
        for read in (instance.frame, instance.view, instance.fragments, instance.byte_ranges):
            with pytest.raises(TruncatedFrameError):
                read(last)
        with pytest.raises(TruncatedFrameError):
            instance.frames()


@pytest.mark.parametrize("syntax", [JPEG_BASELINE, RLE_LOSSLESS])
@pytest.mark.parametrize("frames", [1, 3])
def test_R14_a_trusted_table_serves_nothing_behind_the_value_either(
    tmp_path: Path, frames: int, syntax: str
) -> None:
    """A table over an item that is longer than its value is walked, or the frame raises."""
    written(tmp_path, overlong(syntax, frames, bot=True))
    mmindex.build(tmp_path, workers=1, prove=False)
    with mmindex.open(tmp_path) as archive:
        assert archive.frames(("1.2.3", index) for index in range(frames - 1)) == (
            [FRAME] * (frames - 1)
        )
        with pytest.raises(TruncatedFrameError):
            archive.frame("1.2.3", frames - 1)


def test_R20_a_video_stream_ends_where_its_value_ends(tmp_path: Path) -> None:
    """What stands behind the value of a video stream is not served as its last fragment."""
    with pytest.raises(TruncatedFrameError, match="runs past the end of the value"):
        open_proved(written(tmp_path, overlong(HEVC, 1)))


@pytest.mark.parametrize("fragments", [2, 3])
def test_R18_a_cut_file_of_a_private_codec_is_ambiguous(fragments: int) -> None:
    """As many fragments as frames prove nothing where the rest is lost and no marker helps."""
    parts = [b"frame0-a", b"frame0-b", b"frame1-a", b"frame1-b", b"frame2-a", b"frame2-b"]
    whole = encapsulated_file(parts, fragments, PRIVATE_SYNTAX)
    cut = whole[: whole.index(parts[fragments]) - 8]
    with pytest.raises(AmbiguousFramesError):
        mmindex.scan(cut)


def test_R18_a_whole_file_of_a_private_codec_has_one_fragment_a_frame(tmp_path: Path) -> None:
    """With the sequence delimiter there, as many fragments as frames are one each."""
    parts = [b"frame0", b"frame1"]
    with open_proved(written(tmp_path, encapsulated_file(parts, 2, PRIVATE_SYNTAX))) as instance:
        assert list(instance) == parts
