"""Sizes of presets for few images: what a small folder cannot meet is smaller, and a large folder changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.projects.contents import params_text
from pipeline.projects.init import make_project
from pipeline.projects.presets import load_preset, preset_names
from pipeline.projects.sizes import (
    FEWEST_BY_DEFAULT,
    TRAIN_OF_ALL,
    TRAIN_OF_NAMED,
    expected_train_images,
    fit_to_images,
)
from reprise.config.params import read_yaml
from stages.check.parameters import problems
from stages.ingest.look import look
from stages.ingest.params import SourceParams
from stages.validate.params import ValidateParams

OF_PHOTOS_AND_VOLUMES = [name for name in preset_names() if "name: folder" in load_preset(name).text]


def test_what_is_expected_follows_the_defaults_of_ingest_and_validation() -> None:
    fractions = {name: SourceParams.model_fields[name].default for name in ("val_fraction", "test_fraction")}
    assert pytest.approx(1 - fractions["val_fraction"]) == TRAIN_OF_NAMED
    assert pytest.approx(TRAIN_OF_NAMED * (1 - fractions["test_fraction"])) == TRAIN_OF_ALL
    assert ValidateParams().min_train_images == FEWEST_BY_DEFAULT


@pytest.mark.parametrize("name", ["photos-labelled", "photos-unlabelled", "volumes"])
@pytest.mark.parametrize("expected", [1, 20, 150, 1_000_000])
def test_a_project_asks_for_no_more_than_there_is(name: str, expected: int) -> None:
    preset = load_preset(name)
    fitted, said = fit_to_images(preset, expected)
    raw, before = (YAML(typ="safe").load(params_text(p, Path("/images"))) for p in (fitted, preset))
    assert problems(raw) == []
    batch = raw["train"]["batch_size"]
    assert batch in (2**power for power in range(3, 11))
    assert batch == 8 or batch <= expected / 4
    assert batch <= before["train"]["batch_size"]
    fewest = raw["validate"].get("min_train_images", FEWEST_BY_DEFAULT)
    assert fewest <= max(1, expected / 2)
    if expected == 1_000_000:
        assert (fitted, said) == (preset, [])
    else:
        assert f"about {expected} images" in said[0]
        assert f"{expected} images expected in train" in fitted.text
    raw["train"]["batch_size"], raw["validate"] = before["train"]["batch_size"], before["validate"]
    assert raw == before


def test_the_presets_are_those_of_photos_and_volumes() -> None:
    assert {"photos-labelled", "photos-unlabelled", "volumes"} <= set(OF_PHOTOS_AND_VOLUMES)
    shown = {"pictures": 100, "volumes": 10, "named_train": 0}
    assert expected_train_images(load_preset("photos-unlabelled"), shown) == 72
    assert expected_train_images(load_preset("photos-labelled"), shown | {"named_train": 50}) == 45
    assert expected_train_images(load_preset("volumes"), shown) == 7
    assert expected_train_images(load_preset("films"), shown) is None
    assert expected_train_images(load_preset("photos-labelled"), shown | {"pictures": 0}) is None


@pytest.mark.parametrize("named", [None, "photos-labelled"])
def test_init_counts_the_files_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None) -> None:
    for split, count in (("train", 24), ("test", 8)):
        for i in range(count):
            path = tmp_path / "images" / split / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    monkeypatch.setattr("pipeline.projects.chosen.capture", lambda command, cwd: json.dumps(look(Path(command[-1]))))
    made = make_project(tmp_path / "new", named, tmp_path / "images")
    assert "about 21 images are expected in train, so train.batch_size is 8 and validate.min_train_images is 10" in (
        made.lines
    )
    raw = read_yaml(tmp_path / "new/params.yaml")
    assert (raw["train"]["batch_size"], raw["validate"]) == (8, {"min_train_images": 10})
