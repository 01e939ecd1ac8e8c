"""The page in a headless Chromium: what is on the screen is what `picture()` draws."""

from __future__ import annotations

import io
from collections.abc import Iterator
from urllib.parse import unquote

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
SPARSE, PARTS, COLOUR, DEEP = "1.2.9.52", ("1.2.9.53", "1.2.9.54"), "1.2.9.55", "1.2.9.56"
TIMES = b"0\\20\\20\\900\\20\\20"  # milliseconds before each frame


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
    write_more(folder)
    mmindex.build(folder)
    server = Server(application(folder))
    yield Served(folder, server.url)
    server.stop()


def slide_header(uid: str, series: str, organised: str, extra: bytes, frames: int) -> bytes:
    """Return the header of a part of a slide; `extra` has elements between (0020,9161) and ours."""
    size = SIDE.to_bytes(4, "little")
    data = header(uid, STUDY, series, "SM", b"Slide^A ", "20200102") + extra
    data += element(0x00209311, "CS", organised) if organised else b""
    data += image_attributes(rows=TILE, columns=TILE, number_of_frames=frames)
    return data + element(0x00480006, "UL", size) + element(0x00480007, "UL", size)


def write_more(folder) -> None:
    """Write a slide without positions, one in two parts, a colour image, a cine of 16 bits."""
    levels = np.arange(9, dtype=np.uint8)[:, None] * 20 + 40
    pixels = np.repeat(levels, TILE * TILE, axis=1)
    data = slide_header(SPARSE, "1.2.3.20", "TILED_SPARSE", b"", 9)
    whole = element(0x7FE00010, "OW", pixels.tobytes())
    (folder / "sparse.dcm").write_bytes(dicom_file(data + whole))
    for uid, start, stop in ((PARTS[0], 0, 4), (PARTS[1], 4, 9)):
        extra = element(0x00209161, "UI", "1.2.9.60")
        extra += element(0x00209228, "UL", start.to_bytes(4, "little"))
        data = slide_header(uid, "1.2.3.21", "TILED_FULL", extra, stop - start)
        part = element(0x7FE00010, "OW", pixels[start:stop].tobytes())
        (folder / f"part{start}.dcm").write_bytes(dicom_file(data + part))
    rgb = np.random.default_rng(6).integers(0, 256, (40, 50, 3), np.uint8)
    data = header(COLOUR, STUDY, "1.2.3.22", "XC", b"Colour^A", "20200102")
    data += image_attributes(rows=40, columns=50, samples=3, photometric="RGB")
    (folder / "rgb.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", rgb.tobytes())))
    deep = np.random.default_rng(7).integers(0, 4096, (6, 40, 50), "<u2")
    data = header(DEEP, STUDY, "1.2.3.23", "XA", b"Deep^A", "20200102")
    times = element(0x00181065, "DS", TIMES + b" " * (len(TIMES) % 2))
    at = data.index(element(0x00181063, "DS", "40"))
    data = data[:at] + times + data[at + len(element(0x00181063, "DS", "40")) :]
    data += image_attributes(rows=40, columns=50, bits=16, number_of_frames=6)
    (folder / "deep.dcm").write_bytes(dicom_file(data + element(0x7FE00010, "OW", deep.tobytes())))


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


def require_nine_tiles(shown: np.ndarray) -> None:
    """Fail unless nine tiles of 40, 60, ... are shown where they belong."""
    height, width = shown.shape
    side = min(height, width)
    for index in range(9):
        row, column = divmod(index, 3)
        y = (height - side) // 2 + side * (2 * row + 1) // 6
        x = (width - side) // 2 + side * (2 * column + 1) // 6
        assert abs(shown[y, x] - (40 + 20 * index)) <= 3


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
        expected = archive[GREY].picture(1)
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
    require_nine_tiles(shown)
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


def shown_pixels(page) -> np.ndarray:
    """Return the colours of the canvas as the page drew them, in pixels of the screen."""
    from PIL import Image

    page.add_style_tag(content=".stage p { display: none }")
    shot = Image.open(io.BytesIO(page.locator("canvas").screenshot()))
    return np.asarray(shot.convert("RGB"))


def has_picture(shown: np.ndarray, picture: np.ndarray) -> bool:
    """Return whether a picture at 1:1 is in the middle of the screen, rounded either way."""
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    height, width = picture.shape[:2]
    top, left = (shown.shape[0] - height) // 2, (shown.shape[1] - width) // 2
    return any(
        np.array_equal(shown[top + y : top + y + height, left + x : left + x + width], picture)
        for y in (0, 1)
        for x in (0, 1)
    )


@pytest.mark.parametrize("page", ["bypass"], indirect=True)
@pytest.mark.parametrize(("uid", "series"), [(DEEP, "1.2.3.23"), (COLOUR, "1.2.3.22")])
def test_the_screen_has_the_very_picture(page, slide, uid, series):
    """Of 16 bits and of colour, the screen at 1:1 is what `picture()` returns."""
    page.goto(view(slide, uid, series))
    wait_exact(page, 1)
    page.keyboard.press("1")
    with mmindex.open(slide.folder) as archive:
        assert has_picture(shown_pixels(page), archive[uid].picture(0))


@pytest.mark.parametrize("page", ["bypass"], indirect=True)
def test_a_dragged_window_is_the_window_of_the_picture(page, slide):
    """After a drag, the exact picture is the one that `picture()` draws with that window."""
    page.goto(view(slide, DEEP, "1.2.3.23"))
    wait_exact(page, 1)
    page.keyboard.press("1")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.mouse.move(300, 300)
    page.mouse.down()
    for step in range(40):
        page.mouse.move(300 - 3 * step, 300 + step)
    page.mouse.up()
    page.wait_for_selector('canvas[data-exact="false"]')
    wait_exact(page, 1)
    wanted = [url for url in asked if "window=" in url]
    exact = wanted[-1] if wanted else ""
    center, width = (float(one) for one in exact.partition("window=")[2].split(",")[:2])
    with mmindex.open(slide.folder) as archive:
        expected = archive[DEEP].picture(0, (center, width))
    assert has_picture(shown_pixels(page), expected)
    first = [url for url in wanted if "/frames/1/" in url]
    assert len(first) <= 42
    others = [url for url in wanted if "/frames/1/" not in url]
    assert len({url.partition("window=")[2] for url in others}) <= 1  # of the last window alone


COUNT = """(() => {
  const real = window.fetch;
  Object.assign(window, { asked: 0, going: 0, most: 0 });
  window.fetch = async (...request) => {
    if (!String(request[0]).includes("window=")) return real(...request);
    window.asked += 1;
    window.going += 1;
    window.most = Math.max(window.most, window.going);
    await new Promise((resolve) => setTimeout(resolve, 60));
    try { return await real(...request); } finally { window.going -= 1; }
  };
})()"""


def test_a_drag_asks_for_one_picture_at_a_time(page, slide):
    """However slow the server is, one picture of a window is on its way, or the exact one too."""
    page.add_init_script(COUNT)
    page.goto(view(slide, DEEP, "1.2.3.23"))
    wait_exact(page, 1)
    page.mouse.move(300, 300)
    page.mouse.down()
    for step in range(25):
        page.mouse.move(300 + 3 * step, 300)
    assert page.evaluate("window.asked") >= 1
    assert page.evaluate("window.most") <= 2
    page.mouse.up()


def test_controls_of_the_player(page, slide):
    """Slider, number, zoom, 1:1, fit, Escape, and keys after a click on a button."""
    page.goto(view(slide, GREY, "1.2.3.9"))
    wait_exact(page, 1)
    page.locator("input[type=range]").fill("7")
    wait_exact(page, 7)
    page.locator("input[type=number]").fill("4")
    page.locator("input[type=number]").press("Enter")
    wait_exact(page, 4)
    state = page.locator(".state")
    page.click("text=1:1")
    assert "100 %" in state.text_content()
    page.keyboard.press("+")
    assert "125 %" in state.text_content()
    page.keyboard.press("ArrowRight")  # a button has the focus
    wait_exact(page, 5)
    page.click("text=Fit")
    assert "125 %" not in state.text_content()
    page.keyboard.press("End")
    wait_exact(page, 12)
    page.click("text=Play")
    assert page.locator(".bar button").first.text_content() == "Pause"
    page.keyboard.press(" ")  # presses the button, once
    assert page.locator(".bar button").first.text_content() == "Play"
    page.keyboard.press("Escape")
    page.wait_for_selector(".grid.small .card")
    assert page.url.endswith(f"#/study/{STUDY}")


def test_a_link_leads_to_the_frame(browser, slide):
    """What the Link button copies opens the same frame in another window."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    try:
        opened = context.new_page()
        opened.goto(view(slide, GREY, "1.2.3.9"))
        wait_exact(opened, 1)
        opened.keyboard.press("ArrowRight")
        wait_exact(opened, 2)
        opened.click("text=Link")
        opened.wait_for_selector("text=Copied")
        link = opened.evaluate("navigator.clipboard.readText()")
        other = context.new_page()
        other.goto(link)
        wait_exact(other, 2)
    finally:
        context.close()


@pytest.mark.parametrize("token", [None, "correct-horse-battery", 'a;b "c"%3B, d=e+f'])
def test_downloads_are_the_stored_bytes(browser, slide, token):
    """Frame and File, with a token and without, are the bytes of the frame and of the file."""
    from mmindex.serve import application

    server = Server(application(slide.folder, token=token))
    opened = browser.new_page(accept_downloads=True)
    try:
        place = Served(slide.folder, server.url)
        opened.goto(view(place, GREY, "1.2.3.9"))
        if token is not None:
            opened.fill("input[type=password]", token)
            opened.click("text=Go on")
        wait_exact(opened, 1)
        opened.keyboard.press("ArrowRight")
        wait_exact(opened, 2)
        stored = (slide.folder / "cine.dcm").read_bytes()
        with mmindex.open(slide.folder) as archive:
            frame = archive.frame(GREY, 1)
        for button, content, scheme in (("Frame", frame, "blob:"), ("File", stored, "http:")):
            with opened.expect_download() as download:
                opened.click(f".bar button:text-is('{button}')")
            with open(download.value.path(), "rb") as file:
                assert file.read() == content
            assert download.value.url.startswith(scheme)  # a file of any size is in no memory
        (cookie,) = opened.context.cookies([download.value.url]) or [None]
        assert (cookie is None) == (token is None)
        assert cookie is None or cookie["sameSite"] == "Strict"
        assert opened.context.cookies([f"{server.url}/dicom-web/studies"]) == []
    finally:
        opened.close()
        server.stop()


TAILS = [";domain=example.org", "; secure", "#a", "?a=b&c", "%2F", "%", "'()*!~", "\\"]


@pytest.mark.parametrize("tail", TAILS)
def test_a_uid_of_any_text_is_one_segment_of_a_path(browser, tmp_path, tail):
    """Lists, pictures and the saved file are its own; the cookie is of its path and host alone."""
    from mmindex.serve import application

    uid, study, series = (one + tail for one in (GREY, STUDY, SERIES))
    data = header(uid, study, series, "US", b"Any^Text", "20200102")
    data += image_attributes(rows=4, columns=4) + element(0x7FE00010, "OW", bytes(16))
    (tmp_path / "x.dcm").write_bytes(dicom_file(data))
    mmindex.build(tmp_path, workers=1)
    server = Server(application(tmp_path, token="correct-horse-battery"))
    opened = browser.new_page(accept_downloads=True)
    refused = []
    opened.on("response", lambda found: found.status >= 400 and refused.append(found.url))
    try:
        opened.goto(f"{server.url}/#token=correct-horse-battery")
        for grid in (".grid:not(.small)", ".grid.small"):
            opened.wait_for_selector(f"{grid} .card img.thumb", timeout=10_000)
            opened.click(f"{grid} .card")
        wait_exact(opened, 1)
        with opened.expect_download() as download:
            opened.click(".bar button:text-is('File')")
        with open(download.value.path(), "rb") as file:
            assert file.read() == (tmp_path / "x.dcm").read_bytes()
        (cookie,) = opened.context.cookies()
        assert unquote(cookie["path"]).endswith(f"/series/{series}/instances/{uid}")
        assert (cookie["domain"], cookie["sameSite"]) == ("127.0.0.1", "Strict")
        opened.keyboard.press("Escape")
        opened.wait_for_selector(".grid.small .card img.thumb", timeout=10_000)
        assert refused == []
    finally:
        opened.close()
        server.stop()


@pytest.mark.parametrize("uid", ["..", ".", "../1.2", "/", "1/../..", "%2e%2e", "..;a"])
def test_no_uid_is_a_step_to_another_path(page, served, uid):
    """Of three UIDs that a browser could take for steps, the path has six segments."""
    page.goto(served.url)
    path = page.evaluate(
        """async (uid) => {
          const { src } = document.querySelector("script");
          const { pathOf } = await import(src.replace("viewer", "dicomweb"));
          return new URL("/dicom-web" + pathOf(uid, uid, uid), location).pathname;
        }""",
        uid,
    )
    _, base, *found = path.split("/")
    assert (base, found[::2]) == ("dicom-web", ["studies", "series", "instances"])
    assert len(found) == 6


def test_a_token_is_asked_for_and_a_wrong_one_again(browser, served):
    """The page asks for the token; one in the fragment goes from the address at once."""
    from mmindex.serve import application

    token = "correct-horse-battery"
    server = Server(application(served.folder, token=token))
    opened = browser.new_page()
    try:
        opened.goto(server.url)
        note = opened.locator(".note")
        for asked, given in (("needs a token", "wrong-wrong-wrong"), ("not the token", token)):
            sync_api.expect(note).to_contain_text(asked)
            opened.fill("input[type=password]", given)
            opened.keyboard.press("Enter")
        sync_api.expect(opened.locator(".card")).to_have_count(2)
        opened.close()
        opened = browser.new_page()
        opened.goto(f"{server.url}/#token={token}")
        sync_api.expect(opened.locator(".card")).to_have_count(2)
        assert token not in opened.url
    finally:
        opened.close()
        server.stop()


def test_a_colour_image_has_no_window(page, slide):
    """Dragging moves a colour image, and asks for no other picture."""
    page.goto(view(slide, COLOUR, "1.2.3.22"))
    wait_exact(page, 1)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.mouse.move(300, 300)
    page.mouse.down()
    page.mouse.move(360, 340, steps=4)
    page.mouse.up()
    page.wait_for_timeout(300)
    assert not any("window=" in url for url in asked)
    assert page.locator("button:text-is('Window')").is_hidden()
    assert "no window" in page.locator(".what").text_content()


def test_frames_play_at_the_times_of_their_vector(page, slide):
    """Frame Time Vector (0018,1065): the third frame stays for 900 ms, the others for 20."""
    page.goto(view(slide, DEEP, "1.2.3.23"))
    wait_exact(page, 1)
    page.wait_for_timeout(500)  # the neighbours are loaded
    seen = page.evaluate(
        """() => new Promise((resolve) => {
          const canvas = document.querySelector("canvas"), times = [];
          const observer = new MutationObserver(() => {
            const frame = canvas.dataset.frame;
            if (!times.length || times.at(-1)[0] !== frame) times.push([frame, performance.now()]);
            if (times.length > 6) { observer.disconnect(); resolve(times); }
          });
          observer.observe(canvas, { attributes: true, attributeFilter: ["data-frame"] });
          document.querySelector(".bar button").click();
        })"""
    )
    stays = {frame: seen[at + 1][1] - time for at, (frame, time) in enumerate(seen[:-1])}
    assert stays["3"] > 800
    assert max(stay for frame, stay in stays.items() if frame != "3") < 700


def test_a_slide_without_positions_is_refused(page, slide):
    """No order of tiles is guessed: the page says why it draws no map."""
    page.goto(view(slide, SPARSE, "1.2.3.20"))
    page.wait_for_selector(".note")
    assert "no positions" in page.locator(".note").text_content()
    page.click("text=Tiles one by one")
    wait_exact(page, 1)


@pytest.mark.parametrize("page", ["bypass"], indirect=True)
@pytest.mark.parametrize("uid", PARTS)
def test_a_slide_in_parts_is_one_map(page, slide, uid):
    """Of a concatenation, each part's frames lie where its offset says, whichever was opened."""
    page.goto(view(slide, uid, "1.2.3.21"))
    page.wait_for_selector('canvas[data-missing="0"]')
    page.wait_for_timeout(200)
    shown = shown_pixels(page)[:, :, 0].astype(int)
    require_nine_tiles(shown)
