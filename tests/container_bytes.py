"""Tar and zip containers as bytes, written by Python's own modules, with DICOM files in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence

from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
)

UID = 0x00080018  # SOP Instance UID


def native(uid: str, frames: Sequence[bytes] = (b"abcd",)) -> bytes:
    """Return a native file with a UID and frames of 2 x 2 bytes."""
    data_set = element(UID, "UI", uid) + image_attributes(number_of_frames=len(frames))
    return dicom_file(data_set + element(PIXEL_DATA, "OB", b"".join(frames)))


def encapsulated(uid: str, frames: Sequence[bytes]) -> bytes:
    """Return an encapsulated file with a UID, a fragment a frame."""
    data_set = element(UID, "UI", uid) + image_attributes(number_of_frames=len(frames))
    return dicom_file(data_set + encapsulate(frames), JPEG_BASELINE)


def deflated_data_set(uid: str, frame: bytes) -> bytes:
    """Return a file with a UID whose data set is deflated as a whole (PS3.5 A.5)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data_set = element(UID, "UI", uid) + image_attributes() + element(PIXEL_DATA, "OB", frame)
    stream = compressor.compress(data_set) + compressor.flush()
    return dicom_file(stream, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)


def write_tar(files: Iterable[tuple[str, bytes]], tar_format: int = tarfile.GNU_FORMAT) -> bytes:
    """Return a tar container, in which a name may come twice."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tar_format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def write_zip(files: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip container, in which a name may come twice."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as container:
        for name, data in files:
            container.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


def write_deflated(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a zip container of deflated members."""
    return write_zip(files, zipfile.ZIP_DEFLATED)


WRITERS = {"tar": write_tar, "zip": write_zip, "deflated": write_deflated}
