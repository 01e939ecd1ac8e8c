"""The exception tree: what callers catch, read and send between processes."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from mmindex import errors
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    FrameIndexError,
    InstanceNotFoundError,
    MissingDependencyError,
    MissingFileError,
    MMIndexError,
    NotDicomError,
    RemoteReadError,
    TruncatedFrameError,
)

KINDS = [getattr(errors, name) for name in errors.__all__]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_all_names_every_class():
    """No exception class of the module is left out of `__all__`."""
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert set(errors.__all__) == classes


@each_kind
def test_every_error_is_an_mmindex_error(kind):
    """One except clause catches whatever mmindex raises."""
    with pytest.raises(MMIndexError, match="broken"):
        raise kind("broken")


@each_kind
@pytest.mark.parametrize("clone", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_error_survives_pickling(kind, clone):
    """An error comes back from a worker process with class, message, path and offset."""
    error = clone(kind("expected an item tag", path="ward/a.dcm", offset=0x1F4C))
    assert type(error) is kind
    assert (error.message, error.path, error.offset) == (
        "expected an item tag",
        "ward/a.dcm",
        0x1F4C,
    )
    assert str(error) == "ward/a.dcm @0x1f4c: expected an item tag"


@each_kind
@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "broken"),
        ({"path": "a.dcm"}, "a.dcm: broken"),
        ({"offset": 0}, "@0x0: broken"),
        ({"path": "a.dcm", "offset": 255}, "a.dcm @0xff: broken"),
    ],
)
def test_text_says_path_and_hex_offset(kind, place, text):
    """The text says as much of the place as is known, offset 0 included."""
    assert str(kind("broken", **place)) == text


@pytest.mark.parametrize(
    ("kind", "convention"),
    [
        (FrameIndexError, IndexError),
        (InstanceNotFoundError, KeyError),
        (MissingFileError, FileNotFoundError),
        (MissingDependencyError, ImportError),
        (RemoteReadError, OSError),
        (NotDicomError, FormatError),
        (TruncatedFrameError, FormatError),
        (AmbiguousFramesError, FormatError),
    ],
)
def test_error_follows_the_convention(kind, convention):
    """Code that catches Python's own exception, or the broader one, catches ours."""
    assert issubclass(kind, convention)


def test_unknown_instance_is_not_repr_quoted():
    """KeyError quotes its argument; InstanceNotFoundError is a sentence to be read."""
    assert str(InstanceNotFoundError("no instance '1.2.3'")) == "no instance '1.2.3'"


@each_kind
@pytest.mark.parametrize("path", ["ward/a.dcm", b"ward/a.dcm", Path("ward", "a.dcm")])
def test_at_fills_in_the_path(kind, path):
    """An error raised by a pure function of bytes learns its file later."""
    error = kind("broken", offset=8)
    assert error.at(path) is error
    assert Path(error.path) == Path("ward", "a.dcm")
    assert error.offset == 8


def test_at_keeps_a_path_that_is_known():
    """The innermost place wins: a second `at` changes nothing."""
    error = FormatError("broken").at("inner.dcm").at("outer.dcm")
    assert error.path == "inner.dcm"


def test_errors_that_leave_a_block_name_its_file() -> None:
    """An error that names another file keeps its own path; offsets count from the block's first."""
    for raised, path, offset in (
        (errors.FormatError("no item", offset=5), "a.tar", 1005),
        (errors.FormatError("no item", path="b.dcm", offset=5), "b.dcm", 5),
        (errors.FormatError("no item"), "a.tar", None),
    ):
        with pytest.raises(errors.FormatError) as caught, errors.naming("a.tar", 1000):
            raise raised
        assert caught.value is raised
        assert (raised.path, raised.offset) == (path, offset)
    with pytest.raises(ValueError, match=r"^other$"), errors.naming(b"a.tar"):
        raise ValueError("other")
    with errors.naming(None):
        assert errors.FormatError("no item").at(None).path is None
