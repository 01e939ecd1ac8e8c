"""The README names what the code has: transfer syntaxes, anomalies, errors, commands, names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mmindex
from mmindex.cli import COMMANDS
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_every_transfer_syntax_stands_in_the_table_by_uid_and_name() -> None:
    """The table of transfer syntaxes is that of the code."""
    documented = {row[0]: row[1] for row in table_rows("Which files")}
    assert documented == {uid: syntax.name for uid, syntax in TRANSFER_SYNTAXES.items()}


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
    assert re.search(rf"\b{name}\b", README.split("\n## Errors\n")[1].split("\n## ")[0])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    """Every command stands in the README's table."""
    assert f"`mmindex {command} " in README


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


def test_python_blocks_of_the_readme_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's Python code works as printed, one block after the other."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(compile(block, "README.md", "exec"), namespace)
