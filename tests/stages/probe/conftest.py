"""Synthetic embeddings and the manifest they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
import torch
from threadpoolctl import threadpool_limits

from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.manifest import write_manifest
from stages.probe.data import ProbeData

if TYPE_CHECKING:
    from pathlib import Path

Make = Callable[..., ProbeData]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small products on many threads spend their time waiting, more so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture
def like_a_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test call the `main` of a stage in this process: one thread, and no setting of torch stays behind."""
    monkeypatch.setenv("REPRISE_THREADS", "1")
    before = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(before)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """`make(train=..., val=..., test=...)`: classes as blobs; labels None leaves a row without label."""
    monkeypatch.chdir(tmp_path)

    def build(
        train: int = 200,
        val: int = 60,
        test: int = 80,
        classes: int = 3,
        d: int = 8,
        spread: float = 3.0,
        labels: Callable[[str, int], str | None] | None = None,
        groups: Callable[[int], str | None] | None = None,
        taps: dict[str, int] | None = None,
        seed: int = 0,
        change: Callable[[np.ndarray], None] = lambda x: None,
        **options: float,
    ) -> ProbeData:
        rng = np.random.default_rng(seed)
        splits = np.array(["train"] * train + ["val"] * val + ["test"] * test, dtype=object)
        n = len(splits)
        y = rng.integers(0, classes, n)
        keys = np.array([hashlib.sha256(f"{seed} {i}".encode()).hexdigest()[:24] for i in range(n)], dtype=object)
        x = rng.normal(size=(n, d)) + spread * np.eye(classes, d)[y]
        change(x)  # rows of train, then val, then test
        found = {"backbone": x.astype(np.float32)}
        found |= {name: rng.normal(size=(n, size)).astype(np.float32) for name, size in (taps or {}).items()}
        names = [f"class {c}" for c in y]
        if labels is not None:
            names = [labels(s, int(c)) for s, c in zip(splits, y, strict=True)]
        columns = {
            "key": keys.tolist(),
            "path": [f"{k}.png" for k in keys],
            "offset": [0] * n,
            "bytes": [10] * n,
            "split": splits.tolist(),
            "label": names,
            "width": [8] * n,
            "height": [8] * n,
            "channels": [3] * n,
            "format": ["PNG"] * n,
            "plain": [True] * n,
            "pixels": [k * 2 for k in keys],
            "sha256": [k * 2 for k in keys],
            "group": [groups(i) if groups else None for i in range(n)],
        }
        folder = tmp_path / "data"
        write_manifest(folder / "manifest.parquet", pa.table(columns))
        write_embeddings(folder / "embeddings.parquet", keys, splits, found)
        return ProbeData(folder / "embeddings.parquet", folder / "manifest.parquet", **options)

    return build
