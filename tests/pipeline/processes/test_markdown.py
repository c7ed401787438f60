"""Text from outside stays text in a Markdown table; another parser confirms it."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.processes import markdown
from pipeline.processes.markdown import table
from reprise.config.errors import printable

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1 \\`*_{}[]()#+!|~<>$:-&;/.\n\"'=x", max_size=30))
def test_a_cell_shows_what_it_was_given_and_nothing_else(text: str) -> None:
    page = PARSER.render(table(["head"], [[text]]))
    cell = re.search(r"<td>(.*?)</td>", page, re.DOTALL)
    assert cell is not None
    assert html.unescape(cell[1]) == " ".join(printable(text, 300).split())
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td)>)", page)


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "a | b", "`code`", "![i](http://x/y.png)", "<b"]
)
def test_nothing_from_outside_is_markup(text: str) -> None:
    shown = markdown.escape(text)
    assert "<" not in shown
    for mark in "|[]()`!":
        assert mark not in shown.replace(f"\\{mark}", "")


def test_a_cell_stays_on_its_line_and_is_bounded() -> None:
    assert "\n" not in markdown.escape("a\nb\r\n| c")
    assert len(markdown.escape("x" * 10_000)) < 400
    page = markdown.table(["a"], [["1\n| 2 |"]])
    assert page.count("\n") == 2
