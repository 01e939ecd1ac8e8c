"""`mmindex build`: its summary, its report, its progress, and how Ctrl-C ends it."""

from __future__ import annotations

import json
import shutil
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from cli_runner import (
    read_terminal,
    run,
    run_child,
)
from container_bytes import native, write_zip
from dicom_bytes import (
    PIXEL_DATA,
    dicom_file,
    element,
    native_file,
)
from sample_archive import CINE

import mmindex
from mmindex.cli.progress import ProgressLine, ProgressLog, describe_progress
from mmindex.update import met as met_module
from mmindex.update.report import BuildReport, Progress


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
    monkeypatch.setattr(met_module, "_CHUNK_FILES", 10)
    monkeypatch.setattr(ProgressLog, "show", interrupt)
    stderr = run("build", folder, "--workers", 1, code=130).stderr
    done = int(stderr.split()[2])
    assert 0 < done < 105
    assert len(run("ls", folder).stdout.splitlines()) == done
    monkeypatch.setattr(ProgressLog, "show", show)
    assert f"{105 - done} scanned, {done} unchanged" in run("build", folder).stdout


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


def test_build_says_how_many_uids_are_in_several_files(archive):
    """One is served, and `mmindex check` lists them."""
    for name in (CINE, "rtdose.dcm"):
        assert "several files" not in run("build", archive).stdout
        shutil.copyfile(archive / name, archive / f"copy of {name}")
        if name == CINE:
            said = "1 SOP Instance UID is in several files: `mmindex check` lists them\n"
            assert run("build", archive).stdout.endswith(said)
            (archive / f"copy of {name}").unlink()
            run("build", archive)
    shutil.copyfile(archive / CINE, archive / "copy.dcm")
    assert "\n2 SOP Instance UIDs are in several files" in run("build", archive).stdout
    assert json.loads(run("build", archive, "--json").stdout)["duplicates"] == 2


def test_a_quiet_build_prints_problems_only(folder):
    """For cron, which mails what is printed."""
    assert run("build", folder, "-q", "-j", 1).output == ""
    (folder / "gone.dcm").symlink_to(folder / "nowhere")
    result = run("build", folder, "--quiet")
    assert result.stdout == ""
    assert result.stderr.startswith("mmindex: gone.dcm: ")
    assert result.stderr.count("\n") == 1


def test_a_verbose_build_prints_every_problem(folder):
    """Not only the first ones."""
    for number in range(25):
        (folder / f"link-{number}").symlink_to(folder / "nowhere")
    assert len(run("build", folder, "-v", "-j", 1).stderr.splitlines()) == 25


def test_progress_of_files_has_a_bar_and_the_time_left(capsys):
    """What goes over an index knows from the start how many files there are."""
    now = iter([0.0, 1.0, 1.05, 2.0])
    line = ProgressLine(clock=lambda: next(now))
    for done in (300, 400, 1200):
        line.show_files(done, 1200)
    shown = capsys.readouterr().err.split("\r")
    assert [text.rstrip() for text in shown] == [
        "",
        "[######------------------] 300 of 1,200 files, 300 files/s, 0:00:03 left",
        "[########################] 1,200 of 1,200 files, 600 files/s, 0:00:00 left",
    ]


def test_no_containers_opens_none(tmp_path):
    """Their files are in the index without the option, and gone with it."""
    (tmp_path / "s.zip").write_bytes(write_zip([("a.dcm", native("1.1")), ("b", b"text")]))
    printed = run("build", tmp_path, "--workers", 1).stdout
    assert "1 container, 1 indexed, 1 not-dicom" in printed
    assert run("ls", tmp_path).stdout.startswith("s.zip!/a.dcm\t1.1\t")
    printed = run("build", tmp_path, "--workers", 1, "--no-containers").stdout
    assert "1 scanned, 0 unchanged, 2 removed" in printed
    assert run("ls", tmp_path).stdout == ""
    run("update", tmp_path, tmp_path / "s.zip", "--no-containers")
