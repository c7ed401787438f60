"""The places where something new plugs in, as docs/reference/seams.md lists them; and what a deleted plug-in breaks."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.definition import load_graph
from reprise.config.params import read_yaml
from reprise.config.plug_ins import registry
from reprise.config.plug_ins.docstrings import facts_of
from reprise.config.plug_ins.registry import kinds, names
from stages.check.parameters import problems
from tests.test_architecture import ROOT

PAGE = ROOT / "docs/reference/seams.md"
ROWS = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| S")]
MOST_STAGES = 60
# Of each kind one that params.yaml names nowhere, and one that it names, with the places that are then refused.
UNNAMED = {
    "sources": "shapes", "extractors": "pixels", "miners": "transitive_pairs", "methods": "byol", "changes": "tps",
    "watches": "scale", "backbones": "vit_mini", "schedules": "step", "shifts": "fog", "sections": "shifts",
    "probes/dense": "few_masks", "probes/finetune": "moment", "probes/words": "zero_shot",
    "probes/quality": "regression", "probes/shift": "shift_distance", "probes/factors": "equivariance",
}  # fmt: skip
NAMED = {
    "sources": ("digits", {"source.name"}),
    "extractors": ("model", {"features[0].extractor"}),
    "models": ("autoencoder", {"models[0].model"}),
    "miners": ("kmeans", {"mines[0].miner"}),
    "methods": ("gsimclr", {"runs[4].method"}),
    "backbones": ("resnet_tiny", {"train.backbone"}),
    "schedules": ("cosine", {"train.schedule.name"}),
    "probes/quality": ("knn", {"probes.quality.knn"}),
    "probes/label_free": ("map", {"probes.label_free.map"}),
    "probes/representations": ("matching", {"representations.probes.matching"}),
}


def links(cell: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", cell)


def heading(anchor: str, text: str) -> bool:
    """Whether a page has a heading of this anchor, as GitHub writes it."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_table_has_all_eighteen() -> None:
    assert [row[0].strip("| ") for row in ROWS] == [f"S{n}" for n in range(1, 19)]
    assert "(reference/seams.md) | eighteen places" in (ROOT / "docs/index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip("| ") for row in ROWS])
def test_a_row_names_a_section_two_users_and_a_test(row: list[str]) -> None:
    _, _, page, users, test = row
    [link] = links(page)
    file, _, anchor = link.partition("#")
    text = (PAGE.parent / file).resolve().read_text(encoding="utf-8")
    assert not anchor or heading(anchor, text), link
    assert len(users.split(";")) >= 2
    assert all((PAGE.parent / user).resolve().is_file() for user in links(users)), users
    [tests] = links(test)
    [function] = re.findall(r"`(test_\w+)`", test)
    assert f"def {function}(" in (PAGE.parent / tests).resolve().read_text(encoding="utf-8")


def test_the_default_graph_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(load_graph(ROOT).stages) < MOST_STAGES
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 200, "it is read whole"


def test_every_kind_is_listed_with_a_line_a_source_and_how_far_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for kind in kinds():
        listed = [facts_of(kind, name) for name in names(kind)]
        assert listed, kind
        assert all(one.description and one.checked_by and one.maturity != "not stated" for one in listed), kind
        assert kind == "sections" or all(one.source for one in listed), kind


@pytest.fixture
def raw() -> dict[str, Any]:
    return copy.deepcopy(read_yaml(ROOT / "params.yaml"))


def without(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the file of a plug-in were deleted."""
    found = registry._found

    def rest(asked: str) -> dict[str, Any]:
        return {own: plug_in for own, plug_in in found(asked).items() if (asked, own) != (kind, name)}

    assert name in found(kind)
    monkeypatch.setattr(registry, "_found", rest)


def test_a_deleted_plug_in_that_nothing_names_is_missed_by_nothing(
    raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, name in UNNAMED.items():
        without(kind, name, monkeypatch)
        assert name not in names(kind)
    assert problems(raw) == []


@pytest.mark.parametrize("kind", NAMED)
def test_a_deleted_plug_in_breaks_nothing_but_its_row(
    kind: str, raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name, places = NAMED[kind]
    without(kind, name, monkeypatch)
    assert {problem.path for problem in problems(raw)} == places


def test_every_kind_is_deleted_from() -> None:
    assert {*UNNAMED, *NAMED} == set(kinds())
