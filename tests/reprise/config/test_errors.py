"""Every error class reads as what, where, found, what to do; and survives process pools and hostile text."""

from __future__ import annotations

import ast
import inspect
import pickle
from functools import cache
from pathlib import Path

import pytest

from reprise.config import errors
from reprise.config.errors import RepriseError, listed, printable
from tests.limits import at_most

ROOT = Path(__file__).resolve().parents[3]
CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, RepriseError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_what_where_found_and_what_to_do(kind: type[RepriseError]) -> None:
    error = kind("a thing is wrong", where="some/file", found="that", fix="Do this.")
    assert str(error) == "a thing is wrong (some/file). Found: that. Do this."
    assert kind.__doc__


@pytest.mark.parametrize("kind", CLASSES)
def test_several_findings_stand_on_a_line_each(kind: type[RepriseError]) -> None:
    error = kind("2 things are wrong", where="some/file", found=listed(["this", "\x1bthat"]), fix="Correct them.")
    assert str(error) == "2 things are wrong in some/file:\n  this\n  \\x1bthat\nCorrect them."


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_crosses_processes_whole(kind: type[RepriseError]) -> None:
    copy = pickle.loads(pickle.dumps(kind("w", where="x", found="y", fix="z")))
    assert type(copy) is kind
    assert (copy.what, copy.where, copy.found, copy.fix) == ("w", "x", "y", "z")


@cache
def raised() -> list[tuple[str, str, ast.Call]]:
    """(where in the source, class, call) of every error that the product builds."""
    names = {kind.__name__ for kind in CLASSES}
    found = []
    for folder in ("pipeline", "reprise", "stages"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
                if name in names and isinstance(node, ast.Call):
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", name, node))
    return found


def wording(node: ast.expr) -> str:
    """The text of a string or f-string, `{}` for what is filled in; `{}` for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return "{}"


def test_every_message_of_the_product_says_all_four() -> None:
    """what: a clause without a full stop (of a refused image: its reason); where, found; fix: a sentence to follow."""
    wrong = []
    for place, name, call in raised():
        said = {keyword.arg: wording(keyword.value) for keyword in call.keywords}
        what = wording(call.args[0]) if call.args else ""
        if not {"where", "found", "fix"} <= set(said) or not what:
            wrong.append(f"{place}: {name} with {sorted(map(str, said))}")
            continue
        if what.endswith((".", "!", ":")):
            wrong.append(f"{place}: what: {what}")
        if not all(text.strip() for text in said.values()):
            wrong.append(f"{place}: an empty part")
        if said["fix"] != "{}" and not (said["fix"][0] in "{`" or said["fix"][0].isupper()):
            wrong.append(f"{place}: fix begins: {said['fix']}")
        if not said["fix"].endswith((".", "}", ")")):
            wrong.append(f"{place}: fix ends: {said['fix']}")
    assert wrong == []


def test_no_error_class_is_left_over() -> None:
    used = {name for _, name, _ in raised()}
    assert {kind.__name__ for kind in CLASSES} == used | {"RepriseError"}


def test_control_characters_and_surrogates_are_shown_as_text() -> None:
    assert printable("a\x1b[31mred\x07\udcff\u202e") == "a\\x1b[31mred\\x07\\udcff\\u202e"
    assert printable("line\nline") == "line\nline"
    assert printable("\N{GRINNING FACE} ä") == "\N{GRINNING FACE} ä"


def test_long_text_is_cut() -> None:
    assert printable("x" * 30, limit=10) == "x" * 10 + "... (20 more characters)"


def test_a_text_of_megabytes_costs_no_more_than_its_beginning() -> None:
    """Whatever is put into a message: a name, a value, an exception's text."""
    with at_most(megabytes=200, seconds=2):
        found = "a:" * 5_000_000 + "\x1b" * 10_000_000
        error = RepriseError("wrong", where="x" * 10_000_000, found=found, fix="Do this.")
        said = str(error)
    assert len(said) < 5000
    assert "(9998000 more characters)" in said
