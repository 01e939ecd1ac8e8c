"""Attributes that an index keeps of studies and series: which, of which file, and for how long."""

from __future__ import annotations

import json
import os
import queue
import struct
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import pydicom
import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    image_attributes,
    item,
    sequence,
)
from new_store import create_store
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

import mmindex
from mmindex.errors import IndexWriteError
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.sources.base import WalkRules
from mmindex.update.watch import Watch, WatchEvent

STUDY, SERIES = "1.2.3", "1.2.3.4"
SECOND = 10**9
NAME, PATIENT_ID = 0x00100010, 0x00100020


def header(
    uid: str,
    name: bytes = b"Doe^Jane",
    *,
    study: str = STUDY,
    series: str = SERIES,
    charset: str = "",
    number: str = "7",
    more: bytes = b"",
) -> bytes:
    """Return the elements before the Image Pixel Module, in tag order; `more` is of group 0010."""
    return b"".join(
        (
            element(0x00080005, "CS", charset) if charset else b"",
            element(0x00080018, "UI", uid),
            element(0x00080020, "DA", "20200102"),
            element(0x0008103E, "LO", "Thin slices"),
            element(NAME, "PN", name + b" " * (len(name) % 2)),
            more,
            element(0x0020000D, "UI", study),
            element(0x0020000E, "UI", series),
            element(0x00200011, "IS", number),
        )
    )


def write(
    path: Path, uid: str, name: bytes = b"Doe^Jane", *, at: int = 0, **others: object
) -> None:
    """Write a file of one frame that was changed `at` seconds after 2001."""
    data_set = header(uid, name, **others) + image_attributes(rows=2, columns=2)  # type: ignore[arg-type]
    path.write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OW", b"\1\2\3\4")))
    set_time(path, at)


def set_time(path: Path, at: int) -> None:
    time_ns = (10**9 + at) * SECOND
    os.utime(path, ns=(time_ns, time_ns))


def kept(folder: Path, kind: str = "studies", uid: str = "") -> dict[str, object] | None:
    """Return the values that the index keeps, by tag, and check that the index is whole."""
    store = Store(str(folder / ".mmindex"))
    try:
        store.check()
        found = store.read_attributes(kind, uid or {"studies": STUDY, "series": SERIES}[kind])  # type: ignore[arg-type]
    finally:
        store.close()
    if found is None:
        return None
    return {tag: one.get("Value") for tag, one in json.loads(found.values).items()}


def name_of(folder: Path, uid: str = "") -> object:
    found = kept(folder, uid=uid)
    return None if found is None else found["00100010"][0]["Alphabetic"]  # type: ignore[index]


def build(folder: Path, *attributes: str, **options: object) -> mmindex.BuildReport:
    return mmindex.build(folder, attributes=attributes, workers=1, **options)  # type: ignore[arg-type]


def test_nothing_is_kept_unless_asked(tmp_path: Path) -> None:
    """An index that nobody asked for names no one: not even its bytes do."""
    write(tmp_path / "a", "1")
    build(tmp_path)
    assert kept(tmp_path) is None
    assert b"Jane" not in (tmp_path / ".mmindex").read_bytes()


def test_qido_keeps_what_queries_return(tmp_path: Path) -> None:
    """Of the study and of the series, as PS3.18 10.6.3 lists them; a later build follows."""
    write(tmp_path / "a", "1", more=element(PATIENT_ID, "LO", "P1"))
    build(tmp_path, "qido")
    assert kept(tmp_path) == {
        "00080020": ["20200102"],
        "00100010": [{"Alphabetic": "Doe^Jane"}],
        "00100020": ["P1"],
    }
    assert kept(tmp_path, "series") == {"0008103E": ["Thin slices"], "00200011": [7]}
    write(tmp_path / "b", "2", study="1.9", series="1.9.1", name=b"Roe^Max")
    assert build(tmp_path).scanned == 1
    assert name_of(tmp_path, "1.9") == "Roe^Max"
    assert mmindex.update(tmp_path, [tmp_path / "b"]).unchanged == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_file_that_changed_last_counts(tmp_path: Path, workers: int) -> None:
    """Whatever the order in which files are walked and scanned; of equal times the last path."""
    for number in range(600):
        write(tmp_path / f"{number:03}", f"1.{number}", b"Old^%d" % number, at=number % 300)
    mmindex.build(tmp_path, attributes="qido", workers=workers)
    assert name_of(tmp_path) == "Old^599"
    for number in (5, 6):
        write(tmp_path / f"{number:03}", f"1.{number}", b"New^%d" % number, at=1000)
    mmindex.update(tmp_path, [tmp_path / "006"])
    mmindex.update(tmp_path, [tmp_path / "005"])
    assert name_of(tmp_path) == "New^6"


def test_an_older_file_that_arrives_later_changes_nothing(tmp_path: Path) -> None:
    """An update of one file compares it with the file that the values are of."""
    write(tmp_path / "a", "1", b"A", at=50)
    build(tmp_path, "qido")
    write(tmp_path / "b", "2", b"B", at=49)
    mmindex.update(tmp_path, [tmp_path / "b"])
    assert name_of(tmp_path) == "A"


@pytest.mark.parametrize("by_update", [True, False])
def test_a_removed_file_takes_its_values_along(tmp_path: Path, by_update: bool) -> None:
    """The next newest file's header is read; with the last file all is gone."""
    for at, name in enumerate((b"A", b"B", b"C")):
        write(tmp_path / name.decode(), f"1.{at}", name, at=at)
    build(tmp_path, "qido")
    for left in ("B", "A", None):
        (tmp_path / {"B": "C", "A": "B", None: "A"}[left]).unlink()
        if by_update:
            mmindex.update(
                tmp_path, [tmp_path / "A", tmp_path / "B", tmp_path / "C"], max_removed=9
            )
        else:
            build(tmp_path, max_removed=9)
        assert (name_of(tmp_path) if left else kept(tmp_path)) == left
    with Store_of(tmp_path) as store:
        assert list(store.iterate_uids("studies")) == []


class Store_of:
    def __init__(self, folder: Path) -> None:
        self._store = Store(str(folder / ".mmindex"))

    def __enter__(self) -> Store:
        return self._store

    def __exit__(self, *_: object) -> None:
        self._store.close()


def test_a_file_restored_from_a_backup_gives_way_to_the_others(tmp_path: Path) -> None:
    """Its time is earlier than it was, so another file's values count now."""
    write(tmp_path / "a", "1", b"A", at=10)
    write(tmp_path / "b", "2", b"Wrong", at=20)
    build(tmp_path, "qido")
    assert name_of(tmp_path) == "Wrong"
    write(tmp_path / "b", "2", b"B", at=5)
    mmindex.update(tmp_path, [tmp_path / "b"])
    assert name_of(tmp_path) == "A"


def test_a_file_that_moves_to_another_study_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither its old study's nor its old series' values stay."""
    write(tmp_path / "a", "1", b"A", at=1)
    build(tmp_path, "qido")
    write(tmp_path / "a", "1", b"A", at=2, study="1.9", series="1.9.1")
    build(tmp_path)
    assert kept(tmp_path) is None
    assert kept(tmp_path, "series") is None
    assert name_of(tmp_path, "1.9") == "A"


def test_a_renamed_file_keeps_its_study_s_values(tmp_path: Path) -> None:
    """A build finds them under the new path, also where the path's order is another."""
    write(tmp_path / "z", "1", b"Z", at=10)
    write(tmp_path / "b", "2", b"B", at=5)
    build(tmp_path, "qido")
    (tmp_path / "z").rename(tmp_path / "a")
    build(tmp_path)
    assert name_of(tmp_path) == "Z"


def test_another_set_is_read_from_headers_alone(tmp_path: Path) -> None:
    """No file is scanned again; what is no longer kept is gone from the index."""
    for number in range(5):
        write(
            tmp_path / str(number), f"1.{number}", more=element(PATIENT_ID, "LO", "P1"), at=number
        )
    build(tmp_path)
    for names, expected in (
        (("qido",), ["00080020", "00100010", "00100020"]),
        (("PatientID",), ["00100020"]),
        (("00100010", "SeriesNumber"), ["00100010"]),
    ):
        report = build(tmp_path, *names)
        assert (report.scanned, report.unchanged) == (0, 5)
        found = kept(tmp_path)
        assert found is not None
        assert sorted(found) == expected
    assert kept(tmp_path, "series") == {"00200011": [7]}
    build(tmp_path, "none")
    assert kept(tmp_path) is None
    assert build(tmp_path).unchanged == 5


def test_an_update_follows_the_index_and_refuses_another_set(tmp_path: Path) -> None:
    """Only a build reads the headers that another set takes; a new index takes any."""
    write(tmp_path / "a", "1")
    mmindex.update(tmp_path, [tmp_path / "a"], attributes="PatientName")
    assert name_of(tmp_path) == "Doe^Jane"
    mmindex.update(tmp_path, [tmp_path / "a"], attributes="PatientName")
    with pytest.raises(IndexWriteError, match="keeps other attributes: `mmindex build"):
        mmindex.update(tmp_path, [tmp_path / "a"], attributes="qido")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("PatientNam", "did you mean PatientName"),
        ("qidoo", "did you mean qido"),
        ("patientname", "did you mean PatientName"),
        ("00091001", "private"),
        ("00100011", "expected a keyword or tag"),
        ("0010001", "expected a keyword or tag"),
        ("PixelData", "binary"),
        ("EncapsulatedDocument", "binary"),
        ("TransferSyntaxUID", "no attribute of the data set"),
        ("StudyInstanceUID", "is in every index"),
        ("", "expected a keyword or tag"),
    ],
)
def test_an_attribute_that_cannot_be_kept_is_refused(
    tmp_path: Path, name: str, reason: str
) -> None:
    """Before anything is created, with what may have been meant."""
    with pytest.raises(ValueError, match=reason):
        build(tmp_path, "PatientName", name)
    assert not (tmp_path / ".mmindex").exists()


CHARSETS = {
    "ISO_IR 100": "Müller^Jürgen",
    "ISO_IR 192": "Wang^XiaoDong=王^小东",
    "GB18030": "Wang^XiaoDong=王^小东",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO_IR 144": "Люкceмбypг",  # noqa: RUF001
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
}


@pytest.mark.parametrize("charset", CHARSETS)
def test_text_is_decoded_by_its_character_set(tmp_path: Path, charset: str) -> None:
    """As pydicom reads the file; the index has UTF-8."""
    data_set = Dataset()
    data_set.SpecificCharacterSet = charset.split("\\")
    data_set.PatientName = CHARSETS[charset]
    with DicomBytesIO() as file:
        file.is_little_endian, file.is_implicit_VR = True, False
        write_dataset(file, data_set)
        encoded = file.getvalue()
    name = encoded[encoded.index(b"\x10\0\x10\0PN") + 8 :]
    write(tmp_path / "a", "1", name, charset=charset)
    expected = pydicom.dcmread(tmp_path / "a").PatientName
    assert str(expected) == CHARSETS[charset]
    build(tmp_path, "PatientName")
    found = kept(tmp_path)
    assert found is not None
    groups = found["00100010"][0]  # type: ignore[index]
    assert "=".join(groups.values()) == str(expected)


@pytest.mark.parametrize("charset", ["ISO_IR 999", "nonsense\\\\", "ISO 2022 IR 87", "ISO_IR 192"])
def test_text_in_a_broken_character_set_is_kept_somehow(
    tmp_path: Path, charset: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file is indexed as ever, and neither name nor warning is printed."""
    write(tmp_path / "a", "1", b"\xff\xfe\x1b$BDoe\x1b", charset=charset)
    assert build(tmp_path, "qido").problem_count == 0
    assert kept(tmp_path) is not None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "syntax",
    [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN],
)
def test_values_of_every_encoding(tmp_path: Path, syntax: str) -> None:
    """Numbers, several values and sequences, as pydicom reads them."""
    order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    how = {"order": order, "implicit": syntax == IMPLICIT_VR_LITTLE_ENDIAN}
    size = struct.pack(order + "d", 1.5)
    request = item(element(0x00400009, "SH", "S1", **how), order=order)  # type: ignore[arg-type]
    data_set = b"".join(
        (
            element(0x00080018, "UI", "1", **how),  # type: ignore[arg-type]
            element(NAME, "PN", "Doe^Jane\\Roe^Ann", **how),  # type: ignore[arg-type]
            element(0x0020000D, "UI", STUDY, **how),  # type: ignore[arg-type]
            element(0x0020000E, "UI", SERIES, **how),  # type: ignore[arg-type]
            element(0x00189310, "FD", size, **how),  # type: ignore[arg-type]
            sequence(0x00400275, [request, request], undefined=True, **how),  # type: ignore[arg-type]
        )
    )
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        (tmp_path / "a").write_bytes(deflated_file(data_set))
    else:
        (tmp_path / "a").write_bytes(dicom_file(data_set, syntax))
    build(tmp_path, "PatientName", "RequestAttributesSequence", "TableFeedPerRotation")
    read = pydicom.dcmread(tmp_path / "a")
    assert kept(tmp_path) == {"00100010": [{"Alphabetic": str(name)} for name in read.PatientName]}
    assert kept(tmp_path, "series") == {
        "00189310": [read.TableFeedPerRotation],
        "00400275": [
            {"00400009": {"vr": "SH", "Value": [one.ScheduledProcedureStepID]}}
            for one in read.RequestAttributesSequence
        ],
    }


def test_a_huge_value_is_left_out(tmp_path: Path) -> None:
    """Of a name of a megabyte, and of a hundred long ones, the index does not grow."""
    comments = element(0x00104000, "LT", "x" * 5000)
    write(tmp_path / "a", "1", more=comments, number="9")
    long = element(NAME, "UT", b"N" * (1 << 20))
    data_set = header("2", study="1.9", series="1.9.1").replace(
        element(NAME, "PN", "Doe^Jane"), long
    )
    (tmp_path / "b").write_bytes(dicom_file(data_set))
    build(tmp_path, "PatientName", "PatientComments", "SeriesNumber")
    assert kept(tmp_path) == {"00100010": [{"Alphabetic": "Doe^Jane"}]}
    assert kept(tmp_path, uid="1.9") == {}
    assert (tmp_path / ".mmindex").stat().st_size < 1 << 20


def test_many_long_values_are_bounded_together(tmp_path: Path) -> None:
    """The last ones are left out: what is kept of a study has at most some 32 KiB."""
    tags = range(0x00102110, 0x00102210)
    known = [tag for tag in tags if pydicom.datadict.dictionary_has_tag(tag)]
    texts = b"".join(element(tag, "UT", b"\xe9" * 4096) for tag in known)
    write(tmp_path / "a", "1", more=texts, charset="ISO_IR 100")
    build(tmp_path, *(f"{tag:08X}" for tag in known))
    found = kept(tmp_path)
    assert found is not None
    assert len(json.dumps(found, ensure_ascii=False).encode()) < 33_000


@pytest.mark.parametrize(
    "broken",
    [
        sequence(0x00101002, [item(element(PATIENT_ID, "LO", "x"))])[:-3] + b"\xff\xff\xff",
        element(0x00101002, "SQ", b"\xfe\xff\0\xe0\xff\xff\xff\xff" * 400),
        element(0x00101002, "UN", b"\0" * 6),
        element(0x00101020, "DS", "1e999"),
        element(0x00101020, "DS", "nonsense"),
        element(0x00101020, "FD", b"\1\2\3\4"),
        element(0x00101020, "SQ", b"1.5 "),
    ],
)
def test_a_broken_value_is_left_out(tmp_path: Path, broken: bytes) -> None:
    """The file's frames and its other values are there."""
    write(tmp_path / "a", "1", more=broken)
    build(tmp_path, "PatientName", "00101002", "00101020")
    assert name_of(tmp_path) == "Doe^Jane"


def test_files_in_containers_bring_their_values(tmp_path: Path) -> None:
    """A member counts by its container's time; when it is gone, another member's header is read."""
    for name in ("a", "b"):
        write(tmp_path / name, f"1.{name == 'b':d}", name.encode())
    files = {name: (tmp_path / name).read_bytes() for name in ("a", "b")}
    for name in files:
        (tmp_path / name).unlink()

    def pack(*names: str, how: int, at: int) -> None:
        with zipfile.ZipFile(tmp_path / "study.zip", "w", how) as file:
            for name in names:
                file.writestr(name, files[name])
        set_time(tmp_path / "study.zip", at)

    pack("a", "b", how=zipfile.ZIP_STORED, at=1)
    build(tmp_path, "PatientName")
    assert name_of(tmp_path) == "b"
    pack("a", how=zipfile.ZIP_DEFLATED, at=1)
    build(tmp_path)
    assert name_of(tmp_path) == "a"
    build(tmp_path, "qido")
    assert name_of(tmp_path) == "a"
    build(tmp_path, containers=False)
    assert kept(tmp_path) is None


def test_an_unreadable_file_brings_nothing(tmp_path: Path) -> None:
    """Its header may be as wrong as its frames: the other file's values count."""
    write(tmp_path / "a", "1", b"A", at=1)
    data_set = header("2", b"B") + image_attributes(rows=2, columns=2)
    whole = dicom_file(data_set + element(PIXEL_DATA, "OB", b"1234", length=0xFFFFFFFF))
    (tmp_path / "b").write_bytes(whole)
    report = build(tmp_path, "qido")
    assert report.statuses == {"indexed": 1, "unreadable": 1}
    assert name_of(tmp_path) == "A"


def test_merged_indexes_keep_what_all_of_them_keep(tmp_path: Path) -> None:
    """The newest file's values, whichever index has it; different sets are dropped."""
    for part, at in (("a", 1), ("b", 9), ("c", 5)):
        (tmp_path / part).mkdir()
        write(tmp_path / part / "x", f"1.{at}", part.upper().encode(), at=at)
        build(tmp_path / part, "qido")
    parts = [tmp_path / part for part in ("a", "b", "c")]
    mmindex.merge(tmp_path / ".mmindex", parts, root=tmp_path)
    assert name_of(tmp_path) == "B"
    assert build(tmp_path).unchanged == 3
    assert name_of(tmp_path) == "B"
    (tmp_path / "b" / "x").unlink()
    build(tmp_path)
    assert name_of(tmp_path) == "C"
    build(tmp_path / "a", "PatientID")
    mmindex.merge(tmp_path / ".mmindex", parts)
    assert kept(tmp_path) is None
    with Store_of(tmp_path) as store:
        assert store.read_attribute_set() is None


def test_compaction_keeps_them(tmp_path: Path) -> None:
    """The set and the values."""
    for number in range(50):
        write(tmp_path / str(number), f"1.{number}", at=number)
    build(tmp_path, "qido")
    build(tmp_path, full=True)
    before = kept(tmp_path)
    mmindex.compact(tmp_path)
    assert kept(tmp_path) == before
    assert build(tmp_path).unchanged == 50


def test_a_full_build_and_builds_file_by_file_agree(tmp_path: Path) -> None:
    """The values are a function of the files, not of how the index came to know them."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(12):
        series = f"1.2.3.{number % 3}"
        write(
            folder / f"{number:02}",
            f"1.{number}",
            b"N%d" % number,
            at=number * 7 % 5,
            series=series,
        )
    indexes = [str(tmp_path / name) for name in ("one", "two", "three")]
    mmindex.build(folder, indexes[0], attributes="qido", workers=1)
    for number in (7, 3, 11, 0, 5, 2, 9, 1, 10, 4, 8, 6):
        mmindex.update(folder, [folder / f"{number:02}"], indexes[1], attributes="qido")
    mmindex.build(folder, indexes[2], workers=1)
    mmindex.build(folder, indexes[2], attributes="qido", workers=1)
    found = []
    for index in indexes:
        store = Store(index)
        store.check()
        found.append(
            [
                (uid, store.read_attributes(kind, uid))
                for kind in ("studies", "series")
                for uid in store.iterate_uids(kind)
            ]
        )
        store.close()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 4


def test_an_archive_that_is_away_keeps_its_values(tmp_path: Path) -> None:
    """A build that refuses because all files are gone has changed no set and dropped no value."""
    write(tmp_path / "a", "1")
    build(tmp_path, "qido")
    (tmp_path / "a").rename(tmp_path.parent / f"{tmp_path.name}-away")
    before = kept(tmp_path)
    for names in (("PatientID",), ("none",), ("PatientName",)):
        with pytest.raises(IndexWriteError, match="nothing was dropped"):
            build(tmp_path, *names)
        assert kept(tmp_path) == before
    (tmp_path.parent / f"{tmp_path.name}-away").rename(tmp_path / "a")
    build(tmp_path, "PatientName")
    assert kept(tmp_path) == {"00100010": [{"Alphabetic": "Doe^Jane"}]}


def test_dropped_values_leave_the_file_with_a_compaction(tmp_path: Path) -> None:
    """Before, their bytes may be in pages that nothing uses."""
    for number in range(30):
        write(tmp_path / str(number), f"1.{number}", study=f"1.2.{number}")
    build(tmp_path, "qido")
    index = tmp_path / ".mmindex"
    assert b"Doe^Jane" in index.read_bytes()
    build(tmp_path, "none")
    mmindex.compact(tmp_path)
    assert b"Doe^Jane" not in index.read_bytes()


def test_a_multiframe_with_a_long_table_is_read_by_its_header_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another set scans no frames."""
    write(tmp_path / "a", "1")
    build(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("frames are scanned")

    monkeypatch.setattr(sys.modules["mmindex.update.scan_buffer"], "scan_frames", refuse)
    build(tmp_path, "qido")
    assert name_of(tmp_path) == "Doe^Jane"


def test_a_file_that_another_program_replaced_is_noticed(tmp_path: Path) -> None:
    """One that knows no attributes left the values of a file that is gone: they are read again."""
    write(tmp_path / "a", "1", b"A", at=1)
    write(tmp_path / "b", "2", b"B", at=2)
    build(tmp_path, "qido")
    store = create_store(str(tmp_path / ".mmindex"), os.fsencode(tmp_path))
    stale = store.read_attributes("studies", STUDY)
    assert stale is not None
    store.write_attributes("studies", {STUDY: stale._replace(path=b"gone")})
    store.close()
    assert build(tmp_path).unchanged == 2
    with Store_of(tmp_path) as store:
        assert store.read_attributes("studies", STUDY) == stale


def test_a_watch_keeps_them_of_files_that_arrive(tmp_path: Path) -> None:
    """From its first build on, and in each update."""
    pytest.importorskip("watchfiles")
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder / "a", "1", b"A", at=1)
    stop, events = threading.Event(), queue.Queue[WatchEvent]()
    watch = Watch(folder, None, events.put, stop, rules=WalkRules(), attributes="PatientName")
    thread = threading.Thread(target=watch.run)
    thread.start()
    try:
        assert events.get(timeout=30).kind == "build"
        assert name_of(folder) == "A"
        write(tmp_path / "b", "2", b"B", at=2)
        (tmp_path / "b").rename(folder / "b")
        assert events.get(timeout=30).kind == "update"
        assert name_of(folder) == "B"
    finally:
        stop.set()
        thread.join(30)
    with pytest.raises(ValueError, match="did you mean"):
        Watch(folder, None, events.put, stop, rules=WalkRules(), attributes="PatientNme")


def test_a_record_that_is_written_anew_keeps_its_values(tmp_path: Path) -> None:
    """Of the same path and time, as of a file with another inode; of another path it does not."""
    write(tmp_path / "a", "1", b"A", at=1)
    write(tmp_path / "b", "2", b"B", at=2)
    build(tmp_path, "qido")
    before = kept(tmp_path), kept(tmp_path, "series")
    store = create_store(str(tmp_path / ".mmindex"), os.fsencode(tmp_path))
    try:
        for path in (b"a", b"b"):
            record = store.read_path(path)
            assert record is not None
            assert record.fingerprint is not None
            other = record.fingerprint._replace(inode=7)
            store.replace([pack_record(record, path, other)])
            assert not store.unknown_attributes
        assert (kept(tmp_path), kept(tmp_path, "series")) == before
        (known,) = store.find_paths([b"b"])
        assert known is not None
        store.replace([pack_record(record, b"c")], removed=[known[0]])
        assert store.unknown_attributes == {("studies", STUDY), ("series", SERIES)}
    finally:
        store.close()
    assert kept(tmp_path) is None


@pytest.mark.parametrize("is_update", [False, True])
def test_a_refused_removal_keeps_the_attributes_of_files_that_changed(
    tmp_path: Path, is_update: bool
) -> None:
    """While a folder is away, what counts for a study that changed is read all the same."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    away = root / "away"
    away.mkdir(parents=True)
    write(away / "c", "3", study="1.9", series="1.9.1")
    write(root / "a", "1", b"From A", at=10)
    write(root / "b", "2", b"From B", at=5)
    build(root, "qido")
    assert name_of(root) == "From A"
    away.rename(elsewhere)
    write(root / "a", "1", b"From Z", at=1)
    look = partial(mmindex.update, root, [root / "a", away]) if is_update else partial(build, root)
    with pytest.raises(IndexWriteError, match="expected at most 0 to be gone"):
        look(max_removed=0)
    assert name_of(root) == "From B"
