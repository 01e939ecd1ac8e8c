"""Fixtures that tests of updates and watches have in common."""

from __future__ import annotations

import pytest

from mmindex.index.store import Store


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the folders below which the paths of an index are looked up."""
    noted: list[object] = []
    find_below = Store.find_below

    def note(store: Store, folders: list[bytes]) -> object:
        noted.extend(folders)
        return find_below(store, folders)

    monkeypatch.setattr(Store, "find_below", note)
    return noted
