"""params.yaml as hostile data: YAML only, typed, all problems at once with dotted paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from reprise.config.errors import ParameterError
from reprise.config.params import Problem, StrictModel, parameter_error, parse, problems_of, read_yaml, section
from reprise.config.tables import row, tables
from reprise.config.texts.text_forms import with_pattern
from tests.limits import at_most

ROOT = Path(__file__).parents[3]


class Inner(StrictModel):
    rate: Annotated[float, Field(gt=0)] = 0.1


class Outer(StrictModel):
    count: Annotated[int, Field(ge=1)]
    name: str = "x"
    inner: Inner = Inner()
    items: list[Inner] = []  # noqa: RUF012


GOOD = {"count": 3}


@pytest.mark.parametrize(
    ("raw", "path", "words"),
    [
        ({}, "block.count", "missing parameter"),
        ({"count": 0}, "block.count", "greater than or equal to 1"),
        ({"count": "3"}, "block.count", "integer"),
        ({"count": 3.0}, "block.count", "integer"),
        ({"count": True}, "block.count", "integer"),
        ({"count": 3, "nmae": "x"}, "block.nmae", "Did you mean 'name'?"),
        ({"count": 3, "zzz": 1}, "block.zzz", "Known here: count, inner, items, name"),
        ({"count": 3, "inner": {"rate": -1.0}}, "block.inner.rate", "greater than 0"),
        ({"count": 3, "inner": {"rate": float("nan")}}, "block.inner.rate", "finite"),
        ({"count": 3, "inner": {"rate": float("inf")}}, "block.inner.rate", "finite"),
        ({"count": 3, "inner": {"raet": 1.0}}, "block.inner.raet", "Did you mean 'rate'?"),
        ({"count": 3, "items": [{}, {"rate": "a"}]}, "block.items[1].rate", "number"),
        ("text", "block", "dictionary"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(raw: object, path: str, words: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse(Outer, raw, "block")
    line = next(line for line in caught.value.found.splitlines() if line.strip().startswith(f"{path}:"))
    assert words in line


def test_all_problems_come_at_once() -> None:
    problems = problems_of(Outer, {"count": 0, "name": 3, "inner": {"rate": 0.0}}, "b")
    assert sorted(p.path for p in problems) == ["b.count", "b.inner.rate", "b.name"]
    message = str(parameter_error(problems))
    assert message.startswith("3 wrong parameters")
    assert all(p.path in message for p in problems)


def test_values_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(Outer, GOOD, "b").count = 4  # type: ignore[misc]


def test_hostile_values_are_shown_as_text() -> None:
    message = str(parameter_error([Problem("a\x1b.b", "rule", "\x1b[2J$(touch x)")]))
    assert "\x1b" not in message
    assert "$(touch x)" in message


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{c}: &{c} [{','.join(['*' + p] * 9)}]" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!python/object/apply:os.system ['touch pwned']", "not plain YAML"),
        ("a: !custom 1", "not plain YAML"),
        ("a: 1\na: 2", "not plain YAML"),
        ("a: [1", "not plain YAML"),
        (b"a: \xff\xfe", "not plain YAML"),
        ("- 1\n- 2", "not a mapping"),
        ("", "not a mapping"),
        ("a: " + "x" * (1 << 20), "too large"),
        ("[" * 3000, "not plain YAML"),
    ],
)
def test_what_is_not_a_plain_mapping_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=words):
        read_yaml(write(tmp_path, text))
    assert not (tmp_path / "pwned").exists()


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"folder that holds params\.yaml"):
        read_yaml(tmp_path / "none.yaml")


MERGES = "m0: &m0 {x: 1}\n" + "\n".join(f"m{i}: &m{i}\n  <<: [{','.join([f'*m{i - 1}'] * 9)}]" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(BOMB, "stand for more than", id="laughs"),
        pytest.param(MERGES, "stand for more than", id="merges"),
        pytest.param(f"s: &s {'x' * 100_000}\na: [{','.join(['*s'] * 30_000)}]", "stand for more", id="long texts"),
        pytest.param("a: &a [*a]", "stands inside of what it stands for", id="a circle"),
        pytest.param("a: &a {b: {c: *a}}", "stands inside of what it stands for", id="a wider circle"),
        pytest.param(f"epochs: 0x{'F' * 5000}", "more than 300 digits", id="digits"),
        pytest.param("? [[1]]\n: 1", "unhashable", id="a list as a key"),
    ],
)
def test_bombs_are_refused_before_they_go_off(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with at_most(megabytes=200, seconds=5), pytest.raises(ParameterError, match=words):
        read_yaml(path)


def test_aliases_that_stand_for_little_are_read(tmp_path: Path) -> None:
    found = read_yaml(write(tmp_path, "a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}"))
    assert found == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}


def test_a_fifo_is_a_sentence_and_not_a_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(ParameterError, match="not a file"):
        read_yaml(tmp_path / "params.yaml")


@given(st.text(max_size=60))
def test_any_text_is_a_mapping_or_a_parameter_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = write(tmp_path_factory.mktemp("yaml"), text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(read_yaml(path), dict)
    except ParameterError as error:
        assert error.fix  # noqa: PT017


def test_sections_and_rows_are_found_or_named() -> None:
    assert section({"block": GOOD}, "block", Outer).count == 3
    with pytest.raises(ParameterError, match="missing section"):
        section({}, "block", Outer)
    rows = tables(read_yaml(ROOT / "params.yaml")).runs
    assert row(rows, "simclr", "runs").method == "simclr"
    with pytest.raises(ParameterError, match="Did you mean 'simclr'"):
        row(rows, "simcrl", "runs")


@pytest.mark.parametrize(
    "name", ["$(touch x)", "; rm -rf /", "a b", "../x", "A", "", "a\nb", "é", "x" * 49, "1a", "a\n"]
)
def test_names_that_reach_paths_and_commands_are_plain(name: str) -> None:
    raw = read_yaml(ROOT / "params.yaml")
    raw["runs"][0]["name"] = name
    with pytest.raises(ParameterError, match=r"runs\[0\]\.name"):
        tables(raw)


@pytest.mark.parametrize(
    ("table", "field", "value", "meant"),
    [
        ("runs", "method", "SimCLR", "simclr"),
        ("runs", "method", "Barlow-Twins", "barlow_twins"),
        ("mines", "miner", "K-means", "kmeans"),
        ("features", "extractor", "Pixels", "pixels"),
        ("runs", "name", "My run", "my_run"),
    ],
)
def test_a_name_with_other_characters_gets_a_suggestion(table: str, field: str, value: str, meant: str) -> None:
    raw = read_yaml(ROOT / "params.yaml")
    raw[table][0][field] = value
    with pytest.raises(ParameterError) as caught:
        tables(raw)
    line = f"{table}[0].{field}: a name consists of lower-case letters, digits and underscores, begins with a letter "
    assert caught.value.found.strip().startswith(line)
    assert caught.value.found.strip().endswith(f"Found: {value!r}. Did you mean '{meant}'?")


class Patterned(StrictModel):
    code: Annotated[str, Field(pattern=r"^x+$")] = "x"
    digest: Annotated[str, with_pattern("[0-9a-f]{4}", "a digest has four hexadecimal digits")] = "00ff"


def test_no_message_shows_a_regular_expression() -> None:
    rules = [problem.rule for problem in problems_of(Patterned, {"code": "y", "digest": "00FF\n"}, "")]
    assert rules == [
        "the text does not have the form that this parameter needs",
        "a digest has four hexadecimal digits",
    ]
