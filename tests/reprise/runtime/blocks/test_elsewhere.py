"""The commands of docs/scaling.md, section "Blocks on Dask": a scheduler and a worker that others have started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reprise.config.errors import MachineError
from reprise.runtime.blocks import use
from reprise.runtime.blocks.cluster import open_cluster
from tests.reprise.runtime.blocks import work

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command of Dask in a folder."""
    environment = {k: v for k, v in os.environ.items() if k != use.VARIABLE} | {"PYTHONPATH": str(ROOT)}
    with (folder / "log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, stdout=log, stderr=log, text=True
        )


def ended(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for one in alive:
        one.kill()
    process.wait()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler on loopback."""
    assert "$ dask scheduler " in PAGE
    folder = tmp_path_factory.mktemp("scheduler")
    words = ["-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    process = started(folder, *words, "--dashboard-address", "127.0.0.1:0", "--scheduler-file", "found.json")
    end = time.monotonic() + 60
    while not (folder / "found.json").exists() and time.monotonic() < end:
        time.sleep(0.1)
    yield json.loads((folder / "found.json").read_text(encoding="utf-8"))["address"]
    ended(process)


@pytest.mark.slow
def test_workers_that_others_started_do_the_blocks_and_stay(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "$ python -m reprise.runtime.blocks.worker tcp://HOST:8786 --workers 8 --memory 4GiB " in PAGE
    monkeypatch.chdir(tmp_path)
    worker = started(tmp_path, "-m", "reprise.runtime.blocks.worker", scheduler, "--workers", "2", "--memory", "1GiB")
    try:
        for _ in range(2):  # the second stage finds what the first one left
            cluster = open_cluster(scheduler, None)
            end = time.monotonic() + 60
            while cluster.workers() < 2 and time.monotonic() < end:
                time.sleep(0.1)
            assert list(cluster.computed(work.square, range(20))) == [x * x for x in range(20)]
            assert {w["memory_limit"] for w in cluster.client.scheduler_info()["workers"].values()} == {1 << 30}
            cluster.close()
            assert list(Path(".reprise/blocks").iterdir()) == []
    finally:
        ended(worker)


@pytest.mark.slow
def test_a_worker_in_another_folder_is_refused(scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    worker = started(tmp_path / "other", "-m", "reprise.runtime.blocks.worker", scheduler)
    try:
        cluster = open_cluster(scheduler, None)
        with pytest.raises(MachineError, match="does not see the project's folder; it works in .*other"):
            list(cluster.computed(work.square, [1]))
        cluster.close()
    finally:
        ended(worker)


@pytest.mark.slow
def test_a_worker_of_several_threads_is_refused(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    worker = started(tmp_path, "-m", "dask", "worker", scheduler, "--nthreads", "3", "--no-dashboard")
    try:
        with pytest.raises(MachineError, match="several blocks in one process"):
            open_cluster(scheduler, None)
    finally:
        ended(worker)
