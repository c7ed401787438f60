"""One small data set, taken in and packed once, with an untrained embedding and the predictions of a probe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE, write_embeddings
from reprise.artifacts.facts.sides import FILE as SIDES
from reprise.artifacts.facts.sides import read_sides
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.media.image.decode import decode
from stages.facts.__main__ import main as facts
from stages.ingest.__main__ import main as ingest
from stages.ingest.scan import main as scan
from stages.probe.data import ProbeData
from stages.probe.running.load import load_suite
from stages.probe.running.suite import run_suite, write_suite
from stages.shard.params import ShardParams
from stages.shard.write import write_shards

PARAMS = {
    "source": {"name": "shapes", "test_fraction": 0.4, "options": {"images": 40, "size": 24}},
    "facts": {"columns": {}},
}
RUN = layout.embedding("simclr", 0) / FILE
PREDICTIONS = layout.probes_on_features("simclr", 0) / "quality/predictions-knn.parquet"


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with all tables; `project` enters it."""
    folder = tmp_path_factory.mktemp("standards")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_STAGE", raising=False)
        Path("params.yaml").write_text(json.dumps(PARAMS))
        layout.READS.parent.mkdir(parents=True)
        layout.READS.write_text("{}")
        scan([])
        ingest([])
        layout.SHARDS.mkdir()
        sizes = ShardParams.model_construct(max_shard_bytes=30_000, max_side=64)  # several tars of few images
        write_shards(read_manifest(), sizes, layout.SHARDS, 1, None, read_sides(layout.INGEST / SIDES))
        facts([])
        shards = Shards.open()
        means = np.stack([decode(shards.read(i), "x", 3).mean(axis=(0, 1)) for i in range(len(shards.keys))])
        RUN.parent.mkdir(parents=True)
        write_embeddings(RUN, shards.keys, shards.splits, {"backbone": means, "projector1": means[:, :2]})
        probes = load_suite({"probes": {"quality": {"knn": {}}}}, "probes", "quality")
        write_suite(run_suite(probes, ProbeData(RUN), "probe"), PREDICTIONS.parent)
    return folder


@pytest.fixture
def project(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Enter the project, and let nobody reach the network."""
    monkeypatch.chdir(packed)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    return packed
