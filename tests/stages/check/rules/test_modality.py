"""Volumes against what params.yaml names: each plug-in declares its kinds, and the rest is a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import load_class, names
from reprise.media.lookup import IMAGE, NAMES, VOLUME
from stages.check.code import modules_by_file
from stages.check.parameters import problems
from stages.check.rules.modality import modality_of_source
from stages.pretrain.method import Method

TAKES_VOLUMES = {
    name
    for name in names("methods")
    if VOLUME in load_class("methods", name, Method, "").modalities  # type: ignore[type-abstract]
}


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    """A project of volumes: one untrained and one trained network of three dimensions."""
    found = read_yaml(repository / "params.yaml")
    found["source"] = {"name": "folder", "root": "data/images", "modality": VOLUME}
    found |= {table: [] for table in ("features", "mines", "models", "adapt", "checks", "shifts", "shift_suites")}
    found |= {"model_options": {}, "extractors": {}, "mining": {}}
    found["runs"] = [{"name": n, "method": n, "labels": "none"} for n in ("random", "simclr")]
    found["methods"] = {"random": {}, "simclr": {}}
    found["train"] |= {"backbone": "resnet3d_tiny"}
    found["image"] = {"size": 16, "channels": 1}
    return found


def said(raw: dict[str, Any]) -> list[str]:
    return [f"{problem.path}: {problem.rule}" for problem in problems(raw)]


def test_a_project_of_volumes_is_valid_and_depends_on_the_code_of_its_changes(raw: dict[str, Any]) -> None:
    assert said(raw) == []
    modules = dict(modules_by_file(raw))["pretrain/simclr"]
    assert "stages.pretrain.changes.volume_crop" in modules
    assert "stages.pretrain.changes.crop" not in modules
    raw["source"].pop("modality")
    assert modality_of_source(raw) == IMAGE
    assert said(raw) == ["train.backbone: the backbone resnet3d_tiny does not see images"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": {"backbone": "resnet_tiny"}}, "train.backbone: the backbone resnet_tiny does not see volumes"),
        ({"train": {"backbone": "resnet18"}}, "train.backbone: the backbone resnet18 does not see volumes"),
        ({"train": {"views": {"jitter": 1.0}}}, "train.views.jitter: the short settings of views change images"),
        ({"train": {"views": ["crop"]}}, "train.views: the change `crop` is not made for volumes"),
        ({"methods": {"simclr": {"recipe": "paper"}}}, "methods.simclr.views: the change `crop` is not made"),
        ({"embed": {"bag": 4}}, "embed.bag: volumes are embedded whole"),
        ({"checks": [{"run": "simclr", "seed": 0, "group": "dense"}]}, "checks[0].group: this is made for images"),
        ({"shifts": [{"name": "fog", "shift": "fog"}]}, "shifts: fog: this is made for images"),
    ],
)
def test_what_is_made_for_images_is_named(raw: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    for section, values in changes.items():
        if isinstance(values, dict):
            raw[section] |= values
        else:
            raw[section] = values
    assert any(expected in line for line in said(raw)), said(raw)


def test_the_declaration_of_a_method_decides(raw: dict[str, Any]) -> None:
    assert {"simclr", "byol", "vicreg", "barlow_twins", "supervised", "random"} <= TAKES_VOLUMES
    assert not {"simmim", "msn", "patch_kmeans", "dino", "clip"} & TAKES_VOLUMES
    raw["runs"].append({"name": "dino", "method": "dino", "labels": "none"})
    raw["methods"]["dino"] = {}
    assert any("runs: dino: method: method 'dino' is not made for volumes" in line for line in said(raw))


def test_extractors_and_trained_models_are_asked_too(raw: dict[str, Any]) -> None:
    raw["features"] = [{"name": "pixels", "extractor": "pixels"}, {"name": "patches", "extractor": "patches"}]
    raw["extractors"] = {"pixels": {}, "patches": {}}
    found = [line for line in said(raw) if line.startswith("features")]
    assert found == ["features[1].extractor: this is made for images, and source.modality is volume"]


@pytest.mark.parametrize(
    ("option", "match"), [({"pages": "all"}, "has no pages"), ({"near_copies": "keep_one"}, "are not looked for")]
)
def test_options_of_pictures_are_refused(raw: dict[str, Any], option: dict[str, str], match: str) -> None:
    raw["source"] |= option
    assert any(match in line for line in said(raw))


def test_the_parameter_lists_every_modality() -> None:
    from stages.ingest.params import SourceParams

    for name in NAMES:
        assert SourceParams(name="folder", modality=name).modality == name
    with pytest.raises(ValueError, match="image.*volume"):
        SourceParams(name="folder", modality="smell")
