"""Case: tiles of a whole slide image, one JPEG picture repeated.

wsidicom and OpenSlide read slides alone, so they have this case of their own. OpenSlide returns
decoded pixels only: it is measured against `array`, and so is wsidicom. Decoded pixels are compared
with pydicom's, from which those of another decoder may differ a little.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import mmindex
from scripts.benchmark.cases import Case, Setup, Site
from scripts.benchmark.elements import (
    name_uid,
    pack_encapsulated,
    pack_file_meta,
    pack_sequence,
)
from scripts.benchmark.measure import Bench, Call, Contender, attempt
from scripts.benchmark.model import MMINDEX, OTHER_PIXELS
from tests.dicom_bytes import JPEG_BASELINE, element, image_attributes

if TYPE_CHECKING:
    from wsidicom import WsiDicom

SLIDE_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 256
READS = 200
TOLERANCE = 2  # levels of 256; as much as decoders of JPEG differ by their rounding


def draw_tile() -> bytes:
    """Return a JPEG of random blocks."""
    from PIL import Image

    generator = random.Random(0)
    small = Image.frombytes("RGB", (16, 16), generator.randbytes(16 * 16 * 3))
    buffer = io.BytesIO()
    small.resize((TILE, TILE), Image.Resampling.NEAREST).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def number_tile(picture: bytes, number: int) -> bytes:
    """Return a JPEG with a comment of its own, so that no two tiles are the same bytes."""
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 10) + b"%010d" % number
    tile = picture[:2] + comment + picture[2:]
    return tile + bytes(len(tile) % 2)


def write_slide(path: Path, tiles_a_side: int) -> list[bytes]:
    """Write a TILED_FULL whole slide image of one level (PS3.3 A.32.8); return its tiles."""
    picture = draw_tile()
    tiles = [number_tile(picture, number) for number in range(tiles_a_side**2)]
    side = struct.pack("<I", tiles_a_side * TILE)
    uid = name_uid(9, 3)
    spacing = pack_sequence(
        0x00289110,
        element(0x00180050, "DS", "0.001") + element(0x00280030, "DS", r"0.0005\0.0005"),
    )
    frame_type = pack_sequence(
        0x00400710, element(0x00089007, "CS", r"ORIGINAL\PRIMARY\VOLUME\NONE")
    )
    illumination = pack_sequence(
        0x00220016,
        element(0x00080100, "SH", "111744")
        + element(0x00080102, "SH", "DCM")
        + element(0x00080104, "LO", "Brightfield illumination"),
    )
    origin = element(0x0040072A, "DS", "0") + element(0x0040073A, "DS", "0")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"".join(
            (
                pack_file_meta(JPEG_BASELINE, SLIDE_STORAGE, uid),
                element(0x00080008, "CS", r"ORIGINAL\PRIMARY\VOLUME\NONE"),
                element(0x00080016, "UI", SLIDE_STORAGE),
                element(0x00080018, "UI", uid),
                element(0x00080020, "DA", "20260102"),
                element(0x00080060, "CS", "SM"),
                element(0x00080070, "LO", "mmindex"),
                element(0x00100010, "PN", "Bench^Mark"),
                element(0x00100020, "LO", "1"),
                element(0x0020000D, "UI", name_uid(9, 1)),
                element(0x0020000E, "UI", name_uid(9, 2)),
                element(0x00200011, "IS", "1"),
                element(0x00200013, "IS", "1"),
                element(0x00200052, "UI", name_uid(9, 4)),
                element(0x00209311, "CS", "TILED_FULL"),
                image_attributes(
                    rows=TILE,
                    columns=TILE,
                    samples=3,
                    photometric="YBR_FULL_422",
                    number_of_frames=len(tiles),
                ),
                element(0x00282110, "CS", "01"),
                element(0x00480001, "FL", struct.pack("<f", tiles_a_side * TILE * 0.0005)),
                element(0x00480002, "FL", struct.pack("<f", tiles_a_side * TILE * 0.0005)),
                element(0x00480003, "FL", struct.pack("<f", 0.001)),
                element(0x00480006, "UL", side),
                element(0x00480007, "UL", side),
                pack_sequence(0x00480008, origin),
                element(0x00480010, "CS", "NO"),
                element(0x00480011, "CS", "NO"),
                element(0x00480012, "CS", "BRIGHTFIELD"),
                element(0x00480102, "DS", r"0\-1\0\-1\0\0"),
                pack_sequence(0x00480105, illumination + element(0x00480106, "SH", "0")),
                element(0x00480302, "UL", struct.pack("<I", 1)),
                element(0x00480303, "UL", struct.pack("<I", 1)),
                pack_sequence(0x52009229, spacing + frame_type),
                pack_encapsulated(tiles),
            )
        )
    )
    return tiles


def compare_pixels(answer: object, expected: object) -> str:
    """Return "" if decoded pixels are those expected within TOLERANCE, else what they are.

    Samples beyond those expected (an opaque picture's alpha) are left out.
    """
    import numpy as np

    wanted = np.asarray(expected).astype(np.int16)
    found = np.asarray(answer)[..., : wanted.shape[-1]].astype(np.int16)
    same = found.shape == wanted.shape and abs(found - wanted).max() <= TOLERANCE
    return "" if same else OTHER_PIXELS


def list_slide(bench: Bench) -> Iterator[Setup]:
    """Open a slide, and read tiles at random: as stored, and decoded."""
    tiles_a_side = 16 if bench.quick else 64
    yield f"{tiles_a_side**2:,} tiles", partial(_list_cases, tiles_a_side)


def _list_cases(tiles_a_side: int, site: Site) -> Iterator[Case]:
    path = site.folder / "files" / "slide.dcm"
    tiles = write_slide(path, tiles_a_side)
    generator = random.Random(1)
    places = [
        (generator.randrange(tiles_a_side), generator.randrange(tiles_a_side)) for _ in range(READS)
    ]
    slide = _Slide(path, tiles, tiles_a_side, places, site.stack)
    title = f"slide of {len(tiles):,} tiles"
    yield Case(
        f"{title}: open, first tile",
        [
            Contender(MMINDEX, slide.open_with_mmindex, places, slide.expected),
            Contender("wsidicom", slide.open_with_wsidicom, places, slide.expected),
        ],
    )
    yield Case(
        f"{title}: a random tile",
        [attempt(MMINDEX, slide.make_mmindex), attempt("wsidicom", slide.make_wsidicom)],
    )
    yield Case(
        f"{title}: a random tile, decoded",
        [
            attempt(MMINDEX, slide.make_array),
            attempt("wsidicom", slide.make_decoded),
            attempt("OpenSlide", slide.make_openslide),
        ],
    )


class _Slide:
    """One slide, and each contender's way to a tile of a column and a row."""

    def __init__(
        self,
        path: Path,
        tiles: list[bytes],
        tiles_a_side: int,
        places: list[tuple[int, int]],
        stack: ExitStack,
    ) -> None:
        self.path = str(path)
        self.tiles = tiles
        self.tiles_a_side = tiles_a_side
        self.places = places
        self.indices = [(row * tiles_a_side + column,) for column, row in places]
        self.stack = stack

    def expected(self, column: int, row: int) -> bytes:
        """Return a tile as it was written."""
        return self.tiles[row * self.tiles_a_side + column]

    def decode(self, frame_index: int) -> object:
        """Return a tile as pydicom decodes it."""
        from pydicom.pixels.utils import pixel_array

        return pixel_array(self.path, index=frame_index)

    def contend_decoded(
        self, name: str, call: Call, arguments: list[tuple[object, ...]]
    ) -> Contender:
        """Return the contender that decodes tiles, compared with pydicom's."""
        indices = dict(zip(arguments, self.indices, strict=True))
        return Contender(
            name,
            call,
            arguments,
            lambda *asked: self.decode(*indices[asked]),
            compare=compare_pixels,
        )

    def open_with_mmindex(self, column: int, row: int) -> bytes:
        """Scan on the fly, and read a tile."""
        with mmindex.open_file(self.path) as instance:
            return instance.frame(row * self.tiles_a_side + column)

    def open_with_wsidicom(self, column: int, row: int) -> bytes:
        """Open, and read a tile."""
        from wsidicom import WsiDicom

        with WsiDicom.open(self.path) as slide:
            tile: bytes = slide.read_encoded_tile(0, (column, row))
            return tile

    def make_mmindex(self) -> Contender:
        """Read tiles as stored."""
        instance = self.stack.enter_context(mmindex.open_file(self.path))
        return Contender(MMINDEX, instance.frame, self.indices, self.tiles.__getitem__)

    def make_wsidicom(self) -> Contender:
        """Read tiles as stored."""
        slide = self.open_without_cache()
        tiles = [(0, place) for place in self.places]
        return Contender(
            "wsidicom",
            slide.read_encoded_tile,
            tiles,
            lambda level, place: self.expected(*place),
        )

    def make_array(self) -> Contender:
        """Read decoded tiles."""
        instance = self.stack.enter_context(mmindex.open_file(self.path))
        return self.contend_decoded(MMINDEX, instance.array, [*self.indices])

    def open_without_cache(self) -> WsiDicom:
        """Open with wsidicom, which is not to keep what it read."""
        from wsidicom import WsiDicom
        from wsidicom.config import Settings

        settings = Settings(decoded_frame_cache_size=0, encoded_frame_cache_size=0)
        return self.stack.enter_context(WsiDicom.open(self.path, settings=settings))

    def make_decoded(self) -> Contender:
        """Read decoded tiles."""
        slide = self.open_without_cache()
        read = partial(slide.read_tile, as_array=True)
        return self.contend_decoded("wsidicom", read, [(0, place) for place in self.places])

    def make_openslide(self) -> Contender:
        """Read regions of a tile; it is not to keep what it decoded."""
        import openslide

        slide = self.stack.enter_context(openslide.OpenSlide(self.path))
        slide.set_cache(openslide.OpenSlideCache(0))
        corners = [((column * TILE, row * TILE), 0, (TILE, TILE)) for column, row in self.places]
        return self.contend_decoded("OpenSlide", slide.read_region, [*corners])
