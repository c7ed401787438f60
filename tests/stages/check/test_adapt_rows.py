"""The tables `adapt` and `checks`: what is wrong with their rows is said before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprise.config.dvc_file import stages_of
from reprise.config.params import read_yaml
from reprise.config.plug_ins import registry
from reprise.config.tables import ModelRow
from stages.check.code import modules_by_file
from stages.check.parameters import problems
from stages.check.rules.order import circle_problems
from stages.check.rules.probes import probe_problems
from stages.check.starts import network_started

REPOSITORY = Path(__file__).parents[3]
TUNED = {"name": "tuned", "method": "finetune", "labels": "truth", "from": "runs/simclr"}


@pytest.fixture
def raw() -> dict[str, Any]:
    found = read_yaml(REPOSITORY / "params.yaml")
    found["adapt"], found["methods"]["tuned"] = [dict(TUNED)], {"percent": 10.0}
    return found


def by_path(raw: dict[str, Any]) -> dict[str, str]:
    return {problem.path: f"{problem.rule}.{problem.hint}" for problem in problems(raw)}


def test_rows_that_are_right_pass_and_their_code_has_fingerprints(raw) -> None:
    raw["adapt"].append({"name": "again", "method": "simclr", "labels": "none", "from": "runs/tuned"})
    raw["methods"]["again"] = {"epochs": 1, "warmup_epochs": 0}
    raw["mines"].append({"name": "on_tuned", "miner": "kmeans", "on": "embed/tuned"})
    raw["mining"]["on_tuned"] = {"clusters": 10}
    assert by_path(raw) == {}
    modules = dict(modules_by_file(raw))
    assert modules["adapt/tuned"][:2] == ["stages.pretrain.__main__", "stages.pretrain.methods.adaptation.finetune"]
    assert modules["embed/again"] == modules["embed/simclr"]


def test_wrong_rows_are_named(raw) -> None:
    raw["adapt"] = [
        {**TUNED, "from": "runs/simcrl"},
        {**TUNED, "name": "simclr"},
        {"name": "no_start", "method": "finetune", "labels": "truth"},
        {**TUNED, "name": "still", "method": "random", "labels": "none"},
        {**TUNED, "name": "unlabelled", "labels": "none"},
        {**TUNED, "name": "patches", "from": "runs/patch_kmeans"},
        {**TUNED, "name": "narrow"},
    ]
    blocks = {"still": {}, "unlabelled": {}, "patches": {}, "narrow": {"backbone": "resnet20"}, "no_start": {}}
    raw["methods"] |= blocks
    raw["runs"][0]["from"] = "runs/simclr"
    found = by_path(raw)
    assert found["adapt[0].from"] == "no row of 'runs' or 'adapt' is called 'simcrl'. Did you mean 'simclr'?"
    assert found["adapt[1].name"].startswith("a row of 'runs' has this name already")
    assert found["adapt[2].from"] == "missing parameter. Add it."
    assert "takes no steps" in found["adapt[3].method"]
    assert "needs a label set" in found["adapt[4].labels"]
    assert "no weights that learn by gradients" in found["adapt[5].from"]
    assert "the weights decide on the backbone" in found["methods.narrow.backbone"]
    assert "belongs in the table 'adapt'" in found["runs[0].from"]


@pytest.mark.parametrize(
    ("start", "hint"),
    [
        ("timm:resnet50.a1_in1k", "{name: resnet50, weights: \"timm:resnet50.a1_in1k\"}` into the table 'models'"),
        ("../w/My-Net.pth", '{name: my_net, weights: "../w/My-Net.pth", architecture: NETWORK}`'),
        ("../other/run/", '{name: run, weights: "../other/run/"}`'),
        ("timm:1x1\x1b[2J", '{name: weights, weights: "timm:1x1\\u001b[2J"}` into'),
        ("embed/simclr", "Move this row to 'adapt', with `from: runs/simclr`."),
        ("runs/simclr", "Move this row to 'adapt', with `from: runs/simclr`."),
    ],
)
def test_a_start_that_is_written_elsewhere_shows_the_rows_to_write(raw, start: str, hint: str) -> None:
    raw["runs"][0]["from"] = start
    assert hint in by_path(raw)["runs[0].from"]
    raw["runs"][0]["from"] = "scratch"
    assert by_path(raw)["runs[0].from"].endswith("belongs in the table 'adapt'.")


def test_the_rows_of_a_hint_are_right(raw) -> None:
    raw["runs"][0]["from"] = "timm:resnet18.a1_in1k"
    found = by_path(raw)["runs[0].from"]
    row = re.search(r"`- (\{.*\})`", found)
    start = re.search(r"`from: (\S+)`", found)
    assert row is not None and start is not None
    model = yaml.safe_load(row[1])
    assert ModelRow(**model).weights == "timm:resnet18.a1_in1k"
    assert start[1] == f"models/{model['name']}"


def test_tables_that_the_graph_needs_are_asked_for() -> None:
    raw = read_yaml(REPOSITORY / "params.yaml")
    del raw["adapt"], raw["checks"]
    found = by_path(raw)
    assert found == {"adapt": "missing table. Add `adapt: []`.", "checks": "missing table. Add `checks: []`."}


def test_circles_over_labels_and_starts_are_found_once() -> None:
    runs = {
        "a": {"labels": "on_c", "start": "random"},
        "b": {"labels": "none", "start": "runs/a"},
        "c": {"labels": "none", "start": "runs/b"},
        "d": {"labels": "none", "start": "runs/c"},
        "e": {"labels": "on_e", "start": "random"},
    }
    mines = {"on_c": {"on": "embed/c"}, "on_e": {"on": "embed/e"}}
    found = [(problem.path, problem.found) for problem in circle_problems(runs, mines)]
    assert found == [("adapt.a.from", "a <- c <- b <- a"), ("runs.e.labels", "e <- e")]


def test_the_network_of_an_adapted_run_is_that_of_the_first(raw) -> None:
    raw["runs"].append({"name": "masked", "method": "msn", "labels": "none"})
    raw["methods"]["masked"] = {"width": 32}
    raw["adapt"] += [{**TUNED, "name": "deep", "from": "runs/far"}, {**TUNED, "name": "far", "from": "runs/masked"}]
    raw["methods"] |= {"deep": {}, "far": {}}
    network = network_started("runs/deep", raw)
    assert network is not None
    assert (network.architecture, network.options["width"]) == ("vit_mini", 32)
    assert network_started("runs/tuned", raw).architecture == "resnet_tiny"
    raw["adapt"][2]["from"] = "runs/deep"  # a circle ends
    assert network_started("runs/deep", raw) is None


def test_checks_name_runs_seeds_and_groups_that_exist(raw) -> None:
    raw["seeds"], raw["runs"] = [0, 1], raw["runs"][3:4]
    raw["image_probes"] = {"finetune": {"moment": {}}}
    row = {"run": "tuned", "seed": 1, "group": "finetune"}
    raw["checks"] = [row]
    assert probe_problems(raw) == []
    raw["checks"] = [row, row, {**row, "run": "simcrl"}, {**row, "seed": 2}, {**row, "group": "quality"}]
    found = {problem.path: f"{problem.rule}.{problem.hint}" for problem in probe_problems(raw)}
    assert found["checks"] == "two rows may not ask for the same. Remove one."
    assert found["checks[2].run"] == "no row of 'runs' or 'adapt' is called 'simcrl'. Did you mean 'simclr'?"
    assert found["checks[3].seed"] == "'seeds' does not list this seed. Known: 0, 1."
    assert found["checks[4].group"] == "no such folder of probes. It belongs in suites."


def test_all_and_the_table_of_before_are_spelt_out(raw) -> None:
    raw["seeds"], raw["runs"] = [0, 1], raw["runs"][3:4]
    raw["image_probes"] = {"finetune": {"moment": {}}}
    raw["checks"] = [{"run": "all", "seed": 1, "group": "finetune"}]
    (found,) = probe_problems(raw)
    spelt_out = "{run: simclr, seed: 1, group: finetune}, {run: tuned, seed: 1, group: finetune}"
    assert (found.path, found.hint) == ("checks[0]", f" Write: {spelt_out}.")
    raw["checks"], raw["image_suites"], raw["image_probes"] = [], [{"name": "finetune"}], {}
    (found,) = probe_problems(raw)
    assert found.path == "image_suites"
    assert "Remove it, and write `checks: [{run: simclr, seed: 0, group: finetune}, " in found.hint
    assert found.hint.count("group: finetune") == 4


def test_stages_of_both_tables_have_names_for_people(raw) -> None:
    raw["checks"] = [{"run": "tuned", "seed": 0, "group": "finetune"}]
    stages = {stage.title: stage for stage in stages_of(read_yaml(REPOSITORY / "dvc.yaml"), raw)}
    adapt, check = stages["adapt tuned seed 0"], stages["probe_images tuned seed 0 finetune"]
    assert "data/runs/simclr/0" in adapt.deps
    assert adapt.outs == ("data/runs/tuned/0",)
    assert "data/runs/tuned/0" in check.deps
    assert {"embed_adapted tuned seed 0", "probe_adapted tuned seed 0"} <= stages.keys()


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("methods", "finetune", "adapt[0].method"),
        ("methods", "moment", "adapt[0].method"),
        ("methods", "adversarial", "adapt[0].method"),
        ("sources", "shapes", "source.name"),
    ],
)
def test_without_a_strategy_or_a_source_of_facts_only_what_names_it_is_refused(
    raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str, name: str, path: str
) -> None:
    """As if its file were deleted: the parameters of the repository need neither, nor do the other strategies."""
    found = registry._found

    def without(asked: str) -> dict[str, Any]:
        return {key: plug_in for key, plug_in in found(asked).items() if (asked, key) != (kind, name)}

    monkeypatch.setattr(registry, "_found", without)
    assert name not in registry.names(kind)
    raw["adapt"] = []
    del raw["methods"]["tuned"]
    assert by_path(raw) == {}
    if kind == "sources":
        raw["source"] = {"name": name}
    else:
        raw["adapt"], raw["methods"]["tuned"] = [TUNED | {"method": name}], {}
    refused = by_path(raw)
    assert path in refused
    assert all(where.startswith((path.split(".")[0].split("[")[0], "methods.tuned")) for where in refused), refused
