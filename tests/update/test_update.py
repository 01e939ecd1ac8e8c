"""The update of single files: what it looks at, drops, refuses and waits for."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from cli_runner import new_runner
from dicom_bytes import small_image as image

import mmindex
from mmindex.cli import main
from mmindex.errors import IndexFormatError, IndexWriteError, MissingFileError
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.store import Store
from mmindex.update import archive_root, guards, single_files
from mmindex.update.report import BuildReport

SOP_INSTANCE_UID = 0x00080018


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An indexed archive: a.dcm, b.dcm, sub/c.dcm, sub/deep/d.dcm, subway/e.dcm."""
    archive = tmp_path / "archive"
    for number, name in enumerate(
        ["a.dcm", "b.dcm", "sub/c.dcm", "sub/deep/d.dcm", "subway/e.dcm"], 1
    ):
        path = archive / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(f"1.{number}", b"%04d" % number))
    mmindex.build(archive, workers=1)
    return archive


def known(root: Path) -> set[str]:
    with mmindex.open(root) as archive:
        return {os.fsdecode(record.path) for record in archive.records()}


def test_a_new_file_is_served_after_an_update(root: Path) -> None:
    """Only the file named is scanned, whatever else is new."""
    (root / "new.dcm").write_bytes(image("2.1", b"new!"))
    (root / "other.dcm").write_bytes(image("2.2"))
    report = mmindex.update(root, [root / "new.dcm"])
    assert (report.found, report.scanned, report.unchanged, report.removed) == (1, 1, 0, 0)
    with mmindex.open(root) as archive:
        assert archive.frame("2.1", 0) == b"new!"
        assert "2.2" not in archive


def test_changed_unchanged_and_gone_files_are_told_apart(root: Path) -> None:
    """The index follows each of the files."""
    (root / "a.dcm").write_bytes(image("1.1", b"longer.."))
    (root / "b.dcm").unlink()
    paths = [root / "a.dcm", root / "b.dcm", root / "sub" / "c.dcm"]
    report = mmindex.update(root, paths)
    assert (report.scanned, report.unchanged, report.removed) == (1, 1, 1)
    with mmindex.open(root) as archive:
        assert archive.frame("1.1", 1) == b"er.."
        assert "1.2" not in archive
    report = mmindex.update(root, paths)
    assert (report.scanned, report.unchanged, report.removed) == (0, 2, 0)


def test_what_is_below_a_folder_that_is_gone_is_dropped(root: Path) -> None:
    """A folder whose name begins alike stays."""
    (root / "sub").rename(root.parent / "elsewhere")
    assert mmindex.update(root, [root / "sub"]).removed == 2
    assert known(root) == {"a.dcm", "b.dcm", "subway/e.dcm"}


def test_a_folder_is_looked_at_whole(root: Path) -> None:
    """New files below it are scanned, those that are gone are dropped."""
    (root / "sub" / "deep" / "d.dcm").unlink()
    (root / "sub" / "new").mkdir()
    (root / "sub" / "new" / "f.dcm").write_bytes(image("2.1"))
    report = mmindex.update(root, [root / "sub"])
    assert (report.found, report.scanned, report.unchanged, report.removed) == (2, 1, 1, 1)
    assert known(root) == {"a.dcm", "b.dcm", "sub/c.dcm", "sub/new/f.dcm", "subway/e.dcm"}
    (root / "b.dcm").unlink()
    assert mmindex.update(root, [root]).removed == 1


def test_a_folder_in_place_of_a_file(root: Path) -> None:
    """The file is dropped, and what is below the folder is scanned."""
    (root / "a.dcm").rename(root / "a")
    (root / "a.dcm").mkdir()
    (root / "a").rename(root / "a.dcm" / "inside.dcm")
    mmindex.update(root, [root / "a.dcm"])
    assert known(root) == {
        "a.dcm/inside.dcm",
        "b.dcm",
        "sub/c.dcm",
        "sub/deep/d.dcm",
        "subway/e.dcm",
    }


@pytest.mark.parametrize("path", ["/etc/hostname", "../outside", "sub/../../outside"])
def test_paths_outside_the_root_are_refused(
    root: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, not even for the paths that are inside."""
    monkeypatch.chdir(root)
    (root / "new.dcm").write_bytes(image("2.1"))
    with pytest.raises(IndexWriteError, match="found one outside"):
        mmindex.update(root, ["new.dcm", path])
    assert "new.dcm" not in known(root)


def test_a_path_through_a_link_leads_to_the_files_own_path(root: Path) -> None:
    """A build gives each file one path; an update finds the same one."""
    (root.parent / "link").symlink_to(root)
    (root / "inner").symlink_to("sub")
    (root / "sub" / "new.dcm").write_bytes(image("2.1"))
    mmindex.update(root.parent / "link", [root / "inner" / "new.dcm"])
    mmindex.update(root, [root.parent / "link" / "sub" / "new.dcm"])
    assert "sub/new.dcm" in known(root)
    assert mmindex.build(root, workers=1).scanned == 0


def test_relative_paths_are_those_of_the_working_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a shell completes them, and for bytes that are no text as well."""
    monkeypatch.chdir(root / "sub")
    (root / "sub" / "new.dcm").write_bytes(image("2.1"))
    with open(b"odd\xff", "wb") as file:
        file.write(image("2.2"))
    assert mmindex.update("..", ["new.dcm", b"odd\xff", "."]).scanned == 2


def test_an_update_makes_an_index_where_there_is_none(tmp_path: Path) -> None:
    """The first file that arrives needs no build before it."""
    (tmp_path / "a.dcm").write_bytes(image("1.1"))
    mmindex.update(tmp_path, [tmp_path / "a.dcm"])
    assert known(tmp_path) == {"a.dcm"}


def test_the_index_itself_is_no_file_of_the_archive(root: Path) -> None:
    """Whoever passes on every change of a folder passes on those of the index."""
    report = mmindex.update(root, [root / ".mmindex", root / ".mmindex-lock"])
    assert (report.found, report.removed, report.problem_count) == (0, 0, 0)


def begin_to_write(root: Path) -> tuple[threading.Event, threading.Thread]:
    """Let another thread hold an index's write lock until the event is set."""
    holds, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with only_writer(str(root / ".mmindex")):
            holds.set()
            may_end.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    assert holds.wait(30)
    return may_end, other


def test_an_update_waits_for_another_and_says_when_it_waited_in_vain(root: Path) -> None:
    """The wait ends with the other's work, or after the seconds given."""
    (root / "new.dcm").write_bytes(image("2.1"))
    may_end, other = begin_to_write(root)
    with pytest.raises(IndexWriteError, match=r"after 0\.1 s:"):
        mmindex.update(root, [root / "new.dcm"], wait=0.1)
    threading.Timer(0.2, may_end.set).start()
    assert mmindex.update(root, [root / "new.dcm"], wait=30).scanned == 1
    other.join()


def test_concurrent_updates_all_arrive(root: Path) -> None:
    """Eight callers at once, each with files of its own."""

    def arrive(caller: int) -> None:
        for number in range(5):
            path = root / f"{caller}-{number}.dcm"
            path.write_bytes(image(f"3.{caller}.{number}"))
            mmindex.update(root, [path], wait=60)

    callers = [threading.Thread(target=arrive, args=(caller,)) for caller in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(known(root)) == 45


def test_a_file_named_costs_no_walk_of_the_index(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New, changed and gone files are found by their paths alone, pages are checked once."""
    with mmindex.open(root):
        mmindex.update(root, [root / "a.dcm"])
        (root / "a.dcm").write_bytes(image("1.1", b"longer.."))
        mmindex.update(root, [root / "a.dcm"])
        for name in (
            "iterate_packed",
            "find_below",
            "find_unseen",
            "count_duplicates",
            "_check_pages",
        ):
            monkeypatch.setattr(single_files.Store, name, None)
        (root / "new.dcm").write_bytes(image("2.1"))
        (root / "b.dcm").unlink()
        report = mmindex.update(root, [root / "new.dcm", root / "b.dcm", root / "a.dcm"])
    assert (report.scanned, report.removed, report.unchanged) == (1, 1, 1)


def test_an_index_of_an_older_format_is_left_as_it_is(root: Path) -> None:
    """An update would keep only its own files of it: a build is due."""
    with lmdb.open(str(root / ".mmindex"), subdir=False, max_dbs=16) as env:
        meta = env.open_db(b"meta")
        with env.begin(db=meta, write=True) as txn:
            txn.put(b"format", struct.pack("<7sI", b"mmindex", 3))
    before = (root / ".mmindex").read_bytes()
    with pytest.raises(IndexFormatError, match="mmindex build"):
        mmindex.update(root, [root / "a.dcm"])
    assert (root / ".mmindex").read_bytes() == before


UPDATING = """
import sys
from pathlib import Path
import mmindex

root = Path(sys.argv[1])
while True:
    for number in range(40):
        path = root / f"{number}.dcm"
        if path.exists():
            path.rename(root.parent / "kept" / path.name)
        else:
            (root.parent / "kept" / path.name).rename(path)
        mmindex.update(root, [path], wait=60)
        print(number, flush=True)
"""


def test_kill_9_at_random_moments_of_updates_leaves_a_right_index(tmp_path: Path) -> None:
    """Each commit is whole; the next build finds what an update had not done."""
    root = tmp_path / "root"
    for folder in (root, tmp_path / "kept"):
        folder.mkdir()
    for number in range(40):
        (root / f"{number}.dcm").write_bytes(image(f"5.{number}", b"%04d" % number))
    (root / "stays.dcm").write_bytes(image("5.999", b"stay"))
    mmindex.build(root, workers=1)
    for moment in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", UPDATING, str(root)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        with child.stdout as lines:
            for _ in range(moment):
                lines.readline()
            time.sleep(random.random() / 200)
            child.kill()
        child.wait()
        with mmindex.open(root) as archive:
            archive.check_index()
        mmindex.build(root, workers=1)
        there = {path.name for path in root.glob("*.dcm")}
        assert known(root) == there
        with mmindex.open(root) as archive:
            for name in there - {"stays.dcm"}:
                number = int(name.split(".")[0])
                assert archive.frame(f"5.{number}", 0) == b"%04d" % number


def test_rules_hold_for_named_files_too(root: Path) -> None:
    """What the rules leave out is dropped, as a build drops it."""
    (root / "link.dcm").symlink_to("a.dcm")
    mmindex.update(root, [root / "link.dcm"])
    assert "link.dcm" in known(root)
    mmindex.update(root, [root / "link.dcm"], follow_links=False)
    assert "link.dcm" not in known(root)
    mmindex.update(root, [root / "sub" / "c.dcm"], exclude=["sub"])
    assert "sub/c.dcm" not in known(root)
    (root / "young.dcm").write_bytes(image("2.1"))
    assert mmindex.update(root, [root / "young.dcm"], min_age=3600).postponed == 1
    assert "young.dcm" not in known(root)


# Guards


def test_an_empty_root_empties_no_index(tmp_path: Path) -> None:
    """A mount that is lost leaves an empty folder; build and update refuse, and say what to do."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.dcm").write_bytes(image("1.1"))
    index = tmp_path / "index"
    mmindex.build(root, index, workers=1)
    (root / "a.dcm").rename(tmp_path / "away")
    for call in (lambda: mmindex.build(root, index), lambda: mmindex.update(root, [root], index)):
        with pytest.raises(IndexWriteError, match=r"the root is empty.*max-removed"):
            call()
    assert new_runner().invoke(main, ["build", str(root), "--index", str(index)]).exit_code == 1
    assert mmindex.build(root, index, max_removed="100%").removed == 1


def test_over_half_of_many_files_gone_empties_no_index(tmp_path: Path) -> None:
    """Over half and over a hundred: a build refuses; half is dropped."""
    for number in range(202):
        (tmp_path / f"{number}.dcm").write_bytes(b"text")
    mmindex.build(tmp_path, workers=1)
    for number in range(102):
        (tmp_path / f"{number}.dcm").unlink()
    with pytest.raises(IndexWriteError, match=r"over half.*102 of 202"):
        mmindex.build(tmp_path, workers=1)
    with pytest.raises(IndexWriteError, match=r"at most 50%"):
        mmindex.build(tmp_path, workers=1, max_removed="50%")
    with pytest.raises(IndexWriteError, match=r"at most 101"):
        mmindex.build(tmp_path, workers=1, max_removed=101)
    assert len(known(tmp_path)) == 202
    (tmp_path / "0.dcm").write_bytes(b"text")
    assert mmindex.build(tmp_path, workers=1).removed == 101
    with pytest.raises(ValueError, match="percentage"):
        mmindex.build(tmp_path, workers=1, max_removed="half")


def test_roots_that_show_the_system_are_refused() -> None:
    """/proc has no end, and no DICOM files."""
    if not Path("/proc/self/mounts").exists():
        pytest.skip("no /proc")
    with pytest.raises(IndexWriteError, match=r"/proc.*one-file-system"):
        mmindex.build("/", "/nowhere/index")
    with pytest.raises(MissingFileError, match="empty text"):
        mmindex.build("")


def test_exclude_links_and_age_of_a_build(root: Path) -> None:
    """Globs are compared with names, or with paths where they have a slash."""
    (root / "link.dcm").symlink_to("a.dcm")
    mmindex.build(root, workers=1, follow_links=False, exclude=["deep", "subway/*", "B.*"])
    assert known(root) == {"a.dcm", "b.dcm", "sub/c.dcm"}
    os.utime(root / "link.dcm")
    report = mmindex.build(root, workers=1, min_age=3600, exclude=["sub", "subway/"])
    assert (report.postponed, report.removed) == (2, 1)
    assert known(root) == {"a.dcm", "b.dcm"}
    assert mmindex.build(root, workers=1, one_file_system=True).found == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_no_index_is_created_through_a_link_that_another_user_planted(tmp_path: Path) -> None:
    """The link leads to where no file is: the build creates none there, and names the link."""
    link, target = tmp_path / ".mmindex", tmp_path / "elsewhere"
    link.symlink_to(target)
    os.lchown(link, 65534, 65534)
    with pytest.raises(IndexWriteError, match=r"\.mmindex: a symbolic link of another user"):
        mmindex.build(tmp_path, workers=1)
    assert not target.exists()
    os.lchown(link, 0, 0)
    mmindex.build(tmp_path, workers=1)
    assert target.exists()


def test_what_was_below_a_folder_that_became_a_file_is_dropped(tmp_path: Path) -> None:
    """By the update of that path alone, a folder above or below included; and the other way."""
    for name in ("f/a", "f/g/b", "f/g/h/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(image(f"1.{name[-1]}".replace("a", "1").replace("b", "2")))
    (tmp_path / "other").write_bytes(b"")
    mmindex.build(tmp_path, workers=1)

    def paths() -> list[str]:
        with mmindex.open(tmp_path) as archive:
            archive.check_index()
            return sorted(os.fsdecode(record.path) for record in archive.records())

    shutil.rmtree(tmp_path / "f" / "g")
    (tmp_path / "f" / "g").write_bytes(b"a file now")
    report = mmindex.update(tmp_path, [tmp_path / "f" / "g"])
    assert (report.scanned, report.removed) == (1, 2)
    assert paths() == ["f/a", "f/g", "other"]
    (tmp_path / "f" / "g").unlink()
    (tmp_path / "f" / "g").mkdir()
    (tmp_path / "f" / "g" / "d").write_bytes(b"a folder now")
    assert mmindex.update(tmp_path, [tmp_path / "f" / "g"]).removed == 1
    assert paths() == ["f/a", "f/g/d", "other"]
    shutil.rmtree(tmp_path / "f")
    assert mmindex.update(tmp_path, [tmp_path / "f"]).removed == 2
    assert paths() == ["other"]


def test_a_path_that_never_was_in_the_archive_costs_no_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a new file: only what was a folder is looked for below."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_bytes(b"")
    mmindex.build(tmp_path, workers=1)
    (tmp_path / "new").write_bytes(b"")

    def refuse(store: Store, folders: object = None) -> None:
        raise AssertionError

    for name in ("iterate_packed", "find_below"):
        monkeypatch.setattr(Store, name, refuse)
    report = mmindex.update(tmp_path, [tmp_path / "new", tmp_path / "nothing", tmp_path / "f/no"])
    assert (report.scanned, report.removed) == (1, 0)
    (tmp_path / "f" / "a").unlink()
    assert mmindex.update(tmp_path, [tmp_path / "f" / "a"]).removed == 1


# Files that come, change and go while they are looked at


def test_a_new_folder_costs_no_look_at_the_paths_of_the_index(
    root: Path, looked: list[object]
) -> None:
    """Nor does a folder without files; one that is known does, once, for those that are gone."""
    (root / "new" / "deep").mkdir(parents=True)
    (root / "new" / "deep" / "f.dcm").write_bytes(image("2.1"))
    assert mmindex.update(root, [root / "new"]).scanned == 1
    (root / "empty").mkdir()
    mmindex.update(root, [root / "empty"])
    assert looked == []
    (root / "sub" / "c.dcm").unlink()
    assert mmindex.update(root, [root / "sub", root / "empty"]).removed == 1
    assert looked == [b"sub"]


def test_a_note_of_a_link_below_a_folder_without_files_goes_with_the_link(root: Path) -> None:
    """The folder has no file in the index, and is looked at all the same."""
    (root / "links").mkdir()
    (root / "links" / "broken").symlink_to("nowhere")
    assert mmindex.update(root, [root / "links"]).problem_count == 1
    with mmindex.open(root) as archive:
        assert "links/broken" in [problem.path for problem in archive.problems()]
    (root / "links" / "broken").unlink()
    mmindex.update(root, [root / "links"])
    with mmindex.open(root) as archive:
        assert list(archive.problems()) == []


def vanish_before_scan(
    monkeypatch: pytest.MonkeyPatch, path: Path, work: Callable[[], BuildReport]
) -> BuildReport:
    """Return the report of a build or an update before whose scan a file is removed."""
    scan_files = archive_root.scan_files

    def scan(root: bytes, targets: object, options: object) -> list[bytes]:
        path.unlink(missing_ok=True)
        return scan_files(root, targets, options)

    with monkeypatch.context() as patched:
        patched.setattr(archive_root, "scan_files", scan)
        return work()


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("how", ["build", "update"])
def test_a_file_that_is_gone_before_its_scan_is_not_there(
    root: Path, monkeypatch: pytest.MonkeyPatch, how: str, is_known: bool
) -> None:
    """No record says so, and that of a known file goes."""
    path = root / ("a.dcm" if is_known else "new.dcm")
    path.write_bytes(image("1.1", b"changed!"))
    report = vanish_before_scan(
        monkeypatch,
        path,
        lambda: mmindex.build(root, workers=1) if how == "build" else mmindex.update(root, [path]),
    )
    assert (report.problems, report.scanned, report.removed) == ([], 0, int(is_known))
    assert report.found == (4 + (not is_known) if how == "build" else 0)
    assert path.name not in known(root)
    with mmindex.open(root) as archive:
        archive.check_index()
        assert list(archive.problems()) == []


@pytest.mark.parametrize("ahead", [3600.0, 70 * 365 * 86400.0])
def test_a_file_dated_in_the_future_is_not_young_for_ever(root: Path, ahead: float) -> None:
    """A clock that is wrong postpones nothing; one that differs by a second still counts."""
    path = root / "future.dcm"
    path.write_bytes(image("2.1"))
    os.utime(path, (time.time() + 5, time.time() + 5))
    assert mmindex.build(root, workers=1, min_age=3600).postponed >= 1
    assert mmindex.update(root, [path], min_age=3600).postponed == 1
    os.utime(path, (time.time() + ahead, time.time() + ahead))
    assert mmindex.update(root, [path], min_age=3600).scanned == 1
    path.write_bytes(image("2.1", b"changed!"))
    os.utime(path, (time.time() + ahead, time.time() + ahead))
    assert mmindex.build(root, workers=1, min_age=3600).scanned == 1


def test_a_build_waits_for_another_and_says_when_it_waited_in_vain(root: Path) -> None:
    """As an update does: a nightly build meets the updates of the day."""
    may_end, other = begin_to_write(root)
    with pytest.raises(IndexWriteError, match=r"after 0\.1 s:"):
        mmindex.build(root, workers=1, wait=0.1)
    command = ["build", str(root), "--wait", "0", "-j", "1"]
    assert new_runner().invoke(main, command).exit_code == 1
    threading.Timer(0.2, may_end.set).start()
    assert mmindex.build(root, workers=1, wait=30).unchanged == 5
    other.join()


def test_a_path_that_is_neither_on_disk_nor_known_is_named(root: Path) -> None:
    """A mistyped PATH fails; one of a list may have been removed since; one left out is there."""
    command = ["update", str(root), str(root / "a.dcm"), str(root / "typo.dcm")]
    done = new_runner().invoke(main, [*command, "-q"])
    assert done.exit_code == 1
    assert done.stderr == "mmindex: typo.dcm: neither in the archive nor in its index\n"
    done = new_runner().invoke(
        main, ["update", str(root), "--files-from", "-", "--json"], input=f"{root}/typo.dcm\n"
    )
    assert done.exit_code == 0
    assert json.loads(done.stdout)["unknown_paths"] == ["typo.dcm"]
    (root / "b.dcm").unlink()
    for path in ("b.dcm", "sub", ".mmindex"):
        assert mmindex.update(root, [root / path]).unknown_paths == []
    assert mmindex.update(root, [root / "a.dcm"], exclude=["a.*"]).unknown_paths == []
    assert mmindex.update(root, [root / "none" / "x"]).unknown_paths == ["none/x"]


def test_a_lost_mount_with_the_index_on_it_is_no_success(tmp_path: Path) -> None:
    """The build creates no index; where one was asked for, each night brings a warning.

    With --strict the warning has exit code 1.
    """
    for command in (["build", str(tmp_path)], ["update", str(tmp_path), str(tmp_path / "a")]):
        done = new_runner().invoke(main, [*command, "-q"])
        assert done.exit_code == 1
        assert "the folder is empty and has no index: none was created" in done.stderr
        assert os.listdir(tmp_path) == []
    meant = ["build", str(tmp_path), "-q", "-j", "1", "--max-removed", "100%"]
    assert new_runner().invoke(main, meant).exit_code == 0
    for _ in range(2):
        done = new_runner().invoke(main, ["build", str(tmp_path), "-q", "-j", "1"])
        assert (done.exit_code, done.stdout) == (0, "")
        assert "found no file, and the index has none: is it mounted?" in done.stderr
        done = new_runner().invoke(main, ["build", str(tmp_path), "-q", "--strict", "-j", "1"])
        assert done.exit_code == 1
        done = new_runner().invoke(main, ["check", str(tmp_path), "-q"])
        assert "the index has no file: is the archive mounted?" in done.stderr
    (tmp_path / "a.dcm").write_bytes(image("1.1"))
    done = new_runner().invoke(main, ["build", str(tmp_path), "-q", "--strict", "-j", "1"])
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("most", ["0", "1", "5%", "99.9%", "100", "100%", "100.0%"])
@pytest.mark.parametrize("name", ["build", "update"])
def test_only_a_limit_of_all_files_creates_an_index_of_an_empty_folder(
    tmp_path: Path, name: str, most: str
) -> None:
    """A limit that guards against a lost mount is no wish for an index of its mount point."""
    paths = [str(tmp_path / "a")] if name == "update" else ["-j", "1"]
    done = new_runner().invoke(main, [name, str(tmp_path), *paths, "--max-removed", most])
    is_meant = most.startswith("100") and most.endswith("%")
    assert (tmp_path / ".mmindex").exists() == is_meant
    assert ("none was created" in done.stderr) != is_meant


@pytest.mark.parametrize("kinds", ["missing", "stale", "new", "missing,new", ""])
def test_a_strict_build_refuses_kinds_that_it_cannot_have(root: Path, kinds: str) -> None:
    """After a build no file is stale, missing or new: the alert would never come."""
    done = new_runner().invoke(main, ["build", str(root), "--strict", "--fail-on", kinds])
    assert done.exit_code == 2
    assert "expected some of anomaly,duplicate,unreadable" in done.stderr
    done = new_runner().invoke(main, ["build", str(root), "--strict", "--fail-on", "new,anomaly"])
    assert done.exit_code == 0


def test_mounts_are_found_by_their_names_with_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r"""The kernel writes blanks as \040, backslashes as \134."""
    (tmp_path / "my archive").mkdir()
    place = str(tmp_path / "my archive").replace(" ", "\\040") + "/a\\134b/proc"
    (tmp_path / "mounts").write_text(f"proc {place} proc rw 0 0\n")
    monkeypatch.setattr(guards, "_MOUNTS", str(tmp_path / "mounts"))
    with pytest.raises(IndexWriteError, match=r"my archive/a\\b/proc in it"):
        mmindex.build(tmp_path / "my archive", workers=1)


def test_a_link_to_a_folder_of_the_archive_is_no_folder_of_its_own(tmp_path: Path) -> None:
    """An update of such a link, or of a folder with one, makes what a build makes."""
    root = tmp_path / "root"
    for number in range(3):
        (root / "s1" / "deep").mkdir(parents=True, exist_ok=True)
        (root / "s1" / "deep" / f"{number}.dcm").write_bytes(image(f"1.{number}"))
    (root / "s2").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "3.dcm").write_bytes(image("1.3"))
    mmindex.build(root, workers=1)
    for link, target in (
        ("current", "s1"),
        ("s1/up", ".."),
        ("s2/other", "../s1/deep"),
        ("out", "../outside"),
    ):
        (root / link).symlink_to(target)
        mmindex.update(root, [root / link])
    mmindex.update(root, [root])
    mmindex.update(root, [root / "s1", root / "s2"])

    def look() -> tuple[list[str], list[tuple[str, str]]]:
        with mmindex.open(root) as archive:
            archive.check_index()
            paths = sorted(os.fsdecode(record.path) for record in archive.records())
            return paths, sorted((each.path, each.kind) for each in archive.problems())

    updated = look()
    assert updated[0] == ["out/3.dcm", *(f"s1/deep/{number}.dcm" for number in range(3))]
    mmindex.build(root, workers=1)
    assert look() == updated
