"""Seeds are functions of their path; progress speaks at intervals."""

from __future__ import annotations

import os
import re

import numpy as np
import torch

from reprise.runtime.entry import arguments_of
from reprise.runtime.seeds import mix, numpy_rng, seed_torch, torch_rng
from reprise.storage import progress as progress_module
from reprise.storage.progress import Progress, track


def test_a_seed_is_a_function_of_its_whole_path():
    paths = [(a, n, b) for a in range(10) for n in ("views", "batches") for b in range(50)]
    seeds = {mix(*p) for p in paths}
    assert len(seeds) == len(paths)
    assert mix(0, "views", 1) == mix(0, "views", 1)
    assert mix(1, 23) != mix(12, 3)
    assert 0 <= min(seeds) <= max(seeds) < 2**63
    assert (numpy_rng(1, "a").integers(0, 99, 9) == numpy_rng(1, "a").integers(0, 99, 9)).all()
    assert torch.equal(torch.rand(5, generator=torch_rng(1, "a")), torch.rand(5, generator=torch_rng(1, "a")))
    seed_torch(3, "x")
    first = torch.rand(3)
    seed_torch(3, "x")
    assert torch.equal(first, torch.rand(3))


def test_streams_of_neighbouring_seeds_are_not_alike():
    draws = np.stack([numpy_rng(seed, "noise").normal(size=2000) for seed in range(6)])
    correlation = np.corrcoef(draws) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_lines_appear_at_intervals_and_count_from_where_a_resumed_run_began(capsys, monkeypatch):
    clock = iter(np.arange(0, 1000, 9.0))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: float(next(clock)))
    with Progress("pretrain x", 100, done=40) as progress:
        for _ in range(6):
            progress.advance(10, loss=0.5)
            if progress.done == 50:  # 9 seconds have passed, more than the two before the first line
                first = capsys.readouterr().err
                assert "50 of 100" in first
    lines = [*first.splitlines(), *capsys.readouterr().err.splitlines()]
    assert 1 < len(lines) < 5
    assert all(line.startswith("pretrain x: ") and "of 100" in line and "loss 0.5" in line for line in lines)
    assert lines[-1].endswith(" left")
    assert re.search(r"  0:0[0-9]:\d\d left$", lines[0])
    assert progress.done == 100


def test_quiet_says_nothing(capsys, monkeypatch):
    monkeypatch.setenv("REPRISE_QUIET", "1")
    clock = iter(np.arange(0, 1000, 60.0))
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: float(next(clock)))
    with Progress("pretrain x", 4) as progress:
        for _ in range(4):
            progress.advance(1)
    assert capsys.readouterr().err == ""


def test_a_stage_takes_quiet_from_its_command_line(monkeypatch):
    monkeypatch.setenv("REPRISE_QUIET", "0")
    arguments_of(["--run", "a", "--seed", "0"], "stages.x", "x", {"run": "runs"})
    assert os.environ["REPRISE_QUIET"] == "0"
    arguments_of(["--run", "a", "--seed", "0", "--quiet"], "stages.x", "x", {"run": "runs"})
    assert os.environ["REPRISE_QUIET"] == "1"


def test_track_yields_everything(capsys):
    assert list(track(range(5), "count")) == [0, 1, 2, 3, 4]
