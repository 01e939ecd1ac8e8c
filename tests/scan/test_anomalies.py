"""The table of anomalies has every code that a scan records, in words for people."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from anomaly_examples import EXAMPLES, FORCED, OVER_4_GIB
from outcomes import anomaly_codes, read_frames

import mmindex
from mmindex.scan.anomalies import ANOMALIES

PACKAGE = Path(mmindex.__file__).parent
PREFIXES = ("bot", "eot")


def walk_codes() -> Iterator[str]:
    """Yield every string in the package's source that is a code, f-strings with each prefix."""
    for path in PACKAGE.rglob("*.py"):
        if path.name == "anomalies.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            if isinstance(node, ast.JoinedStr):
                ending = node.values[-1]
                if isinstance(ending, ast.Constant):
                    yield from (f"{prefix}{ending.value}" for prefix in PREFIXES)


def walk_recorded_codes() -> Iterator[str]:
    """Yield the codes that are written out where an Anomaly is created."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Anomaly"):
                continue
            code = node.args[0]
            if isinstance(code, ast.Constant):
                yield code.value
            elif isinstance(code, ast.JoinedStr) and isinstance(code.values[-1], ast.Constant):
                yield from (f"{prefix}{code.values[-1].value}" for prefix in PREFIXES)


def test_every_code_that_the_source_records_is_in_the_table():
    """A new anomaly gets its meaning before anybody meets it."""
    assert set(walk_recorded_codes()) - set(ANOMALIES) == set()


def test_every_code_in_the_table_is_one_that_the_source_records():
    """The table keeps no code that nothing records."""
    assert set(ANOMALIES) - set(walk_codes()) == set()


@pytest.mark.parametrize("code", ANOMALIES)
def test_an_anomaly_has_a_meaning_and_what_was_done_in_one_sentence_each(code):
    """Both texts are whole sentences that fit a line of a terminal."""
    for text in ANOMALIES[code]:
        assert text[0].isupper()
        assert text.endswith(".")
        assert len(text) <= 130


def test_every_code_has_an_example():
    """A new anomaly gets bytes that record it; what needs 4 GiB has a test of its own."""
    assert set(EXAMPLES) | OVER_4_GIB == set(ANOMALIES)
    assert not set(EXAMPLES) & OVER_4_GIB
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert all(f'["{code}"]' in tests for code in OVER_4_GIB)


@pytest.mark.parametrize("code", EXAMPLES)
def test_an_example_records_its_anomaly_and_its_frames_are_read(code):
    """The code is recorded where the bytes show it; what is read is the same without a proof."""
    data, force = EXAMPLES[code], code in FORCED
    assert code in anomaly_codes(data, force=force)
    frames = read_frames(data, force=force)
    assert len(frames) == mmindex.scan(data, force=force).number_of_frames
    assert all(frame != b"" for frame in frames)
