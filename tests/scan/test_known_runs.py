"""Runs of elements that are known from another file: the same result, in fewer steps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from dicom_bytes import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    PIXEL_DATA,
    dicom_file,
    element,
    image_attributes,
    item,
    sequence,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mmindex import InstanceRecord
from mmindex.errors import FormatError, MMIndexError
from mmindex.scan.instance import scan_frames, scan_header
from mmindex.scan.known_runs import KnownRuns

# The first file is learnt from, the second compared one by one, the third in one call.
SCANNED_BEFORE = [1, 2, 3]
SYNTAXES = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN]

Elements = Sequence[tuple[int, str, bytes]]

PLAIN: Elements = [  # tags that nobody wants, between those of an image
    (0x00080005, "CS", b"ISO_IR 100"),
    (0x00080020, "DA", b"20200101"),
    (0x00080030, "TM", b"101010"),
    (0x00080050, "SH", b""),
    (0x00090010, "LO", b"PRIVATE "),
    (0x00091001, "OB", b"\1\2\3\4"),
    (0x00091002, "UN", b"\5\6"),
    (0x00100010, "PN", b"DOE^JANE"),
    (0x00100020, "LO", b"12"),
]


def image_file(uid: str, before: Elements, after: bytes = b"") -> bytes:
    """Return an image of 2 x 2 pixels with other elements before and after its attributes."""
    order = ">" if uid == EXPLICIT_VR_BIG_ENDIAN else "<"
    implicit = uid == IMPLICIT_VR_LITTLE_ENDIAN
    header = b"".join(
        element(tag, vr, value, order=order, implicit=implicit) for tag, vr, value in before
    )
    image = image_attributes(rows=2, columns=2, bits=8, order=order, implicit=implicit)
    pixels = element(PIXEL_DATA, "OW", b"\1\2\3\4", order=order, implicit=implicit)
    return dicom_file(header + image + after + pixels, uid)


def scan(data: bytes, known_runs: KnownRuns | None = None) -> InstanceRecord | str:
    """Return the record, or the error."""
    try:
        return scan_frames(scan_header(data, known_runs=known_runs))
    except MMIndexError as error:
        return f"{type(error).__name__} {error}"


def knowing(*files: bytes) -> KnownRuns:
    """Return what is known after these files, each of which gives what it gives alone."""
    known_runs = KnownRuns()
    for data in files:
        assert scan(data, known_runs) == scan(data)
    return known_runs


values = st.binary(max_size=6).map(lambda value: value + b"\0" * (len(value) % 2))
elements = st.lists(
    st.tuples(
        st.sampled_from([0x00080005, 0x00080020, 0x00080050, 0x00091001, 0x00100010, 0x00200013]),
        st.sampled_from(["LO", "UN", "OB", "SH", "ZZ"]),
        values,
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(st.data(), st.sampled_from(SYNTAXES), st.sampled_from(SYNTAXES), st.lists(elements))
def test_what_is_known_of_other_files_never_changes_a_record(
    data: st.DataObject, uid: str, other_uid: str, others: list[Elements]
) -> None:
    """Whatever was scanned before, a file gives the record, or the error, that it gives alone."""
    times = data.draw(st.sampled_from(SCANNED_BEFORE))
    before = [image_file(other_uid, other) for other in others for _ in range(times)]
    known_runs = knowing(*before)
    base = data.draw(st.sampled_from([*others, PLAIN]))
    file = bytearray(image_file(uid, [*base, *data.draw(elements)]))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(128, len(file) - 1))
        file[at] = data.draw(st.sampled_from([0, 1, 2, 4, 8, 0x41, 0x4F, 0x55, 0xFE, 0xFF]))
    somewhere, near_the_end = st.integers(0, len(file)), st.integers(len(file) - 40, len(file))
    cut = bytes(file[: data.draw(somewhere | near_the_end)])
    assert scan(cut, known_runs) == scan(cut)


@pytest.mark.parametrize("before", SCANNED_BEFORE)
@pytest.mark.parametrize("uid", SYNTAXES)
def test_a_cut_file_gives_the_error_that_it_gives_alone(uid: str, before: int) -> None:
    """Wherever a file ends, a run of whole ones before it neither leads nor is read past that."""
    whole = image_file(uid, PLAIN)
    for end in range(len(whole) + 1):
        assert scan(whole[:end], knowing(*[whole] * before)) == scan(whole[:end])


@pytest.mark.parametrize("before", SCANNED_BEFORE)
@pytest.mark.parametrize("uid", SYNTAXES)
def test_same_headers_are_skipped_and_the_pixel_data_found(uid: str, before: int) -> None:
    """The frame of a further file lies where its bytes do."""
    known_runs = knowing(*[image_file(uid, PLAIN)] * before)
    data = image_file(uid, PLAIN)
    record = scan(data, known_runs)
    assert isinstance(record, InstanceRecord)
    assert record.frames is not None
    assert record.frames.value_offset == data.index(b"\1\2\3\4", -4)


@pytest.mark.parametrize("before", SCANNED_BEFORE)
@pytest.mark.parametrize("longer", range(len(PLAIN)))
def test_a_longer_value_moves_what_follows(longer: int, before: int) -> None:
    """The run is cut where a length differs; what stands after it is found where it is."""
    known_runs = knowing(*[image_file(EXPLICIT_VR_LITTLE_ENDIAN, PLAIN)] * before)
    other = list(PLAIN)
    tag, vr, value = other[longer]
    other[longer] = tag, vr, value + b"  "
    for elements in (other, PLAIN, other):
        data = image_file(EXPLICIT_VR_LITTLE_ENDIAN, elements)
        record = scan(data, known_runs)
        assert isinstance(record, InstanceRecord)
        assert record.frames is not None
        assert record.frames.value_offset == len(data) - 4


@pytest.mark.parametrize("before", SCANNED_BEFORE)
def test_a_known_header_within_a_value_is_no_element(before: int) -> None:
    """A value that holds the headers of a run is skipped as a value."""
    file = image_file(EXPLICIT_VR_LITTLE_ENDIAN, PLAIN)
    run = file[file.index(b"\x08\0\x05\0CS") : file.index(b"\x28\0\x02\0US")]
    hidden = image_file(EXPLICIT_VR_LITTLE_ENDIAN, [(0x00080005, "UT", run), *PLAIN[1:]])
    assert scan(hidden, knowing(*[file] * before)) == scan(hidden)


def test_an_encoding_that_differs_is_not_compared() -> None:
    """Headers with the same bytes lead elsewhere in Implicit VR: they are not taken for known."""
    explicit = image_file(EXPLICIT_VR_LITTLE_ENDIAN, PLAIN)
    start = explicit.index(b"\x08\0\x05\0CS")
    implicit = dicom_file(explicit[start:], IMPLICIT_VR_LITTLE_ENDIAN)
    assert scan(implicit, knowing(explicit)) == scan(implicit)


def test_zeros_after_the_last_element_are_no_run() -> None:
    """An element after zeros is refused, also where a file before had zeros there."""
    body = b"".join(element(tag, vr, value) for tag, vr, value in PLAIN)
    zeros = bytes(12 * 8)
    known_runs = knowing(dicom_file(body + zeros))
    with pytest.raises(FormatError, match="something else"):
        scan_header(dicom_file(body + zeros + body), known_runs=known_runs)


def test_a_nested_sequence_is_skipped_by_structure_between_runs() -> None:
    """Values of undefined length are no part of a run, in the VR form that they have."""
    uid = item(element(0x00081155, "UI", "1.2"), undefined=True)
    name = item(element(0x00100010, "PN", b"AB", implicit=True), undefined=True)
    after = sequence(0x00081140, [uid], undefined=True)
    after += sequence(0x00091003, [name], undefined=True, vr="UN")  # Implicit VR within it
    data = image_file(EXPLICIT_VR_LITTLE_ENDIAN, PLAIN, after)
    record = scan(data, knowing(data, data))
    assert isinstance(record, InstanceRecord)
    assert record.frames is not None
    assert record.frames.value_offset == len(data) - 4


def test_millions_of_elements_are_not_all_learnt() -> None:
    """What is kept of a data set is bounded, however many elements it has."""
    body = b"".join(element(0x00090000 | at % 0xFFFF + 1, "LO") for at in range(100_000))
    known_runs = knowing(dicom_file(body))
    assert sum(len(run.elements) for run in known_runs.runs.values()) <= 1000


@pytest.mark.parametrize("uid", SYNTAXES)
def test_wanted_values_of_a_known_run_are_those_of_the_file_itself(uid: str) -> None:
    """Where headers are the same, values are still those of the second file."""

    def slice_file(sop_instance_uid: bytes, number: bytes, position: bytes) -> bytes:
        return image_file(
            uid,
            [
                (0x00080018, "UI", sop_instance_uid),
                *PLAIN[1:],
                (0x00200013, "IS", number),
                (0x00200032, "DS", position),
            ],
        )

    known_runs = knowing(slice_file(b"1.2.3\0", b"1 ", b"0\\0\\1 "))
    record = scan(slice_file(b"1.2.4\0", b"2 ", b"0\\0\\2 "), known_runs)
    assert isinstance(record, InstanceRecord)
    assert record.sop_instance_uid == "1.2.4"
    assert record.image_numbers.instance_number == 2
    assert record.image_numbers.image_position_patient == (0.0, 0.0, 2.0)
    assert (record.image_pixel.rows, record.image_pixel.columns) == (2, 2)
    longer = scan(slice_file(b"1.2.40\0\0", b"10", b"0\\0\\20"), known_runs)
    assert isinstance(longer, InstanceRecord)
    assert longer.sop_instance_uid == "1.2.40"
    assert longer.image_numbers.instance_number == 10


def test_the_first_value_of_a_tag_counts_beside_a_known_run() -> None:
    """A tag that stood before the run is not found anew in it."""
    known_runs = knowing(image_file(EXPLICIT_VR_LITTLE_ENDIAN, PLAIN))
    first = (0x00280010, "US", b"\2\0")
    data = image_file(EXPLICIT_VR_LITTLE_ENDIAN, [first, *PLAIN])
    assert scan(data, known_runs) == scan(data)
