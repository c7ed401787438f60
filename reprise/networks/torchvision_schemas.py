"""Let timm import where torchvision's compiled operators cannot load.

PyPI's torchvision is built for CUDA; beside a CPU build of torch its operators do not load, and importing it
fails with "operator torchvision::nms does not exist", although timm uses none of them. Declaring the two
schemas that torchvision registers fake kernels for is enough. Where torchvision loads, nothing is done.
"""

from __future__ import annotations

import importlib.util
import sys

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_kept: list[torch.library.Library] = []  # schemas vanish with their library


def ensure_torchvision_imports() -> None:
    """Make `import torchvision`, and so timm, work; where it works already, do nothing."""
    if _kept or "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        _kept.append(library)
        for name, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, name):
                library.define(schema)
