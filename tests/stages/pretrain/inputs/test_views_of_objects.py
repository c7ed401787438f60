"""Views of objects from the source to the probe: mini3d, the miner `views`, the method `sie`, and `equivariance`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.embeddings import FILE as EMBEDDINGS
from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.facts.table import write_facts
from reprise.artifacts.labels.pairs import FILE as PAIRS
from reprise.artifacts.labels.pairs import read_pairs
from reprise.artifacts.layout import ALL_FACTS, label_set, mined_from, run_facts
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.weights.backbones import read_config
from reprise.config.tables import MineRow, RunRow
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.facts.gather import facts_of_run, gather
from stages.facts.params import FactsParams
from stages.ingest.__main__ import main as ingest
from stages.ingest.scan import scan
from stages.mine.label_sets.label_set import mine
from stages.mine.miners.views import Views
from stages.pretrain.methods.equivariance.sie import SIE
from stages.pretrain.run import pretrain
from stages.probe.data import ProbeData
from stages.probe.probes.factors.equivariance import Equivariance
from stages.shard.__main__ import main as shard
from tests.stages.pretrain.conftest import IMAGE, TINY


def test_views_of_objects_become_pairs_of_a_run_that_keeps_their_pose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"objects": 30, "views": 4, "size": 16}
    Path("params.yaml").write_text(json.dumps({"source": {"name": "mini3d", "options": options}, "shard": {}}))
    scan()
    ingest([])
    shard([])
    manifest = read_manifest()
    keys, splits = (np.array(manifest[name].to_pylist(), dtype=object) for name in ("key", "split"))
    features = np.random.default_rng(0).normal(size=(len(keys), 3)).astype(np.float32)
    write_embeddings(mined_from("features/any", 0) / EMBEDDINGS, keys, splits, {"backbone": features})
    row = MineRow.model_validate({"name": "other", "miner": "views", "on": "features/any"})
    mine(row, Views, Views.Params(), 0, label_set("other", 0))
    group = dict(zip(keys.tolist(), manifest["group"].to_pylist(), strict=True))
    pairs = read_pairs(label_set("other", 0) / PAIRS).to_pylist()
    train = int((splits == "train").sum())
    assert len(pairs) == train // 4 * 6  # all pairs of four views
    assert all(group[pair["first"]] == group[pair["second"]] and pair["first"] != pair["second"] for pair in pairs)
    quality = json.loads((label_set("other", 0) / "quality.json").read_text())
    assert (quality["objects"], quality["same_object"], quality["without_partner"]) == (train // 4, 1.0, 0)
    facts, _ = gather(FactsParams())
    for folder, chosen in ((ALL_FACTS, facts), (run_facts("sie"), facts_of_run(facts, SIE.reads))):
        folder.mkdir(parents=True)
        write_facts(folder, chosen)
    run, budget = RunRow(name="sie", method="sie", labels="other"), TINY.model_copy(update={"epochs": 1})
    pretrain(run, 0, IMAGE, budget, SIE.Params(hidden=16, output=8), Path("data/runs/sie/0"), restart=False)
    assert read_config(Path("data/runs/sie/0"))["reads"] == ["pose"]
    embed("sie", 0, EmbedParams(augmented=0), Path("data/embed/sie/0"))
    result = Equivariance(Equivariance.Params()).run(ProbeData(Path("data/embed/sie/0") / EMBEDDINGS))
    assert {"r2", "mrr", "mrr_identity", "r2_tail", "r2_head"} <= set(result.metrics)
