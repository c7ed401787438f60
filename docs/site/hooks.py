"""What MkDocs does not know of these documents: their order, and the files of the repository that they link to.

The documents are read on the hosts of repositories as well, where `../README.md` and `../stages/...` lead to the files.
In the site they lead to copies: a Markdown file is a page, any other file is shown as text.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

FRONT = ("index.md", "tutorial.md", "your-own-data.md")
BESIDE = {"README.md": "readme.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_CODE_WITH_BAR = re.compile(r"`([^`]*\\\|[^`]*)`")
_LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the pages the order in which docs/index.md names them, under its headings."""
    config.nav = navigation(Path(config.docs_dir))
    return config


def navigation(folder: Path) -> list[Any]:
    """Return the pages as MkDocs wants them: the first ones, then a section for each heading of index.md.

    Args:
        folder: docs/. A page that index.md links twice stands where it is first linked.
    """
    named = set(FRONT)
    sections: list[Any] = list(FRONT)
    for part in (folder / "index.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        pages: list[Any] = []
        for _, target, _ in _LINK.findall(part):
            if target.endswith(".md") and not target.startswith("../") and target not in named:
                named.add(target)
                pages.append(_with_subpages(folder, target))
        sections.append({part.splitlines()[0]: pages})
    sections.append({"The repository": list(BESIDE.values())})
    return sections


def _with_subpages(folder: Path, page: str) -> Any:
    """Return a page, or, where it is the index of a folder, the folder with its pages."""
    if not page.endswith("/index.md"):
        return page
    others = sorted(path.name for path in (folder / page).parent.glob("*.md") if path.name != "index.md")
    title = re.search(r"^# (.+)$", _read(folder / page), re.MULTILINE)
    assert title, f"{page} has no title"
    return {title[1]: [page, *(posixpath.join(posixpath.dirname(page), name) for name in others)]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages beside docs/, and each file outside of it that a page links to."""
    root = Path(config.docs_dir).parent
    for name, page in BESIDE.items():
        files.append(File.generated(config, page, content=_read(root / name)))
    linked = {target for page in files.documentation_pages() for target in _targets(page, root)}
    for target in sorted(linked):
        if (root / target).is_file():
            files.append(File.generated(config, f"source/{target}.txt", content=_read(root / target)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links that leave docs/ lead to the copies, and `a\\|b` in a table be the code a|b."""
    origin = _origin(page.file.src_uri)

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[2]))
        if target.startswith("docs/"):
            place = target.removeprefix("docs/")
        elif target in BESIDE:
            place = BESIDE[target]
        else:
            place = f"source/{target}.txt"
        relative = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"{match[1]}{relative}{match[3]}"

    return with_bars(_LINK.sub(replaced, markdown))


def with_bars(markdown: str) -> str:
    """Write bars in code in tables so that MkDocs reads them as the hosts of repositories do."""
    return "\n".join(
        _CODE_WITH_BAR.sub(_as_html, line) if line.startswith("|") else line for line in markdown.split("\n")
    )


def _as_html(match: re.Match[str]) -> str:
    return f"<code>{html.escape(match[1], quote=False)}</code>".replace("\\|", "&#124;")


def _origin(page: str) -> str:
    """Return the place in the repository of a page of the site."""
    return next((name for name, beside in BESIDE.items() if beside == page), f"docs/{page}")


def _targets(page: File, root: Path) -> list[str]:
    """List the files outside of docs/ that a page links to, as paths from the root."""
    origin = _origin(page.src_uri)
    folder = posixpath.dirname(origin)
    found = (posixpath.normpath(posixpath.join(folder, link[1])) for link in _LINK.findall(_read(root / origin)))
    return [target for target in found if not target.startswith(("docs/", "..")) and target not in BESIDE]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
