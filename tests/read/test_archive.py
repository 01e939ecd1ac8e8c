"""Archive: from a UID or a path to frames, by way of an index, while files and index change."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from child_process import exit_code, forks
from clock import Clock
from dicom_bytes import (
    PIXEL_DATA,
    dicom_file,
    element,
    encapsulate,
    four_bytes,
    image_attributes,
    written,
)

import mmindex
from mmindex.errors import (
    AmbiguousFramesError,
    FormatError,
    FrameIndexError,
    IndexFormatError,
    InstanceNotFoundError,
    MissingFileError,
    NoPixelDataError,
    NotDicomError,
    StaleIndexError,
)
from mmindex.model import Status

JPEG = "1.2.840.10008.1.2.4.50"
FRAMES_EACH = 4


def make_file(
    uid: str, frames: list[bytes] | None, *, study: str = "1.1", series: str = "1.1.1"
) -> bytes:
    """Return a file with these native frames of four bytes, or without pixel data."""
    data_set = element(0x00080018, "UI", uid)
    data_set += element(0x0020000D, "UI", study) + element(0x0020000E, "UI", series)
    if frames is not None:
        data_set += image_attributes(number_of_frames=len(frames))
        data_set += element(PIXEL_DATA, "OW", b"".join(frames))
    return dicom_file(data_set)


def frames_of(number: int, mark: bytes = b"f") -> list[bytes]:
    """Return frames that are found nowhere else."""
    return [mark + bytes([number, index]) + mark for index in range(FRAMES_EACH)]


def ambiguous_file(uid: str) -> bytes:
    """Return a file whose three fragments cannot be told apart into two frames."""
    data_set = element(0x00080018, "UI", uid) + image_attributes(number_of_frames=2)
    return dicom_file(data_set + encapsulate([b"a1", b"a2", b"b1"]), JPEG)


UIDS = [f"1.2.3.{number}" for number in range(10)]
TRUTH = {uid: frames_of(number) for number, uid in enumerate(UIDS)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write and index ten instances of two studies, a report, a text and a broken file."""
    root = tmp_path / "archive"
    (root / "ward").mkdir(parents=True)
    for number, (uid, frames) in enumerate(TRUTH.items()):
        study, series = f"1.{number % 2}", f"1.{number % 2}.{number % 4}"
        data = make_file(uid, frames, study=study, series=series)
        (root / "ward" / f"{number}.dcm").write_bytes(data)
    (root / "report.dcm").write_bytes(make_file("1.2.4", None, study="1.0", series="1.0.9"))
    (root / "notes.txt").write_text("no DICOM file")
    (root / "broken.dcm").write_bytes(ambiguous_file("1.2.5"))
    mmindex.build(root, workers=1)
    return root


@pytest.fixture
def archive(root: Path) -> Iterator[mmindex.Archive]:
    """Open the archive."""
    with mmindex.open(root) as archive:
        yield archive


def write_anew(path: Path, data: bytes) -> None:
    """Put another file in the place of the one at `path`, with a later time."""
    later = path.stat().st_mtime_ns + 1_000_000_000 if path.exists() else None
    other = path.with_name("other")
    other.write_bytes(data)
    if later is not None:
        os.utime(other, ns=(later, later))
    other.replace(path)


def test_an_archive_is_the_uids_of_its_instances_with_frames(archive: mmindex.Archive) -> None:
    """Length, iteration and membership leave out what has no frames."""
    assert len(archive) == 10
    assert sorted(archive) == UIDS
    assert UIDS[3] in archive
    for other in ("1.2.4", "1.2.5", "1.2", "", 7, None):
        assert other not in archive


def test_instances_are_found_by_uid_and_by_path(archive: mmindex.Archive, root: Path) -> None:
    """Both lead to the same file."""
    for number, uid in enumerate(UIDS):
        with archive[uid] as by_uid, archive.file(f"ward/{number}.dcm") as by_path:
            assert list(by_uid) == list(by_path) == TRUTH[uid]
            assert by_uid.path == by_path.path == str(root / "ward" / f"{number}.dcm")
    for path in (b"ward/3.dcm", Path("ward", "3.dcm")):
        assert archive.file(path)[1] == TRUTH[UIDS[3]][1]


def test_frames_and_arrays_are_those_of_the_files(archive: mmindex.Archive) -> None:
    """Each frame of each instance is its own."""
    for uid, frames in TRUTH.items():
        assert [archive.frame(uid, index) for index in range(FRAMES_EACH)] == frames
        for index, frame in enumerate(frames):
            array = archive.array(uid, index)
            assert (array.shape, array.tobytes()) == ((2, 2), frame)
    copy = archive.array(UIDS[0], 0, copy=True)
    copy[:] = 0
    assert archive.frame(UIDS[0], 0) == TRUTH[UIDS[0]][0]


def test_frames_come_in_the_order_they_are_asked_for(archive: mmindex.Archive) -> None:
    """However reads are grouped, the list is that of the pairs, repetitions included."""
    pairs = [(UIDS[at * 7 % 10], at * 3 % FRAMES_EACH) for at in range(60)]
    assert archive.frames(iter(pairs)) == [TRUTH[uid][index] for uid, index in pairs]
    assert archive.frames([]) == []


def test_frames_raise_for_a_pair_that_fails(archive: mmindex.Archive) -> None:
    """A missing frame or instance is not left out."""
    with pytest.raises(FrameIndexError, match="0 to 3"):
        archive.frames([(UIDS[0], 0), (UIDS[0], 4)])
    with pytest.raises(InstanceNotFoundError, match=r"9\.9"):
        archive.frames([(UIDS[0], 0), ("9.9", 0)])


@pytest.mark.parametrize("index", [-1, FRAMES_EACH, 2**70])
def test_an_index_never_wraps_round(archive: mmindex.Archive, index: int) -> None:
    """A frame that is not there is an IndexError."""
    with pytest.raises(IndexError, match="4 frames"):
        archive.frame(UIDS[0], index)
    with pytest.raises(FrameIndexError, match="4 frames"):
        archive.array(UIDS[0], index)


def test_instances_are_filtered_by_study_and_series(archive: mmindex.Archive) -> None:
    """Records come without opening a file; a series of another study has none."""

    def uids(**filters: str) -> list[str]:
        return sorted(record.sop_instance_uid for record in archive.instances(**filters))

    assert uids() == UIDS
    assert uids(study_instance_uid="1.0") == UIDS[0::2]
    assert uids(series_instance_uid="1.1.3") == UIDS[3::4]
    assert uids(study_instance_uid="1.1", series_instance_uid="1.1.3") == UIDS[3::4]
    assert uids(study_instance_uid="1.0", series_instance_uid="1.1.3") == []
    for unknown in ({"study_instance_uid": "1"}, {"series_instance_uid": "1.1"}):
        with pytest.raises(
            InstanceNotFoundError, match=r"the index has no S[a-z]+ Instance UID '1"
        ):
            archive.instances(**unknown)


def test_records_tell_every_file(archive: mmindex.Archive) -> None:
    """Files that cannot be read stand there with their status and reason."""
    records = {record.path: record for record in archive.records()}
    assert len(records) == 13
    assert records[b"ward/0.dcm"].status is Status.INDEXED
    assert records[b"report.dcm"].status is Status.NO_PIXEL_DATA
    assert records[b"notes.txt"].status is Status.NOT_DICOM
    assert records[b"broken.dcm"].status is Status.UNREADABLE
    assert "start marker" in records[b"broken.dcm"].reason


@pytest.mark.parametrize("key", ["9.9", "", "1.2.3.1\0", "1.2.3", "x" * 600, "\u0664"])
def test_an_unknown_uid_is_a_key_error(archive: mmindex.Archive, key: str) -> None:
    """As of a dict; every call raises it."""
    for call in (archive.__getitem__, lambda uid: archive.frame(uid, 0)):
        with pytest.raises(KeyError) as caught:
            call(key)
        assert isinstance(caught.value, InstanceNotFoundError)


@pytest.mark.parametrize("path", ["ward/none.dcm", "ward", "", "/ward/0.dcm", "../archive/x"])
def test_an_unknown_path_is_a_key_error(archive: mmindex.Archive, path: str) -> None:
    """A path that the index does not have is not looked for on disk."""
    with pytest.raises(InstanceNotFoundError, match="has no file"):
        archive.file(path)


def test_what_could_not_be_read_raises_what_its_scan_raised(archive: mmindex.Archive) -> None:
    """The error has its recorded class, and names the file."""
    with pytest.raises(AmbiguousFramesError, match=r"broken\.dcm"):
        archive.file("broken.dcm")
    with pytest.raises(AmbiguousFramesError, match=r"broken\.dcm"):
        archive.frame("1.2.5", 0)
    with pytest.raises(NotDicomError, match=r"notes\.txt"):
        archive.file("notes.txt")


def test_R8_an_instance_without_pixel_data_can_be_opened(archive: mmindex.Archive) -> None:
    """It has no frames and says so."""
    with archive["1.2.4"] as instance:
        assert len(instance) == 0
        with pytest.raises(NoPixelDataError, match=r"report\.dcm"):
            instance.frame(0)
    with pytest.raises(NoPixelDataError, match=r"report\.dcm"):
        archive.frame("1.2.4", 0)


@pytest.mark.parametrize("read_before", [False, True])
def test_a_changed_or_removed_file_is_never_served(
    root: Path, clock: Clock, read_before: bool
) -> None:
    """A read a second later raises, whether the file was kept open or not; the others go on."""
    with mmindex.open(root) as archive:
        if read_before:
            archive.frames([(uid, 0) for uid in UIDS])
        write_anew(root / "ward" / "0.dcm", make_file(UIDS[0], frames_of(0, b"x")))
        (root / "ward" / "1.dcm").unlink()
        os.truncate(root / "ward" / "2.dcm", 300)
        clock.now += 1.0
        for uid, error in zip(
            UIDS, (StaleIndexError, MissingFileError, StaleIndexError), strict=False
        ):
            for read in (archive.frame, archive.array):
                with pytest.raises(error, match=r"ward/\d\.dcm"):
                    read(uid, 0)
            with pytest.raises(error, match=r"ward/\d\.dcm"):
                archive[uid]
        assert archive.frame(UIDS[3], 1) == TRUTH[UIDS[3]][1]


def test_revalidate_after_0_looks_at_every_read(root: Path) -> None:
    """No time has to pass for a changed file to be told."""
    with mmindex.open(root, revalidate_after=0) as archive:
        assert archive.frame(UIDS[0], 0) == TRUTH[UIDS[0]][0]
        write_anew(root / "ward" / "0.dcm", make_file(UIDS[0], frames_of(0, b"x")))
        with pytest.raises(StaleIndexError, match=r"ward/0\.dcm"):
            archive.frame(UIDS[0], 0)


def test_a_rebuild_is_picked_up_by_an_open_archive(root: Path, clock: Clock) -> None:
    """New, changed and removed files are seen without opening the archive anew."""
    with mmindex.open(root) as archive:
        assert archive.frames([(uid, 0) for uid in UIDS]) == [TRUTH[uid][0] for uid in UIDS]
        write_anew(root / "ward" / "0.dcm", make_file(UIDS[0], frames_of(0, b"x")))
        (root / "ward" / "1.dcm").unlink()
        (root / "new.dcm").write_bytes(make_file("1.2.6", frames_of(6)))
        (root / "broken.dcm").write_bytes(make_file("1.2.5", frames_of(5)))
        mmindex.build(root, workers=1)
        clock.now += 1.0
        assert archive.frame(UIDS[0], 2) == frames_of(0, b"x")[2]
        assert archive.array(UIDS[0], 1).tobytes() == frames_of(0, b"x")[1]
        assert archive.frame("1.2.6", 3) == frames_of(6)[3]
        assert archive.frame("1.2.5", 0) == frames_of(5)[0]
        with pytest.raises(InstanceNotFoundError, match=UIDS[1]):
            archive.frame(UIDS[1], 0)
        assert sorted(archive) == sorted([UIDS[0], *UIDS[2:], "1.2.5", "1.2.6"])


def test_of_two_files_with_a_uid_the_newer_one_is_served(root: Path, clock: Clock) -> None:
    """Both stay reachable by path; the UID gives the file that was changed last."""
    write_anew(root / "a.dcm", make_file(UIDS[4], frames_of(4, b"x")))
    newer = (root / "ward" / "4.dcm").stat().st_mtime_ns + 10**9
    os.utime(root / "a.dcm", ns=(newer, newer))
    with mmindex.open(root) as archive:
        assert archive.frame(UIDS[4], 0) == TRUTH[UIDS[4]][0]
        mmindex.build(root, workers=1)
        clock.now += 1.0
        assert archive.frame(UIDS[4], 0) == frames_of(4, b"x")[0]
        assert archive[UIDS[4]].path == str(root / "a.dcm")
        assert list(archive.file("ward/4.dcm")) == TRUTH[UIDS[4]]
        assert len(archive) == 10


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files here")
def test_only_so_many_files_stay_open(root: Path) -> None:
    """Ten instances are served with two files open at once."""
    with mmindex.open(root, max_open_files=2) as archive:
        archive.frame(UIDS[0], 0)
        one_open = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            for uid, frames in TRUTH.items():
                assert archive.frame(uid, 1) == frames[1]
                assert len(os.listdir("/proc/self/fd")) <= one_open + 1
    assert len(os.listdir("/proc/self/fd")) < one_open


def test_an_evicted_instance_serves_whoever_has_it(root: Path) -> None:
    """A file that the archive let go of stays open for its user."""
    with mmindex.open(root, max_open_files=1) as archive:
        held = archive[UIDS[0]]
        kept = archive._keep_open(UIDS[1])
        array = archive.array(UIDS[2], 0)
        for uid in UIDS[3:]:
            archive.frame(uid, 0)
        assert list(held) == TRUTH[UIDS[0]]
        assert list(kept) == TRUTH[UIDS[1]]
        assert array.tobytes() == TRUTH[UIDS[2]][0]


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
@pytest.mark.parametrize("max_open_files", [1, 3, None])
def test_many_threads_get_the_frames_that_they_ask_for(
    root: Path, max_open_files: int | None
) -> None:
    """Sixteen threads share an archive, and each other's files, without mixing them up."""
    pairs = [(UIDS[at * 7 % 10], at * 3 % FRAMES_EACH) for at in range(12000)]
    with (
        mmindex.open(root, max_open_files=max_open_files, revalidate_after=0.001) as archive,
        ThreadPoolExecutor(16) as pool,
    ):
        found = list(pool.map(lambda pair: archive.frame(*pair), pairs))
    assert found == [TRUTH[uid][index] for uid, index in pairs]


def test_an_archive_pickles_as_its_paths(archive: mmindex.Archive) -> None:
    """The copy is opened anew and outlives the original."""
    with pickle.loads(pickle.dumps(archive)) as copy:
        archive.close()
        assert copy.frame(UIDS[5], 2) == TRUTH[UIDS[5]][2]
        assert copy.path == archive.path


def test_a_pickled_archive_keeps_its_root_in_another_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root that was given relative to a folder is not looked for in another one."""
    index = tmp_path / "index"
    mmindex.build(root, index, workers=1)
    monkeypatch.chdir(tmp_path)
    with mmindex.open("index", archive_root="archive") as archive:
        pickled = pickle.dumps(archive)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pickle.loads(pickled) as copy:
        assert copy.frame(UIDS[5], 2) == TRUTH[UIDS[5]][2]


@forks
def test_an_archive_survives_a_fork(archive: mmindex.Archive) -> None:
    """Parent and child read on, each from an environment of its own."""
    assert archive.frame(UIDS[0], 0) == TRUTH[UIDS[0]][0]

    def read_on() -> bool:
        right = all(list(archive[uid]) == frames for uid, frames in TRUTH.items())
        right &= archive.frames([(uid, 1) for uid in UIDS]) == [TRUTH[u][1] for u in UIDS]
        return right and sorted(archive) == UIDS

    assert exit_code(read_on) == 0
    assert [archive.frame(uid, 3) for uid in UIDS] == [TRUTH[uid][3] for uid in UIDS]


def read_all(archive: mmindex.Archive) -> dict[str, list[bytes]]:
    """Return all frames; what a spawned process does."""
    return {uid: list(archive[uid]) for uid in archive}


def test_an_archive_goes_to_a_spawned_process(archive: mmindex.Archive) -> None:
    """It crosses as its paths and is opened there."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_all, (archive,)) == TRUTH
        pool.close()
        pool.join()


def test_an_archive_can_be_moved_with_its_index(root: Path, tmp_path: Path) -> None:
    """An index inside the archive knows its root relative to itself."""
    moved = shutil.move(root, tmp_path / "moved")
    for path in (moved, Path(moved) / ".mmindex"):
        with mmindex.open(path) as archive:
            assert archive.frame(UIDS[1], 1) == TRUTH[UIDS[1]][1]
            assert archive.root == str(moved)


def test_an_archive_can_be_moved_away_from_its_index(root: Path, tmp_path: Path) -> None:
    """`archive_root` says where it is now; without it the files are missing."""
    index = tmp_path / "index"
    mmindex.build(root, index, workers=1)
    moved = shutil.move(root, tmp_path / "moved")
    with (
        mmindex.open(index) as archive,
        pytest.raises(MissingFileError, match="the file is gone"),
    ):
        archive.frame(UIDS[1], 1)
    with mmindex.open(index, archive_root=moved) as archive:
        assert archive.frame(UIDS[1], 1) == TRUTH[UIDS[1]][1]
        with pickle.loads(pickle.dumps(archive)) as copy:
            assert copy.frame(UIDS[1], 1) == TRUTH[UIDS[1]][1]


def test_files_of_a_moved_archive_that_changed_names_are_not_taken_for_each_other(
    root: Path, tmp_path: Path
) -> None:
    """Though size and time are the same, as of slices that come out of a zip file."""
    index = tmp_path / "index"
    paths = [root / "1.dcm", root / "2.dcm"]
    for uid, path in zip(UIDS, paths, strict=False):
        written(root, four_bytes(b"abcd", uid), path.name)
        os.utime(path, ns=(10**18, 10**18))
    mmindex.build(root, index, workers=1)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    for path, other in (paths, paths[::-1]):
        shutil.copy2(other, moved / path.relative_to(root))
    with mmindex.open(index, archive_root=moved) as archive:
        for path in paths:
            with pytest.raises(StaleIndexError, match="expected SOP Instance UID"):
                archive.file(path.relative_to(root)).frame(0)


def test_an_unusual_header_of_a_moved_file_is_known(tmp_path: Path) -> None:
    """A UID of VR UN, behind a private element with bytes that look like one."""
    decoy = b"\x08\0\x18\0UI\x04\x009.9\0"
    for name, vr, before in (("a", "UN", b""), ("b", "UI", element(0x00070010, "UN", decoy))):
        folder = tmp_path / name
        folder.mkdir()
        data_set = before + element(0x00080018, vr, b"1.2.3\0") + image_attributes()
        (folder / "x").write_bytes(dicom_file(data_set + element(PIXEL_DATA, "OW", bytes(64))))
        mmindex.build(folder, tmp_path / f"{name}.mmindex", workers=1)
        with mmindex.open(tmp_path / f"{name}.mmindex") as plain:
            stored = plain.frame("1.2.3", 0)
        with mmindex.open(tmp_path / f"{name}.mmindex", archive_root=folder) as archive:
            assert archive.frame("1.2.3", 0) == stored


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    """A missing index and a foreign file have errors of their own."""
    with pytest.raises(MissingFileError, match="mmindex build"):
        mmindex.open(tmp_path)
    (tmp_path / "a.dcm").write_bytes(make_file(UIDS[0], frames_of(0)))
    with pytest.raises(IndexFormatError, match="not an mmindex index"):
        mmindex.open(tmp_path / "a.dcm")


def test_a_closed_archive_serves_nothing(archive: mmindex.Archive) -> None:
    """A read after close raises ValueError, as files do; closing twice is fine."""
    archive.frame(UIDS[0], 0)
    archive.close()
    archive.close()
    for read in (lambda: archive.frame(UIDS[0], 0), lambda: archive[UIDS[0]], lambda: len(archive)):
        with pytest.raises(ValueError, match="the index is closed"):
            read()


def test_R14_a_file_that_was_cut_before_it_was_indexed_serves_its_whole_frames(root: Path) -> None:
    """The frames that are lost raise, those before them are served."""
    data = make_file("1.2.7", frames_of(7))
    (root / "cut.dcm").write_bytes(data[:-5])
    mmindex.build(root, workers=1)
    with mmindex.open(root) as archive:
        assert [archive.frame("1.2.7", index) for index in range(2)] == frames_of(7)[:2]
        for index in (2, 3):
            with pytest.raises(FormatError, match="ends after 2 of 4 frames"):
                archive.frame("1.2.7", index)


@forks
@pytest.mark.parametrize("read", ["frame", "array", "view"])
def test_an_archive_of_more_files_than_may_be_open_is_read(tmp_path: Path, read: str) -> None:
    """A file that is mapped has two descriptors, which the default of kept files allows for."""
    import resource

    for number in range(200):
        written(tmp_path, four_bytes(struct.pack("<I", number), f"1.2.{number}"), f"{number}.dcm")
    mmindex.build(tmp_path, workers=1)

    def read_all() -> None:
        import pydicom.pixels  # noqa: F401  # needs files of its own

        os.closerange(3, 4096)  # files of tests before this one
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        with mmindex.open(tmp_path) as archive:
            for number in [*range(200), *range(199, -1, -1)]:
                if read == "frame":
                    found = archive.frame(f"1.2.{number}", 0)
                elif read == "array":
                    found = archive.array(f"1.2.{number}", 0).tobytes()
                else:
                    found = bytes(archive[f"1.2.{number}"].view(0))
                assert found == struct.pack("<I", number)

    assert exit_code(read_all) == 0
