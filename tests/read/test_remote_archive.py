"""Archives whose files or index are objects: what is read, how often, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from cli_runner import run
from container_bytes import write_tar
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED,
)
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    HEVC,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    deflated_file,
    dicom_file,
    element,
    encapsulate,
    image_attributes,
    item,
    sequence,
)
from new_store import create_store
from remote_archive import index_objects, native_object, tiled_object
from sample_archive import testdata
from slide_files import cut, draw, write_slide_file
from sources.range_server import RangeServer

import mmindex
from mmindex.errors import (
    IndexFormatError,
    IndexWriteError,
    MissingFileError,
    RemoteReadError,
    StaleIndexError,
)
from mmindex.export.jsonl import walk_lines
from mmindex.index.record import pack_record
from mmindex.index.store import Store
from mmindex.model import Fingerprint, Status
from mmindex.render.png import walk_pictures
from mmindex.render.sheet import draw_sheet
from mmindex.sources.requests import Request, watching
from mmindex.sources.stores import make_store

obstore = pytest.importorskip("obstore", reason="object stores need obstore")
stores = pytest.importorskip("obstore.store")

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
FRAMES = [bytes(range(at, at + 16)) for at in range(6)]
TILES = [b"\xff\x4f" + random.Random(at).randbytes(9_998) for at in range(2000)]


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with RangeServer() as server:
        yield server
    make_store.cache_clear()  # connections that are kept open


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mmindex"


def series(number: int) -> dict[str, bytes]:
    """Return objects of six frames each by path."""
    return {
        f"ward {at}/a%20{at}.dcm": native_object(
            f"1.2.{at}", [bytes([at]) + frame[1:] for frame in FRAMES], patient=f"P{at}"
        )
        for at in range(number)
    }


def put(server: RangeServer, objects: dict[str, bytes], prefix: str = "/files/") -> str:
    """Serve objects; return the URL of their root."""
    server.objects.update({prefix + path: data for path, data in objects.items()})
    return server.url + prefix.rstrip("/")


# An index of a bucket.


def test_a_frame_of_an_indexed_object_is_one_get(server: RangeServer, tmp_path: Path) -> None:
    """From the first one on: neither the size nor the header is asked for before."""
    objects = series(3)
    index = index_objects(tmp_path / "index", put(server, objects), objects)
    server.served.clear()
    with mmindex.open(index) as archive:
        assert archive.root == f"{server.url}/files"
        assert archive.is_remote
        assert not server.served
        assert archive.frame("1.2.1", 3) == b"\1" + FRAMES[3][1:]
        assert [(request.method, request.length) for request in server.served] == [("GET", 16)]
        assert archive.frame("1.2.1", 4) == b"\1" + FRAMES[4][1:]
        assert archive["1.2.2"].frame(0) == b"\2" + FRAMES[0][1:]
        assert archive.file("ward 0/a%200.dcm")[5] == b"\0" + FRAMES[5][1:]
        assert len(server.served) == 4
        again = pickle.loads(pickle.dumps(archive))
        assert again.frame("1.2.1", 3) == b"\1" + FRAMES[3][1:]
        again.close()


def test_many_frames_are_few_requests_at_the_same_time(server: RangeServer, tmp_path: Path) -> None:
    """Frames of one object that lie together are one GET; those of many are read at once."""
    objects = series(40)
    index = index_objects(tmp_path / "index", put(server, objects), objects)
    pairs = [(f"1.2.{at}", frame) for at in range(40) for frame in range(6)]
    random.Random(5).shuffle(pairs)
    expected = [bytes([int(uid[4:])]) + FRAMES[frame][1:] for uid, frame in pairs]
    with mmindex.open(index) as archive:
        for read in (
            lambda: archive.frames(pairs),
            lambda: [frame.tobytes() for frame in archive.arrays(pairs)],
        ):
            server.served.clear()
            assert read() == expected
            assert len(server.gets) == 40
        server.served.clear()
        frames = archive["1.2.7"].arrays(threads=3)
        assert [frame.tobytes() for frame in frames] == [b"\7" + frame[1:] for frame in FRAMES]
        assert len(server.gets) == 1


def test_a_batch_of_a_dataset_is_read_at_once(server: RangeServer, tmp_path: Path) -> None:
    """`__getitems__`, as a DataLoader calls it; a frame that is gone raises or is skipped."""
    objects = series(8)
    root = put(server, objects)
    index = index_objects(tmp_path / "index", root, objects)
    with mmindex.open(index) as archive:
        dataset = mmindex.FrameDataset(archive, with_ids=True)
        wanted = [*range(0, 48, 5), 3, 3, 4, *range(24, 30)]
        one_by_one = [dataset[at] for at in wanted]
        server.served.clear()
        batch = dataset.__getitems__(wanted)
        assert len(server.gets) == len({*wanted}) - 2 - 5  # 3, 4 and 5 are one; so are 24 to 29
        for (pixels, *ids), (expected, *expected_ids) in zip(batch, one_by_one, strict=True):
            assert ids == expected_ids
            assert np.array_equal(pixels, expected)
            assert pixels.flags.writeable
        raw = mmindex.FrameDataset(archive, decoded=False, transform=len)
        assert raw.__getitems__(wanted) == [16] * len(wanted)
        del server.objects["/files/ward 0/a%200.dcm"]
        with pytest.raises(MissingFileError):
            dataset.__getitems__(wanted)
        skipping = mmindex.FrameDataset(archive, with_ids=True, on_error="skip")
        with pytest.warns(RuntimeWarning, match="is skipped"):
            uids = [uid for _, uid, _ in skipping.__getitems__([0, 10])]
        assert uids == ["1.2.1", "1.2.1"]


def test_arrays_skip_or_raise_what_cannot_be_decoded(server: RangeServer, tmp_path: Path) -> None:
    """An error is that of its frame, though the batch was read as a whole."""
    root = put(server, {"a": tiled_object("1.2", TILES[:3])})
    index = index_objects(tmp_path / "index", root, ["a"])
    with mmindex.open(index) as archive, pytest.raises(mmindex.errors.MMIndexError) as caught:
        archive["1.2"].arrays()
    assert caught.value.path == f"{root}/a"


@pytest.mark.parametrize("honours", [True, False])
def test_a_changed_object_is_stale_and_a_missing_one_is_missing(
    server: RangeServer, tmp_path: Path, honours: bool
) -> None:
    """By If-Match, and where the server ignores that by the ETag of the response."""
    server.honours_if_match = honours
    objects = series(3)
    index = index_objects(tmp_path / "index", put(server, objects), objects)
    server.objects["/files/ward 1/a%201.dcm"] = native_object("1.2.1", FRAMES[::-1], patient="P1")
    del server.objects["/files/ward 2/a%202.dcm"]
    with mmindex.open(index) as archive:
        for read in (
            lambda uid: archive.frame(uid, 0),
            lambda uid: archive.frames([(uid, 0), ("1.2.0", 1)]),
            lambda uid: archive.arrays([("1.2.0", 1), (uid, 0)]),
            lambda uid: archive[uid].dataset(),
            lambda uid: archive[uid].view(0),
        ):
            with pytest.raises(StaleIndexError, match=r"http://.*/a%25201.dcm.*rebuild the index"):
                read("1.2.1")
            with pytest.raises(MissingFileError, match=r"http://.*/a%25202.dcm"):
                read("1.2.2")


def test_an_object_that_changes_while_it_is_read_raises(
    server: RangeServer, tmp_path: Path
) -> None:
    """An instance that is open does not go on with the new object."""
    index = index_objects(tmp_path / "index", put(server, series(1)), series(1))
    with mmindex.open(index) as archive:
        instance = archive["1.2.0"]
        assert instance.frame(0) == b"\0" + FRAMES[0][1:]
        server.objects["/files/ward 0/a%200.dcm"] = native_object("1.2.0", FRAMES[::-1])
        with pytest.raises(StaleIndexError):
            instance.frame(0)


def test_1000_random_tiles_are_at_most_1000_gets(server: RangeServer, tmp_path: Path) -> None:
    """And at most 1.05 times their bytes, by an index and in arrays' batches, too."""
    root = put(server, {"slide.dcm": tiled_object("1.2", TILES)})
    index = index_objects(tmp_path / "index", root, ["slide.dcm"])
    wanted = random.Random(3).sample(range(len(TILES)), 1000)
    with mmindex.open(index) as archive:
        server.served.clear()
        assert archive.frames([("1.2", at) for at in wanted]) == [TILES[at] for at in wanted]
        assert len(server.gets) <= 1000
        assert server.bytes_served <= 1.05 * sum(len(TILES[at]) for at in wanted)
        server.served.clear()
        dataset = mmindex.FrameDataset(archive, decoded=False)
        assert dataset.__getitems__(wanted) == [TILES[at] for at in wanted]
        assert len(server.gets) <= 1000
        assert server.bytes_served <= 1.05 * sum(len(TILES[at]) for at in wanted)


def test_a_frame_of_many_small_fragments_is_one_get(server: RangeServer) -> None:
    """What is between the fragments is read over, though it is more than they are."""
    fragments = [b"\xff\xd8ab", *(b"cd" for _ in range(98)), b"\xff\xd9"]
    data = dicom_file(image_attributes(number_of_frames=1) + encapsulate(fragments), JPEG_BASELINE)
    server.objects["/a"] = data
    with mmindex.open_file(f"{server.url}/a") as instance:
        server.served.clear()
        assert instance.frame(0) == b"".join(fragments)
        assert len(server.gets) == 1


def test_a_store_of_the_callers_serves_the_index_and_the_files(tmp_path: Path) -> None:
    """The URL says which object; the store says where it is."""
    store = stores.MemoryStore()
    objects = series(2)
    for path, data in objects.items():
        obstore.put(store, f"deep/{path}", data)
    index = index_objects(tmp_path / "index", "s3://bucket/deep", objects, store=store)
    with mmindex.open(index, store=store) as archive:
        assert archive.frame("1.2.1", 2) == b"\1" + FRAMES[2][1:]
    obstore.put(store, "deep/.mmindex", index.read_bytes())
    with mmindex.open("s3://bucket/deep", store=store) as archive:
        assert archive.frame("1.2.1", 2) == b"\1" + FRAMES[2][1:]


# Mirrors.


def build_local(folder: Path, objects: dict[str, bytes]) -> Path:
    for path, data in objects.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    mmindex.build(folder, workers=1)
    return folder


def test_a_local_index_reads_a_bucket(server: RangeServer, tmp_path: Path) -> None:
    """A file is the indexed one by size and SOP Instance UID; a later change is noticed."""
    objects = series(3)
    folder = build_local(tmp_path / "archive", objects)
    root = put(server, objects)
    with mmindex.open(folder, archive_root=root + "/") as archive:
        assert archive.root == root
        for at in range(3):
            assert archive.frame(f"1.2.{at}", 5) == bytes([at]) + FRAMES[5][1:]
        assert archive.frames([("1.2.0", 0), ("1.2.2", 1)])[1] == b"\2" + FRAMES[1][1:]
        server.objects["/files/ward 0/a%200.dcm"] = native_object(
            "1.2.0", FRAMES[::-1], patient="P0"
        )
        with pytest.raises(StaleIndexError):
            archive["1.2.0"].source.__class__(  # the version that was taken at the first read
                make_store("http", server.url[7:]),
                "files/ward 0/a%200.dcm",
                "a",
                archive["1.2.1"].source.version,
            ).read(0, 1)
    # The other file of the same size, and a file of another size.
    server.objects["/files/ward 0/a%200.dcm"] = objects["ward 1/a%201.dcm"]
    server.objects["/files/ward 1/a%201.dcm"] = objects["ward 1/a%201.dcm"] + b"\0\0"
    with mmindex.open(folder, archive_root=root) as archive:
        with pytest.raises(StaleIndexError, match=r"expected SOP Instance UID 1\.2\.0"):
            archive.frame("1.2.0", 0)
        with pytest.raises(StaleIndexError, match=r"expected \d+ bytes, found"):
            archive.frame("1.2.1", 0)


def test_an_index_of_a_bucket_reads_a_local_mirror(server: RangeServer, tmp_path: Path) -> None:
    """The reverse: whatever times and inodes the copies have."""
    objects = series(3)
    folder = build_local(tmp_path / "mirror", objects)
    index = index_objects(tmp_path / "index", put(server, objects), objects)
    server.served.clear()
    with mmindex.open(index, archive_root=folder) as archive:
        assert not archive.is_remote
        for at in range(3):
            assert archive.frame(f"1.2.{at}", 5) == bytes([at]) + FRAMES[5][1:]
            assert archive[f"1.2.{at}"].array(1)[0, 0] == at
        shutil.copy(folder / "ward 1/a%201.dcm", folder / "ward 0/a%200.dcm")
        with pytest.raises(StaleIndexError, match="expected SOP Instance UID"):
            archive["1.2.0"]
    assert not server.served


def test_R7_a_deflated_file_of_a_mirror_is_known_by_its_uid(
    server: RangeServer, tmp_path: Path
) -> None:
    """Which its deflated bytes do not show; another one, or one that is not deflated, is stale."""

    def make(uid: str) -> bytes:
        data_set = element(0x00080018, "UI", uid) + image_attributes(rows=4, columns=4)
        return deflated_file(data_set + element(PIXEL_DATA, "OW", FRAMES[0]))

    folder = build_local(tmp_path / "archive", {"a.dcm": make("1.2.3")})
    root = put(server, {"a.dcm": make("1.2.3")})
    with mmindex.open(folder, archive_root=root) as archive:
        assert archive.array("1.2.3", 0).tobytes() == FRAMES[0]
    others = (make(f"1.2.{number}") for number in range(4, 100))
    other = next(each for each in others if len(each) == len(make("1.2.3")))
    for data in (other, bytes(len(other))):
        put(server, {"a.dcm": data})
        with mmindex.open(folder, archive_root=root) as archive, pytest.raises(StaleIndexError):
            archive.array("1.2.3", 0)


def test_a_container_of_a_mirror_that_was_replaced_is_opened_anew(
    server: RangeServer, tmp_path: Path
) -> None:
    """By another of its size, as a file of a mirror is."""
    tars = [write_tar([("a.dcm", native_object("1.2.3", [bytes([at]) * 16]))]) for at in (1, 2)]
    folder = build_local(tmp_path / "archive", {"s.tar": tars[0]})
    root = put(server, {"s.tar": tars[0]})
    with mmindex.open(folder, archive_root=root) as archive:
        assert archive.frame("1.2.3", 0) == b"\1" * 16
        server.objects["/files/s.tar"] = tars[1]
        assert archive.frame("1.2.3", 0) == b"\2" * 16


def test_an_index_of_a_bucket_reads_its_copy_in_another(
    server: RangeServer, tmp_path: Path
) -> None:
    """Whose ETags and times are others."""
    objects = series(2)
    index = index_objects(tmp_path / "index", put(server, objects), objects)
    server.modified += 1000
    server.e_tags = False
    root = put(server, objects, "/copy/")
    with mmindex.open(index, archive_root=root) as archive:
        assert archive.frame("1.2.1", 2) == b"\1" + FRAMES[2][1:]
    with mmindex.open(index) as archive, pytest.raises(StaleIndexError):
        archive.frame("1.2.1", 2)


def test_a_tiled_object_of_a_mirror_is_known_by_its_uid_alone(
    server: RangeServer, tmp_path: Path
) -> None:
    """A UID that another one begins with, or that is padded, is not taken for it."""
    from mmindex.read.files_root import find_uid

    folder = build_local(tmp_path / "archive", {"a": tiled_object("1.2.34", TILES[:3])})
    root = put(server, {"a": tiled_object("1.2.35", TILES[:3])})
    with mmindex.open(folder, archive_root=root) as archive, pytest.raises(StaleIndexError):
        archive.frame("1.2.34", 0)
    for uid in ("1.2.3", "1.2.34"):
        assert find_uid(native_object(uid, FRAMES)) == uid
        assert find_uid(native_object(uid + "5", FRAMES)) == uid + "5"
        assert find_uid(native_object("9" + uid, FRAMES)) == "9" + uid


def index_in_memory(index: Path, objects: dict[str, bytes]) -> Path:
    """Write an index of a bucket that has these objects."""
    store = stores.MemoryStore()
    for key, data in objects.items():
        obstore.put(store, key, data)
    return index_objects(index, "memory://bucket", objects, store=store)


def refer(uid: str, other: str, value: int) -> bytes:
    """Return a file that names another one, as slices name the image that they refer to."""
    reference = element(0x00081150, "UI", CT_IMAGE) + element(0x00081155, "UI", other)
    return dicom_file(
        element(0x00080016, "UI", CT_IMAGE)
        + element(0x00080018, "UI", uid)
        + sequence(0x00081140, [item(reference)])
        + image_attributes(rows=2, columns=2)
        + element(PIXEL_DATA, "OB", bytes([value]) * 4)
    )


def test_a_file_of_a_mirror_that_only_refers_to_a_uid_is_another_file(tmp_path: Path) -> None:
    """Two slices that name each other, of one size, whose names were exchanged in the copy."""
    objects = {"1.dcm": refer("1.5.1", "1.5.2", 1), "2.dcm": refer("1.5.2", "1.5.1", 2)}
    index = index_in_memory(tmp_path / "index", objects)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for name, other in (("1.dcm", "1.dcm"), ("2.dcm", "2.dcm")):
        (mirror / name).write_bytes(objects[other])
    with mmindex.open(index, archive_root=mirror) as archive:
        assert [archive.frame(uid, 0)[0] for uid in ("1.5.1", "1.5.2")] == [1, 2]
    for name, other in (("1.dcm", "2.dcm"), ("2.dcm", "1.dcm")):
        (mirror / name).write_bytes(objects[other])
    with mmindex.open(index, archive_root=mirror) as archive:
        for uid in ("1.5.1", "1.5.2"):
            with pytest.raises(StaleIndexError, match="expected SOP Instance UID"):
                archive.frame(uid, 0)


@pytest.mark.parametrize("syntax", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, DEFLATED])
def test_the_uid_of_a_mirrors_file_is_found_in_every_encoding(tmp_path: Path, syntax: str) -> None:
    plain = tmp_path / "plain.dcm"
    plain.write_bytes(refer("1.5.1", "1.5.2", 1))
    data_set = pydicom.dcmread(plain)
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.file_meta.MediaStorageSOPInstanceUID = "1.5.1"
    pydicom.dcmwrite(tmp_path / "a.dcm", data_set, enforce_file_format=True)
    data = (tmp_path / "a.dcm").read_bytes()
    index = index_in_memory(tmp_path / "index", {"a.dcm": data})
    with mmindex.open(index, archive_root=tmp_path) as archive:
        assert len(archive.frame("1.5.1", 0)) == 4


def test_a_container_of_a_mirror_is_read_as_it_is_now(tmp_path: Path) -> None:
    """As a file is: one of the same size that takes its place is opened in its stead."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()

    def write_tar(value: int) -> None:
        (tmp_path / "a.dcm").write_bytes(refer("1.5.1", "1.5.2", value))
        with tarfile.open(tmp_path / "new.tar", "w") as tar:
            tar.add(tmp_path / "a.dcm", "a.dcm")
        os.replace(tmp_path / "new.tar", mirror / "s.tar")

    write_tar(1)
    mmindex.build(mirror, tmp_path / "local.mmindex", workers=1)
    with mmindex.open(tmp_path / "local.mmindex") as archive:
        records = [
            record._replace(fingerprint=Fingerprint(record.fingerprint.size, 10**18, 7, 2))
            for record in archive.records()
            if record.fingerprint is not None
        ]
    index = tmp_path / "remote.mmindex"
    with closing(create_store(str(index), b"s3://bucket/archive")) as store:
        store.replace(map(pack_record, records))
    with mmindex.open(index, archive_root=mirror, revalidate_after=0) as archive:
        for value in (1, 1, 9, 9, 4):
            write_tar(value)
            assert archive.frame("1.5.1", 0)[0] == value


def test_rescaled_frames_are_of_one_version_of_an_object(tmp_path: Path) -> None:
    """Pixels that were read ahead never get the slope of an object that came after them."""

    def make(value: int, slope: str, intercept: str) -> bytes:
        return dicom_file(
            element(0x00080018, "UI", "1.5.1")
            + image_attributes(rows=2, columns=2, number_of_frames=4, bits=16)
            + element(0x00281052, "DS", intercept)
            + element(0x00281053, "DS", slope)
            + element(PIXEL_DATA, "OW", value.to_bytes(2, "little") * 16)
        )

    store = stores.MemoryStore()
    obstore.put(store, "a.dcm", make(1000, "1", "0"))
    index = tmp_path / "index.mmindex"
    mmindex.build("memory://bucket", index, store=store)

    class ReplacesMeanwhile(ThreadPoolExecutor):
        def map(self, call: Any, *items: Any, **_: Any) -> Any:
            first, *rest = zip(*items, strict=True)
            call(*first)
            obstore.put(store, "a.dcm", make(7, "100", "50"))
            mmindex.build("memory://bucket", index, store=store)
            return iter([call(*each) for each in rest])

    with mmindex.open(index, store=store, revalidate_after=0) as archive:
        pairs = [("1.5.1", at) for at in range(4)]
        with ReplacesMeanwhile(1) as executor:
            values = archive.arrays(pairs, rescale=True, executor=executor)
        assert set(values[:, 0, 0].tolist()) <= {1000.0, 750.0}


@pytest.mark.parametrize("form", [{}, {"implicit": True}, {"order": ">"}])
def test_a_files_own_uid_stands_before_those_of_its_sequences(form: dict[str, Any]) -> None:
    from mmindex.read.files_root import find_uid

    own, other = (
        element(0x00080018, "UI", uid.encode() + b"\0", **form) for uid in ("1.5.1", "1.5.2")
    )
    references = sequence(0x00081140, [item(other, order=form.get("order", "<"))], **form)
    assert find_uid(dicom_file(own + references)) == "1.5.1"


# An index at a URL.


def serve_archive(server: RangeServer, folder: Path, objects: dict[str, bytes]) -> str:
    """Serve a folder with the index in it; return its URL."""
    build_local(folder, objects)
    put(server, objects)
    server.objects["/files/.mmindex"] = (folder / ".mmindex").read_bytes()
    return f"{server.url}/files"


def test_an_index_at_a_url_is_fetched_once(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """A folder that was uploaded with its index opens by URL; then one request says: known."""
    url = serve_archive(server, tmp_path / "archive", series(2))
    with mmindex.open(url) as archive:
        assert archive.root == url
        assert archive.frame("1.2.1", 3) == b"\1" + FRAMES[3][1:]
        (copy,) = cache.glob("*.mmindex")
        assert copy.read_bytes() == server.objects["/files/.mmindex"]
        assert archive.path == str(copy)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    server.served.clear()
    with mmindex.open(f"{url}/.mmindex") as archive:
        assert [request.method for request in server.served] == ["HEAD"]
        again = pickle.loads(pickle.dumps(archive))
        assert again.root == url
        again.close()


def test_an_index_that_changed_is_fetched_anew(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """An archive that is open keeps the copy that it has; an old copy is removed in time."""
    url = serve_archive(server, tmp_path / "archive", series(2))
    with mmindex.open(url) as before:
        (old,) = cache.glob("*.mmindex")
        serve_archive(server, tmp_path / "archive", series(3))
        with mmindex.open(url) as archive:
            assert len(archive) == 3
        assert len(before) == 2
        assert len(list(cache.glob("*.mmindex"))) == 2
    os.utime(old, (0, 0))
    serve_archive(server, tmp_path / "archive", series(4))
    with mmindex.open(url) as archive:
        assert len(archive) == 4
    assert not old.exists()


def test_an_index_that_is_replaced_while_it_is_fetched_is_fetched_anew(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """A few times; nothing is left of copies that did not end."""
    url = serve_archive(server, tmp_path / "archive", series(3))
    index = server.objects["/files/.mmindex"]
    asked = []

    def replace(path: str) -> str:
        asked.append(path)
        if len(asked) == 2:  # the first is of the beginning
            server.objects["/files/.mmindex"] = index + bytes(4096)
        return ""

    server.faults = replace
    with mmindex.open(url) as archive:
        assert len(archive) == 3
    (copy,) = cache.glob("*.mmindex")
    assert copy.stat().st_size == len(index) + 4096
    assert not list(cache.glob("*.new-*"))
    server.faults = lambda path: "other"
    server.objects["/files/.mmindex"] = index
    with pytest.raises((StaleIndexError, IndexFormatError)):
        mmindex.open(url)


def test_copies_of_other_urls_are_removed_in_time(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """Those that nobody opened for 90 days; files of others in the folder stay."""
    url = serve_archive(server, tmp_path / "archive", series(1))
    server.objects["/other.mmindex"] = server.objects["/files/.mmindex"]
    mmindex.open(f"{server.url}/other.mmindex", archive_root=url).close()
    (other,) = cache.glob("*.mmindex")
    (cache / "notes").write_text("mine")
    day = 24 * 3600
    for days, is_kept in ((80, True), (100, False)):
        for each in (other, cache / "notes"):
            os.utime(each, (time.time() - days * day, time.time() - days * day))
        serve_archive(server, tmp_path / "archive", series(days))
        mmindex.open(url).close()
        assert other.exists() is is_kept
    assert (cache / "notes").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_cache_below_a_folder_of_another_user_is_refused(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """Whom the folder above belongs to may put another one in its place, sticky or not."""
    url = serve_archive(server, tmp_path / "archive", series(1))
    cache.mkdir(parents=True)
    os.chown(cache.parent, 12345, 12345)
    for mode in (0o755, 0o1777):
        cache.parent.chmod(mode)
        with pytest.raises(IndexWriteError, match="may rename it"):
            mmindex.open(url)


def test_many_who_open_an_index_at_once_all_get_it(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """Each copy is renamed when it is whole, so that none is half."""
    url = serve_archive(server, tmp_path / "archive", series(5))

    def count(_: int) -> int:
        with mmindex.open(url) as archive:
            return len(archive)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(count, range(16))) == {5}
    assert len(list(cache.glob("*.mmindex"))) == 1


def test_a_copy_that_is_cut_or_a_link_is_fetched_anew(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """What is in the cache is believed only as far as it is a whole file of the user's own."""
    url = serve_archive(server, tmp_path / "archive", series(2))
    mmindex.open(url).close()
    (copy,) = cache.glob("*.mmindex")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1])
    mmindex.open(url).close()
    assert copy.read_bytes() == whole
    (tmp_path / "other").write_bytes(whole)
    copy.unlink()
    copy.symlink_to(tmp_path / "other")
    mmindex.open(url).close()
    assert not copy.is_symlink()


def test_a_cache_that_others_may_write_is_refused(
    server: RangeServer, tmp_path: Path, cache: Path
) -> None:
    """Another user could put an index there."""
    url = serve_archive(server, tmp_path / "archive", series(1))
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    with pytest.raises(IndexWriteError, match="other users may write it; set XDG_CACHE_HOME"):
        mmindex.open(url)
    cache.rmdir()
    cache.symlink_to(tmp_path)
    with pytest.raises(IndexWriteError, match="it is no folder"):
        mmindex.open(url)
    cache.unlink()
    cache.parent.chmod(0o777)
    with pytest.raises(IndexWriteError, match="may rename it"):
        mmindex.open(url)
    cache.parent.chmod(0o755)
    cache.mkdir(exist_ok=True)
    cache.chmod(0o755)
    mmindex.open(url).close()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_what_is_no_index_is_not_downloaded(server: RangeServer, cache: Path) -> None:
    """32 bytes tell; a missing one is a MissingFileError."""
    server.objects["/a.mmindex"] = bytes(1 << 22)
    with pytest.raises(IndexFormatError, match=r"not an mmindex index.*|a\.mmindex"):
        mmindex.open(f"{server.url}/a.mmindex")
    assert server.bytes_served <= 32
    assert not list(cache.glob("*.mmindex"))
    with pytest.raises(MissingFileError):
        mmindex.open(f"{server.url}/nothing")


def test_an_index_that_breaks_off_leaves_nothing(
    server: RangeServer, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that does not fit on the disk."""
    url = serve_archive(server, tmp_path / "archive", series(2))
    answers = iter([""])
    server.faults = lambda path: next(answers, "status 403")
    with pytest.raises(RemoteReadError):
        mmindex.open(url)
    assert not list(cache.glob("*.mmindex"))
    server.faults = lambda path: ""
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(IndexWriteError, match="no room"):
        mmindex.open(url)
    assert not list(cache.glob("*.mmindex"))


@pytest.mark.parametrize("root", ["/etc", "http://127.0.0.1:9/other", "s3://bucket"])
def test_an_index_at_a_url_reads_no_other_place_unless_the_user_names_it(
    server: RangeServer, tmp_path: Path, root: str
) -> None:
    """Whoever wrote the index would choose which local files, or hosts, are read."""
    objects = series(1)
    files = put(server, objects)
    index = index_objects(tmp_path / "index", files, objects)
    with closing(Store(str(index))) as store:
        records = list(store.iterate_records())
    other = tmp_path / "other"
    with closing(create_store(str(other), root.encode())) as store:
        store.replace(map(pack_record, records))
    server.objects["/x.mmindex"] = other.read_bytes()
    with pytest.raises(IndexFormatError, match=r"elsewhere, '.*': to read that, give it as arch"):
        mmindex.open(f"{server.url}/x.mmindex")
    with mmindex.open(f"{server.url}/x.mmindex", archive_root=files) as archive:
        assert archive.frame("1.2.0", 1) == b"\0" + FRAMES[1][1:]


# Processes.

WORKERS = """
import multiprocessing, os, sys, warnings
import mmindex

def read(at):
    return dataset[at].tobytes().hex()

if __name__ == "__main__" or True:
    archive = mmindex.open(sys.argv[1])
    dataset = mmindex.FrameDataset(archive)

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        forked = pool.map(read, range(len(dataset)))
    assert forked == [read(at) for at in range(len(dataset))], forked
    child = os.fork()
    if not child:
        try:
            read(0)
        except mmindex.errors.RemoteReadError as error:
            os._exit(7 if "spawn" in str(error) else 1)
        os._exit(2)
    print(len(forked), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_a_bucket(server: RangeServer, tmp_path: Path, method: str) -> None:
    """Forked ones, too, while their parent has read nothing; then an error says what to do."""
    objects = series(2)
    index = index_objects(tmp_path / "index", put(server, objects), objects)
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(index), method],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.stdout.split() == ["12", "7"], done.stderr


# What an instance is beside its frames.


class TestBesideFrames:
    """Header, values, pictures and slides of objects are those of local files."""

    @pytest.fixture
    def store(self) -> Any:
        return stores.MemoryStore()

    @pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
    def test_header_values_and_pictures(self, store: Any) -> None:
        """A file that pydicom carries: everything is as it is read locally."""
        name = testdata("rtdose.dcm")
        obstore.put(store, "a.dcm", name.read_bytes())
        with (
            mmindex.open_file(name) as local,
            mmindex.open_file("s3://bucket/a.dcm", store=store) as remote,
        ):
            assert remote.dataset() == local.dataset()
            assert remote.frame_table().keys() == local.frame_table().keys()
            for key, column in local.frame_table().items():
                found = remote.frame_table()[key]
                assert np.array_equal(found, column, equal_nan=column.dtype == float)
            assert np.array_equal(remote.picture(1), local.picture(1))
            assert np.array_equal(remote.array(1, rescale=True), local.array(1, rescale=True))
            assert np.array_equal(remote.arrays(rescale=True), local.arrays(rescale=True))
            assert remote.view(0) == local.view(0)
            assert remote.byte_ranges(1) == local.byte_ranges(1)
            assert [bytes(each) for each in remote.fragments(1)] == [
                bytes(each) for each in local.fragments(1)
            ]

    def test_header_is_read_once_for_many_frames(self, server: RangeServer) -> None:
        """Rescaled pictures of an instance take one header and a request a frame, or fewer."""
        server.objects["/a"] = testdata("rtdose.dcm").read_bytes()
        with mmindex.open_file(f"{server.url}/a") as instance:
            server.served.clear()
            for at in range(len(instance)):
                instance.picture(at)
                instance.frame_table()
            assert len(server.gets) <= len(instance) + 2

    def test_slide(self, store: Any, tmp_path: Path) -> None:
        """Regions and thumbnails; of a region, tiles that lie together are one request."""
        picture = draw(200, 150)
        tiles = [data for _, _, data in cut(picture)]
        data = write_slide_file(1, (200, 150), tiles)
        obstore.put(store, "case/1.dcm", data)
        requests: list[Request] = []
        with mmindex.open_slide("s3://bucket/case/", store=store) as slide:
            assert np.array_equal(slide.read_region(0, 0, 0, 200, 150), picture)
            with watching(requests.append):
                region = slide.read_region(0, 40, 50, 100, 60)
            assert np.array_equal(region, picture[50:110, 40:140])
            assert len(requests) <= 3
            assert slide.thumbnail(100).shape == (75, 100, 3)
            assert slide.tile(0, 1, 2) == tiles[2 * 7 + 1]
        index = index_objects(tmp_path / "index", "s3://bucket", ["case/1.dcm"], store=store)
        with (
            mmindex.open(index, store=store) as archive,
            archive.slide("1.2.3.4.2") as slide,
        ):
            assert np.array_equal(slide.read_region(0, 40, 50, 100, 60), picture[50:110, 40:140])

    def test_volume_is_read_in_batches(self, server: RangeServer, tmp_path: Path) -> None:
        """A series of single slices: each a request for the header and one for the frame."""
        objects = {}
        for at in range(6):
            data_set = element(0x00080018, "UI", f"1.2.{at}") + element(0x0020000E, "UI", "1.2.8")
            data_set += element(0x00200032, "DS", rf"0\0\{at}")
            data_set += element(0x00200037, "DS", r"1\0\0\0\1\0")
            data_set += image_attributes(rows=4, columns=4)
            data_set += element(0x00280030, "DS", r"1\1")
            objects[f"{at}.dcm"] = dicom_file(data_set + element(PIXEL_DATA, "OW", FRAMES[at]))
        index = index_objects(tmp_path / "index", put(server, objects), objects)
        with mmindex.open(index) as archive:
            server.served.clear()
            volume = archive.volume("1.2.8")
            assert [plane.tobytes() for plane in volume.array] == FRAMES
            assert len(server.gets) <= 12


# Frames one after the other.


class TestWalks:
    """What reads frames in turn reads those of a store in batches, many requests at once."""

    @pytest.fixture
    def requests(self) -> list[Request]:
        return []

    @pytest.fixture
    def instance(self, server: RangeServer, requests: list[Request]) -> Iterator[Any]:
        server.objects["/a"] = tiled_object("1.2.3", TILES[:300])
        with (
            mmindex.open_file(f"{server.url}/a", prove=True) as instance,
            watching(requests.append),
        ):
            yield instance

    def test_iteration_and_slices(self, instance: Any, requests: list[Request]) -> None:
        """The first frame does not wait for many others."""
        assert next(iter(instance)) == TILES[0]
        assert sum(each.length for each in requests) <= sum(map(len, TILES[:8])) + 8 * 8
        requests.clear()
        assert list(instance) == TILES[:300]
        assert len(requests) <= 8
        requests.clear()
        assert instance[250:20:-3] == TILES[250:20:-3]
        assert len(requests) <= 78
        assert instance[5:5] == []
        assert instance[-1:] == [TILES[299]]

    def test_an_error_is_that_of_its_frame(self, instance: Any, server: RangeServer) -> None:
        """Frames before were yielded."""
        frames = iter(instance)
        assert next(frames) == TILES[0]
        server.objects["/a"] = server.objects["/a"][::-1]
        for _ in range(7):
            next(frames)
        with pytest.raises(StaleIndexError, match=f"{server.url}/a"):
            next(frames)

    def test_frame_command(self, instance: Any, server: RangeServer) -> None:
        """Frames that are written one after the other."""
        server.served.clear()
        done = run("frame", instance.path, "1-")
        assert done.stdout_bytes == b"".join(TILES[:300])
        assert len(server.gets) <= 24

    def test_stream(self, server: RangeServer) -> None:
        """The fragments of a video."""
        fragments = [bytes([at]) * 20_000 for at in range(200)]
        data_set = element(0x00080018, "UI", "1.2.3") + image_attributes(number_of_frames=9)
        server.objects["/v"] = dicom_file(data_set + encapsulate(fragments), HEVC)
        with mmindex.open_file(f"{server.url}/v") as instance:
            assert instance.record.status is Status.STREAM
            server.served.clear()
            assert list(instance.stream()) == fragments
            assert len(server.gets) <= 2

    def test_pictures(self, server: RangeServer, tmp_path: Path) -> None:
        """A sheet of 15 frames, and pictures: one header, and few requests for frames."""
        server.objects["/d"] = data = testdata("rtdose.dcm").read_bytes()
        with (
            mmindex.open_file(data) as local,
            mmindex.open_file(f"{server.url}/d") as instance,
        ):
            numbers = list(range(len(instance)))
            server.served.clear()
            sheet = draw_sheet(instance, numbers)
            assert sheet.png == draw_sheet(local, numbers).png
            assert len(server.gets) <= 8
            server.served.clear()
            pictures = list(walk_pictures(instance, [range(len(instance))]))
            assert pictures == list(walk_pictures(local, [range(len(local))]))
            assert len(server.gets) <= 6

    def test_where_frames_are(self, server: RangeServer, tmp_path: Path) -> None:
        """Items of an unproved table are read by few requests: for an export, for a command."""
        objects = {"a": tiled_object("1.2.3", TILES[:300])}
        root = put(server, objects)
        index = index_objects(tmp_path / "index", root, objects, prove=False)
        with mmindex.open_file(objects["a"]) as instance:
            expected = [tuple(instance.byte_ranges(at)[0]) for at in range(300)]
        server.served.clear()
        with mmindex.open(index) as archive:
            rows = [json.loads(line) for line in walk_lines(archive)]
        assert [(row["offset"], row["length"]) for row in rows] == expected
        assert len(server.gets) <= 12
        server.served.clear()
        shown = json.loads(run("ranges", f"{root}/a").stdout)
        assert [(each["number"], *each["ranges"][0].values()) for each in shown["frames"]] == [
            (at + 1, *piece) for at, piece in enumerate(expected)
        ]
        assert len(server.gets) <= 30

    @pytest.mark.parametrize("prove", [True, False])
    def test_fragments(self, prove: bool, server: RangeServer, tmp_path: Path) -> None:
        """Those of a frame by one request, proved or not; all of a file by some."""
        objects = {"a": tiled_object("1.2.3", TILES[:300])}
        root = put(server, objects)
        index = index_objects(tmp_path / "index", root, objects, prove=prove)
        with mmindex.open(index) as archive, archive["1.2.3"] as instance:
            server.served.clear()
            assert bytes(instance.view(7)) == TILES[7]
            assert list(map(bytes, instance.fragments(8))) == [TILES[8]]
            assert len(server.gets) == 2
            server.served.clear()
            assert list(map(bytes, instance.all_fragments())) == TILES[:300]
            assert len(server.gets) <= 12
