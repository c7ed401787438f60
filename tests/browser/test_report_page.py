"""The report in a browser: its sections, values under the pointer and by keyboard, hostile names, and paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.report.section_registry import sections
from tests.browser.conftest import HOSTILE, IMAGE
from tests.chromium import Chromium, Opened

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"  # two of them
PAPER, PAPER_HEIGHT = 718, 1047  # in CSS pixels: A4 less margins of 1 cm
# What a reader can act on, folded parts opened: links, buttons, controls, and panes that scroll or listen to keys.
_CONTROLS = """() => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  const all = "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex='-1'])";
  const shown = Array.from(document.querySelectorAll(all)).filter(each => !each.disabled && each.checkVisibility());
  shown.forEach((each, place) => { each.dataset.place = place; });
  return shown.length;
}"""
_FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  const visible = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1) || style.boxShadow !== "none";
  const place = element.dataset.place;
  return [place === undefined ? null : Number(place), visible, element.outerHTML.slice(0, 200)];
}"""


@pytest.fixture
def report(chromium: Chromium, pages: dict[str, Path]) -> Iterator[Opened]:
    """The ordinary report, opened."""
    with chromium.opened(pages["report"]) as opened:
        yield opened


def test_every_section_is_there_under_its_heading_and_in_the_contents(report: Opened) -> None:
    listed = [link.get_attribute("href") for link in report.page.query_selector_all("nav a")]
    assert listed
    for section in sections():
        if f"#{section.name}" in listed:
            assert report.page.locator(f"section#{section.name} h2").inner_text().strip()
        else:  # it has nothing to show, and says so among the parts left out
            assert report.page.locator(f"#left-out #{section.name}").inner_text().strip()
    assert len(listed) > 10
    order = report.page.eval_on_selector_all("section[id]", "all => all.map(each => '#' + each.id)")
    assert [anchor for anchor in listed if anchor in order] == order  # as on the page


def test_the_keyboard_reaches_every_control_and_shows_where_it_is(report: Opened) -> None:
    count = report.page.evaluate(_CONTROLS)
    assert count > 20
    reached = []
    for _ in range(count):
        report.page.keyboard.press("Tab")
        place, visible, element = report.page.evaluate(_FOCUSED)
        assert visible, f"nothing shows that this has the focus: {element}"
        reached.append(place)
    assert reached == list(range(count))  # all of them, in the order of the page


def test_the_keyboard_opens_and_closes_every_folded_part(report: Opened) -> None:
    summaries = report.page.locator("summary")
    assert summaries.count()
    for index in range(summaries.count()):
        summary = summaries.nth(index)
        summary.focus()
        for key in ("Enter", "Space"):
            before = summary.evaluate("each => each.parentElement.open")
            report.page.keyboard.press(key)
            assert summary.evaluate("each => each.parentElement.open") is not before


def test_the_skip_link_leads_past_the_contents(report: Opened) -> None:
    report.page.keyboard.press("Tab")
    report.page.keyboard.press("Enter")
    report.page.keyboard.press("Tab")
    assert report.page.evaluate("document.activeElement.closest('main') !== null")


def test_a_map_shows_its_images_under_the_pointer_and_by_arrow_keys(report: Opened) -> None:
    tip = report.page.locator("#tip")
    assert not tip.is_visible()
    mark = report.page.locator("svg.map [data-i]").first
    mark.scroll_into_view_if_needed()
    report.page.evaluate(FRAMES)
    mark.hover()  # after the page has heard that it was scrolled, which hides what is shown
    assert tip.is_visible()
    by_pointer = tip.inner_text()
    assert by_pointer.strip()
    report.page.mouse.move(1, 1)
    assert not tip.is_visible()
    report.page.locator(".pane[tabindex]").first.focus()
    shown = []
    for _ in range(40):
        report.page.keyboard.press("ArrowRight")
        assert tip.is_visible()
        shown.append(tip.inner_text())
    assert by_pointer in shown
    report.page.keyboard.press("Escape")
    assert not tip.is_visible()
    drawn = report.page.evaluate(
        "() => Array.from(document.querySelector('#tip canvas').getContext('2d').getImageData(0, 0, 8, 8).data)"
        ".some(value => value > 0)"
    )
    assert drawn  # the thumbnail, not an empty square


def test_charts_show_values_under_the_pointer_and_by_arrow_keys(report: Opened) -> None:
    tip = report.page.locator("#tip")
    charts = report.page.locator("svg.chart[tabindex='0']")
    assert charts.count() > 1
    for place in range(charts.count()):
        charts.nth(place).focus()
        report.page.evaluate(FRAMES)
        report.page.keyboard.press("ArrowDown")
        assert re.search(r"\d", tip.inner_text(timeout=2000))
        report.page.keyboard.press("Escape")
        assert not tip.is_visible()
    mark = report.page.locator("svg.chart.wide:not(.map) g circle.dot").first
    mark.scroll_into_view_if_needed()
    report.page.evaluate(FRAMES)
    mark.hover()
    assert re.search(r": .*\d", tip.inner_text(timeout=2000))


def test_hostile_names_stay_text(chromium: Chromium, pages: dict[str, Path]) -> None:
    with chromium.opened(pages["hostile report"]) as opened:
        page = opened.page
        page.on("dialog", lambda dialog: opened.said.append(f"dialog: {dialog.message}"))
        assert page.locator(f"text={IMAGE}").count() > 3
        assert page.evaluate("document.querySelectorAll('[onerror], img:not([src^=\"data:image/\"])').length") == 0
        assert page.evaluate("document.scripts.length") == 3  # data of the map, provenance.js, ours
        for pane in page.locator(".pane[tabindex]").all():  # what the script writes is text too
            pane.focus()
            for _ in range(12):
                page.keyboard.press("ArrowRight")
        for part in page.locator("summary").all():
            part.click()
        text = page.locator("body").inner_text()
        assert "\u202e" not in text
        assert HOSTILE[4] in text  # right-to-left names are shown as they are, and turn nothing around them
        isolated = "each => !!each.closest('svg') || getComputedStyle(each).unicodeBidi.includes('isolate')"
        for found in page.locator(f"text={HOSTILE[4]}").all():
            assert found.evaluate(isolated), found.evaluate(
                "each => each.outerHTML"
            )  # ... and turn nothing around them
        assert opened.said == []
        assert len(opened.asked) == 2


def test_without_scripts_the_page_is_complete(chromium: Chromium, pages: dict[str, Path]) -> None:
    with chromium.opened(pages["report"], java_script_enabled=False) as opened:
        assert opened.asked == [pages["report"].as_uri()]
        for section in sections():
            assert opened.page.locator(f"section#{section.name} h2, #left-out #{section.name} dt").is_visible()
        assert opened.page.locator("svg.map [data-i]").first.is_visible()


def test_paper_gets_light_whole_pages(chromium: Chromium, pages: dict[str, Path]) -> None:
    with chromium.opened(pages["report"], PAPER, "dark") as opened:
        page = opened.page
        page.emulate_media(media="print")
        ground, ink = page.evaluate(
            "() => { const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]; }"
        )
        assert brightness(ground) > 0.9
        assert brightness(ink) < 0.2
        # The browser makes all of the page smaller until its widest table fits. More than this nobody can read.
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 1.5 * PAPER, opened.too_wide()
        cut = "all => all.filter(each => getComputedStyle(each).breakInside !== 'avoid').length"
        for kind in ("tr", "figure"):
            assert page.eval_on_selector_all(kind, cut) == 0, f"a page may end within a {kind}"
        lost = """() => Array.from(document.querySelectorAll('main *')).filter(each =>
          getComputedStyle(each).overflow !== 'visible' && each.localName !== 'svg' && each.checkVisibility()
          && (each.scrollHeight > each.clientHeight + 1 || each.scrollWidth > each.clientWidth + 1)
        ).map(each => each.outerHTML.slice(0, 100))"""
        assert page.evaluate(lost) == []  # paper does not scroll
        pdf = page.pdf(format="A4", margin=dict.fromkeys(("top", "bottom", "left", "right"), "1cm"))
        opened.resize(wide)  # the width that the page is laid out in before it is made smaller
        filled = page.evaluate("document.documentElement.scrollHeight") * PAPER / wide / PAPER_HEIGHT
        assert 0.8 * filled <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 1.3 * filled + 2


def brightness(colour: str) -> float:
    """The mean of a CSS colour's channels, 0 to 1."""
    return sum(float(channel) for channel in re.findall(r"[\d.]+", colour)[:3]) / 765
