"""The walk of an archive: every file once, and what could not be looked at."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmindex.model import Fingerprint
from mmindex.sources.base import FoundFile, Skipped
from mmindex.sources.folder import walk_archive


def walk(root: Path, index: Path | None = None) -> tuple[list[bytes], list[Skipped]]:
    """Return the sorted paths of the files found, and what was skipped."""
    index = index or root / ".mmindex"
    found = list(walk_archive(os.fsencode(root), os.fsencode(index)))
    files = sorted(file.path for file in found if isinstance(file, FoundFile))
    return files, [skipped for skipped in found if isinstance(skipped, Skipped)]


def write(*path: str | Path, content: bytes = b"") -> Path:
    file = Path(*path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


class WrappedEntry:
    """A directory entry that cannot be looked at."""

    def __init__(self, entry: os.DirEntry[bytes], error: OSError) -> None:
        self.path = entry.path
        self.name = entry.name
        self.is_dir = entry.is_dir
        self._error = error

    def stat(self) -> os.stat_result:
        raise self._error


class WrappedFolder:
    """What os.scandir returns, with entries named in `broken` that cannot be looked at."""

    def __init__(self, entries: Iterator[os.DirEntry[bytes]], broken: dict[bytes, OSError]) -> None:
        self._entries = entries
        self._broken = broken

    def __enter__(self) -> WrappedFolder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._entries.close()

    def __iter__(self) -> WrappedFolder:
        return self

    def __next__(self) -> object:
        entry = next(self._entries)
        error = self._broken.get(entry.name)
        return entry if error is None else WrappedEntry(entry, error)


def test_every_file_is_found_once_with_its_fingerprint(tmp_path: Path) -> None:
    """Files of all folders are there, with size, time and inode; folders are not."""
    file = write(tmp_path, "a", content=b"12345")
    write(tmp_path, "ward", "b.dcm")
    write(tmp_path, "ward", "deep", "er", ".hidden")
    (tmp_path / "empty").mkdir()
    assert walk(tmp_path) == ([b"a", b"ward/b.dcm", b"ward/deep/er/.hidden"], [])
    status = file.stat()
    expected = Fingerprint(5, status.st_mtime_ns, status.st_ino)
    found = walk_archive(os.fsencode(tmp_path), b"")
    assert FoundFile(b"a", expected) in list(found)


@pytest.mark.parametrize("place", [".mmindex", "ward/index", "../index"])
def test_the_files_of_the_index_are_left_out(tmp_path: Path, place: str) -> None:
    """Neither the index nor its lock nor one that is being made is a file of the archive."""
    root = tmp_path / "archive"
    index = Path(os.path.normpath(root / place))
    write(root, "a.dcm")
    for suffix in ("", "-lock", "-writing", ".new-123", ".new-123-lock"):
        write(f"{index}{suffix}")
    write(f"{index}-other")
    files, skipped = walk(root, index)
    inside = [] if place.startswith("..") else [os.fsencode(f"{place}-other")]
    assert files == sorted([b"a.dcm", *inside])
    assert skipped == []


def test_the_index_is_left_out_behind_a_link_to_the_root(tmp_path: Path) -> None:
    """The root may be named by a link, and the index by its real path."""
    write(tmp_path, "real", "a.dcm")
    index = write(tmp_path, "real", "index")
    write(tmp_path, "real", "index-lock")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert walk(tmp_path / "link", index)[0] == [b"a.dcm"]


def test_root_itself_may_be_a_link(tmp_path: Path) -> None:
    """Paths are relative to the root as it was given."""
    write(tmp_path, "real", "ward", "a.dcm")
    (tmp_path / "link").symlink_to("real")
    assert walk(tmp_path / "link") == ([b"ward/a.dcm"], [])


def test_linked_folder_is_walked_once(tmp_path: Path) -> None:
    """Of a folder and two links to it, one is walked and the others are told."""
    write(tmp_path, "archive", "real", "a.dcm")
    for name in ("b-link", "z-link"):
        (tmp_path / "archive" / name).symlink_to("real")
    files, skipped = walk(tmp_path / "archive")
    assert [file.rpartition(b"/")[2] for file in files] == [b"a.dcm"]
    walked = [files[0].partition(b"/")[0], *(link.path for link in skipped)]
    assert sorted(walked) == [b"b-link", b"real", b"z-link"]
    assert {(link.reason, link.may_hide) for link in skipped} == {
        ("a link to a folder that was walked already", False)
    }


def test_links_lead_out_of_the_archive(tmp_path: Path) -> None:
    """A link to a folder or a file elsewhere is followed, under the link's path."""
    write(tmp_path, "elsewhere", "a.dcm")
    write(tmp_path, "b.dcm", content=b"12")
    root = tmp_path / "archive"
    root.mkdir()
    (root / "ward").symlink_to("../elsewhere")
    (root / "file").symlink_to("../b.dcm")
    assert walk(root) == ([b"file", b"ward/a.dcm"], [])
    (file,) = (found for found in walk_archive(os.fsencode(root), b"") if found.path == b"file")
    assert isinstance(file, FoundFile)
    assert file.fingerprint.size == 2


def test_link_loops_end(tmp_path: Path) -> None:
    """Links to the root, to a parent, to each other and to themselves are walked no further."""
    write(tmp_path, "ward", "a.dcm")
    (tmp_path / "ward" / "root").symlink_to(tmp_path)
    (tmp_path / "ward" / "parent").symlink_to("..")
    (tmp_path / "ward" / "here").symlink_to(".")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "dangling").symlink_to("nowhere")
    files, skipped = walk(tmp_path)
    assert [file.rpartition(b"/")[2] for file in files] == [b"a.dcm"]
    reasons = {link.path: link.reason for link in skipped if b"/" not in link.path}
    assert {*reasons} >= {b"self", b"one", b"two", b"dangling"}
    assert reasons[b"dangling"] == "cannot access it: No such file or directory"
    assert len(skipped) == 7


def test_what_is_no_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIFOs and sockets are not opened, and links to devices are not followed into them."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.symlink("/dev/zero", "device")
    assert walk(tmp_path) == (
        [],
        [
            Skipped(path, "neither a file nor a folder", False)
            for path in os.listdir(os.fsencode(tmp_path))
        ],
    )


@pytest.mark.parametrize("folder", ["", "ward", "ward/deep"])
def test_unreadable_folder_is_told_and_the_walk_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """A folder that cannot be listed costs only itself."""
    for name in ("a", "ward/b", "ward/deep/c"):
        write(tmp_path, name)
    closed = os.fsencode(tmp_path / folder)
    scandir = os.scandir

    def refuse(path: bytes) -> Iterator[os.DirEntry[bytes]]:
        if path == closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files, skipped = walk(tmp_path)
    reason = "cannot read the folder: Permission denied"
    assert skipped == [Skipped(os.fsencode(folder), reason, True)]
    assert files == {"": [], "ward": [b"a"], "ward/deep": [b"a", b"ward/b"]}[folder]


def test_folder_that_fails_while_it_is_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the disk halfway through a folder does not end the walk."""
    write(tmp_path, "a")
    write(tmp_path, "ward", "b")
    scandir = os.scandir

    class Failing(WrappedFolder):
        def __next__(self) -> object:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(
        os,
        "scandir",
        lambda path: Failing(scandir(path), {}) if path.endswith(b"ward") else scandir(path),
    )
    files, skipped = walk(tmp_path)
    assert files == [b"a"]
    assert skipped == [Skipped(b"ward", "cannot read the folder: Input/output error", True)]


def test_file_that_vanishes_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is removed between listing and looking is no problem; a broken link is one."""
    for name in ("a", "gone", "z"):
        write(tmp_path, name)
    scandir = os.scandir
    error = FileNotFoundError(errno.ENOENT, "No such file or directory")
    monkeypatch.setattr(os, "scandir", lambda path: WrappedFolder(scandir(path), {b"gone": error}))
    assert walk(tmp_path) == ([b"a", b"z"], [])
    os.unlink(tmp_path / "gone")
    os.symlink("nowhere", tmp_path / "gone")
    reason = "cannot access it: No such file or directory"
    assert walk(tmp_path) == ([b"a", b"z"], [Skipped(b"gone", reason, False)])


def test_folder_that_vanishes_is_not_there(tmp_path: Path) -> None:
    """A folder that is removed before the walk gets there is no problem."""
    for name in ("b", "c"):
        write(tmp_path, name, "file")
    walked = walk_archive(os.fsencode(tmp_path), b"")
    first = next(walked)
    other = "b" if first.path.startswith(b"c") else "c"
    (tmp_path / other / "file").unlink()
    (tmp_path / other).rmdir()
    assert list(walked) == []


def test_names_need_not_be_text(tmp_path: Path) -> None:
    """Paths are bytes; a name that is no UTF-8, or holds a line break, is one like any other."""
    names = [b"\xff\xfe", b"a\nb", b"w\xe4rd", "患者".encode(), b" ", b"..."]
    try:
        for name in names:
            os.mkdir(os.path.join(os.fsencode(tmp_path), name))
            Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name, name))).touch()
    except OSError:
        pytest.skip("the file system takes only UTF-8")
    assert walk(tmp_path) == (sorted(name + b"/" + name for name in names), [])


def test_deep_paths_are_walked(tmp_path: Path) -> None:
    """A path longer than an LMDB key is found whole."""
    parts = ["d" * 100] * 12
    write(tmp_path, *parts, "a.dcm")
    assert walk(tmp_path) == (["/".join([*parts, "a.dcm"]).encode()], [])


def test_indexes_of_other_places_are_left_out(tmp_path: Path) -> None:
    """A folder within, or the root, may have an index of its own beside the one that is built."""
    for name in (".mmindex", ".mmindex-lock", "ward/.mmindex", "ward/.mmindex-writing"):
        write(tmp_path, name)
    write(tmp_path, "ward", ".mmindexes")
    write(tmp_path, "ward", "a.dcm")
    files, skipped = walk(tmp_path, tmp_path / "elsewhere")
    assert sorted(files) == [b"ward/.mmindexes", b"ward/a.dcm"]
    assert skipped == []
