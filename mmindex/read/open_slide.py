"""The files of a folder, or the series of an archive -> a Slide."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mmindex.errors import NotDicomError, naming
from mmindex.index.instance_names import name_of
from mmindex.model import is_url
from mmindex.read.instance import Instance
from mmindex.read.open_file import open_scanned
from mmindex.read.selection import select_series
from mmindex.read.slide import Slide
from mmindex.scan.instance import scan_slide
from mmindex.sources.base import FoundFile
from mmindex.sources.stores import join_url

if TYPE_CHECKING:
    from mmindex.read.archive import Archive


def open_slide(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, store: object = None
) -> Slide:
    """Open a slide: a folder of its files, or the files.

    Parameters
    ----------
    source : path, URL, or iterable of these
        A folder (not the folders in it), one file, or several; a URL that ends in a slash is a
        folder of objects, which the store lists. Files of a folder that are not DICOM are left out.
    store : obstore store, optional
        As for `open_file`.

    Raises
    ------
    FormatError
        A file is broken, or no whole slide image is among them; images are of several series, and
        may be of several slides; two files are the same level; a concatenation has a gap; tiles lie
        off the grid.
    MissingFileError
        There is no such file.
    """
    if not isinstance(source, (str, os.PathLike)):
        return _open_files(source, store)
    if isinstance(source, str) and is_url(source) and source.endswith("/"):
        return _open_files(_list_objects(source, store), store, others=True)
    try:
        return _open_files([source], store)
    except NotDicomError:
        if not os.path.isdir(source):
            raise
    names = sorted(os.listdir(source))
    paths = [each for name in names if os.path.isfile(each := os.path.join(source, name))]
    return _open_files(paths, store, others=True)


def _open_files(
    paths: Iterable[str | os.PathLike[str]], store: object, *, others: bool = False
) -> Slide:
    """Return the slide of some files; where there may be others, those are DICOM files."""
    instances: list[Instance] = []
    slide = None
    try:
        for path in paths:
            try:
                instances.append(open_scanned(path, scan_slide, store=store))
            except NotDicomError:
                if not others:
                    raise
        slide = Slide(instances)
    finally:
        if slide is None:
            for instance in instances:
                instance.close()
    return slide


def _list_objects(url: str, store: object) -> list[str | os.PathLike[str]]:
    """Return the URLs of the objects of a folder, without those in folders below."""
    from mmindex.sources.bucket import Bucket

    bucket = Bucket(url, store=store)
    found = (each.path for each in bucket.walk() if isinstance(each, FoundFile))
    return [join_url(bucket.name, path) for path in sorted(found) if b"/" not in path]


def open_series(archive: Archive, series_instance_uid: str) -> Slide:
    """Return the slide of a series; see `Archive.slide`."""
    with naming(archive.path), ExitStack() as stack:
        names = map(name_of, select_series(archive, series_instance_uid))
        slide = Slide([stack.enter_context(archive[name]) for name in names])
        stack.pop_all()
    return slide
