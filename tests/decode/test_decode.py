"""Arrays: native samples against numpy and plain integers, converted ones against pydicom."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_bytes import (
    DOUBLE_FLOAT_PIXEL_DATA,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    FLOAT_PIXEL_DATA,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    PIXEL_DATA,
    PRIVATE_SYNTAX,
    RLE_LOSSLESS,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    image_attributes,
    written,
)
from pydicom.pixels import pixel_array
from pydicom_oracle import FOLDER, exact_array, quiet_pydicom, read_data_set, same_array

import mmindex
from mmindex.decode.native import decode_native
from mmindex.errors import (
    DecodeError,
    MissingDependencyError,
    MMIndexError,
    TruncatedFrameError,
)
from mmindex.model import ImagePixel

DEFAULTS = {
    "samples": 1,
    "photometric": "MONOCHROME2",
    "planar": None,
    "frames": 1,
    "rows": 2,
    "columns": 3,
    "bits": 8,
    "stored": None,
    "signed": 0,
}


def native(
    value: bytes,
    syntax_uid: str = EXPLICIT_VR_LITTLE_ENDIAN,
    *,
    tag: int = PIXEL_DATA,
    vr: str = "OW",
    **attributes: Any,
) -> bytes:
    """Return a file with native pixel data and these attributes."""
    order = ">" if syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    implicit = syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    given = {**DEFAULTS, **attributes}
    stored = given["stored"] or given["bits"]
    data_set = b"".join(
        element(number, kind, text, order=order, implicit=implicit)
        for number, kind, text in (
            (0x00280002, "US", given["samples"]),
            (0x00280004, "CS", given["photometric"]),
            (0x00280006, "US", given["planar"]),
            (0x00280008, "IS", str(given["frames"])),
            (0x00280010, "US", given["rows"]),
            (0x00280011, "US", given["columns"]),
            (0x00280100, "US", given["bits"]),
            (0x00280101, "US", stored),
            (0x00280102, "US", stored - 1 if stored else None),
            (0x00280103, "US", given["signed"]),
        )
        if text is not None
    )
    value += bytes(len(value) % 2)
    data_set += element(tag, vr, value, order=order, implicit=implicit)
    return dicom_file(data_set, syntax_uid)


def arrays_of(data: bytes, **options: bool) -> list[np.ndarray]:
    """Return the array of every frame."""
    with mmindex.open_file(io.BytesIO(data)) as instance:
        return [instance.array(index, **options) for index in range(len(instance))]


INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]


@pytest.mark.parametrize(
    "syntax_uid", [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
)
@pytest.mark.parametrize("kind", INTEGERS)
def test_R30_integers_have_the_values_that_were_written(syntax_uid: str, kind: str) -> None:
    """Frames of every width and sign, in every byte order."""
    order = ">" if syntax_uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    limits = np.iinfo(kind)
    written = np.array([limits.min, limits.max, 0, 1, 2, 3] * 3, order + kind).reshape(3, 2, 3)
    data = native(
        written.tobytes(),
        syntax_uid,
        vr="OB" if kind[1] == "1" else "OW",
        frames=3,
        bits=8 * int(kind[1]),
        signed=int(kind[0] == "i"),
    )
    for array, expected in zip(arrays_of(data), written, strict=True):
        assert array.tolist() == expected.tolist()
        assert (array.dtype.kind, array.dtype.itemsize) == (kind[0], int(kind[1]))


@pytest.mark.parametrize(
    ("kind", "tag", "vr"),
    [("f4", FLOAT_PIXEL_DATA, "OF"), ("f8", DOUBLE_FLOAT_PIXEL_DATA, "OD")],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_R34_floats_have_the_values_that_were_written(
    kind: str, tag: int, vr: str, order: str
) -> None:
    """Infinities and not-a-numbers included."""
    written = np.array([[[0.1, -2.5, np.inf], [np.nan, 1e-30, 7]]] * 2, order + kind)
    syntax_uid = EXPLICIT_VR_BIG_ENDIAN if order == ">" else EXPLICIT_VR_LITTLE_ENDIAN
    bits = 8 * int(kind[1])
    data = native(written.tobytes(), syntax_uid, tag=tag, vr=vr, frames=2, bits=bits)
    for array, expected in zip(arrays_of(data), written, strict=True):
        assert array.dtype == expected.dtype
        assert np.array_equal(array, expected, equal_nan=True)


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_R30_colours_come_last_whatever_the_planar_configuration(planar: int, kind: str) -> None:
    """By pixel or by plane, the array is (rows, columns, samples)."""
    pixels = np.arange(36, dtype="<" + kind).reshape(2, 2, 3, 3)
    written = pixels.transpose(0, 3, 1, 2) if planar else pixels
    data = native(
        written.tobytes(),
        samples=3,
        photometric="RGB",
        planar=planar,
        frames=2,
        bits=8 * int(kind[1]),
    )
    for array, expected in zip(arrays_of(data), pixels, strict=True):
        assert array.tolist() == expected.tolist()
        assert (array.shape, array.dtype) == ((2, 3, 3), expected.dtype)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("stored", [1, 5, 12, 15, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_lies_above_bits_stored_is_not_the_pixels(
    signed: int, stored: int, order: str
) -> None:
    """Overlay bits are left out and signs extended (PS3.5 8.1.1)."""
    words = [0x0000, 0xFFFF, 0x8001, 0x1234, 0xF7FF, 0x0800]
    syntax_uid = EXPLICIT_VR_BIG_ENDIAN if order == ">" else EXPLICIT_VR_LITTLE_ENDIAN
    value = np.array(words, order + "u2").tobytes()
    (array,) = arrays_of(native(value, syntax_uid, bits=16, stored=stored, signed=signed))
    expected = [word & (1 << stored) - 1 for word in words]
    if signed:
        expected = [n - (1 << stored) if n >> stored - 1 else n for n in expected]
    assert array.ravel().tolist() == expected


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("columns", [3, 4, 5])
def test_R33_swapped_pairs_are_put_right(frames: int, columns: int) -> None:
    """8-bit samples in OW of Explicit VR Big Endian, in frames of even and odd length."""
    written = np.arange(frames * 3 * columns, dtype="u1").reshape(frames, 3, columns)
    value = written.tobytes() + bytes(written.size % 2)
    swapped = np.frombuffer(value, "<u2").byteswap().tobytes()
    attributes = {"rows": 3, "columns": columns, "frames": frames}
    data = native(swapped, EXPLICIT_VR_BIG_ENDIAN, **attributes)
    assert np.array_equal(arrays_of(data), written)
    data = native(value, EXPLICIT_VR_BIG_ENDIAN, vr="OB", **attributes)
    assert np.array_equal(arrays_of(data), written)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (3, 5), (4, 4), (9, 9)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_R31_single_bits_are_exact_off_byte_boundaries(rows: int, columns: int, order: str) -> None:
    """Every pixel of every frame is a bit of its own; words may be big-endian."""
    random = np.random.default_rng(rows * columns)
    written = random.integers(0, 2, (5, rows, columns), "u1")
    value = np.packbits(written.ravel(), bitorder="little").tobytes()
    value += bytes(len(value) % 2)
    syntax_uid = EXPLICIT_VR_LITTLE_ENDIAN
    if order == ">":
        value = np.frombuffer(value, "<u2").byteswap().tobytes()
        syntax_uid = EXPLICIT_VR_BIG_ENDIAN
    data = native(value, syntax_uid, rows=rows, columns=columns, frames=5, bits=1)
    found = arrays_of(data)
    assert {array.dtype for array in found} == {np.dtype("u1")}
    assert np.array_equal(found, written)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "RGB", "YBR_RCT"])
def test_R32_colour_spaces_are_those_of_pydicom(photometric: str, planar: int, raw: bool) -> None:
    """YBR_FULL becomes RGB unless it is to be left as it is, in each of the frames."""
    if photometric == "YBR_FULL_422" and planar:
        pytest.skip("not defined")
    samples = 2 if photometric == "YBR_FULL_422" else 3
    value = np.random.default_rng(7).integers(0, 256, 2 * 4 * 6 * samples, "u1").tobytes()
    data = native(
        value, samples=3, photometric=photometric, planar=planar, frames=2, rows=4, columns=6
    )
    data_set = pydicom.dcmread(io.BytesIO(data))
    with quiet_pydicom():
        found = arrays_of(data, raw=raw)
        for index, array in enumerate(found):
            assert same_array(array, pixel_array(data_set, index=index, raw=raw))


def test_R32_422_of_three_samples_a_pixel_is_not_subsampled() -> None:
    """The value's length says what there is; pixels are those of YBR_FULL."""
    value = np.random.default_rng(8).integers(0, 256, 72, "u1").tobytes()
    attributes = {"samples": 3, "planar": 0, "rows": 4, "columns": 6}
    (array,) = arrays_of(native(value, photometric="YBR_FULL_422", **attributes))
    (expected,) = arrays_of(native(value, photometric="YBR_FULL", **attributes))
    assert array.tolist() == expected.tolist()


def test_plain_arrays_are_read_only_and_share_the_map(tmp_path: Path) -> None:
    """No byte is copied, and none can be written."""
    path = tmp_path / "a.dcm"
    path.write_bytes(native(bytes(range(24)), bits=16, frames=2))
    with mmindex.open_file(path) as instance:
        array = instance.array(1)
        assert np.shares_memory(array, np.frombuffer(instance.view(1), "u1"))
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


@pytest.mark.parametrize(
    "data",
    [
        native(bytes(range(12)), bits=16),
        native(bytes(range(12)), bits=16, stored=12),
        native(bytes(range(6)), EXPLICIT_VR_BIG_ENDIAN),
        native(bytes(range(18)), samples=3, photometric="RGB", planar=1),
        native(bytes(range(18)), samples=3, photometric="YBR_FULL", planar=0),
        native(b"\x2a", bits=1),
        (FOLDER / "SC_rgb_rle_2frame.dcm").read_bytes(),
        (FOLDER / "JPEGLSNearLossless_08.dcm").read_bytes(),
    ],
    ids=["plain", "stored", "swapped", "planar", "ybr", "bits", "rle", "jpeg-ls"],
)
def test_a_copy_is_its_owners_to_write(data: bytes) -> None:
    """What is written to one leaves the file and other copies alone."""
    first = arrays_of(data, copy=True)[0]
    expected = first.tolist()
    first[:] = 1 - first
    with mmindex.open_file(io.BytesIO(data)) as instance:
        again = instance.array(0, copy=True)
        again[:] = 0
        assert instance.array(0).tolist() == expected


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_rle_2frame.dcm",
        "rtdose_rle.dcm",
        "examples_ybr_color.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_dcmtk_+eb+cy+s4.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "JPEGLSNearLossless_16.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "examples_jpeg2k.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ],
)
def test_compressed_frames_decode_as_pydicom_decodes_them(name: str, raw: bool) -> None:
    """RLE, JPEG, JPEG-LS and JPEG 2000, converted or as they are."""
    data_set = read_data_set(FOLDER / name)
    with mmindex.open_file(FOLDER / name) as instance, quiet_pydicom():
        for index in range(min(3, len(instance))):
            theirs = exact_array(data_set, index, raw=raw)
            assert same_array(instance.array(index, raw=raw), theirs)


def test_a_missing_codec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native frames need none; a compressed one names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr(
        "pydicom.pixels.decoders.base.Decoder.is_available", property(lambda decoder: False)
    )
    with mmindex.open_file(FOLDER / "examples_jpeg2k.dcm") as instance:
        assert instance.frame(0)
        with pytest.raises(MissingDependencyError, match=r"JPEG 2000.*mmindex\[codecs\]") as caught:
            instance.array(0)
    assert isinstance(caught.value, ImportError)
    assert caught.value.path == str(FOLDER / "examples_jpeg2k.dcm")
    assert arrays_of(native(bytes(6)))[0].shape == (2, 3)


def test_an_unknown_transfer_syntax_is_a_decode_error() -> None:
    """Its frames are served, its pixels cannot be."""
    data = encapsulated_file([b"secret"], 1, PRIVATE_SYNTAX)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.frame(0) == b"secret"
        with pytest.raises(DecodeError, match="decodes no frames of unknown transfer syntax"):
            instance.array(0)


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "examples_ybr_color.dcm"])
def test_one_corrupt_frame_does_not_spoil_its_neighbours(name: str) -> None:
    """The frame that was overwritten raises; those around it are as they were."""
    data = bytearray((FOLDER / name).read_bytes())
    with mmindex.open_file(FOLDER / name) as instance:
        ((offset, length),) = instance.byte_ranges(1)
        neighbours = [index for index in (0, 2) if index < len(instance)]
        expected = [instance.array(index).tolist() for index in neighbours]
    data[offset : offset + length] = b"\xa5" * length
    with mmindex.open_file(io.BytesIO(data)) as instance, quiet_pydicom():
        assert [instance.array(index).tolist() for index in neighbours] == expected
        with pytest.raises(DecodeError, match="cannot decode the frame"):
            instance.array(1)


@pytest.mark.parametrize(
    "attributes",
    [
        {"bits": 16, "stored": 20},
        {"signed": 2},
        {"signed": None},
        {"samples": 4},
        {"samples": 3, "photometric": "RGB", "planar": 2},
        {"samples": 3, "photometric": "RGB"},
    ],
    ids=str,
)
def test_odd_attributes_of_native_frames_are_decode_errors(attributes: dict[str, Any]) -> None:
    """The frame's bytes are served; what its pixels mean cannot be told."""
    data = native(bytes(96), **attributes)
    with mmindex.open_file(io.BytesIO(data)) as instance, quiet_pydicom():
        assert instance.frame(0)
        with pytest.raises(DecodeError):
            instance.array(0)


@pytest.mark.parametrize("syntax_uid", [RLE_LOSSLESS, JPEG_BASELINE])
def test_a_compressed_frame_without_attributes_is_a_decode_error(syntax_uid: str) -> None:
    """Decoding needs what locating does not."""
    data = dicom_file(encapsulate([b"\xff\xd8\xff\xd9"]), syntax_uid)
    with mmindex.open_file(io.BytesIO(data)) as instance, quiet_pydicom():
        assert instance.frame(0) == b"\xff\xd8\xff\xd9"
        with pytest.raises(DecodeError):
            instance.array(0)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_R35_a_lost_frame_has_no_array(bits: int) -> None:
    """A frame that the value does not hold is not filled up."""
    data = native(bytes(2 * bits), rows=4, columns=4, bits=bits, frames=2)
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.array(0).shape == (4, 4)
        with pytest.raises(TruncatedFrameError, match="frame index 1 is missing"):
            instance.array(1)


def test_a_decode_error_names_the_file(tmp_path: Path) -> None:
    """In a large archive the message has to say where."""
    path = tmp_path / "a.dcm"
    path.write_bytes(encapsulated_file([b"\xff\xd8AA\xff\xd9"], 1, JPEG_BASELINE))
    with mmindex.open_file(path) as instance, quiet_pydicom():
        with pytest.raises(MMIndexError, match=r"a\.dcm: cannot decode") as caught:
            instance.array(0)
        assert isinstance(caught.value, DecodeError)


class PanicException(BaseException):
    """What pyo3 raises for a panic in Rust."""


JPEG_SCAN = b"\xff\xda\0\x08\1\1\0\0\x3f\0"
JPEG_HEADER = b"\xff\xd8\xff\xc0\0\x0b\x08\0\2\0\2\1\1\x11\0" + JPEG_SCAN + b"\xff\xd9"  # 2 x 2


def decode_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every decoder raise `error`."""

    class Decoder:
        is_available = True

        def as_array(self, *arguments: object, **options: object) -> None:
            raise error

    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr("pydicom.pixels.decoders.base.get_decoder", lambda uid: Decoder())


@pytest.mark.parametrize("error", [PanicException("index out of bounds"), MemoryError("too much")])
def test_a_decoder_that_panics_or_has_no_memory_is_a_decode_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """What a codec does with hostile bytes is an error of this one frame."""
    data = dicom_file(image_attributes() + encapsulate([JPEG_HEADER]), JPEG_BASELINE)
    path = written(tmp_path, data)
    decode_with(monkeypatch, error)
    with mmindex.open_file(path) as instance:
        with pytest.raises(DecodeError, match=str(error)) as caught:
            instance.array(0)
        assert caught.value.path == str(path)
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interruption_of_a_decoder_passes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Ctrl-C while a frame is decoded is not an error of the frame."""
    data = dicom_file(image_attributes() + encapsulate([JPEG_HEADER]), JPEG_BASELINE)
    decode_with(monkeypatch, error)
    with (
        mmindex.open_file(written(tmp_path, data)) as instance,
        pytest.raises(type(error)) as caught,
    ):
        instance.array(0)
    assert caught.value is error


HIGH = {"bits_allocated": 16, "bits_stored": 12, "samples_per_pixel": 1, "rows": 1, "columns": 4}


def decode_high(samples: list[int], dtype: str, high_bit: int | None) -> list[int]:
    """Return the pixels of samples in words of 16 bits, of which 12 are stored."""
    data = np.array(samples, dtype)
    image = ImagePixel(
        **HIGH,
        high_bit=high_bit,
        pixel_representation=int(data.dtype.kind == "i"),
        photometric_interpretation="MONOCHROME2",
    )
    found: list[int] = decode_native(data.tobytes(), image, frame_bits=64)[0].tolist()
    return found


@pytest.mark.parametrize("order", ["<", ">"])
def test_samples_in_the_high_bits_are_moved_down(order: str) -> None:
    """As High Bit says and the empty bits below show; pydicom cuts the upper ones off."""
    values = [1, 100, 2000, 4095]
    data = np.array([value << 4 for value in values], f"{order}u2").tobytes()
    image = ImagePixel(
        **HIGH, high_bit=15, pixel_representation=0, photometric_interpretation="MONOCHROME2"
    )
    found = decode_native(data, image, frame_bits=64, big_endian=order == ">")
    assert found.tolist() == [values]
    assert decode_high([-2048 << 4, -1 << 4, 0, 2047 << 4], "<i2", 15) == [-2048, -1, 0, 2047]
    assert decode_high([value << 2 for value in values], "<u2", 13) == values


@pytest.mark.parametrize("high_bit", [None, 11, 12, 15, 99])
def test_samples_in_the_low_bits_stay_there_whatever_high_bit_says(high_bit: int | None) -> None:
    """Wrong values of High Bit are more frequent than samples in the high bits."""
    assert decode_high([1, 100, 2000, 4095], "<u2", high_bit) == [1, 100, 2000, 4095]
    assert decode_high([-2048, -1, 0, 2047], "<i2", high_bit) == [-2048, -1, 0, 2047]
    assert decode_high([0, 0, 0, 0], "<u2", high_bit) == [0, 0, 0, 0]


def test_samples_that_fit_high_and_low_bits_are_an_error() -> None:
    """Nothing is guessed: 16 may be 16 or 1."""
    with pytest.raises(DecodeError, match="High Bit 15 says that 4 bits lie below"):
        decode_high([0, 16, 32, 0], "<u2", 15)


def test_samples_that_fit_neither_high_nor_low_bits_are_an_error() -> None:
    """As with an overlay in the lowest bit, or in the highest: what is a sample is open."""
    for samples in ([0, 0x1231, 0x4560, 16], [0x8001, 5, 7, 0]):
        with pytest.raises(DecodeError, match="neither with nor without these"):
            decode_high(samples, "<u2", 15)


def test_signed_samples_in_the_low_bits_need_no_extended_sign() -> None:
    """PS3.5 8.1.1 leaves open what the bits above are."""
    assert decode_high([0xFF1, 0x020, 0x7FF, 0], "<i2", 15) == [-15, 32, 2047, 0]
