"""From clips in a folder to a backbone that was trained on pairs: ingest, shards, features, pairs, training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reprise.artifacts.labels.label_sets import read_pseudo_labels
from reprise.artifacts.labels.pairs import read_pairs, read_pairs_of, write_pairs
from reprise.artifacts.layout import INGEST, SHARDS
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import read_config, read_weights
from reprise.config.errors import PseudoLabelError, TrainingError
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.tables import MineRow, RunRow
from reprise.storage.work_folder import file_digest
from reprise.training.params import ViewParams
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.mine.extractor import Extractor
from stages.mine.features import extract
from stages.mine.label_sets.label_set import mine
from stages.mine.miner import Miner
from stages.pretrain.inputs import pairing
from stages.pretrain.run import epochs_of
from stages.pretrain.views import make
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from tests.stages.pretrain.conftest import IMAGE, PAIRS, TINY, write_label_set
from tests.stages.pretrain.test_run import run

ONE = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})


def write_clips(root: Path, clips: int = 16, frames: int = 4) -> None:
    """Two things a clip, each a pattern that moves by a pixel a frame: clip07/0002_1.png is the second one, later."""
    rng = np.random.default_rng(0)
    for clip in range(clips):
        folder = root / f"clip{clip:02d}"
        folder.mkdir(parents=True)
        for thing in range(2):
            pattern = np.kron(rng.integers(0, 256, (5, 6, 3)), np.ones((4, 4, 1)))
            for frame in range(frames):
                pixels = pattern[2:18, frame : frame + 16] * (1 - 0.05 * frame)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{frame:04d}_{thing}.png")


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder becomes a workspace with the shards and the features of clips that were ingested."""
    monkeypatch.chdir(tmp_path)
    write_clips(Path("clips"))
    INGEST.mkdir(parents=True)
    options = {"layout": "flat", "labels": "none", "group": "folder"}
    ingest(Folder(Path("clips"), Folder.Params(**options)), SourceParams(name="folder", min_side=4), INGEST, 0)
    SHARDS.mkdir(parents=True)
    write_shards(read_manifest(), ShardParams(max_shard_bytes=1 << 20, max_side=64), SHARDS, 1)
    pixels = load_class("extractors", "pixels", Extractor, "")
    extract(pixels, pixels.Params(), "pixels", 0, IMAGE, Path("data/features/pixels/0"), restart=False)
    return tmp_path


def mined(miner: str, **options: object) -> Path:
    kind = load_class("miners", miner, Miner, "")
    out = Path("data/mine") / miner / "0"
    mine(MineRow(name=miner, miner=miner, on="features/pixels"), kind, kind.Params(**options), 0, out)
    return out


def test_methods_train_on_the_pairs_of_clips(clips: Path) -> None:
    """Both miners of frames, both methods; what an epoch shows is what config.json and the note say."""
    things = {row["key"]: row["path"].split("/")[-2] + row["path"][-5] for row in read_manifest().to_pylist()}
    images = len(Shards.open().rows("train"))
    for miner, method in (("frame_matching", "pair_contrast"), ("transitive_pairs", "triplet")):
        pairs = read_pairs(mined(miner) / "pairs.parquet")
        if miner == "frame_matching":
            ends = zip(pairs["first"].to_pylist(), pairs["second"].to_pylist(), strict=True)
            assert all(things[a] == things[b] for a, b in ends)
        linked = len({*pairs["first"].to_pylist(), *pairs["second"].to_pylist()})
        config = read_config(run(method, f"data/runs/{method}/0", train=ONE, labels=miner))
        without = images - linked
        assert config["pairs"] == {"pairs": len(pairs), "anchors": linked, "without_partner": without}
        assert (without > 0) == (miner == "transitive_pairs")  # frames in the middle of a track take no part
        assert config["images_seen"] == config["crops_seen"] == 2 * linked
        assert f"an epoch shows {linked} images" in config["notes"][0]
        assert ("have no partner and are not trained on" in config["notes"][0]) == (without > 0)


@pytest.mark.parametrize("side", [make.BATCHED_SIDE, 0])
def test_the_images_of_a_batch_are_those_of_its_rows_on_both_paths(digits, monkeypatch, side):
    """Whole batches in torch, and image by image: row i shows image i, its partner's row shows the partner."""
    monkeypatch.setattr(make, "BATCHED_SIDE", side)
    batches = []

    def kept(*arguments):
        epochs = epochs_of(*arguments)
        batches.extend(epochs.epoch(1).batch(k) for k in range(epochs.batches))
        return epochs

    monkeypatch.setattr("stages.pretrain.run.epochs_of", kept)
    whole = ViewParams(crop_scale_min=1.0, crop_aspect=1.0, jitter=0.0)  # the image itself
    run("pair_contrast", "out", train=ONE.model_copy(update={"views": whole}))
    known = {(a, b): w for a, b, w in PAIRS}
    shown: dict[int, list] = {}
    for batch in batches:
        rows = batch.rows.tolist()
        for i, (image, weight) in enumerate(zip(batch.views[0], batch.weights.tolist(), strict=True)):
            pair = (rows[i], rows[int(batch.partner[i])])
            assert known.get(pair, known.get(pair[::-1])) == pytest.approx(weight)
            shown.setdefault(rows[i], []).append(image)
    assert sorted(shown) == list(range(34))
    first = torch.stack([shown[row][0] for row in range(34)]).flatten(1)
    assert torch.pdist(first).min() > 1.0
    for row, images in shown.items():
        assert all((image.flatten() - first[row]).norm() < 0.01 for image in images)


def test_the_pairs_belong_to_their_label_set(digits):
    """A file of pseudo-labels names its pairs, so DVC, which sees that file alone, sees them change."""
    labels = Path("data/mine/paired/0/pseudo_labels.parquet")
    before, table = file_digest(labels), read_pairs_of(labels)
    assert table.num_rows == 33
    assert read_pseudo_labels(labels).num_rows == 80
    keys = Shards.open().keys[Shards.open().rows("train")]
    write_label_set("paired", keys, np.full(80, -1), pairs=PAIRS[1:])
    assert file_digest(labels) != before
    write_pairs(labels.with_name("pairs.parquet"), table)
    with pytest.raises(PseudoLabelError, match="not those of the label set beside them"):
        run("triplet", "out", train=ONE)
    labels.with_name("pairs.parquet").unlink()
    with pytest.raises(PseudoLabelError, match=r"the file is missing.*pairs\.parquet.*dvc repro mine"):
        run("triplet", "out", train=ONE)


def test_what_holds_no_pairs_is_refused_with_a_sentence(digits):
    for labels, found in (("none", "'none', which is empty"), ("mined", "'mined', which holds clusters and no pairs")):
        with pytest.raises(TrainingError, match=f"'triplet' needs a label set of pairs.*{found}.*frame_matching"):
            run("triplet", "out", train=ONE, labels=labels)
    keys = Shards.open().keys[Shards.open().rows("train")]
    write_label_set("weightless", keys, np.full(80, -1), pairs=[(0, 1, 0.0)])
    with pytest.raises(TrainingError, match="has 1 pairs, none of them with a weight between"):
        run("triplet", "out", train=ONE, labels="weightless")
    with pytest.raises(TrainingError, match=r"so their size is even.*Found: 15.*to 14"):
        run("triplet", "out", train=ONE.model_copy(update={"batch_size": 15}))
    with pytest.raises(TrainingError, match=r"which micro-batches would part.*Found: 2\..*chunk_size"):
        run("triplet", "out", train=ONE.model_copy(update={"accumulate": 2}))
    with pytest.raises(TrainingError, match="fewer training images than a batch.*68 images, batch 80"):
        run("triplet", "out", train=ONE.model_copy(update={"batch_size": 80}))


def test_a_share_of_the_images_keeps_the_pairs_between_them(digits):
    """What is left out takes its pairs along; the others are renumbered."""
    labels, keys = Path("data/mine/paired/0/pseudo_labels.parquet"), Shards.open().keys[Shards.open().rows("train")]
    kept = np.array([2, 3, 4, 9, 30, 31, 33, 70])
    found = pairing.read_partners(labels, keys, kept, RunRow(name="run", method="triplet", labels="paired"))
    weights = {(2, 3): 3 / 30, (3, 4): 4 / 30, (30, 31): 0.5, (30, 33): 0.5}
    listed = zip(kept[found.first].tolist(), kept[found.second].tolist(), found.weights.tolist(), strict=True)
    assert {(a, b): w for a, b, w in listed if a < b} == pytest.approx(weights)
    assert (found.images, kept[found.anchors].tolist()) == (8, [2, 3, 4, 30, 31, 33])


def test_the_rate_is_that_of_the_batch_that_is_really_trained_on(digits):
    """34 anchors in five batches: the largest holds seven and their partners."""
    config = read_config(run("triplet", "out", train=ONE))
    assert config["batch_size_used"] == 14
    assert config["learning_rate_scaled"] == pytest.approx(ONE.learning_rate * 14 / 256)


def test_weights_of_pairs_reach_the_method_that_reads_them(digits):
    """Other weights of the same pairs give another network."""
    keys = Shards.open().keys[Shards.open().rows("train")]
    write_label_set("even", keys, np.full(80, -1), pairs=[(a, b, 0.5) for a, b, _ in PAIRS])
    weighed, even = (read_weights(run("pair_contrast", labels, ONE, labels=labels))[0] for labels in ("paired", "even"))
    assert any((weighed[name] != even[name]).any() for name in weighed)


def test_a_users_method_gets_pairs_when_it_asks_for_them_and_only_then(digits):
    """One file in `plugins/`; a wish for another order of the batches is an error, not a silent mixture."""
    Path("plugins/methods").mkdir(parents=True)
    step = "loss = (f - f[batch.partner]).square().mean()\n        return loss, {'features': f}\n"
    text = (
        "from stages.pretrain.method import Method\n\nclass Near(Method):\n    views, needs_pairs = 1, True\n\n"
        f"    def step(self, batch):\n        f = self.backbone(batch.views[0])\n        {step}"
    )
    Path("plugins/methods/near.py").write_text(text)
    assert read_config(run("near", "out", train=ONE, labels="paired"))["pairs"]["anchors"] == 34
    Path("plugins/methods/near_random.py").write_text(f"{text}\n    sampling = 'random'\n")
    with pytest.raises(ValueError, match="`partners` for methods that declare `needs_pairs`, and for no others"):
        run("near_random", "out", train=ONE, labels="paired")


def test_miners_of_pairs_say_so() -> None:
    assert [name for name in names("miners") if load_class("miners", name, Miner, "").makes_pairs] == [
        "frame_matching",
        "mutual_neighbours",
        "transitive_pairs",
        "views",
    ]
