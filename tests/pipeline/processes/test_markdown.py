"""What came from outside stays text in a table of Markdown, by the word of a parser that is not ours."""

from __future__ import annotations

import html
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

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
