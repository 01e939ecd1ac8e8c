"""Writes whole slide images that other readers of slides accept (PS3.3 A.32.8), byte by byte.

Pixels that are drawn here are RGB, made from their place on the slide, so that every reader must
return the same ones. Nothing here uses mmindex or pydicom.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from dicom_bytes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    element,
    encapsulate_frames,
    image_attributes,
    item,
    sequence,
)

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE = 32
SERIES = "1.2.3.4.2"
_SPACING = 0.0005  # mm of a pixel of the first level


def draw(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return a picture whose pixels all differ from their neighbours: (height, width, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3 + seed, y * 5 + seed * 7, (x + y) * 2 + seed * 11], -1).astype(np.uint8)


def cut(picture: np.ndarray) -> list[tuple[int, int, bytes]]:
    """Return column, row and bytes of each tile; those at the edges are filled with 90."""
    height, width, _ = picture.shape
    tiles = []
    for row in range(-(-height // TILE)):
        for column in range(-(-width // TILE)):
            tile = np.full((TILE, TILE, 3), 90, np.uint8)
            part = picture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            tiles.append((column, row, tile.tobytes()))
    return tiles


def _one(tag: int, *elements: bytes) -> bytes:
    return sequence(tag, [item(b"".join(elements))])


def _code(value: str, meaning: str) -> bytes:
    codes = element(0x00080100, "SH", value) + element(0x00080102, "SH", "DCM")
    return codes + element(0x00080104, "LO", meaning)


def write_slide_file(
    number: int,
    size: tuple[int, int],
    tiles: Sequence[bytes],
    *,
    flavor: str = "VOLUME",
    places: Sequence[tuple[int, int, float, str]] | None = None,
    downsample: float = 1,
    planes: int = 1,
    z: float | None = None,
    paths: Sequence[str] = ("0",),
    tile: tuple[int, int] = (TILE, TILE),
    transfer_syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
) -> bytes:
    """Return the file of one level, label or overview.

    Parameters
    ----------
    number : int
        Makes the SOP Instance UID.
    places : sequence of (column, row, height in micrometers, optical path), optional
        Where each frame of a TILED_SPARSE slide is; TILED_FULL without.
    z : float, optional
        Height of the first focal plane, in micrometers; further ones are 1.5 apart.
    transfer_syntax_uid : str
        Of tiles that are JPEG, as most slides have them: YBR_FULL_422 with an offset table.
    """
    uid = f"1.2.3.4.3.{number}"
    resampled = "NONE" if downsample == 1 and flavor == "VOLUME" else "RESAMPLED"
    image_type = rf"ORIGINAL\PRIMARY\{flavor}\{resampled}"
    spacing = _SPACING * downsample
    origin = element(0x0040072A, "DS", "0") + element(0x0040073A, "DS", "0")
    if z is not None:
        origin += element(0x0040074A, "DS", str(z))
    measures = element(0x00180050, "DS", "0.001")
    if planes > 1:
        measures += element(0x00180088, "DS", "0.0015")
    measures += element(0x00280030, "DS", rf"{spacing}\{spacing}")
    shared = _one(0x00289110, measures) + _one(0x00400710, element(0x00089007, "CS", image_type))
    optical = [
        item(
            _one(0x00220016, _code("111744", "Brightfield illumination"))
            + element(0x00480106, "SH", name)
        )
        for name in paths
    ]
    dimensions = b""
    per_frame = b""
    if places is not None:
        dimensions = sequence(0x00209221, [item(element(0x00209164, "UI", "1.2.3.4.5"))])
        pointers = [
            item(
                element(0x00209164, "UI", "1.2.3.4.5")
                + element(0x00209165, "AT", struct.pack("<2H", 0x0048, low))
                + element(0x00209167, "AT", struct.pack("<2H", 0x0048, 0x021A))
            )
            for low in (0x021F, 0x021E)
        ]
        dimensions += sequence(0x00209222, pointers)
        items = []
        for column, row, height, name in places:
            index = struct.pack("<2I", row + 1, column + 1)
            position = element(0x0040072A, "DS", f"{column * TILE * spacing:.6f}")
            position += element(0x0040073A, "DS", f"{row * TILE * spacing:.6f}")
            position += element(0x0040074A, "DS", str(height))
            position += element(0x0048021E, "SL", struct.pack("<i", column * TILE + 1))
            position += element(0x0048021F, "SL", struct.pack("<i", row * TILE + 1))
            groups = _one(0x00209111, element(0x00209157, "UL", index))
            groups += _one(0x00480207, element(0x00480106, "SH", name))
            items.append(item(groups + _one(0x0048021A, position)))
        per_frame = sequence(0x52009230, items)
    organization = "TILED_FULL" if places is None else "TILED_SPARSE"
    width, height = size
    meta = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", WHOLE_SLIDE)
    meta += element(0x00020003, "UI", uid) + element(0x00020010, "UI", transfer_syntax_uid)
    meta += element(0x00020012, "UI", "1.2.3.4.9")
    meta = element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    is_native = transfer_syntax_uid == EXPLICIT_VR_LITTLE_ENDIAN
    pixels = image_attributes(
        rows=tile[1],
        columns=tile[0],
        samples=3,
        photometric="RGB" if is_native else "YBR_FULL_422",
        number_of_frames=len(tiles),
    )
    return b"".join(
        (
            bytes(128) + b"DICM" + meta,
            element(0x00080008, "CS", image_type),
            element(0x00080016, "UI", WHOLE_SLIDE),
            element(0x00080018, "UI", uid),
            element(0x00080020, "DA", "20260102"),
            element(0x00080023, "DA", "20260102"),
            element(0x0008002A, "DT", "20260102101010"),
            element(0x00080030, "TM", "101010"),
            element(0x00080033, "TM", "101010"),
            element(0x00080050, "SH", "1"),
            element(0x00080060, "CS", "SM"),
            element(0x00080070, "LO", "Test"),
            element(0x00080090, "PN"),
            element(0x00081090, "LO", "Test"),
            element(0x00100010, "PN", "Slide^Test"),
            element(0x00100020, "LO", "1"),
            element(0x00100030, "DA"),
            element(0x00100040, "CS"),
            element(0x00181000, "LO", "1"),
            element(0x00181020, "LO", "1"),
            element(0x0020000D, "UI", "1.2.3.4.1"),
            element(0x0020000E, "UI", SERIES),
            element(0x00200010, "SH", "1"),
            element(0x00200011, "IS", "1"),
            element(0x00200013, "IS", str(number)),
            element(0x00200052, "UI", "1.2.3.4.4"),
            element(0x00201040, "LO", "SLIDE_CORNER"),
            dimensions,
            element(0x00209311, "CS", organization),
            pixels,
            element(0x00280301, "CS", "NO"),
            element(0x00282110, "CS", "00" if is_native else "01"),
            element(0x00400512, "LO", "1"),
            element(0x00480001, "FL", struct.pack("<f", width * spacing)),
            element(0x00480002, "FL", struct.pack("<f", height * spacing)),
            element(0x00480003, "FL", struct.pack("<f", 0.001 * planes)),
            element(0x00480006, "UL", struct.pack("<I", width)),
            element(0x00480007, "UL", struct.pack("<I", height)),
            sequence(0x00480008, [item(origin)]),
            element(0x00480010, "CS", "YES" if flavor == "LABEL" else "NO"),
            element(0x00480011, "CS", "NO"),
            element(0x00480012, "CS", "BRIGHTFIELD"),
            element(0x00480102, "DS", r"0\-1\0\-1\0\0"),
            sequence(0x00480105, optical),
            element(0x00480302, "UL", struct.pack("<I", len(paths))),
            element(0x00480303, "UL", struct.pack("<I", planes)),
            sequence(0x52009229, [item(shared)]),
            per_frame,
            element(PIXEL_DATA, "OB", b"".join(tiles)) if is_native else encapsulate_frames(tiles),
        )
    )
