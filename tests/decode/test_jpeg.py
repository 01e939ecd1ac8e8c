"""JPEG streams: progressive ones, scans that are gone, sizes that no bytes can fill, colours."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pydicom
import pytest
from child_process import exit_code, forks
from codec_examples import describe_pixels
from dicom_bytes import JPEG_BASELINE, encapsulated_file
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom_oracle import FOLDER, quiet_pydicom, read_data_set

import mmindex
from mmindex.decode.frame import decode_frame
from mmindex.decode.jpeg_header import check_scans, parse_jpeg_header, walk_scans
from mmindex.errors import DecodeError

imagecodecs = pytest.importorskip("imagecodecs")
Image = pytest.importorskip("PIL.Image")

FULL_PROGRESSION = "1.2.840.10008.1.2.4.55"
GRAY = (np.add(*np.mgrid[:97, :131]) * 3 % 256).astype("u1")
COLOURS = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], -1)
EOI = b"\xff\xd9"
describe = partial(describe_pixels, colours="YBR_FULL_422")


def save(pixels: np.ndarray, **options: Any) -> bytes:
    """Return a JPEG that Pillow writes."""
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "JPEG", **{"quality": 90, **options})
    return written.getvalue()


def read_by_pillow(frame: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(frame)))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("pixels", [GRAY, COLOURS], ids=["gray", "rgb"])
def test_a_progressive_jpeg_has_the_pixels_that_pillow_finds(
    pixels: np.ndarray, subsampling: int
) -> None:
    """Process 10: spectral selection and successive approximation, chroma at any sampling."""
    frame = save(pixels, progressive=True, subsampling=subsampling)
    header = parse_jpeg_header(frame)
    assert header.process == 0xC2
    assert len(list(walk_scans(frame, header.end))) > 5
    found = decode_frame(frame, describe(pixels), FULL_PROGRESSION)
    assert np.array_equal(found, read_by_pillow(frame))


@pytest.mark.parametrize("end", [b"", EOI], ids=["cut", "with EOI"])
@pytest.mark.parametrize("pixels", [GRAY, COLOURS], ids=["gray", "rgb"])
def test_a_progressive_jpeg_that_lacks_scans_is_an_error(pixels: np.ndarray, end: bytes) -> None:
    """Decoders make a coarser picture of those that are there, in silence."""
    frame = save(pixels, progressive=True)
    image = describe(pixels)
    starts = [at for at in range(len(frame)) if frame[at : at + 2] in (b"\xff\xda", b"\xff\xc4")]
    whole = decode_frame(frame, image, FULL_PROGRESSION)
    coarser = 0
    first = frame.index(b"\xff\xda")
    for start in [each for each in starts if each > first]:
        cut = frame[:start] + end
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            decode_frame(cut, image, FULL_PROGRESSION)
        coarser += not np.array_equal(imagecodecs.jpeg8_decode(cut + EOI), whole)
    assert coarser > 3


@pytest.mark.parametrize("pixels", [GRAY, COLOURS], ids=["gray", "rgb"])
def test_a_progressive_jpeg_cut_anywhere_is_an_error(pixels: np.ndarray) -> None:
    """Within a scan, between two, before the end marker's last data."""
    frame = save(pixels, progressive=True)
    image = describe(pixels)
    for length in range(20, len(frame) - 3, 7):
        with pytest.raises(DecodeError):
            decode_frame(frame[:length], image, FULL_PROGRESSION)
    assert np.array_equal(decode_frame(frame[:-2], image, FULL_PROGRESSION), read_by_pillow(frame))


def test_a_scan_whose_band_ends_before_it_begins_holds_no_coefficients() -> None:
    """However many there are (T.81 G.1.1.1.1: the first of a band is not after its last)."""
    frame = save(GRAY, progressive=True)
    header = parse_jpeg_header(frame)

    def scan(first: int, last: int) -> bytes:
        return b"\xff\xda\0\x08\1" + header.ids + bytes((0, first, last, 0))

    check_scans(header, frame[: header.end] + scan(0, 0) + scan(1, 63) + EOI)
    backwards = b"".join(scan(63, last) for last in range(63))
    with pytest.raises(DecodeError, match="before its last scan"):
        check_scans(header, frame[: header.end] + scan(0, 0) + backwards + EOI)


def split_components(pixels: np.ndarray) -> bytes:
    """Return a sequential JPEG with a scan for each of three components, as some writers make."""
    frame = save(pixels, subsampling=0, optimize=False)
    gray = [save(pixels[..., at]) for at in range(3)]
    sof = parse_jpeg_header(frame)
    head = gray[0][: gray[0].index(b"\xff\xc0")]
    header = frame[frame.index(b"\xff\xc0") : sof.end].replace(
        b"\2\x11\1\3\x11\1", b"\2\x11\0\3\x11\0"
    )
    tables = gray[0][gray[0].index(b"\xff\xc4") : gray[0].index(b"\xff\xda")]
    scans = b""
    for at, each in enumerate(gray):
        start = each.index(b"\xff\xda")
        scans += each[start : start + 5] + bytes((at + 1,)) + each[start + 6 : -2]
    return head + header + tables + scans + EOI


def test_a_sequential_jpeg_that_lacks_a_component_is_an_error() -> None:
    """One of three scans is gone: the colours that are left are not those of the image."""
    frame = split_components(COLOURS)
    image = describe(COLOURS, photometric_interpretation="RGB")
    scans = list(walk_scans(frame, parse_jpeg_header(frame).end))
    assert [scan.ids for scan in scans] == [b"\1", b"\2", b"\3"]
    decode_frame(frame, image, JPEG_BASELINE)
    starts = [at for at in range(len(frame)) if frame[at : at + 2] == b"\xff\xda"]
    for cut in (frame[: starts[2]] + EOI, frame[: starts[1]] + frame[starts[2] :]):
        with pytest.raises(DecodeError, match="before its last scan"):
            decode_frame(cut, image, JPEG_BASELINE)


def enlarge(frame: bytes, rows: int, columns: int) -> bytes:
    """Return a JPEG whose frame header claims another size."""
    header = parse_jpeg_header(frame)
    at = header.end - 6 - 3 * len(header.ids) + 1
    assert struct.unpack_from(">HH", frame, at) == (header.rows, header.columns)
    return frame[:at] + struct.pack(">HH", rows, columns) + frame[at + 4 :]


TINY = GRAY[:16, :16].copy()
BOMBS: dict[str, Callable[[], bytes]] = {
    "sequential": lambda: save(TINY),
    "progressive": lambda: save(TINY, progressive=True),
    "lossless": lambda: bytes(imagecodecs.jpeg8_encode(TINY, lossless=True)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_jpeg_of_more_pixels_than_its_bits_can_hold_is_refused(kind: str) -> None:
    """Before memory is taken for them: no code is shorter than a bit."""
    frame = enlarge(BOMBS[kind](), 12_000, 12_000)
    image = describe(TINY, rows=12_000, columns=12_000)
    with pytest.raises(DecodeError, match=r"expected at least \d+ bytes for 12000 x 12000 pixels"):
        decode_frame(frame, image, JPEG_BASELINE)


@pytest.mark.parametrize("shape", [(8, 8), (8, 4096), (4096, 8), (1000, 1001), (1501, 1503)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["sequential", "progressive"])
def test_the_shortest_jpeg_of_an_even_image_is_decoded(
    shape: tuple[int, int], subsampling: int, options: dict[str, Any]
) -> None:
    """Blank images have the shortest codes that an optimizing encoder finds."""
    for blank in (np.zeros(shape, "u1"), np.full((*shape, 3), 255, "u1")):
        frame = save(blank, optimize=True, subsampling=subsampling, quality=1, **options)
        found = decode_frame(frame, describe(blank), JPEG_BASELINE)
        assert np.array_equal(found, read_by_pillow(frame))
    if not options:  # and without loss
        frame = bytes(imagecodecs.jpeg8_encode(np.zeros(shape, "u1"), lossless=True, optimize=True))
        assert not decode_frame(frame, describe(np.zeros(shape, "u1")), JPEG_BASELINE).any()


def blow_up(codec: str) -> tuple[bytes, int]:
    """Return a frame of a few bytes or kilobytes that says 60,000 x 60,000 pixels, and its side."""
    side = 60_000
    if codec == "jpeg2000":
        frame = bytearray(
            imagecodecs.jpeg2k_encode(TINY, reversible=True, level=0, codecformat="j2k")
        )
        for at in (8, 12, 24, 28):
            frame[at : at + 4] = side.to_bytes(4, "big")
    elif codec == "jpeg-ls":
        frame = bytearray(imagecodecs.jpegls_encode(TINY))
        at = frame.index(b"\xff\xf7") + 5
        frame[at : at + 4] = struct.pack(">HH", side, side)
    elif codec == "jpeg-xl":
        fields = [(0, 1), (2, 2), (side - 1, 18), (1, 3)]  # large, 18 bits of rows, square
        number = at = 0
        for value, count in fields:
            number |= value << at
            at += count
        frame = bytearray(b"\xff\x0a" + number.to_bytes(3, "little") + bytes(40))
    else:
        frame = bytearray(enlarge(BOMBS["sequential"](), side, side))
    return bytes(frame), side


@forks
@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "jpeg-ls", "jpeg-xl"])
def test_a_frame_that_claims_3_6_gigapixels_takes_little_memory(codec: str) -> None:
    """What a stream of another codec may hold is bounded where arithmetic does not bound it."""
    frame, side = blow_up(codec)
    image = describe(TINY, rows=side, columns=side)

    def decode() -> None:
        import resource

        with open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), used + (64 << 20)))
        with pytest.raises(DecodeError, match="bytes for 60000 x 60000 pixels"):
            decode_frame(frame, image, JPEG_BASELINE)

    assert exit_code(decode) == 0


ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0"


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("transform", [None, 0, 1])
def test_colours_are_those_of_pydicom_whatever_an_adobe_marker_says(
    transform: int | None, photometric: str
) -> None:
    """Transform 1 is YCbCr; with 0, as without a marker, the Photometric Interpretation decides."""
    frame = save(COLOURS, subsampling=0, quality=95)
    start = frame.index(b"\xff\xe0")
    after = start + 2 + int.from_bytes(frame[start + 2 : start + 4], "big")
    marker = b"" if transform is None else ADOBE + bytes((transform,))
    frame = frame[:start] + marker + frame[after:]  # without JFIF
    header = parse_jpeg_header(frame)
    assert (header.has_jfif, header.adobe_transform) == (False, transform)
    data_set = pydicom.Dataset()
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = JPEG_BASELINE
    data_set.Rows, data_set.Columns, data_set.SamplesPerPixel = *COLOURS.shape[:2], 3
    data_set.BitsAllocated = data_set.BitsStored = 8
    data_set.HighBit, data_set.PixelRepresentation, data_set.PlanarConfiguration = 7, 0, 0
    data_set.PhotometricInterpretation = photometric
    data_set.PixelData = encapsulate([frame])
    data_set["PixelData"].VR = "OB"
    with quiet_pydicom():
        theirs = pixel_array(data_set, decoding_plugin="pylibjpeg")
    image = describe(COLOURS, photometric_interpretation=photometric)
    found = decode_frame(frame, image, JPEG_BASELINE)
    difference = int(np.abs(found.astype(int) - theirs).max())
    if transform == 1 and photometric == "RGB":  # pydicom leaves YCbCr as it is
        assert difference > 50
        assert np.array_equal(found, read_by_pillow(frame))
    else:
        assert difference <= 4


def test_data_that_end_before_an_end_marker_are_known_to_no_decoder() -> None:
    """libjpeg fills the rest in silence, for Pillow and pylibjpeg as here: the page says so."""
    data_set = read_data_set(FOLDER / "examples_ybr_color.dcm")
    with mmindex.open_file(FOLDER / "examples_ybr_color.dcm") as instance:
        frame = instance.frame(0).rstrip(b"\0")
        cut, image = frame[: len(frame) // 2] + EOI, instance.record.image_pixel
    data_set.PixelData, data_set.NumberOfFrames = encapsulate([cut]), 1
    with quiet_pydicom():
        for plugin in ("pillow", "pylibjpeg"):
            assert pixel_array(data_set, decoding_plugin=plugin).shape == (240, 320, 3)
    assert decode_frame(cut, image, JPEG_BASELINE).shape == (240, 320, 3)
    with mmindex.open_file(encapsulated_file([frame[: len(frame) // 2]])) as instance:
        assert instance.frame(0)
    with pytest.raises(DecodeError, match="ends early"):
        decode_frame(frame[: len(frame) // 2], image, JPEG_BASELINE)
