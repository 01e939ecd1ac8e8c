"""OneFile: a DICOM file that is served without an index, scanned again when it changed."""

from __future__ import annotations

import os

import mmindex
from mmindex import Instance
from mmindex.errors import MissingFileError, NotDicomError, StaleIndexError
from mmindex.model import SEPARATOR, Fingerprint, is_url


class OneFile:
    """A file, a member of a container, or an object at a URL.

    Parameters
    ----------
    path : str
        Its absolute path or URL.

    Raises
    ------
    MissingFileError, NotDicomError, FormatError, RemoteReadError
        It cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._instance = mmindex.open_file(path)

    def get(self) -> Instance:
        """Return the file as it is now, open; raises what `OneFile` raises."""
        if not self._is_same():
            self._instance = mmindex.open_file(self._path)
        return self._instance

    def _is_same(self) -> bool:
        instance = self._instance
        if is_url(self._path):
            try:
                instance.source.check_if_due()
            except (StaleIndexError, MissingFileError):
                return False
            return True
        try:
            found = Fingerprint.of(os.stat(instance.file_path or self._path))
        except OSError:
            return False
        return found == instance.record.fingerprint


def is_dicom_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is that of a file with the DICOM prefix (PS3.10 7.1)."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_member(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is like that of a file in a container, and of no file of its own."""
    return SEPARATOR in os.fspath(path) and not os.path.exists(path)


def open_object(url: str) -> OneFile:
    """Return the DICOM file at a URL that has no index below it.

    Raises
    ------
    MissingFileError
        There is none.
    RemoteReadError, FormatError
        It cannot be read.
    """
    try:
        return OneFile(url)
    except (MissingFileError, NotDicomError):
        raise MissingFileError(
            "expected a DICOM file, or an archive with a .mmindex below it: "
            "`mmindex build URL --index FILE.mmindex` makes an index, which can be served",
            path=url,
        ) from None
