"""Values of the model: frozen, comparable, hashable, picklable, whatever they are made of."""

from __future__ import annotations

import pickle
from copy import deepcopy
from operator import ne

import pytest

from mmindex.frame_table import FrameTable, Layout
from mmindex.model import Anomaly, ImagePixel, InstanceRecord, Status

TABLE = FrameTable(Layout.FRAGMENT_A_FRAME, 2, 1, 1, 100, entries=bytes(8), entry_size=4)
RECORD = InstanceRecord(
    Status.INDEXED, path=b"a.dcm", frames=TABLE, anomalies=(Anomaly("trailing-bytes", 7),)
)


@pytest.mark.parametrize("value", [TABLE, RECORD, ImagePixel(rows=2), Anomaly("a", 1)])
def test_a_value_stays_as_it_is_and_travels(value):
    """No field is set or deleted; copies and pickles are equal and have one hash."""
    (name, *_) = value._fields
    with pytest.raises(AttributeError):
        setattr(value, name, getattr(value, name))
    with pytest.raises(AttributeError):
        delattr(value, name)
    with pytest.raises(AttributeError):
        value.other = 1
    for other in (pickle.loads(pickle.dumps(value)), deepcopy(value), value._replace()):
        assert other == value
        assert hash(other) == hash(value)
        assert type(other) is type(value)
    assert value != 1
    assert repr(value).startswith(f"{type(value).__name__}({name}=")


def test_a_table_with_a_change_is_checked_as_a_new_one():
    """`_replace` raises what the class raises; fields that it is not given stay."""
    assert TABLE._replace(value_offset=108) != TABLE
    assert TABLE._replace(value_offset=108).frames_located == 1
    with pytest.raises(ValueError, match="3 of 2 frames located"):
        TABLE._replace(frames_located=3)
    with pytest.raises(TypeError):
        TABLE._replace(colour=1)


def test_records_of_one_file_are_equal_however_long_the_scan_took():
    """Time of the scan and values on their way to the index are no part of what is compared."""
    other = RECORD._replace(scan_microseconds=5, carried_values=(b"a", b"b"))
    assert other == RECORD
    assert ne(other, RECORD) is False  # which tuples define for themselves
    assert hash(other) == hash(RECORD)
    assert RECORD._replace(path=b"b.dcm") != RECORD
    assert tuple(RECORD) != RECORD
