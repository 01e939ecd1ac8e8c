"""Each contender's way to open an image and to read its frame N, as its documentation has it.

An opener is a context manager that takes an Image and gives `read(frame_index)`, the frame as
stored. Those of INDEXED read an index that their builder made before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from scripts.benchmark.model import MMINDEX, CannotReadError, Image, excuse

if TYPE_CHECKING:
    from pydicom import Dataset

Read = Callable[[int], bytes]
Opener = Callable[[Image], AbstractContextManager[Read]]


@contextmanager
def open_mmindex(image: Image, *, prove: bool = False) -> Iterator[Read]:
    """Scan on the fly; `prove` looks at every entry of an offset table, which no peer does."""
    import mmindex

    with mmindex.open_file(image.path, prove=prove) as instance:
        yield instance.frame


@contextmanager
def open_indexed(image: Image) -> Iterator[Read]:
    """Read mmindex's index of the image's folder."""
    import mmindex

    with mmindex.open(image.root) as archive:
        yield archive[image.sop_instance_uid].frame


@contextmanager
def open_pydicom(image: Image) -> Iterator[Read]:
    """Parse the header, then let `get_frame` look in the open file; read a native image's value."""
    with open(image.path, "rb") as file:
        yield read_with_pydicom(file)


def read_with_pydicom(file: BinaryIO) -> Read:
    """Parse the header of an open file; return what reads a frame from it."""
    import pydicom

    data_set = pydicom.dcmread(file, stop_before_pixels=True)
    start = file.tell() + 12  # the header of Pixel Data
    if not data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        return partial(_read_native, file, start, data_set)
    find = _find_with_pydicom(data_set)

    def read(frame_index: int) -> bytes:
        file.seek(start)
        return find(file, frame_index)

    return read


def _find_with_pydicom(data_set: Dataset) -> Callable[[BinaryIO | bytes, int], bytes]:
    """Return what finds a frame in the value of Pixel Data, from the tables if there are some."""
    from pydicom.encaps import get_frame

    tables = None
    if "ExtendedOffsetTable" in data_set:
        tables = data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths
    count = int(data_set.NumberOfFrames)
    return partial(get_frame, number_of_frames=count, extended_offsets=tables)


def _read_native(file: BinaryIO, start: int, data_set: Dataset, frame_index: int) -> bytes:
    from pydicom.pixels.utils import get_expected_length

    count = int(data_set.get("NumberOfFrames", 1))
    length = get_expected_length(data_set) // count
    file.seek(start + frame_index * length)
    return file.read(length)


@contextmanager
def open_whole_with_pydicom(image: Image) -> Iterator[Read]:
    """Read all of the file, then let `get_frame` look in it; a native image has one frame here."""
    import pydicom

    data_set = pydicom.dcmread(image.path)
    value = data_set.PixelData
    if data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        yield partial(_find_with_pydicom(data_set), value)
    else:
        yield lambda frame_index: value


@contextmanager
def open_highdicom(image: Image) -> Iterator[Read]:
    """Let its reader parse the header and read or build the offset table."""
    from highdicom.io import ImageFileReader

    with ImageFileReader(image.path) as reader:
        yield reader.read_frame_raw


@contextmanager
def open_dicomsdl(image: Image) -> Iterator[Read]:
    """Let it load the file; without a table it takes all fragments for one frame."""
    import dicomsdl

    data_set = dicomsdl.open(image.path)
    pixels = data_set.getDataElement("PixelData").toPixelSequence()
    if pixels.numberOfFrames() != image.number_of_frames:
        raise CannotReadError("(does not tell the frames)")
    yield pixels.encodedFrameData


@contextmanager
def open_dicomweb_client(image: Image) -> Iterator[Read]:
    """Read the SQLite index that its file client made of the image's folder."""
    with ExitStack() as stack:
        yield partial(read_by_uids(image.root, stack), image)


def read_by_uids(root: str, stack: ExitStack) -> Callable[[Image, int], bytes]:
    """Return what reads a frame of an image by its UIDs, from dicomweb-client's index of `root`."""
    from dicomweb_client.api import DICOMfileClient

    client = DICOMfileClient(f"file://{root}", readonly=True)
    stack.callback(close_dicomweb_client, client)

    def read(image: Image, frame_index: int) -> bytes:
        uids = image.study_instance_uid, image.series_instance_uid, image.sop_instance_uid
        frames = client.retrieve_instance_frames(*uids, [frame_index + 1], media_types=("*/*",))
        frame: bytes = frames[0]
        return frame

    return read


OPENERS: dict[str, Opener] = {
    MMINDEX: open_mmindex,
    "pydicom get_frame": open_pydicom,
    "pydicom dcmread": open_whole_with_pydicom,
    "highdicom": open_highdicom,
    "dicomsdl": open_dicomsdl,
}
PROVING = OPENERS | {MMINDEX: partial(open_mmindex, prove=True)}
INDEXED: dict[str, Opener] = {MMINDEX: open_indexed, "dicomweb-client": open_dicomweb_client}


def build_mmindex(root: str, workers: int = 1, *, full: bool = False) -> None:
    """Make or update mmindex's index of a folder."""
    import mmindex

    mmindex.build(root, workers=workers, full=full)


def build_dicomweb_client(root: str) -> None:
    """Make or update the SQLite index of dicomweb-client's file client."""
    from dicomweb_client.api import DICOMfileClient

    close_dicomweb_client(DICOMfileClient(f"file://{root}", update_db=True))


def close_dicomweb_client(client: object) -> None:
    """Let go of its database: it has no method for that but the one that pickles it."""
    client._db_manager.__getstate__()  # type: ignore[attr-defined]


BUILDERS: dict[str, Callable[[str], None]] = {
    MMINDEX: build_mmindex,
    "dicomweb-client": build_dicomweb_client,
}
INDEX_FILES = {MMINDEX: ".mmindex", "dicomweb-client": ".dicom-file-client.db"}


def try_to_build(name: str, root: str) -> str:
    """Make a contender's index of a folder; return "", or why there is none."""
    return excuse(name, partial(BUILDERS[name], root))[1]


def measure_index(name: str, root: str, count: int) -> float:
    """Make a contender's index of a folder; return its bytes on disk for each of `count` things.

    A log that belongs to the index file counts.
    """
    BUILDERS[name](root)
    path = Path(root, INDEX_FILES[name])
    log = path.with_name(path.name + "-wal")
    found = [file.stat() for file in (path, log) if file.exists()]
    return sum(min(status.st_size, 512 * status.st_blocks) for status in found) / count


def remove_indexes(root: str) -> None:
    """Remove every index of a folder."""
    for path in Path(root).glob(".*"):
        if path.name.startswith(tuple(INDEX_FILES.values())):
            path.unlink()


def read_uid_with_pydicom(file: str | BinaryIO) -> object:
    """Return the SOP Instance UID in a file's header, as an index of pydicom's would have it."""
    import pydicom

    return pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID


def read_once(opener: Opener, image: Image, frame_index: int) -> bytes:
    """Open, read one frame, close."""
    with opener(image) as read:
        return read(frame_index)
