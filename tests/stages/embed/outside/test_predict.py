"""Predictions for a folder: every file has one row, the right class, and no file ends the rest."""

from __future__ import annotations

import csv
import io
import os

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from reprise.artifacts import layout
from reprise.config.errors import ParameterError, ResultError
from stages.embed.outside.predict import COLUMNS, Bank, _name, main, predict, read_bank, table_writer
from tests.reprise.backbones.test_forms import run_of

RUN = layout.run("simclr", 0)


def picture(shade: int, number: int) -> np.ndarray:
    noise = np.random.default_rng(number).integers(-20, 21, (24, 24, 3))
    return np.clip(shade + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def bank(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout.run("simclr", 0).parent.mkdir(parents=True)
    backbone = run_of(layout.run("simclr", 0), "resnet_tiny", 16)
    labels = np.arange(40) % 2
    features = backbone(backbone.prepare([picture(40 + 170 * int(label), i) for i, label in enumerate(labels)])).numpy()
    names = [f"train/{i}.png" for i in range(32)]
    return Bank(features[:32], labels[:32], names, ["dark", "light"], (features[32:], labels[32:]))


@pytest.mark.parametrize("head", ["knn", "linear"])
def test_every_file_has_a_row(bank, tmp_path, head):
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(picture(40, 100 + number)).save(folder / f"dark {number}.png")
        Image.fromarray(picture(210, 100 + number)).save(folder / "deep" / f"light {number}.jpg")
    (folder / "=1+1.png").write_text("no image")
    (folder / ".hidden.png").write_text("left out")
    os.mkfifo(folder / "pipe.png")
    file = io.StringIO()
    assert predict(folder, RUN, bank, head, table_writer(file)) == (6, 2)
    header, *rows = csv.reader(io.StringIO(file.getvalue()))
    assert tuple(header) == COLUMNS
    assert [row[0] for row in rows] == [
        "'=1+1.png", "dark 0.png", "dark 1.png", "dark 2.png", "pipe.png", *(f"deep/light {i}.jpg" for i in range(3)),
    ]  # fmt: skip
    told = {row[0]: row for row in rows if not row[5]}
    assert len(told) == 6
    for name, (_, predicted, confidence, nearest, similarity, _) in told.items():
        assert predicted in name
        assert 0.5 < float(confidence) <= 1.0
        assert int(nearest.removeprefix("train/").removesuffix(".png")) % 2 == (predicted == "light")
        assert float(similarity) > 0.9
    refused = [row for row in rows if row[5]]
    assert all(row[1:5] == [""] * 4 for row in refused)
    assert len(refused) == 2


def test_a_linear_head_needs_val_images_and_a_folder_must_exist(bank, tmp_path):
    none = Bank(bank.features, bank.labels, bank.names, bank.classes, (bank.features[:0], bank.labels[:0]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="there are none"):
        predict(tmp_path / "empty", RUN, none, "linear", print)
    with pytest.raises(ParameterError, match="there is no such folder"):
        main(["--run", "simclr", "--seed", "0", "--data", "nowhere", "--out", "found.csv"])
    with pytest.raises(ResultError, match="has not been trained and embedded"):
        read_bank("simclr", 1)
    assert predict(tmp_path / "empty", RUN, bank, "knn", print) == (0, 0)


def test_an_image_of_an_archive_is_named_by_its_key():
    table = pa.table({"key": ["k", "l"], "path": ["data/ingest/images.tar", "photos/a.jpg"]})
    assert [_name(row) for row in table.to_pylist()] == ["k", "photos/a.jpg"]


def test_a_backbone_for_volumes_is_refused_in_a_sentence(bank, tmp_path):
    run_of(tmp_path / "solids", "resnet3d_tiny", 16, channels=1)
    with pytest.raises(ParameterError, match="predictions are made for files of images only"):
        predict(tmp_path, tmp_path / "solids", bank, "knn", print)
