"""mmindex: read any frame of a DICOM file without reading the others.

with mmindex.open_file("cine.dcm") as instance:     # one file, nothing written
    instance.frame(41)

mmindex.build("/data/archive")                      # an archive, once
with mmindex.open("/data/archive") as archive:
    archive.frame(sop_instance_uid, 41)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mmindex import errors
from mmindex.errors import MMIndexError

if TYPE_CHECKING:
    from mmindex.encaps import scan_value
    from mmindex.frame_table import ByteRange, FrameTable
    from mmindex.index.compact import compact_index as compact
    from mmindex.index.merge import MergeReport
    from mmindex.index.merge import merge_indexes as merge
    from mmindex.model import Anomaly, ImagePixel, InstanceRecord, Status
    from mmindex.read.archive import Archive
    from mmindex.read.archive import open_archive as open
    from mmindex.read.concatenation import Concatenation
    from mmindex.read.dataset import FrameDataset
    from mmindex.read.instance import Instance
    from mmindex.read.level import Level
    from mmindex.read.open_file import open_file
    from mmindex.read.open_slide import open_slide
    from mmindex.read.problems import Problem
    from mmindex.read.slide import Slide
    from mmindex.read.statistics import Statistics
    from mmindex.read.studies import Series, Study
    from mmindex.scan.instance import scan
    from mmindex.update.build import build
    from mmindex.update.report import BuildReport
    from mmindex.update.single_files import update

__version__ = "0.2.0"

__all__ = [
    "Anomaly",
    "Archive",
    "BuildReport",
    "ByteRange",
    "Concatenation",
    "FrameDataset",
    "FrameTable",
    "ImagePixel",
    "Instance",
    "InstanceRecord",
    "Level",
    "MMIndexError",
    "MergeReport",
    "Problem",
    "Series",
    "Slide",
    "Statistics",
    "Status",
    "Study",
    "build",
    "compact",
    "errors",
    "merge",
    "open",
    "open_file",
    "open_slide",
    "scan",
    "scan_value",
    "update",
]

_HOMES = {  # imported when first used: numpy alone takes longer than reading a thousand frames
    "Anomaly": "mmindex.model",
    "Archive": "mmindex.read.archive",
    "BuildReport": "mmindex.update.report",
    "ByteRange": "mmindex.frame_table",
    "Concatenation": "mmindex.read.concatenation",
    "FrameDataset": "mmindex.read.dataset",
    "FrameTable": "mmindex.frame_table",
    "ImagePixel": "mmindex.model",
    "Instance": "mmindex.read.instance",
    "InstanceRecord": "mmindex.model",
    "Level": "mmindex.read.level",
    "MergeReport": "mmindex.index.merge",
    "Problem": "mmindex.read.problems",
    "Series": "mmindex.read.studies",
    "Slide": "mmindex.read.slide",
    "Statistics": "mmindex.read.statistics",
    "Status": "mmindex.model",
    "Study": "mmindex.read.studies",
    "build": "mmindex.update.build",
    "compact": "mmindex.index.compact:compact_index",
    "merge": "mmindex.index.merge:merge_indexes",
    "open": "mmindex.read.archive:open_archive",
    "open_file": "mmindex.read.open_file",
    "open_slide": "mmindex.read.open_slide",
    "scan": "mmindex.scan.instance",
    "scan_value": "mmindex.encaps",
    "update": "mmindex.update.single_files",
}


for package in ("scan", "update"):  # once, so that a later import does not hide the function
    importlib.import_module(f"mmindex.{package}")
    del globals()[package]
del package


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mmindex' has no attribute {name!r}")
    module, _, attribute = home.partition(":")
    found: object = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
