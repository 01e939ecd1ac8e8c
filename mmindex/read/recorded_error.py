"""The error that a file's scan ended with, again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmindex import errors
from mmindex.errors import FormatError, MMIndexError

if TYPE_CHECKING:
    from mmindex.model import InstanceRecord


def recorded_error(record: InstanceRecord, path: str | None) -> MMIndexError:
    """Return the error that a file's scan ended with, as it was recorded."""
    kind: Any = FormatError
    if record.error in errors.__all__:
        kind = getattr(errors, record.error)
    error: MMIndexError = kind(record.reason, path=path)
    return error
