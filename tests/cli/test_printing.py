"""Where the command line writes: what it does not write over, templates, streams that refuse."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from cli_runner import PROGRAM, ROOT, new_runner, run, run_in_shell
from dicom_bytes import HEVC, encapsulated_file, native_file

import mmindex
from mmindex.cli import main
from mmindex.cli.binary_output import fill_in, has_number, write_output
from mmindex.cli.printing import (
    align,
    count_columns,
    cut_end,
    cut_middle,
    measure_columns,
    pad,
    rounded_size,
    wrap,
)

FRAMES = [bytes([number]) * 4 for number in (1, 2, 3)]
VIDEO = [b"\0\0\1\xb3 first", b"second"]
BESIDE = ["", "-lock", "-writing"]  # an index, and the files beside it


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of three frames and a video, with its index."""
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "0.dcm").write_bytes(native_file(b"".join(FRAMES), vr="OB", number_of_frames=3))
    (folder / "video.dcm").write_bytes(encapsulated_file(VIDEO, 30, HEVC))
    mmindex.build(folder, workers=1)
    return folder


# what is not written over


@pytest.mark.parametrize("suffix", BESIDE)
@pytest.mark.parametrize(
    ("command", "file", "rest"),
    [
        *(("frame", "0.dcm", ["1"]), ("frame", "0.dcm", ["1", "--format", "npy"])),
        *(("frame", "0.dcm", ["1", "--format", "png"]), ("frame", "video.dcm", ["--stream"])),
        ("sheet", "0.dcm", []),
    ],
)
def test_an_index_is_not_written_over(archive, command, file, rest, suffix):
    """Nor are the files beside it, whether or not they are there, by any of the commands."""
    if command == "sheet" or "png" in rest:
        pytest.importorskip("PIL")
    mmindex.open(archive).close()  # who first opens the index resets its lock file
    before = {path: path.read_bytes() for path in archive.iterdir()}
    output = archive / f".mmindex{suffix}"
    result = run(command, archive / file, *rest, "-o", output, code=2)
    assert f"{output} is an index, or a file of one" in result.stderr
    assert {path: path.read_bytes() for path in archive.iterdir()} == before


@pytest.mark.parametrize("suffix", BESIDE)
def test_an_index_is_not_written_over_by_a_symbolic_link(archive, tmp_path, suffix):
    """The file that the link leads to counts, though it may not be there."""
    link = tmp_path / "link"
    link.symlink_to(archive / f".mmindex{suffix}")
    before = (archive / ".mmindex").read_bytes()
    assert "is an index" in run("frame", archive / "0.dcm", 1, "-o", link, code=2).stderr
    assert (archive / ".mmindex").read_bytes() == before
    assert not (archive / ".mmindex-writing").exists()


@pytest.mark.parametrize("suffix", BESIDE[:2])
def test_an_index_is_not_written_over_by_a_hard_link(archive, tmp_path, suffix):
    """Another name of an index or of its lock file is found by what is in it."""
    (tmp_path / "link").hardlink_to(archive / f".mmindex{suffix}")
    before = (tmp_path / "link").read_bytes()
    result = run("frame", archive / "0.dcm", 1, "-o", tmp_path / "link", code=2)
    assert "is an index" in result.stderr
    assert (tmp_path / "link").read_bytes() == before


def test_an_index_of_another_name_and_place_is_not_written_over(archive, tmp_path):
    """An index is told by its bytes, not by its name; the archive need not be its own."""
    index = tmp_path / "2.raw"
    mmindex.build(archive, index, workers=1)
    run("frame", archive / "0.dcm", 2, "-o", tmp_path / "{number}.{ext}", code=2)
    assert run("ls", index).stdout


@pytest.mark.parametrize("name", ["a-lock", "a-writing", "old.raw"])
def test_any_other_file_is_written_over(archive, tmp_path, name):
    """A name that ends as those beside an index do is one like any other."""
    (tmp_path / name).write_bytes(b"before")
    run("frame", archive / "0.dcm", 3, "-o", tmp_path / name)
    assert (tmp_path / name).read_bytes() == FRAMES[2]


# templates


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        *(("{number}.{ext}", "7.jpg"), ("{number:06d}", "000007"), ("{number:6}", "     7")),
        *(("{number:d}", "7"), ("{number:03}", "007"), ("{number:012d}", "000000000007")),
        *(("{number:}-{number:02d}", "7-07"), ("{ext}", "jpg"), ("{{{number}}}", "{7}")),
        ("{{number}}-{number}", "{number}-7"),
    ],
)
def test_fields_of_a_template_are_filled_in(output, expected):
    """The number has a width or none; beside a field, two braces are one."""
    assert fill_in(output, number=7, ext="jpg") == expected
    assert has_number(output) == ("7" in expected)


@pytest.mark.parametrize("output", ["a.raw", "{a}.raw", "{{number}}", "{{ext}}", "{", "{}", "}{{"])
def test_a_path_without_our_fields_is_taken_as_it_is(archive, tmp_path, monkeypatch, output):
    """All of its braces are part of the name, and it has no room for several frames."""
    monkeypatch.chdir(tmp_path)
    stderr = run("frame", archive / "0.dcm", "1-3", "-o", output, code=2).stderr
    assert "3 frames need an output each" in stderr
    run("frame", archive / "0.dcm", 2, "-o", output)
    assert {path.name for path in tmp_path.iterdir()} == {"archive", output}
    assert (tmp_path / output).read_bytes() == FRAMES[1]


@pytest.mark.parametrize(
    "template",
    [
        *("{number.__class__}", "{number.real}", "{number[0]}", "{number!r}", "{numbers}"),
        *("{number:9999999999d}", "{number:100}", "{number:0100d}", "{number:x}", "{number:c}"),
        *("{number:e}", "{number:.3}", "{number:>9}", "{number:,}", "{number:+}", "{number:{ext}}"),
        *("{number}{ext!r}", "{number}{ext:9}", "{number}{ext.a}", "{number}{}", "{number}{0}"),
        *("{number}{name}", "{number}}", "{number", "{number }", "{ext[0]}", "{ext:>9999999999}"),
        *("{{number}}-{number", "{a:{number}}", "{number:\u0663d}", "{number:6\n}"),
    ],
)
@pytest.mark.parametrize("rest", [[], ["--format", "npy"]])
def test_what_cannot_be_filled_in_is_wrong_usage(archive, tmp_path, template, rest):
    """Nothing is written where a field is another one, or its format is more than a width."""
    output = tmp_path / "new" / template
    for numbers in ("1", "1-3"):
        stderr = run("frame", archive / "0.dcm", numbers, "-o", output, *rest, code=2).stderr
        assert "only {number} and {ext} can stand in it" in " ".join(stderr.split())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("template", ["{number}.{ext}", "{ext!r}", "{ext.a}"])
def test_a_stream_has_no_number(archive, tmp_path, template):
    """The extension is the only field there is for it."""
    video = archive / "video.dcm"
    stderr = run("frame", video, "--stream", "-o", tmp_path / template, code=2).stderr
    assert "only {ext} can stand in it" in " ".join(stderr.split())


# the argument itself, and outputs that refuse


@pytest.mark.parametrize("command", [("frame", 1), ("sheet",)])
def test_an_empty_output_is_wrong_usage(archive, command):
    """As of a variable that is not set: it is not standard output."""
    name, *rest = command
    result = run(name, archive / "0.dcm", *rest, "-o", "", code=2)
    assert "-o has an empty path" in result.stderr
    assert result.stdout_bytes == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", [("frame", "0.dcm", 1), ("frame", "video.dcm", "--stream")])
def test_an_output_on_a_full_disk_is_named(archive, command):
    """It is not the file that is read."""
    name, file, *rest = command
    stderr = run(name, archive / file, *rest, "-o", "/dev/full", code=1).stderr
    assert stderr == f"mmindex: /dev/full: {os.strerror(errno.ENOSPC)}\n"


def test_a_source_that_cannot_be_read_is_named_while_the_output_is_written(tmp_path):
    """An error of the system that comes while pieces are read is not the output's."""

    def walk_pieces():
        yield b"first"
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(OSError, match=r"source\.dcm") as caught:
        write_output(walk_pieces(), str(tmp_path / "out"), "source.dcm")
    assert caught.value.filename == "source.dcm"


@pytest.mark.parametrize(
    "command",
    [
        *(("frame", "0.dcm", 1), ("frame", "video.dcm", "--stream"), ("sheet", "0.dcm")),
        *(("ranges", "0.dcm", 1), ("info", "0.dcm"), ("info", "0.dcm", "--json")),
        *(("ls", ""), ("ls", "", "--json"), ("stats", ""), ("build", ""), ("build", "", "--json")),
        *(("--help",), ("--version",), ("ls", "--help")),
    ],
)
def test_a_closed_standard_output_is_one_line(archive, command):
    """What cannot be said is a failure, told once; nothing else is opened in its place."""
    name, *rest = command
    if rest and not str(rest[0]).startswith("-"):
        rest[0] = archive / rest[0]
    before = (archive / ".mmindex").read_bytes()
    done = run_in_shell(">&-", name, *rest)
    assert (done.returncode, done.stderr) == (1, "mmindex: standard output is closed\n")
    if name != "build":
        assert (archive / ".mmindex").read_bytes() == before


def test_an_output_that_is_a_file_needs_no_standard_output(archive, tmp_path):
    """A command that prints nothing does not miss it."""
    done = run_in_shell(">&-", "frame", archive / "0.dcm", 2, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out").read_bytes() == FRAMES[1]


def test_a_closed_standard_error_does_not_fail_a_build(archive):
    """There is nobody to be shown how far it is, and the summary comes all the same."""
    done = run_in_shell("2>&-", "build", archive, "--full", "--workers", 1)
    assert done.returncode == 0
    assert "2 scanned" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", [["--help"], ["--version"], ["frame", "--help"]])
def test_help_that_cannot_be_written_is_one_line(command):
    """It is printed before a command runs, and fails as the command's own output does."""
    done = run_in_shell("> /dev/full", *command)
    assert (done.returncode, done.stderr) == (1, f"mmindex: {os.strerror(errno.ENOSPC)}\n")


def test_help_that_nobody_reads_ends_quietly():
    """A closed pipe, as of `| head`, leaves no message behind."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [*PROGRAM, "--help"],
            env=environment,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


# what steers terminals

STEERING = "\x1b]0;pwn\x07a\x9b31m\n"
ESCAPED = "\\x1b]0;pwn\\x07a\\x9b31m\\n"


@pytest.mark.parametrize(
    "command",
    [
        *(("ls", "FILE"), ("check", "FILE"), ("stats", "FILE"), ("build", "FILE")),
        *(("frame", "SOURCE", 1, "-o", "FOLDER"), ("sheet", "SOURCE", "-o", "FOLDER")),
        *(("frame", "SOURCE", 1, "-o", "INDEX"), ("frame", "FILE", 1, "-o", "FILE")),
        *(("frame", "INDEXED", 1), ("info", "FILE", "--instance", "1.2.3")),
        *(("frame", "SOURCE", 1, "-o", "{number" + STEERING), (STEERING, "x"), ("--" + STEERING,)),
        *(("ls", "--" + STEERING), ("ls", "SOURCE", STEERING), ("frame", "SOURCE", STEERING)),
        ("frame", "SOURCE", 1, "--format", STEERING),
    ],
)
def test_wrong_usage_prints_no_control_characters(archive, tmp_path, command):
    """What was given is told with backslash escapes, in click's own messages as in ours."""
    names = {"SOURCE": archive / "0.dcm", "INDEX": tmp_path / f"i{STEERING}"}
    for kind in ("FILE", "FOLDER", "INDEXED"):
        names[kind] = tmp_path / f"{kind}{STEERING}"
    names["FILE"].write_bytes((archive / "0.dcm").read_bytes())
    names["FOLDER"].mkdir()
    names["INDEXED"].mkdir()
    mmindex.build(names["INDEXED"], workers=1)
    names["INDEX"].write_bytes((archive / ".mmindex").read_bytes())
    stderr = run(*(names.get(word, word) for word in command), code=2).stderr
    assert ESCAPED in stderr
    assert all(char.isprintable() or char == "\n" for char in stderr)


@pytest.mark.parametrize("uid", [STEERING, STEERING * 40])
def test_an_unknown_uid_prints_no_control_characters(archive, uid):
    """However long it is."""
    code = 1 if len(uid) <= 128 else 2
    stderr = run("info", archive, "--instance", uid, code=code).stderr
    assert "\\x1b]0;pwn" in stderr
    assert all(char.isprintable() or char == "\n" for char in stderr)


def test_without_a_command_the_help_keeps_its_lines():
    """It comes from click as an error in some versions, whose text is no message of one line."""
    result = new_runner().invoke(main, [], prog_name="mmindex")
    printed = (result.stdout + result.stderr).splitlines()
    assert printed[0] == "Usage: mmindex [OPTIONS] COMMAND [ARGS]..."
    assert len(printed) > 10


# an argument that is no UID


@pytest.mark.parametrize("command", [("info",), ("frame", 1), ("ranges", 1), ("sheet",)])
def test_an_argument_too_long_for_a_uid_is_not_looked_for(archive, monkeypatch, command):
    """It is wrong usage in a few words, and nothing is compared with it."""

    def compare(*arguments: object) -> None:
        raise AssertionError("compared")

    monkeypatch.setattr("mmindex.cli.suggestions.find_kind", compare)
    name, *rest = command
    stderr = run(name, archive, *rest, "--instance", "1.2." * 30_000, code=2).stderr
    found = "a UID has at most 64 characters, found 120000: 1.2.1.2.1.2.1.2.1.2."
    assert found in " ".join(stderr.split())
    assert len(stderr) < 500


# for people


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


WIDE = [  # texts, and the columns that a terminal shows them in, counted by hand
    ("影像/患者/头部.dcm", 18),
    ("ｶﾅ", 2),  # halfwidth
    ("\uff23\uff34", 4),  # fullwidth letters
    ("e\u0301te\u0301", 3),  # combining accents
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", 4),  # Hangul as macOS decomposes it
    ("कि", 2),  # a spacing vowel
    ("\U0001f9e0.dcm", 6),  # brain
    ("\u2764\ufe0f.dcm", 6),  # heart, as a picture
    ("ct.dcm", 6),
]


@pytest.mark.parametrize(("text", "columns"), WIDE)
def test_a_text_takes_the_columns_that_a_terminal_shows_it_in(text, columns):
    """Padded, all end at the same column."""
    assert count_columns(text) == columns
    assert pad(text, 20) == text + " " * (20 - columns)


@pytest.mark.parametrize("width", range(4, 20))
@pytest.mark.parametrize("text", [text.replace(".", "_") * 3 for text, _ in WIDE])
def test_a_text_is_cut_to_the_columns_there_are(text, width):
    """A character is never cut in two, nor a mark left without its letter."""
    for cut in (cut_end(text, width), cut_middle(text, width)):
        if count_columns(text) <= width:
            assert cut == text
            continue
        shown, ended = cut.partition("...")[::2]
        assert text.startswith(shown)
        assert text.endswith(ended)
        assert ended[:1] not in ("\u0301", "\ufe0f", "\u1161", "\u11ab", "\u1173")
        assert width - 6 <= count_columns(shown + ended) <= width - 3


@pytest.mark.parametrize("width", [20, 31])
def test_lines_are_wrapped_by_columns(width):
    """Words stay whole where they fit; nothing is lost."""
    text = "影像文件夹 no such file 影像" + "很长的文件名" * 12 + ".dcm  end"
    lines = wrap(text, width)
    assert max(map(count_columns, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert lines[-1].endswith("end")
    assert wrap("", 20) == [""]
