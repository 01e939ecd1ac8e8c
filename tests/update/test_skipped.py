"""What could not be looked at is kept with its reason until a build or an update looks again."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

import mmindex
from mmindex import BuildReport
from mmindex.index.problem_notes import SkippedPath
from mmindex.index.store import Store


def skipped(root: Path) -> dict[str, str]:
    """Return reasons by path, as the index has them."""
    with closing(Store(str(root / ".mmindex"))) as store:
        store.check()
        notes = [each for each in store.iterate_problem_notes() if isinstance(each, SkippedPath)]
    return {os.fsdecode(note.path): note.reason for note in notes}


def update(path: Path) -> BuildReport:
    return mmindex.update(path.parent, [path])


def listed(root: Path) -> dict[str, str]:
    """Return reasons by path, as `check` lists them."""
    with mmindex.open(root) as archive:
        problems = list(archive.problems())
    assert len(problems) == len({problem.path for problem in problems})
    assert {problem.kind for problem in problems} <= {"unreadable"}
    return {problem.path: problem.detail for problem in problems}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An archive with links, a pipe and a socket, in two folders."""
    root = tmp_path / "root"
    for name in ("f", "f/g", "h"):
        (root / name).mkdir(parents=True)
        (root / name / "link").symlink_to("nowhere")
        (root / name / "file").write_bytes(b"")
    os.mkfifo(root / "h" / "pipe")
    return root


BROKEN = "cannot access it: No such file or directory"
NO_FILE = "neither a file nor a folder"


def test_a_build_keeps_what_it_could_not_look_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken links, pipes, sockets, links to folders that were walked; `check` lists them."""
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(root)  # names of sockets are short
        listener.bind("socket")
    (root / "again").symlink_to("f")
    expected = {"f/link": BROKEN, "f/g/link": BROKEN, "h/link": BROKEN, "h/pipe": NO_FILE}
    expected |= {"socket": NO_FILE, "again": "a link to a folder that was walked already"}
    mmindex.build(root, workers=1)
    assert skipped(root) == listed(root) == expected
    for name in ("f/link", "socket", "again"):
        (root / name).unlink()
    mmindex.build(root, workers=1)
    for name in ("f/link", "socket", "again"):
        del expected[name]
    assert skipped(root) == listed(root) == expected


@pytest.fixture
def long_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder whose path is longer than the system takes, made step by step."""
    monkeypatch.chdir(root)
    name = "n" * 200
    for _ in range(25):
        os.mkdir(name)
        os.chdir(name)
    Path("file").write_bytes(b"")
    monkeypatch.chdir(root)
    return name


def test_a_path_that_is_too_long_is_kept(root: Path, long_path: str) -> None:
    """A folder of it, with the reason; no file is lost without a word."""
    mmindex.build(root, workers=1)
    (path, reason) = next(each for each in skipped(root).items() if each[0].startswith("nn"))
    assert path.startswith(long_path)
    assert "File name too long" in reason
    assert listed(root)[path] == reason


def test_a_folder_without_permission_is_kept_with_what_is_known_below(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is readable again; root, who runs this too, reads every folder."""
    mmindex.build(root, workers=1)
    before = skipped(root)
    scan = os.scandir

    def refuse(folder: bytes) -> object:
        if os.fsencode(folder) == os.fsencode(root / "f"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    for look in (lambda: mmindex.build(root, workers=1), lambda: update(root / "f")):
        assert look().removed == 0
        found = before | {"f": "cannot read the folder: Permission denied"}
        assert skipped(root) == listed(root) == found
    with mmindex.open(root) as archive:
        assert archive.has_file("f/g/file")
    monkeypatch.setattr(os, "scandir", scan)
    update(root / "f")
    assert skipped(root) == before


def test_an_update_changes_what_it_looks_at_alone(root: Path) -> None:
    """A path, a folder with all below, a path that is gone; other notes stay."""
    mmindex.build(root, workers=1)
    (root / "f" / "link").unlink()
    (root / "h" / "link").unlink()
    mmindex.update(root, [root / "f" / "link"])
    assert skipped(root) == {"f/g/link": BROKEN, "h/link": BROKEN, "h/pipe": NO_FILE}
    (root / "f" / "other").symlink_to("nowhere")
    (root / "f" / "g" / "link").unlink()
    (root / "f" / "g" / "link").write_bytes(b"a file now")
    report = mmindex.update(root, [root / "f"])
    assert report.problems == [("f/other", BROKEN)]
    assert skipped(root) == {"f/other": BROKEN, "h/link": BROKEN, "h/pipe": NO_FILE}
    os.rename(root / "h", root.parent / "h")
    mmindex.update(root, [root / "h"])
    assert skipped(root) == {"f/other": BROKEN}
    os.rename(root.parent / "h", root / "h")
    report = mmindex.update(root, [root / "h" / "pipe"])
    assert skipped(root) == {"f/other": BROKEN, "h/pipe": NO_FILE}


def test_what_is_not_in_the_index_yet_is_listed_once(root: Path) -> None:
    """A link that broke since is unreadable, a new file new, an index neither."""
    mmindex.build(root, workers=1)
    (root / "broken").symlink_to("nowhere")
    (root / "new").write_bytes(b"")
    mmindex.build(root / "f", workers=1)
    with mmindex.open(root) as archive:
        found = {problem.path: problem.kind for problem in archive.problems()}
        assert {problem.path for problem in archive.problems(kinds=["new"])} == {"new"}
        assert list(archive.problems(kinds=["new"], exclude=["n*"])) == []
        with pytest.raises(ValueError, match="found odd"):
            archive.problems(kinds=["odd"])
    assert found == {
        **dict.fromkeys(["f/link", "f/g/link", "h/link", "h/pipe", "broken"], "unreadable"),
        "new": "new",
    }
