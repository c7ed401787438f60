"""Embedding and features over blocks of images on Dask workers: the bytes of this process alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import write_backbone
from reprise.config.errors import ShardError
from reprise.config.params import ImageParams
from reprise.config.plug_ins.registry import load_class
from reprise.networks.backbone import build_backbone
from reprise.networks.state import arrays_of
from reprise.reading.by_path import SquaresByPath
from reprise.reading.decoded import open_decoded
from reprise.runtime.blocks import use
from reprise.runtime.blocks.cluster import Cluster
from reprise.storage.work_folder import file_digest
from stages.embed import embedding
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.mine import extractor as extractors
from stages.mine import features as describing
from stages.mine.extractor import Extractor
from tests.reprise.runtime.blocks.conftest import whole
from tests.workspace import make_shards


@pytest.fixture(scope="module")
def project(cluster: Cluster) -> Path:
    """Sixty digits as shards, and an untrained run, in the folder of the cluster."""
    make_shards(60)
    torch.manual_seed(0)
    backbone = build_backbone("resnet_tiny", 3, 16)
    config = {
        "architecture": "resnet_tiny", "options": {}, "stem": "auto", "input_size": 16, "channels": 3,
        "mean": [0.3] * 3, "std": [0.4] * 3, "num_features": 64, "heads": {},
    }  # fmt: skip
    folder = Path("data/runs/simclr/0")
    folder.mkdir(parents=True)
    write_backbone(folder, arrays_of(backbone.state_dict()), {}, config)
    return Path.cwd()


@pytest.fixture(autouse=True)
def _many_blocks(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (embedding, extractors):
        monkeypatch.setattr(module, "BLOCK_BATCHES", 1)
        monkeypatch.setattr(module, "WORTH_CLUSTER", 2)
    whole(cluster)
    cluster.most_in_flight = 0


@pytest.fixture
def killed_worker(cluster: Cluster) -> Iterator[threading.Thread]:
    """Kill a worker as soon as it has something to do."""
    victim = next(iter(cluster.client.run(os.getpid).values()))

    def kill() -> None:
        end = time.monotonic() + 60
        while cluster.most_in_flight < 2 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    yield thread
    if thread.ident is not None:
        thread.join()


def here(call: object, *arguments: object) -> None:
    """Call a function without the cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(use.VARIABLE)
        for module in (embedding, extractors):
            patch.setattr(module, "cluster", lambda: None)
        call(*arguments)


@pytest.mark.parametrize("chunk", [pytest.param(50_000, marks=pytest.mark.slow), 24])
def test_embedding_has_the_bytes_of_one_process(
    project: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    params = EmbedParams(batch_size=7, augmented=4)
    here(embed, "simclr", 0, params, Path(f"here-{chunk}"))
    monkeypatch.setattr(embedding, "CHUNK", chunk)
    embed("simclr", 0, params, Path(f"dask-{chunk}"))
    assert cluster.most_in_flight > 2
    assert file_digest(f"dask-{chunk}") == file_digest(f"here-{chunk}")


def test_embedding_goes_on_without_a_worker_that_is_killed(
    project: Path, cluster: Cluster, killed_worker: threading.Thread
) -> None:
    params = EmbedParams(batch_size=2, augmented=0)
    here(embed, "simclr", 0, params, Path("here-killed"))
    killed_worker.start()
    embed("simclr", 0, params, Path("dask-killed"))
    assert file_digest("dask-killed") == file_digest("here-killed")


@pytest.mark.parametrize(
    ("name", "options", "kill"),
    [
        pytest.param(
            "backbone", {"architecture": "resnet_tiny", "batch_size": 8, "size": 16}, False, marks=pytest.mark.slow
        ),
        ("backbone", {"weights": "data/runs/simclr/0", "batch_size": 4}, True),
        pytest.param(
            "patches",
            {"patches": 8, "patch_size": 4, "samples": 500, "components": 6, "side": 8},
            False,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_features_have_the_bytes_of_one_process(
    project: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    killed_worker: threading.Thread,
    name: str,
    options: dict[str, object],
    kill: bool,
) -> None:
    kind = load_class("extractors", name, Extractor, "")
    if name == "patches":
        monkeypatch.setattr("stages.mine.extractors.patches.CHUNK", 1)
    params, image = kind.Params(**options), ImageParams(size=12 if name == "patches" else 16, channels=3)
    folders = [project / f"data/features/{place}-{name}{kill}/0" for place in ("here", "dask")]
    arguments = (kind, params, name, 0, image)
    monkeypatch.setattr(describing, "STORE", project / f"store-{name}{kill}")
    here(describing.extract, *arguments, folders[0], True)
    if kill:
        killed_worker.start()
    describing.extract(*arguments, folders[1], True)
    assert cluster.most_in_flight > 2
    assert file_digest(folders[0]) == file_digest(folders[1])


def test_images_by_path_are_those_of_the_cache(project: Path) -> None:
    shards = Shards.open()
    for split in (None, "train"):
        squares = SquaresByPath(split, 3, 20, shards.fingerprint).open()
        kept = open_decoded(shards, shards.rows() if split is None else shards.rows(split), 3).squares(20)
        assert np.array_equal(np.asarray(squares), np.asarray(kept))


def test_other_shards_are_refused(project: Path) -> None:
    with pytest.raises(ShardError, match="a Dask worker reads other shards than the stage"):
        SquaresByPath(None, 3, 16, "0" * 64).open()
