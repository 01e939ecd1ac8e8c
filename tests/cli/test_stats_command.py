"""`mmindex stats` off and at a terminal."""

from __future__ import annotations

import json
import re
import time

import pytest
from cli_runner import (
    print_on_terminal,
    run,
    run_child,
)
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes
from sample_archive import NAMES

import mmindex


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


def test_stats_on_a_terminal_rounds_the_size_of_the_files(archive, terminal):
    """Off a terminal it is exact."""
    size = sum((archive / name).stat().st_size for name in NAMES)
    first, *_ = print_on_terminal(terminal, "stats", archive)
    assert first.split(None, 1)[1] == f"{len(NAMES)}, {size / 1000:.1f} kB"


# The text format by its description: HELP and TYPE, then samples of the same name.
HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\\n]|\\\\|\\n)*)")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)")
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)\{{((?:{LABEL},?)*)\}} (\S+)")


def parse_metrics(text):
    """Return values by name and labels, of a text that keeps to the grammar."""
    values, name = {}, None
    assert text.endswith("\n")
    lines = iter(text[:-1].split("\n"))
    for line in lines:
        if found := HELP.fullmatch(line):
            name = found[1]
            assert TYPE.fullmatch(next(lines))[1] == name
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        assert sample[1] == name
        labels = frozenset((label, value) for label, value in re.findall(LABEL, sample[2]))
        assert (name, labels) not in values
        values[name, labels] = float(sample[5])
    return values


def test_stats_prometheus_keeps_to_the_text_format(tmp_path):
    """Files by status, problems, bytes, frames, the last build; quotes in a path are escaped."""
    root = tmp_path / 'an "archive"\\'
    root.mkdir()
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes()
    (root / "one").write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", bytes(4))))
    (root / "note").write_text("x")
    (root / "broken").symlink_to("nowhere")
    before = time.time()
    mmindex.build(root, workers=1)
    after = time.time()
    run("check", root, "--accept")
    (root / "other").symlink_to("nowhere")
    mmindex.update(root, [root / "other"])
    values = parse_metrics(run("stats", root, "--prometheus").stdout)
    label = ("root", str(root).replace("\\", r"\\").replace('"', r"\""))

    def value(name, **labels):
        return values[name, frozenset([label, *labels.items()])]

    assert value("mmindex_files", status="indexed") == 1
    assert value("mmindex_files", status="not-dicom") == 1
    assert value("mmindex_files", status="unreadable") == 0
    assert value("mmindex_frames") == value("mmindex_instances") == 1
    size = (root / "one").stat().st_size + 1
    assert value("mmindex_file_bytes") == size
    assert value("mmindex_problems", kind="unreadable", accepted="true") == 1
    assert value("mmindex_problems", kind="unreadable", accepted="false") == 1
    assert value("mmindex_problems", kind="duplicate", accepted="false") == 0
    assert before - 1 < value("mmindex_last_build_timestamp_seconds") < after + 1
    assert 0 <= value("mmindex_last_build_duration_seconds") <= after - before
    assert "--prometheus" in run("stats", root, "--prometheus", "--json", code=2).stderr


def test_stats_prometheus_is_read_by_the_client_of_prometheus(archive):
    """Where that is installed."""
    parser = pytest.importorskip("prometheus_client.parser")
    printed = run("stats", archive, "--prometheus").stdout
    families = {each.name: each for each in parser.text_string_to_metric_families(printed)}
    frames = families["mmindex_frames"].samples[0]
    assert frames.labels == {"root": str(archive)}
    ours = {(name, labels): value for (name, labels), value in parse_metrics(printed).items()}
    samples = [sample for family in families.values() for sample in family.samples]
    assert {(each.name, frozenset(each.labels.items())): each.value for each in samples} == ours


def test_the_last_build_is_in_stats_info_and_ls(archive, terminal):
    """As ISO 8601 for programs, to the second on a terminal; UTC."""
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00"
    assert re.search(rf"^Last build +{moment}$", run("stats", archive).stdout, re.MULTILINE)
    assert re.fullmatch(moment, json.loads(run("stats", archive, "--json").stdout)["last_build"])
    name = archive / NAMES[0]
    assert re.search(rf"^Last build +{moment}$", run("info", name).stdout, re.MULTILINE)
    assert re.fullmatch(moment, json.loads(run("info", name, "--json").stdout)["last_build"])
    _, theirs = terminal
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(f"last build {moment}$", run_child("ls", archive, stdout=theirs).stderr)
