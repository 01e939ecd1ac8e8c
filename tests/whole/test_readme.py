"""The READMEs say what the code has and does: their blocks run, their tables are the code's."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import click
import pydicom
import pydicom.data
import pydicom.pixels
import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)

import mmindex
from mmindex.cli import COMMANDS, main
from mmindex.errors import (
    DecodeError,
    MissingDependencyError,
    NoPixelDataError,
    NotAddressableError,
)
from mmindex.index.databases import DATABASES
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")
TWINS = {  # sections that both READMEs have, with the same code
    "Install": "安装",
    "Five minutes": "五分钟上手",
    "Python, by task": "按任务使用 Python",
}
OPTIONAL = {"torch", "dask"}  # what is not installed is not run
TERMINAL = 100, 50  # columns and rows
PAPYRUS_3 = "1.2.840.10008.1.20"
NATIVE = {
    *(IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, PAPYRUS_3),
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
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


def find_section(heading: str, readme: str = README) -> str:
    """Return what stands under a heading, up to the next of its level."""
    return readme.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def find_blocks(text: str) -> list[Block]:
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(each[1], each[2], text.count("\n", 0, each.start(2)) + 1) for each in found]


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the tables under a heading, without the first row."""
    lines = [line for line in find_section(heading).splitlines() if line.startswith("| ")]
    rows = [re.split(r" (?<!\\)\| ", line.removeprefix("| ").rstrip(" |")) for line in lines]
    return [[cell.strip() for cell in row] for row in rows[1:]]


SYNTAX_ROWS = table_rows("Transfer syntaxes")


def test_every_transfer_syntax_stands_in_the_table_by_uid_and_name() -> None:
    """The table of transfer syntaxes is that of the code."""
    documented = {row[0]: row[1] for row in SYNTAX_ROWS}
    assert documented == {uid: syntax.name for uid, syntax in TRANSFER_SYNTAXES.items()}


@pytest.mark.parametrize(("uid", "frames", "arrays"), [(r[0], *r[2:]) for r in SYNTAX_ROWS])
def test_a_transfer_syntax_does_what_its_row_says(uid: str, frames: str, arrays: str) -> None:
    """Frames, a stream or neither; arrays, with which extra, or a clear error."""
    fragment = bytes.fromhex("0100000040000000") + bytes(56) + b"\3abcd\0"  # RLE of "abcd"
    encapsulated = uid not in NATIVE
    implicit = uid in (IMPLICIT_VR_LITTLE_ENDIAN, PAPYRUS_3)
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    data_set = image_attributes(implicit=implicit, order=order)
    if encapsulated and not frames.startswith("none"):
        data_set += encapsulate([fragment])
    elif not frames.startswith("none"):
        data_set += element(PIXEL_DATA, "OB", b"abcd", implicit=implicit, order=order)
    if uid in DEFLATED:
        deflate = zlib.compressobj(wbits=-15)
        data_set = deflate.compress(data_set) + deflate.flush()
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
        if arrays == "yes":
            assert instance.array(0).tobytes() == b"abcd"
        elif arrays == "with `codecs`":
            decoder = pydicom.pixels.get_decoder(uid)
            if not decoder.is_available:
                with pytest.raises(MissingDependencyError, match="codecs"):
                    instance.array(0)
        else:
            assert arrays == ("no: pydicom has no decoder" if frames == "yes" else "no")
            with pytest.raises((DecodeError, NotAddressableError, NoPixelDataError)) as caught:
                instance.array(0)
            assert ("pydicom decodes no frames" in str(caught.value)) == (frames == "yes")


def test_every_transfer_syntax_of_pydicoms_dictionary_is_known() -> None:
    """The registry of PS3.6 Annex A, as pydicom has it, is covered."""
    from pydicom._uid_dict import UID_dictionary

    registered = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}
    assert registered <= set(TRANSFER_SYNTAXES)


def test_every_anomaly_code_in_the_source_is_documented_and_the_reverse() -> None:
    """The table of anomalies has the codes that the scanner records, and no others."""
    source = "\n".join(path.read_text() for path in (ROOT / "mmindex" / "scan").glob("*.py"))
    codes = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', source))
    codes |= {
        f"{prefix}-{suffix}"
        for suffix in re.findall(r'\{(?:table\.)?prefix\}-([a-z-]+)"', source)
        for prefix in ("bot", "eot")
    }
    documented = set()
    for row in table_rows("Anomalies"):
        documented |= set(re.findall(r"`([a-z-]+)`", row[0]))
    assert documented == codes


@pytest.mark.parametrize("name", mmindex.errors.__all__)
def test_every_error_is_documented(name: str) -> None:
    """The tree of errors in the README has every class."""
    assert re.search(rf"\b{name}\b", find_section("Errors"))


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
            for written in option.opts:
                options[written if option.is_flag else f"{written} {what}"] = option
    return options


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_its_arguments_and_options(name: str) -> None:
    """A command's row shows how it is called: all that it takes, and nothing else."""
    (row,) = re.findall(rf"^\| `mmindex {name} (.+?)` \| .+ \|$", README, re.MULTILINE)
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
        for cells in table_rows("Command line, by task")
        if cells[0].startswith("`-")
        for option in re.findall(r"`(.+?)`", cells[0])
        for command in re.findall(r"`(\w+)`", cells[1])
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
    section = find_section("Every public name")
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


@pytest.mark.parametrize("name", ["Instance", "Archive", "FrameDataset"])
def test_every_public_member_is_documented(name: str, opened: dict[str, object]) -> None:
    """Methods stand there with their parameters, properties and attributes by name."""
    (table,) = re.findall(
        rf"^\| `mmindex\.{name}` \| \|\n(.*?)\n\n", find_section("Every public name"), re.S | re.M
    )
    documented = set(re.findall(r"`(.+?)`", table))
    members = {**vars(getattr(mmindex, name)), **vars(opened[name])}
    for member, value in members.items():
        if not member.startswith("_"):
            written = f"{member}{write_signature(value)}" if inspect.isfunction(value) else member
            assert written in documented
    if name == "FrameDataset":
        assert f"{name}{write_signature(mmindex.FrameDataset)}" in documented


def test_every_status_is_documented() -> None:
    """The table of statuses is that of the code."""
    documented = {cells[0].strip("`") for cells in table_rows("Archives and clusters")}
    assert documented == {status.value for status in mmindex.Status}


def test_every_database_of_the_index_is_documented() -> None:
    """The page on the format has each."""
    documented = {
        name for cells in table_rows("How it works") for name in re.findall(r"`(\w+)`", cells[0])
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
        "FrameDataset",
        "FrameTable",
        "ImagePixel",
        "Instance",
        "InstanceRecord",
        "MMIndexError",
        "Status",
        "build",
        "errors",
        "open",
        "open_file",
        "scan",
    ]


def strip_comments(block: Block) -> tuple[str, str]:
    """Return language and code, without the comments that are not output."""
    return block.language, re.sub(r" *#(?! ->).*", "", block.code)


@pytest.mark.parametrize("heading", TWINS)
def test_both_readmes_have_the_same_code(heading: str) -> None:
    """What is changed in one has to be changed in the other; comments are translated."""
    english = find_blocks(find_section(heading))
    chinese = find_blocks(find_section(TWINS[heading], read_readme("README.zh-CN.md")))
    assert [strip_comments(block) for block in chinese] == list(map(strip_comments, english))
    assert english


@pytest.mark.parametrize("heading", TWINS)
def test_both_readmes_have_as_many_sections(heading: str) -> None:
    """No task is left out."""
    chinese = find_section(TWINS[heading], read_readme("README.zh-CN.md"))
    assert chinese.count("\n### ") == find_section(heading).count("\n### ")


def slug(heading: str) -> str:
    """Return the anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    """To a heading, or to a file of the project."""
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", read_readme(name)):
        assert (ROOT / path).exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read_readme(path or name), re.MULTILINE)
            assert anchor in map(slug, headings)


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
        return code, (printed.replace(b"\r\n", b"\n") + errors.read()).decode()


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
@pytest.mark.parametrize("name", READMES)
def test_the_blocks_of_a_readme_work_as_printed(name: str, folder: Path) -> None:
    """Python and commands in turn, in an empty folder, with what they print."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    blocks = find_blocks(read_readme(name))
    for block in blocks:
        if block.language == "python":
            run_python(block, name, namespace)
        elif block.language == "console":
            run_console(block.code)
    assert {"python", "console"} <= {block.language for block in blocks}


def test_the_picture_of_a_terminal_shows_what_is_printed(folder: Path) -> None:
    """It is that of the tour's files; the place of the index and the time vary."""
    run_python(find_blocks(find_section("Five minutes"))[0], "README.md", {})
    picture = ElementTree.parse(ROOT / ".pictures" / "terminal.svg")
    lines = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    shown = re.sub(r"^Index: .+$", "Index: ...", "\n".join(lines), flags=re.MULTILINE)
    shown = re.sub(r"in [\d.]+ s:", "in ... s:", shown)
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
