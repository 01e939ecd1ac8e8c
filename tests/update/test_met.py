"""Files that changed too lately, by this machine's clock."""

from __future__ import annotations

import math
import time

import pytest
from dicom_bytes import native_file

import mmindex
from mmindex.update.met import match_young

SECOND = 10**9


def test_the_present_is_that_of_each_look(monkeypatch):
    """A walk may take hours, in which files are written: these are young, and no longer later."""
    began = 1_700_000_000 * SECOND
    monkeypatch.setattr(time, "time_ns", lambda: began)
    is_young = match_young(60.0)
    written = began + 3600 * SECOND
    assert not is_young(written)  # dated in the future
    monkeypatch.setattr(time, "time_ns", lambda: written + SECOND)
    assert is_young(written)
    assert not is_young(began)
    monkeypatch.setattr(time, "time_ns", lambda: written + 60 * SECOND)
    assert not is_young(written)


@pytest.mark.parametrize(
    ("age", "min_age", "expected"),
    [(59, 60, True), (60, 60, False), (-60, 60, True), (-61, 60, False), (-1, 0, False)],
)
def test_clocks_may_differ_by_a_minute(monkeypatch, age, min_age, expected):
    """A time further ahead says nothing of when a file was written."""
    now = 1_700_000_000 * SECOND
    monkeypatch.setattr(time, "time_ns", lambda: now)
    assert match_young(float(min_age))(now - age * SECOND) is expected


def test_without_end_every_file_is_young(tmp_path):
    """Infinity is a number of seconds like another."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native_file(bytes(4), vr="OB"))
    assert mmindex.build(tmp_path, workers=1, min_age=math.inf).postponed == 1
    assert mmindex.update(tmp_path, [path], min_age=math.inf).postponed == 1
    with mmindex.open(tmp_path) as archive:
        assert not list(archive.problems(min_age=math.inf))
