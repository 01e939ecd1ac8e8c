"""What all readings of an index have in common: damage is told, what was overtaken read again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mmindex.errors import IndexFormatError
from mmindex.index.checksum import DamageError
from mmindex.index.lmdb.environment import LMDBError, OvertakenError

if TYPE_CHECKING:
    from mmindex.index.index_file import OpenIndex

_DAMAGE = (LMDBError, struct.error, DamageError)  # what reading a damaged index may end in

_MOST_READINGS = 100  # of what commits overtake each time

Opened = TypeVar("Opened", bound="OpenIndex")
Taken = TypeVar("Taken")
Asked = ParamSpec("Asked")


def reading(
    read: Callable[Concatenate[Opened, Asked], Taken],
) -> Callable[Concatenate[Opened, Asked], Taken]:
    """Let a method tell damage as IndexFormatError, and read again where a build overtook it."""

    @wraps(read)
    def read_again(self: Opened, /, *args: Asked.args, **kwargs: Asked.kwargs) -> Taken:
        for _ in range(_MOST_READINGS):
            try:
                return read(self, *args, **kwargs)
            except OvertakenError:
                continue
            except IndexFormatError as error:
                error.at(self.path)
                raise
            except _DAMAGE as error:
                raise damaged(self.path, error) from error
        raise IndexFormatError(
            "the index is written faster than it can be read: its lock file cannot be opened",
            path=self.path,
        )

    return read_again


def damaged(path: str, error: Exception) -> IndexFormatError:
    """Return the error for an index that is damaged."""
    return IndexFormatError(f"damaged index: {error}; delete it and build anew", path=path)
