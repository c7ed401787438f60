"""Images of five bands of 16 bits from files to embeddings: what is read, what views change, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.config.errors import ImageRefused, TrainingError, ValidationFailed
from reprise.config.params import ImageParams
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.media.image.readers.tiff.write import write_tiff
from reprise.media.image.thumbnail import contact_sheet, thumbnail
from reprise.networks.backbone import for_bands
from reprise.reading.decoded import open_decoded
from reprise.training.change import Frame
from reprise.training.params import ViewParams
from reprise.training.views import build_change
from stages.embed import augmented
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.mine.extractor import Extractor
from stages.mine.features import extract
from stages.pretrain.changes.colour import ColourParams
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from stages.pretrain.views.settings import resolve_views
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from stages.validate.bands import require_bands
from tests.reprise.media import tiff_files as t
from tests.stages.pretrain.conftest import TINY, write_label_set

BANDS, WHITE = 5, 1023
IMAGE = ImageParams(size=16, channels=BANDS)
VIEWS = ViewParams(crop_scale_min=0.3, flip=True, jitter=0.5, blur=0.5, solarize=0.2)


def picture(seed: int, side: int) -> np.ndarray:
    """(side, side, 5) uint16 of 10 bits."""
    return np.random.default_rng(seed).integers(0, WHITE + 1, (side, side, BANDS), dtype=np.uint16)


@pytest.fixture(params=[20, 80], ids=["views of batches", "views image by image"])
def multispectral(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The current folder becomes a workspace of 40 such images; returns their side in pixels."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "images"
    root.mkdir()
    for seed in range(40):
        (root / f"{seed:02d}.tif").write_bytes(t.simple(picture(seed, request.param), {t.PHOTOMETRIC: 1}))
    output = tmp_path / "data/ingest"
    output.mkdir(parents=True)
    ingest(Folder(root, Folder.Params()), SourceParams(name="folder", root=str(root)), output, 0)
    (tmp_path / "data/shards").mkdir()
    write_shards(read_manifest(), ShardParams(), Path("data/shards"), 1)
    shards = Shards.open()
    keys = shards.keys[shards.rows("train")]
    write_label_set("none", keys, np.full(len(keys), -1))
    return int(request.param)


def test_five_bands_pass_through_the_graph(multispectral: int, capsys: pytest.CaptureFixture[str]) -> None:
    require_bands(read_manifest(), BANDS)
    shards = Shards.open()
    rows = read_manifest().to_pylist()
    place = shards.keys.tolist().index(rows[0]["key"])
    seed = int(Path(rows[0]["path"]).stem)
    found = open_decoded(shards, shards.rows(), BANDS).image(place)
    assert np.array_equal(found, np.floor(picture(seed, multispectral) * 255.0 / WHITE + 0.5))

    row = RunRow(name="simclr", method="simclr", labels="none")
    train = TINY.model_copy(update={"epochs": 1, "views": VIEWS, "warmup_epochs": 0})
    method = load_class("methods", "simclr", Method, "")
    pretrain(row, 0, IMAGE, train, method.Params(), Path("data/runs/simclr/0"), restart=False)
    config = read_config("data/runs/simclr/0")
    assert (config["channels"], len(config["mean"]), config["views"]["grey"]) == (BANDS, BANDS, 0.0)
    assert read_weights("data/runs/simclr/0")[0]["conv1.weight"].shape[1] == BANDS
    assert "change in brightness and contrast" in capsys.readouterr().out

    embed("simclr", 0, EmbedParams(batch_size=16, augmented=4), Path("data/embed/simclr/0"))
    assert read_embeddings("data/embed/simclr/0/embeddings.parquet")[2].shape == (40, 64)
    original, grey, colour = (
        read_embeddings(f"data/embed/simclr/0/{augmented.FILE}", tap)[2] for tap in ("original", "grey", "colour")
    )
    assert np.array_equal(grey, original)  # other bands than RGB have no grey
    assert not np.array_equal(colour, original)


def test_features_of_five_bands(multispectral: int) -> None:
    kind = load_class("extractors", "pixels", Extractor, "")
    extract(kind, kind.Params(), "pixels", 0, IMAGE, Path("data/features/pixels/0"), restart=False)
    assert np.isfinite(read_embeddings("data/features/pixels/0/embeddings.parquet")[2]).all()


def test_other_bands_than_networks_see_are_refused(multispectral: int) -> None:
    with pytest.raises(ValidationFailed, match=r"40 images of 5 bands.*Set image\.channels to 5.*source\.bands"):
        require_bands(read_manifest(), 3)
    shards = Shards.open()
    with pytest.raises(ImageRefused, match=r"5 bands, image\.channels 3"):
        open_decoded(shards, shards.rows(), 3)


def test_grey_views_of_other_bands_are_refused_where_a_person_asks_for_them(multispectral: int) -> None:
    suggested = Path("data/ingest/views.json")
    numbers = ((0.5,) * BANDS, (0.2,) * BANDS)
    with pytest.raises(TrainingError, match=r"train\.views\.grey.*image\.channels 5"):
        resolve_views(ViewParams(grey=0.2), suggested, IMAGE, *numbers)
    found = [resolve_views(ViewParams(), suggested, ImageParams(size=16, channels=n), *numbers) for n in (BANDS, 3)]
    chances = [[change.params.probability for change in s.changes if change.params.name == "grey"] for s in found]
    assert chances == [[], [0.2]]


def test_both_paths_change_brightness_and_contrast_alike() -> None:
    """The same image through both: means and deviations are distributed alike, and as many images stay as they are."""
    count, image = 2000, np.random.default_rng(0).integers(40, 200, (8, 8, BANDS), dtype=np.uint8)
    change, frame = build_change(ColourParams(name="colour", strength=0.5)), Frame(count, 8, 8, 8, BANDS)
    transform = change.transform(frame)
    transform.set_random_seed(0)
    one = np.stack([transform(image=image)["image"] for _ in range(count)]) / 255.0
    batch = torch.from_numpy(np.repeat(image[None], count, axis=0)).permute(0, 3, 1, 2).float() / 255.0
    rng = torch.Generator().manual_seed(0)
    other = change.apply(batch, change.prepared(change.draw(frame, rng))).permute(0, 2, 3, 1).numpy()
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    for figure in (np.mean, np.std):
        quantiles = [np.quantile(figure(views, axis=(1, 2, 3)), levels) for views in (one, other)]
        assert np.abs(quantiles[0] - quantiles[1]).max() < 0.02
    same = [(np.abs(views - image / 255.0).max(axis=(1, 2, 3)) < 1e-3).mean() for views in (one, other)]
    assert np.abs(np.array(same) - 0.2).max() < 0.04


def test_pictures_for_people_show_the_first_three_bands() -> None:
    values = picture(1, 8).astype(np.uint8)
    assert np.array_equal(thumbnail(write_tiff(values), "x", 8), values[:, :, :3])
    two = thumbnail(write_tiff(values[:, :, :2]), "x", 8)
    assert np.array_equal(two, np.repeat(values[:, :, :1], 3, axis=2))
    assert contact_sheet([[(write_tiff(values), "x")]], 1, 8, 0).startswith(b"\x89PNG")


def test_numbers_for_rgb_are_brought_to_other_bands() -> None:
    assert for_bands([0.1, 0.2, 0.6], 1) == [pytest.approx(0.3)]
    assert for_bands([0.1, 0.2, 0.6], 3) == [0.1, 0.2, 0.6]
    assert for_bands([0.1, 0.2, 0.6], 5) == [0.1, 0.2, 0.6, 0.1, 0.2]
