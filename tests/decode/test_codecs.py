"""Codecs: what the stream says, damage, precision and sign; encoders and pydicom are oracles."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from codec_examples import encode_rle, pack_rle
from dicom_bytes import deflate, dicom_file, element, encapsulate
from pydicom.pixels import pixel_array
from pydicom_oracle import FOLDER, quiet_pydicom, read_data_set

import mmindex
from mmindex.decode.frame import decode_frame
from mmindex.decode.native import unpack_bits
from mmindex.decode.registry import list_transfer_syntaxes
from mmindex.errors import DecodeError
from mmindex.model import ImagePixel
from mmindex.scan.transfer_syntax import TRANSFER_SYNTAXES

imagecodecs = pytest.importorskip("imagecodecs")

UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
RLE = "1.2.840.10008.1.2.5"
DEFLATED = "1.2.840.10008.1.2.8.1"
BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG_2000, HTJ2K = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.203"
XL, XL_JPEG = "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111"
needs_openjph = pytest.mark.skipif(
    not hasattr(imagecodecs, "HTJ2K"), reason="imagecodecs has no encoder of HTJ2K"
)


def image(pixels: np.ndarray, **attributes: Any) -> ImagePixel:
    """Return the attributes of an array."""
    bits = 8 * pixels.dtype.itemsize
    given = {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples_per_pixel": pixels.shape[2] if pixels.ndim == 3 else 1,
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": int(pixels.dtype.kind == "i"),
        "planar_configuration": 0 if pixels.ndim == 3 else None,
        "photometric_interpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
    }
    return ImagePixel(**{**given, **attributes})


def noise(dtype: str, bits: int, *, colours: bool = False, seed: int = 1) -> np.ndarray:
    """Return a smooth ramp with noise, of an odd size."""
    shape = (19, 23, 3) if colours else (19, 23)
    random = np.random.default_rng(seed)
    return random.integers(0, 1 << bits, shape).astype(dtype)


ENCODERS = {
    "jpeg-ls": (JPEG_LS, imagecodecs.jpegls_encode),
    "jpeg2000": (JPEG_2000, lambda a: imagecodecs.jpeg2k_encode(a, reversible=True, level=0)),
    "jpeg-lossless": (LOSSLESS, lambda a: imagecodecs.jpeg8_encode(a, lossless=True)),
    "jpeg-xl": (XL, lambda a: imagecodecs.jpegxl_encode(a, lossless=True)),
}


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 16)])
@pytest.mark.parametrize("given", [False, True])
def test_lossless_codecs_return_what_was_encoded(
    codec: str, dtype: str, bits: int, given: bool
) -> None:
    """In an array of their own or in the caller's, bit by bit."""
    pixels = noise(dtype, bits)
    uid, encode = ENCODERS[codec]
    out = np.zeros_like(pixels) if given else None
    found = decode_frame(bytes(encode(pixels)), image(pixels), uid, out=out)
    assert found.dtype == pixels.dtype
    assert found.tolist() == pixels.tolist()
    assert not given or found is out


@pytest.mark.parametrize("codec", ["jpeg-ls", "jpeg2000", "jpeg-xl"])
def test_lossless_colours_return_what_was_encoded(codec: str) -> None:
    """Three samples a pixel."""
    pixels = noise("u1", 8, colours=True)
    uid, encode = ENCODERS[codec]
    assert decode_frame(bytes(encode(pixels)), image(pixels), uid).tolist() == pixels.tolist()


@pytest.mark.parametrize("codec", ["jpeg-ls", "jpeg2000", "jpeg-xl"])
@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420"])
def test_colours_that_a_lossless_codec_may_have_transformed_are_returned_as_stored(
    codec: str, photometric: str
) -> None:
    """Only YBR_FULL and YBR_FULL_422 are converted, as in pydicom, whatever the codec."""
    pixels = noise("u1", 8, colours=True)
    uid, encode = ENCODERS[codec]
    attributes = image(pixels, photometric_interpretation=photometric)
    assert decode_frame(bytes(encode(pixels)), attributes, uid).tolist() == pixels.tolist()


@pytest.mark.parametrize("codec", ["jpeg-ls", "jpeg2000", "jpeg-lossless", "jpeg-xl"])
def test_the_stream_decides_not_the_transfer_syntax(codec: str) -> None:
    """Files that say one codec and hold another are real."""
    pixels = noise("u1", 8)
    frame = bytes(ENCODERS[codec][1](pixels))
    for uid in (BASELINE, LOSSLESS, JPEG_LS, JPEG_2000, XL):
        assert decode_frame(frame, image(pixels), uid).tolist() == pixels.tolist()


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_header_of_another_shape_is_refused(codec: str) -> None:
    """Before anything is decoded: rows and columns that change places, more pixels, more bits."""
    pixels = noise("u2", 12)
    uid, encode = ENCODERS[codec]
    frame = bytes(encode(pixels))
    for attributes in ({"rows": 23, "columns": 19}, {"rows": 20}, {"samples_per_pixel": 3}):
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            decode_frame(frame, image(pixels, **attributes), uid)
    narrow = {"bits_allocated": 8, "bits_stored": 8}
    with pytest.raises(DecodeError, match="cannot decode the frame"):
        decode_frame(frame, image(pixels, **narrow), uid)


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_cut_stream_is_an_error(codec: str) -> None:
    """What a decoder fills up in silence is not returned."""
    pixels = noise("u1", 8)
    uid, encode = ENCODERS[codec]
    frame = bytes(encode(pixels))
    for length in (len(frame) // 2, len(frame) * 9 // 10, len(frame) - 8):
        with pytest.raises(DecodeError):
            decode_frame(frame[:length], image(pixels), uid)


def test_a_baseline_jpeg_that_is_cut_raises_and_one_without_end_marker_does_not() -> None:
    """libjpeg makes up what is missing; the samples that are there do not need the marker."""
    with mmindex.open_file(FOLDER / "examples_ybr_color.dcm") as instance:
        frame, attributes = instance.frame(0).rstrip(b"\0"), instance.record.image_pixel
    whole = decode_frame(frame, attributes, BASELINE)
    assert np.array_equal(decode_frame(frame[:-2], attributes, BASELINE), whole)
    for length in (len(frame) // 2, len(frame) - 20):
        with pytest.raises(DecodeError, match=r"ends early|Unsupported marker"):
            decode_frame(frame[:length], attributes, BASELINE)


@needs_openjph
def test_a_cut_high_throughput_stream_is_an_error() -> None:
    """OpenJPH returns other samples for it in silence; 255 stays 255 in lossy ones."""
    pixels = np.full((32, 32), 255, "u1")
    pixels[:16] = np.random.default_rng(1).integers(0, 256, (16, 32))
    frame = bytes(imagecodecs.htj2k_encode(pixels))
    assert decode_frame(frame, image(pixels), HTJ2K).tolist() == pixels.tolist()
    for length in (len(frame) // 2, len(frame) * 9 // 10, len(frame) - 20):
        with pytest.raises(DecodeError):
            decode_frame(frame[:length], image(pixels), HTJ2K)
    lossy = bytes(imagecodecs.htj2k_encode(pixels, reversible=False, level=0.01))
    by_openjph = imagecodecs.htj2k_decode(lossy).astype(int)
    assert (by_openjph[pixels == 255] == 0).any()  # else the trap is not in this frame
    found = decode_frame(lossy, image(pixels), HTJ2K)
    assert np.abs(found.astype(int) - pixels).max() <= 4


@needs_openjph
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damaged_high_throughput_frames_decode_to_other_samples_by_openjph() -> None:
    """Its errors are lost in imagecodecs: why OpenJPEG decodes what is not surely whole."""
    pixels = noise("u2", 16)
    whole = bytes(imagecodecs.htj2k_encode(pixels))
    damaged = [whole[:length] + b"\xff\xd9" for length in range(len(whole) // 3, len(whole) - 9)]
    other = 0
    for frame in damaged:
        try:
            found = imagecodecs.htj2k_decode(frame)
        except RuntimeError:
            continue
        other += found.shape == pixels.shape and not np.array_equal(found, pixels)
    assert other > len(damaged) // 4
    for frame in damaged[::9]:
        with pytest.raises(DecodeError):
            decode_frame(frame, image(pixels), HTJ2K)


@pytest.mark.parametrize(("dtype", "width"), [("u1", 1), ("u2", 2), ("u4", 4)])
@pytest.mark.parametrize("colours", [False, True])
def test_rle_joins_the_bytes_of_its_segments(dtype: str, width: int, colours: bool) -> None:
    """The most significant byte first, colour by colour (PS3.5 Annex G)."""
    pixels = noise(dtype, 8 * width, colours=colours)
    assert decode_frame(encode_rle(pixels), image(pixels), RLE).tolist() == pixels.tolist()


@pytest.mark.parametrize("lengths", [(437, 400), (400, 437), (474, 400), (436, 438), (0, 437)])
def test_rle_segments_of_another_length_are_an_error(lengths: tuple[int, int]) -> None:
    """Also where both together are as long as they should be."""
    pixels = noise("u2", 16)
    frame = pack_rle([b"a" * length for length in lengths])
    with pytest.raises(DecodeError, match="cannot decode the frame"):
        decode_frame(frame, image(pixels), RLE)


@pytest.mark.parametrize(
    ("after", "fits"),
    [
        (b"", True),
        (b"\0", True),  # the byte that makes a length even
        (b"\x80", True),  # no operation
        (b"\0\0", True),  # a run of one zero
        (b"\0\0\0", True),
        (b"\0\1", False),
        (b"\xff\0", False),  # a run of two zeros
        (b"\1\0\0", False),
        (b"\0\0\0\0", False),
    ],
)
@pytest.mark.parametrize("into", ["new", "whole", "apart", "other"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_rle_bytes_after_the_last_run_are_padding_or_an_error(
    dtype: str, into: str, after: bytes, fits: bool
) -> None:
    """Whether a segment is decoded where its pixels go, or beside it."""
    pixels = noise(dtype, 8 * np.dtype(dtype).itemsize)
    frame = encode_rle(pixels)
    out = {
        "new": None,
        "whole": np.empty_like(pixels),
        "apart": np.empty((*pixels.shape, 2), dtype)[..., 0],
        "other": np.empty(pixels.shape, "i4"),
    }[into]
    length = sum(len(run) + 1 for run in _cut(pixels.nbytes // pixels.itemsize))
    end = len(frame) - length % 2 if length % 2 else len(frame)
    given = frame[:end] + after
    if not fits:
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            decode_frame(given, image(pixels), RLE, out=out)
        return
    assert decode_frame(given, image(pixels), RLE, out=out).tolist() == pixels.tolist()


def _cut(length: int) -> list[bytes]:
    """Return literal runs of so many bytes."""
    return [bytes(min(128, length - at)) for at in range(0, length, 128)]


@pytest.mark.parametrize("columns", [8, 11])
@pytest.mark.parametrize("uid", [RLE, DEFLATED, UNCOMPRESSED])
def test_single_bits_in_fragments_begin_at_bit_0(uid: str, columns: int) -> None:
    """Each frame begins on a byte of its own: pixel by pixel from the lowest bit."""
    pixels = noise("u1", 1)[:7, :columns]
    packed = np.packbits(pixels.reshape(-1), bitorder="little").tobytes()
    frame = {
        RLE: lambda: pack_rle([packed]),
        DEFLATED: lambda: deflate(packed),
        UNCOMPRESSED: lambda: packed + bytes(len(packed) % 2),
    }[uid]()
    attributes = image(pixels, bits_allocated=1, bits_stored=1)
    assert decode_frame(frame, attributes, uid).tolist() == pixels.tolist()


@pytest.mark.parametrize("uid", [DEFLATED, UNCOMPRESSED])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<u4"])
def test_native_samples_in_fragments(uid: str, dtype: str) -> None:
    """Encapsulated Uncompressed and Deflated Image Frames, of signed and odd-length frames, too."""
    pixels = noise(dtype, 7)
    frame = pixels.tobytes()
    frame = deflate(frame) if uid == DEFLATED else frame + bytes(len(frame) % 2)
    assert decode_frame(frame, image(pixels), uid).tolist() == pixels.tolist()
    for wrong in (deflate(pixels.tobytes()[:-3]), deflate(bytes(1 << 24)), b"no frame"):
        with pytest.raises(DecodeError):
            decode_frame(wrong, image(pixels), uid)


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14, 20])
@pytest.mark.parametrize("count", [8, 9])
def test_R41_packed_samples_follow_each_other_from_the_lowest_bit(bits: int, count: int) -> None:
    """As one number whose digits they are."""
    values = [(at * 37 + 5) % (1 << bits) for at in range(count)]
    number = sum(value << at * bits for at, value in enumerate(values))
    data = number.to_bytes((count * bits + 7) // 8, "little")
    assert unpack_bits(np.frombuffer(data, "u1"), bits, count).tolist() == values


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("precision", [9, 12, 13])
def test_a_sign_that_the_stream_does_not_have_is_that_of_the_data_set(
    precision: int, signed: int
) -> None:
    """Unsigned streams of signed pixels: the highest bit of the precision is the sign."""
    stored = noise("u2", precision)
    expected = stored.astype("i4")
    if signed:
        expected[expected >= 1 << precision - 1] -= 1 << precision
    attributes = image(stored, pixel_representation=signed, bits_stored=precision)
    frames = {
        JPEG_2000: imagecodecs.jpeg2k_encode(
            stored, reversible=True, level=0, bitspersample=precision
        ),
        XL: imagecodecs.jpegxl_encode(stored, lossless=True, bitspersample=precision),
    }
    for uid, frame in frames.items():
        assert decode_frame(bytes(frame), attributes, uid).tolist() == expected.tolist()


def test_a_jpeg_in_jpeg_xl_has_the_pixels_of_that_jpeg() -> None:
    """It is restored, so that chroma is interpolated as in every JPEG decoder."""
    with mmindex.open_file(FOLDER / "examples_ybr_color.dcm") as instance:
        frame, attributes = instance.frame(0), instance.record.image_pixel
        expected = instance.array(0)
    recompressed = bytes(imagecodecs.jpegxl_encode_jpeg(frame.rstrip(b"\0")))
    assert np.array_equal(decode_frame(recompressed, attributes, XL_JPEG), expected)


def test_a_faulty_scan_header_of_12_bits_is_read() -> None:
    """JPEG-lossy.dcm ends its spectral selection at 0: with 63 there, pydicom has the pixels."""
    with mmindex.open_file(FOLDER / "JPEG-lossy.dcm") as instance:
        found, frame = instance.array(0), bytearray(instance.frame(0))
    at = frame.index(b"\xff\xda")
    length = frame[at + 2] << 8 | frame[at + 3]
    assert frame[at + length] != 63
    frame[at + length - 1 : at + length + 2] = b"\0\x3f\0"
    data_set = read_data_set(FOLDER / "JPEG-lossy.dcm")
    data_set.PixelData = encapsulate_value(bytes(frame))
    with quiet_pydicom():
        theirs = pixel_array(data_set, decoding_plugin="pylibjpeg")
    assert np.abs(found.astype(int) - theirs).max() <= 1


def encapsulate_value(frame: bytes) -> bytes:
    """Return pixel data of one frame, as pydicom has it."""
    frame += bytes(len(frame) % 2)
    return struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(frame)) + frame


@pytest.mark.parametrize("name", ["SC_rgb_dcmtk_+eb+cy+np.dcm", "examples_ybr_color.dcm"])
def test_lossy_jpeg_is_that_of_pydicom_with_pillow(name: str) -> None:
    """The samples are the same as stored, the colours within one value of its conversion."""
    data_set = read_data_set(FOLDER / name)
    with mmindex.open_file(FOLDER / name) as instance, quiet_pydicom():
        for raw in (True, False):
            theirs = pixel_array(data_set, index=0, raw=raw, decoding_plugin="pillow")
            difference = np.abs(instance.array(0, raw=raw).astype(int) - theirs)
            assert difference.max() <= (0 if raw else 1)


@pytest.mark.parametrize("frame", [b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\0" * 100, b"abcdefgh"])
def test_what_is_no_stream_is_an_error(frame: bytes) -> None:
    """Whatever the transfer syntax says."""
    pixels = noise("u1", 8)
    for uid in (BASELINE, JPEG_LS, JPEG_2000, XL, RLE, DEFLATED, UNCOMPRESSED):
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            decode_frame(frame, image(pixels), uid)


@pytest.mark.parametrize("codec", [*ENCODERS, "rle"])
def test_hostile_bytes_raise_decode_errors_only(codec: str) -> None:
    """Bytes changed at random, headers included, in bounded memory."""
    pixels = noise("u1", 8)
    if codec == "rle":
        uid, frame = RLE, pack_rle([pixels.tobytes()])
    else:
        uid, encode = ENCODERS[codec]
        frame = bytes(encode(pixels))
    random = np.random.default_rng(5)
    for _ in range(200):
        damaged = bytearray(frame)
        for at in random.integers(0, min(len(frame), 200), 3):
            damaged[at] = random.integers(0, 256)
        try:
            found = decode_frame(bytes(damaged), image(pixels), uid)
        except DecodeError:
            continue
        assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)


def test_every_transfer_syntax_is_in_the_table() -> None:
    """Each has a decoder, or a remark that says why not."""
    rows = list(list_transfer_syntaxes())
    assert {row.uid for row in rows} == set(TRANSFER_SYNTAXES)
    assert all(bool(row.decoder) != bool(row.remark) for row in rows)


def corrupt_file() -> bytes:
    """Return a file of three RLE frames, the second of which is damaged."""
    good = b"\1\0\0\0\x40\0\0\0" + bytes(56) + b"\3\1\2\3\4\0"
    data_set = b"".join(
        element(tag, vr, value)
        for tag, vr, value in (
            (0x00280002, "US", 1),
            (0x00280004, "CS", "MONOCHROME2"),
            (0x00280008, "IS", "3"),
            (0x00280010, "US", 2),
            (0x00280011, "US", 2),
            (0x00280100, "US", 8),
            (0x00280101, "US", 8),
            (0x00280102, "US", 7),
            (0x00280103, "US", 0),
        )
    )
    return dicom_file(data_set + encapsulate([good, good[:64] + b"\1\1\2\0", good]), RLE)


@pytest.mark.parametrize("threads", [None, 2])
@pytest.mark.parametrize("given", [False, True])
def test_one_corrupt_frame_does_not_lose_the_others(threads: int | None, given: bool) -> None:
    """It raises, or it is left out and named; in the caller's array or in one of its own."""
    with mmindex.open_file(io.BytesIO(corrupt_file())) as instance:
        out = np.zeros((5, *instance.frame_shape), instance.dtype) if given else None
        with pytest.raises(DecodeError):
            instance.arrays(threads=threads, out=out)
        found, skipped = instance.arrays(threads=threads, out=out, on_error="skip")
        assert found.tolist() == [[[1, 2], [3, 4]]] * 2
        assert list(skipped) == [1]
        assert not given or np.shares_memory(found, out)
        with pytest.raises(DecodeError, match="none of 1 frames"):
            instance.arrays([1], on_error="skip")


@pytest.mark.parametrize("encoder", ["jpeg-ls", "jpeg2000"])
def test_ybr_of_16_bits_is_an_error_that_names_raw(encoder):
    """PS3.3 C.7.6.3.1.2 converts three samples of 8 bits; others come as stored by raw=True."""
    pixels = noise("u2", 16, colours=True)
    uid, encode = ENCODERS[encoder]
    frame = bytes(encode(pixels))
    attributes = image(pixels, photometric_interpretation="YBR_FULL")
    with pytest.raises(DecodeError, match=r"three samples of uint8.*raw=True"):
        decode_frame(frame, attributes, uid)
    np.testing.assert_array_equal(decode_frame(frame, attributes, uid, raw=True), pixels)


@pytest.mark.parametrize("encoder", ["jpeg-ls", "jpeg2000", "jpeg-xl"])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_gray_that_is_called_ybr_stays_gray(encoder, dtype):
    """One sample a pixel has no colour to convert, whatever the Photometric Interpretation says."""
    pixels = noise(dtype, 8)
    uid, encode = ENCODERS[encoder]
    attributes = image(pixels, photometric_interpretation="YBR_FULL")
    found = decode_frame(bytes(encode(pixels)), attributes, uid)
    np.testing.assert_array_equal(found, pixels)
