"""Fixtures that tests of reading have in common."""

from __future__ import annotations

import pytest

import mmindex
from mmindex.model import InstanceRecord


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[InstanceRecord]:
    """Return the records that the archive opens files by."""
    records: list[InstanceRecord] = []
    open_instance = mmindex.Archive._open_instance

    def open_noted(archive: mmindex.Archive, record: InstanceRecord) -> mmindex.Instance:
        records.append(record)
        return open_instance(archive, record)

    monkeypatch.setattr(mmindex.Archive, "_open_instance", open_noted)
    return records
