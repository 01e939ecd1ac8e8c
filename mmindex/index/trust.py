"""Whose files these are: who could have planted an index, or a link beside one.

The model is git's safe.directory. The user and root are trusted; a file or folder that another
user owns or may write is not.
"""

from __future__ import annotations

import os
import stat
from functools import cache


def explain_distrust(index: str) -> str | None:
    """Return why an index that no user named must not be used; None where it may.

    An index is trusted if its file and folder belong to the user or to root, no other user may
    write either of them, and its file is no symbolic link.
    """
    try:
        file, folder = os.lstat(index), os.stat(os.path.dirname(index))
    except OSError as error:
        return f"cannot access it: {error.strerror}"
    if not stat.S_ISREG(file.st_mode):
        return "it is no regular file"
    for what, status in (("it", file), ("its folder", folder)):
        if not is_own(status):
            return f"{what} belongs to another user ({_name_user(status.st_uid)})"
        if others_may_write(status):
            return f"other users may write {'the file' if what == 'it' else what}"
    return None


def is_own(status: os.stat_result) -> bool:
    """Return whether a file belongs to the user or to root."""
    return status.st_uid in (0, os.geteuid())


def others_may_write(status: os.stat_result) -> bool:
    """Return whether others than the owner may write a file, or create files in a folder."""
    mode = status.st_mode
    if mode & stat.S_IWGRP and not _is_private_group(status.st_gid, os.geteuid()):
        return True
    return bool(mode & stat.S_IWOTH)


@cache
def _is_private_group(group_id: int, user_id: int) -> bool:
    """Return whether a group has the user's name and no other member, as many systems make them."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(user_id), grp.getgrgid(group_id)
    except KeyError:
        return False
    is_of_user = group.gr_name == user.pw_name and user.pw_gid == group_id
    return is_of_user and set(group.gr_mem) <= {user.pw_name}


def _name_user(user_id: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
