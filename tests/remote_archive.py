"""An archive of objects on a web server that counts requests, and an index of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from dicom_bytes import (
    JPEG_2000,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)
from new_store import create_store

import mmindex
from mmindex.index.record import pack_record
from mmindex.sources.bucket import Bucket


def native_object(uid: str, frames: list[bytes], *, patient: str = "") -> bytes:
    """Return a file of native frames of 4 x 4 pixels of 8 bits."""
    data_set = element(0x00080018, "UI", uid)
    if patient:
        data_set += element(0x00100020, "LO", patient)
    data_set += element(0x0020000D, "UI", "1.2.9") + element(0x0020000E, "UI", "1.2.8")
    data_set += image_attributes(rows=4, columns=4, number_of_frames=len(frames))
    return dicom_file(data_set + element(PIXEL_DATA, "OW", b"".join(frames)))


def tiled_object(uid: str, frames: list[bytes]) -> bytes:
    """Return an encapsulated file with a Basic Offset Table."""
    bot, at = [], 0
    for frame in frames:
        bot.append(at)
        at += 8 + len(frame)
    data_set = element(0x00080018, "UI", uid) + element(0x0020000E, "UI", "1.2.8")
    data_set += image_attributes(number_of_frames=len(frames)) + encapsulate(frames, bot=bot)
    return dicom_file(data_set, JPEG_2000)


def index_objects(
    index: Path, root: str, paths: Iterable[str], *, store: Any = None, prove: bool = True
) -> Path:
    """Write an index of objects below a URL, scanned where they are."""
    records = []
    bucket = Bucket(root, store=store)
    for path in paths:
        with mmindex.open_file(bucket.open(path.encode()), prove=prove) as instance:
            records.append(instance.record._replace(path=os.fsencode(path)))
    with closing(create_store(str(index), root.encode())) as opened:
        opened.replace(map(pack_record, records))
    return index
