"""`merge`: indexes of sub-folders, built apart, are one index of all; no file is scanned."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from cli_runner import run as run_command
from dicom_bytes import PIXEL_DATA, dicom_file, element, image_attributes

import mmindex
from mmindex.errors import IndexFormatError, IndexWriteError, MissingFileError
from mmindex.index import merge as merge_module
from mmindex.index.merge import merge_indexes
from mmindex.index.store import Store
from mmindex.model import InstanceRecord

SOP_INSTANCE_UID, STUDY_INSTANCE_UID = 0x00080018, 0x0020000D
STUDY_DATE, PATIENT_ID = 0x00080020, 0x00100020


def image(uid: str, pixels: bytes) -> bytes:
    """Return a file with frames of four bytes, all of one study."""
    data_set = element(SOP_INSTANCE_UID, "UI", uid) + element(STUDY_DATE, "DA", "20240131")
    data_set += element(PATIENT_ID, "LO", "4711") + element(STUDY_INSTANCE_UID, "UI", "1.2")
    data_set += image_attributes(number_of_frames=len(pixels) // 4)
    return dicom_file(data_set + element(PIXEL_DATA, "OW", pixels))


def write_images(folder: Path, year: int, count: int = 3) -> Path:
    """Write number 2 of 2024 as ward/2.dcm with UID 2024.2 and pixels 2024 and 0002."""
    (folder / "ward").mkdir(parents=True)
    for number in range(count):
        content = image(f"{year}.{number}", b"%04d%04d" % (year, number))
        (folder / "ward" / f"{number}.dcm").write_bytes(content)
    return folder


def build(root: Path, index: Path) -> Path:
    mmindex.build(root, index, workers=1)
    return index


def read_records(index: Path) -> dict[bytes, InstanceRecord]:
    with mmindex.open(index) as archive:
        return {record.path: record for record in archive.records()}


run = partial(run_command, "merge")


@pytest.fixture
def years(tmp_path: Path) -> list[Path]:
    """Indexes of two folders of one archive."""
    indexes = []
    for year in (2024, 2025):
        folder = write_images(tmp_path / "archive" / str(year), year)
        indexes.append(build(folder, tmp_path / f"{year}.index"))
    return indexes


# Roots


def assert_serves_both_years(index: Path, prefix: str = "") -> None:
    with mmindex.open(index) as archive:
        assert len(archive) == 6
        for year in (2024, 2025):
            for number in range(3):
                frames = [b"%04d" % year, b"%04d" % number]
                assert list(archive[f"{year}.{number}"]) == frames
                assert list(archive.file(f"{prefix}{year}/ward/{number}.dcm")) == frames
                assert archive.frame(f"{year}.{number}", 1) == frames[1]
        assert len(list(archive.instances(study_instance_uid="1.2"))) == 6


def test_folders_built_apart_are_read_by_uid_and_path(tmp_path: Path, years: list[Path]) -> None:
    """Paths count from the folder that all roots share."""
    report = merge_indexes(tmp_path / "all", years)
    assert (report.index, report.root) == (str(tmp_path / "all"), str(tmp_path / "archive"))
    assert report.files == 6
    assert_serves_both_years(tmp_path / "all")


def test_merged_is_what_one_build_of_all_makes(tmp_path: Path, years: list[Path]) -> None:
    """Records are the same, and the next build of the whole finds nothing to do."""
    merge_indexes(tmp_path / "all", years)
    build(tmp_path / "archive", tmp_path / "fresh")
    assert read_records(tmp_path / "all") == read_records(tmp_path / "fresh")
    report = mmindex.build(tmp_path / "archive", tmp_path / "all", workers=1)
    assert (report.unchanged, report.scanned, report.removed) == (6, 0, 0)


def test_a_folder_stands_for_the_index_in_it(tmp_path: Path, years: list[Path]) -> None:
    """As for every other command."""
    for year in (tmp_path / "archive").iterdir():
        mmindex.build(year, workers=1)
    merge_indexes(tmp_path / "all", sorted((tmp_path / "archive").iterdir()))
    merge_indexes(tmp_path / "apart", years)
    assert read_records(tmp_path / "all").keys() == read_records(tmp_path / "apart").keys()


def test_a_root_above_is_kept(tmp_path: Path, years: list[Path]) -> None:
    """Paths then begin with the steps down from it."""
    report = merge_indexes(tmp_path / "all", years, root=tmp_path)
    assert report.root == str(tmp_path)
    assert_serves_both_years(tmp_path / "all", "archive/")


def test_an_index_inside_the_archive_keeps_a_portable_root(
    tmp_path: Path, years: list[Path]
) -> None:
    """An archive whose merged index lies in it can be moved as a whole."""
    merge_indexes(tmp_path / "archive" / ".mmindex", years)
    (tmp_path / "archive").rename(tmp_path / "moved")
    assert_serves_both_years(tmp_path / "moved")


def test_one_index_alone_keeps_its_root(tmp_path: Path, years: list[Path]) -> None:
    """Nothing is put before its paths."""
    merge_indexes(tmp_path / "copy", years[:1])
    assert read_records(tmp_path / "copy") == read_records(years[0])
    with mmindex.open(tmp_path / "copy") as archive:
        assert archive.root == str(tmp_path / "archive" / "2024")


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """Roots are bytes, as paths are."""
    name = os.fsdecode(b"ward \xff")
    try:
        folder = write_images(tmp_path / "archive" / name, 2024)
    except OSError as error:
        pytest.skip(f"no such names here: {error}")
    index = build(folder, tmp_path / "index")
    merge_indexes(tmp_path / "all", [index], root=tmp_path / "archive")
    with mmindex.open(tmp_path / "all") as archive:
        assert archive.file(os.fsencode(name) + b"/ward/2.dcm")[1] == b"0002"


def test_a_linked_folder_counts_as_where_it_leads(tmp_path: Path, years: list[Path]) -> None:
    """An index that was built through a link to a folder of the archive is of that folder."""
    (tmp_path / "link").symlink_to(tmp_path / "archive" / "2024")
    linked = build(tmp_path / "link", tmp_path / "linked")
    merge_indexes(tmp_path / "all", [linked, years[1]])
    assert_serves_both_years(tmp_path / "all")


# What OUT holds already


def test_an_index_is_added_to(tmp_path: Path, years: list[Path]) -> None:
    """The second merge keeps what the first one put there, and the root."""
    merge_indexes(tmp_path / "all", years[:1], root=tmp_path / "archive")
    report = merge_indexes(tmp_path / "all", years[1:])
    assert (report.files, report.root) == (3, str(tmp_path / "archive"))
    assert_serves_both_years(tmp_path / "all")


def test_a_file_that_is_known_is_replaced(tmp_path: Path, years: list[Path]) -> None:
    """A sub-folder's later build brings its changed files up to date, each once."""
    merge_indexes(tmp_path / "all", years)
    folder = tmp_path / "archive" / "2024"
    (folder / "ward" / "2.dcm").write_bytes(image("2024.2", b"anew"))
    (folder / "added.dcm").write_bytes(image("2024.9", b"more"))
    build(folder, years[0])
    merge_indexes(tmp_path / "all", years[:1])
    assert len(read_records(tmp_path / "all")) == 7
    with mmindex.open(tmp_path / "all") as archive:
        assert list(archive["2024.2"]) == [b"anew"]
        assert archive.frame("2024.9", 0) == b"more"
        assert list(archive.duplicates()) == []


def test_overlapping_indexes_have_each_file_once(tmp_path: Path, years: list[Path]) -> None:
    """A folder's index, its parent's, and the same one twice."""
    whole = build(tmp_path / "archive", tmp_path / "whole")
    merge_indexes(tmp_path / "all", [years[0], whole, years[1], years[1]])
    with mmindex.open(tmp_path / "all") as archive:
        assert len(list(archive.records())) == 6
        assert list(archive.duplicates()) == []
    assert_serves_both_years(tmp_path / "all")


def test_many_files_go_in_batches(
    tmp_path: Path, years: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither files nor bytes are gathered without bound, and none is lost between batches."""
    sizes = []
    replace = Store.replace

    def record_size(store: Store, packed: list[bytes], *arguments: object) -> None:
        sizes.append(len(packed))
        replace(store, packed, *arguments)

    monkeypatch.setattr(Store, "replace", record_size)
    monkeypatch.setattr(merge_module, "_BATCH_FILES", 2)
    merge_indexes(tmp_path / "all", years)
    assert max(sizes) == 2
    monkeypatch.setattr(merge_module, "_BATCH_FILES", 10_000)
    monkeypatch.setattr(merge_module, "_BATCH_BYTES", 1)
    merge_indexes(tmp_path / "by-bytes", years)
    assert max(sizes) == 2
    assert_serves_both_years(tmp_path / "all")
    assert_serves_both_years(tmp_path / "by-bytes")


def test_an_index_merged_into_itself_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OUT among the indexes is refused; its records are not copied without end."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number}").write_bytes(image(f"1.{number}", b"%04d" % number))
    index = build(folder, tmp_path / "index")
    before = read_records(index)
    copied = 0
    replace = Store.replace

    def count(store: Store, packed: list[bytes], *arguments: object) -> None:
        nonlocal copied
        copied += len(packed)
        assert copied <= 600, "records are copied again and again"
        replace(store, packed, *arguments)

    monkeypatch.setattr(Store, "replace", count)
    monkeypatch.setattr(merge_module, "_BATCH_FILES", 100)
    with pytest.raises(IndexWriteError, match="itself"):
        merge_indexes(index, [index])
    assert read_records(index) == before


# What is refused


def test_an_archive_outside_the_root_is_refused(tmp_path: Path, years: list[Path]) -> None:
    """Its files can't have paths under the root, neither beside it nor above it."""
    folder = tmp_path / "archive" / "2024"
    with pytest.raises(IndexWriteError, match=r"2025, is not under .*2024, the root"):
        merge_indexes(tmp_path / "beside-it", years[1:], root=folder)
    with pytest.raises(IndexWriteError, match="is not under"):
        merge_indexes(tmp_path / "above-it", years[:1], root=folder / "ward")
    write_images(tmp_path / "archive" / "2024-beside", 2026)
    beside = build(tmp_path / "archive" / "2024-beside", tmp_path / "beside")
    with pytest.raises(IndexWriteError, match="is not under"):
        merge_indexes(tmp_path / "like-it", [beside], root=folder)


def test_a_refused_merge_leaves_no_new_index(tmp_path: Path, years: list[Path]) -> None:
    """Nothing is made beside a mistake."""
    with pytest.raises(IndexWriteError, match="is not under"):
        merge_indexes(tmp_path / "all", years, root=tmp_path / "archive" / "2024")
    assert not (tmp_path / "all").exists()


def test_a_refused_merge_changes_no_index(tmp_path: Path, years: list[Path]) -> None:
    """Roots are looked at before the first record is copied."""
    merge_indexes(tmp_path / "all", years[:1])
    (tmp_path / "archive" / "2024" / "added.dcm").write_bytes(image("2024.9", b"more"))
    build(tmp_path / "archive" / "2024", years[0])
    before = read_records(tmp_path / "all")
    with pytest.raises(IndexWriteError, match="is not under"):
        merge_indexes(tmp_path / "all", years)
    assert read_records(tmp_path / "all") == before


def test_an_index_that_is_missing_or_none_is_refused(tmp_path: Path, years: list[Path]) -> None:
    """Wherever it stands among the others, nothing is made."""
    (tmp_path / "text").write_bytes(b"no index" * 100)
    with pytest.raises(MissingFileError, match="no such index"):
        merge_indexes(tmp_path / "all", [*years, tmp_path / "none"])
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        merge_indexes(tmp_path / "all", [*years, tmp_path / "text"])
    with pytest.raises(MissingFileError, match=r"archive/.mmindex: .*index"):
        merge_indexes(tmp_path / "all", [*years, tmp_path / "archive"])
    assert not (tmp_path / "all").exists()


def test_out_that_is_no_index_is_refused(tmp_path: Path, years: list[Path]) -> None:
    """A file of somebody else's is not written to."""
    (tmp_path / "text").write_bytes(b"no index" * 100)
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        merge_indexes(tmp_path / "text", years)
    assert (tmp_path / "text").read_bytes() == b"no index" * 100


def test_out_that_a_build_writes_is_refused(tmp_path: Path, years: list[Path]) -> None:
    """A merge waits for nobody; the build goes on."""
    refused = []

    def merge(report: mmindex.BuildReport) -> None:
        with pytest.raises(IndexWriteError, match="another build of this index is at work"):
            merge_indexes(tmp_path / "all", years)
        refused.append(report.scanned)

    mmindex.build(tmp_path / "archive", tmp_path / "all", workers=1, progress=merge)
    assert refused
    assert_serves_both_years(tmp_path / "all")


def test_source_indexes_stay_as_they_are(tmp_path: Path, years: list[Path]) -> None:
    """Not a byte of them changes, and they go on serving their own folders."""
    before = [(index.read_bytes(), index.stat().st_mtime_ns) for index in years]
    merge_indexes(tmp_path / "all", years)
    assert [(index.read_bytes(), index.stat().st_mtime_ns) for index in years] == before
    with mmindex.open(years[0]) as archive:
        assert archive.file("ward/1.dcm")[1] == b"0001"


# Attributes


def keep(root: Path, index: Path, *names: str) -> Path:
    mmindex.build(root, index, workers=1, attributes=names)
    return index


def attributes_of(index: Path) -> dict[str, object]:
    with mmindex.open(index) as archive:
        (study,) = archive.studies()
        return study.attributes


def test_attributes_that_differ_are_dropped_and_named(tmp_path: Path, years: list[Path]) -> None:
    """Those of OUT, too, where it kept some; where all keep the same ones, none is dropped."""
    one, other = (tmp_path / "archive" / year for year in ("2024", "2025"))
    keep(one, years[0], "PatientID", "StudyDate")
    out = tmp_path / "all"
    report = merge_indexes(out, years)  # the other one keeps none
    assert report.dropped_attributes == ("PatientID", "StudyDate")
    assert attributes_of(out) == {}

    keep(other, years[1], "StudyDate", "PatientID")
    same = merge_indexes(tmp_path / "same", years)
    assert same.dropped_attributes == ()
    assert attributes_of(tmp_path / "same").keys() == {"PatientID", "StudyDate"}

    keep(other, years[1], "StudyDate", "StudyDescription")
    report = merge_indexes(tmp_path / "same", [years[1]])  # which kept others until now
    assert report.dropped_attributes == ("StudyDate", "StudyDescription", "PatientID")
    assert attributes_of(tmp_path / "same") == {}
