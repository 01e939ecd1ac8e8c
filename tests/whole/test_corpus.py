"""Real files with ground truth that other projects publish as test data.

They are not part of this project: MMINDEX_CORPUS names their folder. `truth.json` there gives
the SHA-256 of every frame. pydicom and GDCM, where it is installed, are asked for the same
frames.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_oracle import compare_picture
from pydicom_oracle import (
    LOSSY_JPEG,
    close_array,
    differ_from_pillow,
    our_array,
    pydicom_array,
    read_data_set,
)

import mmindex
from mmindex.frame_table import Layout
from mmindex.model import Status

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "corpus"
CORPUS = Path(os.environ.get("MMINDEX_CORPUS", _BESIDE))
if not (CORPUS / "truth.json").is_file():
    pytest.skip("no corpus: set MMINDEX_CORPUS", allow_module_level=True)
TRUTH: dict[str, dict[str, Any]] = json.loads((CORPUS / "truth.json").read_text())
WITH_FRAMES = sorted(name for name, truth in TRUTH.items() if truth.get("kind"))

NO_PREAMBLE = ("JLSL_RGB_ILV", "JLSN_RGB_ILV")  # File Meta Information without a preamble
UNDECODABLE = {  # part of a path: why neither pydicom nor we have an array
    "libdicom/data/test_files/generated_encapsulated": "fragments that are no JPEG 2000",
}
ROUNDED_ONCE = {  # RGB differs by one from what pydicom converts: see `differ_from_pillow`
    "IM00001.fragmented_no_bot_jpeg_baseline.50.dcm",
}
SAME_PIXELS = {  # what pydicom has no arrays of: a file with the same frames
    "liver_deflate": "liver_j2k",
    "liver_nonbyte_aligned_deflate": "liver_nonbyte_aligned_j2k",
    "liver_rle": "liver_j2k",
    "liver_nonbyte_aligned_rle": "liver_nonbyte_aligned_j2k",
}


@pytest.fixture(params=[True, False], ids=["proved", "trusted"])
def prove(request: pytest.FixtureRequest) -> bool:
    """Whether every entry of an offset table is looked at."""
    return bool(request.param)


@pytest.fixture
def instance(request: pytest.FixtureRequest, prove: bool) -> Iterator[mmindex.Instance]:
    """Open one file of the corpus."""
    force = needs_force(request.param)
    with mmindex.open_file(CORPUS / request.param, force=force, prove=prove) as opened:
        yield opened


def needs_force(name: str) -> bool:
    """Return whether a file has no preamble."""
    return any(part in name for part in NO_PREAMBLE)


def name_of(instance: mmindex.Instance) -> str:
    """Return the key of an instance in the ground truth."""
    assert instance.path is not None
    return Path(instance.path).relative_to(CORPUS).as_posix()


def covering_bytes(instance: mmindex.Instance) -> list[bytes]:
    """Return the bytes that cover each frame's bits, by their place in the file."""
    assert instance.path is not None
    data = Path(instance.path).read_bytes()
    ranges = [instance.byte_ranges(index)[0] for index in range(len(instance))]
    return [data[place.offset : place.offset + place.length] for place in ranges]


def test_the_corpus_is_there_as_a_whole() -> None:
    """Every file that has a ground truth can be found."""
    missing = [name for name in TRUTH if not (CORPUS / name).is_file()]
    assert not missing
    assert len(TRUTH) >= 140


@pytest.mark.parametrize("instance", sorted(TRUTH), indirect=True)
def test_status_and_number_of_frames_are_the_true_ones(instance: mmindex.Instance) -> None:
    """Files with pixel data are indexed or deflated, the others have none."""
    truth = TRUTH[name_of(instance)]
    status = Status.NO_PIXEL_DATA
    if truth.get("kind"):
        status = Status.DEFLATED if truth.get("deflated") else Status.INDEXED
    assert instance.record.status is status
    assert len(instance) == truth.get("number_of_frames", 0)
    assert instance.record.transfer_syntax_uid == truth["transfer_syntax_uid"]


@pytest.mark.parametrize("instance", WITH_FRAMES, indirect=True)
def test_every_frame_has_its_true_hash(instance: mmindex.Instance) -> None:
    """The frames are the true ones, byte for byte."""
    truth = TRUTH[name_of(instance)]
    frames = covering_bytes(instance) if truth["kind"] == "native-bits" else list(instance)
    assert [hashlib.sha256(frame).hexdigest() for frame in frames] == truth["frame_sha256"]


@pytest.mark.parametrize(
    "instance", [n for n in WITH_FRAMES if TRUTH[n]["kind"] == "native-bits"], indirect=True
)
def test_R31_shifted_frames_are_the_bits_of_the_covering_bytes(
    instance: mmindex.Instance,
) -> None:
    """A frame's bits, unpacked by numpy from the bytes that cover them, are its own."""
    bits = instance.record.image_pixel
    length = (bits.rows or 0) * (bits.columns or 0)
    for index, covering in enumerate(covering_bytes(instance)):
        every_bit = np.unpackbits(np.frombuffer(covering, "u1"), bitorder="little")
        expected = every_bit[index * length % 8 :][:length]
        assert instance.frame(index) == np.packbits(expected, bitorder="little").tobytes()


@pytest.mark.parametrize("instance", WITH_FRAMES, indirect=True)
def test_every_array_is_that_of_pydicom(instance: mmindex.Instance) -> None:
    """Each frame decodes to pydicom's pixels, or neither has any."""
    name = name_of(instance)
    stem = Path(name).stem
    read = str(Path(name).with_name(f"{SAME_PIXELS.get(stem, stem)}{Path(name).suffix}"))
    data_set = read_data_set(CORPUS / read, force=needs_force(name))
    for index in range(len(instance)):
        ours = our_array(instance, index)
        theirs = pydicom_array(data_set, index)
        assert close_array(ours, theirs, instance.record.transfer_syntax_uid)
        assert (ours is None) == any(part in name for part in UNDECODABLE)


@pytest.mark.parametrize(
    "name", [name for name in WITH_FRAMES if TRUTH[name]["transfer_syntax_uid"] in LOSSY_JPEG]
)
def test_every_sample_of_lossy_jpeg_is_that_of_pydicom_with_pillow(name: str) -> None:
    """As stored; as RGB within one value, of the files in the table alone."""
    data_set = read_data_set(CORPUS / name)
    with mmindex.open_file(CORPUS / name) as instance:
        indices = range(len(instance))
        for raw, most in ((True, 0), (False, int(Path(name).name in ROUNDED_ONCE))):
            found = {differ_from_pillow(instance, data_set, at, raw=raw) for at in indices}
            assert found <= {None, *range(most + 1)}
            assert most == 0 or most in found


@pytest.mark.parametrize("name", WITH_FRAMES)
def test_every_picture_is_that_of_pydicoms_functions(name: str) -> None:
    """Windows, tables and palettes of each frame, within rounding."""
    data_set = read_data_set(CORPUS / name, force=needs_force(name))
    with mmindex.open_file(CORPUS / name, force=needs_force(name)) as instance:
        for index in range(len(instance)):
            assert (compare_picture(instance, data_set, index) or 0) <= 1


def test_most_files_have_pictures_by_pydicoms_functions() -> None:
    """The test above compares what it says."""
    compared = 0
    for name in WITH_FRAMES:
        data_set = read_data_set(CORPUS / name, force=needs_force(name))
        with mmindex.open_file(CORPUS / name, force=needs_force(name)) as instance:
            compared += compare_picture(instance, data_set, 0) is not None
    assert compared > len(WITH_FRAMES) // 3


def gdcm_value(path: Path) -> tuple[bytes, int]:
    """Return GDCM's pixel data without item headers, and its number of fragments."""
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.Reader()
    reader.SetFileName(str(path))
    assert reader.Read()
    element = reader.GetFile().GetDataSet().GetDataElement(gdcm.Tag(0x7FE0, 0x0010))
    fragments = element.GetSequenceOfFragments()
    if fragments is None:
        values, count = [element.GetByteValue()], 0
    else:
        count = fragments.GetNumberOfFragments()
        values = [fragments.GetFragment(index).GetByteValue() for index in range(count)]
    # GDCM hands bytes over as text
    texts = [value.GetBuffer() for value in values if value is not None]
    return b"".join(text.encode("utf-8", "surrogateescape") for text in texts), count


@pytest.mark.parametrize("instance", WITH_FRAMES, indirect=True)
def test_all_frames_together_are_the_pixel_data_of_gdcm(instance: mmindex.Instance) -> None:
    """GDCM's fragments, or its native value, are our frames in their order, but for padding."""
    name = name_of(instance)
    theirs, fragments = gdcm_value(CORPUS / name)
    frames, image = instance.record.frames, instance.record.image_pixel
    assert frames is not None
    if TRUTH[name]["kind"] == "native-bits":
        bits = np.concatenate(
            [
                np.unpackbits(np.frombuffer(frame, "u1"), bitorder="little")[: frames.frame_bits]
                for frame in instance
            ]
        )
        ours = np.packbits(bits, bitorder="little").tobytes()
    else:
        ours = b"".join(instance)
    if TRUTH[name]["transfer_syntax_uid"] == "1.2.840.10008.1.2.2" and image.pixel_vr == "OW":
        theirs = np.frombuffer(theirs, "<u2").byteswap().tobytes()  # GDCM hands over little-endian
    assert fragments == (0 if frames.frame_bits else len(list(instance.all_fragments())))
    assert frames.layout is Layout.TRUSTED or fragments == frames.number_of_fragments
    assert theirs.startswith(ours)
    assert len(theirs) - len(ours) in (0, 1)
