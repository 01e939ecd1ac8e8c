"""`mmindex ranges`: the bytes at the ranges of a frame are the frame."""

from __future__ import annotations

import json

from cli_runner import (
    run,
)
from dicom_bytes import (
    encapsulated_file,
    native_file,
)

import mmindex


def test_ranges_are_where_the_frames_are(cine, cine_frames):
    """The bytes at the ranges of a frame, joined, are the frame."""
    printed = json.loads(run("ranges", cine, 1, 17, 30).stdout)
    data = cine.read_bytes()
    assert printed["path"] == str(cine)
    assert [frame["number"] for frame in printed["frames"]] == [1, 17, 30]
    for frame in printed["frames"]:
        pieces = [data[r["offset"] : r["offset"] + r["length"]] for r in frame["ranges"]]
        assert b"".join(pieces) == cine_frames[frame["number"] - 1]


def test_without_number_ranges_are_those_of_all_frames(cine):
    """As with 1-."""
    printed = run("ranges", cine).stdout
    assert [frame["number"] for frame in json.loads(printed)["frames"]] == list(range(1, 31))
    assert printed == run("ranges", cine, "1-").stdout


def test_ranges_of_a_frame_in_fragments_are_one_each(tmp_path):
    """A frame of several fragments has as many ranges."""
    path = tmp_path / "fragments.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8ab", b"cdef", b"g\xff\xd9\0"], 1))
    (frame,) = json.loads(run("ranges", path, 1).stdout)["frames"]
    data = path.read_bytes()
    pieces = [data[r["offset"] : r["offset"] + r["length"]] for r in frame["ranges"]]
    assert pieces == [b"\xff\xd8ab", b"cdef", b"g\xff\xd9\0"]


def test_ranges_of_frames_off_byte_boundaries_say_which_bits_are_theirs(tmp_path):
    """Frames of 12 bits: the second one begins in the middle of the range's first byte."""
    path = tmp_path / "mask.dcm"
    value = b"\x96\xa5\x0f\0\xff\0"
    path.write_bytes(native_file(value, vr="OB", rows=3, columns=4, bits=1, number_of_frames=4))
    frames = json.loads(run("ranges", path, 1, 2, 3, 4).stdout)["frames"]
    assert [(frame["first_bit"], frame["bits"]) for frame in frames] == [(0, 12), (4, 12)] * 2
    data = path.read_bytes()
    for frame in frames:
        (where,) = frame["ranges"]
        covering = int.from_bytes(data[where["offset"] :][: where["length"]], "little")
        bits = covering >> frame["first_bit"] & (1 << frame["bits"]) - 1
        with mmindex.open_file(path) as instance:
            assert bits.to_bytes(2, "little") == instance.frame(frame["number"] - 1)


def test_ranges_of_frames_on_byte_boundaries_say_nothing_of_bits(tmp_path):
    """Frames of 16 bits are whole bytes, though a pixel is one bit."""
    path = tmp_path / "mask.dcm"
    path.write_bytes(native_file(b"abcd", vr="OB", rows=4, columns=4, bits=1, number_of_frames=2))
    for frame in json.loads(run("ranges", path, 1, 2).stdout)["frames"]:
        assert set(frame) == {"number", "ranges"}
