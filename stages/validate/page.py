"""The page of all verdicts, data/validation_docs/index.html: one file, the same bytes for the same data, no network.

Great Expectations can write such pages itself, but these fetch their style and scripts from other hosts, so that they
are blank without a network, and they hold the time. Texts from the data are escaped; the page has no script.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.artifacts.verdicts import observed_in_words
from reprise.config.errors import printable

PAGE = "index.html"
_TITLES = {"images": "Images", "classes": "Classes", "totals": "The data set as a whole"}
_LONGEST = 300  # characters of any text from the data


@dataclass(frozen=True)
class Row:
    """One expectation as the page shows it.

    Args:
        says: the expectation in words.
        rule: its name in Great Expectations, with the column that it is about.
        result: "holds", or the level of what fails: "error" or "warning".
        observed: the observed value with its limits.
        examples: keys, or names of files, that do not meet it.
    """

    says: str
    rule: str
    result: str
    observed: str
    examples: tuple[str, ...]


def render_page(verdicts: list[dict[str, Any]]) -> bytes:
    """Render the page in UTF-8.

    Args:
        verdicts: from `stages.validate.check.check`.
    """
    import jinja2
    from markupsafe import Markup

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (folder / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    results = [row.result for row in map(_row, verdicts)]
    page = environment.get_template("page.html.jinja").render(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        style=Markup(style),  # noqa: S704 - our own file
        title=_title(results),
        counted=f"{results.count('holds')} of {len(results)} expectations hold.",
        tables=[
            (title, rows)
            for table, title in _TITLES.items()
            if (rows := [_row(verdict) for verdict in verdicts if verdict["table"] == table])
        ],
    )
    return page.encode("utf-8", "backslashreplace")


def _title(results: list[str]) -> str:
    if "error" in results:
        return "The data do not pass"
    return "The data pass with warnings" if "warning" in results else "The data pass"


def _row(verdict: dict[str, Any]) -> Row:
    column = f"({verdict['column']})" if verdict["column"] else ""
    return Row(
        says=verdict["says"],
        rule=verdict["expectation"] + column,
        result="holds" if verdict["success"] else verdict["severity"],
        observed=_line(observed_in_words(verdict["observed"], verdict["threshold"])),
        examples=tuple(map(_line, verdict["examples"])),
    )


def _line(text: str) -> str:
    """Write a text from the data on one line, with invisible characters as escapes."""
    return printable(text, _LONGEST).replace("\n", "\\n")
