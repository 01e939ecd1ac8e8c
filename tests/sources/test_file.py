"""FileSource: a file by its path or by its open descriptor."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_bytes import (
    four_bytes,
    written,
)
from sources.source_conformance import CONTENT, SourceConformance, open_source, replace_file

import mmindex
from mmindex.errors import (
    MissingFileError,
    StaleIndexError,
)
from mmindex.model import Fingerprint
from mmindex.sources.base import ByteSource
from mmindex.sources.file import FileSource, open_descriptor


class TestFileSource(SourceConformance):
    def make(self, folder: Path) -> ByteSource:
        (folder / "a").write_bytes(CONTENT)
        return open_source(folder / "a")

    def change(self, source: ByteSource, folder: Path) -> None:
        replace_file(folder / "a", CONTENT[::-1])

    def shorten(self, source: ByteSource, folder: Path) -> None:
        os.truncate(folder / "a", 1000)

    def remove(self, source: ByteSource, folder: Path) -> None:
        (folder / "a").unlink()


class TestOpenFile(SourceConformance):
    """Without a path only the open file is looked at: its name may go away."""

    def make(self, folder: Path) -> ByteSource:
        (folder / "a").write_bytes(CONTENT)
        return open_source(folder / "a", by_path=False)

    def change(self, source: ByteSource, folder: Path) -> None:
        status = (folder / "a").stat()
        (folder / "a").write_bytes(CONTENT[::-1])
        os.utime(folder / "a", ns=(0, status.st_mtime_ns + 1))

    def shorten(self, source: ByteSource, folder: Path) -> None:
        os.truncate(folder / "a", 1000)

    def test_the_name_may_go_away(self, source: ByteSource, tmp_path: Path) -> None:
        """What was opened is served."""
        (tmp_path / "a").unlink()
        assert source.read(5, 5) == CONTENT[5:10]
        source.check()


def test_a_missing_file_is_told_before_it_is_read(tmp_path: Path) -> None:
    """The descriptor is not opened, and the error says what the caller wants said."""
    with pytest.raises(MissingFileError, match="no such scan"):
        open_descriptor(str(tmp_path / "a"), "no such scan")


def test_closing_frees_the_number_once_no_read_is_under_way(tmp_path: Path) -> None:
    """A thread that reads while another closes never reads another file's bytes."""
    for name, byte in (("a", b"a"), ("b", b"b")):
        (tmp_path / name).write_bytes(byte * 5000)
    wrong: list[bytes] = []

    def read(source: FileSource) -> None:
        while True:
            try:
                data = source.read(0, 5000)
            except ValueError:
                return
            if data != b"a" * 5000:
                wrong.append(data)

    for _ in range(50):
        source = open_source(tmp_path / "a")
        thread = threading.Thread(target=read, args=(source,))
        thread.start()
        source.close()
        others = [open_source(tmp_path / "b") for _ in range(4)]
        thread.join()
        for other in others:
            other.close()
    assert not wrong


def test_closing_closes_the_descriptor(tmp_path: Path) -> None:
    """It is free for the system at once where nobody reads."""
    (tmp_path / "a").write_bytes(CONTENT)
    descriptor = open_descriptor(str(tmp_path / "a"))
    number = descriptor.number
    source = FileSource(descriptor, None, Fingerprint.of(os.stat(number)), 0.0, by_path=False)
    source.view(0, 5)
    del descriptor
    source.close()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


OPENINGS: dict[str, Callable[[mmindex.Archive], object]] = {
    "by path": lambda archive: archive.file("a.dcm").frame(0),
    "by UID": lambda archive: archive["1.2.3"].frame(0),
    "frame": lambda archive: archive.frame("1.2.3", 0),
    "frames": lambda archive: archive.frames([("1.2.3", 0)]),
    "array": lambda archive: archive.array("1.2.3", 0),
}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("read", OPENINGS.values(), ids=OPENINGS)
def test_a_file_that_is_another_one_when_it_is_opened_is_stale(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[mmindex.Archive], object],
    moved: bool,
) -> None:
    """What is compared is the file that was opened, not only the one that its path names."""
    folder = tmp_path / "archive"
    folder.mkdir()
    path = written(folder, four_bytes(b"AAAA"))
    other = written(tmp_path, four_bytes(b"BBBB"), "b.dcm")
    mmindex.build(folder, tmp_path / "index", workers=1)
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))

    real_open = os.open

    def open_other(asked: str | bytes, *flags: int) -> int:
        return real_open(other if os.fsdecode(asked) == str(path) else asked, *flags)

    monkeypatch.setattr(os, "open", open_other)
    root = folder if moved else None
    with (
        mmindex.open(tmp_path / "index", archive_root=root) as archive,
        pytest.raises(StaleIndexError, match="another one"),
    ):
        read(archive)
