"""Names made safe, numbers made readable."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from reprise.config.errors import ParameterError
from reprise.config.params import section
from stages.report.params import SECTION, ReportParams
from stages.report.text import (
    NAME_LENGTH,
    abbreviate,
    embed_json,
    finalize,
    join_words,
    metric_title,
    number,
    one_line,
    points,
    quantity,
    share,
)


@given(st.text(st.characters(), max_size=400), st.integers(1, 80))
def test_shown_is_one_bounded_visible_line(text: str, limit: int) -> None:
    found = one_line(text, limit)
    assert found.isprintable()
    assert len(found) <= 2 * limit + 30
    assert one_line(found, 10**6) == found
    found.encode("utf-8")


def test_shown_keeps_ordinary_names() -> None:
    for name in ("golden retriever", "n02086240", "Straße", "日本", "שלום", "a\\b"):
        assert one_line(name) == name
    assert one_line("x" * (NAME_LENGTH + 1)) == "x" * NAME_LENGTH + "… (61 characters)"


@given(st.text(st.characters(), max_size=100), st.integers(4, 30))
def test_abbreviated_fits_and_keeps_both_ends(text: str, limit: int) -> None:
    found, whole = abbreviate(text, limit), one_line(text, 2000)
    assert len(found) == min(len(whole), limit)
    assert found[0:1] == whole[0:1]
    assert found[-1:] == whole[-1:]


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedded_json_is_the_value_and_never_ends_a_script(value: object) -> None:
    text = embed_json(value)
    assert json.loads(text) == value
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_finalized_leaves_markup_and_numbers() -> None:
    assert finalize(Markup("<b>")) == Markup("<b>")
    assert finalize(3) == 3
    assert finalize("a\u202eb") == "a\\u202eb"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.9668, "0.967"), (1.0, "1.000"), (0.0, "0.000"), (1437, "1,437"), (12.345, "12.35"), (48.2, "48.2"),
        (1234.5, "1,234"), (None, "–"), (float("nan"), "–"), (0.0001, "1.000e-04"), (60.0, "60"), (-0.5, "-0.500"),
    ],
)  # fmt: skip
def test_number(value: float | None, words: str) -> None:
    assert number(value) == words


def test_small_words() -> None:
    assert share(1, 8) == "12.5 %"
    assert share(1, 0) == "–"
    assert quantity(86220) == "86,220"
    assert quantity(1_310_720) == "1.31 M"
    assert quantity(None) == "–"
    assert points(0.1534) == "+15.3"
    assert points(-0.01) == "−1.0"
    assert metric_title("knn.top1") == "kNN top-1 accuracy"
    assert metric_title("spectrum.some_figure") == "Spectrum some figure"
    assert metric_title("targets.r2") == "targets R²"
    assert join_words([]) == "none"
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words([*"abcdef"], 3) == "a, b and 4 more"


@pytest.mark.parametrize("value", [0, 501, "48", 1.5, None, True])
def test_samples_are_a_whole_number_from_1_to_500(value: object) -> None:
    with pytest.raises(ParameterError, match=r"report\.samples"):
        section({SECTION: {"samples": value}}, SECTION, ReportParams)
    assert section({SECTION: {"samples": 500}}, SECTION, ReportParams).samples == 500
