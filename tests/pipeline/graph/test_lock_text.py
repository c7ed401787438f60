"""dvc.lock is written entry by entry, and has the bytes that DVC would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml, modify_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml.error import YAMLError

from pipeline.graph import lock_text
from pipeline.graph.lock_text import LockText, parsed

OWN = (Path(__file__).parents[3] / "dvc.lock").read_text(encoding="utf-8")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=120)
FLOATS = [0.0, 0.1, -2.5, 1e-05, 3e20, 0.30000000000000004, float("inf")]
PLAIN = st.none() | st.booleans() | st.integers() | st.sampled_from(FLOATS) | TEXT
VALUES = st.recursive(PLAIN, lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3))
ENTRIES = st.dictionaries(st.sampled_from(["a", "b@run0-0", "c", "12", "y: &z", "- d"]), VALUES, max_size=4)


def changed_by_dvc(text: str, entries: dict[str, Any], folder: Path) -> str:
    """What DVC makes of a file when stages end with these entries, one after the other."""
    path = folder / "plain.lock"
    path.unlink(missing_ok=True)
    if text:
        path.write_text(text, encoding="utf-8")
    for name, entry in entries.items():
        with modify_yaml(str(path)) as content:
            content.setdefault("schema", "2.0")
            content["stages"] = content.get("stages", {})
            content["stages"].update({name: entry})
    return path.read_text(encoding="utf-8") if path.exists() else ""


def changed_here(text: str, entries: dict[str, Any]) -> str:
    for name, entry in entries.items():
        lock = LockText(text)
        lock.content.setdefault("schema", "2.0")
        lock.content["stages"] = lock.content.get("stages", {})
        lock.content["stages"].update({name: entry})
        text = lock.changed()
    return text


@settings(max_examples=60, deadline=None)
@given(first=ENTRIES, then=ENTRIES)
@example(first={"a": {"cmd": "x " * 80, "n": 1e-05}}, then={"c": {"deps": [{"size": 1}, {"size": 1.0}]}})
@example(first={"a": [[]]}, then={"a": [{}]})
def test_the_bytes_are_those_of_dvc(
    first: dict[str, Any], then: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lock")
    text = changed_by_dvc("", first, folder)
    assert changed_here(text, then) == changed_by_dvc(text, then, folder)


def test_a_number_of_an_entry_that_did_not_change_keeps_its_digits(tmp_path: Path) -> None:
    """DVC writes the last digit of some numbers anew, and wrong, whenever another entry changes."""
    text = changed_by_dvc("", {"a": {"rate": 1.0813184267911373e-41}}, tmp_path)
    assert changed_here(text, {"b": {"cmd": "x"}}).startswith(text)
    assert not changed_by_dvc(text, {"b": {"cmd": "x"}}, tmp_path).startswith(text)


def test_an_entry_of_the_real_graph_is_written_without_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = parsed(OWN)["stages"]
    name, entry = next((name, entry) for name, entry in entries.items() if name.startswith("pretrain"))
    entry["outs"][0]["md5"] = "0" * 32
    expected = changed_by_dvc(OWN, {name: entry, "new": entry}, tmp_path)
    monkeypatch.setattr(lock_text, "_rewritten", None)
    assert changed_here(OWN, {name: entry, "new": entry}) == expected != OWN


@pytest.mark.parametrize(
    "text",
    [
        "schema: '2.0'\nstages:\n  a: {cmd: x}   # why\n  # of b\n  b:\n    cmd: y\n",
        "# a head\nschema: '2.0'\nstages:\n  b:\n    cmd: y\n  a:\n    cmd: x\n",
        "schema: '2.0'\nstages:\n    a:\n        cmd: x\n    b: {cmd: y}\n",
        "stages:\n  a:\n    cmd: x\nschema: '2.0'\n",
        "schema: '2.0'\nstages:\n  b:\n    deps: &id001\n    - path: p\n    outs: *id001\n",
        "schema: '2.0'\nstages:\n  b: &id001\n    cmd: x\n  c: *id001\n",
        "schema: '2.0'\nstages:\n  a:\n    deps: &id001\n    - path: p\n  b:\n    deps: *id001\n",
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\ndatasets:\n- name: d\nstages:\n  b:\n    cmd: y",
        "schema: '2.0'\nstages:\n  b:\n    cmd: |-\n      one\n\n      two\n",
    ],
)
def test_a_file_of_another_layout_loses_nothing(text: str, tmp_path: Path) -> None:
    entries = {"a": {"cmd": "other"}, "d": {"cmd": "new"}}
    found = changed_here(text, entries)
    expected = changed_by_dvc(text, entries, tmp_path)
    assert parsed(found) == load_yaml(tmp_path / "plain.lock")
    assert found == expected


def test_what_is_no_lock_file_is_refused() -> None:
    with pytest.raises(YAMLError):
        LockText("stages: [")
