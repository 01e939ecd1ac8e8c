"""Attributes of studies and series that an index keeps, read from it; opens no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmindex.errors import IndexFormatError

if TYPE_CHECKING:
    from mmindex.attributes import AttributeSet, Json
    from mmindex.index.databases import AttributesKind
    from mmindex.index.reader import Reader


class KeptAttributes:
    """The attributes of an index, which `Archive` has as its own."""

    _store: Reader

    def kept_attributes(self) -> AttributeSet | None:
        """Return which attributes the index keeps of studies and series; None where it keeps none.

        `studies` and `series` of the result have the tag of each by keyword.
        """
        return self._store.read_attribute_set()

    def attributes(self, uid: str) -> dict[str, Any]:
        """Return what the index keeps of a study or a series, by keyword, in the order of tags.

        Parameters
        ----------
        uid : str
            Study or Series Instance UID.

        Returns
        -------
        dict
            A text is a str; numbers are int or float; a name has "=" between its groups, as in the
            file; several values are a tuple. The items of a sequence are in the DICOM JSON model
            (PS3.18 annex F). Attributes that the file lacks or has empty are left out. Where files
            differ, the values are those of the file that changed last. Empty where the index keeps
            nothing of this UID.

        Raises
        ------
        IndexFormatError
            The index is damaged.
        """
        return read_named(self._store, "studies", uid) or read_named(self._store, "series", uid)

    def attributes_json(self, kind: AttributesKind, uid: str) -> Json | None:
        """Return what the index keeps of a study or a series in the DICOM JSON model, by tag.

        Parameters
        ----------
        kind : {"studies", "series"}
            What the UID is of.

        Returns
        -------
        dict or None
            None where the index keeps nothing of this UID.
        """
        return read_json(self._store, kind, uid)


def read_named(store: Reader, kind: AttributesKind, uid: str) -> dict[str, Any]:
    """Return what an index keeps of a study or a series, by keyword."""
    from mmindex.attributes import name_values  # most archives keep none

    kept = store.read_attribute_set()
    values = None if kept is None else read_json(store, kind, uid)
    if kept is None or not values:
        return {}
    return name_values(values, kept.studies if kind == "studies" else kept.series)


def read_json(store: Reader, kind: AttributesKind, uid: str) -> Json | None:
    """Return what an index keeps of a study or a series in the DICOM JSON model, by tag.

    Returns
    -------
    dict or None
        None where the values are not known: a header has to be read.

    Raises
    ------
    IndexFormatError
        The index is damaged.
    """
    found = store.read_attributes(kind, uid)
    if found is None:
        return None
    from mmindex.attributes import unpack_values

    try:
        return unpack_values(found.values)
    except ValueError as error:
        raise IndexFormatError(
            f"damaged attributes of {uid!r}: {error}; rebuild the index", path=store.path
        ) from error
