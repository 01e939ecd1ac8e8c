"""Attributes as hex with their meaning beside, for readers in other languages."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import lmdb
import pytest
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes
from new_store import create_store

import mmindex
from mmindex.attributes import AttributeSet, unpack_values
from mmindex.errors import IndexFormatError
from mmindex.index.attributes import KeptValues
from mmindex.index.checksum import DamageError

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "attributes"


@pytest.mark.parametrize("name", ["study", "series"])
def test_a_vector_means_what_stands_beside_it(name: str) -> None:
    """Both ways: 8 bytes of time, 4 of the path's length, the path, JSON in UTF-8."""
    packed = bytes.fromhex((VECTORS / f"{name}.hex").read_text())
    meaning = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    found = KeptValues.unpack(packed)
    assert found.time_ns == meaning["time_ns"]
    assert found.path == meaning["path"].encode()
    assert unpack_values(found.values) == meaning["values"]
    values = json.dumps(meaning["values"], ensure_ascii=False, separators=(",", ":")).encode()
    path = meaning["path"].encode()
    assert packed == struct.pack("<qI", meaning["time_ns"], len(path)) + path + values
    assert found.pack() == packed


def write(path: Path) -> None:
    data_set = element(0x00080018, "UI", "1.5") + element(0x00100010, "PN", "Doe^Jane")
    data_set += element(0x0020000D, "UI", "1.2") + element(0x0020000E, "UI", "1.3")
    data_set += element(0x00200011, "IS", "7") + image_attributes(rows=1, columns=2)
    path.write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OB", b"ab")))


def test_the_bytes_in_the_file_are_those_of_the_format(tmp_path: Path) -> None:
    """Read by LMDB alone: keys, checksums, and which attributes are kept."""
    write(tmp_path / "a.dcm")
    mmindex.build(tmp_path, attributes="PatientName,SeriesNumber", workers=1)
    time_ns = (tmp_path / "a.dcm").stat().st_mtime_ns

    def seal(key: bytes, value: bytes) -> bytes:
        return value + struct.pack("<I", zlib.crc32(key + value))

    head = struct.pack("<qI", time_ns, 5) + b"a.dcm"
    of_study = b'{"00100010":{"vr":"PN","Value":[{"Alphabetic":"Doe^Jane"}]}}'
    of_series = b'{"00200011":{"vr":"IS","Value":[7]}}'
    kept = b'{"studies":{"PatientName":"00100010"},"series":{"SeriesNumber":"00200011"}}'
    with lmdb.open(str(tmp_path / ".mmindex"), subdir=False, max_dbs=20, readonly=True) as env:
        meta, attributes = (env.open_db(name, create=False) for name in (b"meta", b"attributes"))
        with env.begin() as txn:
            assert txn.get(b"attributes", db=meta) == seal(b"attributes", kept)
            with txn.cursor(attributes) as cursor:
                assert list(cursor) == [
                    (b"E1.3", seal(b"E1.3", head + of_series)),
                    (b"T1.2", seal(b"T1.2", head + of_study)),
                ]


@pytest.mark.parametrize("packed", [b"", b"\0" * 11, struct.pack("<qI", 0, 9) + b"a.dcm"])
def test_cut_values_are_damage(packed: bytes) -> None:
    """A length that runs past the end is told, not read."""
    with pytest.raises(DamageError):
        KeptValues.unpack(packed)


@pytest.mark.parametrize("packed", [b"", b"[]", b"{}", b'{"studies":{},"series":{"a":1}}', b"\xff"])
def test_what_is_no_set_of_attributes_is_damage(packed: bytes) -> None:
    """A ValueError, whatever the bytes are."""
    with pytest.raises(ValueError):  # noqa: PT011
        AttributeSet.unpack(packed)


def test_damaged_values_are_told(tmp_path: Path) -> None:
    """A bit that flipped, and JSON that is none: IndexFormatError, of both who read."""
    write(tmp_path / "a.dcm")
    mmindex.build(tmp_path, attributes="PatientName", workers=1)
    store = create_store(str(tmp_path / ".mmindex"), b".")
    known = store.read_attributes("studies", "1.2")
    assert known is not None
    store.write_attributes("studies", {"1.2": known._replace(values=b"{")})
    store.close()
    with mmindex.open(tmp_path) as archive, pytest.raises(IndexFormatError, match="rebuild"):
        archive.attributes("1.2")
    with lmdb.open(str(tmp_path / ".mmindex"), subdir=False, max_dbs=20) as env:
        attributes = env.open_db(b"attributes", create=False)
        with env.begin(write=True, db=attributes) as txn:
            txn.put(b"T1.2", txn.get(b"T1.2")[:-1] + b"\0")
    with mmindex.open(tmp_path) as archive, pytest.raises(IndexFormatError, match="damaged"):
        list(archive.studies())
