"""Case: frames at random over many instances, as a training loop reads them."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import mmindex
from scripts.benchmark.data import write_image, write_small_files
from scripts.benchmark.elements import EXPLICIT_VR_LITTLE_ENDIAN
from scripts.benchmark.measure import Bench, Call, Contender, attempt, tell
from scripts.benchmark.model import MMINDEX, PREAD, Image, Result
from scripts.benchmark.openers import Read, build_dicomweb_client, build_mmindex

READS = 2000
FRAMES_A_CINE = 100


class _Mix:
    """Cines and small native files, and which of their frames are read."""

    def __init__(self, bench: Bench, root: str, stack: ExitStack) -> None:
        cines, small = (20, 200) if bench.quick else (100, 200)
        self.stack = stack
        self.root = root
        self.images: dict[str, Image] = {}
        self.places: dict[tuple[str, int], tuple[str, int, int]] = {}
        for number in range(cines):
            written = write_image(
                Path(root), FRAMES_A_CINE, name=f"cine-{number}.dcm", number=number + 1
            )
            self.images[written.image.sop_instance_uid] = written.image
            for frame_index, (offset, length) in enumerate(written.ranges):
                place = written.image.path, offset, length
                self.places[written.image.sop_instance_uid, frame_index] = place
        for image in write_small_files(Path(root), small):
            self.images[image.sop_instance_uid] = image
            length = 128 * 128 * 2
            offset = os.stat(image.path).st_size - length
            self.places[image.sop_instance_uid, 0] = image.path, offset, length
        generator = random.Random(3)
        self.pairs = [generator.choice(list(self.places)) for _ in range(READS)]

    def expected(self, uid: str, frame_index: int) -> bytes:
        """Return what a frame has to be."""
        path, offset, length = self.places[uid, frame_index]
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def make(self, name: str, read: Call) -> Contender:
        """Return the contender that reads this mix with `read`."""
        return Contender(name, read, self.pairs, self.expected)

    def make_mmindex(self) -> Contender:
        """By UID, from the index."""
        build_mmindex(self.root)
        return self.make(MMINDEX, self.stack.enter_context(mmindex.open(self.root)).frame)

    def make_pydicom(self) -> Contender:
        """Parse the header for each frame, and read no more of the file than the frame."""
        import pydicom
        from pydicom.encaps import get_frame

        def read(uid: str, frame_index: int) -> bytes:
            with open(self.images[uid].path, "rb") as file:
                data_set = pydicom.dcmread(file, stop_before_pixels=True)
                file.seek(12, os.SEEK_CUR)  # the header of Pixel Data
                if data_set.file_meta.TransferSyntaxUID == EXPLICIT_VR_LITTLE_ENDIAN:
                    return file.read(data_set.Rows * data_set.Columns * 2)
                count = int(data_set.NumberOfFrames)
                return get_frame(file, frame_index, number_of_frames=count)

        return self.make("pydicom", read)

    def make_highdicom(self) -> Contender:
        """Keep a reader open for every file."""
        from highdicom.io import ImageFileReader

        readers: dict[str, Read] = {}

        def read(uid: str, frame_index: int) -> bytes:
            reader = readers.get(uid)
            if reader is None:
                file = self.stack.enter_context(ImageFileReader(self.images[uid].path))
                reader = readers[uid] = file.read_frame_raw
            return reader(frame_index)

        for uid, frame_index in self.pairs:
            read(uid, frame_index)
        return self.make("highdicom, kept open", read)

    def make_dicomweb_client(self) -> Contender:
        """By UIDs, from its SQLite index."""
        from dicomweb_client.api import DICOMfileClient

        build_dicomweb_client(self.root)
        client = DICOMfileClient(f"file://{self.root}", readonly=True)

        def read(uid: str, frame_index: int) -> bytes:
            image = self.images[uid]
            uids = image.study_instance_uid, image.series_instance_uid, uid
            frames = client.retrieve_instance_frames(*uids, [frame_index + 1], media_types=("*/*",))
            frame: bytes = frames[0]
            return frame

        return self.make("dicomweb-client", read)

    def make_limit(self) -> Contender:
        """Read known ranges of files that are open."""
        descriptors: dict[str, int] = {}
        for image in self.images.values():
            descriptors[image.path] = os.open(image.path, os.O_RDONLY)
            self.stack.callback(os.close, descriptors[image.path])
        places = (self.places[pair] for pair in self.pairs)
        known = [(descriptors[path], length, offset) for path, offset, length in places]
        return Contender(PREAD, os.pread, known)


def run_training(bench: Bench) -> Iterator[Result]:
    """Read frames at random over cines and small native files."""
    tell("training")
    with bench.make_folder("training") as folder, ExitStack() as stack:
        mix = _Mix(bench, str(folder / "files"), stack)
        contenders = [
            attempt(MMINDEX, mix.make_mmindex),
            attempt("pydicom", mix.make_pydicom),
            attempt("highdicom, kept open", mix.make_highdicom),
            attempt("dicomweb-client", mix.make_dicomweb_client),
            attempt(PREAD, mix.make_limit),
        ]
        title = f"a random frame of {len(mix.images):,} instances, as in training"
        yield Result("training", title, "s", bench.measure(contenders), PREAD, 2.0)
