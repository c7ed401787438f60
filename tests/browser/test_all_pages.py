"""Every page that the product writes, in a browser: silent, without requests, accessible, and as wide as the window."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chromium import COLOURS, RULES, Chromium

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
WIDTHS = (1600, 1280, 390)
# A page's words can break the layout at any width, but the rules see the same elements: the ordinary report is
# checked against all of them at each width, the others, whose elements are fewer or the same, on a telephone.
CHECKED = {
    "report": WIDTHS,
    "hostile report": WIDTHS[-1:],
    "report without labels": WIDTHS[-1:],
    "validation": WIDTHS,
    "views": WIDTHS,
    "search": WIDTHS,
    "comparison": WIDTHS,
    "history": WIDTHS,
}


@pytest.mark.parametrize("name", CHECKED)
def test_a_page_is_silent_complete_and_accessible(chromium: Chromium, pages: dict[str, Path], name: str) -> None:
    address = pages[name].as_uri()
    with chromium.opened(address) as opened:
        faults = []
        for width in WIDTHS:
            opened.resize(width)
            if (wide := opened.page.evaluate("document.documentElement.scrollWidth")) > width:
                faults.append(f"at {width} pixels the page is {wide} wide: {', '.join(opened.too_wide())}")
            if width not in CHECKED[name]:
                continue
            for theme, rules in (("light", RULES), ("light", COLOURS), ("dark", COLOURS)):
                opened.page.emulate_media(color_scheme=theme)
                faults += [f"at {width} pixels, {theme}: {line}" for line in opened.violations(rules)]
        assert not faults, "\n".join(faults)
        assert opened.said == []
        beside = [address.replace("index.html", "provenance.js")] if "report" in name else []
        assert opened.asked == [address, *beside]
