"""Chromium without a window, driven by Playwright: opens a page and keeps what the page said and asked for.

Playwright's own browsers are downloads that many machines cannot make, so the Chromium of the system is used
(`apt-get install chromium`).
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Playwright

PATH = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
# Groups of axe's rules, and the one rule among them whose answer a dark theme can change.
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOURS = ("color-contrast",)
HEIGHT = 900
PATIENCE_SECONDS = 120  # for anything that a page does, on a machine with other work
# As if its owner had pointed this name to this machine after the browser had loaded a page from there. No other name
# leads anywhere.
FOREIGN_NAME = "evil.example"
_NAMES = f"--host-resolver-rules=MAP {FOREIGN_NAME} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


def missing() -> str:
    """Say why no browser can be driven here; empty where one can."""
    if importlib.util.find_spec("playwright") is None or importlib.util.find_spec("axe_playwright_python") is None:
        return "Playwright or axe is not installed: make setup"
    return "" if PATH else "there is no Chromium on this machine: apt-get install chromium"


# An element counts by the text in it, as a long word reaches beyond the box of its paragraph.
_TOO_WIDE = """() => Array.from(document.body.querySelectorAll("*")).filter(element => {
  for (let above = element; above; above = above.parentElement)
    if (above !== document.body && getComputedStyle(above).overflowX !== "visible") return false;
  const range = document.createRange();
  range.selectNodeContents(element);
  return range.getBoundingClientRect().right > innerWidth + 1 && !element.querySelector(":scope > :not(bdi):not(code)");
}).map(element => `${element.localName}.${element.className.baseVal ?? element.className}`).slice(0, 9)"""


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        page: Playwright's page.
        said: messages on the console, and errors that no script caught.
        asked: addresses that the page asked for, itself included, without data: URIs.
    """

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def resize(self, width: int) -> None:
        """Make the window as wide as this, in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": HEIGHT})

    def violations(self, rules: Sequence[str] = RULES) -> list[str]:
        """Run axe; each violation of the rules as one line.

        Args:
            rules: RULES, which leave colours to COLOURS, or COLOURS.
        """
        if not self.page.evaluate("() => 'axe' in window"):
            script = importlib.resources.files("axe_playwright_python") / "axe.min.js"
            self.page.evaluate(script.read_text(encoding="utf-8"))
        options = {"runOnly": list(rules), "resultTypes": ["violations"]}
        # Drawings have thousands of marks, and axe cannot tell the ground of a text in one.
        within = {"exclude": [["svg"]]} if rules == COLOURS else None
        options["rules"] = {} if rules == COLOURS else {rule: {"enabled": False} for rule in COLOURS}
        found = self.page.evaluate("([within, options]) => axe.run(within || document, options)", [within, options])
        return [
            f"{violation['id']}: {' '.join(map(str, node['target']))}: {' '.join(node['failureSummary'].split())}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]

    def too_wide(self) -> list[str]:
        """The innermost elements, of any that the window does not hold, whose words or pictures lie beyond its edge."""
        return list(self.page.evaluate(_TOO_WIDE))


class Chromium:
    """One browser for many pages. Starting it takes a second, opening a page in it some milliseconds."""

    def __init__(self, playwright: Playwright) -> None:
        self._browser: Browser = playwright.chromium.launch(
            executable_path=PATH, chromium_sandbox=False, args=[_NAMES, "--disable-gpu"]
        )

    @contextmanager
    def opened(self, address: str | Path, width: int = 1280, theme: str = "light", **options: Any) -> Iterator[Opened]:
        """Open an address in a window of its own.

        Args:
            address: a URL, or the path of a file.
            width: of the window in CSS pixels.
            theme: "light" or "dark", as the reader's system is set.
            options: of Playwright's `new_context`.
        """
        context = self._browser.new_context(
            viewport={"width": width, "height": HEIGHT}, color_scheme=theme, reduced_motion="reduce", **options
        )
        context.set_default_timeout(PATIENCE_SECONDS * 1000)
        try:
            opened = Opened(context.new_page())
            opened.page.on("console", lambda message: opened.said.append(f"{message.type}: {message.text}"))
            opened.page.on("pageerror", lambda error: opened.said.append(f"uncaught: {error}"))
            opened.page.on("request", lambda request: opened.asked.append(request.url))
            opened.page.goto(address.absolute().as_uri() if isinstance(address, Path) else address)
            yield opened
        finally:
            context.close()

    def close(self) -> None:
        """End the browser."""
        self._browser.close()
