"""Studies, series and duplicates of an archive, held against the files that were written."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_bytes import (
    HEVC,
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    native_file,
)

import mmindex
from mmindex import Series, Study
from mmindex.errors import InstanceNotFoundError

CT, MR, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.3.66"


def file_of(
    uid: str, study: str, series: str, *, frames: int = 0, modality: str = "CT", sop_class: str = CT
) -> bytes:
    """Return a file with so many native frames of four bytes; without pixel data where none."""
    texts = {0x00080016: sop_class, 0x00080018: uid, 0x00080060: modality}
    texts |= {0x0020000D: study, 0x0020000E: series}
    data_set = b"".join(
        element(tag, "CS" if tag == 0x00080060 else "UI", text)
        for tag, text in texts.items()
        if text
    )
    if frames:
        data_set += image_attributes(number_of_frames=frames)
        data_set += element(PIXEL_DATA, "OW", bytes(4 * frames))
    return dicom_file(data_set)


FILES = {
    "a/1.dcm": file_of("1.1", "9.1", "9.1.1", frames=3),
    "a/2.dcm": file_of("1.2", "9.1", "9.1.1", frames=2, sop_class=SEG),
    "a/report.dcm": file_of("1.3", "9.1", "9.1.2", modality="SR", sop_class=SEG),
    "a/no-uid.dcm": file_of("", "9.1", "9.1.2", frames=4, modality="SR"),
    "b/1.dcm": file_of("2.1", "9.2", "9.2.1", frames=1, modality="MR", sop_class=MR),
    "b/no-series.dcm": file_of("2.2", "9.2", "", frames=1, modality="", sop_class=""),
    "both/1.dcm": file_of("3.1", "9.1", "9.3", frames=1),
    "both/2.dcm": file_of("3.2", "9.2", "9.3", frames=2, modality=""),
    "no-study.dcm": file_of("4.1", "", "9.4", frames=1),
    "nothing.dcm": native_file(bytes(4), vr="OB"),
    "note.txt": b"hello",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    mmindex.build(tmp_path, workers=1)
    return tmp_path


@pytest.fixture
def archive(root: Path) -> Iterator[mmindex.Archive]:
    with mmindex.open(root) as opened:
        yield opened


def bytes_of(*names: str) -> int:
    return sum(len(FILES[name]) for name in names)


def test_studies_are_counted_in_the_order_of_their_uids(archive: mmindex.Archive) -> None:
    """Instances without frames count, frames of instances without UID, too."""
    assert list(archive.studies()) == [
        Study(
            study_instance_uid="9.1",
            modalities=("CT", "SR"),
            number_of_series=3,
            number_of_instances=5,
            number_of_frames=3 + 2 + 4 + 1,
            bytes=bytes_of("a/1.dcm", "a/2.dcm", "a/report.dcm", "a/no-uid.dcm", "both/1.dcm"),
        ),
        Study(
            study_instance_uid="9.2",
            modalities=("MR",),
            number_of_series=2,
            number_of_instances=3,
            number_of_frames=1 + 1 + 2,
            bytes=bytes_of("b/1.dcm", "b/no-series.dcm", "both/2.dcm"),
        ),
    ]


def test_series_of_a_study_are_counted_in_the_order_of_their_uids(
    archive: mmindex.Archive,
) -> None:
    """A series that is in two studies is counted with the part that is in this one."""
    assert list(archive.series("9.1")) == [
        Series("9.1", "9.1.1", "CT", 2, 5, (SEG, CT), bytes_of("a/1.dcm", "a/2.dcm")),
        Series("9.1", "9.1.2", "SR", 2, 4, (SEG, CT), bytes_of("a/report.dcm", "a/no-uid.dcm")),
        Series("9.1", "9.3", "CT", 1, 1, (CT,), bytes_of("both/1.dcm")),
    ]


def test_series_of_the_archive_are_those_of_all_studies_and_of_none(
    archive: mmindex.Archive,
) -> None:
    """One that is in two studies comes once for each."""
    found = [(each.study_instance_uid, each.series_instance_uid) for each in archive.series()]
    assert found == [
        *(("9.1", "9.1.1"), ("9.1", "9.1.2"), ("9.2", "9.2.1")),
        *(("9.1", "9.3"), ("9.2", "9.3"), ("", "9.4")),
    ]
    by_study = [
        each for study in archive.studies() for each in archive.series(study.study_instance_uid)
    ]
    assert sorted(by_study, key=repr) == sorted(
        (each for each in archive.series() if each.study_instance_uid), key=repr
    )


@pytest.mark.parametrize("uid", ["1.2.3", "", "9.1.1", "9", "\u20ac", "9" * 600])
def test_an_unknown_study_is_no_empty_one(archive: mmindex.Archive, uid: str) -> None:
    """A slip in a UID does not pass for a study without series."""
    with pytest.raises(InstanceNotFoundError, match="the index has no Study Instance UID"):
        archive.series(uid)
    with pytest.raises(InstanceNotFoundError, match="the index has no Study Instance UID"):
        archive.instances(study_instance_uid=uid)


@pytest.mark.parametrize("uid", ["1.2.3", "", "9.1", "9.1.1.1"])
def test_an_unknown_series_is_no_empty_one(archive: mmindex.Archive, uid: str) -> None:
    """Also beside a study that is known."""
    for study in (None, "9.1"):
        with pytest.raises(InstanceNotFoundError, match="the index has no Series Instance UID"):
            archive.instances(study_instance_uid=study, series_instance_uid=uid)


def test_a_known_study_or_series_may_have_no_frames(archive: mmindex.Archive, root: Path) -> None:
    """What is known and has none is an empty list."""
    assert list(archive.instances(study_instance_uid="9.2", series_instance_uid="9.1.1")) == []
    (root / "c").mkdir()
    (root / "c" / "1.dcm").write_bytes(file_of("5.1", "9.5", "9.5.1"))
    mmindex.build(root, workers=1)
    assert list(archive.instances(study_instance_uid="9.5")) == []
    (series,) = archive.series("9.5")
    assert (series.number_of_instances, series.number_of_frames) == (1, 0)


def test_an_instance_in_several_files_is_counted_once_and_as_it_is_served(
    archive: mmindex.Archive, root: Path
) -> None:
    """The frames are those of the file that was changed last; the bytes are those of all files."""
    older = file_of("1.1", "9.1", "9.1.1", frames=7)
    for name, seconds in (("older.dcm", 1), ("newer.dcm", 4_000_000_000)):
        frames = older if name == "older.dcm" else file_of("1.2", "9.1", "9.1.1", frames=9)
        (root / name).write_bytes(frames)
        os.utime(root / name, (seconds, seconds))
    mmindex.build(root, workers=1)
    first, *_ = archive.series("9.1")
    assert (first.number_of_instances, first.number_of_frames) == (2, 3 + 9)
    assert first.bytes == bytes_of("a/1.dcm", "a/2.dcm") + len(older) + len(
        file_of("1.2", "9.1", "9.1.1", frames=9)
    )
    assert next(archive.studies()).number_of_instances == 5
    for uid, count in (("1.1", 3), ("1.2", 9)):
        assert archive.record(uid).number_of_frames == count
        with archive[uid] as instance:
            assert len(instance) == count


def test_a_file_with_frames_is_counted_before_one_without(
    archive: mmindex.Archive, root: Path
) -> None:
    """As it is served, though the one without was changed later."""
    (root / "empty.dcm").write_bytes(file_of("1.1", "9.1", "9.1.1"))
    os.utime(root / "empty.dcm", (4_000_000_000, 4_000_000_000))
    mmindex.build(root, workers=1)
    first, *_ = archive.series("9.1")
    assert (first.number_of_instances, first.number_of_frames) == (2, 5)


def test_a_video_has_no_frames_to_be_counted(tmp_path: Path) -> None:
    """As in the statistics: no frame of it can be read by itself."""
    data_set = element(0x00080018, "UI", "1.1") + element(0x0020000D, "UI", "9.1")
    data_set += image_attributes(number_of_frames=30) + encapsulate([b"\0\0\1\xb3 video"])
    (tmp_path / "video.dcm").write_bytes(dicom_file(data_set, HEVC))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        (study,) = archive.studies()
        assert (study.number_of_instances, study.number_of_frames) == (1, 0)
        assert (study.number_of_series, study.modalities) == (0, ())


def test_an_archive_of_nothing_has_no_studies(tmp_path: Path) -> None:
    """Both lists are empty, and neither is an error."""
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        assert list(archive.studies()) == list(archive.series()) == []


def test_listings_open_no_file(archive: mmindex.Archive, root: Path) -> None:
    """They are from the index alone: the files may be gone."""
    studies, series = list(archive.studies()), list(archive.series())
    record = archive.record("1.1")
    for name in FILES:
        (root / name).unlink()
    assert (list(archive.studies()), list(archive.series())) == (studies, series)
    assert archive.record("1.1") == record
    assert os.fsdecode(record.path) == "a/1.dcm"
    assert [each.path for each in archive.records_of("1.1")] == [b"a/1.dcm"]


def test_studies_and_series_pickle(archive: mmindex.Archive) -> None:
    """They are plain values, which go to other processes."""
    found = [*archive.studies(), *archive.series()]
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("uid", ["9.1", "", "1", "1.1.1"])
def test_a_record_of_an_unknown_uid_is_a_key_error(archive: mmindex.Archive, uid: str) -> None:
    """A study's UID is none of an instance."""
    for look_up in (archive.record, archive.records_of):
        with pytest.raises(KeyError, match="the index has no SOP Instance UID"):
            look_up(uid)


def test_a_record_of_an_instance_without_frames_is_found(archive: mmindex.Archive) -> None:
    """As `archive[uid]` finds it."""
    assert archive.record("1.3").path == b"a/report.dcm"
    assert archive.record("1.3").status is mmindex.Status.NO_PIXEL_DATA


def test_records_of_a_uid_are_every_file_that_has_it(archive: mmindex.Archive, root: Path) -> None:
    """Those without frames, too."""
    (root / "copy.dcm").write_bytes(FILES["a/1.dcm"])
    (root / "empty.dcm").write_bytes(file_of("1.1", "9.1", "9.1.1"))
    assert mmindex.build(root, workers=1).duplicates == 1
    paths = {record.path for record in archive.records_of("1.1")}
    assert paths == {b"a/1.dcm", b"copy.dcm", b"empty.dcm"}


def test_progress_counts_the_files_of_the_index(archive: mmindex.Archive) -> None:
    """Of records and problems one by one, of statistics many at once, up to all of them."""
    expected = [(done, len(FILES)) for done in range(1, len(FILES) + 1)]
    for listing in (archive.records, archive.problems):
        said: list[tuple[int, int]] = []
        list(listing(progress=lambda *counts, said=said: said.append(counts)))
        assert said == expected
    said = []
    archive.statistics(progress=lambda *counts: said.append(counts))
    assert said == [(len(FILES), len(FILES))]


def test_what_is_open_says_what_it_is(archive: mmindex.Archive, root: Path) -> None:
    """In a debugger and a notebook, in one line, closed as well."""
    assert repr(archive) == f"<Archive {str(root)!r} by the index {str(root / '.mmindex')!r}>"
    with archive["1.1"] as instance, archive["1.3"] as report:
        path = str(root / "a" / "1.dcm")
        assert repr(instance) == f"<Instance 1.1 in {path!r}: 3 frames of 2 x 2>"
        assert repr(report).endswith("report.dcm': no-pixel-data>")
    with mmindex.open_file(root / "nothing.dcm") as instance:
        assert repr(instance).startswith("<Instance without UID in ")
        assert repr(instance).endswith("1 frame of 2 x 2>")
    dataset = mmindex.FrameDataset(archive, study_instance_uid="9.2")
    assert repr(dataset) == f"<FrameDataset: 4 frames of 3 instances as arrays, {archive!r}>"
    archive.close()
    assert repr(archive).startswith("<Archive ")


def test_the_files_of_one_uid_are_found_without_a_look_at_all_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mmindex frame --instance` asks for them: in a large index that took longer than the rest."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    mmindex.build(tmp_path)
    monkeypatch.setattr("mmindex.index.lmdb.page_check.check_pages", None)
    with mmindex.open(tmp_path) as archive:
        for uid in ("1.1", "1.3"):
            assert [record.sop_instance_uid for record in archive.records_of(uid)] == [uid]
