"""The files that the tests of the command line are run on: what pydicom carries, and a video."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

CINE = "examples_ybr_color.dcm"
NAMES = (CINE, "examples_rgb_color.dcm", "examples_overlay.dcm", "rtdose.dcm", "rtplan.dcm")
VIDEO = [b"\0\0\1\xb3 first", b"second", b"a third one!"]


def testdata(name: str) -> Path:
    """Return where pydicom has a file of its own."""
    return Path(get_testdata_file(name, download=False))


testdata.__test__ = False


def uid_of(path: Path) -> str:
    """Return the SOP Instance UID that pydicom reads."""
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
