"""Plans and values: what is tried, under which names, and that exactly that arrives in params.yaml."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sweeps.plans import base_index, canonical, load_plan, points_of, write_changes
from reprise.config.errors import ParameterError, SweepError
from reprise.config.params import read_yaml

_PARAMS = """\
seeds: [0]            # a comment
runs:
  - {name: simclr, method: simclr}
methods: {simclr: {temperature: 0.5}}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_plan_that_is_not_there_is_called_a_plan(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"no such plan.*nothing\.yaml.*reprise sweep --help"):
        load_plan(tmp_path / "nothing.yaml")


def test_a_grid_is_every_combination_and_the_last_key_varies_fastest(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path / "p.yaml", "name: g\ngrid: {a.b: [1, 2], c: [x, y]}\nseeds: [0, 1]\n"))
    points = points_of(plan)
    assert [p.changes for p in points] == [
        {"a.b": a, "c": c, "seeds": [0, 1]} for a in (1, 2) for c in ("x", "y")
    ]  # fmt: skip
    assert [p.title for p in points][:2] == ['a.b=1, c="x"', 'a.b=1, c="y"']


def test_names_say_what_changes_and_do_not_depend_on_the_place_in_the_plan(tmp_path: Path) -> None:
    first = load_plan(write(tmp_path / "a.yaml", "name: warm\npoints: [{}, {b: 1, a: 2}, {a: 1.0}, {a: 1}]\n"))
    other = load_plan(write(tmp_path / "b.yaml", "name: warm\npoints: [{a: 2, b: 1}]\n"))
    names = [p.name for p in points_of(first)]
    assert names[1] == points_of(other)[0].name
    assert len(set(names)) == 4  # 1 and 1.0 are two values
    assert all(name.startswith("warm-") for name in names)
    assert points_of(first, source="digest of another source")[0].name != names[0]


def test_a_title_says_what_sets_a_point_apart(tmp_path: Path) -> None:
    blocks = "[{a: {temperature: 0.1}, b: {temperature: 0.1}}, {a: {temperature: 0.5}, b: {temperature: 0.5}}]"
    shared = f"name: g\ngrid: {{runs: [[{{name: a}}, {{name: b}}]], methods: {blocks}, train.epochs: [3]}}\n"
    assert [p.title for p in points_of(load_plan(write(tmp_path / "a.yaml", shared)))] == [
        "methods.*.temperature=0.1",
        "methods.*.temperature=0.5",
    ]
    alone = f"name: g\npoints: [{{a: 1, words: [{', '.join(['word'] * 100)}], seeds: [0]}}]\n"
    assert [p.title for p in points_of(load_plan(write(tmp_path / "b.yaml", alone)))] == ["changes of a, words"]
    either = "name: g\npoints: [{}, {a.b: 1}, {a: {b: 2}, c: 3}]\n"
    assert [p.title for p in points_of(load_plan(write(tmp_path / "c.yaml", either)))] == [
        "unchanged",
        "a.b=1",
        "a.b=2, c=3",
    ]
    same = "name: g\npoints: [{a.b: 1}, {a: {b: 1}}]\n"  # two ways to write one thing
    assert [p.title for p in points_of(load_plan(write(tmp_path / "d.yaml", same)))] == [
        "changes of a.b",
        "changes of a",
    ]


def test_the_base_is_the_first_point_or_the_one_named(tmp_path: Path) -> None:
    text = "name: g\ngrid: {a: [1, 2, 3]}\n"
    assert base_index(load_plan(write(tmp_path / "a.yaml", text))) == 0
    assert base_index(load_plan(write(tmp_path / "b.yaml", text + "base: {a: 3}\n"))) == 2


BOMB = """
name: g
points:
  - a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]
    c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]
    d: [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: g\n", "give either `grid` or `points`"),
        ("name: g\ngrid: {a: [1]}\npoints: [{}]\n", "give either `grid` or `points`"),
        ("name: g\ngrid: {a: []}\n", "at least 1 item"),
        ("name: g\npoints: []\n", "at least 1 item"),
        ("name: ../x\npoints: [{}]\n", "a name consists of lower-case letters"),
        ("name: g\npoints: [{}]\nsedes: [0]\n", "Did you mean 'seeds'?"),
        ("name: g\npoints: [{}]\nseeds: [0, 0]\n", "a seed is listed twice"),
        ("name: g\npoints: [{}]\nseeds: [true]\n", "seeds[0]"),
        ("name: g\npoints: [{}]\nparallel: 0\n", "greater than or equal to 1"),
        ("name: g\npoints: [{a: 1}, {a: 1}]\n", "two points are the same"),
        ("name: g\ngrid: {a: [1, 1]}\n", "two points are the same"),
        ("name: g\npoints: [{a: .nan}]\n", "nan is not a valid value"),
        ("name: g\npoints: [{a: 2020-01-01}]\n", "not date"),
        ("name: g\npoints: [{a: {1: 2}}]\n", "a key must be text"),
        ("name: g\npoints: [{'a=1 --force': 1}]\n", "is not a key of params.yaml"),
        ("name: g\npoints: [{a.: 1}]\n", "is not a key of params.yaml"),
        ("name: g\npoints: [{a: 1, a.b: 2}]\n", "sets both a and a.b"),
        ("name: g\npoints: [{seeds: [0]}]\nseeds: [1]\n", "the seeds are given twice"),
        ("name: g\ngrid: {a: [1]}\nbase: {a: 2}\n", "`base` is not one of the points"),
        (f"name: g\ngrid: {{a: {list(range(30))}, b: {list(range(30))}}}\n", "more than 500 points"),
        ("name: g\nmetric: top1\npoints: [{}]\n", "metric"),
        (BOMB, "more than 10000 values"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_plan_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SweepError) as refused:
        load_plan(write(tmp_path / "plan.yaml", text))
    assert said in str(refused.value)
    assert "plan.yaml" in str(refused.value)


@pytest.mark.parametrize(
    "text", ["name: !!python/object/apply:os.system ['true']\n", "name: g\npoints: [{a: &x [1, *x]}]\n"]
)
def test_a_plan_that_is_no_plain_yaml(tmp_path: Path, text: str) -> None:
    with pytest.raises(ParameterError, match="not plain YAML"):
        load_plan(write(tmp_path / "p.yaml", text))


HOSTILE = [
    "a,b", "a, b", "[1, 2]", "{a: 1}", "${seeds}", "${oc.env:HOME}", "$(id)", "`id`", "'", '"', "\\", "a=b", "a#b",
    "x: y", "", " ", "~", "null", "yes", "no", "on", "1", "1e3", "0x10", "1_000", "2020-01-01", "!!python/none", "*a",
    "&a", "-", "?", "choice(1,2)", "range(1,5)", "\n", "\t", "a\nb\n", "\x07", "é", "\u2028", "\ufeff", "😀", "-S",
    "--help", "%", "@file", "\x00", "\ud800", 1e-5, 1e300, -0.0, 0.1 + 0.2, 10**30, True, None, [], {}, [[]],
    {"a": {"b": [1, "x", None]}}, ["a", 1, 1.0, True], ":0", "?0", {":0": None}, ["?0", {":": "?"}],
    {"0\x85": None}, "0\x85", {"a\u2028": "b\x85"},
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_a_value_arrives_as_it_is(tmp_path: Path, value: Any) -> None:
    assert_arrives(write(tmp_path / "params.yaml", _PARAMS), value)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(value=values)
def test_any_value_arrives(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    assert_arrives(write(tmp_path_factory.mktemp("v") / "params.yaml", _PARAMS), value)


def assert_arrives(path: Path, value: Any) -> None:
    before = read_yaml(path)
    write_changes(path, {"methods.simclr.note": value, "runs[0].method": "other"})
    after = read_yaml(path)
    written = after["methods"]["simclr"].pop("note")
    assert canonical(written) == canonical(value)
    assert after["runs"][0].pop("method") == "other"
    before["runs"][0].pop("method")
    assert after == before
    assert "# a comment" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "key", ["no.such", "methods.simclr.temperature.x", "runs[1].method", "runs.method", "seeds[9]"]
)
def test_a_key_that_leads_nowhere(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "params.yaml", _PARAMS)
    with pytest.raises(SweepError, match="no such place"):
        write_changes(path, {key: 1})
    assert path.read_text() == _PARAMS


def test_canonical_tells_numbers_apart() -> None:
    assert len({canonical(value) for value in (1, 1.0, True, "1")}) == 4
    assert math.isclose(json.loads(canonical(0.1)), 0.1)
