"""Bucket: an archive's objects by their keys, as every root."""

from __future__ import annotations

from pathlib import Path

import pytest
from sources.root_conformance import FILES, RootConformance

from mmindex.sources.base import Root
from mmindex.sources.bucket import Bucket

obstore = pytest.importorskip("obstore", reason="object stores need obstore")


class TestBucket(RootConformance):
    prefix = ""

    def make(self, folder: Path) -> Root:
        self.store = obstore.store.MemoryStore()
        return Bucket(f"memory://archive/{self.prefix}", store=self.store, revalidate_after=0)

    def put(self, root: Root, path: bytes, data: bytes) -> None:
        self.store.put(self.prefix + path.decode(), data)


class TestBucketBelowAPrefix(TestBucket):
    prefix = "studies/all/"

    def test_objects_beside_the_prefix_are_not_of_the_root(self, root: Root) -> None:
        """Neither those above it nor those whose keys begin alike."""
        for key in ("studies/x", "studies/all of them/x", "studies/all"):
            self.store.put(key, b"beside")
        assert self.list_paths(root) == set(FILES)
