"""benchmarks/gpu_cifar10.py runs whole on a CPU with torch, numpy, timm, scikit-learn, pydantic and ruamel.yaml."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BLOCKED = (
    "albumentations",
    "cv2",
    "dvc",
    "faiss",
    "great_expectations",
    "pandas",
    "prefect",
    "psutil",
    "pyarrow",
    "rich",
    "safetensors",
    "webdataset",
)
SCRIPT = f"""
import sys

import pytest
sys.modules.update(dict.fromkeys({BLOCKED}))
from benchmarks.gpu_cifar10 import main
from reprise.networks.backbone import build_backbone
main(["--toy", "--json", sys.argv[1]])
assert build_backbone("resnet18", 3, 32, "small").num_features == 512
"""


@pytest.mark.slow
def test_the_toy_recipe_learns_with_few_packages(repository, tmp_path):
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(out)], cwd=repository, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [row["epoch"] for row in found["curve"]] == [1, 2]
    assert found["curve"][1]["loss"] < found["curve"][0]["loss"]
    assert found["linear"] > 0.5  # ten classes
    assert found["knn"] > 0.4
    assert found["cuda_graph"] is False
