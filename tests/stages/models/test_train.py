"""Trained rows of `models`: a user's own kind, what is kept, what uses it, and what is refused."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.layout import features, model_of_features, trained_model, trained_models
from reprise.artifacts.shards import Shards
from reprise.config.errors import BackboneError
from reprise.config.params import read_yaml
from reprise.media.image.decode import decode
from reprise.media.image.transform import resize_to_square
from reprise.storage import work_folder
from reprise.storage.work_folder import file_digest
from stages.check.code import modules_by_file
from stages.check.parameters import problems
from stages.mine import features as features_stage
from stages.models import train
from tests.workspace import make_shards

KIND = '''"""`brightness`: the mean of the pixels, times a gain. Nothing is learned but the mean over all images."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.training.model import Model, TrainedModel


class Params(StrictModel):
    """Parameters of `brightness`."""

    gain: Annotated[float, Field(gt=0), meaning("Codes are multiplied by this.")] = 1.0


class Brightness(Model):
    """One number an image."""

    Params = Params

    def build(self, channels):
        return torch.nn.BatchNorm1d(1, affine=False)

    def train(self, images, work):
        with Path("trained.txt").open("a") as file:
            file.write(f"{self.params.gain} {self.seed}\\n")
        network = self.build(images.shape[3])
        network.running_mean.fill_(float(np.asarray(images).mean()))
        return TrainedModel(network.eval(), [{"epoch": 1, "loss": 0.5}], ["as told"])

    def codes(self, network, images):
        mean = np.asarray(images).mean(axis=(1, 2, 3))[:, None] - network.running_mean.numpy()
        return (self.params.gain * mean).astype(np.float32)
'''
LIGHT = {"name": "light", "model": "brightness", "on": "images"}


@pytest.fixture
def raw(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parameters of the repository with a user's own kind of model, and shards of 160 digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRISE_THREADS", "1")
    # Reading the code of all these modules takes a second in a new folder; their names stand in for it.
    monkeypatch.setattr(work_folder, "fingerprint", lambda modules: {name: {} for name in modules})
    make_shards()
    Path("plugins/models").mkdir(parents=True)
    Path("plugins/models/brightness.py").write_text(KIND)
    found = copy.deepcopy(read_yaml(repository / "params.yaml"))
    found["models"], found["model_options"] = [dict(LIGHT)], {"light": {"gain": 2.0}}
    found["features"] = [{"name": "codes", "extractor": "model"}, {"name": "plain", "extractor": "pixels"}]
    found["extractors"] = {"codes": {"model": "light"}, "plain": {}}
    found["mines"], found["mining"] = [], {}
    found["runs"] = [row for row in found["runs"] if row["labels"] != "dae_kmeans"]
    del found["methods"]["gsimclr"]
    return found


def run(raw: dict[str, Any], seed: int = 0, *options: str) -> None:
    with Path("params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(raw, file)
    train.main(["--seed", str(seed), *options])


def trainings() -> list[str]:
    return Path("trained.txt").read_text().splitlines()


def test_a_users_kind_is_trained_and_describes_the_images(raw) -> None:
    assert [str(problem) for problem in problems(raw)] == []
    run(raw)
    folder = trained_model("light", 0)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "metrics.json", "model.safetensors"]
    assert json.loads((folder / "metrics.json").read_text()) == {"history": [{"epoch": 1, "loss": 0.5}]}
    config = json.loads((folder / "config.json").read_text())
    assert config["parameters"] == {"gain": 2.0}
    assert config["notes"] == ["as told"]
    assert json.loads((model_of_features("plain", 0) / "used.json").read_text()) == {"model": None}
    assert file_digest(model_of_features("codes", 0) / "model.safetensors") == file_digest(folder / "model.safetensors")
    features_stage.main(["--name", "codes", "--seed", "0"])
    keys, _, codes = read_embeddings(features("codes", 0) / "embeddings.parquet")
    shards = Shards.open()
    rows = shards.rows("train")
    means = np.array([decode(shards.read(row), "", 3).mean() for row in rows])
    assert keys.tolist() == shards.keys[rows].tolist()
    np.testing.assert_allclose(codes[:, 0], 2 * (means - means.mean()), atol=1e-3)


def test_only_what_changed_is_trained_again(raw) -> None:
    run(raw)
    before = file_digest(trained_models(0))
    raw["features"].append({"name": "more", "extractor": "model"})
    raw["extractors"]["more"] = {"model": "light"}
    run(raw)
    assert trainings() == ["2.0 0"]  # a new row of features trains nothing
    assert file_digest(model_of_features("more", 0)) == file_digest(model_of_features("codes", 0))
    raw["models"].append({"name": "bright", "model": "brightness"})
    raw["model_options"]["bright"] = {"gain": 3.0}
    run(raw)
    run(raw, 1)
    assert trainings() == ["2.0 0", "3.0 0", "2.0 1", "3.0 1"]
    del raw["features"][-1], raw["extractors"]["more"], raw["models"][-1], raw["model_options"]["bright"]
    run(raw)
    assert file_digest(trained_models(0)) == before  # taken from what was kept
    shutil.rmtree(".reprise/trained")
    run(raw)
    assert file_digest(trained_models(0)) == before  # and the same to the byte when it is trained again
    run(raw, 0, "--restart")
    assert trainings()[4:] == ["2.0 0"] * 2


def test_the_autoencoder_shows_what_it_restores(raw) -> None:
    raw["models"], raw["model_options"] = [{"name": "dae", "model": "autoencoder"}], {"dae": {"epochs": 1}}
    raw["extractors"]["codes"] = {"model": "dae"}
    run(raw)
    folder = trained_model("dae", 0)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["squared_error"]) == {"train", "val"}
    assert 0 < metrics["squared_error"]["val"] < 1
    picture = decode((folder / "reconstructions.png").read_bytes(), "", 3)
    assert picture.shape == (32, 16 * 16, 3)  # 16 images of 16 pixels above, restored below
    shards = Shards.open()
    stored = [resize_to_square(decode(shards.read(row), "", 3), 16) for row in shards.rows("val")]
    assert any((picture[:16, :16] == image).all() for image in stored)  # val, which it has not seen


def test_without_trained_models_there_are_notes_only(raw) -> None:
    raw["models"], raw["model_options"] = [], {}
    raw["extractors"]["codes"] = {"model": "light"}
    assert [p.path for p in problems(raw)] == ["extractors.codes.model"]
    raw["features"], raw["extractors"] = raw["features"][1:], {"plain": {}}
    assert problems(raw) == []
    run(raw)
    assert sorted(p.name for p in Path("data/trained/0").rglob("*")) == ["features", "models", "plain", "used.json"]


def test_features_without_their_model_are_refused_with_a_sentence(raw) -> None:
    run(raw)
    shutil.rmtree(trained_models(0))
    with pytest.raises(BackboneError, match="dvc repro train_models"):
        features_stage.main(["--name", "codes", "--seed", "0"])


def test_features_depend_on_the_code_of_their_kind_and_on_no_other(raw) -> None:
    modules = dict(modules_by_file(raw))
    assert "plugins.models.brightness" in modules["features/codes"]
    assert "plugins.models.brightness" in modules["train_models"]
    assert "reprise.training.models.autoencoder" not in modules["train_models"]
    assert modules["features/plain"] == ["stages.mine.features", "stages.mine.extractors.pixels"]
    assert "plugins.models.brightness" not in modules["models"]


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        (lambda r: Path("plugins/models/brightness.py").unlink(), "models[0].model", "unknown model"),
        (lambda r: r["models"][0].update(model="brightnes"), "models[0].model", "Did you mean 'brightness'"),
        (lambda r: r["models"][0].update(weights="timm:resnet18"), "models[0]", "either `weights` from elsewhere or"),
        (lambda r: r["models"].append({"name": "x"}), "models[1]", "either `weights` from elsewhere or"),
        (lambda r: r["models"][0].update(size=32), "models[0]", "size belong to `weights`"),
        (
            lambda r: r["models"].append({"name": "x", "weights": "timm:resnet18", "on": "images"}),
            "models[1]",
            "`on` b",
        ),
        (lambda r: r["models"][0].update(on="embed/simclr"), "models[0].on", "input should be 'images'"),
        (lambda r: r["models"].append(LIGHT), "models", "two rows may not have the same name"),
        (lambda r: r["model_options"]["light"].update(gain=-1.0), "model_options.light.gain", "greater than 0"),
        (lambda r: r["model_options"].update(ligth={}), "model_options.ligth", "belongs to no row of 'models'"),
        (lambda r: r["model_options"].pop("light"), "model_options.light", "row 0 of 'models' has no block"),
        (lambda r: r["model_options"].update(light=None), "model_options.light", "must be a block of parameters"),
        (lambda r: r.pop("model_options"), "model_options", "must hold one block per row of 'models'"),
        (lambda r: r["extractors"]["codes"].update(model="dae"), "extractors.codes.model", "Known: light"),
        (lambda r: r["runs"][-1].update({"from": "models/light"}), "runs[3].from", "a run starts from a backbone"),
    ],
)
def test_what_is_wrong_is_said_once_and_at_its_place(raw, change, path: str, rule: str) -> None:
    change(raw)
    found = problems(raw)
    assert [p.path for p in found] == [path], [str(p) for p in found]
    assert rule in str(found[0])
