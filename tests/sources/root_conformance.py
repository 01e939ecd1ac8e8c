"""What every root must hold: a class of tests that the tests of each root inherit.

A test module of a root has one class: `class TestMyRoot(RootConformance)` with `make` and `put`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mmindex.errors import MissingFileError, StaleIndexError
from mmindex.model import Fingerprint
from mmindex.sources.base import FoundFile, Root, WalkRules

FILES = {
    b"a": b"aaaa",
    b"deep/b": b"bbbbbb",
    b"deep/er/c d.dcm": b"c" * 100_000,
    "deep/\N{LATIN SMALL LETTER E WITH ACUTE}".encode(): b"e",
}


class RootConformance:
    """The tests; a class that inherits them says how its root is made and written."""

    def make(self, folder: Path) -> Root:
        """Return an empty root whose sources look for changes at every read."""
        raise NotImplementedError

    def put(self, root: Root, path: bytes, data: bytes) -> None:
        """Put a file at `path`, in place of the one that may be there."""
        raise NotImplementedError

    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        root = self.make(tmp_path)
        for path, data in FILES.items():
            self.put(root, path, data)
        return root

    def list_paths(
        self, root: Root, start: bytes = b"", rules: WalkRules | None = None
    ) -> set[bytes]:
        """Return the paths of a walk, which meets each once."""
        paths = [found.path for found in root.walk(start, rules)]
        assert len(paths) == len(set(paths))
        return set(paths)

    def test_what_is_walked_is_found_and_can_be_opened(self, root: Root) -> None:
        """Every file's path and version lead to its bytes."""
        read = {}
        for file in root.walk():
            assert isinstance(file, FoundFile)
            assert root.find(file.path) == file
            source = root.open(file.path, file.fingerprint)
            assert source.size == file.fingerprint.size
            assert source.version == file.fingerprint
            assert (source.name or "").startswith(root.name)
            read[file.path] = source.read(0, source.size)
        assert read == FILES

    def test_a_walk_of_a_folder_meets_what_is_below_it(self, root: Root) -> None:
        """Paths stay those relative to the root; a folder whose name begins alike is another."""
        self.put(root, b"deeper", b"a file")
        below = {path for path in FILES if path.startswith(b"deep/")}
        assert self.list_paths(root, b"deep") == below

    def test_indexes_are_left_out_with_the_files_beside_them(self, root: Root) -> None:
        """By their names, in every folder; a name that only begins alike is that of a file."""
        for name in (b".mmindex", b"deep/.mmindex", b".mmindex-lock", b"deep/.mmindex.new-12"):
            self.put(root, name, b"of an index")
        self.put(root, b".mmindex.dcm", b"a file")
        assert self.list_paths(root) == {*FILES, b".mmindex.dcm"}

    @pytest.mark.parametrize(
        ("exclude", "left"),
        [
            (("deep",), {b"a"}),
            (("deep/er",), set(FILES) - {b"deep/er/c d.dcm"}),
            (("er", "a"), set(FILES) - {b"deep/er/c d.dcm", b"a"}),
            (("*.dcm",), set(FILES) - {b"deep/er/c d.dcm"}),
            (("b", "e*"), set(FILES) - {b"deep/b", b"deep/er/c d.dcm"}),
            (("*",), set()),
        ],
    )
    def test_excluded_files_and_folders_are_left_out(
        self, root: Root, exclude: tuple[str, ...], left: set[bytes]
    ) -> None:
        """A glob with a slash is compared with the path, one without with each name of it."""
        assert self.list_paths(root, rules=WalkRules(exclude)) == left

    def test_another_file_than_the_version_says_is_stale(self, root: Root) -> None:
        """The version is compared when the file is opened, or when it is read."""
        version = root.open(b"deep/b").version
        assert version is not None
        self.put(root, b"deep/b", b"longer than before")
        with pytest.raises(StaleIndexError):
            root.open(b"deep/b", version).read(0, 4)
        changed = root.find(b"deep/b")
        assert changed is not None
        assert changed.fingerprint != version

    def test_a_file_that_changes_while_it_is_open_is_stale(self, root: Root) -> None:
        """Without a version the file is taken as it is, and watched from then on."""
        source = root.open(b"a")
        assert source.read(0, 4) == b"aaaa"
        self.put(root, b"a", b"other bytes")
        with pytest.raises(StaleIndexError):
            source.read(0, 4)

    @pytest.mark.parametrize(
        "path", [b"c", b"deep/c", b"a/c", b"dee", b"\xff", b"a\0", b"a\t", b"a/../a"]
    )
    def test_what_is_not_there_is_missing(self, root: Root, path: bytes) -> None:
        """Whether a version is expected or not; `find` returns None, and raises nothing."""
        assert root.find(path) is None
        with pytest.raises(MissingFileError):
            root.open(path).read(0, 1)
        with pytest.raises(MissingFileError):
            root.open(path, Fingerprint(4, 1, 2)).read(0, 1)

    def test_a_folder_is_no_file(self, root: Root) -> None:
        """A folder can be walked, not found."""
        assert root.find(b"deep") is None

    def test_what_is_there_is_had(self, root: Root) -> None:
        """A file is; what is not at a path is not."""
        assert root.has(b"deep/b")
        assert not root.has(b"deep/c")

    def test_a_root_is_empty_until_a_file_comes(self, tmp_path: Path) -> None:
        """An index in it does not count."""
        root = self.make(tmp_path)
        index = str(tmp_path / ".mmindex")
        assert root.is_empty(index)
        self.put(root, b".mmindex", b"an index")
        assert root.is_empty(index)
        self.put(root, b"a", b"aaaa")
        assert not root.is_empty(index)
