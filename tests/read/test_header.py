"""The header of an open instance as pydicom has it, wherever the file lies."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    deflate,
    dicom_file,
    element,
    image_attributes,
    native_file,
    written,
)
from pydicom_oracle import FOLDER

import mmindex
from mmindex.errors import FormatError, MissingFileError

FILES = ("CT_small.dcm", "examples_ybr_color.dcm", "image_dfl.dcm", "rtplan.dcm")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", FILES)
def test_header_of_a_file_in_a_container_is_that_of_the_file(
    tmp_path: Path, method: int, name: str
) -> None:
    """The header ends before the pixel data, counted from the member's start."""
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", method) as container:
        container.writestr("before", bytes(1000))
        container.write(FOLDER / name, "a.dcm")
    expected = pydicom.dcmread(FOLDER / name, stop_before_pixels=True)
    with mmindex.open_file(f"{path}!/a.dcm") as instance:
        found = instance.dataset()
        assert found == expected
        assert found.file_meta == expected.file_meta
        assert (FOLDER / name).read_bytes().startswith(instance.read_header())


@pytest.mark.parametrize("place", ["file", "stored", "deflated"])
@pytest.mark.parametrize(
    "wrap",
    [
        *(pytest.param(zlib.compress, id="zlib"), pytest.param(bytes, id="not deflated")),
        pytest.param(lambda data: zlib.compress(data) + b"\0", id="zlib, padded"),
        pytest.param(deflate, id="bare"),
    ],
)
def test_R47_header_of_a_deflated_file_however_it_is_wrapped(
    tmp_path: Path, wrap: Callable[[bytes], bytes], place: str
) -> None:
    """The header is that of the file as the standard wants it, and pictures can be made."""
    data_set = element(0x00100010, "PN", "Doe^Jane")
    data_set += image_attributes(rows=2, columns=3) + element(0x7FE00010, "OB", b"abcdef")
    right = dicom_file(deflate(data_set), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    expected = pydicom.dcmread(io.BytesIO(right), stop_before_pixels=True)
    path = written(tmp_path, dicom_file(wrap(data_set), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN))
    name = str(path)
    if place != "file":
        method = zipfile.ZIP_STORED if place == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as container:
            container.writestr("before", bytes(99))
            container.write(path, "a.dcm")
        name = f"{tmp_path / 'a.zip'}!/a.dcm"
    with mmindex.open_file(name) as instance:
        found = instance.dataset()
        assert found == expected
        assert found.file_meta == expected.file_meta
        assert instance.frame(0) == b"abcdef"
        assert instance.picture(0).shape == (2, 3)


def test_header_of_a_file_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    """No error of pydicom: the caller can tell a broken header from a file that was removed."""
    path = written(tmp_path, native_file(b"abcd"))
    with mmindex.open(_indexed(tmp_path), revalidate_after=0) as archive:
        instance = archive.file("a.dcm")
        path.unlink()
        with pytest.raises(MissingFileError):
            instance.dataset()
        with pytest.raises(MissingFileError):
            instance.read_header()


def _indexed(folder: Path) -> Path:
    mmindex.build(folder)
    return folder


def test_header_that_pydicom_cannot_read_is_a_format_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says what pydicom said."""

    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("no such header")

    monkeypatch.setattr(pydicom, "dcmread", refuse)
    with (
        mmindex.open_file(native_file(b"abcd")) as instance,
        pytest.raises(FormatError, match="pydicom cannot read the header: no such header"),
    ):
        instance.dataset()


def test_header_of_a_closed_instance_is_an_error() -> None:
    """As every read of one."""
    instance = mmindex.open_file(native_file(b"abcd"))
    instance.close()
    with pytest.raises(ValueError, match="closed"):
        instance.read_header()
