"""Watches: their figures against closed forms, and that a training with them has the bytes of one without."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from reprise.config.errors import ParameterError, TrainingError
from reprise.config.params import parse, read_yaml
from reprise.config.plug_ins.registry import names
from reprise.runtime.device import Compute
from reprise.storage.work_folder import file_digest
from reprise.training.params import TrainParams
from reprise.training.watch import Look, load_watch, typed_watches, unchanged
from stages.check.code import modules_by_file
from stages.check.parameters import problems
from stages.pretrain.params import MethodParams
from stages.pretrain.parts.pairs import parts_of
from stages.pretrain.watches.gradient_noise_scale import noise_scale
from stages.pretrain.watches.scale import growth, mean_squares
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.methods.conftest import build, random_batch
from tests.stages.pretrain.test_run import run

WATCHES = ("alignment_uniformity", "gradient_noise_scale", "scale", "weight_norms")
TWO = TINY.model_copy(update={"epochs": 2})
CPU = Compute("cpu", "fp32", 1)
MEDDLER = """
import random

import numpy as np
import torch

from reprise.training.watch import Watch


class Meddler(Watch):
    def look(self, look):
        random.random(), np.random.rand(), torch.rand(3)
        look.method.eval()
        look.step(look.batch)[0].backward()
        with torch.no_grad():
            for tensor in (*look.method.parameters(), *look.method.buffers()):
                tensor.fill_(7)
        return {"epoch": look.epoch, "nothing": float("nan")}
"""


def watched(train=TWO, **blocks):
    return train.model_copy(update={"watches": typed_watches(blocks)})


def rows(out: Path) -> list[list[str]]:
    return [line.replace('"', "").split(",") for line in (out / "watches.csv").read_text().splitlines()]


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002 - the global generators


def looked(name: str, method, batch, **options) -> dict[str, float]:
    (params,) = typed_watches({name: options})
    return dict(load_watch(params).look(Look(method, method.step, batch, CPU, 0, 0)))


@pytest.fixture
def meddler(digits) -> Path:
    """A user's watch that draws numbers, takes gradients, and overwrites every weight and buffer."""
    Path("plugins/watches").mkdir(parents=True)
    Path("plugins/watches/meddler.py").write_text(MEDDLER)
    return digits


def test_the_watches_of_reprise_are_these():
    assert tuple(names("watches")) == WATCHES


@pytest.mark.parametrize("method", ["moco_v2", pytest.param("triplet", marks=pytest.mark.slow)])
def test_watches_change_no_byte_of_a_run_also_after_a_kill(meddler, monkeypatch, method):
    """Weights, heads, history and every checkpoint, of a method with a queue and a teacher, and of one on pairs."""
    kept: dict[str, list[bytes]] = {}
    real = torch.optim.SGD.step

    def checkpoints(label: str, train, killed_at: int = 0) -> Path:
        calls = []

        def step(self, *arguments, **keywords):
            calls.append(1)
            if len(calls) == killed_at:
                raise KeyboardInterrupt
            files = sorted(Path(".reprise/work").rglob("step-*"))
            kept.setdefault(label, []).extend(f.name.encode() + f.read_bytes() for f in files)
            return real(self, *arguments, **keywords)

        monkeypatch.setattr(torch.optim.SGD, "step", step)
        return run(method, label, train=train)

    every = watched(**{key: {} for key in (*WATCHES, "meddler")})
    plain, seen = checkpoints("plain", TWO), checkpoints("seen", every)
    with pytest.raises(KeyboardInterrupt):
        checkpoints("resumed", every, killed_at=8)
    resumed = checkpoints("resumed", every)
    for name in ("backbone.safetensors", "heads.safetensors", "history.csv"):
        assert file_digest(plain / name) == file_digest(seen / name) == file_digest(resumed / name), name
    assert len(kept["plain"]) > 3
    assert kept["plain"] == kept["seen"]
    assert not (plain / "watches.csv").exists()
    assert file_digest(seen / "watches.csv") == file_digest(resumed / "watches.csv")
    assert {row[2] for row in rows(seen)[1:]} == {*WATCHES, "meddler"}


def test_when_watches_look_and_what_is_written(meddler):
    """At the start, after every second epoch, after the last one; a figure that is not finite is an empty cell."""
    five = TINY.model_copy(update={"epochs": 3})
    out = run("simclr", "out", train=watched(five, meddler={"every": 2}, weight_norms={"every": 5, "by_layer": True}))
    found = rows(out)
    assert found[0] == ["epoch", "step", "watch", "figure", "value"]
    mine = [row for row in found if row[2] == "meddler"]
    assert [(row[0], row[1], row[4]) for row in mine if row[3] == "epoch"] == [
        ("0", "0", "0"), ("2", "10", "2"), ("3", "15", "3")
    ]  # fmt: skip
    assert {row[4] for row in mine if row[3] == "nothing"} == {""}
    norms = {(row[0], row[3]): float(row[4]) for row in found if row[2] == "weight_norms"}
    assert {epoch for epoch, _ in norms} == {"0", "3"}
    layers = sum(value**2 for (epoch, name), value in norms.items() if epoch == "3" and name.startswith("layer_"))
    assert layers**0.5 == pytest.approx(norms["3", "backbone"])
    assert norms["3", "heads"] > 0


def test_a_run_without_a_loop_says_that_nothing_is_seen(digits):
    from reprise.artifacts.weights.backbones import read_config

    out = run("random", "out", train=watched(weight_norms={}))
    assert "these watches see nothing: weight_norms." in read_config(out)["notes"][0]
    assert not (out / "watches.csv").exists()


def test_a_watch_that_fails_stops_before_the_first_step_and_names_itself(digits):
    Path("plugins/watches").mkdir(parents=True)
    Path("plugins/watches/broken.py").write_text(MEDDLER.replace("random.random()", "1 / 0"))
    with pytest.raises(TrainingError, match=r"the watch 'broken' failed.*epoch 0.*ZeroDivisionError.*remove broken"):
        run("simclr", "out", train=watched(broken={}))


def test_everything_is_put_back():
    """Tensors, gradients, modes, what learns, and the generators of Python, NumPy and torch; also after an error."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    model[2].eval()
    model[0].bias.requires_grad = False
    model(torch.randn(5, 3)).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradient, place = model[0].weight.grad.clone(), model[0].weight.grad
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    draws = drawn()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)

    def meddle() -> None:
        with unchanged(model):
            assert model[0].weight.grad is None
            model.train().requires_grad_(True)
            (model(torch.randn(5, 3)).sum() + sum(drawn())).backward()
            model[0].weight.data += 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meddle()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model[0].weight.grad is place
    assert torch.equal(place, gradient)
    assert (model[1].training, model[2].training, model[0].bias.requires_grad) == (True, False, False)
    assert drawn() == draws


# ---- the figures -----------------------------------------------------------------------------------------------------


def test_the_noise_scale_is_that_of_two_batch_sizes():
    """McCandlish et al., appendix A.1, with a batch of one part and one of all."""
    rng = torch.Generator().manual_seed(0)
    parts = [torch.randn(7, generator=rng) + 1 for _ in range(4)]
    small, big = 3.0, 12.0
    lengths = sum(float(g.double().square().sum()) for g in parts) / 4
    whole = float(torch.stack(parts).double().mean(0).square().sum())
    signal, noise = (big * whole - small * lengths) / (big - small), (lengths - whole) / (1 / small - 1 / big)
    found = noise_scale(parts, small)
    assert found["images"] == pytest.approx(noise / signal, rel=1e-9)
    assert found["noise"] ** 2 == pytest.approx(noise, rel=1e-9)
    assert "images" not in noise_scale([torch.tensor([1.0]), torch.tensor([-1.0])], 4)


def test_the_noise_scale_of_planted_noise_is_found():
    """Gradients of an image with mean 1 and covariance 4 in each of 50 dimensions: tr(S) / |G|^2 = 4."""
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(40):
        images = torch.from_numpy(1 + 2 * rng.normal(size=(64, 50)))
        estimates.append(noise_scale(list(images.reshape(8, 8, 50).mean(1)), 8)["images"])
    assert np.median(estimates) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("name", ["simclr", "triplet"])
def test_the_gradients_of_parts_are_those_of_the_step(name):
    """Of all weights that learn, from the same network; pairs stay whole, and nothing is left behind."""
    method = build(name)
    batch = random_batch(method, size=16)
    found = looked("gradient_noise_scale", method, batch, parts=3)
    assert all(p.grad is None for p in method.parameters())
    parts = parts_of(batch, 3)
    if method.needs_pairs:
        for part in parts:
            assert (part.partner[part.partner] == torch.arange(len(part.rows))).all()
            assert (batch.rows[batch.partner][[int(r) for r in part.rows]] == part.rows[part.partner]).all()
    gradients = []
    for part in parts:
        fresh = build(name)
        fresh.step(part)[0].backward()
        learning = [p for p in fresh.parameters() if p.requires_grad]
        gradients.append(torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in learning]))
    assert found == pytest.approx(noise_scale(gradients, 16 / 3), rel=1e-4)


def test_alignment_and_uniformity_are_their_formulas():
    method = build("simclr")
    batch = random_batch(method)
    found = looked("alignment_uniformity", method, batch)
    method.eval()
    x, y = (nn.functional.normalize(method.backbone(view).double(), dim=1).detach() for view in batch.views)
    apart = [float((x[i] - x[j]).square().sum()) for i in range(8) for j in range(i)]
    assert found["features.alignment"] == pytest.approx(float((x - y).square().sum(1).mean()), rel=1e-5)
    assert found["features.uniformity"] == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(apart)))), rel=1e-5)
    assert {"projections.alignment", "projections.uniformity"} <= set(found)
    pairs = build("triplet")
    batch = random_batch(pairs)
    near = batch.views[0].clone()
    near[4:] = near[:4]
    same = type(batch)([near], batch.rows, batch.fields)
    assert looked("alignment_uniformity", pairs.train(), same)["features.alignment"] == pytest.approx(0, abs=1e-9)
    assert looked("alignment_uniformity", pairs.train(), batch)["features.alignment"] > 0.001


@pytest.mark.parametrize(("variance", "factor"), [(1.8, 0.9), (2.0, 1.0), (2.2, 1.1)])
def test_signals_keep_their_size_at_the_critical_initialisation_only(variance, factor):
    """ReLU layers of width 500 with weights of variance c / width: the mean square grows by c / 2 a layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(30):
        linear = nn.Linear(500, 500, bias=False)
        nn.init.normal_(linear.weight, std=(variance / 500) ** 0.5)
        layers += [linear, nn.ReLU()]
    found = growth(mean_squares(nn.Sequential(*layers), torch.randn(64, 500)))
    assert found["growth"] == pytest.approx(factor, rel=0.02)
    assert not any(layer._forward_hooks for layer in layers)


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_the_check_knows_watches_and_names_what_is_wrong(digits, repository):
    raw = read_yaml(repository / "params.yaml")
    raw["train"]["watches"] = {"weight_norms": {"every": 2}}
    raw["methods"]["simclr"] = {"watches": {"scale": {}}}
    assert problems(raw) == []
    code = dict(modules_by_file(raw))
    assert "stages.pretrain.watches.scale" in code["pretrain/simclr"]
    assert "stages.pretrain.watches.weight_norms" in code["pretrain/gsimclr"]
    assert "stages.pretrain.watches.weight_norms" not in code["pretrain/simclr"]
    raw["train"]["watches"] = {"weight_norm": {}, "scale": {"every": 0}, "weight_norms": {"evry": 1}}
    raw["methods"]["simclr"] = {"watches": ["scale"]}
    found = {problem.path: str(problem) for problem in problems(raw)}
    assert "Did you mean 'weight_norms'" in found["train.watches.weight_norm"]
    assert "greater than or equal to 1" in found["train.watches.scale.every"]
    assert "Did you mean 'every'" in found["train.watches.weight_norms.evry"]
    assert "must be a block with a key for each watch" in found["methods.simclr.watches"]


def test_a_run_replaces_the_watches_of_train_whole_and_none_are_written_down():
    train = parse(TrainParams, {**TINY.model_dump(), "watches": {"weight_norms": {"every": 3}}}, "train")
    assert [(p.name, p.every) for p in MethodParams().applied_to(train).watches] == [("weight_norms", 3)]
    own = parse(MethodParams, {"watches": {"scale": {}}}, "methods.x").applied_to(train)
    assert [p.name for p in own.watches] == ["scale"]
    assert parse(MethodParams, {"watches": {}}, "methods.x").applied_to(train).watches == ()
    assert "watches" not in TINY.model_dump()
    assert "watches" not in MethodParams().model_dump()
    with pytest.raises(ParameterError, match="unknown watch"):
        parse(MethodParams, {"watches": {"scael": {}}}, "methods.x")


def test_the_documented_watch_looks(digits, repository):
    page = (repository / "docs/how-to/watches.md").read_text(encoding="utf-8")
    Path("plugins/watches").mkdir(parents=True)
    Path("plugins/watches/dead_units.py").write_text(page.split("```python\n")[1].split("```")[0], encoding="utf-8")
    assert names("watches") == sorted([*WATCHES, "dead_units"])
    assert all(f"| `{name}` |" in page for name in WATCHES)
    assert 0 <= looked("dead_units", method := build("simclr"), random_batch(method))["share"] <= 1
