"""Cases: tiles, regions and the thumbnail of a whole slide image, one JPEG picture repeated.

wsidicom and OpenSlide read slides alone, so they have these cases of their own. OpenSlide returns
decoded pixels only. Decoded pixels are compared with pydicom's, from which those of another decoder
may differ a little. Filters of thumbnails differ more: their sizes and mean colours are compared.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_bytes import JPEG_BASELINE
from slide_files import write_slide_file

import mmindex
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.measure import Call, Contender, compare_exactly, opened
from scripts.benchmark.model import MMINDEX, OTHER_PIXELS

if TYPE_CHECKING:
    from openslide import OpenSlide
    from wsidicom import WsiDicom

TILE = 256
READS = 200
REGION = 1024  # pixels wide and high
THUMBNAIL = 256
REGIONS = 20
TOLERANCE = 2  # levels of 256; as much as decoders of JPEG differ by their rounding


def write_slide(path: Path, tiles_a_side: int) -> list[bytes]:
    """Write a TILED_FULL whole slide image of one level (PS3.3 A.32.8); return its tiles.

    These are one JPEG of random blocks, with a comment of its own: no two are the same bytes.
    """
    from PIL import Image

    small = Image.frombytes("RGB", (16, 16), random.Random(0).randbytes(16 * 16 * 3))
    buffer = io.BytesIO()
    small.resize((TILE, TILE), Image.Resampling.NEAREST).save(buffer, "JPEG", quality=80)
    picture, tiles, side = buffer.getvalue(), [], tiles_a_side * TILE
    for number in range(tiles_a_side**2):
        comment = b"\xff\xfe" + struct.pack(">H", 2 + 10) + b"%010d" % number
        tile = picture[:2] + comment + picture[2:]
        tiles.append(tile + bytes(len(tile) % 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        write_slide_file(
            1, (side, side), tiles, tile=(TILE, TILE), transfer_syntax_uid=JPEG_BASELINE
        )
    )
    return tiles


def compare_pixels(answer: object, expected: object) -> str:
    """Return "" if decoded pixels are those expected within TOLERANCE, else what they are."""
    return _compare(answer, expected, lambda pixels: pixels)


def compare_thumbnails(answer: object, expected: object) -> str:
    """Return "" if a thumbnail has the size and the mean colour expected, else what it is."""
    return _compare(answer, expected, lambda pixels: pixels.mean(axis=(0, 1)))


def _compare(answer: object, expected: object, measure: Callable[[Any], Any]) -> str:
    """Compare shapes, and what is measured of the pixels.

    Samples beyond those expected (an opaque picture's alpha) are left out.
    """
    import numpy as np

    wanted = np.asarray(expected).astype(float)
    found = np.asarray(answer)[..., : wanted.shape[-1]].astype(float)
    same = found.shape == wanted.shape and abs(measure(found) - measure(wanted)).max() <= TOLERANCE
    return "" if same else OTHER_PIXELS


def list_slide(tiles_a_side: int, site: Site) -> Iterator[Case]:
    """Open a slide, and read tiles at random: as stored, and decoded."""
    written = site.folder / "files" / "slide.dcm"
    path, stack = str(written), site.stack
    slide = _Slide(path, write_slide(written, tiles_a_side), tiles_a_side)
    ours = lambda: stack.enter_context(mmindex.open_slide(path))  # noqa: E731
    wsidicom = partial(open_with_wsidicom, path, stack)
    openslide = partial(_open_with_openslide, path, stack)
    places = _pick(tiles_a_side, READS, seed=1)
    our_tiles = [(0, *place) for place in places]
    their_tiles = [(0, place) for place in places]
    squares = [((column * TILE, row * TILE), 0, (TILE, TILE)) for column, row in places]
    corners = _pick(tiles_a_side * TILE - REGION, REGIONS, seed=2)
    size = REGION, REGION
    by_corner = [(corner, 0, size) for corner in corners]
    width = THUMBNAIL, THUMBNAIL

    def case(
        title: str,
        expect: Call,
        asked: Sequence[tuple[int, ...]],
        readers: dict[str, tuple[Callable[[], Call], Sequence[tuple[Any, ...]]]],
        compare: Callable[[object, object], str] = compare_exactly,
    ) -> Case:
        """Return a case of several who read what was `asked`, each with arguments of its own."""

        def contend(name: str, open_it: Callable[[], Call], given: Sequence[Any]) -> Contender:
            asked_of = dict(zip(given, asked, strict=True))
            expected = lambda *arguments: expect(*asked_of[arguments])  # noqa: E731
            return opened(name, open_it, arguments=given, expected=expected, compare=compare)

        contenders = [contend(name, *how) for name, how in readers.items()]
        return Case(f"slide of {len(slide.tiles):,} tiles: {title}", contenders)

    yield case(
        "open, first tile",
        slide.expect_tile,
        places,
        {
            MMINDEX: (lambda: partial(_read_first, path), places),
            "wsidicom": (lambda: partial(_read_first_with_wsidicom, path), places),
        },
    )
    yield case(
        "a random tile",
        slide.expect_tile,
        places,
        {
            MMINDEX: (lambda: ours().tile, our_tiles),
            "wsidicom": (lambda: wsidicom().read_encoded_tile, their_tiles),
        },
    )
    yield case(
        "a random tile, decoded",
        slide.expect_pixels,
        places,
        {
            MMINDEX: (lambda: ours().tile_array, our_tiles),
            "wsidicom": (lambda: partial(wsidicom().read_tile, as_array=True), their_tiles),
            "OpenSlide": (lambda: openslide().read_region, squares),
        },
        compare_pixels,
    )
    yield case(
        f"a region of {REGION:,} x {REGION:,} pixels",
        slide.expect_region,
        corners,
        {
            MMINDEX: (lambda: ours().read_region, [(0, *corner, *size) for corner in corners]),
            "wsidicom": (lambda: partial(wsidicom().read_region, as_array=True), by_corner),
            "OpenSlide": (lambda: openslide().read_region, by_corner),
        },
        compare_pixels,
    )
    yield case(
        f"thumbnail of {THUMBNAIL} pixels",
        slide.expect_thumbnail,
        [()],
        {
            MMINDEX: (lambda: partial(ours().thumbnail, THUMBNAIL), [()]),
            "wsidicom": (lambda: partial(wsidicom().read_thumbnail, width), [()]),
            "OpenSlide": (lambda: partial(openslide().get_thumbnail, width), [()]),
        },
        compare_thumbnails,
    )


def _pick(most: int, count: int, seed: int) -> list[tuple[int, int]]:
    """Return places at random, each number of them below `most`."""
    generator = random.Random(seed)
    return [(generator.randrange(most), generator.randrange(most)) for _ in range(count)]


def open_with_wsidicom(path: str, stack: ExitStack, **options: Any) -> WsiDicom:
    """Open a slide with wsidicom, which is not to keep what it read."""
    from wsidicom import WsiDicom
    from wsidicom.config import Settings

    settings = Settings(decoded_frame_cache_size=0, encoded_frame_cache_size=0)
    return stack.enter_context(WsiDicom.open(path, settings=settings, **options))


def _open_with_openslide(path: str, stack: ExitStack) -> OpenSlide:
    """Open a slide with OpenSlide, which is not to keep what it decoded."""
    import openslide

    slide = stack.enter_context(openslide.OpenSlide(path))
    slide.set_cache(openslide.OpenSlideCache(0))
    return slide


def _read_first(path: str, column: int, row: int) -> bytes:
    """Scan on the fly, and read a tile."""
    with mmindex.open_slide(path) as slide:
        return slide.tile(0, column, row)


def _read_first_with_wsidicom(path: str, column: int, row: int) -> bytes:
    """Open, and read a tile."""
    from wsidicom import WsiDicom

    with WsiDicom.open(path) as slide:
        tile: bytes = slide.read_encoded_tile(0, (column, row))
        return tile


@dataclass(frozen=True, slots=True)
class _Slide:
    """What has to be read of a slide."""

    path: str
    tiles: list[bytes]
    tiles_a_side: int

    def expect_tile(self, column: int, row: int) -> bytes:
        """Return a tile as it was written."""
        return self.tiles[row * self.tiles_a_side + column]

    def expect_pixels(self, column: int, row: int) -> Any:
        """Return a tile as pydicom decodes it."""
        from pydicom.pixels.utils import pixel_array

        return pixel_array(self.path, index=row * self.tiles_a_side + column)

    def expect_region(self, x: int, y: int) -> object:
        """Return a region, of the one picture that all tiles have, as pydicom decodes it."""
        import numpy as np

        count = REGION // TILE + 1
        tiled = np.tile(self.expect_pixels(0, 0), (count, count, 1))
        return tiled[y % TILE :, x % TILE :][:REGION, :REGION]

    def expect_thumbnail(self) -> object:
        """Return the means of blocks, of the one picture that all tiles have."""
        import numpy as np

        step = self.tiles_a_side * TILE // THUMBNAIL
        blocks = self.expect_pixels(0, 0).reshape(TILE // step, step, TILE // step, step, 3)
        return np.tile(blocks.mean(axis=(1, 3)), (self.tiles_a_side, self.tiles_a_side, 1))
