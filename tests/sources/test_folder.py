"""Folder: an archive's files by their paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.sources.base import FoundFile
from mmindex.sources.folder import Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(b"aaaa")
    (tmp_path / "deep" / "b").write_bytes(b"bbbb")
    (tmp_path / ".mmindex").write_bytes(b"an index")
    return tmp_path


def test_what_is_walked_can_be_opened(root: Path) -> None:
    """Every file's path and version lead to its bytes; the index is no file of the archive."""
    folder = Folder(os.fsencode(root))
    found = {}
    for file in folder.walk():
        assert isinstance(file, FoundFile)
        source = folder.open(file.path, file.fingerprint)
        assert source.name == str(root / os.fsdecode(file.path))
        found[file.path] = source.read(0, source.size)
    assert found == {b"a": b"aaaa", b"deep/b": b"bbbb"}


def test_an_index_of_another_name_is_left_out(root: Path) -> None:
    """The walk is told which file is the index."""
    (root / "own").write_bytes(b"an index")
    walked = Folder(os.fsencode(root), os.fsencode(root / "own")).walk()
    assert sorted(file.path for file in walked) == [b"a", b"deep/b"]


def test_without_a_version_the_file_is_taken_as_it_is(root: Path) -> None:
    """From then on it is watched."""
    source = Folder(os.fsencode(root), revalidate_after=0).open(b"a")
    assert source.read(0, 4) == b"aaaa"
    (root / "a").write_bytes(b"longer")
    with pytest.raises(StaleIndexError):
        source.read(0, 4)


def test_another_file_than_the_version_says_is_stale(root: Path) -> None:
    """The version is compared when the file is opened."""
    folder = Folder(os.fsencode(root))
    version = folder.open(b"a").version
    with pytest.raises(StaleIndexError, match="expected 5 bytes"):
        folder.open(b"a", version._replace(size=5))
    with pytest.raises(StaleIndexError, match="inode"):
        folder.open(b"a", version._replace(inode=version.inode + 1))
    with pytest.raises(MissingFileError):
        folder.open(b"c", version)


def test_an_inode_may_be_another_where_that_is_wanted(root: Path) -> None:
    """An archive that was copied has the sizes and times of the old one, in other inodes."""
    folder = Folder(os.fsencode(root), ignore_inode=True)
    version = folder.open(b"a").version
    source = folder.open(b"a", version._replace(inode=version.inode + 1))
    assert source.read(0, 4) == b"aaaa"
    with pytest.raises(StaleIndexError):
        folder.open(b"a", version._replace(mtime_ns=version.mtime_ns + 1))
