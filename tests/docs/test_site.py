"""The documents as a site: every page and link is there, and MkDocs reads the pages as the hosts of repositories do."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from markdown import markdown
from markdown_it import MarkdownIt

from tests.chromium import Chromium

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
TAGS = {"a", "h1", "h2", "h3", "h4", "img", "li", "ol", "p", "pre", "table", "tr", "ul"}
LISTS = {"ol", "ul"}
EXTENSIONS = ["tables", "sane_lists", "admonition", "pymdownx.superfences", "pymdownx.highlight"]


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a repository."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", root / "mkdocs.yml", "--site-dir", site],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this repository; a warning of MkDocs is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """docs/site/hooks.py, as MkDocs loads it."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/site/hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_and_every_linked_file_is_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert all((site / page).is_file() for page in pages)
    copied = site / "source/tests/stages/embed/test_shifts.py.txt"
    assert copied.read_bytes() == (ROOT / "tests/stages/embed/test_shifts.py").read_bytes()
    readme = (site / "readme.html").read_text(encoding="utf-8")
    assert 'src="images/report.png"' in readme and 'href="how-to/own-images.html"' in readme
    assert not list(site.rglob("*.py"))


def test_what_a_page_loads_lies_in_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"?([^\s\">]+)", text)
        assert [address for address in loaded if re.match(r"(?:\w+:)?//", address)] == [], page


def test_a_broken_link_an_unknown_anchor_and_a_page_without_a_link_are_refused(tmp_path: Path) -> None:
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes() if name == "mkdocs.yml" else b"# A page\n")
    shutil.copytree(ROOT / "docs/site", tmp_path / "docs/site")
    for name in ("index", "tutorial", "your-own-data", "lonely"):
        (tmp_path / f"docs/{name}.md").write_text(f"# {name}\n", encoding="utf-8")
    (tmp_path / "docs/index.md").write_text(
        "# Index\n\n## How to\n\n[a](how-to/none.md) [b](tutorial.md#none) [c](../stages/none.py)\n",
        encoding="utf-8",
    )
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for found in ("how-to/none.md", "tutorial.md#none", "source/stages/none.py.txt", "lonely.md"):
        assert re.search(rf"WARNING.*{re.escape(found)}|- {re.escape(found)}", done.stderr), done.stderr


class Structure(HTMLParser):
    """The text of a page without spaces, and how many elements of each kind it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.texts: list[str] = []
        self.lists = 0
        self.feed(page)
        self.text = "".join("".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        """Count an element; paragraphs only outside of lists, as they hold any or none in each item."""
        self.lists += tag in LISTS
        self.tags[tag] += tag in TAGS and not (tag == "p" and self.lists)

    def handle_endtag(self, tag: str) -> None:
        """Leave a list."""
        self.lists -= tag in LISTS

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.texts.append(data)


def test_mkdocs_reads_the_pages_as_the_hosts_of_repositories_do(hooks: ModuleType) -> None:
    """Two dialects of Markdown: lists below a line of text, lists in lists and code in tables may differ."""
    common = MarkdownIt("commonmark").enable("table")
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        ours = Structure(markdown(hooks.with_bars(text), extensions=EXTENSIONS))
        theirs = Structure(common.render(text))
        assert ours.tags == theirs.tags, path
        assert ours.text == theirs.text, path


@pytest.mark.browser
def test_search_and_pages_work_from_the_disk_and_ask_nobody(site: Path, chromium: Chromium) -> None:
    with chromium.opened(site / "index.html") as opened:
        opened.page.locator(".md-search__input").press_sequentially("quarantine")
        opened.page.wait_for_selector(".md-search-result__link[href*='data-rules']", state="attached")
        assert opened.said == []
        assert [address for address in opened.asked if not address.startswith(("file:", "blob:"))] == []


@pytest.mark.browser
@pytest.mark.parametrize("page", ["index", "reference/methods", "how-to/scheduling", "readme"])
def test_a_page_fits_a_phone(site: Path, chromium: Chromium, page: str) -> None:
    with chromium.opened(site / f"{page}.html", width=390) as opened:
        assert opened.too_wide() == [] and opened.said == []
