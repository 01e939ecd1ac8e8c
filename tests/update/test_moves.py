"""Archives that move, are copied or lose their inodes: served, and brought up to date unscanned."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest
from cli_runner import read_json_lines, run
from container_bytes import native, write_deflated, write_tar, write_zip

import mmindex
from mmindex.cli import COMMANDS, main
from mmindex.errors import IndexWriteError, MissingFileError, StaleIndexError
from mmindex.index.lmdb.locks import only_writer
from mmindex.index.store import Store
from mmindex.model import VersionKind
from mmindex.update import scan_file as scan_file_module

MEMBERS = [(f"{number}.dcm", native(f"3.{number}", [b"m%03d" % number])) for number in range(4)]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of files, members of containers, links, and files that are not DICOM."""
    root = tmp_path / "archive"
    (root / "deep" / "er").mkdir(parents=True)
    for number in range(5):
        folder = root / ("deep/er" if number % 2 else "")
        (folder / f"{number}.dcm").write_bytes(native(f"1.{number}", [b"f%03d" % number]))
    (root / "a.tar").write_bytes(write_tar(MEMBERS[:2]))
    (root / "b.zip").write_bytes(write_zip(MEMBERS[2:3]))
    (root / "c.zip").write_bytes(write_deflated(MEMBERS[3:]))
    (root / "notes.txt").write_text("no DICOM file")
    (root / "cut.dcm").write_bytes(native("4.1")[:-60])
    (root / "linked.dcm").symlink_to("0.dcm")
    (root / "again").symlink_to("deep")
    return root


FRAMES = {f"1.{number}": b"f%03d" % number for number in range(5)} | {
    f"3.{number}": b"m%03d" % number for number in range(4)
}


def frames_of(index: Path, **options: object) -> dict[str, bytes]:
    with mmindex.open(index, **options) as opened:  # type: ignore[arg-type]
        opened.check_index()
        once = {uid: opened.frame(uid, 0) for uid in opened}
        assert once == {uid: opened[uid].frame(0) for uid in opened}
        return once


def kinds_of(index: Path) -> set[int]:
    with mmindex.open(index) as opened:
        return {record.fingerprint.kind for record in opened.records() if record.fingerprint}


def copy_with_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def copy_with_tar(source: Path, target: Path) -> None:
    with tarfile.open(source.parent / "moved.tar", "w") as tar:
        tar.add(source, "")
    target.mkdir()
    with tarfile.open(source.parent / "moved.tar") as tar:
        tar.extractall(target, filter="tar")
    for path in source.rglob("*"):  # tar keeps times to the second or so
        copied = target / path.relative_to(source)
        status = path.lstat()
        os.utime(copied, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def copy_with_python(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def rename(source: Path, target: Path) -> None:
    source.rename(target)


COPIES = (copy_with_cp, copy_with_tar, copy_with_python)
Move = Callable[[Path, Path], None]


@pytest.fixture
def forbid_scans(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what lets every later scan in this process fail the test."""

    def forbid() -> None:
        def fail(*arguments: object) -> bytes:
            raise AssertionError("a file was scanned")

        monkeypatch.setattr(scan_file_module, "scan_file", fail)
        monkeypatch.setattr(scan_file_module.MemberScanner, "scan", fail)

    return forbid


def check_unscanned(report: mmindex.BuildReport, files: int) -> None:
    found = report.scanned, report.unchanged, report.removed, report.found
    assert found == (0, files, 0, files)


@pytest.mark.parametrize("move", [*COPIES, rename])
def test_an_index_that_ignores_inodes_survives_a_copy(
    archive: Path, move: Move, forbid_scans: Callable[[], None]
) -> None:
    """Frames are served at once; a build, an update and a check find nothing to do."""
    first = mmindex.build(archive, workers=1, ignore_inode=True)
    assert kinds_of(archive) == {VersionKind.LOCAL_WITHOUT_INODE}
    target = archive.parent / "elsewhere"
    move(archive, target)
    forbid_scans()
    assert frames_of(target) == FRAMES
    assert {line["kind"] for line in read_json_lines("check", target, code=1)} == {
        "unreadable",
        "duplicate",
    }
    check_unscanned(mmindex.build(target, workers=1), first.found)
    updated = mmindex.update(target, [target / "0.dcm", target / "b.zip", target / "deep"])
    assert (updated.scanned, updated.removed) == (0, 0)
    assert frames_of(target) == FRAMES


@pytest.mark.parametrize("move", COPIES)
def test_a_copy_that_brought_its_index_is_recognised(archive: Path, move: Move) -> None:
    """Readers refuse files of other inodes; the next build knows them by size and time."""
    first = mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    move(archive, target)
    with mmindex.open(target) as opened, pytest.raises(StaleIndexError):
        opened.frame("1.0", 0)
    check_unscanned(mmindex.build(target, workers=1), first.found)
    assert frames_of(target) == FRAMES
    assert read_json_lines("check", target, "--fail-on", "stale,missing,new") == read_json_lines(
        "check", archive, "--fail-on", "stale,missing,new"
    )


def test_what_changed_in_a_copy_is_scanned(archive: Path) -> None:
    """Files that are new, gone or of another time do not keep a copy from being recognised."""
    mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    (target / "2.dcm").write_bytes(native("1.2", [b"new!"]))
    (target / "4.dcm").unlink()
    (target / "5.dcm").write_bytes(native("1.5", [b"more"]))
    report = mmindex.build(target, workers=1)
    assert (report.scanned, report.removed_paths) == (2, ["4.dcm"])
    expected = {**FRAMES, "1.2": b"new!", "1.5": b"more"}
    del expected["1.4"]
    assert frames_of(target) == expected


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file by another one of the same size and time."""
    before = path.stat()
    assert len(content) == before.st_size
    path.with_name("new").write_bytes(content)
    os.utime(path.with_name("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_name("new").replace(path)


@pytest.mark.parametrize("rewritten", [1, 2, 40])
def test_an_archive_rewritten_under_the_times_it_had_is_no_copy(
    tmp_path: Path, rewritten: int
) -> None:
    """All files have other inodes, and some of them other UIDs of the same length."""
    for number in range(40):
        (tmp_path / f"{number:02}.dcm").write_bytes(native(f"1.{number:02}"))
    mmindex.build(tmp_path, workers=1)
    for number in range(rewritten):
        rewrite(tmp_path / f"{number:02}.dcm", native(f"2.{number:02}"))
    assert mmindex.build(tmp_path, workers=1).scanned == rewritten
    with mmindex.open(tmp_path) as opened:
        assert sorted(opened) == sorted(
            f"{2 if number < rewritten else 1}.{number:02}" for number in range(40)
        )


def test_a_large_archive_rewritten_under_the_times_it_had_is_no_copy(tmp_path: Path) -> None:
    """Its index is the file that it was, so that no sample decides: the one other file is found."""
    for number in range(80):
        (tmp_path / f"{number:02}.dcm").write_bytes(native(f"1.{number:02}"))
    mmindex.build(tmp_path, workers=1)
    expected = frames_of(tmp_path)
    for number in range(80):
        pixels = b"%04d" % number if number % 40 == 7 else expected[f"1.{number:02}"]
        rewrite(tmp_path / f"{number:02}.dcm", native(f"1.{number:02}", [pixels]))
        expected[f"1.{number:02}"] = pixels
    assert mmindex.build(tmp_path, workers=1).scanned == 80
    assert frames_of(tmp_path) == expected


def make_compactable(root: Path) -> None:
    """Leave unused pages in the archive's index."""
    (root / "much").mkdir()
    for number in range(300):
        (root / "much" / f"{number}.txt").write_text("text")
    mmindex.build(root, workers=1)
    shutil.rmtree(root / "much")
    mmindex.build(root, workers=1, max_removed="100%")


@pytest.mark.parametrize("how", ["built", "compacted", "merged", "moved", "of another archive"])
def test_an_index_that_is_its_own_file_is_no_copy(archive: Path, how: str) -> None:
    """Whoever wrote the index, an archive that is rewritten in place is scanned."""
    if how == "merged":
        mmindex.build(archive, archive.parent / "other", workers=1)
        mmindex.merge(archive / ".mmindex", [archive.parent / "other"], root=archive)
    else:
        mmindex.build(archive, workers=1)
    if how == "compacted":
        make_compactable(archive)
        before, after = mmindex.compact(archive)
        assert after < before
    if how == "moved":
        archive = archive.rename(archive.parent / "elsewhere")
        mmindex.build(archive, workers=1)
    if how == "of another archive":
        copy_with_cp(archive, archive.parent / "elsewhere")
        archive = archive.parent / "elsewhere"
        mmindex.build(archive, workers=1)
    files = [path for path in archive.rglob("*") if path.is_file() and not path.is_symlink()]
    files = [path for path in files if not path.name.startswith(".mmindex")]
    for path in files:
        rewrite(path, path.read_bytes())
    assert mmindex.build(archive, workers=1).scanned >= len(files)


def test_an_index_that_was_put_back_takes_over_no_file(archive: Path) -> None:
    """Its file is another one; the archive's have the inodes that it knows, but for one."""
    mmindex.build(archive, workers=1)
    os.replace(shutil.copy2(archive / ".mmindex", archive.parent / "kept"), archive / ".mmindex")
    rewrite(archive / "2.dcm", native("1.2", [b"new!"]))
    assert mmindex.build(archive, workers=1).scanned == 1
    assert frames_of(archive) == {**FRAMES, "1.2": b"new!"}


@pytest.mark.parametrize("how", ["updated", "merged"])
def test_a_copy_of_an_archive_that_was_never_built_is_recognised(archive: Path, how: str) -> None:
    """Whatever creates an index notes which file it is."""
    if how == "updated":
        mmindex.update(archive, [archive])
    else:
        mmindex.build(archive, archive.parent / "other", workers=1)
        mmindex.merge(archive / ".mmindex", [archive.parent / "other"], root=archive)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    assert mmindex.build(target, workers=1).scanned == 0
    assert frames_of(target) == FRAMES


def test_a_copy_with_an_index_that_notes_no_file_is_scanned(archive: Path) -> None:
    """What an earlier release built has no evidence of a copy."""
    first = mmindex.build(archive, workers=1)
    with (
        only_writer(str(archive / ".mmindex"), 1),
        closing(Store(str(archive / ".mmindex"), write=True)) as store,
    ):
        store._write(lambda txn: txn.delete("meta", b"file"))
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    assert mmindex.build(target, workers=1).scanned == first.scanned


def test_a_copy_that_was_compacted_first_is_recognised(archive: Path) -> None:
    """A compact index of a copy is as much that of the other archive."""
    make_compactable(archive)
    first = mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    before, after = mmindex.compact(target)
    assert after < before
    check_unscanned(mmindex.build(target, workers=1), first.found)


@pytest.mark.parametrize("is_told", [True, False])
def test_files_of_one_size_and_time_that_swapped_names_are_scanned(
    archive: Path, is_told: bool
) -> None:
    """Size and time do not tell the slices of a series apart that a zip held."""
    for name in ("0.dcm", "2.dcm", "4.dcm"):
        os.utime(archive / name, (1000, 1000))
    mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    (target / "0.dcm").rename(target / "new")
    (target / "2.dcm").rename(target / "0.dcm")
    (target / "new").rename(target / "2.dcm")
    mmindex.build(target, workers=1, moved_from=archive if is_told else None)
    assert frames_of(target) == FRAMES


def test_a_full_build_of_a_copy_scans_all(archive: Path) -> None:
    """What was asked for is done."""
    first = mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    assert mmindex.build(target, workers=1, full=True).scanned == first.scanned


@pytest.mark.parametrize("move", [*COPIES, rename])
@pytest.mark.parametrize("is_inside", [True, False])
def test_moved_from_takes_over_the_index(
    archive: Path, move: Move, is_inside: bool, forbid_scans: Callable[[], None]
) -> None:
    """The build of the moved archive scans nothing, whether the index is in it or elsewhere."""
    index = archive / ".mmindex" if is_inside else archive.parent / "kept.mmindex"
    first = mmindex.build(archive, index, workers=1)
    target = archive.parent / "elsewhere"
    move(archive, target)
    if is_inside:
        index = target / ".mmindex"
    forbid_scans()
    check_unscanned(mmindex.build(target, index, workers=1, moved_from=archive), first.found)
    assert frames_of(index) == FRAMES
    assert kinds_of(index) == {VersionKind.LOCAL}
    check_unscanned(mmindex.build(target, index, workers=1), first.found)
    with mmindex.open(index) as opened:
        assert opened.root == str(target)


def test_moved_from_takes_over_an_index_that_was_inside_and_is_elsewhere(
    archive: Path, forbid_scans: Callable[[], None]
) -> None:
    """Such an index does not know where its archive was."""
    first = mmindex.build(archive, workers=1)
    index = archive.parent / "fast" / "kept.mmindex"
    index.parent.mkdir()
    shutil.copy2(archive / ".mmindex", index)
    forbid_scans()
    check_unscanned(mmindex.build(archive, index, workers=1, moved_from=archive), first.found)
    assert frames_of(index) == FRAMES


def test_a_moved_archive_is_brought_up_to_date_in_the_same_build(archive: Path) -> None:
    """What changed after the copy is scanned, what is gone is dropped, all else is renewed."""
    first = mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    (target / "0.dcm").write_bytes(native("1.0", [b"other"]))
    (target / "2.dcm").unlink()
    (target / "new.dcm").write_bytes(native("1.9", [b"new1"]))
    (target / "b.zip").write_bytes(write_zip([("2.dcm", native("3.2", [b"zzzz"]))]))
    os.utime(target / "b.zip", (1, 1))
    report = mmindex.build(target, workers=1, moved_from=archive)
    # Scanned: 0.dcm and the link to it, new.dcm, the container and its file.
    assert (report.scanned, report.removed) == (5, 1)
    assert report.unchanged == first.found - 5
    with mmindex.open(target) as opened:
        opened.check_index()
        assert opened.frame("1.0", 0) == b"othe"
        assert opened.frame("1.9", 0) == b"new1"
        assert opened.frame("3.2", 0) == b"zzzz"
        assert opened.frame("3.0", 0) == b"m000"
        assert "1.2" not in opened


def test_a_file_of_the_same_size_and_time_is_the_limit_of_ignored_inodes(archive: Path) -> None:
    """The documented one: other bytes under the same size and time are not noticed until --full."""
    mmindex.build(archive, workers=1, ignore_inode=True)
    path = archive / "0.dcm"
    before = path.stat()
    path.unlink()
    path.write_bytes(native("1.0", [b"xxxx"]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert mmindex.build(archive, workers=1).scanned == 0
    assert mmindex.build(archive, workers=1, full=True).scanned > 0
    os.utime(path, (5, 5))
    with mmindex.open(archive) as opened, pytest.raises(StaleIndexError, match="the file changed"):
        opened.frame("1.0", 0)
    assert mmindex.build(archive, workers=1).scanned == 2  # the link, too


def test_ignored_inodes_are_turned_on_without_scans_and_off_by_scans(
    archive: Path, forbid_scans: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known by size and time alone has to be looked at before inodes count again."""
    first = mmindex.build(archive, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(scan_file_module, "scan_file", None)
        check_unscanned(mmindex.build(archive, workers=1, ignore_inode=True), first.found)
    assert kinds_of(archive) == {VersionKind.LOCAL_WITHOUT_INODE}
    assert frames_of(archive) == FRAMES
    report = mmindex.build(archive, workers=1, ignore_inode=False)
    assert (report.scanned, report.unchanged, report.removed) == (first.scanned, 0, 0)
    assert kinds_of(archive) == {VersionKind.LOCAL}
    forbid_scans()
    check_unscanned(mmindex.build(archive, workers=1), first.found)


def test_an_update_follows_what_the_index_keeps(archive: Path) -> None:
    """New files of an index without inodes have none; those of a container neither."""
    mmindex.build(archive, workers=1, ignore_inode=True)
    (archive / "new.dcm").write_bytes(native("1.9"))
    (archive / "d.tar").write_bytes(write_tar([("x.dcm", native("1.8"))]))
    report = mmindex.update(archive, [archive / "new.dcm", archive / "d.tar"])
    assert report.scanned == 3
    assert kinds_of(archive) == {VersionKind.LOCAL_WITHOUT_INODE}
    assert set(frames_of(archive)) == {*FRAMES, "1.8", "1.9"}


@pytest.mark.parametrize("stop_after", range(12))
def test_a_renewal_that_ends_early_goes_on_in_the_next_build(
    archive: Path, stop_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every record is renewed or not, its members before a container; none is lost or scanned."""
    from mmindex.update import commits

    first = mmindex.build(archive, workers=1)
    monkeypatch.setattr(commits, "_COMMIT_FILES", 1)
    calls = 0
    real = commits.Commits.renew

    def renew(self: commits.Commits, packed: bytes) -> None:
        nonlocal calls
        if calls == stop_after:
            raise KeyboardInterrupt
        calls += 1
        real(self, packed)

    with monkeypatch.context() as patch:
        patch.setattr(commits.Commits, "renew", renew)
        with pytest.raises(KeyboardInterrupt):
            mmindex.build(archive, workers=1, ignore_inode=True)
    assert frames_of(archive) == FRAMES
    updated = mmindex.update(archive, [archive / "a.tar"])
    assert (updated.scanned, updated.removed) == (0, 0)
    assert frames_of(archive) == FRAMES
    check_unscanned(mmindex.build(archive, workers=1), first.found)
    assert kinds_of(archive) == {VersionKind.LOCAL_WITHOUT_INODE}
    assert frames_of(archive) == FRAMES


def test_a_wrong_folder_is_refused_before_the_index_is_changed(archive: Path) -> None:
    """A folder without the archive's files takes nothing over, and the archive is served on."""
    index = archive.parent / "kept.mmindex"
    mmindex.build(archive, index, workers=1)
    wrong = archive.parent / "wrong"
    wrong.mkdir()
    for path in archive.glob("*.dcm"):
        shutil.copy(path, wrong)  # without times
    with pytest.raises(IndexWriteError, match=r"found 0 of .* that were looked for"):
        mmindex.build(wrong, index, workers=1, moved_from=archive)
    assert frames_of(index) == FRAMES
    with pytest.raises(IndexWriteError, match=r"not of .*/other: give --moved-from"):
        mmindex.build(wrong, index, workers=1, moved_from=archive.parent / "other")
    with pytest.raises(IndexWriteError, match=r"moved, build with --moved-from"):
        mmindex.build(wrong, index, workers=1)
    with pytest.raises(MissingFileError, match=r"there is no index of .* to take over"):
        mmindex.build(wrong, workers=1, moved_from=archive)
    assert not (wrong / ".mmindex").exists()
    assert frames_of(index) == FRAMES


def test_moved_from_can_be_given_again(archive: Path) -> None:
    """A script that gives the option every night goes on working."""
    index = archive.parent / "kept.mmindex"
    first = mmindex.build(archive, index, workers=1)
    target = archive.parent / "elsewhere"
    archive.rename(target)
    for _ in range(2):
        check_unscanned(mmindex.build(target, index, workers=1, moved_from=archive), first.found)


def test_an_archive_is_built_under_another_path_of_the_same_folder(archive: Path) -> None:
    """A link stands for its folder; a mount at another path is a move."""
    index = archive.parent / "kept.mmindex"
    first = mmindex.build(archive, index, workers=1)
    link = archive.parent / "link"
    link.symlink_to(archive)
    check_unscanned(mmindex.build(link, index, workers=1), first.found)
    assert frames_of(index, archive_root=link) == FRAMES


def test_merged_indexes_ignore_inodes_where_one_of_them_does(archive: Path) -> None:
    """The files of both are known by size and time from then on; none is scanned."""
    for name, ignores in (("deep", True), ("other", False)):
        folder = archive / name
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.dcm").write_bytes(native(f"5.{len(name)}"))
        mmindex.build(folder, workers=1, ignore_inode=ignores)
    out = archive.parent / "all.mmindex"
    mmindex.merge(out, [archive / "deep", archive / "other"], root=archive)
    report = mmindex.build(archive, out, workers=1)
    assert report.unchanged == 4  # deep.dcm, 1.dcm, 3.dcm, other.dcm
    assert kinds_of(out) == {VersionKind.LOCAL_WITHOUT_INODE}


def test_last_build_is_none_until_one_has_ended(archive: Path) -> None:
    """An interrupted first build has kept its option, and is no build that ended."""

    def interrupt(report: mmindex.BuildReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmindex.build(archive, workers=1, ignore_inode=True, progress=interrupt)
    with mmindex.open(archive) as opened:
        assert opened.last_build() is None
    mmindex.build(archive, workers=1)
    assert kinds_of(archive) == {VersionKind.LOCAL_WITHOUT_INODE}
    with mmindex.open(archive) as opened:
        note = opened.last_build()
        assert note is not None
        assert note.ignore_inode


ARGUMENTS = {  # of a command, beside its archive or instance
    "check": ("--fail-on", "stale,missing"),
    "frame": ("1",),
    "ranges": ("1",),
    "sheet": ("-o",),
}
ROOT_TESTED_ELSEWHERE = {"merge", "serve"}  # with the files of these commands


def find_commands(argument: str) -> list[tuple[str, ...]]:
    """Return the commands with this argument that take --root, with what else they need."""
    return [
        (name, *ARGUMENTS.get(name, ()))
        for name in COMMANDS
        if name not in ROOT_TESTED_ELSEWHERE
        and any(each.name == argument for each in find_parameters(name))
        and any("--root" in each.opts for each in find_parameters(name))
    ]


def find_parameters(name: str) -> list[click.Parameter]:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command.params


COMMANDS_OF_ARCHIVES = find_commands("root")
COMMANDS_OF_INSTANCES = find_commands("source")


def test_every_command_with_a_root_option_is_tried_on_a_moved_archive() -> None:
    """A new command whose archive is ROOT, or whose instance SOURCE, is tried below as it is."""
    takes_root = {
        name
        for name in COMMANDS
        if any("--root" in option.opts for option in find_parameters(name))
    }
    tried = {command[0] for command in (*COMMANDS_OF_ARCHIVES, *COMMANDS_OF_INSTANCES)}
    assert {"ls", "check", "verify", "stats", "export", "frame", "ranges", "info", "sheet"} <= tried
    assert takes_root == tried | ROOT_TESTED_ELSEWHERE


@pytest.mark.parametrize("command", COMMANDS_OF_ARCHIVES, ids=lambda command: command[0])
def test_root_leads_to_a_moved_archive(archive: Path, command: tuple[str, ...]) -> None:
    """Each command that reads an index takes --root, and says where no folder is."""
    index = archive.parent / "kept.mmindex"
    mmindex.build(archive, index, workers=1)
    before = run(command[0], index, *command[1:]).stdout
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    shutil.rmtree(archive)
    found = run(command[0], index, "--root", target, *command[1:]).stdout
    assert found == before or command[0] == "verify"
    wrong = run(command[0], index, "--root", archive, *command[1:], code=1)
    assert "there is no such folder" in wrong.stderr


@pytest.mark.parametrize("command", COMMANDS_OF_INSTANCES, ids=lambda command: command[0])
@pytest.mark.parametrize("uid", ["1.1", "3.0"])
def test_root_leads_to_an_instance_of_a_moved_archive(
    archive: Path, command: tuple[str, ...], uid: str
) -> None:
    """So do the commands that read one instance, of a file or of a container's member."""
    index = archive.parent / "kept.mmindex"
    mmindex.build(archive, index, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    shutil.rmtree(archive)
    options: list[object] = ["--instance", uid, *command[1:]]
    if command[0] == "sheet":
        options.append(archive.parent / "sheet.png")
    found = run(command[0], index, "--root", target, *options)
    if command[0] == "frame":
        assert found.stdout_bytes == FRAMES[uid]
    elif command[0] != "sheet":
        assert str(target) in found.stdout
    failed = run(command[0], index, *options, code=1)
    assert f"and so is the archive's folder {archive}: if it moved" in failed.stderr


def test_root_goes_with_an_archive(archive: Path) -> None:
    """A single file has no other root."""
    found = run("frame", archive / "0.dcm", 1, "--root", archive, code=2)
    assert "--root goes with an archive" in found.stderr


def test_a_check_of_a_copy_names_the_remedy(archive: Path) -> None:
    """A copied archive reads as stale, file by file, with what to do."""
    mmindex.build(archive, workers=1)
    target = archive.parent / "elsewhere"
    copy_with_cp(archive, target)
    lines = read_json_lines("check", target, code=1)
    stale = [line for line in lines if line["kind"] == "stale"]
    assert len(stale) == 10
    assert all("--moved-from" in str(line["detail"]) for line in stale)
    run("build", target, "--moved-from", archive)
    kinds = {line["kind"] for line in read_json_lines("check", target, code=1)}
    assert "stale" not in kinds


def test_the_command_keeps_ignored_inodes(archive: Path) -> None:
    """--ignore-inode holds until --no-ignore-inode."""
    run("build", archive, "--ignore-inode", "-j", 1)
    run("build", archive, "-j", 1)
    assert kinds_of(archive) == {VersionKind.LOCAL_WITHOUT_INODE}
    run("build", archive, "-j", 1, "--no-ignore-inode")
    assert kinds_of(archive) == {VersionKind.LOCAL}


def test_an_update_settles_accepted_problems_of_files_in_containers(archive: Path) -> None:
    """An accepted problem of a member is forgotten once an update finds it gone, or the member."""
    for name in ("x.zip", "y.tar"):
        writer = write_zip if name == "x.zip" else write_tar
        (archive / name).write_bytes(writer([("cut.dcm", native("6.1")[:-60])]))
    mmindex.build(archive, workers=1)
    with mmindex.open(archive) as opened:
        opened.accept(opened.problems())
    (archive / "x.zip").write_bytes(write_zip([("cut.dcm", native("6.2"))]))
    (archive / "y.tar").unlink()
    mmindex.update(archive, [archive / "x.zip", archive / "y.tar"])
    (archive / "x.zip").write_bytes(write_zip([("cut.dcm", native("6.1")[:-60])]))
    (archive / "y.tar").write_bytes(write_tar([("cut.dcm", native("6.1")[:-60])]))
    mmindex.update(archive, [archive / "x.zip", archive / "y.tar"])
    with mmindex.open(archive) as opened:
        found = {p.path: p.accepted for p in opened.problems(kinds=["unreadable"])}
    assert {path for path, accepted in found.items() if not accepted} == {
        "x.zip!/cut.dcm",
        "y.tar!/cut.dcm",
    }


def test_verbose_names_the_indexes_of_merge_and_compact(archive: Path) -> None:
    """With root and files, on standard error."""
    mmindex.build(archive, workers=1)
    out = archive.parent / "all.mmindex"
    for arguments in (("merge", out, archive), ("compact", archive)):
        lines = run(*arguments, "-v").stderr.splitlines()
        assert lines == [f"mmindex: {archive}/.mmindex: 15 files of {archive}"]


def test_a_check_sees_what_a_walk_does_not_meet(archive: Path) -> None:
    """Files below what the walk leaves out are looked at one by one, and none is new."""
    mmindex.build(archive, workers=1)
    (archive / "deep" / "er" / "1.dcm").unlink()
    os.utime(archive / "deep" / "er" / "3.dcm", (1, 1))
    (archive / "deep" / "new.dcm").write_bytes(b"new")
    with mmindex.open(archive) as opened:
        wanted = ("stale", "missing", "new")
        for exclude in ((), ("deep", "again")):
            found = {(p.path, p.kind) for p in opened.problems(kinds=wanted, exclude=exclude)}
            expected = {("deep/er/1.dcm", "missing"), ("deep/er/3.dcm", "stale")}
            assert found == expected | ({("deep/new.dcm", "new")} if not exclude else set())


def test_listings_have_the_values_of_the_records(archive: Path) -> None:
    """Of every file, of whatever status, in a container or not."""
    mmindex.build(archive, workers=1)
    with mmindex.open(archive) as opened:
        listed = {each.location: each for each in opened.listed()}
        records = list(opened.records())
        assert len(listed) == len(records) == opened.count().files
        for record in records:
            for name, value in listed[record.location]._asdict().items():
                assert value == getattr(record, name), (record.location, name)


def test_many_duplicates_are_found_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once, with all of its files, wherever a transaction ends."""
    monkeypatch.setattr("mmindex.index.reader._BATCH", 2)
    for number in range(11):
        for copy in range(1 + number % 3):
            (tmp_path / f"{number}-{copy}.dcm").write_bytes(native(f"1.{number}"))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as opened:
        found = {uid: len(records) for uid, records in opened.duplicates()}
        assert len(list(opened.duplicates())) == len(found)
    assert found == {f"1.{number}": 1 + number % 3 for number in range(11) if number % 3}
