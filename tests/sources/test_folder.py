"""Folder: an archive's files by their paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sources.root_conformance import RootConformance

from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.sources.base import Root, Skipped, WalkRules
from mmindex.sources.folder import Folder


class TestFolder(RootConformance):
    def make(self, folder: Path) -> Root:
        return Folder(os.fsencode(folder), revalidate_after=0)

    def put(self, root: Root, path: bytes, data: bytes) -> None:
        full_path = Path(root.name, os.fsdecode(path))
        full_path.parent.mkdir(parents=True, exist_ok=True)
        full_path.write_bytes(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(b"aaaa")
    (tmp_path / "deep" / "b").write_bytes(b"bbbb")
    (tmp_path / ".mmindex").write_bytes(b"an index")
    return tmp_path


def test_an_index_of_another_name_is_left_out(root: Path) -> None:
    """The walk is told which file is the index."""
    (root / "own").write_bytes(b"an index")
    walked = Folder(os.fsencode(root)).walk(index=os.fsencode(root / "own"))
    assert sorted(file.path for file in walked) == [b"a", b"deep/b"]


def test_something_at_a_path_need_be_no_file(root: Path) -> None:
    """Folders and links that lead nowhere are there, too."""
    (root / "link").symlink_to("nowhere")
    folder = Folder(os.fsencode(root))
    assert [folder.has(path) for path in (b"a", b"deep", b"link", b"b")] == [True] * 3 + [False]
    assert folder.find(b"link") is None


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
    assert source.version == version
    with pytest.raises(StaleIndexError):
        folder.open(b"a", version._replace(mtime_ns=version.mtime_ns + 1))


@pytest.mark.parametrize("exclude", [(), (".*",), (".",), ("?",), ("./",)])
@pytest.mark.parametrize("target", [".", "deep/..", "{root}"])
def test_a_link_to_the_root_leads_into_the_archive(
    root: Path, exclude: tuple[str, ...], target: str
) -> None:
    """No glob leaves the root out, whose path in the archive is no name."""
    (root / "deep" / "link").symlink_to("../" + target if target[0] != "{" else str(root))
    walked = Folder(os.fsencode(root)).walk(b"deep/link", WalkRules(exclude=exclude))
    assert [type(found) for found in walked] == [Skipped]
