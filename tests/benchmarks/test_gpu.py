"""benchmarks/training/gpu.py runs whole on a CPU: shards, limit, loop, resume."""

from __future__ import annotations

import json

import pytest

from benchmarks.training.gpu import main


@pytest.mark.slow
def test_the_toy_measures_both_sides_and_resumes_exactly(tmp_path):
    out = tmp_path / "found.json"
    found = main(["--toy", "--part", "cifar,photos,resume", "--json", str(out)])
    assert json.loads(out.read_text()) == json.loads(json.dumps(found))
    loop = found["cifar"]["loop"]["compile off"]
    assert found["cifar"]["limit"].keys() == {"plain"}
    assert loop["images a second"] > 0
    assert loop["notes"] == []
    assert found["cifar"]["started as a copy"]["seconds to the first step"] > 0
    assert found["resume"]["deterministic"]["equal"] is True
    assert found["resume"]["deterministic"]["files"][0].keys() >= {"backbone.safetensors", "history.csv"}
    photos = found["photos"][0]
    assert photos["loop"].keys() == {"decoded on the way", "from the cache"}
    assert all(loop["images a second"] > 0 for loop in photos["loop"].values())
