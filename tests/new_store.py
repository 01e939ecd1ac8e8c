"""An index that a test fills itself, open to be written."""

from __future__ import annotations

from mmindex.index.create import create_index
from mmindex.index.store import Store


def create_store(path: str, root: bytes) -> Store:
    """Return the index at `path`, created unless it is there; `root` is its archive's."""
    create_index(path, root)
    return Store(path, write=True)
