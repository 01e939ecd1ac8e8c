"""Rules R1 to R8 but R7: how the pixel data element is found, and what is no DICOM file."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from dicom_bytes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    DOUBLE_FLOAT_PIXEL_DATA,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    FLOAT_PIXEL_DATA,
    ICON_IMAGE_SEQUENCE,
    IMPLICIT_VR_LITTLE_ENDIAN,
    JPEG_BASELINE,
    JPIP_REFERENCED,
    LONG_VRS,
    PIXEL_DATA,
    PRIVATE_SEQUENCE,
    PRIVATE_SYNTAX,
    SEQUENCE_DELIMITER,
    SHORT_VRS,
    UNDEFINED,
    dicom_file,
    element,
    encapsulate,
    encapsulated_file,
    extended_offset_table,
    file_meta,
    image_attributes,
    item,
    native_file,
    sequence,
)
from outcomes import anomaly_codes

import mmindex
from mmindex.errors import FormatError, NoPixelDataError, NotDicomError
from mmindex.model import Status

PIXELS = b"\x01\x02\x03\x04"
JPEG_FRAME = b"\xff\xd8frame1\xff\xd9"
EXPLICIT_DATA_SET = image_attributes() + element(PIXEL_DATA, "OW", PIXELS)
IMPLICIT_DATA_SET = image_attributes(implicit=True) + element(
    PIXEL_DATA, "OW", PIXELS, implicit=True
)

NESTED_PIXEL_DATA = {
    "native": element(PIXEL_DATA, "OW", b"icon"),
    "encapsulated": encapsulate([b"\xff\xd8icon\xff\xd9"], bot=[0]),
    "with-extended-offset-table": extended_offset_table([0], [8]) + encapsulate([b"icon-eot"]),
    "float": element(FLOAT_PIXEL_DATA, "OF", b"icon"),
    "a-delimiter-inside": element(PIXEL_DATA, "OW", SEQUENCE_DELIMITER),
}

ENCAPSULATED_SYNTAXES = [
    *(f"1.2.840.10008.1.2.4.{number}" for number in range(50, 67)),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (70, 80, 81, 90, 91, 92, 93)),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112, 201, 202, 203)),
    *("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"),
]


def read_frames(data: bytes, *, force: bool = False) -> list[bytes]:
    """Return every frame of the file `data`."""
    with mmindex.open_file(io.BytesIO(data), force=force) as instance:
        return list(instance)


def explicit_image(*elements: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return an explicit VR LE file of PIXELS with `elements` just before the pixel data."""
    pixel_data = element(PIXEL_DATA, "OW", PIXELS)
    return dicom_file(before + image_attributes() + b"".join(elements) + pixel_data + after)


@pytest.mark.parametrize("nested", NESTED_PIXEL_DATA.values(), ids=NESTED_PIXEL_DATA.keys())
@pytest.mark.parametrize("tag", [ICON_IMAGE_SEQUENCE, PRIVATE_SEQUENCE], ids=["icon", "private"])
@pytest.mark.parametrize("undefined_sequence", [False, True], ids=["sized", "undefined"])
@pytest.mark.parametrize("undefined_item", [False, True], ids=["sized-item", "undefined-item"])
def test_R1_nested_pixel_data_is_skipped(
    nested: bytes, tag: int, undefined_sequence: bool, undefined_item: bool
) -> None:
    """Pixel data of a sequence is not the image's, and neither are its attributes."""
    icon = image_attributes(rows=9, columns=9, bits=16, number_of_frames=7) + nested
    icons = sequence(tag, [item(icon, undefined=undefined_item)], undefined=undefined_sequence)
    data = explicit_image(icons)

    assert read_frames(data) == [PIXELS]
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert instance.byte_ranges(0) == ((len(data) - 4, 4),)
        assert instance.record.image_pixel.rows == 2
        assert instance.record.anomalies == ()


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("uid", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN])
def test_R1_nested_pixel_data_is_skipped_in_other_encodings(uid: str, undefined: bool) -> None:
    """Structure is followed without value representations, and in big endian."""
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    implicit = uid == IMPLICIT_VR_LITTLE_ENDIAN
    nested = image_attributes(rows=9, order=order, implicit=implicit)
    nested += element(PIXEL_DATA, "OB", b"icon", order=order, implicit=implicit)
    icon = item(nested, order=order, undefined=undefined)
    data_set = image_attributes(order=order, implicit=implicit)
    data_set += sequence(
        ICON_IMAGE_SEQUENCE, [icon], order=order, implicit=implicit, undefined=undefined
    )
    data_set += element(PIXEL_DATA, "OB", PIXELS, order=order, implicit=implicit)
    assert read_frames(dicom_file(data_set, uid)) == [PIXELS]
    assert mmindex.scan(dicom_file(data_set, uid)).image_pixel.rows == 2


def test_R1_nested_encapsulated_pixel_data_is_skipped_in_implicit_vr() -> None:
    """Fragments of an icon look like any items."""
    icon = image_attributes(rows=9, implicit=True) + encapsulate([b"icon"], bot=[0], implicit=True)
    icons = [item(icon, undefined=True)]
    data_set = image_attributes(implicit=True)
    data_set += sequence(ICON_IMAGE_SEQUENCE, icons, implicit=True, undefined=True)
    data_set += element(PIXEL_DATA, "OW", PIXELS, implicit=True)
    assert read_frames(dicom_file(data_set, IMPLICIT_VR_LITTLE_ENDIAN)) == [PIXELS]


def test_R1_nested_offset_tables_do_not_reach_the_image() -> None:
    """A nested Extended Offset Table says nothing of the encapsulated top-level pixel data."""
    icon = extended_offset_table([0, 16], [8, 8]) + encapsulate([b"icon-one", b"icon-two"])
    icons = sequence(ICON_IMAGE_SEQUENCE, [item(icon)], undefined=True)
    data = encapsulated_file([JPEG_FRAME], before=icons)
    assert read_frames(data) == [JPEG_FRAME]
    assert anomaly_codes(data) == []


def test_R1_pixel_data_of_a_sequence_alone_is_no_pixel_data() -> None:
    """An icon does not stand in for the image that is not there."""
    icons = sequence(ICON_IMAGE_SEQUENCE, [item(image_attributes() + NESTED_PIXEL_DATA["native"])])
    record = mmindex.scan(dicom_file(element(0x00080060, "CS", "SR") + icons))
    assert record.status is Status.NO_PIXEL_DATA


@pytest.mark.parametrize("undefined", [False, True])
def test_R1_a_sequence_after_the_pixel_data_changes_nothing(undefined: bool) -> None:
    """Pixel data nested behind the image's own is not taken for it."""
    nested = item(element(PIXEL_DATA, "OW", b"late"), undefined=undefined)
    later = sequence(0x7FE10010, [nested], undefined=undefined)
    assert read_frames(explicit_image(after=later)) == [PIXELS]


def test_R1_pixel_data_bytes_within_a_value_are_not_pixel_data() -> None:
    """A value that looks like an element is a value."""
    assert read_frames(explicit_image(element(0x00091010, "OB", NESTED_PIXEL_DATA["native"]))) == [
        PIXELS
    ]


@pytest.mark.parametrize(
    "uid", [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]
)
def test_R2_native_transfer_syntaxes_are_read(uid: str) -> None:
    """The native transfer syntaxes serve the stored bytes without an anomaly."""
    data = native_file(PIXELS, uid, vr="OB")
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == []
    assert mmindex.scan(data).transfer_syntax_uid == uid
    assert mmindex.scan(data).image_pixel.pixel_vr == (
        "" if uid == IMPLICIT_VR_LITTLE_ENDIAN else "OB"
    )


def test_R2_a_deflated_data_set_is_read() -> None:
    """Frames of Deflated Explicit VR LE come from the inflated data set."""
    data_set = image_attributes() + element(PIXEL_DATA, "OW", PIXELS)
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = dicom_file(
        deflate.compress(data_set) + deflate.flush(), DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )
    assert mmindex.scan(data).status is Status.DEFLATED
    assert read_frames(data) == [PIXELS]


@pytest.mark.parametrize("uid", ENCAPSULATED_SYNTAXES)
def test_R2_encapsulated_transfer_syntaxes_are_read(uid: str) -> None:
    """Every encapsulated transfer syntax of PS3.6 serves one fragment a frame."""
    data = encapsulated_file([b"frame1", b"frame2.."], 2, uid)
    assert read_frames(data) == [b"frame1", b"frame2.."]
    assert anomaly_codes(data) == []


@pytest.mark.parametrize(
    "data",
    [
        native_file(PIXELS, PRIVATE_SYNTAX),
        encapsulated_file([PIXELS], 1, PRIVATE_SYNTAX),
    ],
    ids=["native", "encapsulated"],
)
def test_R2_a_private_transfer_syntax_is_read_by_the_shape_of_its_pixel_data(data: bytes) -> None:
    """An unknown transfer syntax is native or encapsulated as its element shows."""
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == []


@pytest.mark.parametrize(
    "uid",
    [
        *(f"1.2.840.10008.1.2.4.{number}" for number in (94, 204)),
        *(f"1.2.840.10008.1.2.7.{number}" for number in (1, 2, 3)),
    ],
)
def test_R2_pixel_data_that_lies_elsewhere_is_no_anomaly(uid: str) -> None:
    """JPIP and SMPTE ST 2110 have image attributes and rightly no pixel data."""
    record = mmindex.scan(dicom_file(image_attributes(), uid))
    assert (record.status, record.anomalies) == (Status.NO_PIXEL_DATA, ())


@pytest.mark.parametrize("value", [b"", b"12", b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("vr", sorted({*SHORT_VRS, *LONG_VRS, "ZZ", "XQ"}))
def test_R3_a_header_is_as_long_as_its_vr_says(vr: str, value: bytes) -> None:
    """Short VRs have 8-byte headers; long and unknown ones have 12."""
    if vr == "SQ":
        value = item(value and element(0x00080060, "CS", value))
    assert read_frames(explicit_image(element(0x00091010, vr, value))) == [PIXELS]


@pytest.mark.parametrize("vr", ["CS", "UN", "ZZ"])
def test_R3_holds_for_big_endian(vr: str) -> None:
    """Lengths of both forms are read in the data set's byte order."""
    data_set = element(0x00080008, vr, b"value!", order=">") + image_attributes(order=">")
    data_set += element(PIXEL_DATA, "OB", PIXELS, order=">")
    assert read_frames(dicom_file(data_set, EXPLICIT_VR_BIG_ENDIAN)) == [PIXELS]


def test_R3_a_short_vr_holds_65534_bytes() -> None:
    """The 2-byte length is unsigned."""
    assert read_frames(explicit_image(element(0x00091010, "LT", b"x" * 65534))) == [PIXELS]


@pytest.mark.parametrize("length", [100_000, 0x7FFFFFFF, UNDEFINED - 1])
def test_R3_a_value_past_the_end_of_the_file_is_a_format_error(length: int) -> None:
    """A hostile length before the pixel data is refused with its place."""
    data = explicit_image(element(0x00091010, "OB", b"1234", length=length))
    with pytest.raises(FormatError, match="0x"):
        mmindex.scan(data)


def test_R4_undefined_length_un_holds_implicit_vr() -> None:
    """The contents of an undefined-length UN are read as Implicit VR LE (6.2.2)."""
    nested = element(0x00080060, "CS", "CT", implicit=True)
    nested += element(PIXEL_DATA, "OW", b"nested", implicit=True)
    deeper = sequence(0x00091011, [item(nested, undefined=True)], implicit=True, undefined=True)
    unknown = sequence(PRIVATE_SEQUENCE, [item(deeper, undefined=True)], vr="UN", undefined=True)
    after = element(0x00991020, "LO", "explicit again")
    assert read_frames(explicit_image(unknown, after)) == [PIXELS]


def test_R4_explicit_vr_goes_on_behind_a_nested_un() -> None:
    """Implicit VR ends where the UN ends, inside an item as at the top level."""
    deeper = element(0x00080060, "CS", "CT", implicit=True)
    unknown = sequence(0x00091011, [item(deeper, undefined=True)], vr="UN", undefined=True)
    behind = element(0x00091012, "LO", "explicit") + element(0x00091013, "UT", "long")
    outer = sequence(PRIVATE_SEQUENCE, [item(unknown + behind, undefined=True)], undefined=True)
    assert read_frames(explicit_image(outer)) == [PIXELS]


def nest_sequences(levels: int) -> bytes:
    """Return `levels` sequences of undefined length, each inside the one before."""
    opening = element(PRIVATE_SEQUENCE, "SQ", length=UNDEFINED) + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + SEQUENCE_DELIMITER
    return opening * levels + closing * levels


def test_R4_sixty_four_levels_are_walked() -> None:
    """Nesting as deep as the limit is no error."""
    assert read_frames(explicit_image(nest_sequences(64))) == [PIXELS]


@pytest.mark.parametrize("levels", [65, 100_000])
def test_R4_deeper_nesting_is_a_format_error(levels: int) -> None:
    """Endless nesting is refused, not recursed into."""
    with pytest.raises(FormatError, match="64"):
        mmindex.scan(explicit_image(nest_sequences(levels)))


@pytest.mark.parametrize(
    "nested",
    [
        element(0x00091011, "SQ", item(b"", undefined=True)[:8], length=UNDEFINED),
        element(0x00091011, "OB", b"12", length=1000),
        b"\x09\0\x11",
    ],
    ids=["no-delimiter", "too-long", "half-a-header"],
)
def test_R4_a_parent_of_defined_length_bounds_its_contents(nested: bytes) -> None:
    """What is broken inside a defined length does not reach beyond it."""
    bounded = sequence(PRIVATE_SEQUENCE, [item(nested)], undefined=True)
    assert read_frames(explicit_image(bounded)) == [PIXELS]
    assert read_frames(explicit_image(sequence(PRIVATE_SEQUENCE, [item(nested)]))) == [PIXELS]


def test_R4_foreign_bytes_between_items_are_a_format_error() -> None:
    """A sequence of undefined length holds items and a delimiter, nothing else."""
    broken = element(PRIVATE_SEQUENCE, "SQ", b"\x09\0\x11\x10LO\0\0", length=UNDEFINED)
    with pytest.raises(FormatError, match="0x"):
        mmindex.scan(explicit_image(broken))


@pytest.mark.parametrize(("implicit", "said"), [(True, "explicit"), (False, "implicit")])
def test_R5_a_data_set_is_read_as_what_it_is(implicit: bool, said: str) -> None:
    """A data set that is not what the meta header says is read right, with an anomaly."""
    data_set = element(0x00080016, "UI", "1.2", implicit=implicit)
    data_set += image_attributes(implicit=implicit)
    data_set += element(PIXEL_DATA, "OW", PIXELS, implicit=implicit)
    uid = EXPLICIT_VR_LITTLE_ENDIAN if said == "explicit" else IMPLICIT_VR_LITTLE_ENDIAN
    data = dicom_file(data_set, uid)
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == ["vr-mismatch"]
    assert mmindex.scan(data).sop_class_uid == "1.2"


def test_R5_an_implicit_sequence_may_come_first() -> None:
    """A first element of undefined length shows no value representation either."""
    data_set = sequence(0x00080006, [item()], implicit=True, undefined=True)
    data_set += IMPLICIT_DATA_SET
    data = dicom_file(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == ["vr-mismatch"]


def test_R5_an_unknown_vr_may_come_first() -> None:
    """Two unknown letters are a value representation, not an implicit length of 23,130 bytes."""
    data_set = element(0x00080005, "ZZ", bytes(40_000)) + EXPLICIT_DATA_SET
    data = dicom_file(data_set, EXPLICIT_VR_LITTLE_ENDIAN)
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == []


def test_R5_implicit_data_under_an_encapsulated_syntax_is_read() -> None:
    """The mismatch is seen under an encapsulated transfer syntax too."""
    data_set = image_attributes(implicit=True) + encapsulate([JPEG_FRAME], implicit=True)
    data = dicom_file(data_set, JPEG_BASELINE)
    assert read_frames(data) == [JPEG_FRAME]
    assert anomaly_codes(data) == ["vr-mismatch"]


def test_R5_an_implicit_length_that_looks_like_a_vr_is_no_mismatch() -> None:
    """An implicit first element whose length bytes spell no VR stays implicit."""
    data_set = element(0x00080008, "CS", b"x" * 0x4342, implicit=True)  # length bytes "BC"
    data_set += image_attributes(implicit=True) + element(PIXEL_DATA, "OW", PIXELS, implicit=True)
    data = dicom_file(data_set, IMPLICIT_VR_LITTLE_ENDIAN)
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == []


@pytest.mark.parametrize(
    "data",
    [
        file_meta(EXPLICIT_VR_LITTLE_ENDIAN) + EXPLICIT_DATA_SET,
        file_meta(IMPLICIT_VR_LITTLE_ENDIAN) + IMPLICIT_DATA_SET,
        EXPLICIT_DATA_SET,
        IMPLICIT_DATA_SET,
        bytes(128) + b"DICM" + EXPLICIT_DATA_SET,
        bytes(128) + b"DICM" + IMPLICIT_DATA_SET,
    ],
    ids=[
        *("meta-then-explicit", "meta-then-implicit"),
        *("bare-explicit", "bare-implicit", "preamble-then-explicit", "preamble-then-implicit"),
    ],
)
def test_R6_without_preamble_or_meta_a_file_needs_force(data: bytes) -> None:
    """Without preamble or meta a file is no DICOM file, unless the caller insists."""
    with pytest.raises(NotDicomError, match=r"."):
        mmindex.scan(data)
    assert read_frames(data, force=True) == [PIXELS]
    assert "no-file-meta" in anomaly_codes(data, force=True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "data",
    [b"", b"\0", bytes(131), bytes(1000), b"\x89PNG\r\n\x1a\n" * 40, b"some text, no image " * 40],
    ids=["empty", "one-byte", "short-preamble", "zeros", "png", "text"],
)
def test_R6_other_files_are_refused_with_and_without_force(data: bytes, force: bool) -> None:
    """What is no DICOM file is refused as such, and with force by its structure."""
    with pytest.raises(FormatError if force else NotDicomError, match=r"."):
        mmindex.scan(data, force=force)


def test_R6_force_leaves_a_good_file_as_it_is() -> None:
    """Force changes nothing where nothing is missing."""
    data = native_file(PIXELS)
    assert mmindex.scan(data, force=True) == mmindex.scan(data)


@pytest.mark.parametrize("group_length", [0, 2, 12, 60, 5000, 0xFFFFFFFF, None])
def test_R6_a_wrong_or_absent_group_length_is_an_anomaly(group_length: int | None) -> None:
    """The meta header ends where its group ends, whatever its length says."""
    data = dicom_file(EXPLICIT_DATA_SET, group_length=group_length)
    assert read_frames(data) == [PIXELS]
    assert anomaly_codes(data) == ["file-meta-group-length"]


def test_R3_R6_bytes_that_are_no_vr_in_the_file_meta_are_a_format_error() -> None:
    """01 02 is no value representation of a 12-byte header, even where such a one would fit."""
    version = element(0x00020001, "OB", b"\0\1")
    meta = version + element(0x00020010, "\1\2", EXPLICIT_VR_LITTLE_ENDIAN)
    data = bytes(128) + b"DICM" + meta + EXPLICIT_DATA_SET
    found = r"value representation in \(0002,0010\), found '\\x01\\x02'"
    with pytest.raises(FormatError, match=found) as caught:
        mmindex.scan(data)
    assert caught.value.offset == 132 + len(version)


@pytest.mark.parametrize("data_set", [EXPLICIT_DATA_SET, IMPLICIT_DATA_SET], ids=["exp", "imp"])
def test_R6_a_missing_transfer_syntax_is_an_anomaly(data_set: bytes) -> None:
    """Without (0002,0010) the data set shows how it is encoded."""
    data = dicom_file(data_set, None)
    assert read_frames(data) == [PIXELS]
    assert "no-transfer-syntax" in anomaly_codes(data)


STRUCTURED_REPORT = element(0x00080060, "CS", "SR") + sequence(
    0x0040A730, [item(element(0x0040A160, "UT", "text"), undefined=True)], undefined=True
)
DIRECTORY = sequence(
    0x00041220, [item(element(0x00041430, "CS", "IMAGE") + element(0x00280010, "US", 2))]
)


@pytest.mark.parametrize(
    "data",
    [
        dicom_file(STRUCTURED_REPORT),
        dicom_file(DIRECTORY),
        dicom_file(b""),
        dicom_file(image_attributes(), JPIP_REFERENCED),
    ],
    ids=["structured-report", "dicomdir", "no-data-set", "jpip"],
)
def test_R8_an_instance_without_pixel_data_says_so(data: bytes) -> None:
    """No pixel data is a status, and an error only when a frame is asked for."""
    record = mmindex.scan(data)
    assert (record.status, record.number_of_frames) == (Status.NO_PIXEL_DATA, 0)
    assert (record.frames, record.anomalies) == (None, ())
    with mmindex.open_file(io.BytesIO(data)) as instance:
        assert len(instance) == 0
        for read in (instance.frame, instance.view, instance.byte_ranges, instance.array):
            with pytest.raises(NoPixelDataError, match="pixel data"):
                read(0)


def test_R8_image_attributes_without_pixel_data_are_an_anomaly() -> None:
    """An image that lost its pixel data is not passed over in silence."""
    data = dicom_file(image_attributes())
    assert mmindex.scan(data).status is Status.NO_PIXEL_DATA
    assert anomaly_codes(data) == ["pixel-data-missing"]


@pytest.mark.parametrize("cut", [1, 3, 7, 11])
def test_R8_a_file_cut_inside_a_header_is_a_format_error(cut: int) -> None:
    """What the rest of the file held cannot be told, so nothing is claimed."""
    whole = explicit_image()
    header_offset = len(whole) - 16
    with pytest.raises(FormatError, match="0x"):
        mmindex.scan(whole[: header_offset + cut])


@pytest.mark.parametrize("source", [bytes, bytearray, memoryview])
def test_R8_any_buffer_can_be_scanned(source: type) -> None:
    """bytes, bytearray and memoryview give the same record."""
    data = native_file(PIXELS)
    assert mmindex.scan(source(data)) == mmindex.scan(data)


def test_R1_float_double_and_integer_pixel_data_count_at_the_top_level() -> None:
    """All three pixel data elements are found, and the record names the one."""
    single = native_file(struct.pack("<4f", 1, 2, 3, 4), tag=FLOAT_PIXEL_DATA, vr="OF", bits=32)
    double = native_file(
        struct.pack("<4d", 1, 2, 3, 4), tag=DOUBLE_FLOAT_PIXEL_DATA, vr="OD", bits=64
    )
    keywords = [
        mmindex.scan(d).image_pixel.pixel_keyword for d in (native_file(PIXELS), single, double)
    ]
    assert keywords == ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]
