"""Whole slide images of few bytes, of every organization, and as broken as a test asks for."""

from __future__ import annotations

import struct

from dicom_bytes import dicom_file, element, image_attributes, item, sequence

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def make_tile(number: int, samples: int = 1) -> bytes:
    """Return a tile of 2 rows and 4 columns whose pixels say which tile it is."""
    return bytes([number] * (8 * samples))


def make_position(column: int, row: int, z: float, path: str) -> bytes:
    position = element(0x0040074A, "DS", str(z))
    position += element(0x0048021E, "SL", struct.pack("<i", column))
    position += element(0x0048021F, "SL", struct.pack("<i", row))
    optical = sequence(0x00480207, [item(element(0x00480106, "SH", path))])
    return item(optical + sequence(0x0048021A, [item(position)]))


def make_slide(
    uid: str,
    tiles: list[bytes],
    *,
    size: tuple[int, int] = (10, 5),
    flavor: str = "VOLUME",
    paths: tuple[str, ...] = ("1",),
    planes: int = 1,
    positions: list[bytes] | None = None,
    part: tuple[str, int] | None = None,
    samples: int = 1,
    origin: float | None = None,
    spacing: float | None = None,
    parts: int | None = None,
    organization: str | None = None,
    number_of_frames: int | None = None,
    tile: tuple[int, int] = (4, 2),
    signed: bool = False,
) -> bytes:
    """Return a whole slide image of 3 x 3 tiles of 4 x 2 pixels unless its size says otherwise."""
    data_set = element(0x00080008, "CS", f"ORIGINAL\\PRIMARY\\{flavor}\\NONE")
    data_set += element(0x00080016, "UI", WHOLE_SLIDE) + element(0x00080018, "UI", uid)
    data_set += element(0x0020000D, "UI", "1.2.3") + element(0x0020000E, "UI", "1.2.4")
    if part is not None:
        data_set += element(0x00209161, "UI", part[0])
        if parts is not None:
            data_set += element(0x00209163, "US", struct.pack("<H", parts))
        data_set += element(0x00209228, "UL", struct.pack("<I", part[1]))
    organization = organization or ("TILED_FULL" if positions is None else "TILED_SPARSE")
    data_set += element(0x00209311, "CS", organization)
    data_set += image_attributes(
        rows=tile[1],
        columns=tile[0],
        number_of_frames=len(tiles) if number_of_frames is None else number_of_frames,
        samples=samples,
        photometric="RGB" if samples == 3 else "MONOCHROME2",
    ).replace(
        element(0x00280103, "US", b"\0\0"), element(0x00280103, "US", struct.pack("<H", signed))
    )
    data_set += element(0x00480006, "UL", struct.pack("<I", size[0]))
    data_set += element(0x00480007, "UL", struct.pack("<I", size[1]))
    if origin is not None:
        data_set += sequence(0x00480008, [item(element(0x0040074A, "DS", str(origin)))])
    names = [item(element(0x00480106, "SH", name)) for name in paths]
    data_set += sequence(0x00480105, names)
    data_set += element(0x00480303, "UL", struct.pack("<I", planes))
    if spacing is not None:
        measures = item(element(0x00180088, "DS", str(spacing)))
        data_set += sequence(0x52009229, [item(sequence(0x00289110, [measures]))])
    if positions is not None:
        data_set += sequence(0x52009230, positions, undefined=True)
    return dicom_file(data_set + element(0x7FE00010, "OB", b"".join(tiles)))
