"""Every error class reads as what, where, found, what to do; and survives process pools and hostile text."""

from __future__ import annotations

import inspect
import pickle

import pytest

from stages.contracts import errors
from stages.contracts.errors import RepriseError, printable

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RepriseError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_where_found_and_what_to_do(kind: type[RepriseError]) -> None:
    error = kind("a thing is wrong", where="some/file", found="that", fix="Do this.")
    assert str(error) == "a thing is wrong (some/file). Found: that. Do this."
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_processes_whole(kind: type[RepriseError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("w", where="x", found="y", fix="z")))
    assert type(copy) is kind
    assert (copy.what, copy.where, copy.found, copy.fix) == ("w", "x", "y", "z")


def test_control_characters_and_surrogates_are_shown_as_text() -> None:
    assert printable("a\x1b[31mred\x07\udcff\u202e") == "a\\x1b[31mred\\x07\\udcff\\u202e"
    assert printable("line\nline") == "line\nline"
    assert printable("\N{GRINNING FACE} ä") == "\N{GRINNING FACE} ä"


def test_long_text_is_cut() -> None:
    assert printable("x" * 30, limit=10) == "x" * 10 + "... (20 more characters)"
