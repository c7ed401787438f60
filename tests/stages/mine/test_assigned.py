"""Clusters that a training learns: saved beside the backbone, embedded, mined by `assigned`, and trained on."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reprise import load_backbone
from reprise.artifacts.embeddings import read_embeddings, taps_in
from reprise.artifacts.labels.label_sets import read_pseudo_labels
from reprise.artifacts.weights.backbones import open_weights, read_config
from reprise.config.errors import BackboneError, EmbeddingError, MiningError
from reprise.config.params import ImageParams, read_yaml
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import MineRow, RunRow
from reprise.networks.assemble import assemble
from reprise.networks.heads import Assigner
from reprise.training.params import TrainParams
from stages.check.parameters import problems
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.mine.given import write_given
from stages.mine.label_sets.label_set import mine
from stages.mine.miner import Mined, Miner
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from stages.probe.data import ProbeData
from tests.workspace import make_shards

# A method of the user's: a vote of two views, nothing that anyone should train.
VOTES = """
from reprise.networks.heads import Assigner
from stages.pretrain.method import Method, embed_views


class Votes(Method):
    taps = ("assigner",)

    def __init__(self, backbone, params, context):
        super().__init__(backbone, params, context)
        self.assigner = Assigner([backbone.num_features, 6], scale=4.0)

    def step(self, batch):
        features = embed_views(self.backbone, batch.views)
        first, second = self.assigner.memberships(features).chunk(2)
        return -(first * second).sum(dim=1).log().mean(), {"features": features[: batch.images]}

    def heads(self):
        return {"assigner": self.assigner}
"""
TINY = TrainParams(
    backbone="resnet_tiny",
    epochs=1,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.2,
    weight_decay=1e-4,
    warmup_epochs=0,
    device="cpu",
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """160 digits, and the method `votes` among the user's plug-ins."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    file = tmp_path / "plugins/methods/votes.py"
    file.parent.mkdir(parents=True)
    file.write_text(VOTES, encoding="utf-8")
    write_given([0])
    return tmp_path


def trained(name: str, method: str, labels: str = "none") -> Path:
    kind, out = load_class("methods", method, Method, "runs"), Path("data/runs") / name / "0"
    row = RunRow(name=name, method=method, labels=labels)
    pretrain(row, 0, ImageParams(size=16, channels=3), TINY, kind.Params(), out, restart=False)
    return out


def mined(name: str, on: str, **options: Any) -> dict[str, Any]:
    kind, out = load_class("miners", "assigned", Miner, "mines"), Path("data/mine") / name / "0"
    mine(MineRow(name=name, miner="assigned", on=on), kind, kind.Params(**options), 0, out)
    return json.loads((out / "quality.json").read_text(encoding="utf-8"))


def test_a_run_trains_on_the_clusters_that_another_has_learned(workspace: Path) -> None:
    folder = trained("voted", "votes")
    assert read_config(folder)["heads"] == {"assigner": [64, 6]}
    embed("voted", 0, EmbedParams(augmented=0), Path("data/embed/voted/0"))
    path = Path("data/embed/voted/0/embeddings.parquet")
    assert taps_in(path) == ["backbone", "assigner"]
    keys, _, memberships = read_embeddings(path, "assigner", "train")
    _, _, features = read_embeddings(path, "backbone", "train")
    assert memberships.shape == (80, 6)
    np.testing.assert_allclose(memberships.sum(axis=1), 1, atol=1e-6)
    network = assemble(read_config(folder), *open_weights(folder), where="x")
    assert network.assigner is not None
    assert bool(network.assigner.unit)  # it came with the weights
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    logits = unit @ network.assigner.output.weight.numpy().T + network.assigner.output.bias.numpy()
    want = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(memberships, want, atol=1e-5)

    figures = mined("by_votes", "embed/voted")
    table = read_pseudo_labels("data/mine/by_votes/0/pseudo_labels.parquet").sort_by("key")
    assert table["key"].to_pylist() == keys.tolist()
    confidence = table["confidence"].to_numpy()
    np.testing.assert_array_equal(confidence, memberships.max(axis=1))
    np.testing.assert_allclose(table["distance"].to_numpy(), 1 - confidence, atol=1e-7)
    clusters = table["cluster"].to_numpy()
    same = clusters[:, None] == clusters
    assert (same == (memberships.argmax(axis=1)[:, None] == memberships.argmax(axis=1))).all()
    assert figures["offered"] == 6
    assert figures["clusters"] + figures["empty"] == 6
    assert figures["churn"] is None  # `none` has no labels to compare with
    config = read_config(trained("guided", "gsimclr", "by_votes"))
    assert config["labels"] == "by_votes"
    assert config["sampling"]["clusters"] == figures["clusters"]


def test_the_backbone_is_loaded_and_probed_without_the_memberships(workspace: Path) -> None:
    folder = trained("voted", "votes")
    embed("voted", 0, EmbedParams(augmented=4), Path("data/embed/voted/0"))
    path = Path("data/embed/voted/0/embeddings.parquet")
    assert load_backbone(folder)(torch.zeros(2, 3, 16, 16)).shape == (2, 64)
    assert ProbeData(path).taps == ("backbone",)


@pytest.mark.parametrize("bag", [None, 2])
def test_memberships_sum_to_one_in_bf16_and_over_bags_of_patches(workspace: Path, bag: int | None) -> None:
    trained("voted", "votes")
    embed("voted", 0, EmbedParams(augmented=0, bag=bag, precision="bf16"), Path("out"))
    memberships = read_embeddings("out/embeddings.parquet", "assigner")[2]
    np.testing.assert_allclose(memberships.sum(axis=1), 1, atol=1e-6)
    kind = load_class("miners", "assigned", Miner, "")
    assert len(kind(kind.Params(), 0).mine(memberships, None, Path()).clusters) == 160


def test_weights_of_another_assigner_are_refused(workspace: Path) -> None:
    folder = trained("voted", "votes")
    for widths, what in (([64, 5], "assigner.output.bias"), ([32, 6], "assigner.output.weight")):
        with pytest.raises(BackboneError, match=what):
            assemble({**read_config(folder), "heads": {"assigner": widths}}, *open_weights(folder), where="x")
    with pytest.raises(BackboneError, match=r"assigner\.output\.bias is unknown"):
        assemble({**read_config(folder), "heads": {}}, *open_weights(folder), where="x")


def test_a_run_without_memberships_is_refused_by_the_miner_too(workspace: Path) -> None:
    trained("plain", "simclr")
    embed("plain", 0, EmbedParams(augmented=0), Path("data/embed/plain/0"))
    with pytest.raises(EmbeddingError, match="no tap 'assigner'"):
        mined("of_nothing", "embed/plain")


def assigned() -> Miner:
    kind = load_class("miners", "assigned", Miner, "")
    return kind(kind.Params(), 0)


def test_empty_and_tiny_clusters_are_counted(tmp_path: Path) -> None:
    """60 images and 4 clusters: one has none, one a single image, whose share is below a tenth of 15."""
    memberships = np.full((60, 4), 0.02, np.float32)
    memberships[np.arange(60), [0] * 39 + [1] * 20 + [3]] = 0.94
    miner = assigned()
    found = miner.mine(memberships, None, tmp_path)
    assert found.clusters.tolist() == [0] * 39 + [1] * 20 + [2]
    assert found.confidence is not None
    figures = miner.figures(memberships, found)
    mean = memberships.mean(axis=0, dtype=np.float64)
    entropy = -sum(float(p) * float(np.log(p)) for p in mean / mean.sum())
    assert figures == {"offered": 4, "empty": 1, "tiny": 1, "effective": pytest.approx(np.exp(entropy))}
    everything = np.tile(np.array([1, 0, 0], np.float32), (9, 1))
    collapsed = miner.mine(everything, None, tmp_path)
    assert miner.figures(everything, collapsed) == {"offered": 3, "empty": 2, "tiny": 0, "effective": 1.0}


def test_the_first_of_equal_memberships_is_taken_and_order_does_not_matter(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    memberships = rng.dirichlet(np.ones(5), 40).astype(np.float32)
    memberships[7] = 0.2
    order = rng.permutation(40)
    whole, moved = (assigned().mine(rows, None, tmp_path) for rows in (memberships, memberships[order]))
    assert memberships[7].argmax() == 0

    def together(found: Mined) -> np.ndarray:
        return found.clusters[:, None] == found.clusters

    assert (together(whole)[np.ix_(order, order)] == together(moved)).all()


@pytest.mark.parametrize("rows", [[[0.5, 0.6]], [[1.2, -0.2]]])
def test_rows_that_are_no_memberships_are_refused(rows: list[list[float]], tmp_path: Path) -> None:
    with pytest.raises(MiningError, match="at least 0 and sum to 1"):
        assigned().mine(np.array(rows, np.float32), None, tmp_path)


def test_an_uncertain_image_loses_its_label_and_is_still_counted(workspace: Path) -> None:
    trained("voted", "votes")
    embed("voted", 0, EmbedParams(augmented=0), Path("data/embed/voted/0"))
    confidence = read_embeddings("data/embed/voted/0/embeddings.parquet", "assigner", "train")[2].max(axis=1)
    least = float(np.median(confidence))
    figures = mined("sure", "embed/voted", min_confidence=least)
    assert figures["labelled"] == int((confidence >= np.float32(least)).sum()) < 80
    assert figures["offered"] == 6


def test_assigners_are_built_of_the_layers_that_their_widths_say() -> None:
    torch.manual_seed(0)
    head = Assigner([5, 7, 3]).eval()
    assert "unit" in dict(head.named_buffers())
    h = torch.randn(4, 5)
    hidden = torch.relu(head.hidden[0][1](head.hidden[0][0](h)))
    torch.testing.assert_close(head.memberships(h), torch.softmax(head.output(hidden), dim=1))
    directions = Assigner([5, 7, 3], scale=10.0).eval()
    assert set(head.state_dict()) == set(directions.state_dict())
    rows = directions.output.weight
    torch.testing.assert_close(rows.norm(dim=1), torch.full((3,), 10.0))
    both = directions.hidden[0][1](directions.hidden[0][0](h))  # no ReLU: negative numbers count
    cosines = torch.nn.functional.cosine_similarity(both[:, None], rows[None], dim=2)
    torch.testing.assert_close(directions(h), 10 * cosines)
    loaded = Assigner([5, 7, 3])
    loaded.load_state_dict(directions.state_dict())
    torch.testing.assert_close(loaded.eval()(h), directions(h))
    alone = Assigner([5, 3], scale=2.0)
    torch.testing.assert_close(alone(h), alone(7.0 * h))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head.memberships(h).dtype == torch.float32


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return copy.deepcopy(read_yaml(repository / "params.yaml"))


def test_check_refuses_runs_that_learn_no_clusters_and_names_methods_that_do(
    raw: dict[str, Any], workspace: Path
) -> None:
    raw["mines"] += [
        {"name": "by_run", "miner": "assigned", "on": "embed/simclr"},
        {"name": "by_dae", "miner": "assigned", "on": "features/dae"},
        {"name": "by_votes", "miner": "assigned", "on": "embed/voted"},
    ]
    raw["mining"] |= {"by_run": {}, "by_dae": {}, "by_votes": {}}
    raw["runs"] += [
        {"name": "voted", "method": "votes", "labels": "none"},
        {"name": "guided", "method": "gsimclr", "labels": "by_votes"},
    ]
    raw["methods"] |= {"voted": {}, "guided": {}}
    by_run, by_dae = (str(problem) for problem in problems(raw))
    assert by_run.startswith(
        "mines[1].on: the miner 'assigned' reads what a run has learned about clusters, and the method 'simclr' learns "
        "nothing of it. Found: 'embed/simclr'. Write embed/<run> of a run with one of these methods: "
    )
    assert "votes" in by_run
    assert "features hold nothing of it. Found: 'features/dae'." in by_dae
