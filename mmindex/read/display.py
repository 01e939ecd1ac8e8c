"""Display parameters from a header: rescale, windows, tables (PS3.3 C.11, C.7.9, C.7.6.16).

An open instance's header is read once, and the elements that showing needs are kept, those of a
frame's own functional groups with them. What the elements mean is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mmindex.errors import FormatError
from mmindex.read.header import header_errors, read_header

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataelem import DataElement, RawDataElement
    from pydicom.tag import BaseTag

    from mmindex.read.instance import Instance

    Elements = dict[BaseTag, DataElement | RawDataElement]

_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
# What gives values in units, and what gives gray: a group that has one of these has all of them.
_TOGETHER = (
    ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
_COLOURS = ("Red", "Green", "Blue", "Alpha")
_KEPT = (
    *("PhotometricInterpretation", "PixelRepresentation", "BitsAllocated", "BitsStored"),
    *(keyword for keywords in _TOGETHER for keyword in keywords),
    "PaletteColorLookupTableUID",
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in _COLOURS),
    *(f"{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
)


@dataclass(frozen=True, slots=True)
class Display:
    """The elements of a header that showing needs.

    Attributes
    ----------
    elements : dict
        Those of the top level, with shared functional groups over them.
    frames : list of dict
        Those of each frame's own functional groups, or none; equal ones are one dict.
    """

    elements: Elements
    frames: list[Elements]
    file_meta: Any
    encoding: tuple[bool | None, bool | None]

    def of_frame(self, frame_index: int) -> Dataset:
        """Return a data set of a frame's elements, which may be changed."""
        from pydicom import Dataset

        own = self.frames[frame_index] if frame_index < len(self.frames) else {}
        data_set = Dataset(_overlay(self.elements, own))
        data_set.set_original_encoding(*self.encoding)
        if self.file_meta is not None:
            data_set.file_meta = self.file_meta
        return data_set


_DISPLAYS: WeakKeyDictionary[Instance, Display] = WeakKeyDictionary()


def keep_display(instance: Instance) -> Display:
    """Return what showing an instance's frames needs; the header is read at the first call.

    Raises
    ------
    FormatError
        pydicom cannot read the header; or frames have groups of their own that are not one a frame.
    """
    found = _DISPLAYS.get(instance)
    if found is None:
        found = _DISPLAYS[instance] = _read_display(instance)
    return found


def _read_display(instance: Instance) -> Display:
    from pydicom.tag import Tag

    header = read_header(instance)
    wanted = frozenset(map(Tag, _KEPT))
    try:
        elements = _take(header, wanted)
        shared = header.get("SharedFunctionalGroupsSequence") or []
        for item in shared[:1]:
            elements = _overlay(elements, _take_groups(item))
        seen: dict[tuple[object, ...], Elements] = {}
        frames = []
        for item in header.get("PerFrameFunctionalGroupsSequence") or []:
            own = _take_groups(item)
            frames.append(seen.setdefault(_make_key(own), own))
    except header_errors() as error:
        raise FormatError(f"pydicom cannot read the functional groups: {error}") from error
    if any(frames) and len(frames) != instance.number_of_frames:
        raise FormatError(
            f"expected Per-frame Functional Groups of {instance.number_of_frames} frames "
            f"(PS3.3 C.7.6.16), found {len(frames)} items"
        )
    meta = getattr(header, "file_meta", None)
    return Display(elements, frames, meta, header.original_encoding)


def _take(data_set: Dataset, wanted: frozenset[BaseTag] | None = None) -> Elements:
    """Return the elements of a data set, or the wanted ones, not converted yet."""
    tags = [tag for tag in data_set.keys() if wanted is None or tag in wanted]  # noqa: SIM118
    return {tag: data_set.get_item(tag) for tag in tags}


def _take_groups(item: Dataset) -> Elements:
    """Return the elements of the functional groups that showing needs."""
    found: Elements = {}
    for name in _GROUPS:
        for group in (item.get(name) or [])[:1]:
            found.update(_take(group))
    return found


def _overlay(elements: Elements, own: Elements) -> Elements:
    """Return elements with those of a group over them (PS3.3 C.7.6.16).

    A group that has a slope says all of the units, so that a table from outside it goes; the same
    holds of a window and a VOI LUT.
    """
    if not own:
        return dict(elements)  # which the caller may change
    replaced = {tag for tags in _tags_together() if not tags.isdisjoint(own) for tag in tags}
    return {tag: each for tag, each in elements.items() if tag not in replaced} | own


@cache
def _tags_together() -> tuple[frozenset[BaseTag], ...]:
    from pydicom.tag import Tag

    return tuple(frozenset(map(Tag, keywords)) for keywords in _TOGETHER)


def _make_key(elements: Elements) -> tuple[object, ...]:
    """Return a key that is equal for equal elements."""
    return tuple(
        (tag, element.VR, _make_value_key(element.value)) for tag, element in elements.items()
    )


def _make_value_key(value: Any) -> object:
    from pydicom import Sequence

    if isinstance(value, Sequence):  # whose repr does not say what is in it
        return tuple(_make_key(_take(each)) for each in value)
    return value if isinstance(value, bytes) else repr(value)
