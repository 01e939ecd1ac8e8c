"""The files beside an index, which are never opened through a link or taken from another user.

LMDB opens its lock file by name, follows links, and overwrites what is there. The file is
therefore checked before, and created here where there is none. Where other users may write the
folder, they could put a link there between the two: a reader then does without the lock file.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from mmindex.errors import IndexWriteError
from mmindex.index.names import LMDB_MAGIC
from mmindex.index.trust import is_own, others_may_write
from mmindex.model import LOCK, WRITING

_MODE = 0o666  # of new files at most: neither executable nor wider than their folder
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_DIGITS = 20  # of a length
_LOOKS, _BETWEEN_LOOKS = 5, 0.01  # seconds


def permissions_in(folder: str) -> int:
    """Return the permissions of a file that is created: no wider than its folder's."""
    return stat.S_IMODE(os.stat(folder).st_mode) & _MODE


def open_beside(path: str, flags: int, permissions: int = 0) -> int:
    """Open a file beside an index that is a regular file with no other name.

    Raises
    ------
    OSError
        The file cannot be opened, or is a link, a pipe or something else.
    """
    number = os.open(path, flags | _FLAGS, permissions)
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError(0, "expected a regular file without other names (hard links)")
    except BaseException:
        os.close(number)
        raise
    return number


def create_alone(path: str, permissions: int) -> None:
    """Create an empty file where nothing is, in place of what a killed process left there."""
    if os.path.lexists(path):
        os.remove(path)  # of a link, the link
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, permissions))


def open_lock_to_read(path: str, index: os.stat_result) -> int | None:
    """Return the lock file of an index, open, where a reader can use it: LMDB writes it.

    The index, its folder and its lock file have to be the user's, and not writable by others.

    Parameters
    ----------
    index : os.stat_result
        The index file.
    """
    user = os.geteuid()
    try:
        if index.st_uid != user or not os.access(path, os.W_OK):
            return None
        parent = os.stat(os.path.dirname(path))
        is_sticky = parent.st_mode & stat.S_ISVTX and parent.st_uid in (0, user)
        if not is_sticky and (not is_own(parent) or others_may_write(parent)):
            return None
        number = open_lock_file(path)
    except (OSError, IndexWriteError):
        return None
    lock = os.fstat(number)
    if is_own(lock) and not others_may_write(lock):
        return number
    os.close(number)
    return None


def open_lock_file(path: str) -> int:
    """Create the lock file of an index, or open the one that is there.

    A new one begins like LMDB's, so that any other file is known to be the user's.

    Raises
    ------
    IndexWriteError
        The file beside the index is not LMDB's, or no regular file, or cannot be created.
    """
    lock = path + LOCK
    try:
        try:
            return _open_lock_file(lock)  # most indexes have one
        except FileNotFoundError:
            return _create_lock_file(lock, os.stat(path).st_mode & _MODE)
    except OSError as error:
        raise IndexWriteError(f"cannot write the index: {explain(error)}", path=lock) from error


def _create_lock_file(lock: str, permissions: int) -> int:
    """Create a lock file, or open one that another process has created meanwhile."""
    try:
        number = open_beside(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, permissions)
    except FileExistsError:
        return _open_lock_file(lock)
    try:
        os.write(number, LMDB_MAGIC)
    except BaseException:
        os.close(number)
        raise
    return number


def remove_lock_file(path: str) -> None:
    """Remove the lock file that an index left which is gone.

    Raises
    ------
    IndexWriteError
        The file is the user's.
    """
    lock = path + LOCK
    if os.path.lexists(lock):
        try:
            os.close(_open_lock_file(lock))
            os.remove(lock)
        except OSError as error:
            raise IndexWriteError(
                f"cannot create the index: {explain(error)}", path=lock
            ) from error


def _open_lock_file(lock: str) -> int:
    """Open a file that begins like LMDB's lock files; raise IndexWriteError, OSError for a link."""
    for _ in range(_LOOKS):
        number = open_beside(lock, os.O_RDWR)
        try:
            head = os.read(number, len(LMDB_MAGIC))
        except BaseException:
            os.close(number)
            raise
        if head == LMDB_MAGIC:
            return number
        os.close(number)
        if head:
            break
        time.sleep(_BETWEEN_LOOKS)  # another process may be creating the file
    raise IndexWriteError(
        "the file is no lock file of an index, but has the name of one: move it away", path=lock
    )


def begin_writing(path: str, length: int) -> None:
    """Note beside an index how long it is before a commit.

    Raises
    ------
    IndexWriteError
        The file with the note's name is the user's.
    OSError
        The note cannot be written.
    """
    note = path + WRITING
    permissions = os.stat(path).st_mode & _MODE
    try:
        number = open_beside(note, os.O_RDWR | os.O_CREAT, permissions)
    except OSError as error:
        raise IndexWriteError(f"cannot write the index: {explain(error)}", path=note) from error
    try:
        found = os.read(number, _MOST_DIGITS + 1)
        if found and not (found.isdigit() and len(found) <= _MOST_DIGITS):
            raise IndexWriteError(
                "the file is not the index's, but would be overwritten: move it away", path=note
            )
        os.ftruncate(number, 0)
        os.pwrite(number, b"%d" % length, 0)
    finally:
        os.close(number)


def end_writing(path: str) -> None:
    """Remove the note after a commit."""
    os.remove(path + WRITING)


def read_length_before_writing(path: str, otherwise: int) -> int:
    """Return the length that an index had before a commit that is under way, or was killed."""
    try:
        number = open_beside(path + WRITING, os.O_RDONLY)
        try:
            return int(os.read(number, _MOST_DIGITS))
        finally:
            os.close(number)
    except (OSError, ValueError):
        return otherwise


def explain(error: OSError) -> str:
    """Return what is wrong, in words; a link is refused with "too many levels" by the system."""
    if error.errno == errno.ELOOP:
        return "a symbolic link is in its place: remove it"
    return error.strerror or str(error)
