"""Whose index is it: an index that nobody named is used only if nobody else could plant it."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_runner import run
from dicom_bytes import dicom_file, element, image_attributes
from new_store import create_store

import mmindex
from mmindex.index import trust
from mmindex.index.record import pack_record
from mmindex.index.trust import explain_distrust
from mmindex.read.find_index import find_in_indexes

NOBODY = 65534  # a user without rights
FRAMES = [bytes([number]) * 4 for number in range(5)]


def write_file(path: Path, frames: list[bytes]) -> None:
    data_set = element(0x00080018, "UI", "1.2.3") + image_attributes(number_of_frames=len(frames))
    path.write_bytes(dicom_file(data_set + element(0x7FE00010, "OB", b"".join(frames))))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    root.mkdir()
    write_file(root / "a.dcm", FRAMES)
    mmindex.build(root, workers=1)
    return root


def give_index(root: Path) -> str:
    os.chown(root / ".mmindex", NOBODY, NOBODY)
    return "belongs to another user"


def give_folder(root: Path) -> str:
    os.chown(root, NOBODY, NOBODY)
    return "its folder belongs to another user"


def open_index(root: Path) -> str:
    (root / ".mmindex").chmod(0o666)
    return "other users may write the file"


def open_index_to_a_group(root: Path) -> str:
    os.chown(root / ".mmindex", -1, NOBODY)
    (root / ".mmindex").chmod(0o664)
    return "other users may write the file"


def open_folder(root: Path) -> str:
    root.chmod(0o777)
    return "other users may write its folder"


def open_folder_sticky(root: Path) -> str:
    root.chmod(0o1777)
    return "other users may write its folder"


def link_index(root: Path) -> str:
    (root / ".mmindex").rename(root.parent / "elsewhere")
    (root / ".mmindex").symlink_to(root.parent / "elsewhere")
    return "it is no regular file"


NEED_ROOT = {give_index, give_folder, open_index_to_a_group}
WAYS = [
    *(give_index, give_folder, open_index, open_index_to_a_group),
    *(open_folder, open_folder_sticky, link_index),
]


@pytest.mark.parametrize("plant", WAYS)
def test_an_index_that_others_may_have_planted_is_passed_over(
    root: Path, plant: Callable[[Path], str]
) -> None:
    """The file is scanned, and stderr says once which index was passed over, why, what to do."""
    if plant in NEED_ROOT and os.geteuid():
        pytest.skip("needs a second user")
    reason = plant(root)
    done = run("info", str(root / "a.dcm"))
    assert done.stderr.count(str(root / ".mmindex is not used")) == 1
    assert reason in done.stderr
    assert f"{root / '.mmindex'} --instance UID" in done.stderr
    with ExitStack() as stack:
        found = find_in_indexes(str(root / "a.dcm"), stack)
    assert (found.instance, found.index) == (None, None)
    assert found.distrusted == str(root / ".mmindex")


def test_an_index_of_another_user_id_is_passed_over(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the user sees it to whom neither folder nor index belong, on a system of any users."""
    if not os.geteuid():
        os.chown(root / ".mmindex", 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert "belongs to another user" in (explain_distrust(str(root / ".mmindex")) or "")


@pytest.mark.parametrize("owner", ["user", "root"])
def test_an_index_of_the_user_or_of_root_is_used(
    root: Path, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said about it."""
    if owner == "root":
        if os.geteuid():
            pytest.skip("needs root's files")
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
    done = run("info", str(root / "a.dcm"))
    assert "not used" not in done.stderr
    with ExitStack() as stack:
        assert find_in_indexes(str(root / "a.dcm"), stack).index == str(root / ".mmindex")


def test_a_planted_record_gives_no_other_frame(root: Path, tmp_path: Path) -> None:
    """An index of a file whose frames are in another order, with the file's own fingerprint."""
    with mmindex.open(root) as archive:
        (record,) = archive.records()
    assert record.frames is not None
    frames = record.frames._replace(value_offset=record.frames.value_offset + 4)
    store = create_store(str(root / ".mmindex"), os.fsencode(root))
    store.replace([pack_record(record._replace(frames=frames))])
    store.close()
    (root / ".mmindex").chmod(0o666)
    for number, frame in enumerate(FRAMES):
        target = tmp_path / f"{number}.bin"
        run("frame", str(root / "a.dcm"), str(number + 1), "-o", str(target))
        assert target.read_bytes() == frame


def test_a_planted_page_ends_no_command(root: Path) -> None:
    """Pages of zeros, on which LMDB would end the process."""
    planted = root / ".mmindex"
    data = planted.read_bytes()
    planted.write_bytes(data[:8192] + bytes(len(data) - 8192))
    planted.chmod(0o666)
    done = run("info", str(root / "a.dcm"))
    assert "is not used: other users may write the file" in done.stderr


@pytest.mark.parametrize("members", [[], ["someone"]])
def test_a_private_group_is_nobody_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, members: list[str]
) -> None:
    """Many systems give each user a group of the same name, and files to it by default."""
    group = os.stat(root).st_gid
    trust._is_private_group.cache_clear()
    user = pwd.struct_passwd(("me", "x", os.geteuid(), group, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: user)
    monkeypatch.setattr(
        grp, "getgrgid", lambda number: grp.struct_group(("me", "x", group, members))
    )
    root.chmod(0o775)
    (root / ".mmindex").chmod(0o664)
    assert (explain_distrust(str(root / ".mmindex")) is None) == (not members)
    trust._is_private_group.cache_clear()
