"""The fenced blocks of README.md, CONTRIBUTING.md and docs/, and what is said of each in the line above it.

A block is run by tests/docs, as its language says. A comment directly above its fence may say something else:

    <!-- save as plugins/methods/agree.py -->           the block is this file of the page's project
    <!-- with the preset volumes -->                    it belongs to params.yaml of a project with this preset
    <!-- run by tests/standards/test_croissant.py -->   another test or .ci/run runs it, and names the page
    <!-- message of stages/mine/__main__.py -->         the file prints it
    <!-- not run: REASON -->                            nobody can run it here: it needs machines, hours or accounts
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKS = ("save as", "with the preset", "run by", "message of", "not run:")
_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file, from the root of the repository.
        line: of its first line of text, from 1.
        language: behind the fence; "" for none.
        text: the block without its fences and their indentation.
        mark: what the comment above it says, or "".
    """

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def marked(self, mark: str) -> str:
        """Return what follows one of MARKS in the comment above the block, or ""."""
        return self.mark.removeprefix(mark).strip() if self.mark.startswith(mark) else ""

    def commands(self) -> list[tuple[str, list[str]]]:
        """Return each command of a console block, continued lines joined, with the lines that it prints."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            elif line.strip() not in ("", "...") and found:
                found[-1][1].append(line)
        return found


@cache
def blocks() -> tuple[Block, ...]:
    """All blocks, in the order of PAGES."""
    found = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(page):
            line = page.count("\n", 0, match.start("text")) + 1
            name = str(path.relative_to(ROOT))
            text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
            found.append(Block(name, line, match["language"], text, (match["mark"] or "").strip()))
    return tuple(found)
