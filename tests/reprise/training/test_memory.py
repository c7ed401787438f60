"""The estimate of a training's memory: the formula, and one measured run."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reprise.training.memory import BACKWARD, PROCESS, held_by_each, training_memory

MEASURED = """
import numpy as np, torch
from reprise.networks.backbone import build_backbone

torch.set_num_threads(1)
network = build_backbone("resnet20", 3, 32, "auto")
optimizer = torch.optim.AdamW(network.parameters())
for _ in range(2):
    network(torch.rand(512, 3, 32, 32)).square().mean().backward()
    optimizer.step()
"""


def test_the_formula() -> None:
    found = training_memory(weights=100, trained=60, kept=1000, views=2.5, batch=8, optimizer="adamw", pixels=7000)
    assert found.least == 4 * (100 + 60 + 2 * 60)
    assert found.peak == round(PROCESS + 7000 + found.least + 4 * BACKWARD * 1000 * 2.5 * 8)
    assert training_memory(100, 60, 0, 0, 0, "sgd", 0).least == 4 * (100 + 60 + 60)


def test_processes_share_gradients_and_moments_of_weights_in_parts() -> None:
    backbone, head, frozen = torch.nn.Linear(9, 10), torch.nn.Linear(10, 3), torch.nn.Linear(10, 10)
    model = torch.nn.ModuleList([backbone, head, frozen.requires_grad_(False)])
    assert held_by_each(model) == 9 * 10 + 10 + 10 * 3 + 3
    assert held_by_each(model, [backbone, frozen], processes=4) == 23 + 3 + 10 * 3 + 3


@pytest.mark.slow
def test_a_measured_run_lies_within_a_third(repository: Path) -> None:
    from reprise.networks.backbone import build_backbone
    from reprise.networks.memory.footprint import footprint

    subprocess.run([sys.executable, "-c", MEASURED], cwd=repository, check=True)
    measured = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    with torch.device("meta"):
        found = footprint(build_backbone("resnet20", 3, 32, "auto"), 3, 32)
    estimated = training_memory(found.weights, found.weights, found.kept, 1, 512, "adamw", 0).peak
    assert measured > 2 * PROCESS  # layers count for more than the process
    assert 3 / 4 < estimated / measured < 4 / 3
