"""`mmindex frame`, held against pydicom and the bytes of the files themselves."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from cli_runner import (
    read_terminal,
    run,
    run_child,
)
from dicom_bytes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_2000,
    JPEG_BASELINE,
    RLE_LOSSLESS,
    encapsulated_file,
    native_file,
)
from PIL import Image
from pydicom.pixels import pixel_array
from pydicom_oracle import exact_array
from sample_archive import CINE, VIDEO, testdata

import mmindex
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES, Codec


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
    np.testing.assert_array_equal(saved, exact_array(cine, 29))
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
    np.testing.assert_array_equal(picture, exact_array(folder / name, 0))


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


def test_png_without_pillow_names_the_extra(cine, monkeypatch):
    """The optional package that is missing is named with what installs it."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("frame", cine, 1, "--format", "png", code=1)
    assert "pip install 'mmindex[codecs]'" in result.stderr


def test_decoders_that_say_why_on_several_lines_are_told_on_one(cine, monkeypatch):
    """Lines are joined by semicolons, and what breaks the line in a path is escaped."""

    def fail(path: str, *, force: bool, prove: bool) -> None:
        raise mmindex.MMIndexError("all plugins failed:\n  one: no\n  two: neither", path="a\nb")

    monkeypatch.setattr(mmindex, "open_file", fail)
    expected = "mmindex: a\\nb: all plugins failed: one: no; two: neither\n"
    assert run("frame", cine, 1, code=1).stderr == expected


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


def test_an_output_that_is_there_is_replaced_by_a_frame_of_a_zip_member(tmp_path):
    """The container itself is never written over, by whatever name."""
    archive, output = tmp_path / "study.zip", tmp_path / "frame.raw"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.dcm", native_file(b"abcd", vr="OB"))
    output.write_bytes(b"old")
    run("frame", f"{archive}!/a.dcm", 1, "-o", output)
    assert output.read_bytes() == b"abcd"
    before = archive.read_bytes()
    (tmp_path / "link").symlink_to(archive)
    for path in (archive, tmp_path / "link"):
        stderr = run("frame", f"{archive}!/a.dcm", 1, "-o", path, code=2).stderr
        assert "is the file that the frames come from" in stderr
    assert archive.read_bytes() == before


def test_standard_input_is_not_written_over(tmp_path):
    """The file that the shell opened is the source, though it has no path here."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(b"abcd", vr="OB"))
    before = path.read_bytes()
    command = [sys.executable, "-m", "mmindex", "frame", "-", "1", "-o"]
    with path.open("rb") as file:
        done = subprocess.run([*command, path], stdin=file, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"is the file that the frames come from" in done.stderr
    assert path.read_bytes() == before
    with path.open("rb") as file:
        subprocess.run([*command, tmp_path / "frame"], stdin=file, check=True)
    assert (tmp_path / "frame").read_bytes() == b"abcd"


def test_a_picture_in_a_window_is_that_of_the_library(tmp_path):
    """The file's window, one by the frame's values, and one that is given."""
    path = tmp_path / "ct.dcm"
    path.write_bytes(testdata("examples_overlay.dcm").read_bytes())
    output = tmp_path / "frame.png"
    with mmindex.open_file(path) as instance:
        for text, window in (("file", "file"), ("auto", "auto"), ("300,200", (300.0, 200.0))):
            run("frame", path, 1, "--window", text, "-o", output)
            assert np.array_equal(np.asarray(Image.open(output)), instance.picture(0, window))
        run("frame", path, 1, "--window", "file", "--format", "jpg", "-o", tmp_path / "frame.jpg")
        found = np.asarray(Image.open(tmp_path / "frame.jpg")).astype(int)
        assert np.abs(found - instance.picture(0)).mean() < 3
    for wrong in ("40", "40,", "40,0", "nan,1", "wide"):
        assert "CENTER,WIDTH" in run("frame", path, 1, "--window", wrong, code=2).stderr
    assert "of pictures" in run("frame", path, 1, "--window", "file", code=2).stderr


def test_the_name_of_the_output_says_the_format(tmp_path):
    """A .png is a PNG file, a .npy an array; a .jpg is the frame only if that is stored as JPEG."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(bytes([7, 9, 200, 8]), vr="OB"))
    for name in ("a.png", "B.PNG"):
        run("frame", path, 1, "-o", tmp_path / name)
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
    run("frame", path, 1, "-o", tmp_path / "a.npy")
    assert np.load(tmp_path / "a.npy").tolist() == [[7, 9], [200, 8]]
    stderr = run("frame", path, 1, "-o", tmp_path / "a.jpg", code=2).stderr
    assert "the frame is stored as raw, not JPEG: add --format jpg" in stderr
    assert not (tmp_path / "a.jpg").exists()
    run("frame", path, 1, "--format", "jpg", "-o", tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.format == "JPEG"


@pytest.mark.parametrize(
    ("uid", "options", "name", "says"),
    [
        (RLE_LOSSLESS, (), "a.jpg", "stored as RLE, not JPEG: add --format jpg"),
        (RLE_LOSSLESS, (), "{number}.JPEG", "stored as RLE, not JPEG: add --format jpg"),
        (RLE_LOSSLESS, (), "a.jls", "stored as RLE, not JPEG-LS: name the output x.rle"),
        (RLE_LOSSLESS, ("--format", "raw"), "a.png", "stored as RLE, not PNG: add --format png"),
        (JPEG_2000, (), "a.jpg", "stored as JPEG 2000, not JPEG: add --format jpg"),
        (JPEG_2000, (), "a.tiff", "stored as JPEG 2000, not TIFF: name the output x.j2k"),
        (JPEG_BASELINE, ("--format", "raw"), "a.npy", "stored as JPEG, not npy: add --format npy"),
        (JPEG_BASELINE, (), "{number}.jls", "stored as JPEG, not JPEG-LS: name the output x.jpg"),
        (
            JPEG_BASELINE,
            ("--format", "png"),
            "a.jpg",
            "--format png is not JPEG: name the output x.png",
        ),
        (
            JPEG_BASELINE,
            ("--format", "npy"),
            "a.png",
            "--format npy is not PNG: name the output x.npy",
        ),
    ],
)
def test_a_name_of_another_format_than_what_is_written_is_wrong_usage(
    tmp_path, uid, options, name, says
):
    """A program that opens the file by its name would not understand it; nothing is written."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8ab\xff\xd9"], 1, uid))
    stderr = run("frame", path, 1, *options, "-o", tmp_path / "out" / name, code=2).stderr
    assert says in " ".join(stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("uid", ["1.2.840.113619.5.2.999", EXPLICIT_VR_LITTLE_ENDIAN])
def test_fragments_of_an_unknown_format_may_have_any_name(tmp_path, uid):
    """A private transfer syntax, or a native one of fragments, does not say what they hold."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8ab\xff\xd9"], 1, uid))
    run("frame", path, 1, "-o", tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"\xff\xd8ab\xff\xd9"


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.jfif", "a.raw", "a.bin", "a", "a.{ext}"])
def test_a_name_of_the_stored_format_or_of_none_is_taken(tmp_path, name):
    """The bytes are those of the frame."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8ab\xff\xd9"], 1, JPEG_BASELINE))
    run("frame", path, 1, "-o", tmp_path / "out" / name)
    (written,) = (tmp_path / "out").iterdir()
    assert written.name == name.replace("{ext}", "jpg")
    assert written.read_bytes() == b"\xff\xd8ab\xff\xd9"


def test_a_frame_of_a_palette_is_in_its_colours(tmp_path):
    """PALETTE COLOR becomes RGB, as pydicom applies the palette."""
    path = testdata("examples_palette.dcm")
    run("frame", path, 1, "-o", tmp_path / "a.png")
    with mmindex.open_file(path) as instance:
        picture = instance.picture(0)
    assert picture.ndim == 3
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), picture)
