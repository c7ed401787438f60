"""What a run replaces of `train`, by itself or by its paper's recipe, is checked like `train` itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reprise.config.errors import ParameterError
from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import load_class, names
from reprise.training.params import TrainParams
from stages.check.code import modules_by_file
from stages.check.parameters import problems
from stages.pretrain.method import Method
from stages.pretrain.params import NAMES_IN_TRAIN, SHARED_BY_ALL, MethodParams, RecipeParams
from tests.stages.pretrain.conftest import TINY

LAMB = '''"""`lamb`: a method whose recipe is wrong three times."""

from typing import ClassVar

from stages.pretrain.method import Method
from stages.pretrain.params import RecipeParams


class LambParams(RecipeParams):
    """A recipe that nobody checked."""

    PAPER: ClassVar = {"optimizer": "lamb", "weight_decay": -1, "learning_rat": 0.1, "epochs": 3, "warmup_epochs": 1}


class Lamb(Method):
    """Never run."""

    Params = LambParams
'''


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return copy.deepcopy(read_yaml(repository / "params.yaml"))


@pytest.fixture
def lamb(raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters with a run `mine` of a user's method whose recipe is wrong."""
    (tmp_path / "plugins/methods").mkdir(parents=True)
    (tmp_path / "plugins/methods/lamb.py").write_text(LAMB, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    raw["runs"].append({"name": "mine", "method": "lamb", "labels": "none"})
    raw["methods"]["mine"] = {"recipe": "paper"}
    return raw


def test_a_wrong_recipe_is_reported_with_its_keys_and_where_they_come_from(lamb: dict[str, Any]) -> None:
    found = {problem.path: problem for problem in problems(lamb)}
    assert sorted(found) == [f"methods.mine.{key}" for key in ("epochs", "learning_rat", "optimizer", "weight_decay")]
    for problem in found.values():
        assert "(the value comes from PAPER in plugins.methods.lamb, because of `recipe: paper`)" in problem.rule
    optimizer = found["methods.mine.optimizer"]
    assert optimizer.rule.startswith("input should be 'sgd', 'adamw', 'adam' or 'lars'")
    assert (optimizer.found, optimizer.hint) == ("lamb", " Correct it there.")
    assert found["methods.mine.learning_rat"].hint == " Did you mean 'learning_rate'?"
    assert found["methods.mine.epochs"].rule.startswith("unknown parameter")  # one budget for all runs


def test_only_what_the_recipe_decides_is_checked_of_it(lamb: dict[str, Any]) -> None:
    lamb["methods"]["mine"] |= {"optimizer": "sgd", "weight_decay": -2.0}
    found = {problem.path: problem.found for problem in problems(lamb)}
    assert found == {"methods.mine.weight_decay": -2.0, "methods.mine.learning_rat": 0.1, "methods.mine.epochs": 3}
    lamb["methods"]["mine"] = {"recipe": "train"}
    assert problems(lamb) == []


@pytest.mark.parametrize("name", names("methods"))
def test_the_recipe_of_every_paper_is_valid(name: str) -> None:
    params = load_class("methods", name, Method, "").Params
    assert params.recipe_problems({"recipe": "paper"}, name) == []


class Wrong(RecipeParams):
    PAPER: ClassVar = {"optimizer": "lamb", "weight_decay": -1.0, "beta": 0.9}


def test_values_that_nobody_checked_before_are_refused_when_they_are_applied() -> None:
    train = TrainParams(**TINY.model_dump())
    with pytest.raises(ParameterError) as caught:
        Wrong(recipe="paper").applied_to(train)
    assert [line.split(":")[0].strip() for line in caught.value.found.strip().splitlines()] == [
        "train.optimizer",
        "train.weight_decay",
        "train.beta",
    ]
    assert Wrong().applied_to(train) == train
    own = MethodParams(learning_rate=0.7, warmup_epochs=0).applied_to(train)
    assert own == TrainParams(**{**TINY.model_dump(), "learning_rate": 0.7, "warmup_epochs": 0})


def test_a_run_may_replace_all_of_train_but_for_the_device(raw: dict[str, Any]) -> None:
    replaced = {NAMES_IN_TRAIN.get(name, name) for name in MethodParams.model_fields}
    assert replaced | set(SHARED_BY_ALL) == set(TrainParams.model_fields)
    own: dict[str, Any] = {
        "backbone": "resnet20",
        "stem": "small",
        "epochs": 3,
        "batch_size": 64,
        "checkpoint_steps": 5,
    }
    own |= {"number_format": "fp32", "on_collapse": "warn"}
    raw["methods"]["simclr"] |= own
    assert [problem.path for problem in problems(raw)] == []
    train = MethodParams(**own).applied_to(TrainParams.model_validate(raw["train"]))
    wanted = {NAMES_IN_TRAIN.get(name, name): value for name, value in own.items()}
    assert train.model_dump() == TrainParams.model_validate(raw["train"]).model_dump() | wanted


def test_the_backbone_of_a_run_decides_its_fingerprints_and_nobody_elses(raw: dict[str, Any]) -> None:
    before = dict(modules_by_file(raw))
    raw["methods"]["simclr"]["backbone"] = "resnet20"
    after = dict(modules_by_file(raw))
    assert {name for name in after if after[name] != before[name]} == {"pretrain/simclr", "embed/simclr"}
    assert "reprise.networks.backbones.resnet20" in after["pretrain/simclr"]


def test_backbones_that_cannot_be_a_runs_are_reported_with_the_run(raw: dict[str, Any]) -> None:
    raw["methods"]["simclr"]["backbone"] = "resnet_tinny"
    raw["methods"]["patch_kmeans"]["backbone"] = "resnet20"
    found = {problem.path: problem for problem in problems(raw)}
    assert sorted(found) == ["methods.patch_kmeans.backbone", "methods.simclr.backbone"]
    assert "Did you mean 'resnet_tiny'" in found["methods.simclr.backbone"].hint
    assert "brings its own network" in found["methods.patch_kmeans.backbone"].rule


def test_a_recipe_that_decides_on_the_budget_is_never_applied() -> None:
    class Long(RecipeParams):
        PAPER: ClassVar = {"epochs": 1000}

    with pytest.raises(ParameterError, match="the budget of a run is the user's"):
        Long(recipe="paper").applied_to(TrainParams(**TINY.model_dump()))


@pytest.mark.parametrize("method", ["simcrl", "SimCLR"])
def test_an_unknown_method_hides_no_error_of_its_block(raw: dict[str, Any], method: str) -> None:
    raw["runs"][3]["method"] = method
    raw["methods"]["simclr"] = {"learning_rate": -1.0, "schedule": {"name": "step", "factor": 2.0}, "temperature": 0.2}
    lines = [str(problem) for problem in problems(raw)]
    assert len(lines) == 3
    assert any(line.startswith("runs[3].method: ") and "Did you mean 'simclr'?" in line for line in lines)
    assert any(line.startswith("methods.simclr.learning_rate: input should be greater than 0") for line in lines)
    assert any(line.startswith("methods.simclr.schedule.factor: input should be less than 1") for line in lines)
    raw["methods"]["simclr"] = [1]
    assert "methods.simclr: must be a block of parameters. Found: 'list'." in "\n".join(map(str, problems(raw)))


def test_an_unknown_miner_hides_no_error_of_its_block(raw: dict[str, Any]) -> None:
    raw["mines"][0]["miner"] = "kmean"
    raw["mining"]["dae_kmeans"] = None
    assert [problem.path for problem in problems(raw)] == ["mines[0].miner", "mining.dae_kmeans"]
