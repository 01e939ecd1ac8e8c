"""Cases: what each frame is, from Per-frame Functional Groups, beside a bare skip of the header."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dicom_bytes import EXPLICIT_VR_LITTLE_ENDIAN, PIXEL_DATA, element, image_attributes

import mmindex
from scripts.benchmark import limits
from scripts.benchmark.cases import Case, Site
from scripts.benchmark.elements import name_uid, pack_file_meta, pack_functional_groups
from scripts.benchmark.measure import Contender
from scripts.benchmark.model import MMINDEX, SKIP

BOUND = 3.0  # times the skip
_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def list_cases(count: int, site: Site) -> Iterator[Case]:
    """Yield a case of items of undefined length, and one of defined length."""
    expected = [index + 0.5 for index in range(count)]
    for kind, undefined in (("endless", True), ("measured", False)):
        path = site.folder / f"{kind}.dcm"
        write_items(path, count, undefined=undefined)
        yield Case(
            f"frame table of {count:,} {kind} items",
            [
                Contender(MMINDEX, partial(read_positions, path), expected=expected.copy),
                Contender("pydicom", partial(read_with_pydicom, path), expected=expected.copy),
                Contender(SKIP, partial(limits.skip_header, str(path))),
            ],
            limit=SKIP,
            bound=BOUND,
        )


def write_items(path: Path, count: int, *, undefined: bool) -> None:
    """Write a file of one-pixel frames, each with a position and an index."""
    uid = name_uid(9, 4)
    data_set = element(0x00080018, "UI", uid) + element(0x00200037, "DS", r"1\0\0\0\1\0")
    data_set += image_attributes(rows=1, columns=1, number_of_frames=count)
    data_set += pack_functional_groups(count, undefined=undefined)
    data_set += element(PIXEL_DATA, "OB", bytes(count + count % 2))
    path.write_bytes(pack_file_meta(EXPLICIT_VR_LITTLE_ENDIAN, _SEGMENTATION, uid) + data_set)


def read_positions(path: Path) -> list[float]:
    """Open the file and return the position of each frame."""
    with mmindex.open_file(path) as instance:
        positions: list[float] = instance.frame_table()["position"].tolist()
    return positions


def read_with_pydicom(path: Path) -> list[float]:
    """Do that from pydicom's sequences."""
    import pydicom

    data_set = pydicom.dcmread(path, stop_before_pixels=True)
    return [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in data_set.PerFrameFunctionalGroupsSequence
    ]
