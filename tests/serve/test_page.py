"""The page in a headless Chromium: what is on the screen is what `array` has."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from dicom_bytes import dicom_file, element, image_attributes
from serve.chromium import CHROMIUM, NO_CHROMIUM, running_chromium
from served_archive import OTHER, SERIES, SR, STUDY, Served, Server, header

import mmindex

sync_api = pytest.importorskip("playwright.sync_api")
if CHROMIUM is None:
    pytest.skip(NO_CHROMIUM, allow_module_level=True)
SIDE, TILE, SLIDE, GREY = 96, 32, "1.2.9.50", "1.2.9.51"


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a slide of 3 by 3 tiles and a cine of grey levels, written by hand."""
    from mmindex.serve import application

    folder = tmp_path_factory.mktemp("slide")
    tiles = np.arange(9, dtype=np.uint8)[:, None] * 20 + 40
    pixels = np.repeat(tiles, TILE * TILE, axis=1).tobytes()
    data = header(SLIDE, STUDY, SERIES, "SM", b"Slide^A ", "20200102")
    size = SIDE.to_bytes(4, "little")
    image = image_attributes(rows=TILE, columns=TILE, number_of_frames=9)
    organised = element(0x00209311, "CS", "TILED_FULL")
    origin = element(0x00480006, "UL", size) + element(0x00480007, "UL", size)
    data += organised + image + origin + element(0x7FE00010, "OW", pixels)
    (folder / "slide.dcm").write_bytes(dicom_file(data))
    ramp = np.random.default_rng(5).integers(0, 256, (12, 48, 64), np.uint8)
    data = header(GREY, STUDY, "1.2.3.9", "US", b"Cine^B", "20200102")
    data += image_attributes(rows=48, columns=64, number_of_frames=12)
    (folder / "cine.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", ramp.tobytes())))
    mmindex.build(folder)
    server = Server(application(folder))
    yield Served(folder, server.url)
    server.stop()


@pytest.fixture(scope="module")
def browser():
    with running_chromium() as launched:
        yield launched


@pytest.fixture(params=[False], ids=["strict"])
def page(browser, request):
    """Open a page under its own policy; with `bypass`, one that a test may style and ask."""
    opened = browser.new_page(
        viewport={"width": 800, "height": 600}, bypass_csp=request.param == "bypass"
    )
    opened.errors = []
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    yield opened
    assert opened.errors == []
    opened.close()


def view(served: Served, uid: str, series: str = SERIES) -> str:
    return f"{served.url}/#/view/studies/{STUDY}/series/{series}/instances/{uid}"


def wait_exact(page, number: int) -> None:
    page.wait_for_selector(f'canvas[data-frame="{number}"][data-exact="true"]', timeout=10_000)


def canvas_pixels(page) -> np.ndarray:
    """Return the middle of the screen's canvas in grey levels, from a screenshot."""
    from PIL import Image

    shot = Image.open(io.BytesIO(page.locator("canvas").screenshot()))
    return np.asarray(shot.convert("RGB"))[:, :, 0]


def test_studies_series_and_instances_are_listed(page, served):
    """From the first page to a thumbnail of an instance, by clicks."""
    page.goto(served.url)
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == 2
    page.fill("#search", "smith")
    sync_api.expect(page.locator(".card")).to_have_count(1)
    page.click(".card")
    page.wait_for_selector(".grid.small .card img")
    page.click(".grid.small .card")
    wait_exact(page, 1)
    assert OTHER in page.url


@pytest.mark.parametrize("page", ["bypass"], indirect=True)
def test_the_player_shows_the_pixels_of_a_frame(page, slide):
    """At 1:1 the screen has the very pixels of the frame; keys, wheel and the link move on."""
    page.goto(view(slide, GREY, "1.2.3.9"))
    wait_exact(page, 1)
    page.keyboard.press("1")
    for keys, number in ((["ArrowRight", "ArrowRight"], 3), (["End"], 12), (["Home"], 1)):
        for key in keys:
            page.keyboard.press(key)
        wait_exact(page, number)
    page.mouse.move(400, 300)
    page.mouse.wheel(0, 100)
    wait_exact(page, 2)
    page.add_style_tag(content=".stage p { display: none }")
    shown = canvas_pixels(page)
    top, left = (shown.shape[0] - 48) // 2, (shown.shape[1] - 64) // 2
    with mmindex.open(slide.folder) as archive:
        expected = archive.array(GREY, 1)
    around = [
        shown[top + dy : top + dy + 48, left + dx : left + dx + 64]
        for dy in (0, 1)
        for dx in (0, 1)
    ]
    assert any(np.array_equal(one, expected) for one in around)
    assert page.url.endswith("/frames/2")


@pytest.mark.parametrize("page", ["bypass"], indirect=True)
def test_dragging_changes_the_window_and_playing_goes_on(page, slide):
    """A drag asks for another window; Space plays and stops."""
    page.goto(view(slide, GREY, "1.2.3.9"))
    wait_exact(page, 1)
    with page.expect_request(lambda request: "window=" in request.url):
        page.mouse.move(300, 300)
        page.mouse.down()
        page.mouse.move(340, 320, steps=3)
        page.mouse.up()
    page.keyboard.press("w")
    page.keyboard.press(" ")
    page.wait_for_function("Number(document.querySelector('canvas').dataset.frame) > 3")
    page.keyboard.press(" ")
    assert page.locator(".bar button").first.text_content() == "Play"


@pytest.mark.parametrize("page", ["bypass"], indirect=True)
def test_a_slide_is_a_map_of_its_tiles(page, slide):
    """All nine tiles are where they belong; zooming in loads what is missing."""
    page.goto(view(slide, SLIDE))
    page.wait_for_selector('canvas[data-missing="0"]')
    page.add_style_tag(content=".stage p { display: none }")
    page.wait_for_timeout(200)
    shown = canvas_pixels(page).astype(int)
    height, width = shown.shape
    side = min(height, width)
    for index in range(9):
        row, column = divmod(index, 3)
        y = (height - side) // 2 + side * (2 * row + 1) // 6
        x = (width - side) // 2 + side * (2 * column + 1) // 6
        assert abs(shown[y, x] - (40 + 20 * index)) <= 3
    page.mouse.move(400, 300)
    page.mouse.wheel(0, -500)
    page.wait_for_selector('canvas[data-missing="0"]')


def test_what_cannot_be_shown_is_said(page, served):
    """A report has no image: the page says so and offers the file."""
    page.goto(view(served, SR, "1.2.3.2"))
    page.wait_for_selector(".note")
    assert "no image" in page.locator(".note").text_content()
    with page.expect_download() as download:
        page.click(".note button")
    assert download.value.suggested_filename == f"{SR}.dcm"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser, served, tmp_path, scheme):
    """At the width of a phone nothing sticks out, whatever the length of a name; both schemes."""
    from mmindex.serve import application

    data = header(GREY, STUDY, SERIES, "US", b"W" * 60 + b"^" + b"x" * 63, "20200102")
    data += image_attributes(rows=2, columns=2) + element(0x7FE00010, "OW", b"\1\2\3\4")
    (tmp_path / "long.dcm").write_bytes(dicom_file(data))
    mmindex.build(tmp_path)
    server = Server(application(tmp_path))
    size = {"width": 360, "height": 740}
    context = browser.new_context(
        viewport=size, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    place = Served(tmp_path, server.url)
    backs = set()
    try:
        opened = context.new_page()
        for url in (server.url, f"{server.url}/#/study/{STUDY}", view(place, GREY)):
            opened.goto(url)
            opened.wait_for_selector("canvas" if "view" in url else ".card")
            opened.wait_for_timeout(200)
            assert opened.evaluate("document.documentElement.scrollWidth") <= size["width"]
            backs.add(opened.evaluate("getComputedStyle(document.body).backgroundColor"))
        for part in opened.locator(".bar > :visible, .stage p").all():
            box = part.bounding_box()
            assert box is None or box["x"] + box["width"] <= size["width"]
    finally:
        context.close()
        server.stop()
    assert backs == {"rgb(246, 247, 249)" if scheme == "light" else "rgb(13, 17, 23)"}
