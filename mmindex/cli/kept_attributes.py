"""Attributes of studies and series that an index keeps, as commands print them."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mmindex.cli.printing import cut_end, plain, wrap

if TYPE_CHECKING:
    from mmindex import Archive

_OF_STUDY = ("PatientName", "PatientID", "StudyDate", "StudyDescription")
_OF_SERIES = ("SeriesNumber", "SeriesDate", "SeriesDescription")
_DATE = re.compile(r"\d{8}")
_NAME_WIDTH = 21  # of the longest name of a line, and the space after it
_REMEMBERED = 1024  # studies and series, whose files mostly come together


class Kept:
    """The attributes that the index of an archive keeps: none, where nobody asked for them."""

    def __init__(self, archive: Archive) -> None:
        self.names = () if (kept := archive.kept_attributes()) is None else kept.names
        self._read = lru_cache(_REMEMBERED)(archive.attributes)

    def describe(self, *uids: str) -> dict[str, Any]:
        """Return the attributes of a study and a series, by keyword, as JSON has them."""
        found: dict[str, Any] = {}
        for uid in uids if self.names else ():
            found.update(self._read(uid))
        return found

    def summarize(self, uid: str, *, of_study: bool) -> str:
        """Return who, when and what a study or series is of, as wide as a terminal has room."""
        found = self.describe(uid)
        words = _OF_STUDY if of_study else _OF_SERIES
        texts = [_show(word, found[word]) for word in words if word in found]
        return cut_end(", ".join(texts), shutil.get_terminal_size().columns - 2)

    def walk_lines(self) -> Iterator[tuple[str, str]]:
        """Yield a name and what is said of an index that keeps attributes, by lines."""
        if not self.names:
            return
        text = f"kept in the index, which identifies people: {', '.join(self.names)}"
        room = shutil.get_terminal_size().columns - _NAME_WIDTH
        lines = wrap(text, room) if sys.stdout.isatty() else [text]
        yield from zip(("Attributes", *[""] * len(lines)), lines, strict=False)


def _show(word: str, value: Any) -> str:
    texts = value if isinstance(value, tuple) else (value,)
    text = plain("\\".join(map(str, texts)))
    if word.endswith("Date") and _DATE.fullmatch(text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return f"no. {text}" if word == "SeriesNumber" else text
