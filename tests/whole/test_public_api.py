"""Every public name, and all that can be had from it, says what it is."""

from __future__ import annotations

import enum
import inspect
import re
import shutil
from pathlib import Path
from types import FunctionType

import pydicom.data
import pytest
from pydicom.datadict import DicomDictionary

import mmindex

CLASSES = [name for name in mmindex.__all__ if inspect.isclass(getattr(mmindex, name))]
KEYWORDS = {entry[4].lower() for entry in DicomDictionary.values()}


def is_explained(cls: type, name: str) -> bool:
    """Return whether a class's docstring has an attribute, or it is named by a DICOM keyword."""
    stands_in_docstring = re.search(rf"\b{name}\b", cls.__doc__ or "") is not None
    return stands_in_docstring or name.replace("_", "") in KEYWORDS


def is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] in ("mmindex", __name__.split(".")[0])


def unexplained_members(cls: type) -> list[str]:
    """Return the public methods, properties and attributes of which nothing is said."""
    unexplained = []
    members = [each for base in cls.__mro__ if is_ours(base) for each in vars(base).items()]
    for name, member in members:
        if name.startswith("_") or isinstance(member, enum.Enum):  # the README has the statuses
            continue
        if isinstance(member, (FunctionType, classmethod, staticmethod, property)):
            explained = bool(member.__doc__)
        else:
            explained = is_explained(cls, name)
        if not explained:
            unexplained.append(name)
    return unexplained


@pytest.mark.parametrize("name", mmindex.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    """One of its own: a dataclass without one is given its signature."""
    documentation = getattr(mmindex, name).__doc__
    assert documentation
    assert not documentation.startswith(f"{name}(")


@pytest.mark.parametrize("name", mmindex.errors.__all__)
def test_every_error_has_a_docstring(name: str) -> None:
    """One of its own, not its base's."""
    assert vars(getattr(mmindex.errors, name)).get("__doc__")


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_member_is_explained(name: str) -> None:
    """Methods and properties have docstrings, attributes stand in that of their class."""
    assert unexplained_members(getattr(mmindex, name)) == []


def test_what_has_no_docstring_is_found() -> None:
    """The checks above can fail."""

    class Sample:
        """With `said` and with a DICOM keyword, but not with the other."""

        said = 1
        modality = "CT"
        unsaid = 2

        def method(self) -> None: ...

        @property
        def value(self) -> int:
            return 3

    assert unexplained_members(Sample) == ["unsaid", "method", "value"]


def test_every_attribute_of_an_open_object_is_explained(tmp_path: Path) -> None:
    """Those that are set when the object is made, too."""
    shutil.copy(str(pydicom.data.get_testdata_file("rtdose.dcm")), tmp_path)
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive, archive.file("rtdose.dcm") as instance:
        unexplained = [
            f"{type(found).__name__}.{name}"
            for found in (archive, instance, mmindex.FrameDataset(archive))
            for name in vars(found)
            if not name.startswith("_") and not is_explained(type(found), name)
        ]
    assert unexplained == []
