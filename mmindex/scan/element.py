"""One data element, as a walk finds it (PS3.5 7.1)."""

from __future__ import annotations

from typing import NamedTuple


class Element(NamedTuple):
    """One data element: where its header and its value are.

    `vr` is empty in Implicit VR; `length` may be UNDEFINED_LENGTH.
    """

    tag: int
    vr: str
    element_offset: int
    value_offset: int
    length: int
