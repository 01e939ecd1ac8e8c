"""The READMEs say what the code has and does: their blocks run, their tables are the code's."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib.util
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import click
import numpy as np
import pydicom
import pydicom.data
import pytest
from codec_examples import EXAMPLES, pack_rle
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    deflate,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)

import mmindex
from mmindex.cli import COMMANDS, main
from mmindex.decode.registry import (
    DEFLATED_IMAGE_FRAME,
    ENCAPSULATED_UNCOMPRESSED,
    list_transfer_syntaxes,
)
from mmindex.decode.rle import is_rle
from mmindex.errors import (
    DecodeError,
    MissingDependencyError,
    NoPixelDataError,
    NotAddressableError,
)
from mmindex.index.databases import DATABASES
from mmindex.scan.anomalies import ANOMALIES
from mmindex.scan.transfer_syntax import RLE_LOSSLESS, TRANSFER_SYNTAXES, Codec
from mmindex.serve.accept import FRAME_MEDIA_TYPES

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
HOUSE, SCAN, INDEX, SERVE, CLI = (  # the reference, each page beside what it describes
    f"mmindex/{folder}README.md" for folder in ("", "scan/", "index/", "serve/", "cli/")
)
SCRIPTS = "scripts/README.md"
REFERENCE = (HOUSE, SCAN, INDEX, SERVE, CLI, SCRIPTS)
PAGES = (*READMES, *REFERENCE)
OPTIONAL = {"torch", "dask"}  # what is not installed is not run
MOST_LINES = 350  # of a README: what people finish reading
TERMINAL = 100, 50  # columns and rows
PAPYRUS_3 = "1.2.840.10008.1.20"
NATIVE = {
    *(IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, PAPYRUS_3),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
}
NO_DATA_SET = ("1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2")  # MIME and XML (retired)
NO_FRAMES = {
    Codec.VIDEO: "one bit stream: `stream()`",
    Codec.NO_PIXEL_DATA: "none: the pixels are elsewhere",
}
DEFLATED = {  # the data set is (PS3.5 A.5, A.7)
    *(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"),
}


class Block(NamedTuple):
    """A fenced block of code, and the line that it begins in."""

    language: str
    code: str
    line: int


def read_readme(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def find_section(heading: str, page: str) -> str:
    """Return what stands under a heading of a page, up to the next of its level."""
    return read_readme(page).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def find_blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(each[1], each[2], text.count("\n", 0, each.start(2)) + 1) for each in found]


def table_rows(heading: str, page: str) -> list[list[str]]:
    """Return the cells of the tables under a heading, without the first row."""
    lines = [line for line in find_section(heading, page).splitlines() if line.startswith("| ")]
    rows = [re.split(r" (?<!\\)\| ", line.removeprefix("| ").rstrip(" |")) for line in lines]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def make_syntax_rows() -> list[list[str]]:
    """Return the rows of the table of transfer syntaxes, from the registry of decoders."""
    rows = []
    for uid, name, decoder, remark in list_transfer_syntaxes():
        needs_codecs = decoder == "imagecodecs" and uid != RLE_LOSSLESS
        arrays = "with `codecs`" if needs_codecs else "yes"
        frames = "yes"
        if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            frames = "yes, after inflating the data set once; no byte ranges"
        if not decoder:
            arrays = "no" if TRANSFER_SYNTAXES[uid].codec in NO_FRAMES else f"no: {remark}"
            frames = NO_FRAMES.get(TRANSFER_SYNTAXES[uid].codec, frames)
        if uid in NO_DATA_SET:
            frames, arrays = "none: no DICOM data set", "no"
        extension = TRANSFER_SYNTAXES[uid].extension
        rows.append([uid, name, frames, arrays, "-" if "none" in frames else f"`{extension}`"])
    return rows


def make_anomaly_rows() -> list[list[str]]:
    """Return the rows of the table of anomalies, from that of the scanner."""
    return [[f"`{code}`", meaning, done] for code, (meaning, done) in ANOMALIES.items()]


SYNTAX_ROWS = make_syntax_rows()


def test_every_transfer_syntax_stands_in_the_table_with_what_it_does() -> None:
    """The table of transfer syntaxes is that of the code."""
    assert table_rows("Transfer syntaxes", SCAN) == SYNTAX_ROWS
    assert {row[0]: row[1] for row in SYNTAX_ROWS} == {
        uid: syntax.name for uid, syntax in TRANSFER_SYNTAXES.items()
    }


UNDECODED = {  # the beginnings of streams of what no decoder reads
    # SOF9 or DHP (T.81 Table B.1), and a scan; SIZ with a capability of Part 2 (T.801 A.2.1)
    "no: arithmetic coding": "ffd8 ffc9000b0800020002010111 00 ffda0008010100003f00 0000 ffd9",
    "no: hierarchical": "ffd8 ffde000b0800020002010111 00 ffda0008010100003f00 0000 ffd9",
    "no: multi-component transforms": "ff4f ff510029 8100"
    + "00000002" * 2
    + "00000000" * 2
    + "00000002" * 2
    + "00000000" * 2
    + "0001 070101 00 ffd9",
}


def make_fragment(uid: str, arrays: str) -> bytes:
    """Return a frame of 2 x 2 pixels, `abcd` in 8 bits, in a transfer syntax."""
    if uid == ENCAPSULATED_UNCOMPRESSED:
        return b"abcd"
    if uid == DEFLATED_IMAGE_FRAME:
        fragment = deflate(b"abcd")
        return fragment + b"\0" * (len(fragment) % 2)
    if arrays in UNDECODED:
        return bytes.fromhex(UNDECODED[arrays])
    pixels = np.frombuffer(b"abcd", "u1").reshape(2, 2)
    examples = EXAMPLES.get(TRANSFER_SYNTAXES[uid].codec.value)
    if examples and "u1" not in examples[0].kinds:
        pytest.skip("a codec of colours alone: test_registry.py decodes its frames")
    if examples and (arrays == "yes" or importlib.util.find_spec("imagecodecs") is not None):
        fragment = examples[0].encode(pixels)
        return fragment + b"\0" * (len(fragment) % 2)
    return pack_rle([b"abcd"])


@pytest.mark.parametrize(("uid", "frames", "arrays"), [(r[0], *r[2:4]) for r in SYNTAX_ROWS])
def test_a_transfer_syntax_does_what_its_row_says(uid: str, frames: str, arrays: str) -> None:
    """Frames, a stream or neither; arrays, with which extra, or a clear error."""
    fragment = make_fragment(uid, arrays)
    encapsulated = uid not in NATIVE
    implicit = uid in (IMPLICIT_VR_LITTLE_ENDIAN, PAPYRUS_3)
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    data_set = image_attributes(implicit=implicit, order=order)
    if encapsulated and not frames.startswith("none"):
        data_set += encapsulate([fragment])
    elif not frames.startswith("none"):
        data_set += element(PIXEL_DATA, "OB", b"abcd", implicit=implicit, order=order)
    if uid in DEFLATED:
        data_set = deflate(data_set)
    with mmindex.open_file(io.BytesIO(dicom_file(data_set, uid))) as instance:
        if frames.startswith("yes"):
            assert instance.frame(0) == (fragment if encapsulated else b"abcd")
        elif frames == "one bit stream: `stream()`":
            assert b"".join(instance.stream()) == fragment
        else:
            assert frames.startswith("none: ")
        if not frames.startswith("yes"):
            with pytest.raises((NotAddressableError, NoPixelDataError)):
                instance.frame(0)
        if arrays == "yes" or (arrays == "with `codecs`" and not is_rle(fragment)):
            assert instance.array(0).tobytes() == b"abcd"
        elif arrays == "with `codecs`":
            with pytest.raises((DecodeError, MissingDependencyError)):
                instance.array(0)
        else:
            assert arrays == "no" or (frames == "yes" and arrays.startswith("no: "))
            refusal = DecodeError if frames == "yes" else (NotAddressableError, NoPixelDataError)
            with pytest.raises(refusal):
                instance.array(0)


def test_every_transfer_syntax_of_pydicoms_dictionary_is_known() -> None:
    """The registry of PS3.6 Annex A, as pydicom has it, is covered."""
    from pydicom._uid_dict import UID_dictionary

    registered = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert registered <= set(TRANSFER_SYNTAXES)


def test_every_anomaly_code_in_the_source_is_documented_and_the_reverse() -> None:
    """The table of anomalies has the codes that the scanner records, with their meaning."""
    assert table_rows("Anomalies", SCAN) == make_anomaly_rows()


@pytest.mark.parametrize("name", mmindex.errors.__all__)
def test_every_error_is_documented(name: str) -> None:
    """The tree of errors has every class."""
    assert re.search(rf"\b{name}\b", find_section("Errors", HOUSE))


def command_options(name: str) -> dict[str, click.Option]:
    """Return the options of a command as they are written: `--size PIXELS`, `-o PATH`, `--json`."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = {}
    for option in command.params:
        if isinstance(option, click.Option):
            what = option.metavar
            if isinstance(option.type, click.Choice):
                what = "|".join(option.type.choices)
            for written in (*option.opts, *option.secondary_opts):
                options[written if option.is_flag else f"{written} {what}"] = option
    return options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_its_arguments_and_options(name: str) -> None:
    """A command's row shows how it is called: all that it takes, and nothing else."""
    rows = re.findall(rf"^\| `mmindex {name} (.+?)` \| .+ \|$", read_readme(CLI), re.MULTILINE)
    assert len(rows) == 1, f"mmindex/cli/README.md needs one row of {name}"
    (row,) = rows
    usage = row.replace("\\|", "|")
    documented = set(re.findall(r"\[(-.+?)\]", usage))
    options = command_options(name)
    assert documented <= set(options)
    assert {options[written] for written in documented} == set(options.values())
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for argument in command.params:
        if isinstance(argument, click.Argument):
            assert argument.name is not None
            assert (argument.metavar or argument.name.upper()).strip("[]") in usage


def test_every_option_of_every_command_is_explained() -> None:
    """The table of options has each with the commands that take it, and no others."""
    documented = {
        (command, option.replace("\\|", "|"))
        for cells in table_rows("Options", CLI)
        if cells[0].startswith("`-")
        for option in re.findall(r"`(.+?)`", cells[0])
        for command in re.findall(r"`([\w-]+)`", cells[1])
    }
    assert documented == {(name, option) for name in COMMANDS for option in command_options(name)}


def write_signature(function: Callable[..., object]) -> str:
    """Return a function's parameters as the README has them: no types, no self."""
    parameters = inspect.signature(function).parameters.values()
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in parameters
        if parameter.name != "self"
    ]
    return str(inspect.Signature(bare))


@pytest.mark.parametrize("name", mmindex.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    """Functions stand there with their parameters."""
    section = find_section("Public names", HOUSE)
    found = getattr(mmindex, name)
    expected = f"`mmindex.{name}"
    if inspect.isfunction(found):
        expected += f"{write_signature(found)}`"
    assert expected in section


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[dict[str, object]]:
    """An archive, an instance and a dataset, by the names of their classes."""
    shutil.copy(str(pydicom.data.get_testdata_file("rtdose.dcm")), tmp_path)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, archive.file("rtdose.dcm") as instance:
        dataset = mmindex.FrameDataset(archive)
        yield {type(found).__name__: found for found in (archive, instance, dataset)}


def find_set_attributes(cls: type) -> dict[str, object]:
    """Return the public attributes that a class sets when an object is made."""
    found = re.findall(r"self\.([a-z]\w*)\b(?:: [^=\n]+)? = ", inspect.getsource(cls.__init__))
    return dict.fromkeys(found)


@pytest.mark.parametrize("name", ["Instance", "Archive", "FrameDataset", "Slide", "Concatenation"])
def test_every_public_member_is_documented(name: str, opened: dict[str, object]) -> None:
    """Methods stand there with their parameters, properties and attributes by name."""
    (table,) = re.findall(
        rf"^\| `mmindex\.{name}` \| \|\n(.*?)\n\n", find_section("Public names", HOUSE), re.S | re.M
    )
    documented = set(re.findall(r"`(.+?)`", table))
    cls = getattr(mmindex, name)
    ours = [vars(base) for base in cls.__mro__ if base.__module__.startswith("mmindex")]
    own = vars(opened[name]) if name in opened else find_set_attributes(cls)
    members = {key: value for each in (*ours, own) for key, value in each.items()}
    for member, value in members.items():
        if not member.startswith("_"):
            written = f"{member}{write_signature(value)}" if inspect.isfunction(value) else member
            assert written in documented
    if name == "FrameDataset":
        assert f"{name}{write_signature(mmindex.FrameDataset)}" in documented


@pytest.mark.parametrize(
    "name", ["BuildReport", "MergeReport", "Level", "Problem", "Anomaly", "ByteRange"]
)
def test_every_field_of_a_value_is_documented(name: str) -> None:
    """The row of a value names what it has."""
    (row,) = re.findall(
        rf"^\| `mmindex\.{name}` \| (.+) \|$", find_section("Public names", HOUSE), re.M
    )
    cls = getattr(mmindex, name)
    fields = set(getattr(cls, "_fields", ())) or {each.name for each in dataclasses.fields(cls)}
    properties = {key for key, value in vars(cls).items() if isinstance(value, property)}
    assert fields | properties <= set(re.findall(r"`(\w+)`", row))


@pytest.mark.parametrize("name", [*COMMANDS, *mmindex.__all__])
def test_every_command_and_public_name_is_in_the_changelog(name: str) -> None:
    """Who reads what changed finds each by its name."""
    assert re.search(rf"\b{re.escape(name)}\b", read_readme("CHANGELOG.md"))


def test_media_types_of_frames_are_those_of_the_server() -> None:
    """The table of the conformance statement has each, and no other."""
    documented = {
        media_type
        for row in table_rows("Frames", SERVE)
        for media_type in re.findall(r"`(image/[\w-]+)`", row[1])
    }
    assert documented == set(FRAME_MEDIA_TYPES.values())
    by_name = {row[0]: row[1] for row in table_rows("Frames", SERVE)}
    for uid, media_type in FRAME_MEDIA_TYPES.items():
        name = TRANSFER_SYNTAXES[uid].codec.value
        name = "HTJ2K" if "High-Throughput" in TRANSFER_SYNTAXES[uid].name else name
        assert f"`{media_type}`" in by_name["RLE Lossless" if name == "RLE" else name]


def test_every_status_is_documented() -> None:
    """The table of statuses is that of the code."""
    documented = {cells[0].strip("`") for cells in table_rows("Statuses", HOUSE)}
    assert documented == {status.value for status in mmindex.Status}


def test_every_database_of_the_index_is_documented() -> None:
    """The page on the format has each."""
    documented = {
        name
        for cells in table_rows("Databases", INDEX)
        for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert documented == set(DATABASES)


@pytest.mark.parametrize("name", mmindex.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """What `__all__` says can be had."""
    assert getattr(mmindex, name) is not None


def test_public_names_are_pinned() -> None:
    """A public name is neither lost nor added unawares."""
    assert sorted(mmindex.__all__) == [
        "Anomaly",
        "Archive",
        "BuildReport",
        "ByteRange",
        "Concatenation",
        "FrameDataset",
        "FrameTable",
        "ImagePixel",
        "Instance",
        "InstanceRecord",
        "Level",
        "MMIndexError",
        "MergeReport",
        "Problem",
        "Series",
        "Slide",
        "Statistics",
        "Status",
        "Study",
        "build",
        "compact",
        "errors",
        "merge",
        "open",
        "open_file",
        "open_slide",
        "scan",
        "scan_value",
        "update",
    ]


def strip_comments(block: Block) -> tuple[str, str]:
    """Return language and code, without the comments that are not output."""
    return block.language, re.sub(r" *#(?! ->).*", "", block.code)


def test_both_readmes_have_the_same_code() -> None:
    """What is changed in one has to be changed in the other; comments are translated."""
    english, chinese = (find_blocks(read_readme(name)) for name in READMES)
    assert [strip_comments(block) for block in chinese] == list(map(strip_comments, english))
    assert english


def test_both_readmes_have_the_same_sections_tables_and_links() -> None:
    """No task, no row and no page is left out."""
    english, chinese = map(read_readme, READMES)
    for pattern in (r"^#+(?= )", r"^\|(?=.*\|$)", r"\]\((?!README)(?!#)(.*?)(?:#.*?)?\)"):
        found, expected = (re.findall(pattern, text, re.MULTILINE) for text in (chinese, english))
        assert found == expected
    assert find_headings(chinese) != find_headings(english)


@pytest.mark.parametrize("name", READMES)
def test_a_readme_is_short_enough_to_be_read_to_its_end(name: str) -> None:
    """What is longer goes to a page of the reference."""
    assert len(read_readme(name).splitlines()) <= MOST_LINES


def find_headings(text: str) -> list[str]:
    """Return the headings of a page; a comment in a block is none."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.+)$", prose, re.MULTILINE)


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """To a heading, or to a file of the project."""
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", read_readme(name)):
        target = ROOT / name
        if path:
            target = Path(os.path.normpath(target.parent / path))  # `mmindex` may be a link
        assert target.exists(), path
        if anchor:
            assert anchor in map(slug, find_headings(target.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", REFERENCE)
def test_every_page_of_the_reference_is_linked_from_the_readmes(page: str) -> None:
    """One click leads there."""
    for name in READMES:
        assert f"]({page})" in read_readme(name)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_in_a_shell_block_has_these_options(name: str) -> None:
    """What is not run, since it needs other folders or servers, is written as it is used."""
    for block in find_blocks(read_readme(name)):
        for line in block.code.splitlines() if block.language == "sh" else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["mmindex"] and words[1:] != ["--help"]:
                taken = {written.split()[0] for written in command_options(words[1])}
                assert {word for word in words[2:] if word.startswith("-")} <= taken


@pytest.mark.parametrize(("name", "other"), [READMES, READMES[::-1]])
def test_each_readme_leads_to_the_other_in_its_first_lines(name: str, other: str) -> None:
    """Whoever reads the other language finds it."""
    assert f"]({other})" in "".join(read_readme(name).splitlines()[:5])


def check_output(expected: str, found: str) -> None:
    """Compare printed lines but for spaces; `...` stands for anything, alone for any lines."""
    lines = [" ".join(line.split()) for line in expected.strip().splitlines()]
    pattern = "".join(
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in lines
    )
    plain = "".join(" ".join(line.split()) + "\n" for line in found.strip().splitlines())
    assert re.fullmatch(pattern, plain), f"expected:\n{expected}\nfound:\n{found}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with `mmindex` on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mmindex").write_text(
        f"#!/bin/sh\nPYTHONPATH='{ROOT}' exec '{sys.executable}' -P -c "
        '\'from mmindex.cli import main; main(prog_name="mmindex")\' "$@"\n'
    )
    (programs / "mmindex").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", str(TERMINAL[0]))
    folder = tmp_path / "tour"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run_in_terminal(line: str) -> tuple[int, str]:
    """Return exit code and output of a line of shell, with standard output on a terminal."""
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    with open(terminal, "rb", buffering=0) as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            ["sh", "-c", line], stdin=subprocess.DEVNULL, stdout=end, stderr=errors
        )
        os.close(end)
        printed = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while piece := output.read(1 << 16):
                printed += piece
        code = process.wait()
        errors.seek(0)
        text = (printed.replace(b"\r\n", b"\n") + errors.read()).decode()
        return code, re.sub(r"\x1b\[[\d;]*m", "", text)  # without colours


def run_console(block: str) -> None:
    """Run each line after `$ `, and compare what it prints with what stands below it."""
    for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, expected = session.partition("\n")
        code, found = run_in_terminal(line)
        check_output(expected, found)
        assert code == 0 or expected.startswith("mmindex: ")


def run_python(block: Block, name: str, namespace: dict[str, object]) -> None:
    """Run code, and compare what it prints with what stands behind `# ->`."""
    tree = ast.parse("\n" * (block.line - 1) + block.code)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    modules = {alias.name.partition(".")[0] for node in imports for alias in node.names}
    if any(importlib.util.find_spec(module) is None for module in modules & OPTIONAL):
        return
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, name, "exec"), namespace)
    expected = re.findall(r"# -> (.*)$", block.code, re.MULTILINE)
    check_output("\n".join(expected), printed.getvalue())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the DataLoader's workers
@pytest.mark.parametrize("name", PAGES)
def test_the_blocks_of_a_page_work_as_printed(name: str, folder: Path) -> None:
    """Python and commands in turn, in an empty folder, with what they print."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    blocks = find_blocks(read_readme(name))
    if name in REFERENCE:
        copy_tour()
        mmindex.build("archive", workers=1)
    for block in blocks:
        if block.language == "python":
            run_python(block, name, namespace)
        elif block.language == "console":
            run_console(block.code)
    assert name in REFERENCE or {"python", "console"} <= {block.language for block in blocks}


def copy_tour() -> None:
    """Copy the files of the tour, as the README does."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in find_blocks(read_readme("README.md"))[:6]:
        if block.language == "python":
            run_python(block, "README.md", namespace)
        if Path("archive").exists():
            return


def test_the_picture_of_a_terminal_shows_what_is_printed(folder: Path) -> None:
    """It is that of the tour's files; the place of the index and the time vary."""
    copy_tour()
    picture = ElementTree.parse(ROOT / ".pictures" / "terminal.svg")
    lines = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    shown = re.sub(r"^Index: .+$", "Index: ...", "\n".join(lines), flags=re.MULTILINE)
    shown = re.sub(r"in [\d.]+ s:", "in ... s:", shown)
    shown = re.sub(r"last build .+", "last build ...", shown)
    for session in shown.removeprefix("$ ").split("\n$ "):
        line, _, expected = session.partition("\n")
        code, found = run_in_terminal(line)
        check_output(expected, re.sub(r"\n\n+", "\n", found))
        assert code == 0


def test_output_that_differs_is_found() -> None:
    """The comparison can fail."""
    check_output("a  ... c\n...\nd\n", "a b c\n1\n2\n d\n")
    check_output("", "")
    for found in ("a c\nd\n", "a b c\n", "a b c\nd\ne\n", ""):
        with pytest.raises(AssertionError):
            check_output("a ... c\n...\nd\n", found)


def find_py_block(word: str) -> str:
    """Return the code for another program's Python that has a word in it."""
    blocks = [block for name in PAGES for block in find_blocks(read_readme(name))]
    (found,) = (block.code for block in blocks if block.language == "py" and word in block.code)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_code_for_other_programs_compiles(name: str) -> None:
    """It runs only inside of them; here it is tried with what stands for them."""
    for block in find_blocks(read_readme(name)):
        if block.language == "py":
            compile("\n" * (block.line - 1) + block.code, name, "exec")


def test_the_handler_of_pynetdicom_serves_what_it_stored(tmp_path: Path) -> None:
    """The frame is there when the sender has its answer; a UID that is a path is refused."""
    sent = Path(str(pydicom.data.get_testdata_file("rtdose.dcm")))
    uid = pydicom.dcmread(sent, stop_before_pixels=True).SOPInstanceUID
    incoming, archive = tmp_path / "incoming", tmp_path / "archive"
    for folder in (incoming, archive):
        folder.mkdir()
    mmindex.build(archive, workers=1)
    namespace = {"mmindex": mmindex, "incoming": incoming, "archive": archive}
    exec(compile(find_py_block("def store(event)"), CLI, "exec"), namespace)
    store: Any = namespace["store"]

    def event(uid: str) -> types.SimpleNamespace:
        request = types.SimpleNamespace(
            AffectedSOPInstanceUID=pydicom.uid.UID(uid, pydicom.config.IGNORE)
        )
        return types.SimpleNamespace(request=request, encoded_dataset=sent.read_bytes)

    assert store(event(uid)) == 0x0000
    with mmindex.open(archive) as index:
        assert index.file(f"{uid}.dcm").frame(0) == index[uid].frame(0)
    assert store(event("../../outside")) == 0xC000
    assert {path.name for path in tmp_path.iterdir()} == {"incoming", "archive"}
