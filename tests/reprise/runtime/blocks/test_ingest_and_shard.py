"""Ingest and shard on Dask workers: the bytes of this process alone, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import MachineError
from reprise.runtime.blocks.cluster import Cluster
from reprise.storage.work_folder import file_digest
from stages.ingest.candidates import examine as examining
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.shard import write
from stages.shard.params import ShardParams
from tests.reprise.runtime.blocks.conftest import whole
from tests.stages.ingest import hostile


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds of files that a folder may hold, and a few dozen plain ones."""
    root = tmp_path_factory.mktemp("images")
    for name, (data, _) in hostile.FILES.items():
        path = root / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for number in range(60):
        (root / "a" / f"plain {number:03d}.png").write_bytes(hostile.encoded(hostile.photo(500 + number), "PNG"))
    return root


def ingested(images: Path, output: Path, workers: int) -> str:
    """Take the images in, and return the digest of what was written."""
    output.mkdir()
    ingest(Folder(images, Folder.Params()), SourceParams(name="folder"), output, workers, Path("data/ingest"))
    return file_digest(output)


def killing_soon(cluster: Cluster, when: Callable[[], bool]) -> threading.Thread:
    """Kill one of the workers as soon as something holds."""
    victim = next(iter(cluster.client.run(os.getpid).values()))

    def kill() -> None:
        end = time.monotonic() + 30
        while not when() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_ingest_has_the_bytes_of_one_process(
    images: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ingested(images, tmp_path / "here", 0)
    monkeypatch.setattr(examining, "_CHUNK", 4)
    assert ingested(images, tmp_path / "dask", 1) == expected
    assert cluster.most_in_flight > 1  # it was the cluster that did it


def test_ingest_goes_on_without_a_worker_that_is_killed(
    images: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(cluster)
    expected = ingested(images, tmp_path / "here", 0)
    monkeypatch.setattr(examining, "_CHUNK", 2)
    cluster.most_in_flight = 0
    killer = killing_soon(cluster, lambda: cluster.most_in_flight > 2)
    assert ingested(images, tmp_path / "dask", 1) == expected
    killer.join()


def test_images_that_only_this_machine_reads_stop_ingest(
    images: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every image would go to quarantine, because a worker's machine has not mounted the folder."""
    monkeypatch.setattr(examining, "_CHUNK", 4)
    unread = examining.Finding(None, 0, (), "unreadable", "No such file or directory.")
    monkeypatch.setattr(examining, "run_apart", lambda pool, chunks, *_: ([unread] * len(chunk) for chunk in chunks))
    with pytest.raises(MachineError, match="a Dask worker cannot read an image that this machine reads"):
        ingested(images, tmp_path / "dask", 1)


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True])
def test_shards_have_the_bytes_of_one_process(
    images: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    output = tmp_path / "ingest"
    output.mkdir()
    ingest(Folder(images, Folder.Params()), SourceParams(name="folder"), output, 0)
    manifest = read_manifest(output / "manifest.parquet")
    params = ShardParams.model_construct(max_shard_bytes=1 << 15, max_side=64)  # smaller than is permitted
    digests = []
    for name in ("here", "dask"):
        monkeypatch.setattr(write, "_WORTH_PROCESSES", 1 << 60 if name == "here" else 0)
        work, shards = tmp_path / name / "work", tmp_path / name / "shards"
        work.mkdir(parents=True)
        shards.mkdir()
        killer = None
        if name == "dask" and kill:
            whole(cluster)
            killer = killing_soon(cluster, lambda work=work: any(work.iterdir()))
        assert write.write_shards(manifest, params, shards, 1, work) > 8
        if killer is not None:
            killer.join()
        digests.append(file_digest(shards))
    assert digests[0] == digests[1]
