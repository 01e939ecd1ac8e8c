"""The OHIF Viewer, as npm has it, over our server: a CT, an ultrasound cine and a slide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom_bytes import dicom_file, element, image_attributes
from serve.chromium import (
    CHROMIUM,
    NO_CHROMIUM,
    PATIENCE,
    check_frames,
    running_chromium,
    unpack_from_npm,
    wait_alike,
    watched_page,
)
from served_archive import Served, Server, header
from slide_files import cut, draw, write_slide_file

import mmindex

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM),
]
PACKAGE = "@ohif/app@3.13.2"
CT, CT_SLICES = "1.2.8.1", 6
CINE, CINE_FRAMES = "1.2.8.2", 8


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an unpacked OHIF, from MMINDEX_OHIF or from npm."""
    if "MMINDEX_OHIF" in os.environ:
        return Path(os.environ["MMINDEX_OHIF"])
    return unpack_from_npm(PACKAGE, tmp_path_factory.mktemp("ohif"))


@pytest.fixture(scope="module")
def served(viewer: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from mmindex.serve import application

    folder = tmp_path_factory.mktemp("archive")
    write_ct(folder)
    y, x = np.mgrid[:48, :64]
    frames = [(x * 3 + y + 40 * number) % 256 for number in range(CINE_FRAMES)]
    data = header(f"{CINE}.9", CINE, f"{CINE}.1", "US", b"Cine^B", "20200102")
    data += image_attributes(rows=48, columns=64, number_of_frames=CINE_FRAMES)
    pixels = np.array(frames, np.uint8).tobytes()
    (folder / "cine.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", pixels)))
    for number, size in enumerate(((300, 200), (150, 100)), 1):
        tiles = [pixels for _, _, pixels in cut(draw(*size))]
        slide = write_slide_file(number, size, tiles, downsample=number)
        (folder / f"slide-{number}.dcm").write_bytes(slide)
    mmindex.build(folder, workers=1)
    server = Server(application(folder, ohif=viewer))
    yield Served(folder, server.url)
    server.stop()


def write_ct(folder: Path) -> None:
    """Write slices of pydicom's CT, each with its pixels rolled by another number of rows."""
    import pydicom.data

    known = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"))
    pixels = known.pixel_array
    for number in range(CT_SLICES):
        known.StudyInstanceUID, known.SeriesInstanceUID = CT, f"{CT}.1"
        known.SOPInstanceUID = known.file_meta.MediaStorageSOPInstanceUID = f"{CT}.9.{number}"
        known.InstanceNumber = number + 1
        known.ImagePositionPatient[2] = 5 * number
        known.PixelData = np.roll(pixels, 9 * number, 0).tobytes()
        known.save_as(folder / f"ct-{number}.dcm")


@pytest.fixture(scope="module")
def browser():
    with running_chromium() as launched:
        yield launched


@pytest.fixture
def page(browser):
    with watched_page(browser) as opened:
        yield opened


def open_study(page, served: Served, mode: str, study: str) -> None:
    page.goto(f"{served.url}/{mode}?StudyInstanceUIDs={study}", timeout=PATIENCE)
    page.wait_for_selector("canvas", timeout=PATIENCE)


def skip_tour(page) -> None:
    """Close the tour that a first visit begins with, which dims the image."""
    tour = page.get_by_text("Skip all")
    tour.wait_for(timeout=PATIENCE)
    tour.click()


def test_the_list_of_studies_names_all(page, served: Served) -> None:
    """Patients of the three studies stand in OHIF's own list."""
    page.goto(served.url + "/", timeout=PATIENCE)
    for name in ("CompressedSamples", "Cine", "Slide"):
        page.get_by_text(name).first.wait_for(timeout=PATIENCE)


@pytest.mark.parametrize("study", [CT, CINE])
def test_images_are_shown(page, served: Served, study: str) -> None:
    """The viewport shows one of the pictures, and every frame sent is the archive's."""
    open_study(page, served, "viewer", study)
    skip_tour(page)
    with mmindex.open(served.folder) as archive:
        if study == CT:
            pictures = [archive[f"{CT}.9.{n}"].picture(0) for n in range(CT_SLICES)]
        else:
            pictures = [archive[f"{CINE}.9"].picture(n) for n in range(CINE_FRAMES)]
        wait_alike(page, ".cornerstone-canvas", pictures)
        check_frames(page, archive)


def test_a_slide_is_shown(page, served: Served) -> None:
    """The map of tiles, turned as its orientation says, and every tile sent is the archive's."""
    open_study(page, served, "microscopy", "1.2.3.4.1")
    page.add_style_tag(content=".ol-overviewmap, .ol-scale-line { display: none }")
    turned = [np.rot90(draw(300, 200), turns) for turns in (0, 2)]
    wait_alike(page, ".ol-viewport", [np.ascontiguousarray(one) for one in turned])
    with mmindex.open(served.folder) as archive:
        check_frames(page, archive)
