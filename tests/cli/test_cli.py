"""The command line, held against pydicom and the bytes of the files themselves."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import types
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from cli_runner import new_runner
from click.testing import Result
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    HEVC,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulated_file,
    extended_offset_table,
    image_attributes,
    native_file,
)
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import pixel_array

import mmindex
from mmindex.cli import COMMANDS, main
from mmindex.cli.printing import align, measure_columns, rounded_size
from mmindex.cli.progress import ProgressLine, ProgressLog, describe_progress
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES, Codec
from mmindex.update import plan as plan_module
from mmindex.update.report import BuildReport, Progress

ROOT = Path(__file__).resolve().parents[2]
CINE = "examples_ybr_color.dcm"
NAMES = (CINE, "examples_rgb_color.dcm", "examples_overlay.dcm", "rtdose.dcm", "rtplan.dcm")
PROGRAM = [
    *(sys.executable, "-c"),
    "from mmindex.cli import main; main(prog_name='mmindex')",
]


def testdata(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


testdata.__test__ = False


def run(*arguments: object, code: int = 0) -> Result:
    result = new_runner().invoke(
        main, [str(argument) for argument in arguments], prog_name="mmindex"
    )
    assert result.exit_code == code, result.output
    return result


def run_child(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, env=environment, text=True, check=False, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that pydicom carries, without an index."""
    for name in NAMES:
        shutil.copyfile(testdata(name), tmp_path / name)
    return tmp_path


@pytest.fixture
def archive(folder: Path) -> Path:
    """The folder, with its index."""
    mmindex.build(folder, workers=1)
    return folder


@pytest.fixture
def cine(folder: Path) -> Path:
    return folder / CINE


@pytest.fixture(scope="module")
def cine_frames() -> list[bytes]:
    """Every frame of the cine as pydicom takes it out."""
    return list(generate_frames(pydicom.dcmread(testdata(CINE)).PixelData, number_of_frames=30))


VIDEO = [b"\0\0\1\xb3 first", b"second", b"a third one!"]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A video of 30 frames in three fragments."""
    path = tmp_path / "video.dcm"
    path.write_bytes(encapsulated_file(VIDEO, 30, HEVC))
    return path


def uid_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


# frame


@pytest.mark.parametrize("number", [1, 2, 30])
def test_frame_gives_the_bytes_that_pydicom_finds(cine, cine_frames, number):
    """A raw frame is what pydicom takes out of the file, with an index and without."""
    assert run("frame", cine, number).stdout_bytes == cine_frames[number - 1]
    mmindex.build(cine.parent, workers=1)
    assert run("frame", cine, number).stdout_bytes == cine_frames[number - 1]


def test_frames_follow_each_other_in_the_order_asked_for(cine, cine_frames):
    """Several raw frames on standard output are joined as they were asked for."""
    expected = cine_frames[29] + cine_frames[0] + cine_frames[29]
    assert run("frame", cine, 30, 1, 30).stdout_bytes == expected


def test_frame_writes_to_a_file_in_a_new_folder(cine, cine_frames, tmp_path):
    """-o makes the folders that its path needs, and prints nothing."""
    result = run("frame", cine, 7, "-o", tmp_path / "new" / "er" / "7.jpg")
    assert result.output == ""
    assert (tmp_path / "new" / "er" / "7.jpg").read_bytes() == cine_frames[6]


def test_frames_each_get_a_file_by_template(cine, cine_frames, tmp_path):
    """{number} and {ext} are filled in, the number with its format."""
    run("frame", cine, 2, 10, "-o", tmp_path / "f" / "{number:04d}.{ext}")
    written = {path.name: path.read_bytes() for path in (tmp_path / "f").iterdir()}
    assert written == {"0002.jpg": cine_frames[1], "0010.jpg": cine_frames[9]}


def test_a_path_without_fields_keeps_its_braces(cine, cine_frames, tmp_path):
    """Braces that are none of ours are part of a file's name."""
    run("frame", cine, 1, "-o", tmp_path / "{a}.jpg")
    assert (tmp_path / "{a}.jpg").read_bytes() == cine_frames[0]


@pytest.mark.parametrize("template", ["{number}-{name}", "{number", "{number:x.}", "{number.a}"])
def test_a_wrong_template_is_wrong_usage(cine, tmp_path, template):
    """A template that cannot be filled in says which fields there are."""
    result = run("frame", cine, 1, "-o", tmp_path / template, code=2)
    assert "only {number} and {ext} can stand in it" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [("-o", "one.jpg"), ("-o", "{ext}"), ("--format", "png"), ("--format", "png", "-o", "a")],
)
def test_several_frames_in_one_file_are_wrong_usage(cine, arguments):
    """Frames that cannot share an output are refused before anything is read."""
    assert "2 frames need an output each" in run("frame", cine, 1, 2, *arguments, code=2).stderr


def test_frame_does_not_write_over_its_source(cine):
    """The file that frames come from is no output, under another name neither."""
    before = cine.read_bytes()
    link = cine.with_name("link.dcm")
    link.symlink_to(cine)
    assert "the file that the frames come from" in run("frame", cine, 1, "-o", link, code=2).stderr
    assert cine.read_bytes() == before


@pytest.mark.parametrize("number", ["0", "-1", "-12"])
@pytest.mark.parametrize("command", ["frame", "ranges"])
def test_frame_numbers_start_at_1(cine, command, number):
    """Zero and less are wrong usage that says where frame numbers start."""
    result = run(command, cine, number, code=2)
    assert "frame numbers start at 1, found -" in result.stderr.replace("found 0", "found -0")
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["frame", "ranges"])
def test_a_frame_after_the_last_fails_before_anything_is_written(cine, command):
    """A number too large names the frames there are, counted from 1."""
    result = run(command, cine, 1, 31, code=1)
    assert result.stderr.endswith("there is no frame 31: the instance has frames 1 to 30\n")
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["frame", "ranges"])
def test_a_frame_lost_with_the_end_of_the_file_is_told_by_its_number(tmp_path, command):
    """Frames after the cut are missing; those before it are served."""
    path = tmp_path / "cut.dcm"
    path.write_bytes(encapsulated_file([b"ab" * 8] * 3, 3, RLE_LOSSLESS)[:-32])
    assert run(command, path, 1).stdout
    assert "frame 3 is missing" in run(command, path, 3, code=1).stderr


def test_a_number_after_the_only_frame_says_so(tmp_path):
    """One frame is no range of frames."""
    path = tmp_path / "one.dcm"
    path.write_bytes(native_file(bytes(4), vr="OB"))
    assert run("frame", path, 2, code=1).stderr.endswith("no frame 2: the instance has 1 frame\n")


def test_without_number_or_stream_frame_does_not_know_what_to_write(cine):
    """One of the two is needed, and both are named."""
    stderr = run("frame", cine, code=2).stderr
    assert "NUMBER, or --stream" in stderr


def test_frame_of_an_instance_without_pixels_fails(folder):
    """No pixel data is one line and exit code 1."""
    assert "the instance has no pixel data" in run("frame", folder / "rtplan.dcm", 1, code=1).stderr


def test_npy_holds_the_array_that_pydicom_decodes(cine, folder):
    """One frame is saved as its array."""
    saved = np.load(io.BytesIO(run("frame", cine, 30, "--format", "npy").stdout_bytes))
    np.testing.assert_array_equal(saved, pixel_array(cine, index=29))
    dose = folder / "rtdose.dcm"
    saved = np.load(io.BytesIO(run("frame", dose, 15, "--format", "npy").stdout_bytes))
    np.testing.assert_array_equal(saved, pixel_array(dose, index=14))


def test_npy_stacks_several_frames(folder, tmp_path):
    """Several frames in one .npy file are one array in the order asked for."""
    dose = folder / "rtdose.dcm"
    run("frame", dose, 15, 2, "--format", "npy", "-o", tmp_path / "dose.{ext}")
    expected = np.stack([pixel_array(dose, index=14), pixel_array(dose, index=1)])
    np.testing.assert_array_equal(np.load(tmp_path / "dose.npy"), expected)


def test_npy_by_template_is_a_file_a_frame(folder, tmp_path):
    """With {number} in the path, every frame is an array of its own."""
    dose = folder / "rtdose.dcm"
    run("frame", dose, 1, 2, "--format", "npy", "-o", tmp_path / "{number}.{ext}")
    np.testing.assert_array_equal(np.load(tmp_path / "2.npy"), pixel_array(dose, index=1))


def load_png(data: bytes) -> np.ndarray:
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(data))
    assert image.format == "PNG"
    return np.asarray(image)


@pytest.mark.parametrize("name", [CINE, "examples_rgb_color.dcm"])
def test_png_of_8_bit_colour_is_the_decoded_frame(folder, name):
    """8-bit RGB goes into the picture as it was decoded."""
    picture = load_png(run("frame", folder / name, 1, "--format", "png").stdout_bytes)
    np.testing.assert_array_equal(picture, pixel_array(folder / name, index=0))


def test_png_of_8_bit_gray_is_the_stored_frame(tmp_path):
    """8-bit gray is not windowed."""
    path = tmp_path / "gray.dcm"
    path.write_bytes(native_file(bytes([7, 9, 200, 8]), vr="OB"))
    picture = load_png(run("frame", path, 1, "--format", "png").stdout_bytes)
    assert picture.tolist() == [[7, 9], [200, 8]]


def test_png_of_16_bit_gray_is_windowed_from_least_to_greatest(tmp_path):
    """Deeper samples are spread over 0 to 255."""
    path = tmp_path / "deep.dcm"
    value = np.array([1000, 2000, 1500, 1250], "<u2").tobytes()
    path.write_bytes(native_file(value, bits=16))
    picture = load_png(run("frame", path, 1, "--format", "png").stdout_bytes)
    assert picture.tolist() == [[0, 255], [128, 64]]


def test_png_of_one_value_is_black(tmp_path):
    """A frame without contrast has nothing to be windowed."""
    path = tmp_path / "flat.dcm"
    path.write_bytes(native_file(b"\x10\x20" * 4, bits=16))
    picture = load_png(run("frame", path, 1, "--format", "png").stdout_bytes)
    assert picture.tolist() == [[0, 0], [0, 0]]


def test_png_of_monochrome1_is_inverted(tmp_path):
    """MONOCHROME1 has its least value white."""
    path = tmp_path / "inverse.dcm"
    path.write_bytes(native_file(bytes([0, 255, 1, 100]), vr="OB", photometric="MONOCHROME1"))
    picture = load_png(run("frame", path, 1, "--format", "png").stdout_bytes)
    assert picture.tolist() == [[255, 0], [254, 155]]


def test_png_of_1_bit_is_black_and_white(tmp_path):
    """The second frame of a mask begins inside a byte, and has 0 and 255 only."""
    path = tmp_path / "mask.dcm"
    path.write_bytes(native_file(b"\x96\0", vr="OB", bits=1, number_of_frames=2))
    picture = load_png(run("frame", path, 2, "--format", "png").stdout_bytes)
    assert picture.tolist() == [[255, 0], [0, 255]]


def test_png_of_floats_ignores_what_is_not_finite(tmp_path):
    """NaN is black, infinity white, the rest windowed."""
    path = tmp_path / "float.dcm"
    value = np.array([np.nan, -1, np.inf, 1], "<f4").tobytes()
    path.write_bytes(native_file(value, tag=0x7FE00008, vr="OF", bits=32))
    picture = load_png(run("frame", path, 1, "--format", "png").stdout_bytes)
    assert picture.tolist() == [[0, 0], [255, 255]]


def test_png_of_a_palette_is_refused():
    """Indices into a palette are no picture."""
    path = testdata("examples_palette.dcm")
    assert "--format npy" in run("frame", path, 1, "--format", "png", code=1).stderr


def test_png_without_pillow_names_the_extra(cine, monkeypatch):
    """The optional package that is missing is named with what installs it."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("frame", cine, 1, "--format", "png", code=1)
    assert "pip install 'mmindex[codecs]'" in result.stderr


def test_decoders_that_say_why_on_several_lines_are_told_on_one(cine, monkeypatch):
    """Lines are joined by semicolons, and what breaks the line in a path is escaped."""

    def fail(path: str, *, force: bool) -> None:
        raise mmindex.MMIndexError("all plugins failed:\n  one: no\n  two: neither", path="a\nb")

    monkeypatch.setattr(mmindex, "open_file", fail)
    expected = "mmindex: a\\nb: all plugins failed: one: no; two: neither\n"
    assert run("frame", cine, 1, code=1).stderr == expected


# frame --stream


def test_stream_writes_the_bit_stream_of_a_video(video):
    """The fragments follow each other, with an index and without."""
    assert run("frame", video, "--stream").stdout_bytes == b"".join(VIDEO)
    mmindex.build(video.parent, workers=1)
    assert run("frame", video, "--stream", "-o", "-").stdout_bytes == b"".join(VIDEO)


@pytest.mark.parametrize(
    ("uid", "extension"),
    [(".100", "m2v"), (".101.1", "m2v"), (".102", "h264"), (".106.1", "h264"), (".108", "h265")],
)
def test_stream_has_the_extension_of_its_codec(tmp_path, uid, extension):
    """{ext} is what players know the codec by."""
    path = tmp_path / "video.dcm"
    path.write_bytes(encapsulated_file(VIDEO, 30, f"1.2.840.10008.1.2.4{uid}"))
    assert run("frame", path, "--stream", "-o", tmp_path / "new" / "v.{ext}").output == ""
    assert (tmp_path / "new" / f"v.{extension}").read_bytes() == b"".join(VIDEO)


@pytest.mark.parametrize(
    "uid", [uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.codec is Codec.VIDEO]
)
def test_every_video_can_be_written(tmp_path, uid):
    """No video's transfer syntax is without an extension."""
    path = tmp_path / "video.dcm"
    path.write_bytes(encapsulated_file(VIDEO, 30, uid))
    assert run("frame", path, "--stream").stdout_bytes == b"".join(VIDEO)


@pytest.mark.parametrize("arguments", [(1,), ("--format", "png"), ("-o", "{number}.{ext}")])
def test_stream_is_neither_numbered_nor_decoded(video, arguments):
    """Frames of a video cannot be had, and that is wrong usage."""
    stderr = " ".join(run("frame", video, "--stream", *arguments, code=2).stderr.split())
    assert "leave out" in stderr or stderr.endswith("only {ext} can stand in it")


@pytest.mark.parametrize("command", ["frame", "ranges"])
def test_a_frame_of_a_video_is_refused_with_what_to_do(video, command):
    """The remedy is one of the command line, not of Python."""
    stderr = run(command, video, 1, code=1).stderr
    assert stderr.startswith(f"mmindex: {video}: the frames of a video are one bit stream")
    assert "--stream" in stderr
    assert "()" not in stderr


def test_stream_of_what_is_no_video_asks_for_numbers(cine, folder):
    """Frames are asked for by NUMBER; without pixel data there is nothing to ask for."""
    assert "by NUMBER" in run("frame", cine, "--stream", code=1).stderr
    stderr = run("frame", folder / "rtplan.dcm", "--stream", code=1).stderr
    assert "no video stream" in stderr


# SOURCE


def test_an_archive_serves_an_instance_by_uid(archive, cine_frames, tmp_path):
    """SOURCE is an archive's folder or an index file with --instance."""
    uid = uid_of(archive / CINE)
    assert run("frame", archive, 5, "--instance", uid).stdout_bytes == cine_frames[4]
    index = archive / ".mmindex"
    assert run("frame", index, 5, "--instance", uid).stdout_bytes == cine_frames[4]


@pytest.mark.parametrize("name", ["", ".mmindex"])
def test_an_archive_without_instance_is_wrong_usage(archive, name):
    """Without --instance an archive does not say which frames are meant."""
    assert "--instance UID" in run("frame", archive / name, 1, code=2).stderr


def test_instance_with_a_file_is_wrong_usage(archive):
    """A file is one instance already."""
    result = run("info", archive / CINE, "--instance", "1.2.3", code=2)
    assert "is neither" in result.stderr


def test_an_unknown_instance_fails(archive):
    """A UID that the index does not have is one line and exit code 1."""
    result = run("frame", archive, 1, "--instance", "1.2.3", code=1)
    assert "the index has no SOP Instance UID '1.2.3'" in result.stderr


@pytest.mark.parametrize("command", [("ls",), ("frame", 1), ("info",)])
def test_a_folder_without_an_index_says_how_to_make_one(folder, command):
    """The remedy is the command itself."""
    name, *rest = command
    assert f"`mmindex build {folder}`" in run(name, folder, *rest, code=1).stderr


@pytest.mark.parametrize("command", [("ls",), ("frame", 1), ("info",), ("ranges", 1), ("build",)])
def test_what_is_not_there_fails_in_one_line(tmp_path, command):
    """A path that does not exist is exit code 1 and a line with the path."""
    name, *rest = command
    result = run(name, tmp_path / "gone", *rest, code=1)
    assert result.stderr.startswith(f"mmindex: {tmp_path / 'gone'}: there is no such ")
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_dicom_fails_in_one_line(tmp_path):
    """What cannot be scanned is told without a traceback."""
    (tmp_path / "note.txt").write_text("hello")
    result = run("info", tmp_path / "note.txt", code=1)
    assert result.stderr.startswith(f"mmindex: {tmp_path / 'note.txt'}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("frame", 1), ("info",), ("ranges", 1)])
def test_force_reads_a_file_without_preamble_and_file_meta(tmp_path, command):
    """Without --force such a file is refused; it is read whether or not an index has it."""
    name, *rest = command
    path = tmp_path / "bare.dcm"
    path.write_bytes(image_attributes() + element(PIXEL_DATA, "OB", b"bare"))
    assert "force" in run(name, path, *rest, code=1).stderr
    printed = run(name, path, *rest, "--force").stdout
    mmindex.build(tmp_path, workers=1)
    assert "force" in run(name, path, *rest, code=1).stderr
    assert run(name, path, *rest, "--force").stdout == printed


def test_a_file_is_served_from_an_index_above_it(folder, tmp_path):
    """The index may be any number of folders above the file."""
    deep = folder / "ward" / "1"
    deep.mkdir(parents=True)
    shutil.move(folder / CINE, deep)
    assert describe(deep / CINE)["index"] is None
    mmindex.build(folder, workers=1)
    assert describe(deep / CINE)["index"] == str(folder / ".mmindex")


def test_the_nearest_index_that_knows_the_file_serves_it(folder):
    """An index that does not know the file is passed over for one further up."""
    near = folder / "ward"
    near.mkdir()
    mmindex.build(near, workers=1)
    shutil.move(folder / CINE, near)
    mmindex.build(folder, workers=1)
    assert describe(near / CINE)["index"] == str(folder / ".mmindex")
    mmindex.build(near, workers=1)
    assert describe(near / CINE)["index"] == str(near / ".mmindex")


def test_a_changed_file_is_scanned_instead(archive, cine_frames):
    """A stale index does not serve a file; what the file holds now is served."""
    path = archive / "rtplan.dcm"
    shutil.copyfile(archive / CINE, path)
    assert describe(path)["index"] is None
    assert run("frame", path, 30).stdout_bytes == cine_frames[29]


def test_a_file_that_was_mended_is_scanned_instead(folder, cine_frames):
    """That a file could not be read when it was indexed says nothing about it now."""
    path = folder / "bad.dcm"
    path.write_bytes(b"no DICOM file")
    mmindex.build(folder, workers=1)
    shutil.copyfile(folder / CINE, path)
    assert run("frame", path, 1).stdout_bytes == cine_frames[0]


@pytest.mark.parametrize("damage", [b"", b"garbage", "cut", "foreign", "folder"])
def test_an_index_that_cannot_be_used_is_passed_over(archive, cine_frames, damage):
    """A damaged or foreign .mmindex does not keep a file from being served."""
    index = archive / ".mmindex"
    content = index.read_bytes()
    index.unlink()
    if damage == "folder":
        index.mkdir()
    elif damage == "cut":
        index.write_bytes(content[:6000])
    elif damage == "foreign":
        index.write_bytes(content.replace(b"mmindex", b"another"))
    else:
        index.write_bytes(damage)
    assert describe(archive / CINE)["index"] is None
    assert run("frame", archive / CINE, 3).stdout_bytes == cine_frames[2]


def test_steps_up_out_of_a_linked_folder_lead_to_the_file_that_the_system_finds(
    archive, tmp_path_factory
):
    """In link/../a.dcm the step up starts from where the link leads."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "inner").mkdir()
    shutil.copyfile(archive / "rtdose.dcm", elsewhere / CINE)
    (archive / "link").symlink_to(elsewhere / "inner")
    described = describe(f"{archive}/link/../{CINE}")
    assert described["modality"] == "RTDOSE"
    assert described["index"] is None


# ranges


def test_ranges_are_where_the_frames_are(cine, cine_frames):
    """The bytes at the ranges of a frame, joined, are the frame."""
    printed = json.loads(run("ranges", cine, 1, 17, 30).stdout)
    data = cine.read_bytes()
    assert printed["path"] == str(cine)
    assert [frame["number"] for frame in printed["frames"]] == [1, 17, 30]
    for frame in printed["frames"]:
        pieces = [data[r["offset"] : r["offset"] + r["length"]] for r in frame["ranges"]]
        assert b"".join(pieces) == cine_frames[frame["number"] - 1]


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


# info


def describe(source: object, *arguments: object) -> dict[str, object]:
    described: dict[str, object] = json.loads(run("info", source, *arguments, "--json").stdout)
    return described


def test_info_as_json_says_what_pydicom_reads(cine, cine_frames):
    """Attributes are the file's, lengths those of its frames."""
    dataset = pydicom.dcmread(cine)
    described = describe(cine)
    assert described["sop_instance_uid"] == dataset.SOPInstanceUID
    assert described["study_instance_uid"] == dataset.StudyInstanceUID
    assert described["transfer_syntax_uid"] == dataset.file_meta.TransferSyntaxUID
    assert described["modality"] == "US"
    assert described["number_of_frames"] == 30
    assert described["image_pixel"]["rows"] == dataset.Rows
    lengths = sorted(map(len, cine_frames))
    assert described["frame_length"] == {
        "min": lengths[0],
        "median": lengths[14],
        "max": lengths[29],
    }


def test_info_has_the_same_keys_for_every_instance(archive):
    """What an instance does not have is there, too, and null or empty."""
    keys = {frozenset(describe(archive / name)) for name in NAMES}
    assert len(keys) == 1


def test_info_prints_aligned_lines(archive):
    """Names and values stand in two columns."""
    lines = run("info", archive / CINE).stdout.splitlines()
    column = lines[0].index(str(archive))
    assert all(line[column - 2 : column] == "  " and line[column] != " " for line in lines)
    values = {line[:column].strip(): line[column:] for line in lines}
    assert values["Served from"] == f"the index {archive / '.mmindex'}"
    assert values["Frames"] == "30"
    assert values["Transfer syntax"] == "JPEG Baseline (Process 1) (1.2.840.10008.1.2.4.50)"
    assert values["Anomalies"] == "none"


def test_info_prints_anomalies_with_offset_and_count(tmp_path):
    """An anomaly is a line with its code, its first place in hex, and how often it was seen."""
    path = tmp_path / "odd.dcm"
    data = encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2)
    path.write_bytes(data)
    place = data.index(b"\xff\xd8") - 8
    assert f"odd-fragment-length @0x{place:x}, 2 times" in run("info", path).stdout
    assert describe(path)["anomalies"] == [
        {"code": "odd-fragment-length", "offset": place, "count": 2}
    ]


def test_info_of_an_instance_without_pixels_leaves_the_image_out(folder):
    """There is no line without a value."""
    printed = run("info", folder / "rtplan.dcm").stdout
    assert "no-pixel-data" in printed
    assert "Frame" not in printed


def info_values(path: Path) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in run("info", path).stdout.splitlines()]
    return {name: value.strip() for name, value in lines}


def test_info_of_a_video_tells_of_its_stream_not_of_frames(video):
    """A video is one bit stream: no frame of it is lost, and there are no boundaries."""
    values = info_values(video)
    described = describe(video)
    offset = video.read_bytes().index(VIDEO[0]) - 8
    length = len(b"".join(VIDEO))
    assert values["Video"] == (
        f"one bit stream of {length} bytes in 3 fragments from @0x{offset:x} on, "
        "with 30 frames by (0028,0008)"
    )
    assert not any(name.startswith("Frame") for name in values)
    assert described["number_of_frames"] == 30
    assert described["frames_located"] is None
    assert (described["boundaries"], described["layout"]) == ("none", "stream")
    assert (described["stream_length"], described["number_of_fragments"]) == (length, 3)


def test_info_of_a_video_does_not_say_what_its_file_may_not(tmp_path):
    """Without (0028,0008) there is no number of frames to be told."""
    path = tmp_path / "video.dcm"
    path.write_bytes(encapsulated_file([VIDEO[0]], None, HEVC))
    video = info_values(path)["Video"]
    assert "in 1 fragment from" in video
    assert video.endswith(" on")


def test_info_says_which_offsets_are_in_the_inflated_data_set(tmp_path):
    """Those of a deflated file's data set, not those of its File Meta Information."""
    path = tmp_path / "deflated.dcm"
    data_set = image_attributes(number_of_frames=2) + element(PIXEL_DATA, "OB", bytes(6))
    deflate = zlib.compressobj(wbits=-15)
    deflated = deflate.compress(data_set) + deflate.flush()
    syntax = DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    path.write_bytes(dicom_file(deflated + bytes(len(deflated) % 2), syntax, group_length=7))
    printed = run("info", path).stdout
    offset = len(data_set) - 6
    assert f"native, from @0x{offset:x} in the inflated data set on" in printed
    assert "1, the last" not in printed
    assert "2, the last of them lost with the end of the file" in printed
    (meta,) = (line for line in printed.splitlines() if "file-meta-group-length" in line)
    assert "inflated" not in meta
    others = [line for line in printed.splitlines() if line.startswith("Anomaly ") and line != meta]
    assert others
    assert all("in the inflated data set" in line for line in others)


def test_info_without_transfer_syntax_says_that_none_is_given(tmp_path):
    """An empty UID is not put into brackets."""
    path = tmp_path / "none.dcm"
    path.write_bytes(dicom_file(image_attributes() + element(PIXEL_DATA, "OB", bytes(4)), None))
    assert info_values(path)["Transfer syntax"] == "none given"
    assert describe(path)["transfer_syntax_name"] == ""


def test_info_of_a_trusted_table_does_not_say_what_nobody_looked_at(tmp_path):
    """Fragments are not counted and frames not measured where the table was taken as it is."""
    path = tmp_path / "trusted.dcm"
    frames = [bytes([0xFF, 0xD8, at, 0, 0xFF, 0xD9]) for at in range(40)]
    table = extended_offset_table([14 * at for at in range(40)], [6] * 40)
    path.write_bytes(encapsulated_file(frames, 40, before=table))
    run("build", tmp_path, "--workers", 1, "--no-prove")
    values, described = info_values(path), describe(path)
    assert described["layout"] == "trusted"
    assert values["Frame boundaries"].endswith("as some of its entries confirm")
    assert values["Layout"].startswith("fragments, not counted, from @0x")
    assert (described["number_of_fragments"], described["frame_length"]) == (None, None)


# ls


def test_ls_lists_the_files_by_path(archive):
    """One line a DICOM file, tab-separated where no terminal is, sorted by path."""
    (archive / "note.txt").write_text("hello")
    mmindex.build(archive, workers=1)
    rows = [line.split("\t") for line in run("ls", archive).stdout.splitlines()]
    assert [row[0] for row in rows] == sorted(NAMES)
    size = str((archive / CINE).stat().st_size)
    dataset = pydicom.dcmread(archive / CINE)
    assert rows[sorted(NAMES).index(CINE)][1:] == [
        *(dataset.SOPInstanceUID, "US", "JPEG Baseline (Process 1)", "30", size, "indexed"),
        *(dataset.StudyInstanceUID, dataset.SeriesInstanceUID),
        *("1.2.840.10008.1.2.4.50", "basic-offset-table", ""),
    ]


def test_ls_names_the_anomalies_of_a_file(tmp_path):
    """Off a terminal their codes are the last column; as JSON each has its place and count."""
    data = encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2)
    (tmp_path / "odd.dcm").write_bytes(data)
    mmindex.build(tmp_path, workers=1)
    assert run("ls", tmp_path).stdout.endswith("\tone-fragment-a-frame\todd-fragment-length\n")
    (row,) = json.loads(run("ls", tmp_path, "--json").stdout)
    assert row["boundaries"] == "one-fragment-a-frame"
    place = data.index(b"\xff\xd8") - 8
    assert row["anomalies"] == [{"code": "odd-fragment-length", "offset": place, "count": 2}]


def test_ls_takes_an_index_file(archive, tmp_path_factory):
    """An index elsewhere lists the same files."""
    index = tmp_path_factory.mktemp("index") / "index"
    run("build", archive, "--index", index)
    assert run("ls", index).stdout == run("ls", archive).stdout


@pytest.mark.parametrize(("option", "keyword"), [("--study", "Study"), ("--series", "Series")])
def test_ls_of_a_study_or_series_has_its_instances_only(archive, option, keyword):
    """--study and --series choose by UID."""
    uid = pydicom.dcmread(archive / CINE)[f"{keyword}InstanceUID"].value
    assert [
        row["path"] for row in json.loads(run("ls", archive, option, uid, "--json").stdout)
    ] == [CINE]
    assert json.loads(run("ls", archive, option, "1.2.3", "--json").stdout) == []


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_ls_of_a_study_that_is_not_there_says_so(archive, as_json):
    """An empty list is told in one line, and is no failure."""
    result = run("ls", archive, "--study", "1.2", "--series", "1.3", *as_json)
    assert result.stdout == ("[]\n" if as_json else "")
    assert (
        result.stderr
        == "mmindex: no instance of study 1.2 and series 1.3 with frames in the index\n"
    )
    run_series = run("ls", archive, "--series", "1.3", *as_json)
    assert "no instance of series 1.3 with frames" in run_series.stderr


def test_ls_as_json_is_one_array(archive):
    """Every file is an object of the array."""
    rows = json.loads(run("ls", archive, "--json").stdout)
    assert sorted(row["path"] for row in rows) == sorted(NAMES)
    (cine,) = (row for row in rows if row["path"] == CINE)
    assert (cine["number_of_frames"], cine["status"]) == (30, "indexed")


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are text there")
def test_paths_that_are_no_text_or_steer_terminals_are_escaped(folder):
    """A path cannot break a line or hide; JSON gives its bytes back."""
    name = b"a\n\x1b[2J\xff.dcm"
    os.rename(folder / CINE, os.path.join(os.fsencode(folder), name))
    mmindex.build(folder, workers=1)
    first = run("ls", folder).stdout.splitlines()[0]
    assert first.startswith("a\\n\\x1b[2J\\udcff.dcm\t")
    rows = json.loads(run("ls", folder, "--json").stdout)
    assert name in [os.fsencode(row["path"]) for row in rows]


def test_output_escapes_what_its_encoding_cannot_hold(folder):
    """A path that the output's encoding does not have is no failure."""
    (folder / CINE).rename(folder / "\u20ac.dcm")
    mmindex.build(folder, workers=1)
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1:strict", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*PROGRAM, "ls", str(folder)], env=environment, capture_output=True, text=True, check=True
    )
    assert "\\u20ac.dcm\t" in done.stdout


# build


def test_build_makes_an_index_and_sums_up(folder):
    """The last lines on standard output say what was done."""
    result = run("build", folder, "--workers", 1)
    assert (folder / ".mmindex").is_file()
    assert "5 files" in result.stdout
    assert "5 scanned, 0 unchanged, 0 removed" in result.stdout
    assert result.stderr == ""
    assert "0 scanned, 5 unchanged" in run("build", folder).stdout
    assert "5 scanned, 0 unchanged" in run("build", folder, "--full", "--workers", 1).stdout


def test_build_report_as_json(folder):
    """--json prints the whole report, problems with path and reason included."""
    (folder / "gone.dcm").symlink_to(folder / "nowhere")
    report = json.loads(run("build", folder, "--workers", 1, "--json").stdout)
    assert report["index"] == str(folder / ".mmindex")
    assert report["found"] == report["scanned"] == 5
    assert report["statuses"] == {"indexed": 4, "no-pixel-data": 1}
    assert report["frames"] == 30 + 1 + 1 + 15
    assert [problem["path"] for problem in report["problems"]] == ["gone.dcm"]
    assert report["problem_count"] == 1


def test_build_prints_problems_and_goes_on(folder):
    """A file that cannot be read is a line on standard error; only --strict makes it fail."""
    bad = dicom_file(element(PIXEL_DATA, "OB", b"", length=0xFFFFFFFF) + b"junk")
    (folder / "bad.dcm").write_bytes(bad)
    result = run("build", folder, "--workers", 1)
    assert result.stderr.startswith("mmindex: bad.dcm: ")
    assert "\n1 problem\n" in result.stdout
    assert "1 file of the index cannot be read: `mmindex check` says why" in result.stdout
    run("build", folder, "--workers", 1, "--full", "--strict", code=1)


def test_strict_is_not_content_with_files_that_an_earlier_build_could_not_read(folder):
    """A later build leaves such a file unchanged, and tells of it all the same."""
    bad = dicom_file(element(PIXEL_DATA, "OB", b"", length=0xFFFFFFFF) + b"junk")
    (folder / "bad.dcm").write_bytes(bad)
    run("build", folder, "--workers", 1)
    result = run("build", folder, "--workers", 1, "--strict", code=1)
    assert "0 scanned, 6 unchanged" in result.stdout
    assert "1 file of the index cannot be read" in result.stdout
    report = json.loads(run("build", folder, "--workers", 1, "--json").stdout)
    assert (report["problem_count"], report["unreadable"]) == (0, 1)
    (folder / "bad.dcm").unlink()
    result = run("build", folder, "--workers", 1, "--strict")
    assert "cannot be read" not in result.stdout


def test_build_counts_one_as_one(tmp_path):
    """One file is not 1 files."""
    (tmp_path / "one.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    printed = run("build", tmp_path, "--workers", 1).stdout
    assert "\n1 file in " in printed
    assert "Scanned: 1 indexed; 1 frame\n1 problem\n" in printed


def test_build_prints_few_of_many_problems(folder):
    """Many problems are counted, not listed."""
    for number in range(25):
        (folder / f"link-{number}").symlink_to(folder / "nowhere")
    lines = run("build", folder, "--workers", 1).stderr.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "mmindex: and 5 more problems"


def test_build_with_force_takes_files_without_preamble(folder):
    """--force reaches the scan."""
    (folder / "bare.dcm").write_bytes(native_file(bytes(4), vr="OB")[132:])
    assert "1 not-dicom" in run("build", folder, "--workers", 1).stdout
    result = run("build", folder, "--workers", 1, "--full", "--force")
    assert "5 indexed, 1 no-pixel-data" in result.stdout


def test_build_without_distributed_names_the_extra(folder, monkeypatch):
    """--dask without the package is one line that says what installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("build", folder, "--dask", "localhost:1", code=1)
    assert "pip install 'mmindex[dask]'" in result.stderr
    assert not (folder / ".mmindex").exists()


def test_build_scans_in_the_executor_of_a_dask_client(folder, monkeypatch):
    """The address goes to the client, whose executor scans, and which is closed."""
    said: list[str] = []

    class Client:
        def __init__(self, address: str) -> None:
            if address == "wrong":
                raise ValueError("no port")
            said.append(address)
            self.pool = ThreadPoolExecutor(1)

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *error: object) -> None:
            self.pool.shutdown()
            said.append("closed")

        def get_executor(self) -> ThreadPoolExecutor:
            return self.pool

    monkeypatch.setitem(sys.modules, "distributed", types.SimpleNamespace(Client=Client))
    assert "5 scanned" in run("build", folder, "--dask", "localhost:8786").stdout
    assert said == ["localhost:8786", "closed"]
    assert "'wrong': no port" in run("build", folder, "--dask", "wrong", code=2).stderr
    run("build", folder, "--dask", "localhost:8786", "--workers", 2, code=2)


def report_of(found: int, scanned: int = 0, **counts: object) -> BuildReport:
    return BuildReport("/a", "/a/.mmindex", found=found, scanned=scanned, **counts)


@pytest.mark.parametrize(
    ("report", "seconds", "expected"),
    [
        (report_of(0), 0.0, "0 of 0+ files"),
        (report_of(512), 1.0, "0 of 512+ files"),
        (
            report_of(4700, 4600, unchanged=8, frames=12345, problem_count=2),
            2.0,
            "4,608 of 4,700+ files, 2,304 files/s, 12,345 frames, 2 problems",
        ),
        (
            report_of(3662, 1, frames=1, problem_count=1, listing=False),
            1.0,
            "1 of 3,662 files, 1 files/s, 1:01:01 left, 1 frame, 1 problem",
        ),
        (report_of(1, 1, listing=False), 0.5, "1 of 1 file, 2 files/s, 0:00:00 left"),
    ],
)
def test_progress_tells_the_time_left_once_the_total_is_known(report, seconds, expected):
    """While folders are being listed, the total is no less than what was found."""
    assert describe_progress(report, seconds) == expected


def test_progress_has_a_bar_once_the_total_is_known(capsys):
    """The line is written over as it becomes longer and shorter, and wiped."""
    now = iter([0.0, 1.0, 1.05, 2.0, 3.0])
    line = ProgressLine(clock=lambda: next(now))
    line.show(report_of(512, 256))
    line.show(report_of(512, 300))
    line.show(report_of(512, 256, listing=False))
    line.show(report_of(0, listing=False))
    line.wipe()
    shown = capsys.readouterr().err.split("\r")
    assert [text.rstrip() for text in shown] == [
        "",
        "256 of 512+ files, 256 files/s",
        "[############------------] 256 of 512 files, 128 files/s, 0:00:02 left",
        "[------------------------] 0 of 0 files",
        *("", ""),
    ]
    assert len(shown[3]) == len(shown[2])


def test_progress_that_was_never_shown_is_not_wiped(capsys):
    """Nothing is written where nothing was."""
    ProgressLine().wipe()
    assert capsys.readouterr().err == ""


def test_progress_off_a_terminal_is_a_plain_line_now_and_then(capsys):
    """Every ten seconds, the first time after ten, without a bar."""
    now = iter([100.0, 100.0, 109.9, 110.0, 119.0, 120.5])
    log = ProgressLog(clock=lambda: next(now))
    for done in (1, 50, 100, 110):
        log.show(report_of(500, done))
    log.show(report_of(410, 205, listing=False))
    assert capsys.readouterr().err.splitlines() == [
        "mmindex: 100 of 500+ files, 10 files/s",
        "mmindex: 205 of 410 files, 10 files/s, 0:00:20 left",
    ]


def test_build_off_a_terminal_reports_to_the_plain_lines(folder, monkeypatch):
    """Standard error that is a file gets lines, each whole."""
    monkeypatch.setattr("mmindex.cli.progress._LOG_EVERY", 0.0)
    lines = run("build", folder, "--workers", 1).stderr.splitlines()
    assert lines[0].startswith("mmindex: 0 of 5+ files")
    assert lines[-1].startswith("mmindex: 5 of 5 files, ")


# check, stats


def test_check_on_a_terminal_is_sorted_under_a_heading(archive, terminal):
    """Off a terminal the same rows are separated by tabs."""
    for name in NAMES:
        (archive / name).unlink()
    ours, theirs = terminal
    assert run_child("check", archive, stdout=theirs).returncode == 1
    heading, *rows = read_terminal(ours, theirs).splitlines()
    assert heading.split() == ["Path", "Kind", "Problem"]
    assert [row.split()[0] for row in rows if " missing " in row] == sorted(NAMES)
    for name in ("Kind", "Problem"):
        column = heading.index(name)
        assert all(row[column - 1] == " " and row[column] != " " for row in rows)
    piped = [line.split("\t") for line in run("check", archive, code=1).stdout.splitlines()]
    assert sorted(map(tuple, piped)) == [tuple(row.split(None, 2)) for row in rows]


def test_check_on_a_terminal_says_that_all_is_well(tmp_path, terminal):
    """No problems are one line on standard error, and nothing off a terminal."""
    (tmp_path / "one.dcm").write_bytes(native_file(bytes(4), vr="OB"))
    mmindex.build(tmp_path, workers=1)
    assert run("check", tmp_path).output == ""
    ours, theirs = terminal
    done = run_child("check", tmp_path, stdout=theirs)
    assert (done.returncode, done.stderr) == (0, "mmindex: no problems\n")
    assert read_terminal(ours, theirs) == ""


def test_stats_without_frames_has_no_bytes_a_frame(tmp_path):
    """Nothing is divided by nothing."""
    (tmp_path / "note.txt").write_text("x")
    mmindex.build(tmp_path, workers=1)
    printed = run("stats", tmp_path).stdout
    assert "a frame" not in printed
    assert "1, 1 byte\n" in printed


def test_stats_has_the_paths_of_its_ranks_below_each_other(archive):
    """What was measured is as wide as its longest."""
    lines = run("stats", archive).stdout.splitlines()
    ranks = [line for line in lines if line.startswith("Most frames")]
    assert [line.split()[3] for line in ranks] == ["30", "15", "1", "1"]
    assert len({line.index(line.split()[4]) for line in ranks}) == 1


def test_a_table_too_wide_for_the_terminal_shortens_one_column(monkeypatch):
    """It gives way by as much as is needed, no further than to its heading."""
    rows = [("1", "a long name of it", "end"), ("22", "short", "end")]
    heading = ("Path", "Syntax", "Last")
    printed = {}
    for columns in (31, 30, 27, 12):
        monkeypatch.setenv("COLUMNS", str(columns))
        widths = measure_columns(heading, rows, "Syntax", margin=2)
        printed[columns] = [align(row, heading, widths, ("Path",)) for row in (heading, *rows)]
    assert printed[31] == [
        "Path  Syntax             Last",
        "   1  a long name of it  end",
        "  22  short              end",
    ]
    assert printed[30][1] == "   1  a long name o...  end"
    assert printed[27][1] == "   1  a long nam...  end"
    assert printed[12][1] == "   1  a l...  end"


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        *((0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB")),
        *((999_950, "1.0 MB"), (12_345_678, "12.3 MB"), (4 * 10**12, "4.0 TB")),
        (2 * 10**18, "2000.0 PB"),
    ],
)
def test_a_size_for_people_has_one_decimal_of_the_unit_that_fits(length, expected):
    """A thousand of a unit is one of the next, also after rounding."""
    assert rounded_size(length) == expected


# how commands end


@pytest.mark.parametrize(
    ("found", "listing", "expected"),
    [
        (0, True, "interrupted: 0 of 0 files found so far"),
        (5000, True, "interrupted: 1,200 of 5,000 files found so far"),
        (5000, False, "interrupted: 1,200 of 5,000 files"),
    ],
)
def test_an_interrupted_build_says_what_is_done_and_how_to_go_on(
    folder, monkeypatch, found, listing, expected
):
    """What was scanned when Ctrl-C came was committed; while folders are listed, more may come."""

    def interrupt(*arguments: object, progress: Progress, **options: object) -> None:
        report = report_of(found, listing=listing)
        progress(report)
        if found:
            report.scanned, report.unchanged = 1000, 200
        raise KeyboardInterrupt

    monkeypatch.setattr(mmindex, "build", interrupt)
    result = run("build", folder, code=130)
    assert result.stdout == ""
    assert result.stderr == (
        f"mmindex: {expected} are in the index; run the same command again to go on\n"
    )


def test_what_an_interrupted_build_says_is_in_the_index_is_there(folder, monkeypatch):
    """The files that are counted can be read, and the next build scans the others only."""
    show = ProgressLog.show

    def interrupt(log: ProgressLog, report: BuildReport) -> None:
        show(log, report)
        if report.scanned:
            raise KeyboardInterrupt

    for number in range(100):
        shutil.copyfile(folder / "rtplan.dcm", folder / f"{number}.dcm")
    monkeypatch.setattr(plan_module, "_CHUNK_FILES", 10)
    monkeypatch.setattr(ProgressLog, "show", interrupt)
    stderr = run("build", folder, "--workers", 1, code=130).stderr
    done = int(stderr.split()[2])
    assert 0 < done < 105
    assert len(run("ls", folder).stdout.splitlines()) == done
    monkeypatch.setattr(ProgressLog, "show", show)
    assert f"{105 - done} scanned, {done} unchanged" in run("build", folder).stdout


def test_interrupted_is_130(folder, monkeypatch):
    """Ctrl-C ends without a traceback."""

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmindex, "build", interrupt)
    assert run("build", folder, code=130).stderr == "mmindex: interrupted\n"


def test_an_error_of_the_system_is_one_line(cine, monkeypatch):
    """A file that may not be read is told with its path, without a traceback."""

    def refuse(path: str, *, force: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(mmindex, "open_file", refuse)
    assert run("frame", cine, 1, code=1).stderr == f"mmindex: {cine}: Permission denied\n"


@pytest.mark.parametrize("command", ["frame", "sheet", "ranges", "info", "ls", "stats", "check"])
def test_nobody_reading_the_output_ends_quietly(archive, command):
    """A closed pipe, as of `| head`, leaves no message behind."""
    (archive / "rtplan.dcm").unlink()  # for check to say something
    source = [archive] if command in ("ls", "stats", "check") else [archive / CINE]
    numbers = range(1, 31) if command in ("frame", "ranges") else []
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_child(command, *source, *numbers, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", [("frame", 1), ("info",)])
def test_a_full_disk_is_one_line(cine, command):
    """Output that cannot be written is a failure, told once."""
    name, *rest = command
    with open("/dev/full", "w") as full:
        done = run_child(name, cine, *rest, stdout=full)
    assert (done.returncode, done.stderr) == (1, f"mmindex: {os.strerror(errno.ENOSPC)}\n")


@pytest.fixture
def terminal():
    """Yield a terminal's two ends, this one and a program's."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def read_terminal(ours: int, theirs: int) -> str:
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 4096):
            pieces.append(piece)
    except OSError:  # how Linux says that the other end is closed
        pass
    return b"".join(pieces).decode()


@pytest.mark.parametrize("command", ["frame", "sheet"])
def test_frames_are_kept_off_a_terminal(cine, terminal, command):
    """Binary data goes to a terminal only where it was said to."""
    ours, theirs = terminal
    done = run_child(command, cine, 1, stdout=theirs)
    assert done.returncode == 2
    assert "-o -" in done.stderr
    assert read_terminal(ours, theirs) == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("frame", 99), "frame 99"), (("frame", "--stream"), "no video"), (("sheet", 99), "frame 99")],
)
def test_what_cannot_be_done_is_said_before_that_a_terminal_gets_no_data(
    cine, terminal, arguments, said
):
    """Else the true reason would come only after -o was given."""
    name, *rest = arguments
    done = run_child(name, cine, *rest, stdout=terminal[1])
    assert said in done.stderr
    assert "-o -" not in done.stderr


def test_frames_go_to_a_terminal_that_is_asked_for(folder, terminal):
    """`-o -` is taken at its word."""
    ours, theirs = terminal
    (folder / "text.dcm").write_bytes(native_file(b"text", vr="OB"))
    assert run_child("frame", folder / "text.dcm", 1, "-o", "-", stdout=theirs).returncode == 0
    assert read_terminal(ours, theirs) == "text"


def print_on_terminal(terminal: tuple[int, int], *arguments: object) -> list[str]:
    ours, theirs = terminal
    assert run_child(*arguments, stdout=theirs).returncode == 0
    return read_terminal(ours, theirs).splitlines()


def test_ls_on_a_terminal_groups_instances_by_study_and_series(archive, terminal):
    """A study's UID is told once, then its series with modality and transfer syntax."""
    second = pydicom.dcmread(archive / CINE)
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    second.save_as(archive / "a second.dcm")
    mmindex.build(archive, workers=1)
    heading, *lines = print_on_terminal(terminal, "ls", archive)
    assert heading.split() == ["Path", "Frames", "Size", "Boundaries", "Status"]
    at = lines.index(f"Study  {second.StudyInstanceUID}")
    size = f"{(archive / CINE).stat().st_size / 1000:.1f}"
    (modality_at,) = (i for i, line in enumerate(lines) if line == "US, JPEG Baseline (Process 1)")
    assert lines[at + 1] == f"Series {second.SeriesInstanceUID}"
    assert modality_at == at + 2
    assert lines[at + 4] == "    1.2.3.4"
    row = lines[at + 5]
    assert row.split() == [CINE, "30", size, "kB", "basic-offset-table", "indexed"]
    assert lines[at + 6] == "    " + uid_of(archive / CINE)
    for name in ("Path", "Boundaries", "Status"):
        assert row[: heading.index(name)].endswith("  ")
        assert row[heading.index(name)] != " "
    assert sum(line.startswith("Study ") for line in lines) == len(NAMES)


def test_ls_on_a_terminal_tells_study_series_and_syntax_once_each(tmp_path, terminal):
    """A study of two series, the second one in two transfer syntaxes; then another study."""
    described = [("1.1", "1.5", True), ("1.1", "1.6", False), ("1.1", "1.6", True)]
    for at, (study, series, explicit) in enumerate([*described, ("1.2", "1.7", True)]):
        data_set = (
            element(0x00080060, "CS", "CT", implicit=not explicit)
            + element(0x0020000D, "UI", study, implicit=not explicit)
            + element(0x0020000E, "UI", series, implicit=not explicit)
            + image_attributes(implicit=not explicit)
            + element(PIXEL_DATA, "OB", bytes(4), implicit=not explicit)
        )
        syntax = EXPLICIT_VR_LITTLE_ENDIAN if explicit else IMPLICIT_VR_LITTLE_ENDIAN
        (tmp_path / f"{at}.dcm").write_bytes(dicom_file(data_set, syntax))
    mmindex.build(tmp_path, workers=1)
    lines = print_on_terminal(terminal, "ls", tmp_path)[1:]
    assert [line.split("  native")[0].strip().split("  ")[0] for line in lines] == [
        *("", "Study", "Series 1.5", "CT, Explicit VR Little Endian", "0.dcm"),
        *("Series 1.6", "CT, Explicit VR Little Endian", "2.dcm"),
        *("CT, Implicit VR Little Endian", "1.dcm"),
        *("", "Study", "Series 1.7", "CT, Explicit VR Little Endian", "3.dcm"),
    ]
    assert [line for line in lines if line.startswith("Study")] == ["Study  1.1", "Study  1.2"]


def test_ls_on_a_terminal_counts_anomalies_and_says_what_is_unknown(tmp_path, terminal):
    """A file without UIDs is listed, too; a list of nothing has no heading."""
    (tmp_path / "odd.dcm").write_bytes(encapsulated_file([b"\xff\xd8a\xff\xd9"] * 2, 2))
    mmindex.build(tmp_path, workers=1)
    lines = print_on_terminal(terminal, "ls", tmp_path)
    assert lines[2:5] == [
        "Study  unknown",
        "Series unknown",
        "unknown modality, JPEG Baseline (Process 1)",
    ]
    assert lines[5].endswith("indexed, 1 anomaly")
    assert len(lines) == 6


def test_ls_of_nothing_says_so_on_a_terminal(tmp_path, terminal):
    """There is no heading without a row."""
    mmindex.build(tmp_path, workers=1)
    done = run_child("ls", tmp_path, stdout=terminal[1])
    assert (done.returncode, done.stderr) == (0, "mmindex: no DICOM files\n")
    assert read_terminal(*terminal) == ""
    assert run("ls", tmp_path).stderr == ""


def test_a_file_that_changed_since_it_was_indexed_is_said_to_be_stale(archive):
    """It is served all the same, as it is now."""
    index = archive / ".mmindex"
    os.utime(archive / CINE, ns=(1, 1))
    served = f"the file, scanned now: it is not as the index {index} has it"
    assert served in run("info", archive / CINE).stdout.splitlines()[1]


def test_sizes_on_a_terminal_are_for_people(archive, terminal):
    """A rounded size, and the exact one with its digits in groups."""
    size = (archive / CINE).stat().st_size
    lines = print_on_terminal(terminal, "info", archive / CINE)
    assert f"File size            {size / 1000:.1f} kB, {size:,} bytes" in lines
    assert f"{size} bytes" in run("info", archive / CINE).stdout


def test_stats_on_a_terminal_rounds_the_size_of_the_files(archive, terminal):
    """Off a terminal it is exact."""
    size = sum((archive / name).stat().st_size for name in NAMES)
    first, *_ = print_on_terminal(terminal, "stats", archive)
    assert first.split(None, 1)[1] == f"{len(NAMES)}, {size / 1000:.1f} kB"


def test_build_shows_progress_on_a_terminal_and_wipes_it(folder, terminal):
    """The bar is on standard error, and gone when the summary comes."""
    ours, theirs = terminal
    done = run_child("build", folder, "--workers", 1, stderr=theirs)
    shown = read_terminal(ours, theirs)
    assert done.returncode == 0
    assert "of 5+ files" in shown
    assert shown.endswith("\r")
    assert shown.rstrip("\r").rpartition("\r")[2].strip() == ""
    assert "5 scanned" in done.stdout


def test_exit_codes_of_the_process(cine, tmp_path):
    """0 done, 1 failed, 2 wrong usage."""
    assert run_child("info", cine).returncode == 0
    failed = run_child("info", tmp_path / "gone.dcm")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Traceback" not in failed.stderr
    assert run_child("info", cine, "--nonsense").returncode == 2
    assert run_child("nonsense").returncode == 2


# the program


def test_version_is_the_package_s():
    """--version prints one line."""
    assert run("--version").stdout == f"mmindex {mmindex.__version__}\n"


def test_help_lists_every_command():
    """The commands are listed with what they do."""
    printed = run("--help").stdout
    for name in COMMANDS:
        assert f"\n  {name} " in printed


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_a_screen_and_has_an_example(name):
    """--help is at most 24 lines of 80 columns, and shows an example."""
    lines = run(*name.split(), "--help").stdout.splitlines()
    assert any(line.startswith(f"  mmindex {name or 'build'} ") for line in lines)
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


def modules_loaded(*arguments: object) -> set[str]:
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
        "from mmindex.cli import main\n"
        "if sys.argv[1:]: main(prog_name='mmindex')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    return {line.partition(".")[0] for line in done.stderr.decode().splitlines()}


def test_the_command_line_starts_light(folder):
    """Neither the program, its help nor a raw frame of a file waits for numpy or pydicom."""
    heavy = {"numpy", "pydicom", "PIL", "distributed"}
    assert modules_loaded().isdisjoint(heavy)
    assert modules_loaded("--help").isdisjoint({*heavy, "lmdb"})
    assert modules_loaded("frame", folder / "rtdose.dcm", 1).isdisjoint({*heavy, "lmdb"})
    mmindex.build(folder, workers=1)
    assert modules_loaded("frame", folder / CINE, 1).isdisjoint(heavy)


def test_python_runs_the_package_as_the_command(tmp_path: Path) -> None:
    """`python -m mmindex` is `mmindex`."""
    ran = subprocess.run(
        [sys.executable, "-m", "mmindex", "--version"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"python -m mmindex {mmindex.__version__}\n"
