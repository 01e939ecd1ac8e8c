"""A sequence of undefined length that a walk is in (PS3.5 7.5)."""

from __future__ import annotations

from dataclasses import dataclass

from mmindex.scan import tags
from mmindex.scan.encoding import Encoding


@dataclass(slots=True)
class OpenSequence:
    """A sequence of undefined length that the walk is in.

    `declared` is the encoding that its items must have, `outer` the one around it; `encoding` is
    that of the current item, `last_tag` the tag before the position in it.
    """

    tag: int
    declared: Encoding
    outer: Encoding
    encoding: Encoding
    in_item: bool = False
    last_tag: int = -1

    @property
    def name(self) -> str:
        """The name of the sequence in messages; an item at the top level has tag 0."""
        return f"sequence {tags.format_tag(self.tag)}" if self.tag else "an item"

    def describe_item(self) -> str:
        """Return what may stand in an item of the sequence, for messages."""
        return f"an element or the item's end in {self.name}"
