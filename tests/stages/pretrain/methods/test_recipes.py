"""Recipes against a table that was written from papers and released codes, not from the methods' files.

The table gives what a training at the authors' batch does: rates at the peak and at both ends, decay of matrices and of
vectors at both ends, and the views of each branch. So a number that a method leaves out is missed as well.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reprise.config.plug_ins.registry import load_class, names
from reprise.config.tables import RunRow
from reprise.runtime.device import Compute
from reprise.training.optimization.lars import LARS
from reprise.training.optimization.optimizers import build_optimizer, set_rates
from reprise.training.params import TrainParams
from stages.pretrain.method import Method
from stages.pretrain.parts import paper_views
from stages.pretrain.setup import Setup
from stages.pretrain.views.draws import draw_view, frame_of
from stages.pretrain.views.settings import by_view, describe_settings, described, resolve_views
from tests.stages.pretrain.conftest import IMAGE, TINY
from tests.stages.pretrain.methods.conftest import build

# What no recipe asks for, so that a value that a recipe leaves open shows.
ODD = {
    "optimizer": "sgd", "learning_rate": 0.123, "learning_rate_scaling": "linear", "momentum": 0.55, "nesterov": True,
    "weight_decay": 0.77, "weight_decay_end": None, "decay_vectors": True, "clip_norm": 0.123,
    "lars": {"trust": 0.5, "clip": True, "adapt_vectors": True, "separate_norms": False},
    "warmup_epochs": 3, "warmup_start": 0.3, "schedule": {"name": "constant"}, "schedule_stretch": 2.0,
    "views": {"crop_scale_min": 0.9, "crop_aspect": 2.0, "flip": False, "jitter": 0.11, "saturation": 0.7, "hue": 0.4,
              "grey": 0.9, "blur": 0.9, "solarize": 0.9},
}  # fmt: skip

# batch, optimiser, peak rate, share of it at the end, epochs of warm-up and share of the peak that they begin at,
# decay of matrices, of vectors, of matrices at the end, global clipping
OPTIMISERS = {
    "simclr": (4096, "lars", 4.8, 0.0, 10, 0.0, 1e-6, 0.0, None, 0.0),
    "supcon": (1024, "sgd", 0.2, 1e-3, 10, 0.2, 1e-4, 1e-4, None, 0.0),
    "moco_v2": (256, "sgd", 0.03, 0.0, 0, 0.0, 1e-4, 1e-4, None, 0.0),
    "moco_v3": (4096, "adamw", 2.4e-3, 0.0, 40, 0.0, 0.1, 0.1, None, 0.0),
    "byol": (4096, "lars", 3.2, 0.0, 10, 0.0, 1.5e-6, 0.0, None, 0.0),
    "simsiam": (512, "sgd", 0.1, 0.0, 0, 0.0, 1e-4, 1e-4, None, 0.0),
    "barlow_twins": (2048, "lars", 1.6, 1e-3, 10, 0.0, 1.5e-6, 0.0, None, 0.0),
    "vicreg": (2048, "lars", 1.6, 1e-3, 10, 0.0, 1e-6, 0.0, None, 0.0),
    "w_mse": (512, "adam", 3e-3, 0.04, 5, 0.0, 1e-6, 1e-6, None, 0.0),
    "emp_ssl": (100, "lars", 0.3, 0.0, 0, 0.0, 1e-4, 0.0, None, 0.0),
    "lejepa": (256, "adamw", 2e-3, 0.5, 1, 0.01, 0.05, 0.05, None, 0.0),
    "swav": (256, "lars", 0.6, 1e-3, 0, 0.0, 1e-6, 1e-6, None, 0.0),
    "swav, large": (4096, "lars", 4.8, 1e-3, 10, 0.3 / 4.8, 1e-6, 1e-6, None, 0.0),
    "deepcluster_v2": (4096, "lars", 4.8, 1e-3, 10, 0.3 / 4.8, 1e-6, 1e-6, None, 0.0),
    "dino": (1024, "adamw", 2e-3, 1e-6 / 2e-3, 10, 0.0, 0.04, 0.0, 0.4, 0.0),
    "msn": (1024, "adamw", 1e-3, None, 15, 0.2, 0.04, 0.0, None, 3.0),  # its cosines end after 1.25 trainings
    "simmim": (2048, "adamw", 8e-4, 0.05, 10, 0.005, 0.05, 0.0, None, 5.0),
    "mugs": (1024, "adamw", 3.2e-3, 1e-6 / 3.2e-3, 10, 0.0, 0.04, 0.0, 0.2, 0.0),
    "dcl": (256, "sgd", 0.03, 0.0, 0, 0.0, 1e-4, None, None, 0.0),
    "nnclr": (4096, "lars", 4.8, 0.0, 10, 0.0, 1e-6, 0.0, None, 0.0),
    "interclr": (256, "sgd", 0.03, 0.0, 0, 0.0, 1e-4, 1e-4, None, 0.0),
    "obow": (256, "sgd", 0.03, 1e-3, 10, 0.0, 1e-4, 1e-4, None, 0.0),
    "odc": (512, "sgd", 0.06, 0.4, 0, 0.0, 1e-5, 1e-5, None, 0.0),
}
# trust, clipping, adapts vectors, divides by the sum of two lengths, Nesterov
LARS_FORMS = {
    "simclr": (0.001, False, False, False, False),
    "byol": (0.001, False, False, False, False),
    "barlow_twins": (0.001, False, False, False, False),
    "vicreg": (0.001, False, False, False, False),
    "nnclr": (0.001, False, False, False, False),
    "swav": (0.001, False, True, True, False),
    "deepcluster_v2": (0.001, False, True, True, False),
    "emp_ssl": (0.005, True, False, True, True),
}
# Of each branch: crop areas, brightness and contrast, saturation, hue, grey, blur, solarizing. All are mirrored.
SIMCLR = ((0.08, 1.0), 0.8, 0.8, 0.2, 0.2, 0.5, 0.0)
MOCO = ((0.2, 1.0), 0.4, 0.4, 0.1, 0.2, 0.5, 0.0)
BYOL = [((0.08, 1.0), 0.4, 0.2, 0.1, 0.2, 1.0, 0.0), ((0.08, 1.0), 0.4, 0.2, 0.1, 0.2, 0.1, 0.2)]
VIEWS = {
    "simclr": [SIMCLR] * 2,
    "supcon": [((0.2, 1.0), 0.4, 0.4, 0.1, 0.2, 0.0, 0.0)] * 2,
    "interclr": [MOCO] * 2,
    "moco_v2": [MOCO] * 2,
    "simsiam": [MOCO] * 2,
    "moco_v3": BYOL,
    "byol": BYOL,
    "barlow_twins": BYOL,
    "vicreg": BYOL,
    "w_mse": [((0.2, 1.0), 0.4, 0.4, 0.1, 0.1, 0.0, 0.0)] * 2,
    "emp_ssl": [((0.25, 0.25), 0.4, 0.4, 0.2, 0.2, 0.1, 0.1)] * 20,
    "lejepa": [((0.08, 1.0), 0.8, 0.8, 0.2, 0.2, 0.5, 0.2)] * 4,
    "swav": [((0.14, 1.0), *SIMCLR[1:])] * 2 + [((0.05, 0.14), *SIMCLR[1:])] * 6,
    "deepcluster_v2": [((0.14, 1.0), *SIMCLR[1:])] * 2 + [((0.05, 0.14), *SIMCLR[1:])] * 6,
    "dino": [
        ((0.4, 1.0), *BYOL[0][1:]),
        ((0.4, 1.0), *BYOL[1][1:]),
        *[((0.05, 0.4), 0.4, 0.2, 0.1, 0.2, 0.5, 0.0)] * 6,
    ],
    "msn": [((0.3, 1.0), *MOCO[1:])] * 2 + [((0.05, 0.3), *MOCO[1:])] * 6,
    "simmim": [((0.67, 1.0), 0.0, None, None, 0.0, 0.0, 0.0)],
}
EPOCHS, STEPS = 800, 4  # of a training long enough for every warm-up; four batches an epoch


def asked(name: str, batch: int) -> tuple[type[Method], object, TrainParams]:
    method_class = load_class("methods", name.split(",")[0], Method, "")
    whole = name == "obow" or name.split(",")[0] in VIEWS  # of `obow` the teacher's view is none that a table describes
    recipe = "paper" if whole else "paper_optimizer"
    params = method_class.Params(recipe=recipe).with_recipe(batch)
    odd = TINY.model_dump() | ODD | {"batch_size": batch, "epochs": EPOCHS}
    return method_class, params, params.applied_to(TrainParams.model_validate(odd))


def test_every_recipe_is_in_the_table() -> None:
    with_recipe = {n for n in names("methods") if getattr(load_class("methods", n, Method, "").Params, "PAPER", None)}
    assert {name.split(",")[0] for name in OPTIMISERS} == with_recipe
    wholes = {
        n for n in with_recipe if "paper" in str(load_class("methods", n, Method, "").Params.model_fields["recipe"])
    }
    assert wholes >= set(VIEWS)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimiser_and_schedules(name: str) -> None:
    batch, optimiser, peak, end, warmup, start, decay, vectors, decay_end, clip = OPTIMISERS[name]
    _, params, train = asked(name, batch)
    setup = Setup(RunRow(name="x", method="simclr", labels="none"), 0, IMAGE, train, params, Compute("cpu", "fp32", 1))
    rates = setup.rates(batch * STEPS)
    assert (train.optimizer, train.warmup_epochs, train.clip_norm) == (optimiser, warmup, clip)
    assert rates.peak == pytest.approx(peak)
    first = start + (1 - start) / (warmup * STEPS) if warmup else 1.0
    assert rates.at(0) == pytest.approx(peak * first)
    assert rates.at(warmup * STEPS) == pytest.approx(peak, rel=1e-3)
    if end is not None:  # the last step lies one step before the end
        assert rates.at(rates.steps) == pytest.approx(peak * end, abs=1e-12)
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer(layer, train)
    set_rates(optimizer, rates, 0, rates.steps)
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[2] == pytest.approx(decay)
    if vectors is not None:
        assert decays[1] == pytest.approx(vectors)
    set_rates(optimizer, rates, rates.steps, rates.steps)
    after = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    if name != "msn":
        assert after[2] == pytest.approx(decay if decay_end is None else decay_end)
    assert after[1] == decays[1]
    if optimiser in ("sgd", "lars"):
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
        assert {group["nesterov"] for group in optimizer.param_groups} == {name == "emp_ssl"}


@pytest.mark.parametrize("name", LARS_FORMS)
def test_form_of_lars(name: str) -> None:
    _, _, train = asked(name, OPTIMISERS[name][0])
    optimizer = build_optimizer(nn.Linear(2, 2), train)
    assert isinstance(optimizer, LARS)
    for group in optimizer.param_groups:
        keys = ("trust", "clip", "adapt_vectors", "separate_norms", "nesterov")
        assert tuple(group[key] for key in keys) == LARS_FORMS[name]


@pytest.mark.parametrize("name", VIEWS)
def test_views_of_each_branch(name: str, tmp_path) -> None:
    method_class, params, train = asked(name, OPTIMISERS[name][0])
    (tmp_path / "views.json").write_text("{}", encoding="utf-8")  # the source suggests nothing: the recipe is whole
    if name == "simmim":  # its views are crops alone, whatever the source suggests for colours
        (tmp_path / "views.json").write_text('{"crop_scale_min": 0.5}', encoding="utf-8")
    settings = resolve_views(train.views, tmp_path / "views.json", IMAGE, (0.0,) * 3, (1.0,) * 3)
    method = (
        build(
            name,
            **params.model_dump(
                include=method_class.Params.model_fields.keys()
                & {"scale_split", "small_scale_min", "scale_min", "scale_max", "crops"}
            ),
            patches=20,
        )
        if name == "emp_ssl"
        else build(
            name,
            **{
                k: v
                for k, v in params.model_dump().items()
                if k in ("scale_split", "small_scale_min", "scale_min", "crops", "small_crops")
            },
        )
    )
    plan = by_view(method.view_plan(settings))
    found = []
    for view in plan:
        s = described([view])[0]
        off = s["jitter"] == 0
        colours = (0.0, None, None) if off else (0.8 * s["jitter"], s["saturation"], s["hue"])
        areas = s["crop_scale_min"], s["crop_scale_max"]
        found.append((areas, *colours, s["grey"], s["blur"], s["solarize"]))
        assert s["flip"]
        assert s["crop_aspect"] == (1.0 if name == "emp_ssl" else 4 / 3)
    assert len(found) == len(VIEWS[name])
    for ours, theirs in zip(found, VIEWS[name], strict=True):
        assert ours[0] == theirs[0]
        assert ours[1:] == pytest.approx(theirs[1:])


# The short settings that say the same, as (crop_scale_min, jitter, saturation, hue, grey, blur, solarize).
SHORTS = {
    "simclr": (0.08, 1.0, 0.8, 0.2, 0.2, 0.5, 0.0),
    "supcon": (0.2, 0.5, 0.4, 0.1, 0.2, 0.0, 0.0),
    "interclr": (0.2, 0.5, 0.4, 0.1, 0.2, 0.5, 0.0),
    "moco_v2": (0.2, 0.5, 0.4, 0.1, 0.2, 0.5, 0.0),
    "simsiam": (0.2, 0.5, 0.4, 0.1, 0.2, 0.5, 0.0),
    "moco_v3": (0.08, 0.5, 0.2, 0.1, 0.2, [1.0, 0.1], [0.0, 0.2]),
    "byol": (0.08, 0.5, 0.2, 0.1, 0.2, [1.0, 0.1], [0.0, 0.2]),
    "barlow_twins": (0.08, 0.5, 0.2, 0.1, 0.2, [1.0, 0.1], [0.0, 0.2]),
    "vicreg": (0.08, 0.5, 0.2, 0.1, 0.2, [1.0, 0.1], [0.0, 0.2]),
    "w_mse": (0.2, 0.5, 0.4, 0.1, 0.1, 0.0, 0.0),
    "emp_ssl": (0.2, 0.5, 0.4, 0.2, 0.2, 0.1, 0.1),
    "lejepa": (0.08, 1.0, 0.8, 0.2, 0.2, 0.5, 0.2),
    "swav": (0.08, 1.0, 0.8, 0.2, 0.2, 0.5, 0.0),
    "swav, large": (0.08, 1.0, 0.8, 0.2, 0.2, 0.5, 0.0),
    "deepcluster_v2": (0.08, 1.0, 0.8, 0.2, 0.2, 0.5, 0.0),
    "dino": (0.08, 0.5, 0.2, 0.1, 0.2, [1.0, 0.1, 0.5], [0.0, 0.2, 0.0]),
    "msn": (0.3, 0.5, 0.4, 0.1, 0.2, 0.5, 0.0),
}
OF_A_RUN = [{}, {"flip": False}, {"jitter": 0.0}, {"blur": 0.0, "grey": 0.7}, {"solarize": [0.5, 0.0]}]


@pytest.mark.parametrize("name", SHORTS)
def test_a_list_of_changes_makes_the_views_of_short_settings(name: str, tmp_path) -> None:
    """What a run sets above the list is understood as above short settings, and config.json says the same of both."""
    names_of = ("crop_scale_min", "jitter", "saturation", "hue", "grey", "blur", "solarize")
    short = dict(zip(names_of, SHORTS[name], strict=True)) | {"flip": True}
    short["crop_aspect"] = 1.0 if name == "emp_ssl" else 4 / 3
    method_class = load_class("methods", name.split(",")[0], Method, "")
    batch = OPTIMISERS[name][0]
    recipe = method_class.Params(recipe="paper").stated(batch)["views"]
    assert [change["name"] for change in recipe] == ["crop", "flip", "colour", "grey", "blur", "solarize"]
    (tmp_path / "views.json").write_text("{}", encoding="utf-8")
    below = TrainParams.model_validate(TINY.model_dump() | ODD | {"batch_size": batch})
    for own in OF_A_RUN:
        listed = method_class.Params(recipe="paper", views=own).applied_to(below).views
        said = method_class.Params(views=short | own).applied_to(below).views
        ours, theirs = (
            resolve_views(views, tmp_path / "views.json", IMAGE, (0.0,) * 3, (1.0,) * 3) for views in (listed, said)
        )
        assert described([ours] * 3) == described([theirs] * 3)
        assert describe_settings(ours) == describe_settings(theirs)
        for view in range(3):
            drawn = [
                draw_view(frame_of(4, 9, 11), settings.of_view(view), torch.Generator().manual_seed(view)).by_name(s)
                for settings, s in ((ours, ours), (theirs, theirs))
            ]
            assert str(drawn[0]) == str(drawn[1])


def test_a_recipe_says_that_a_list_has_no_such_change() -> None:
    with pytest.raises(KeyError, match="elastic"):
        paper_views.with_options(paper_views.SIMCLR, elastic={"probability": 1.0})


def test_grey_images_and_other_bands_take_a_recipe_that_a_run_leaves_without_grey(tmp_path) -> None:
    (tmp_path / "views.json").write_text("{}", encoding="utf-8")
    simclr = load_class("methods", "simclr", Method, "").Params
    train = simclr(recipe="paper", views={"grey": 0.0}).applied_to(TrainParams.model_validate(TINY.model_dump() | ODD))
    five = IMAGE.model_copy(update={"channels": 5})
    views = resolve_views(train.views, tmp_path / "views.json", five, (0.0,) * 5, (1.0,) * 5)
    assert "grey" not in [change.params.name for change in views.changes]


def test_what_methods_set_of_their_own() -> None:
    """Teachers' momenta, what is clipped and what decays, by the released codes."""
    params = {name: asked(name, OPTIMISERS[name][0])[1] for name in ("msn", "byol", "moco_v2", "barlow_twins", "dino")}
    msn = params["msn"]
    assert (msn.momentum, msn.momentum_end, msn.momentum_schedule, msn.decay_prototypes) == (
        0.996,
        0.9992,
        "linear",
        False,
    )
    assert (params["byol"].momentum, params["byol"].momentum_end, params["byol"].momentum_schedule) == (
        0.996,
        1.0,
        "cosine",
    )
    assert (params["moco_v2"].momentum, params["moco_v2"].momentum_end) == (0.999, 0.999)
    assert params["barlow_twins"].bias_rate_factor == pytest.approx(0.0048 / 0.2)
    assert params["dino"].clip == 3.0
    assert [asked("swav", batch)[1].queue for batch in (256, 1023, 1024, 4096)] == [3840, 3840, 0, 0]


def test_msn_leaves_its_prototypes_undecayed_and_unclipped() -> None:
    _, _, train = asked("msn", 1024)
    method = build("msn", decay_prototypes=False)
    optimizer = build_optimizer(method, train, method.parameter_groups())
    groups = [group for group in optimizer.param_groups if any(p is method.prototypes.weight for p in group["params"])]
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.0)]
    clipped = {id(p) for p in method.clipped_parameters()}
    assert id(method.prototypes.weight) not in clipped
    assert {id(p) for p in method.backbone.parameters()} <= clipped


def test_msn_s_schedules_end_after_a_run_and_a_quarter() -> None:
    """Half a cosine over 1.25 times the steps, seen at 0, 60 and 100 % of the training."""
    _, params, train = asked("msn", 1024)
    setup = Setup(RunRow(name="x", method="msn", labels="none"), 0, IMAGE, train, params, Compute("cpu", "fp32", 1))
    rates = setup.rates(1024 * STEPS)
    optimizer = build_optimizer(nn.Linear(2, 2, bias=False), train)
    warmup = 15 * STEPS
    for share in (0.0, 0.6, 1.0):
        step = round(share * rates.steps)
        rate = set_rates(optimizer, rates, step, rates.steps)
        if step >= warmup:
            left = (1 + math.cos(math.pi * (step - warmup) / (1.25 * rates.steps - warmup))) / 2
            assert rate == pytest.approx(1e-3 * (1e-3 + (1 - 1e-3) * left))
        decay = 0.4 - 0.36 * (1 + math.cos(math.pi * step / (1.25 * rates.steps))) / 2
        assert optimizer.param_groups[0]["weight_decay"] == pytest.approx(decay)


def test_a_run_s_own_values_win_over_the_recipe_and_the_recipe_over_train() -> None:
    byol = load_class("methods", "byol", Method, "").Params
    own = byol(recipe="paper", weight_decay=0.5, momentum=0.9, views={"flip": False, "blur": [0.3, 0.4]})
    train = own.applied_to(TrainParams.model_validate(TINY.model_dump() | ODD))
    assert (train.weight_decay, train.optimizer, train.momentum) == (0.5, "lars", 0.9)
    assert own.with_recipe(256).momentum == 0.9
    probability = {change.name: change.probability for change in train.views[1:]}
    assert (probability["flip"], probability["blur"], probability["solarize"]) == (0.0, (0.3, 0.4), (0.0, 0.2))
    apart = byol(views={"grey": 0.3}, optimizer_momentum=0.8).applied_to(
        TrainParams.model_validate(TINY.model_dump() | ODD)
    )
    assert (apart.views.grey, apart.views.jitter, apart.momentum) == (0.3, 0.11, 0.8)
    assert torch.is_tensor(build("byol").backbone.convolution.weight)
