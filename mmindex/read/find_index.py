"""The index that knows a file: the one in its folder, or in a folder above.

An index that no user named is used only where no other user could have planted it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from mmindex.errors import MMIndexError, StaleIndexError
from mmindex.index.trust import explain_distrust
from mmindex.model import INDEX_NAME

if TYPE_CHECKING:
    from mmindex.read.instance import Instance


class FoundInstance(NamedTuple):
    """The records of one file in the indexes at and above its folder.

    Attributes
    ----------
    instance : Instance or None
        The file's instance, open; None where no index that may be used knows the file as it is.
    index : str or None
        The index that it is served from.
    stale_index : str or None
        The nearest index that knows the file as it was before.
    distrusted : str or None
        The nearest index that was passed over because another user could have planted it.
    reason : str
        Why it was passed over.
    """

    instance: Instance | None = None
    index: str | None = None  # type: ignore[assignment]  # hides the method of tuples
    stale_index: str | None = None
    distrusted: str | None = None
    reason: str = ""


def find_in_indexes(source: str, stack: ExitStack) -> FoundInstance:
    """Look for a file in the index of its folder and of every folder above.

    Parameters
    ----------
    source : str
        The file.
    stack : ExitStack
        Closes the archive and the instance that are found.

    An index that is damaged, of another format or of another archive is passed over.
    """
    stale_index = distrusted = None
    reason = ""
    has_parent_steps = os.pardir in source.split(os.sep)  # which may lead out of a linked folder
    path = os.path.realpath(source) if has_parent_steps else os.path.abspath(source)
    folder = os.path.dirname(path)
    while True:
        index = os.path.join(folder, INDEX_NAME)
        if os.path.isfile(index):
            why = explain_distrust(index)
            if why is not None:
                distrusted, reason = (distrusted, reason) if distrusted else (index, why)
            else:
                try:
                    found = _find_in_index(path, index, stack)
                except StaleIndexError:
                    stale_index = stale_index or index
                else:
                    if found is not None:
                        return FoundInstance(found, index, stale_index, distrusted, reason)
        if folder == os.path.dirname(folder):
            return FoundInstance(None, None, stale_index, distrusted, reason)
        folder = os.path.dirname(folder)


def _find_in_index(path: str, index: str, stack: ExitStack) -> Instance | None:
    from mmindex.read.archive import open_archive  # which needs LMDB: most files have no index

    try:
        with ExitStack() as attempt:
            archive = attempt.enter_context(open_archive(index))
            root = os.path.join(archive.root, "")
            if not path.startswith(root):
                return None
            instance = attempt.enter_context(archive.file(path[len(root) :]))
            stack.push(attempt.pop_all())
            return instance
    except StaleIndexError:
        raise
    except (MMIndexError, OSError):
        return None
