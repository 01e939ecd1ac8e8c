"""SOURCE on the command line -> a slide, and LEVEL,COLUMN,ROW -> the frame that is a tile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

import mmindex
from mmindex.cli.frame_numbers import Span
from mmindex.cli.printing import quote, shown
from mmindex.cli.source_argument import (
    Opened,
    is_index_url,
    is_piped,
    open_archive,
    open_source,
)
from mmindex.errors import FrameIndexError, naming
from mmindex.index.names import is_index
from mmindex.model import INDEX_NAME

if TYPE_CHECKING:
    from mmindex import Slide

_TILE = r"([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})"


class Tile(NamedTuple):
    """A tile as it was asked for; all three count from 0."""

    level: int
    column: int
    row: int


class TileType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """LEVEL,COLUMN,ROW."""

    name = "tile"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Tile:
        """Return the tile that a text names."""
        if isinstance(value, Tile):
            return value
        found = re.fullmatch(_TILE, str(value))
        if found is None:
            self.fail(f"expected LEVEL,COLUMN,ROW such as 0,12,7, found {value!r}", param, ctx)
        return Tile(*map(int, found.groups()))


def is_slide_folder(source: str) -> bool:
    """Return whether SOURCE is a folder that has no index: its files may be those of a slide."""
    return os.path.isdir(source) and not os.path.exists(os.path.join(source, INDEX_NAME))


@contextmanager
def open_slide_source(
    source: str,
    instance_uid: str | None,
    archive_root: str | None = None,
    *,
    force: bool = False,
) -> Iterator[Slide]:
    """Open the slide of a file, of the files of a folder, or of an instance's series.

    With `force`, a file may be one without preamble and File Meta Information, too.

    Raises
    ------
    click.UsageError
        SOURCE is an index, and --instance is missing; or it is, and --root is given.
    MMIndexError
        The slide cannot be found, read, or understood.
    """
    if instance_uid is not None:
        with open_archive(source, archive_root) as archive:
            series = archive.record(instance_uid).series_instance_uid
            with archive.slide(series) as slide:
                yield slide
        return
    if is_index(source) or is_index_url(source):
        raise click.UsageError(
            f"{shown(source)} is an index: say which slide with --instance UID, of any of its "
            f"instances (`mmindex ls {quote(source)}` lists them)"
        )
    if archive_root is not None:
        raise click.UsageError("--root goes with --instance, of an archive or an index")
    if is_piped(source) or (force and not os.path.isdir(source)):
        with open_source(source, None, force=force) as opened:
            yield mmindex.Slide([opened.instance])
        return
    with naming(source), mmindex.open_slide(source) as slide:
        yield slide


@contextmanager
def open_tile(
    source: str,
    instance_uid: str | None,
    archive_root: str | None,
    tile: Tile,
    *,
    force: bool = False,
) -> Iterator[tuple[Opened, Span]]:
    """Open the instance that has a tile; yield it with the number of the tile's frame.

    Raises
    ------
    FrameIndexError
        The slide has no such tile, or does not store the tile.
    click.UsageError, MMIndexError
        As `open_slide_source`.
    """
    with open_slide_source(source, instance_uid, archive_root, force=force) as slide:
        found = slide.locate(*tile)
        if found is None:
            raise FrameIndexError(
                f"the tile in column {tile.column} and row {tile.row} of level {tile.level} is "
                "not stored: it is background",
                path=source,
            )
        instance, frame_index = found
        number = frame_index + 1
        yield Opened(instance, instance.path or source, None), Span(number, number)
