"""FrameDataset: all frames of a selection as one sequence, for training loops and Dask."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dicom_bytes import PIXEL_DATA, RLE_LOSSLESS, dicom_file, element, encapsulate, image_attributes

import mmindex
from mmindex.errors import (
    DecodeError,
    FrameIndexError,
    InstanceNotFoundError,
    MissingFileError,
    MMIndexError,
    StaleIndexError,
)


def make_file(
    uid: str, number: int, number_of_frames: int, *, samples: int = 1, **uids: str
) -> bytes:
    """Return a file of frames of 2 x 2 pixels, each of which tells its file and its number."""
    data_set = element(0x00080018, "UI", uid)
    data_set += element(0x0020000D, "UI", uids.get("study", "1.1"))
    data_set += element(0x0020000E, "UI", uids.get("series", "1.1.1"))
    data_set += image_attributes(
        number_of_frames=number_of_frames,
        samples=samples,
        photometric="YBR_FULL" if samples == 3 else "MONOCHROME2",
    )
    frames = (bytes([number, index, number, index]) * samples for index in range(number_of_frames))
    return dicom_file(data_set + element(PIXEL_DATA, "OB", b"".join(frames)))


NUMBERS_OF_FRAMES = [1, 5, 2, 7, 1, 1, 12]
UIDS = [f"1.2.{number}" for number in range(len(NUMBERS_OF_FRAMES))]
PLACES = [
    (uid, at) for uid, count in zip(UIDS, NUMBERS_OF_FRAMES, strict=True) for at in range(count)
]


def truth(place: tuple[str, int]) -> bytes:
    """Return the frame at a place of the archive."""
    number = UIDS.index(place[0])
    return bytes([number, place[1]] * 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write and index seven instances of two studies, and one file without frames."""
    for number, (uid, count) in enumerate(zip(UIDS, NUMBERS_OF_FRAMES, strict=True)):
        study, series = f"1.{number % 2}", f"1.{number % 2}.{number % 4}"
        data = make_file(uid, number, count, study=study, series=series)
        (tmp_path / f"{9 - number}.dcm").write_bytes(data)
    report = element(0x00080018, "UI", "1.3") + element(0x0020000D, "UI", "1.0")
    (tmp_path / "report.dcm").write_bytes(dicom_file(report))
    mmindex.build(tmp_path, workers=1)
    return tmp_path


@pytest.fixture
def archive(root: Path) -> Iterator[mmindex.Archive]:
    """Open the archive."""
    with mmindex.open(root) as archive:
        yield archive


def places(dataset: mmindex.FrameDataset) -> list[tuple[str, int]]:
    """Return where each item is."""
    return [dataset.locate(item) for item in range(len(dataset))]


def test_a_dataset_is_every_frame_of_the_archive_in_the_order_of_the_uids(
    archive: mmindex.Archive,
) -> None:
    """Each item is that of `Archive.array`, or of `Archive.frame`."""
    decoded = mmindex.FrameDataset(archive)
    stored = mmindex.FrameDataset(archive, decoded=False)
    assert len(decoded) == len(stored) == sum(NUMBERS_OF_FRAMES)
    assert places(decoded) == places(stored) == PLACES
    for item, place in enumerate(PLACES):
        assert stored[item] == archive.frame(*place) == truth(place)
        assert np.array_equal(decoded[item], archive.array(*place))
        assert decoded[item].tobytes() == truth(place)
        assert decoded[item].shape == (2, 2)


def test_a_dataset_follows_the_protocol_of_sequences(archive: mmindex.Archive) -> None:
    """Iteration ends by IndexError; a sequence can be gone through backwards, too."""
    dataset = mmindex.FrameDataset(archive, decoded=False)
    frames = [truth(place) for place in PLACES]
    assert isinstance(dataset, Sequence)
    assert list(dataset) == frames
    assert list(reversed(dataset)) == frames[::-1]
    assert frames[3] in dataset
    assert dataset.index(frames[3]) == 3
    assert [item.tobytes() for item in mmindex.FrameDataset(archive)] == frames


@pytest.mark.parametrize("item", [-1, -len(PLACES), len(PLACES), 1 << 70])
@pytest.mark.parametrize("decoded", [False, True])
def test_an_item_that_is_not_there_is_an_index_error(
    archive: mmindex.Archive, item: int, decoded: bool
) -> None:
    """A negative number does not count from the end."""
    dataset = mmindex.FrameDataset(archive, decoded=decoded)
    for call in (dataset.__getitem__, dataset.locate):
        with pytest.raises(FrameIndexError, match=f"item {item} is out of range: there are 29"):
            call(item)
    assert issubclass(FrameIndexError, IndexError)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64, np.uint64])
def test_items_may_be_numpy_integers(archive: mmindex.Archive, kind: type[np.integer[Any]]) -> None:
    """Samplers hand them out."""
    dataset = mmindex.FrameDataset(archive, decoded=False)
    assert [dataset[kind(item)] for item in range(29)] == list(dataset)
    assert dataset.locate(kind(7)) == PLACES[7]


def test_a_dataset_can_be_some_studies_series_or_instances(archive: mmindex.Archive) -> None:
    """Instances come in the order of their UIDs, or in that in which they are given."""

    def selected(**selection: Any) -> list[tuple[str, int]]:
        dataset = mmindex.FrameDataset(archive, decoded=False, **selection)
        assert list(dataset) == [truth(place) for place in places(dataset)]
        return places(dataset)

    def of(uids: list[str]) -> list[tuple[str, int]]:
        return [place for uid in uids for place in PLACES if place[0] == uid]

    assert selected(study_instance_uid="1.0") == of(UIDS[0::2])
    assert selected(series_instance_uid="1.1.3") == of(UIDS[3::4])
    assert selected(study_instance_uid="1.1", series_instance_uid="1.1.3") == of(UIDS[3::4])
    assert selected(study_instance_uid="1.0", series_instance_uid="1.1.3") == []
    with pytest.raises(InstanceNotFoundError, match=r"no Study Instance UID '1\.7'"):
        selected(study_instance_uid="1.7")
    chosen = [UIDS[4], UIDS[1], UIDS[4]]
    assert selected(sop_instance_uids=iter(chosen)) == of(chosen)
    assert selected(sop_instance_uids=[UIDS[2]], study_instance_uid="1.0") == of(UIDS[2:3])
    assert selected(sop_instance_uids=[]) == []


@pytest.mark.parametrize(
    ("uids", "study"), [(["9.9"], None), ([UIDS[0], "1.3"], None), ([UIDS[0]], "1.1")]
)
def test_an_instance_that_is_not_in_the_selection_is_told(
    archive: mmindex.Archive, uids: list[str], study: str | None
) -> None:
    """One that is unknown, has no frames, or belongs to another study."""
    with pytest.raises(InstanceNotFoundError, match=f"no instance '{uids[-1]}' with frames"):
        mmindex.FrameDataset(archive, sop_instance_uids=uids, study_instance_uid=study)


def test_an_empty_dataset_has_no_items(archive: mmindex.Archive) -> None:
    """It is false, as an empty list is."""
    dataset = mmindex.FrameDataset(archive, sop_instance_uids=())
    assert not dataset
    assert list(dataset) == []
    with pytest.raises(FrameIndexError, match="there are 0 frames"):
        dataset[0]


def test_arrays_are_each_their_own_and_writable(archive: mmindex.Archive) -> None:
    """What a training loop does to one is seen nowhere else."""
    dataset = mmindex.FrameDataset(archive)
    first = dataset[3]
    first[:] = 255
    assert dataset[3].tobytes() == archive.frame(*PLACES[3]) == truth(PLACES[3])
    assert first.tolist() == [[255, 255], [255, 255]]


def test_raw_leaves_the_color_space(tmp_path: Path) -> None:
    """As in `Archive.array`: else YBR becomes RGB."""
    (tmp_path / "a").write_bytes(make_file("1.2", 3, 2, samples=3))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        for raw in (False, True):
            found = mmindex.FrameDataset(archive, raw=raw)[1]
            assert np.array_equal(found, archive.array("1.2", 1, raw=raw))
            assert (found.tobytes() == archive.frame("1.2", 1)) == raw


@pytest.mark.parametrize("newer", ["a", "b"])
@pytest.mark.parametrize("counts", [(2, 5), (5, 2)])
def test_of_two_files_with_a_uid_a_dataset_has_the_frames_of_the_one_served(
    tmp_path: Path, newer: str, counts: tuple[int, int]
) -> None:
    """The archive serves the newer file, whichever was indexed first and whichever is longer."""
    for number, (name, count) in enumerate(zip("ab", counts, strict=True)):
        (tmp_path / name).write_bytes(make_file("1.2", number, count))
        time = 10**18 + 10**9 * (name == newer)
        os.utime(tmp_path / name, ns=(time, time))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        dataset = mmindex.FrameDataset(archive, decoded=False)
        assert len(dataset) == len(archive["1.2"])
        assert list(dataset) == list(archive["1.2"])


@pytest.mark.parametrize("decoded", [False, True])
def test_frames_that_a_rebuild_took_away_do_not_end_an_iteration(root: Path, decoded: bool) -> None:
    """An item that was counted and is gone is an error that `for` does not take for the end."""
    with mmindex.open(root, revalidate_after=0) as archive:
        dataset = mmindex.FrameDataset(archive, decoded=decoded)
        (root / "8.dcm").write_bytes(make_file(UIDS[1], 1, 3, study="1.1", series="1.1.1"))
        mmindex.build(root, workers=1)
        with pytest.raises(MMIndexError, match=r"8\.dcm"):
            list(dataset)


def test_a_changed_or_removed_file_is_told_by_its_items(root: Path) -> None:
    """The other items are served on."""
    with mmindex.open(root, revalidate_after=0) as archive:
        for decoded in (False, True):
            dataset = mmindex.FrameDataset(archive, decoded=decoded)
            assert len(list(dataset)) == 29
            os.truncate(root / "8.dcm", 300)
            (root / "7.dcm").unlink(missing_ok=True)
            for item, error in ((1, StaleIndexError), (6, MissingFileError)):
                with pytest.raises(error, match=r"[78]\.dcm: the file"):
                    dataset[item]
            assert bytes(dataset[8]) == truth(PLACES[8])
            (root / "8.dcm").write_bytes(make_file(UIDS[1], 1, 5, study="1.1", series="1.1.1"))
            (root / "7.dcm").write_bytes(make_file(UIDS[2], 2, 2, study="1.0", series="1.0.2"))
            mmindex.build(root, workers=1)


class CountedEnds(Sequence[int]):
    """Prefix sums that count how often one of them is looked at."""

    def __init__(self, ends: Sequence[int]) -> None:
        self.ends = ends
        self.looked_at = 0

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, at: Any) -> Any:
        self.looked_at += 1
        return self.ends[at]


def test_an_item_is_found_without_a_walk() -> None:
    """Of 200,000 instances of a million frames each, a handful is looked at."""
    count, each = 200_000, 1_000_000
    records = (
        SimpleNamespace(sop_instance_uid=f"{at:06}", number_of_frames=each, frames=None)
        for at in range(count)
    )
    archive: Any = SimpleNamespace(instances=lambda **_: records, path="")
    dataset = mmindex.FrameDataset(archive, decoded=False)
    assert len(dataset) == count * each
    assert len(pickle.dumps((dataset._items.uids, dataset._items.ends))) < 30 * count
    ends: Any = CountedEnds(dataset._items.ends)
    dataset._items.ends = ends
    for item in (0, each - 1, each, 77_777 * each + 5, count * each - 1):
        ends.looked_at = 0
        assert dataset.locate(item) == (f"{item // each:06}", item % each)
        assert ends.looked_at <= 21  # 18 halvings, the length, and the neighbour


def test_a_dataset_pickles_as_the_archives_path_and_the_selection(
    archive: mmindex.Archive,
) -> None:
    """The copy opens the index anew and outlives the original; no frame is in it."""
    for decoded in (False, True):
        dataset = mmindex.FrameDataset(archive, study_instance_uid="1.1", decoded=decoded, raw=True)
        frames = [bytes(frame) for frame in dataset]
        pickled = pickle.dumps(dataset)
        assert len(pickled) < 1000
        copy = pickle.loads(pickled)
        assert (copy.decoded, copy.raw, places(copy)) == (decoded, True, places(dataset))
        assert copy.archive is not archive
        copies = [pickle.loads(pickle.dumps(copy)) for _ in range(3)]
        copy.archive.close()
        for other in copies:
            assert [bytes(frame) for frame in other] == frames
            other.archive.close()


def read_items(dataset: mmindex.FrameDataset, items: list[int]) -> list[bytes]:
    """Return items; what a process of a loader does."""
    return [bytes(dataset[item]) for item in items]


START_METHODS = [
    pytest.param(
        method,
        marks=[
            pytest.mark.skipif(
                method not in multiprocessing.get_all_start_methods(), reason="not here"
            ),
            pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # it has threads
        ],
    )
    for method in ("fork", "spawn")
]


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("decoded", [False, True])
def test_processes_share_a_dataset(root: Path, method: str, decoded: bool) -> None:
    """Two workers and their parent read it at the same time, in any order."""
    with mmindex.open(root) as archive:
        dataset = mmindex.FrameDataset(archive, decoded=decoded)
        assert read_items(dataset, [0]) == [truth(PLACES[0])]
        items = list(range(29)) * 4
        random.Random(5).shuffle(items)
        expected = [truth(PLACES[item]) for item in items]
        with multiprocessing.get_context(method).Pool(2) as pool:
            results = [pool.apply_async(read_items, (dataset, items)) for _ in range(4)]
            assert read_items(dataset, items) == expected
            for result in results:
                assert result.get(60) == expected
            pool.close()
            pool.join()


def test_a_dataset_imports_neither_torch_nor_dask(root: Path) -> None:
    """Nor, of bytes as stored, numpy or pydicom."""
    code = (
        "import sys, mmindex\n"
        "with mmindex.open(sys.argv[1]) as archive:\n"
        "    frames = list(mmindex.FrameDataset(archive, decoded=False))\n"
        "    assert len(frames) == 29\n"
        "    assert not {'numpy', 'pydicom', 'torch', 'dask'} & set(sys.modules), 'stored'\n"
        "    mmindex.FrameDataset(archive)[0]\n"
        "    assert not {'torch', 'dask'} & set(sys.modules), 'decoded'\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("decoded", [False, True])
def test_torch_loads_a_dataset_with_shuffling_and_workers(
    root: Path, method: str, decoded: bool
) -> None:
    """Two epochs give every frame once each, whatever the order."""
    data = pytest.importorskip("torch.utils.data")
    with mmindex.open(root) as archive:
        dataset = mmindex.FrameDataset(archive, decoded=decoded)
        loader = data.DataLoader(
            dataset,
            batch_size=4,
            shuffle=True,
            num_workers=2,
            multiprocessing_context=method,
            collate_fn=None if decoded else list,
        )
        for _ in range(2):
            found = []
            for batch in loader:
                found += [bytes(item.numpy()) for item in batch] if decoded else batch
            assert sorted(found) == sorted(truth(place) for place in PLACES)


def test_dask_stacks_a_dataset(root: Path) -> None:
    """A chunk a frame, read by threads when it is computed."""
    dask = pytest.importorskip("dask")
    dask_array = pytest.importorskip("dask.array")
    with mmindex.open(root) as archive:
        dataset = mmindex.FrameDataset(archive)
        read = dask.delayed(dataset.__getitem__, pure=True)
        stacked = dask_array.stack(
            [dask_array.from_delayed(read(item), (2, 2), "u1") for item in range(29)]
        )
        found = stacked.compute(scheduler="threads")
        assert [frame.tobytes() for frame in found] == [truth(place) for place in PLACES]
        assert int(stacked[7:9].max().compute(scheduler="threads")) == max(
            max(truth(place)) for place in PLACES[7:9]
        )


def test_a_frame_that_cannot_be_decoded_does_not_spoil_the_others(tmp_path: Path) -> None:
    """Its item raises; the next one is served."""
    good = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\3\1\2\3\4\0"
    data_set = element(0x00080018, "UI", "1.2") + image_attributes(number_of_frames=3)
    data_set += encapsulate([good, good[:64], good])
    (tmp_path / "a").write_bytes(dicom_file(data_set, RLE_LOSSLESS))
    mmindex.build(tmp_path, workers=1)
    with mmindex.open(tmp_path) as archive:
        dataset = mmindex.FrameDataset(archive)
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            dataset[1]
        assert dataset[0].tolist() == dataset[2].tolist() == [[1, 2], [3, 4]]
