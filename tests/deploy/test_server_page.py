"""The page in a real browser: an image is dropped or chosen, the classes appear, nothing else is asked for."""

import shutil

import pytest

from ft.build.trained import load_predictor
from ft.data.images import open_image
from ft.inference.predict_images import describe, predict_images
from tests.deploy.serving import Served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [pytest.mark.full, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")]

# A drop as the operating system makes it: a file in the event's data.
DROP = """async ([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  const drop = document.querySelector("#drop");
  for (const kind of ["dragenter", "dragover", "drop"])
    drop.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def served(trained):
    server = Served(f"run='{trained.path}'", "max_bytes=100_000")
    yield server
    server.process.terminate()
    assert server.end() == (0, "")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=["light, wide", "dark, narrow"])
def page(browser, served, request):
    scheme, width = request.param.split(", ")
    size = {"width": 1100 if width == "wide" else 360, "height": 800}
    page = browser.new_page(color_scheme=scheme, viewport=size)
    page.told, page.asked = [], []
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("request", lambda sent: page.asked.append(sent.url))
    page.goto(served.url)
    page.locator("#facts:not(:empty)").wait_for()
    yield page
    foreign = [url for url in page.asked if not url.startswith((f"{served.url}/", "blob:", "data:"))]
    assert not foreign
    page.close()


def told_on(page) -> list[tuple[str, str]]:
    """Label and percentage of every bar of the newest card."""
    card = page.locator("article").first
    card.locator("li").first.wait_for()
    rows = card.locator("li").all()
    return [(row.locator(".name").inner_text(), row.locator(".much").inner_text()) for row in rows]


def test_an_image_is_dropped_or_chosen_and_its_classes_appear(page, trained, photos):
    predictor = load_predictor(trained)
    files = [photos / "cat" / "1.png", photos / "bee" / "2.png"]
    wanted = []
    for row in predict_images(predictor, [open_image(str(file)) for file in files]):
        said = describe(predictor.reading, row, 3)["top_k"]
        wanted.append([(each["label"], f"{100 * each['probability']:.1f} %") for each in said])

    page.set_input_files("#file", files[0])
    assert told_on(page) == wanted[0]
    page.evaluate(DROP, [list(files[1].read_bytes()), files[1].name])
    page.locator("article").nth(1).wait_for()
    assert told_on(page) == wanted[1]

    picture = page.locator("article").first.locator("img")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    first, last = (page.locator("article").first.locator(".bar i").nth(at).bounding_box() for at in (0, 2))
    assert first["width"] > last["width"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    assert page.told == []


def test_what_is_wrong_with_an_image_stands_where_its_classes_would(page, served, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    page.set_input_files("#file", tmp_path / "broken.png")
    assert "not an image" in page.locator(".wrong").inner_text()
    (tmp_path / "large.png").write_bytes(b"x" * 200_000)
    page.set_input_files("#file", tmp_path / "large.png")
    page.locator("article").nth(1).wait_for()
    assert "200,000 bytes, and the limit is 100,000" in page.locator(".wrong").first.inner_text()


def test_the_field_is_reached_with_the_keyboard_and_says_so(page):
    outline = "getComputedStyle(document.querySelector('#drop')).outlineStyle"
    assert page.evaluate(outline) == "none"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate(outline) == "solid"


def test_the_page_follows_the_colours_of_the_system(page):
    text, back = (page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("color", "backgroundColor"))
    light = [sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(","))) for colour in (text, back)]
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (light[0] > light[1]) == is_dark
    assert abs(light[0] - light[1]) > 400
