"""The page in a real browser: silent, closed in itself, as wide as its window, sortable."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ft.train import train
from tests.conftest import TINY, composed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        # Root, as in a container, has no sandbox.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("run")
    with composed(*TINY, f"runs_dir={where}", "data.num_images=160", "plugins=[augmentation]", "report=true") as config:
        train(config)
    return (where / "last" / "report.html").resolve()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_the_page_is_silent_closed_and_as_wide_as_its_window(browser, report, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
    assert page.evaluate("[...document.querySelectorAll('svg.plot')].every(each => each.getAttribute('aria-label'))")
    # Text of the page and of its figures stands out from what is behind it (WCAG 2, 1.4.3).
    for selector in ("main p", "td", ".soft", "svg.plot text"):
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector
    context.close()


def test_a_click_on_a_head_sorts_and_another_turns_the_order(browser, report):
    page = browser.new_page()
    page.goto(report.as_uri())
    for number, is_number in ((0, False), (1, True), (5, True)):
        head = page.locator("#classes thead th").nth(number)
        orders = []
        for _ in range(2):
            head.locator("button").click()
            cells = page.locator(f"#classes tbody tr > :nth-child({number + 1})")
            read = "cells => cells.map(cell => cell.dataset.value ?? cell.textContent.trim())"
            values = cells.evaluate_all(read)
            values = [float(each) for each in values] if is_number else values
            rising = head.get_attribute("aria-sort") == "ascending"
            assert values == sorted(values, reverse=not rising)
            orders.append(rising)
        assert orders == ([False, True] if is_number else [True, False])
    assert page.locator("#classes th[aria-sort]").count() == 1
    page.close()


# Lowest contrast of an element's colour against the card behind it; shades of a figure are thin and not counted.
CONTRAST = """
(selector) => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const luminance = (colour) => {
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const card = luminance(getComputedStyle(document.querySelector("section")).backgroundColor);
  const found = [...document.querySelectorAll(selector)].map((each) => {
    const style = getComputedStyle(each);
    const ink = luminance(each instanceof SVGElement ? style.fill : style.color);
    return (each instanceof SVGElement && ink > 0.99) ? 21
      : (Math.max(ink, card) + 0.05) / (Math.min(ink, card) + 0.05);
  });
  return Math.min(...found);
}
"""
