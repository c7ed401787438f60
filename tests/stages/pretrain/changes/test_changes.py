"""Lists of changes: how parameters state them, one distribution on every path, and what is told of the draws."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import ParameterError, TrainingError
from reprise.config.params import ImageParams, problems_of, read_yaml
from reprise.config.plug_ins import registry
from reprise.config.plug_ins.registry import load_class, names
from reprise.media.lookup import IMAGE
from reprise.runtime.device import Compute
from reprise.storage.atomic import write_json
from reprise.training.change import Change, Cut, Frame
from reprise.training.params import TrainParams, ViewParams
from reprise.training.views import build_change, changes_named, merged_views, typed_change, typed_views
from stages.check.parameters import problems
from stages.pretrain.method import Batch
from stages.pretrain.methods.contrastive import simclr
from stages.pretrain.views import device
from stages.pretrain.views.batched import made_view
from stages.pretrain.views.draws import draw_view, draw_views, frame_of
from stages.pretrain.views.make import BatchedViews, SingleViews
from stages.pretrain.views.per_image import PerImageViews
from stages.pretrain.views.settings import ViewSettings, by_view, describe_settings, resolve_views
from stages.pretrain.views.short import standard_changes
from stages.pretrain.views.staged import StagedViews
from tests.stages.pretrain.conftest import TINY
from tests.stages.pretrain.test_run import run

SIDE = 24
NUMBERS = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
SUGGESTED = {"crop_scale_min": 0.3, "flip": False, "jitter": 0.4, "grey": 0.0, "blur": 0.0, "solarize": 0.0}
# Options at which a change shows; the defaults where nothing is said.
OPTIONS: dict[str, dict[str, Any]] = {"solarize": {"probability": 0.5}}
CLASSES: dict[str, type[Change]] = {name: load_class("changes", name, Change, "") for name in names("changes")}
CHANGES = [name for name, change in CLASSES.items() if IMAGE in change.modalities and not issubclass(change, Cut)]
DIFFER: dict[str, float] = {}  # share of values that may differ between two forms of one change, and why: see there


def built(name: str) -> Any:
    return build_change(typed_change({"name": name, **OPTIONS.get(name, {})}))


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """(32, 24, 24, 3) smooth and coloured."""
    coarse = np.random.default_rng(0).integers(0, 256, (32, 5, 5, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((SIDE, SIDE), 3)) for c in coarse])


def settings_of(*changes: Any, size: int = SIDE) -> ViewSettings:
    return ViewSettings(size, 3, **NUMBERS, changes=changes)


# ---------------------------------------------------------------------------------------------- each change
@pytest.mark.parametrize("name", CHANGES)
def test_both_forms_have_one_distribution(photos, name):
    """Moments of images changed by either path, and the share of images that are changed, agree."""
    settings, rows = settings_of(built(name)), np.tile(np.arange(32), 24)
    rng = torch.Generator().manual_seed(0)
    drawn = draw_view(frame_of(len(rows), SIDE, SIDE), settings, rng)
    ours = made_view(torch.from_numpy(photos[rows]), settings, drawn)
    theirs, noted = PerImageViews(lambda i: photos[i], settings, threads=1).with_draws(rows, 0, "views")
    kept = drawn.by_name(settings)[name]
    assert {key: value.shape for key, value in kept.items()} == {k: v.shape for k, v in noted[name].items()}
    share = 4 * (0.5 / len(rows)) ** 0.5 + 1e-9
    assert abs(float(kept["applied"].float().mean() - noted[name]["applied"].float().mean())) <= share
    for statistic in (mean, spread, chroma, edges):
        a, b = statistic(ours), statistic(theirs)
        error = float(a.var() / len(a) + b.var() / len(b)) ** 0.5
        assert abs(float(a.mean() - b.mean())) < 4 * error + 0.6 / 255, statistic.__name__


def mean(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=(1, 2, 3))


def spread(x: torch.Tensor) -> torch.Tensor:
    return x.std(dim=(1, 2, 3))


def chroma(x: torch.Tensor) -> torch.Tensor:
    return (x.amax(1) - x.amin(1)).mean(dim=(1, 2))


def edges(x: torch.Tensor) -> torch.Tensor:
    return x.diff(dim=3).abs().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_its_promises(photos, name):
    """Images that are not drawn stay; values lie in [0, 1]; the same draws give the same pixels in the GPU's form."""
    change, images = built(name), torch.from_numpy(photos)
    x = images.permute(0, 3, 1, 2).float() / 255
    frame = Frame(32, SIDE, SIDE, SIDE, 3)
    drawn = change.draw(frame, torch.Generator().manual_seed(1))
    again = change.draw(frame, torch.Generator().manual_seed(1))
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)
    drawn["applied"] = torch.arange(32) % 2 == 0
    assert all(len(value) == 32 for value in drawn.values())
    plain = change.apply(x.clone(), change.prepared(drawn))
    assert torch.equal(plain[1::2], x[1::2])
    assert not torch.equal(plain[::2], x[::2])
    assert 0.0 <= float(plain.min()) <= float(plain.max()) <= 1.0 + 1e-6
    on_gpu = change.apply_on_gpu(x.clone(), change.prepared_for_gpu(drawn))
    torch.testing.assert_close(on_gpu, plain, atol=2e-5, rtol=0)
    settings = by_view([settings_of(change)] * 2)
    draws = draw_views(32, SIDE, SIDE, settings, [torch.Generator().manual_seed(v) for v in range(2)])
    together = device.views_on_device(images, settings, draws)
    for view, s, own in zip(together, settings, draws, strict=True):
        torch.testing.assert_close(view, made_view(images, s, own), atol=5e-5, rtol=0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_made_in_half_precision(photos, name):
    """Large views of a GPU consist of halves."""
    change = built(name)
    x = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
    drawn = change.draw(Frame(32, SIDE, SIDE, SIDE, 3), torch.Generator().manual_seed(1))
    drawn["applied"] = torch.ones(32, dtype=torch.bool)
    whole = change.apply_on_gpu(x.clone(), change.prepared_for_gpu(drawn))
    half = change.apply_on_gpu(x.half(), change.prepared_for_gpu(drawn))
    assert half.dtype == torch.float16
    assert float((half.float() - whole).abs().mean()) < 2 / 255


def test_a_list_without_a_cut_shows_the_whole_image(photos):
    settings = settings_of(size=12)
    tall = torch.from_numpy(np.repeat(photos, 2, axis=1))
    drawn = draw_view(frame_of(32, 48, 24), settings, torch.Generator())
    assert drawn.by_name(settings)["whole"]["boxes"][0].tolist() == [0, 0, 48, 24]
    ours = made_view(tall, settings, drawn)
    theirs = PerImageViews(lambda i: tall[i].numpy(), settings, 1)(range(32), 0)
    torch.testing.assert_close(ours, theirs, atol=1.01 / 255, rtol=0)


def test_a_flip_that_does_not_follow_the_cut_is_the_same_flip(photos):
    flip, crop, grey = built("flip"), typed_change("crop"), built("grey")
    drawn = draw_view(frame_of(32, SIDE, SIDE), settings_of(build_change(crop), flip), torch.Generator().manual_seed(0))
    at_once = made_view(torch.from_numpy(photos), settings_of(build_change(crop), flip), drawn)
    off = {"applied": torch.zeros(32, dtype=torch.bool)}
    later = settings_of(build_change(crop), grey, flip)
    moved = type(drawn)(drawn.boxes, (off, drawn.changes[0]), drawn.cut)
    torch.testing.assert_close(made_view(torch.from_numpy(photos), later, moved), at_once, atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------------------- what was drawn
class Photos:
    """What the paths read images from."""

    channels = 3

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.sizes = images, np.array([[SIDE, SIDE]] * len(images))

    def image(self, i: int) -> np.ndarray:
        return self.images[i]


def test_every_path_tells_what_it_drew(photos):
    short = standard_changes({"crop_scale_min": 0.2, "flip": True, "jitter": 1.0, "grey": 0.2, "blur": (1.0, 0.0)})
    plan, rows, cpu = by_view([settings_of(*short)] * 2), np.arange(20), Compute("cpu", "fp32", 1)
    source: Any = Photos(photos)
    found = [
        BatchedViews(photos, plan, 7, "cpu", keep_drawn=True)(rows, 1, 2),
        StagedViews(source, plan, 7, cpu, keep_drawn=True)(rows, 1, 2),
        SingleViews(source, plan, 7, 1, keep_drawn=True)(rows, 1, 2),
    ]
    assert not BatchedViews(photos, plan, 7, "cpu")(rows, 1, 2).drawn
    for made in found:
        assert list(made.drawn[0]) == ["crop", "flip", "colour", "grey", "blur"]
        assert list(made.drawn[1]) == ["crop", "flip", "colour", "grey"]  # it is never blurred
        assert made.drawn[0]["crop"]["boxes"].shape == (20, 4)
        assert made.drawn[0]["colour"]["order"].shape == (20, 4)
        assert made.drawn[0]["blur"]["applied"].all()
    same = [torch.equal(a, found[1].drawn[0]["crop"][k]) for k, a in found[0].drawn[0]["crop"].items()]
    assert same == [True]
    crops = settings_of(*short[:2])  # the boxes that the path of single images notes are those that it cut
    view, drawn = PerImageViews(source.image, crops, 1).with_draws(rows, 3)
    draws = draw_view(frame_of(20, SIDE, SIDE), crops, torch.Generator())
    noted = type(draws)(drawn["crop"]["boxes"].float(), (drawn["flip"],), drawn["crop"])
    torch.testing.assert_close(made_view(torch.from_numpy(photos[:20]), crops, noted), view, atol=1.01 / 255, rtol=0)


def test_a_method_reads_draws_only_where_it_says_so(digits, monkeypatch):
    met: list[Batch] = []
    step = simclr.SimCLR.step

    def noting(self, batch):
        met.append(batch)
        return step(self, batch)

    monkeypatch.setattr(simclr.SimCLR, "step", noting)
    with pytest.raises(KeyError, match="needs_drawn"):
        _ = Batch([], torch.arange(2)).drawn
    monkeypatch.setattr(simclr.SimCLR, "needs_drawn", True)
    run("simclr", "with", train=TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0}))
    assert met[0].drawn[1]["crop"]["boxes"].shape == (len(met[0].rows), 4)
    assert "colour" in met[0].drawn[0]


# ---------------------------------------------------------------------------------------------- parameters
def wrong(views: Any) -> list[tuple[str, str]]:
    raw = TINY.model_dump() | {"views": views}
    return [(p.path, f"{p.rule}.{p.hint}") for p in problems_of(TrainParams, raw, "train")]


@pytest.mark.parametrize(
    ("views", "path", "words"),
    [
        (["crop", "flipp"], "train.views[1].name", "Did you mean 'flip'?"),
        (["crop", {"name": "blur", "sigma": 2}], "train.views[1].sigma", "unknown parameter"),
        (
            ["crop", {"name": "grey", "probability": 2.0}],
            "train.views[1].probability",
            "must be a probability from 0 to 1, or a list",
        ),
        (["flip", "crop"], "train.views[1].name", "a cut stands first"),
        (["crop", "flip", "flip"], "train.views[2].name", "listed once"),
        (["crop", 3], "train.views[1]", "block with a name"),
        ([{"name": "crop", "scale_min": 0.9, "scale_max": 0.3}], "train.views[0]", "is above scale_max"),
        ("crop", "train.views", "a list of changes"),
        ({"jiter": 0.3}, "train.views.jiter", "Did you mean 'jitter'?"),
        ({"also": ["blur"]}, "train.views.also[0].name", "Set `blur` instead"),
        ({"also": ["blurr"]}, "train.views.also[0].name", "Did you mean 'blur'?"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named_at_its_place(views, path, words):
    found = wrong(views)
    assert [place for place, _ in found] == [path]
    assert words in found[0][1]


def test_a_list_is_checked_with_the_file(repository: Path):
    raw = read_yaml(repository / "params.yaml")
    raw["train"]["views"] = ["crop", "flip", {"name": "colour", "strength": 0.5, "saturation": 0.1}]
    raw["methods"]["simclr"]["views"] = ["crop", {"name": "blur", "probability": [1.0, 0.1]}]
    assert problems(raw) == []
    raw["methods"]["simclr"]["views"][1]["name"] = "blurry"
    assert [(p.path, "Did you mean 'blur'?" in p.hint) for p in problems(raw)] == [
        ("methods.simclr.views[1].name", True)
    ]


def resolved(views: Any, channels: int = 3) -> ViewSettings:
    image = ImageParams(size=16, channels=channels)
    return resolve_views(typed_views(views), Path("views.json"), image, (0.5,) * channels, (0.2,) * channels)


def test_short_settings_and_a_list_can_say_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json("views.json", SUGGESTED)
    short = resolved({"flip": True, "blur": [1.0, 0.1]})
    listed = resolved(
        [
            {"name": "crop", "scale_min": 0.3},
            "flip",
            {"name": "colour", "strength": 0.4},
            {"name": "blur", "probability": [1.0, 0.1]},
        ]
    )
    assert short == listed
    assert describe_settings(listed)["blur"] == (1.0, 0.1)
    assert "changes" not in describe_settings(listed)
    uneven = resolved(["crop", {"name": "colour", "contrast": 0.1}])
    assert [block["name"] for block in describe_settings(uneven)["changes"]] == ["crop", "colour"]
    assert resolved([]).changes == ()


def test_a_run_replaces_a_list_or_parts_of_it():
    below = typed_views(["crop", {"name": "colour", "strength": 0.4}, "blur"])
    assert merged_views(below, typed_views(["flip"]), "views") == typed_views(["flip"])
    merged = typed_views(merged_views(below, ViewParams(jitter=1.0, saturation=0.2, blur=0.0), "views"))
    assert [params.name for params in merged] == ["crop", "colour", "blur"]
    assert (merged[1].strength, merged[1].saturation, merged[2].probability) == (1.0, 0.2, 0.0)
    assert merged_views(below, ViewParams(solarize=0.0), "views") == [dict(params) for params in below]
    with pytest.raises(ParameterError, match=r"views\.solarize: the list of changes .* has no `solarize`"):
        merged_views(below, ViewParams(solarize=0.2), "views")
    assert merged_views(ViewParams(jitter=0.3), {"blur": 0.1}, "views") == {"jitter": 0.3, "blur": 0.1}


def test_changes_of_colours_need_colours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json("views.json", SUGGESTED)
    with pytest.raises(TrainingError, match="`grey` is made of red, green and blue"):
        resolved(["crop", "grey"], channels=5)
    assert [change.params.name for change in resolved(["crop", "grey"], channels=1).changes] == ["crop"]


# -------------------------------------------------------------------------------------------------- plug-ins
def test_the_documented_change_trains_like_one_of_ours(digits, repository):
    page = (repository / "docs/how-to/views.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1)
    file = digits / "plugins/changes/stripes.py"
    file.parent.mkdir(parents=True)
    file.write_text(code, encoding="utf-8")
    assert "stripes" in names("changes")
    raw = read_yaml(repository / "params.yaml")
    raw["methods"]["simclr"]["views"] = {"also": [{"name": "stripes", "every": 3}]}
    assert problems(raw) == []
    raw["methods"]["simclr"]["views"]["also"][0]["every"] = 1
    assert [p.path for p in problems(raw)] == ["methods.simclr.views.also[0].every"]
    once = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})
    config = read_config(run("simclr", "b", train=once, views=["crop", {"name": "stripes", "probability": [0.0, 1.0]}]))
    assert [view["also"][0]["probability"] for view in config["view_plan"]] == [0.0, 1.0]


def test_without_a_change_only_what_names_it_is_refused(tmp_path, monkeypatch):
    """As if `solarize` were deleted: the default list never needs it."""
    monkeypatch.chdir(tmp_path)
    write_json("views.json", SUGGESTED)
    found = registry._found

    def without(kind):
        return {name: plug_in for name, plug_in in found(kind).items() if (kind, name) != ("changes", "solarize")}

    monkeypatch.setattr(registry, "_found", without)
    assert len(resolved({}).changes) == 2
    assert changes_named(ViewParams()) == ["crop", "flip", "colour", "grey", "blur"]
    with pytest.raises(ParameterError, match=r"solarize: must be one of affine, blur, "):
        resolved({"solarize": 0.2})
