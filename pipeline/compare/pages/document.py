"""The frame of a page, its tables, and how text from outside is shown in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from reprise.config.errors import printable

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
LONGEST = 300  # characters of a text from outside


def text(words: object, limit: int = LONGEST) -> str:
    """Return text from outside on one line, with what is invisible shown; it still has to be escaped."""
    return " ".join(printable(words, limit).split())


def name(words: object, limit: int = LONGEST) -> Markup:
    """Mark up a name from outside, so that its direction of writing does not reach beyond it."""
    return Markup("<bdi>{}</bdi>").format(text(words, limit))


def join(parts: Iterable[Markup | str]) -> Markup:
    """Join pieces of a page; plain texts are escaped."""
    return Markup("").join(parts)


def document(title: str, lead: Markup, sections: Sequence[Markup]) -> str:
    """Return a whole page, which holds everything that it shows and may load nothing.

    Args:
        title: its heading, as plain text.
        lead: what stands below the heading.
        sections: the parts, from `section`.
    """
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'"
    page = Markup(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="{}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<title>{} - Reprise</title>\n<style>{}</style>\n</head>\n'
        '<body>\n<main>\n<header>\n<p class="eyebrow">Reprise</p>\n<h1>{}</h1>\n{}\n</header>\n{}\n'
        "<footer><p>This page holds everything that it shows and makes no network requests.</p></footer>\n"
        "</main>\n</body>\n</html>\n"
    )
    shown = text(title, 120)
    return str(page.format(policy, shown, Markup(STYLE), name(shown), lead, join(sections)))  # noqa: S704 - ours


def section(title: Markup | str, *parts: Markup) -> Markup:
    """Return a part of a page with its heading."""
    return Markup("<section>\n<h2>{}</h2>\n{}\n</section>").format(title, join(parts))


def table(
    columns: Sequence[str], rows: Iterable[Markup], label: str, caption: str = "", *, stacked: bool = False
) -> Markup:
    """Return a table that scrolls within the page.

    Args:
        columns: names of the columns.
        rows: from `row`.
        label: a name for screen readers.
        caption: what stands above the table.
        stacked: whether its cells stand below each other on a telephone.
    """
    heads = join(Markup('<th scope="col">{}</th>').format(name(column, 40)) for column in columns)
    above = Markup("<caption>{}</caption>").format(text(caption)) if caption else Markup("")
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table{}>{}<thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(text(label, 100), Markup(' class="stacked"') if stacked else "", above, heads, join(rows))


def row(cells: Iterable[Markup], classes: str = "") -> Markup:
    """Return a row of cells."""
    return Markup("<tr{}>{}</tr>").format(Markup(' class="{}"').format(classes) if classes else "", join(cells))


def head(words: object) -> Markup:
    """Return the cell that names a row."""
    return Markup('<th scope="row" class="break">{}</th>').format(name(words))


def cell(content: Markup | str, classes: str = "", column: str = "") -> Markup:
    """Return a cell; `column` is its name where cells stand below each other."""
    named = Markup(' data-name="{}"').format(text(column, 40)) if column else ""
    return Markup('<td class="{}"{}>{}</td>').format(classes, named, content)
