"""What stages share, and what a user imports. Floors from low to high; never `stages`, `pipeline`, prefect or dvc.

import reprise

backbone = reprise.load_backbone("data/runs/simclr/0")
features = backbone(backbone.prepare(["cat.jpg", "dog.jpg"]))
"""

import importlib
from typing import Any


def load_backbone(folder: str, device: str = "cpu") -> Any:
    """Load the backbone in the folder of a run; see `reprise.backbones.loaded.load_backbone`.

    That module is imported by its name, so that whatever imports a part of Reprise does not depend on it.
    """
    return importlib.import_module("reprise.backbones.loaded").load_backbone(folder, device)
